"""The records of a flattened dump: found in one pass over the file, kept as chains, read."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.shell import free_name, plain_of, quoted
from vmcorefs.image.source import Source

HEADER_SIZE = 4096
RECORD = struct.Struct(">qq")  # offset in the file inside, size; the data follow
_STRIDE = 32  # of a chain's own records from one mark to the next
_FOREIGN = 96  # records of all chains from one mark to the next
_CHAINS_LIMIT = 1 << 15
_OVERLAYS_LIMIT = 256
_SIZE_LIMIT = 1 << 47  # of the file inside
_RECORDS_LIMIT = 1 << 20  # that may be as small as they like; makedumpfile and QEMU write 16 KiB and more at once
_AVERAGE = 256  # bytes, if there are more
_WINDOW = 1 << 16  # read at once where records are small


class Chain:
    """Records of which each goes on where the one before it ended, though others may lie between them in the flattened file.

    They are the bytes [start, end) of the file inside. A mark is a record's place inside (*marks*) and in the flattened file
    (*places*): from there on the record that begins at a place inside is the next that says so.
    """

    __slots__ = ("count", "end", "marked", "marks", "places", "start")

    def __init__(self, start: int):
        self.start = self.end = start
        self.marks, self.places = array("Q"), array("Q")
        self.count = 0  # records
        self.marked = 0  # number of the newest mark's record among all

    def add(self, size: int, place: int, number: int) -> None:
        """The next record: *size* bytes at *place*, number *number* of all."""
        if self.count % _STRIDE == 0 or number - self.marked >= _FOREIGN:
            self.marks.append(self.end)
            self.places.append(place)
            self.marked, self.count = number, 0
        self.count += 1
        self.end += size


class Records:
    """All records of a flattened file as chains: *chains* do not overlap; *overlays*, oldest first, overlap them or each other.

    *incomplete*: in words why the last record is not the end record, if so. Raises ImageError.
    """

    def __init__(self, file: Source):
        self.file = file
        self.chains: list[Chain] = []  # by start
        self.overlays: list[Chain] = []
        self._starts: list[int] = []
        self._by_end: dict[int, Chain] = {}
        self._number = 0
        self._chain: Chain | None = None  # that of the newest record; not in _by_end
        self._room = 0  # how far it can grow
        self.incomplete = self._walk()
        self._by_end.clear()

    # -- finding them --------------------------------------------------------------------------------------------------

    def _walk(self) -> str | None:
        size_of_file, position, unpack = self.file.size, HEADER_SIZE, RECORD.unpack_from
        window, base, want = b"", position, _WINDOW
        while True:
            if position + RECORD.size > base + len(window):
                if position + RECORD.size > size_of_file:
                    return f"the flattened file ends at {size_of_file:#x} without an end record"
                self._check(self._number < _RECORDS_LIMIT or position > self._number * _AVERAGE, position)
                window, base = self.file.read_some(min(want, size_of_file - position), position), position
                if len(window) < RECORD.size:
                    try:
                        window = self.file.pread(RECORD.size, position)
                    except OldmemReadError as error:
                        return f"a record of the flattened file cannot be read: {error}"
            offset, size = unpack(window, position - base)
            following = position + RECORD.size + size
            chain = self._chain
            if chain is not None and offset == chain.end and size > 0 and offset + size <= self._room and following <= size_of_file:
                chain.add(size, position, self._number)
            elif offset == size == -1:
                return None
            else:
                if offset < 0 or size <= 0 or offset + size > _SIZE_LIMIT:
                    raise ImageError(f"{self.file.name}: damaged flattened dump: the record at {position:#x} says {size:#x} bytes at "
                                     f"{offset:#x}; copy it again")
                if position + RECORD.size < size_of_file:
                    self._add(offset, size - max(following - size_of_file, 0), position)
                if following > size_of_file:
                    return f"the flattened file is cut off at {size_of_file:#x}, within a record"
            want = _WINDOW if size < _WINDOW // 16 else RECORD.size
            self._number += 1
            position = following

    def _add(self, start: int, size: int, place: int) -> None:
        end = start + size
        if self._chain is not None:
            self._by_end[self._chain.end] = self._chain
        self._chain = None
        index = bisect_right(self._starts, start)
        following = self._starts[index] if index < len(self._starts) else _SIZE_LIMIT
        if end > following or (index and self.chains[index - 1].end > start) or any(o.start < end and start < o.end for o in self.overlays):
            self._overlay(start, place).add(size, place, self._number)
            return
        chain = self._by_end.pop(start, None)
        if chain is None:
            chain = Chain(start)
            self.chains.insert(index, chain)
            self._starts.insert(index, start)
            self._check(len(self.chains) <= _CHAINS_LIMIT, place)
        chain.add(size, place, self._number)
        self._chain = chain
        self._room = 0 if self.overlays else following

    def _overlay(self, start: int, place: int) -> Chain:
        if not self.overlays or self.overlays[-1].end != start:
            self.overlays.append(Chain(start))
            self._check(len(self.overlays) <= _OVERLAYS_LIMIT, place)
        return self.overlays[-1]

    def _check(self, good: bool, place: int) -> None:  # noqa: FBT001
        if not good:
            raise ImageError(f"{self.file.name}: the flattened dump is in too many pieces (at {place:#x}); rebuild it: "
                             f"makedumpfile -R {quoted(free_name('DUMP'))} < {quoted(plain_of(self.file))}")

    # -- what they have ------------------------------------------------------------------------------------------------

    def overlaps(self) -> Iterator[tuple[Chain, Chain, int, int]]:
        """(later one, earlier one, start, end) of each two chains that both have [start, end)."""
        for number, later in enumerate(self.overlays):
            first = max(bisect_right(self._starts, later.start) - 1, 0)
            last = bisect_right(self._starts, later.end - 1)
            for earlier in (*self.chains[first:last], *self.overlays[:number]):
                start, end = max(later.start, earlier.start), min(later.end, earlier.end)
                if start < end:
                    yield later, earlier, start, end

    def read(self, view: memoryview, chain: Chain, offset: int, *, salvage: bool) -> None:
        """Fill *view* from *offset* of the file inside, out of *chain*, which has all of it. Raises OldmemReadError."""
        done, want = 0, len(view)
        mark = bisect_right(chain.marks, offset) - 1
        while done < want:
            inside, place = chain.marks[mark], chain.places[mark]
            end = chain.marks[mark + 1] if mark + 1 < len(chain.marks) else chain.end
            while inside < end and done < want:
                start, size = self._record(place)
                if start == inside:
                    skip = offset + done - start
                    count = min(size - skip, end - offset - done, want - done)
                    if count > 0:
                        try:
                            self.file.preadinto(view[done:done + count], place + RECORD.size + skip, salvage=salvage)
                        except OldmemReadError as error:
                            raise error.moved(good=done + error.good) from error.__cause__
                        done += count
                    inside += size
                place += RECORD.size + size
            mark += 1

    def _record(self, place: int) -> tuple[int, int]:
        header = self.file.pread(RECORD.size, place)
        start, size = RECORD.unpack(header)
        if size <= 0:
            raise OldmemReadError(self.file.path, place, "the record here is another one than when the dump was opened")
        return start, size
