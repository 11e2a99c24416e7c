"""PageTable: which pages one kdump-compressed file stores, and the descriptor of each. Read from the file in small windows.

A page's descriptor number is how many pages are stored before it.
"""

from __future__ import annotations

import struct
from array import array
from typing import NamedTuple

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.kdump_bitmap import all_ones, all_zeros, bits_of, ones, zeros
from vmcorefs.image.kdump_codecs import COMPRESSIONS, PLAIN
from vmcorefs.image.kdump_header import BITS, DESCRIPTOR_SIZE, INCOMPLETE, KdumpHeader
from vmcorefs.image.source import Source
from vmcorefs.quantities import MIB, PAGE_SIZE

_LOOK = 1 << 16  # bytes of bitmap that next_stored looks at in one go: 2 GiB of memory
_PIECE = MIB // PAGE_SIZE  # windows
_DESCRIPTOR = struct.Struct(">QIIQ")


class Descriptor(NamedTuple):
    """What a page descriptor says: where its page's data lie, how many bytes, how compressed; page_flags is not used (0)."""

    offset: int
    size: int
    flags: int
    page_flags: int = 0

    @property
    def end(self) -> int:
        """Where the data end."""
        return self.offset + self.size

    @property
    def written(self) -> bool:
        """Whether its writer got to it. No space may have been left behind the offset."""
        return any(self[1:])

    def packed(self) -> bytes:
        """As it stands in the file."""
        return _DESCRIPTOR.pack(*self)


class Extent(NamedTuple):
    """How much of a file its writer got done.

    *stored*: pages that the second bitmap names, of this file's; *written*: descriptors that are there. *told*: the page up to which
    the second bitmap was written. *whole*: the second bitmap is proven to be whole. *keeps_zeros*: zero pages have descriptors, too;
    what was left out is something else. *incomplete*: what is not there, in words.
    """

    stored: int
    written: int
    told: int
    whole: bool = False
    keeps_zeros: bool = False
    incomplete: tuple[str, ...] = ()


class PageTable:
    """One file's second bitmap and page descriptors. Thread safe: what is remembered is the same whoever finds it.

    *extent*: None while it is not known, since counting the bitmap takes long.
    """

    def __init__(self, file: Source, header: KdumpHeader):
        self.file = file
        self.header = header
        self.extent: Extent | ImageError | None = None
        self._first = header.start // BITS
        windows = -(-header.end // BITS) - self._first
        self._before = array("Q", bytes(8 * (max(windows, 0) + 1)))  # window -> stored pages before it
        self._known = 0  # windows whose number is known

    @property
    def incomplete(self) -> bool:
        """Whether the file is known not to be whole: then data behind its end are missing, else their descriptor is damaged."""
        return bool(self.header.status & INCOMPLETE) or not isinstance(self.extent, Extent) or bool(self.extent.incomplete)

    @property
    def unfinished(self) -> bool:
        """Whether its writer did not get to all of its pages: then a descriptor of zeros is no damaged one."""
        return bool(self.header.status & INCOMPLETE) or (isinstance(self.extent, Extent) and self.extent.written < self.extent.stored)

    def stored(self, pfn: int, count: int) -> int:
        """Bit k: whether page *pfn* + k is stored, for k < *count*."""
        return bits_of(self.file, self.header.bitmap2, pfn, count)

    def rank(self, pfn: int) -> int:
        """The number of the descriptor of *pfn*, if it is stored; else of the next stored page."""
        window, rest = divmod(pfn, BITS)
        rank = self._rank_of_window(window - self._first)
        begin = max(window * BITS, self.header.start)
        return rank + self.stored(begin, pfn - begin).bit_count() if rest else rank

    def count(self, limit: int | None) -> int | None:
        """All stored pages of this file; None: more than *limit* bytes of bitmap had to be looked at closely.

        Raises OldmemReadError.
        """
        if self.header.start >= self.header.end:
            return 0
        buffer = bytearray(MIB)
        while self._known < len(self._before) - 1:
            if not self._count_piece(self._known, buffer) and limit is not None:
                limit -= MIB
                if limit < 0:
                    return None
        return self.rank(self.header.end)

    def _rank_of_window(self, window: int) -> int:
        if self._known < window:
            buffer = bytearray(MIB)
            while self._known < window:
                self._count_piece(self._known, buffer)
        return self._before[window]

    def _count_piece(self, known: int, buffer: bytearray) -> bool:
        """Count the next windows behind the first *known*; whether that was fast."""
        pieces = min(len(self._before) - 1 - known, _PIECE)
        if len(buffer) > pieces * PAGE_SIZE:
            del buffer[pieces * PAGE_SIZE:]
        self.file.preadinto(memoryview(buffer), self.header.bitmap2 + (self._first + known) * PAGE_SIZE)
        full, empty = all_ones(buffer), all_zeros(buffer)
        if full or empty:
            counts = [BITS * full] * pieces
        else:
            counts = [int.from_bytes(buffer[i:i + PAGE_SIZE], "little").bit_count() for i in range(0, len(buffer), PAGE_SIZE)]
        if known == 0:
            counts[0] -= self._before_start(buffer[:PAGE_SIZE])
        total = self._before[known]
        for number, count in enumerate(counts, known + 1):
            total += count
            self._before[number] = total
        self._known = max(self._known, known + pieces)
        return full or empty

    def _before_start(self, window: bytearray) -> int:
        """Stored pages of the first window that are another file's."""
        return (int.from_bytes(window, "little") & ((1 << self.header.start % BITS) - 1)).bit_count()

    def page_of(self, rank: int) -> int:
        """The page that descriptor *rank* is of."""
        first, end = self.header.start, self.header.end
        while first + 1 < end:  # the last page with not more than *rank* pages before it
            middle = (first + end) // 2
            first, end = (middle, end) if self.rank(middle) <= rank else (first, middle)
        return first

    def descriptors(self, rank: int, count: int) -> bytes:
        """The bytes of *count* descriptors from number *rank* on. Raises OldmemReadError."""
        return self.file.pread(count * DESCRIPTOR_SIZE, self.header.descriptors + rank * DESCRIPTOR_SIZE)

    def descriptor(self, rank: int) -> Descriptor | None:
        """One descriptor; None: it cannot be read."""
        try:
            return Descriptor._make(_DESCRIPTOR.unpack(self.descriptors(rank, 1)))
        except OldmemReadError:
            return None

    def likely(self, descriptor: Descriptor | None) -> bool:
        """Whether that may be a descriptor, and not something else that stands there, or nothing."""
        return descriptor is not None and 0 < descriptor.size <= PAGE_SIZE and descriptor.flags in {PLAIN, *COMPRESSIONS} \
            and self.header.descriptors < descriptor.offset < 1 << 62

    def next_stored(self, pfn: int, end: int) -> tuple[int, int]:
        """The first run [a, e) of stored pages at or behind *pfn* and before *end*, maybe cut; (end, end): there is none.

        Raises OldmemReadError.
        """
        while pfn < end:
            stop = min(end, (pfn & ~7) + _LOOK * 8)
            bits = self.stored(pfn, stop - pfn)
            if bits:
                first = zeros(bits)
                return pfn + first, pfn + first + ones(bits >> first)
            pfn = stop
        return end, end
