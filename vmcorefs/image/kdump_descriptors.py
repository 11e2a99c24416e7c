"""Descriptors: a search in the page descriptors of one kdump-compressed file, of which there may be thousands of millions."""

from __future__ import annotations

import struct

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.kdump_header import DESCRIPTOR_SIZE
from vmcorefs.image.kdump_pages import Descriptor, PageTable
from vmcorefs.quantities import MIB

_CHUNK = 4096  # descriptors that are read at once
_LIMIT = 64 * MIB // (_CHUNK * DESCRIPTOR_SIZE)  # chunks of nothing but zero pages, some 11 GiB of memory, before a search gives up
_STRUCT = struct.Struct(">QIIQ")


class Descriptors:
    """Those of *table*; *zero_page*: the one that all zero pages have, where they have one."""

    def __init__(self, table: PageTable, zero_page: Descriptor | None):
        self._table = table
        self._zero = b"" if zero_page is None else zero_page.packed()
        self._zeros = self._zero * _CHUNK

    def has_zero_pages(self, end: int) -> bool:
        """Whether one of the first *end* is the zero page's; True as well where there are more than a search looks at.

        makedumpfile --reassemble writes the page in any case, also of dumps whose writer left zero pages out.
        """
        if not self._zero:
            return False
        for first in range(0, min(end, _LIMIT * _CHUNK), _CHUNK):
            try:
                data = self._table.descriptors(first, min(_CHUNK, end - first))
            except OldmemReadError:  # nothing is proven
                return True
            at = data.find(self._zero)
            while at >= 0:
                if at % DESCRIPTOR_SIZE == 0:
                    return True
                at = data.find(self._zero, at + 1)
        return end > _LIMIT * _CHUNK

    def written(self, end: int) -> int:
        """How many of the first *end* there are before the first that was not written; they are written in order."""
        low, high = 0, end
        while low < high:
            middle = (low + high) // 2
            found = self._table.descriptor(middle)
            low, high = (middle + 1, high) if found is not None and found.written else (low, middle)
        return low

    def last_of_its_own(self, end: int) -> tuple[int, Descriptor] | None:
        """(number, itself) of the last before *end* that is no zero page's. None: there is none, or it cannot be told."""
        for chunk in range(_LIMIT):
            high = end - chunk * _CHUNK
            if high <= 0:
                return None
            found = self._search(max(high - _CHUNK, 0), high, backwards=True)
            if found is not None:
                return found
        return None

    def first_beyond(self, size: int, last: int) -> int:
        """The first whose data end beyond *size*, if data lie in the order of the pages; those of *last* do."""
        low, high = 0, last
        while low < high:
            middle = (low + high) // 2
            found = self._next_of_its_own(middle, high)
            if found is None or found[1].end > size:
                high = middle
            else:
                low = found[0] + 1
        found = self._next_of_its_own(low, last + 1)
        return low if found is None else found[0]

    def _next_of_its_own(self, rank: int, end: int) -> tuple[int, Descriptor] | None:
        for _ in range(_LIMIT):
            if rank >= end:
                return None
            found = self._search(rank, min(rank + _CHUNK, end), backwards=False)
            if found is not None:
                return found
            rank += _CHUNK
        return None

    def _search(self, start: int, end: int, *, backwards: bool) -> tuple[int, Descriptor] | None:
        """The first, or last, in [start, end) that is no zero page's; what cannot be read is passed over."""
        try:
            data = self._table.descriptors(start, end - start)
        except OldmemReadError:
            return None
        if self._zeros.startswith(data):
            return None
        for rank in range(end - 1, start - 1, -1) if backwards else range(start, end):
            at = (rank - start) * DESCRIPTOR_SIZE
            if not self._zeros.startswith(data[at:at + DESCRIPTOR_SIZE]):
                return rank, Descriptor._make(_STRUCT.unpack_from(data, at))
        return None
