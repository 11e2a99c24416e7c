"""Flattened dumps (makedumpfile -F, QEMU's kdump-*): records of a file that was to be written out of order, one after the other.

A header of 4096 bytes: "makedumpfile", type and version (u64, both 1). Then records, all big endian: offset i64, size i64, data;
the end is -1, -1. Where records overlap the later one counts; what none has is zero. Source: makedumpfile.h, print_info.h.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.layer import Layer, check_depth
from vmcorefs.image.source import Container, Source

MAGIC = b"makedumpfile\0\0\0\0"
_HEADER_SIZE = 4096
_TYPES = struct.Struct(">QQ")
_RECORD = struct.Struct(">qq")
_STRIDE = 32  # of a chain's own records from one mark to the next
_FOREIGN = 96  # records of all chains from one mark to the next
_CHAINS_LIMIT = 1 << 15
_OVERLAYS_LIMIT = 256
_SIZE_LIMIT = 1 << 47  # of the file inside


class _Chain:
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


class _Records:
    """All records of a flattened file as chains: *chains* do not overlap; *overlays*, oldest first, overlap them or each other."""

    def __init__(self, file: Source):
        self.file = file
        self.chains: list[_Chain] = []  # by start
        self.overlays: list[_Chain] = []
        self._starts: list[int] = []
        self._by_end: dict[int, _Chain] = {}
        self.incomplete = self._walk()

    def _walk(self) -> str | None:
        """Look at every record; in words why the last one is not the end, if so."""
        file, position, number = self.file, _HEADER_SIZE, 0
        buffer = memoryview(bytearray(_RECORD.size))
        while True:
            if position + _RECORD.size > file.size:
                return f"the flattened file ends at {file.size:#x} without an end record"
            try:
                file.preadinto(buffer, position)
            except OldmemReadError as error:
                return f"a record of the flattened file cannot be read: {error}"
            offset, size = _RECORD.unpack(buffer)
            if offset == size == -1:
                return None
            if offset < 0 or size <= 0 or offset + size > _SIZE_LIMIT:
                raise ImageError(f"{file.name}: damaged flattened dump: the record at {position:#x} says {size:#x} bytes at {offset:#x}; "
                                 "copy it again")
            following = position + _RECORD.size + size
            if position + _RECORD.size < file.size:
                self._add(offset, size - max(following - file.size, 0), position, number)
            if following > file.size:
                return f"the flattened file is cut off at {file.size:#x}, within a record"
            position, number = following, number + 1

    def _add(self, start: int, size: int, place: int, number: int) -> None:
        end = start + size
        index = bisect_right(self._starts, start)
        chain = self._by_end.get(start)
        free = (index == len(self._starts) or end <= self._starts[index]) and (index == 0 or self.chains[index - 1].end <= start)
        if not free or (self.overlays and any(o.start < end and start < o.end for o in self.overlays)):
            chain = self._overlay(start, place)
        elif chain is None:
            chain = _Chain(start)
            self.chains.insert(index, chain)
            self._starts.insert(index, start)
            self._check(len(self.chains) <= _CHAINS_LIMIT, place)
            self._by_end[end] = chain
        else:
            del self._by_end[start]
            self._by_end[end] = chain
        chain.add(size, place, number)

    def _overlay(self, start: int, place: int) -> _Chain:
        if not self.overlays or self.overlays[-1].end != start:
            self.overlays.append(_Chain(start))
            self._check(len(self.overlays) <= _OVERLAYS_LIMIT, place)
        return self.overlays[-1]

    def _check(self, good: bool, place: int) -> None:  # noqa: FBT001
        if not good:
            raise ImageError(f"{self.file.name}: the flattened dump is in too many pieces (at {place:#x}); rebuild it: "
                             f"makedumpfile -R DUMP < {self.file.name}")


class FlattenedFile(Layer):
    """The file inside, with random access. *incomplete*: the end record is missing, so what no record has is missing, too."""

    def __init__(self, file: Source):
        records = _Records(file)
        self.incomplete = records.incomplete
        self._records = file
        self._chains = [*records.chains, *records.overlays]
        self._starts, self._ends, self._which = array("Q"), array("Q"), array("L")
        for start, end, number in _without_overlaps(self._chains):
            self._starts.append(start)
            self._ends.append(end)
            self._which.append(number)
        super().__init__([file], self._ends[-1] if self._ends else 0, Container())

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        want, done = len(view), 0
        if want and not 0 <= offset < self.size:
            raise self._gap_error(offset)
        index = bisect_right(self._starts, offset) - 1
        while done < want:
            at = offset + done
            if index + 1 < len(self._starts) and at >= self._starts[index + 1]:
                index += 1
            try:
                if index >= 0 and at < self._ends[index]:
                    count = min(want - done, self._ends[index] - at)
                    self._read_chain(view[done:done + count], self._chains[self._which[index]], at, salvage=salvage)
                else:
                    if self.incomplete or at >= self.size:
                        raise self._gap_error(at)
                    count = min(want - done, self._starts[index + 1] - at)
                    view[done:done + count] = bytes(count)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += count

    def _gap_error(self, offset: int) -> OldmemReadError:
        words = f" ({self.incomplete})" if self.incomplete else ""
        return OldmemReadError(self.path, offset, f"no record of the flattened file has this part of the dump{words}", kind="missing")

    def _read_chain(self, view: memoryview, chain: _Chain, offset: int, *, salvage: bool) -> None:
        """Fill *view* from *offset* of the file inside, out of *chain*, which has all of it."""
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
                            self._records.preadinto(view[done:done + count], place + _RECORD.size + skip, salvage=salvage)
                        except OldmemReadError as error:
                            raise error.moved(good=done + error.good) from error.__cause__
                        done += count
                    inside += size
                place += _RECORD.size + size
            mark += 1

    def _record(self, place: int) -> tuple[int, int]:
        header = self._records.pread(_RECORD.size, place)
        start, size = _RECORD.unpack(header)
        if size <= 0:
            raise OldmemReadError(self.path, place, "the record here is another one than when the dump was opened")
        return start, size


def _without_overlaps(chains: list[_Chain]) -> list[tuple[int, int, int]]:
    """(start, end, number) sorted and disjoint; where chains overlap the later one counts."""
    order = sorted(range(len(chains)), key=lambda number: chains[number].start)
    borders = sorted({border for chain in chains for border in (chain.start, chain.end)})
    pieces: list[tuple[int, int, int]] = []
    active: list[int] = []  # a heap of negative numbers: the latest chain first
    following = 0
    for start, end in pairwise(borders):
        while following < len(order) and chains[order[following]].start <= start:
            heappush(active, -order[following])
            following += 1
        while active and chains[-active[0]].end <= start:
            heappop(active)
        if not active:
            continue
        if pieces and pieces[-1][2] == -active[0] and pieces[-1][1] == start:
            pieces[-1] = (pieces[-1][0], end, -active[0])
        else:
            pieces.append((start, end, -active[0]))
    return pieces


def from_file(file: Source) -> Source:
    """The dump in the flattened *file*, which is recognised in turn. Raises ImageError."""
    from vmcorefs.image import recognise

    try:
        kind, version = _TYPES.unpack(file.pread(_TYPES.size, len(MAGIC)))
    except OldmemReadError as error:
        raise ImageError(f"{file.name}: the flattened dump ends within its header, at {error.offset:#x}; copy it again") from error
    if (kind, version) != (1, 1):
        raise ImageError(f"{file.name}: a flattened makedumpfile dump of type {kind:#x}, version {version:#x} (at offset 0x10); only "
                         "type 1, version 1 is known")
    check_depth(file)
    inside = FlattenedFile(file)
    if not inside.size:
        raise ImageError(f"{file.name}: the flattened dump is empty ({inside.incomplete or 'it has no record but its end'}); copy it again")
    opened = recognise(inside)
    words = [text for text in (inside.incomplete, opened.container.incomplete) if text]
    opened.container = replace(opened.container, detail=f"{opened.container.detail}, flattened", incomplete="; ".join(words) or None)
    return opened
