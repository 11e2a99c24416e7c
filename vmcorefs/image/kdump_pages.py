"""PageTable: which pages one kdump-compressed file stores, and the descriptor of each. Read from the file in small windows.

Bit n of a bitmap: byte n >> 3, mask 1 << (n & 7). A page's descriptor number is how many pages are stored before it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.kdump_header import BITS, DESCRIPTOR_SIZE, KdumpHeader
from vmcorefs.image.source import RANGES_LIMIT, Source
from vmcorefs.quantities import MIB, PAGE_SIZE
from vmcorefs.ranges import Range

_ONES = b"\xff" * MIB
_LOOK = 1 << 16  # bytes of bitmap that next_stored looks at in one go: 2 GiB of memory


def ones(bits: int) -> int:
    """How many of the lowest bits are 1 without a gap."""
    return (~bits & (bits + 1)).bit_length() - 1


def zeros(bits: int) -> int:
    """How many of the lowest bits of *bits*, which is not 0, are 0."""
    return (bits & -bits).bit_length() - 1


class PageTable:
    """One file's second bitmap and page descriptors. Thread safe: what is remembered is the same whoever finds it."""

    def __init__(self, file: Source, header: KdumpHeader):
        self.file = file
        self.header = header
        self._first = header.start // BITS
        windows = -(-header.end // BITS) - self._first
        self._before = array("Q", bytes(8 * (max(windows, 0) + 1)))  # window -> stored pages before it
        self._known = 0  # windows whose number is known

    def stored(self, pfn: int, count: int) -> int:
        """Bit k: whether page *pfn* + k is stored, for k < *count*."""
        start = pfn >> 3
        data = self.file.pread(((pfn + count + 7) >> 3) - start, self.header.bitmap2 + start)
        return (int.from_bytes(data, "little") >> (pfn & 7)) & ((1 << count) - 1)

    def rank(self, pfn: int) -> int:
        """The number of the descriptor of *pfn*, if it is stored; else of the next stored page."""
        window, rest = divmod(pfn, BITS)
        rank = self._rank_of_window(window - self._first)
        begin = max(window * BITS, self.header.start)
        return rank + self.stored(begin, pfn - begin).bit_count() if rest else rank

    def _rank_of_window(self, window: int) -> int:
        known = self._known
        while known < window:
            pieces = min(window - known, MIB // PAGE_SIZE)
            at = (self._first + known) * PAGE_SIZE
            data = self.file.pread(pieces * PAGE_SIZE, self.header.bitmap2 + at)
            if data == _ONES[:len(data)]:
                counts = [BITS] * pieces
            else:
                counts = [int.from_bytes(data[i:i + PAGE_SIZE], "little").bit_count() for i in range(0, len(data), PAGE_SIZE)]
            if known == 0:
                counts[0] -= self._before_start(data[:PAGE_SIZE])
            total = self._before[known]
            for number, count in enumerate(counts, known + 1):
                total += count
                self._before[number] = total
            known += pieces
            self._known = max(self._known, known)
        return self._before[window]

    def _before_start(self, window: bytes) -> int:
        """Stored pages of the first window that are another file's."""
        return (int.from_bytes(window, "little") & ((1 << self.header.start % BITS) - 1)).bit_count()

    def descriptors(self, rank: int, count: int) -> bytes:
        """The bytes of *count* descriptors from number *rank* on. Raises OldmemReadError."""
        return self.file.pread(count * DESCRIPTOR_SIZE, self.header.descriptors + rank * DESCRIPTOR_SIZE)

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


def memory_of(file: Source, offset: int, pages: int, words: str) -> tuple[Range, ...]:
    """The runs of ones in the bitmap at *offset*, as addresses; *words*: what it is, for messages. Raises ImageError."""
    found: list[Range] = []
    start = -1
    for pfn, count, bits in _pieces(file, offset, pages, words):
        while count:
            run = count if bits in {0, -1} else ones(bits) if bits & 1 else zeros(bits)
            if bits & 1 and start < 0:
                if len(found) == RANGES_LIMIT:
                    raise ImageError(f"{file.name}: damaged dump: {words} at offset {offset:#x} names more than {RANGES_LIMIT} "
                                     "pieces of memory")
                start = pfn
            elif not bits & 1 and start >= 0:
                found.append(Range(start * PAGE_SIZE, pfn * PAGE_SIZE))
                start = -1
            pfn, count, bits = pfn + run, count - run, bits >> run  # noqa: PLW2901
    if start >= 0:
        found.append(Range(start * PAGE_SIZE, pages * PAGE_SIZE))
    return tuple(found)


def _pieces(file: Source, offset: int, pages: int, words: str) -> Iterator[tuple[int, int, int]]:
    """(first page, pages, bits) over a bitmap: a MiB of it where it is all ones (-1) or all zeros, else a block."""
    for at in range(0, -(-pages // 8), MIB):
        pfn = at * 8
        try:
            data = file.pread(min(MIB, -(-pages // 8) - at), offset + at)
        except OldmemReadError as error:
            raise ImageError(f"{file.name}: {words} of the dump at offset {offset:#x} cannot be read: {error.cause} "
                             f"(at {error.offset:#x})") from error
        count = min(len(data) * 8, pages - pfn)
        if data.count(0) == len(data):
            yield pfn, count, 0
        elif data == _ONES:
            yield pfn, count, -1
        else:
            for i in range(0, len(data), PAGE_SIZE):
                part = min(BITS, pages - pfn - i * 8)
                yield pfn + i * 8, part, int.from_bytes(data[i:i + PAGE_SIZE], "little") & ((1 << part) - 1)
