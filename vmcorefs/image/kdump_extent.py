"""How much of a kdump-compressed file its writer got done, and whether bitmap and descriptors belong together.

The descriptor of a page is found by counting bits of the second bitmap: one bit that is lost, and every page behind it is another one.
What the count must be is told by where the data begin. Source: makedumpfile.c, write_kdump_pages_and_bitmap_cyclic (the same in QEMU,
dump/dump.c, write_dump_pages), for N pages to be saved:

    descriptors, 24 bytes x N   at (1 + sub_hdr_size + bitmap_blocks) blocks
    the zero page, plain        directly behind, if the dump level has 1; all zero pages' descriptors point to it (since 1.1.3, 2007;
                                only the ELF output clears the bits of zero pages)
    other pages' data           directly behind, in the order of the pages

N is that of the whole dump also in each file of a split one, where the descriptors behind the file's own are zeros. The order of
writing: header, all of the first bitmap; then for each cycle (``--cyclic-buffer``) its piece of the second bitmap, its pages. So of a
writer that was killed, or ran out of space, the second bitmap has fewer than N bits (a piece of it is zeros) or descriptors are
zeros; status says so (8) only if the writer could still write there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.kdump_bitmap import count_of, end_of_ones
from vmcorefs.image.kdump_codecs import PLAIN
from vmcorefs.image.kdump_descriptors import Descriptors
from vmcorefs.image.kdump_header import DESCRIPTOR_SIZE
from vmcorefs.image.kdump_pages import Descriptor, Extent, PageTable
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range, overlap, total

_GAPS = 4096  # places without memory where the second bitmap is looked at


def measure(table: PageTable, memory: Sequence[Range], limit: int | None) -> Extent | None:
    """What is in the file; None: that would need more than *limit* bytes of bitmap to be counted.

    Raises ImageError if bitmap and descriptors contradict each other, OldmemReadError if the bitmap cannot be read.
    """
    header, file = table.header, table.file
    stored = table.count(limit)
    if stored is None:
        return None
    everything = stored
    if header.split:
        others = [count_of(file, header.bitmap2, a, e, limit) for a, e in ((0, header.start), (header.end, header.max_pfn))]
        if None in others:
            return None
        everything += sum(filter(None, others))
    if not everything:
        return _nothing(table)
    if not stored:
        return _none_of_its_own(table, everything)
    return _Measured(table, memory, stored, everything).extent()


def strays(table: PageTable, memory: Sequence[Range]) -> int | None:
    """The first page that the second bitmap names though the first one knows of no memory there; None: there is none.

    Raises OldmemReadError. Not all are looked at where there are very many places without memory.
    """
    header, position = table.header, table.header.start
    if header.bitmap1 == header.bitmap2:
        return None
    known = overlap(memory, header.start * PAGE_SIZE, header.end * PAGE_SIZE)
    gaps = [*(r.start // PAGE_SIZE for r in known), header.end]
    for start, end in zip(gaps[:_GAPS], [*(r.end // PAGE_SIZE for r in known), header.end], strict=False):
        if position < start:
            found, _ = table.next_stored(position, start)
            if found < start:
                return found
        position = end
    return None


def _nothing(table: PageTable) -> Extent:
    """No bit is set. A writer that has nothing to save writes no dump."""
    if table.likely(table.descriptor(0)):
        raise ImageError(f"{table.file.name}: damaged dump: the bitmap at {table.header.bitmap2:#x} names no page at all, though there are "
                         f"page descriptors at {table.header.descriptors:#x}; copy it again")
    words = f"{os.path.basename(table.file.name)} was not finished: the bitmap at {table.header.bitmap2:#x} names no page at all"
    return Extent(0, 0, table.header.start, incomplete=(words,))


def _none_of_its_own(table: PageTable, everything: int) -> Extent:
    """A file of a split dump with none of the pages that are saved."""
    header, file = table.header, table.file
    if table.likely(table.descriptor(0)):
        raise ImageError(f"{file.name}: damaged dump: the bitmap at {header.bitmap2:#x} names no page of [{header.start:#x}, "
                         f"{header.end:#x}), though there are page descriptors at {header.descriptors:#x}; copy it again")
    # the zero page is written when all is done
    keeps_zeros = bool(header.dump_level & 1) and file.size >= header.descriptors + everything * DESCRIPTOR_SIZE + PAGE_SIZE
    return Extent(0, 0, header.end, keeps_zeros=keeps_zeros)


class _Measured:
    """One file that has pages of its own."""

    def __init__(self, table: PageTable, memory: Sequence[Range], stored: int, everything: int):
        self._table = table
        self._memory = memory
        self._stored = stored
        self._everything = everything
        self._name = os.path.basename(table.file.name)
        self._first = table.descriptor(0)
        self._last = table.descriptor(stored - 1)
        self._behind = table.descriptor(stored)

    def extent(self) -> Extent:
        meant, zero_page = self._meant()
        proven = self._proven(meant)
        if meant is None and proven:
            zero_page = self._zero_page_at(self._everything) or self._zero_page_at(self._stored)
        words = []
        told = self._table.header.end
        if not proven:
            told, end = self._told()
            if meant is not None:
                words.append(f"{self._name} was not finished: the bitmap at {self._table.header.bitmap2:#x} names {self._everything:#x} of "
                             f"{meant:#x} pages that were to be saved; of memory from address {end * PAGE_SIZE:#x} on nothing is in it")
        descriptors = Descriptors(self._table, zero_page)
        written = self._written(descriptors, words)
        if written:
            self._data(descriptors, written, words)
        return Extent(self._stored, written, told, proven, descriptors.has_zero_pages(written), tuple(words))

    def _meant(self) -> tuple[int | None, Descriptor | None]:
        """How many descriptors there is room for before the data; the descriptor of zero pages, where there is a zero page first."""
        first, table = self._first, self._table
        if first is None or not table.likely(first) or not self._fits(table.descriptor(1) if self._stored > 1 else None):
            return None, None
        number, rest = divmod(first.offset - table.header.descriptors, DESCRIPTOR_SIZE)
        if not rest:
            return number, self._zero_page_at(number)
        number, rest = divmod(first.offset - PAGE_SIZE - table.header.descriptors, DESCRIPTOR_SIZE)
        if rest or number < 0 or not table.header.dump_level & 1:
            return None, None
        return number, Descriptor(first.offset - PAGE_SIZE, PAGE_SIZE, PLAIN)

    def _zero_page_at(self, descriptors: int) -> Descriptor | None:
        """The descriptor of zero pages, if there is a zero page behind so many descriptors."""
        header, file = self._table.header, self._table.file
        found = Descriptor(header.descriptors + descriptors * DESCRIPTOR_SIZE, PAGE_SIZE, PLAIN)
        return found if header.dump_level & 1 and file.read_some(PAGE_SIZE, found.offset) == bytes(PAGE_SIZE) else None

    def _fits(self, second: Descriptor | None) -> bool:
        """Whether the second descriptor, if it is one, confirms the first: its data lie behind, or it is the zero page's."""
        first = self._first
        assert first is not None
        if second is None or not self._table.likely(second):
            return True
        return second.offset == first.end or second == first or (second.size == PAGE_SIZE and second.end == first.offset)

    def _proven(self, meant: int | None) -> bool:
        """Whether the second bitmap has as many bits as there are descriptors. False: it was not finished. Raises ImageError."""
        table = self._table
        if meant in {self._stored, self._everything}:
            if self._stored < self._everything == meant and table.likely(self._behind):
                raise self._contradiction("start_pfn or end_pfn in the header is wrong")
            return True
        if not table.likely(self._first) and not _there(self._last):  # killed before the first of them was written, or cut off
            return False
        if meant is not None and meant > self._everything and not _there(self._behind) \
                and meant - self._everything <= self._unnamed(self._told()[1]):
            return False
        if table.likely(self._last) and not table.likely(self._behind):  # its data begin elsewhere, or the first one is damaged
            return True
        raise self._contradiction("bits of the bitmap are lost, or sub_hdr_size or max_mapnr in the header is wrong")

    def _contradiction(self, cause: str) -> ImageError:
        header = self._table.header
        data = "is damaged" if self._first is None else f"'s data begin at {self._first.offset:#x}"
        return ImageError(f"{self._table.file.name}: damaged dump: the bitmap at {header.bitmap2:#x} names {self._stored:#x} pages, whose "
                          f"descriptors end at {header.descriptors + self._stored * DESCRIPTOR_SIZE:#x}, but the first page{data}; {cause}")

    def _told(self) -> tuple[int, int]:
        """(up to where the second bitmap was surely written, as far as this file's pages go; the same of all pages)."""
        header = self._table.header
        end = end_of_ones(self._table.file, header.bitmap2, header.max_pfn)
        return min(max(end, header.start), header.end), end

    def _unnamed(self, pfn: int) -> int:
        """How many pages of memory there are from *pfn* on."""
        return total(overlap(self._memory, pfn * PAGE_SIZE, 1 << 64)) // PAGE_SIZE

    def _written(self, descriptors: Descriptors, words: list[str]) -> int:
        """How many descriptors are there; they are written in order."""
        header, file = self._table.header, self._table.file
        room = max(file.size - header.descriptors, 0) // DESCRIPTOR_SIZE
        if room < self._stored:
            words.append(f"{self._name} is cut off at {file.size:#x}, within its page descriptors; {self._from(room)}")
        elif self._last is not None and not self._last.written:
            written = descriptors.written(self._stored)
            words.append(f"{self._name} was not finished: {written:#x} of {self._stored:#x} page descriptors were written; "
                         f"{self._from(written)}")
            return written
        return min(room, self._stored)

    def _data(self, descriptors: Descriptors, written: int, words: list[str]) -> None:
        last = descriptors.last_of_its_own(written)
        if last is not None and last[1].end > self._table.file.size:
            words.append(f"{self._name} is cut off at {self._table.file.size:#x}, the last page's data would end at {last[1].end:#x}; "
                         f"{self._from(descriptors.first_beyond(self._table.file.size, last[0]))}")

    def _from(self, rank: int) -> str:
        return f"pages from address {self._table.page_of(rank) * PAGE_SIZE:#x} on are not in it"


def _there(descriptor: Descriptor | None) -> bool:
    return descriptor is not None and descriptor.written


def try_to_measure(table: PageTable, memory: Sequence[Range], limit: int | None) -> Extent | ImageError | None:
    """As measure, but what cannot be used is returned, and a bitmap that cannot be read is served as far as it goes."""
    try:
        return measure(table, memory, limit)
    except ImageError as error:
        return error
    except OldmemReadError as error:
        words = f"the bitmap of {os.path.basename(table.file.name)} at {table.header.bitmap2:#x} cannot be read: {error.cause}"
        return Extent(0, 0, table.header.end, incomplete=(f"{words} (at {error.offset:#x})",))
