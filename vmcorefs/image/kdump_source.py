"""KdumpSource: memory out of pages of 4 KiB, each compressed on its own, in one file or the several of makedumpfile --split."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence

from vmcorefs.errors import ImageError, OldmemReadError, ReadErrorKind
from vmcorefs.image.kdump_bitmap import ones, zeros
from vmcorefs.image.kdump_codecs import DamagedError, Decode, decoder
from vmcorefs.image.kdump_extent import try_to_measure
from vmcorefs.image.kdump_header import DESCRIPTOR_SIZE
from vmcorefs.image.kdump_pages import Extent, PageTable
from vmcorefs.image.layer import Layer
from vmcorefs.image.page_cache import PageCache
from vmcorefs.image.segments import NO_MEMORY
from vmcorefs.image.source import Absence, Container, Source, sum_up
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range, find, overlap, total

_BATCH = 256  # pages that one step of a read handles
_SMALL = 16  # pages; who asks for more at once copies everything, which would only wash out the cache
_GAP = PAGE_SIZE  # bytes between two pages' data that are rather read than skipped

# offset size  field of a page descriptor: 0 8 offset of the data in the file, 8 4 size, 12 4 flags, 16 8 page_flags (0)
DESCRIPTOR = struct.Struct(">QII8x")
Entry = tuple[int, int, int, int]  # offset, size, flags, number of the page in its run

_NOT_WRITTEN = "the dump is incomplete: its writer did not get to this page"


class KdumpSource(Layer):
    """Memory out of *tables*, one for each file, in the order of their pages. *zero*: only zero pages were left out."""

    def __init__(self, files: Sequence[Source], tables: Sequence[PageTable], size: int, container: Container, *, zero: bool):
        super().__init__(files, size, container)
        self._tables = tuple(table for table in tables if table.header.start < table.header.end)
        self._starts = [table.header.start for table in self._tables]
        self._memory = container.memory
        self._memory_starts = [r.start for r in container.memory]
        self._zero = zero
        self._cache = PageCache()

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        want, done = len(view), 0
        self.check_range(offset, want)
        while done < want:
            pfn, skip = divmod(offset + done, PAGE_SIZE)
            pages = min((want - done) // PAGE_SIZE, _BATCH)
            count = pages * PAGE_SIZE if pages and not skip else min(PAGE_SIZE - skip, want - done)
            part = view[done:done + count]
            try:
                if skip or not pages:
                    part[:] = self._page(pfn)[skip:skip + count]
                elif pages > _SMALL:
                    self._run(part, pfn, pages, keep=False, salvage=salvage)
                elif not self._cached(part, pfn, pages):
                    self._run(part, pfn, pages, keep=True, salvage=salvage)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += count

    def _page(self, pfn: int) -> bytes | memoryview:
        page = self._cache.get(pfn)
        if page is not None:
            return page
        view = memoryview(bytearray(PAGE_SIZE))
        self._run(view, pfn, 1, keep=True, salvage=False)
        return view

    def _cached(self, view: memoryview, pfn: int, pages: int) -> bool:
        """Whether all pages were in the cache; they are in *view* then."""
        for i in range(pages):
            page = self._cache.get(pfn + i)
            if page is None:
                return False
            view[i * PAGE_SIZE:(i + 1) * PAGE_SIZE] = page
        return True

    def _run(self, view: memoryview, pfn: int, pages: int, *, keep: bool, salvage: bool) -> None:
        """Fill *view*, whole pages, from page *pfn* on."""
        begin, end = pfn, pfn + pages
        while pfn < end:
            index = find(self._starts, pfn)
            table = self._tables[index] if index >= 0 and pfn < self._tables[index].header.end else None
            limit = self._starts[index + 1] if table is None and index + 1 < len(self._starts) else end
            stop = min(end, limit if table is None else table.header.end)
            part = view[(pfn - begin) * PAGE_SIZE:(stop - begin) * PAGE_SIZE]
            try:
                if table is None:
                    self._without_file(pfn)
                else:
                    self._run_of(table, part, pfn, stop, keep=keep, salvage=salvage)
            except OldmemReadError as error:
                raise error.moved(good=(pfn - begin) * PAGE_SIZE + error.good) from error.__cause__
            pfn = stop

    def _run_of(self, table: PageTable, view: memoryview, pfn: int, end: int, *, keep: bool, salvage: bool) -> None:
        """Fill *view* with the pages [pfn, end) of one file."""
        extent = self._extent(table)
        begin, rank, bits = pfn, -1, table.stored(pfn, end - pfn)
        while pfn < end:
            run = ones(bits) if bits & 1 else zeros(bits) if bits else end - pfn
            at = (pfn - begin) * PAGE_SIZE
            part = view[at:at + run * PAGE_SIZE]
            try:
                if bits & 1:
                    rank = table.rank(pfn) if rank < 0 else rank
                    self._stored(table, part, pfn, rank, keep=keep, salvage=salvage)
                    rank += run
                else:
                    self._left_out(extent, part, pfn, run)
            except OldmemReadError as error:
                raise error.moved(good=at + error.good) from error.__cause__
            pfn, bits = pfn + run, bits >> run

    def _memory_at(self, pfn: int) -> Range | None:
        index = bisect_right(self._memory_starts, pfn * PAGE_SIZE) - 1
        return self._memory[index] if index >= 0 and pfn * PAGE_SIZE < self._memory[index].end else None

    def _without_file(self, pfn: int) -> None:
        """No file that was given has page *pfn*. Raises OldmemReadError."""
        cause = NO_MEMORY if self._memory_at(pfn) is None else "the file of the split dump that has this page was not given"
        raise OldmemReadError(self.path, pfn * PAGE_SIZE, cause, kind="missing")

    def _extent(self, table: PageTable) -> Extent:
        """What is in a file. Its bitmap is counted to the end before the first page is served: were a bit lost, each page behind it
        would be another one.

        Raises OldmemReadError.
        """
        if table.extent is None:
            table.extent = try_to_measure(table, self._memory, None)
        if isinstance(table.extent, ImageError):
            cause = str(table.extent).removeprefix(f"{table.file.name}: ")
            raise OldmemReadError(table.file.path, table.header.bitmap2, cause) from table.extent
        assert table.extent is not None
        return table.extent

    def _left_out(self, extent: Extent, view: memoryview, pfn: int, pages: int) -> None:
        """Pages that are not stored: zeros where it is proven that only zero pages were left out, else OldmemReadError."""
        done = 0
        while done < pages:
            memory = self._memory_at(pfn + done)
            if memory is None or not self._zero or not extent.whole or extent.keeps_zeros:
                kind: ReadErrorKind = "missing"
                if memory is None:
                    cause = NO_MEMORY
                elif pfn + done >= extent.told:
                    cause = _NOT_WRITTEN
                else:
                    kind, cause = "filtered", f"left out by the writer of the dump (dump level {self.container.dump_level})"
                raise OldmemReadError(self.path, (pfn + done) * PAGE_SIZE, cause, good=done * PAGE_SIZE, kind=kind)
            count = min(pages - done, memory.end // PAGE_SIZE - pfn - done)
            view[done * PAGE_SIZE:(done + count) * PAGE_SIZE] = bytes(count * PAGE_SIZE)
            done += count

    def _stored(self, table: PageTable, view: memoryview, pfn: int, rank: int, *, keep: bool, salvage: bool) -> None:
        """Pages that are stored one behind the other, their descriptors from *rank* on."""
        pages = len(view) // PAGE_SIZE
        try:
            self._read_pages(table, view, pfn, table.descriptors(rank, pages), keep=keep)
        except (OldmemReadError, DamagedError) as error:
            if pages > 1 and salvage:
                self._one_by_one(table, view, pfn, rank)
            elif isinstance(error, OldmemReadError):
                raise error.moved(good=0) from error.__cause__
            else:
                where = table.header.descriptors + rank * DESCRIPTOR_SIZE
                raise OldmemReadError(table.file.path, where, f"{error} (its descriptor is at this offset)") from error

    def _one_by_one(self, table: PageTable, view: memoryview, pfn: int, rank: int) -> None:
        """The pages before the first bad one, and its error."""
        for i in range(len(view) // PAGE_SIZE):
            try:
                self._stored(table, view[i * PAGE_SIZE:(i + 1) * PAGE_SIZE], pfn + i, rank + i, keep=True, salvage=False)
            except OldmemReadError as error:
                raise error.moved(good=i * PAGE_SIZE) from error.__cause__

    def _read_pages(self, table: PageTable, view: memoryview, pfn: int, descriptors: bytes, *, keep: bool) -> None:
        entries = sorted((*entry, i) for i, entry in enumerate(DESCRIPTOR.iter_unpack(descriptors)))
        decoders: dict[int, Decode] = {}
        data, base, page = memoryview(b""), 0, b""
        last: tuple[int, ...] = ()
        for number, entry in enumerate(entries):
            if entry[:3] != last:  # all zero pages may share one descriptor's data
                last = entry[:3]
                offset, size, flags = last
                if not _plausible(table, entry):
                    _refuse(table, entry)
                if offset + size > base + len(data):
                    base, end = offset, _span_end(table, entries, number)
                    data = memoryview(table.file.pread(end - base, base))
                decode = decoders.get(flags)
                if decode is None:
                    decode = decoders[flags] = decoder(flags, self.name)
                page = decode(data[offset - base:offset - base + size])
                if len(page) != PAGE_SIZE:
                    raise DamagedError(f"damaged page: {len(page):#x} bytes come out of its data at {offset:#x}, not 0x1000")
            i = entry[3]
            view[i * PAGE_SIZE:(i + 1) * PAGE_SIZE] = page
            if keep:
                self._cache.put(pfn + i, page)

    def absences(self) -> tuple[Absence, ...]:
        """See Source. Counted by the bitmaps; pages whose data an incomplete dump lacks are not known before they are read."""
        missing, filtered = total(self._memory), 0
        try:
            for table in self._tables:
                extent = self._extent(table)
                told = total(overlap(self._memory, table.header.start * PAGE_SIZE, extent.told * PAGE_SIZE))
                missing -= told
                if not self._zero or not extent.whole or extent.keeps_zeros:
                    filtered += max(told - table.rank(table.header.end) * PAGE_SIZE, 0)
        except OldmemReadError:
            return super().absences()
        return sum_up((*super().absences(), Absence("missing", missing), Absence("filtered", filtered)))

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source: pages that are not stored are left out."""
        pfn, stop = position // PAGE_SIZE, -(-end // PAGE_SIZE)
        for table in self._tables[max(find(self._starts, pfn), 0):]:
            low, high = max(pfn, table.header.start), min(stop, table.header.end)
            if low < high:
                try:
                    first, last = table.next_stored(low, high)
                except OldmemReadError:  # who reads there is told
                    return max(position, low * PAGE_SIZE), end
                if first < last:
                    return max(position, first * PAGE_SIZE), min(end, last * PAGE_SIZE)
        return end, end


def _plausible(table: PageTable, entry: Entry) -> bool:
    return 0 < entry[1] <= PAGE_SIZE and table.header.descriptors < entry[0] <= table.file.size - entry[1]


def _span_end(table: PageTable, entries: Sequence[Entry], number: int) -> int:
    """Where the data of entry *number*, and of those behind it that lie near, end in the file."""
    end = 0
    for entry in entries[number:]:
        if end and (entry[0] > end + _GAP or not _plausible(table, entry)):
            break
        end = max(end, entry[0] + entry[1])
    return end


def _refuse(table: PageTable, entry: Entry) -> None:
    offset, size, flags, _ = entry
    if size == flags == 0 and table.unfinished:
        raise OldmemReadError(table.file.path, 0, _NOT_WRITTEN, kind="missing")
    if not 0 < size <= PAGE_SIZE:
        raise DamagedError(f"damaged page descriptor: {size:#x} bytes of data at {offset:#x} (1 to 0x1000 are possible)")
    if offset <= table.header.descriptors:
        raise DamagedError(f"damaged page descriptor: it points to {offset:#x}, into the headers")
    words = f"the page's data would end at {offset + size:#x}, the file ends at {table.file.size:#x}"
    if not table.incomplete:
        raise DamagedError(f"damaged page descriptor: {words}")
    raise OldmemReadError(table.file.path, offset, f"the dump is cut off: {words}", kind="missing")
