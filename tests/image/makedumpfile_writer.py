"""What makedumpfile writes into a kdump-compressed file, write by write, so that it can be stopped behind any of them.

After makedumpfile.c: write_kdump_header, write_kdump_pages_and_bitmap_cyclic, write_kdump_pages_cyclic, write_kdump_page, write_cache.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from tests.builders.containers.kdump import PAGE, Kdump
from vmcorefs.image.kdump_pages import Descriptor

Write = tuple[int, bytes]


@dataclass(frozen=True)
class Makedumpfile:
    """The dump of *pages*, all of memory by page number, without those of *excluded*.

    *cycle*: pages of one (--cyclic-buffer), a multiple of 8. *cache*: bytes that are put together before they are written.
    *part*: the pages of this file of a split dump. *keeps_zeros*: False is another writer, which leaves zero pages out.
    """

    pages: Mapping[int, bytes]
    excluded: frozenset[int] = frozenset()
    level: int = 1
    cycle: int = 1 << 20
    cache: int = 1 << 16
    part: tuple[int, int] | None = None
    keeps_zeros: bool = True

    @property
    def end(self) -> int:
        return max(self.pages) + 1

    @property
    def shape(self) -> Kdump:
        """Its headers."""
        return Kdump({}, level=self.level, max_pfn=self.end, part=self.part)

    @property
    def saved(self) -> list[int]:
        """What the second bitmap names, in all files."""
        zeros = set() if self.keeps_zeros else {pfn for pfn, page in self.pages.items() if not any(page)}
        return sorted(set(self.pages) - self.excluded - zeros)

    @property
    def own(self) -> list[int]:
        """The saved pages of this file."""
        start, end = self.part or (0, self.end)
        return [pfn for pfn in self.saved if start <= pfn < end]

    @property
    def data(self) -> int:
        """Where the zero page or the first page's data are."""
        return self.shape.descriptors + 24 * len(self.saved)

    def writes(self) -> list[Write]:
        """In the order of time."""
        done: list[Write] = [(0, self.shape.build()[:self.shape.bitmap])]
        headers, pages = _Cache(self.shape.descriptors, self.cache, done), _Cache(self.data, self.cache, done)
        zero = Descriptor(self.data, PAGE, 0)
        position = self.data
        if self.keeps_zeros and self.level & 1:
            pages.add(bytes(PAGE))
            position += PAGE
        done += [(self.shape.bitmap + start // 8, self._bits(set(self.pages), start)) for start in range(0, self.end, self.cycle)]
        for start in range(0, self.end, self.cycle):
            done.append((self.shape.bitmap + self.shape.bitmap_size + start // 8, self._bits(set(self.saved), start)))
            for pfn in self.own:
                if start <= pfn < start + self.cycle:
                    page = self.pages[pfn]
                    if self.level & 1 and self.keeps_zeros and not any(page):
                        headers.add(zero.packed())
                        continue
                    packed = zlib.compress(page, 1)
                    packed, flags = (packed, 1) if len(packed) < PAGE else (page, 0)
                    if headers.full(24) or pages.full(len(packed)):
                        headers.flush()
                        pages.flush()
                    headers.add(Descriptor(position, len(packed), flags).packed())
                    pages.add(packed)
                    position += len(packed)
        pages.flush()
        headers.flush()
        return done

    def _bits(self, pages: set[int], start: int) -> bytes:
        out = bytearray(-(-min(self.cycle, self.end - start) // 8))
        for pfn in pages:
            if start <= pfn < start + self.cycle:
                out[(pfn - start) >> 3] |= 1 << (pfn & 7)
        return bytes(out)

    def build(self) -> bytes:
        """The finished file."""
        return as_file(self.writes(), self.shape.descriptors)


class _Cache:
    def __init__(self, offset: int, limit: int, done: list[Write]):
        self._offset = offset
        self._limit = limit
        self._done = done
        self._data = bytearray()

    def full(self, more: int) -> bool:
        return len(self._data) + more >= self._limit

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= self._limit:
            self._write(self._limit)

    def flush(self) -> None:
        if self._data:
            self._write(len(self._data))

    def _write(self, size: int) -> None:
        self._done.append((self._offset, bytes(self._data[:size])))
        self._offset += size
        del self._data[:size]


def as_file(writes: list[Write], least: int = 0) -> bytes:
    """The file after *writes*; what was not written is zeros. *least*: its size at least."""
    out = bytearray(max(least, *(offset + len(data) for offset, data in writes)))
    for offset, data in writes:
        out[offset:offset + len(data)] = data
    return bytes(out)
