"""SegmentSource: a Source whose memory lies in pieces of files; one flat table, a bisect, and a read straight into the caller's view.

For containers that keep memory as it is. The table has no object a segment: a dump may have a million of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Protocol

from vmcorefs.errors import OldmemReadError, ReadErrorKind
from vmcorefs.image.source import Absence, Container, Source, sum_up

_ZERO_BLOCK = memoryview(bytes(1 << 16))
NO_MEMORY = "the dump has no memory at this address"


class Reader(Protocol):
    """Where bytes come from: a Source (a file) or anything else that fills a view from an offset of its own."""

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source.preadinto."""


class Zeros:
    """Memory that the format defines as zero where it is not stored."""

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """Zeros, whatever the offset."""
        step = len(_ZERO_BLOCK)
        for at in range(0, len(view), step):
            part = view[at:at + step]
            part[:] = _ZERO_BLOCK[:len(part)]


class Nothing:
    """Addresses whose bytes are not in the dump: every read is an error that says why. Offset = address."""

    def __init__(self, path: str, kind: ReadErrorKind, cause: str):
        self.path = path
        self.kind: ReadErrorKind = kind
        self.cause = cause

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """Raises OldmemReadError."""
        if len(view):
            raise OldmemReadError(self.path, offset, self.cause, kind=self.kind)


class SegmentSource(Source):
    """*segments*: (start, end, reader, offset), sorted and disjoint: [start, end) are the bytes of *reader* from *offset* on.

    An address in no segment reads as *hole* says (default: missing), from *size* on (default: the last segment's end) it is
    missing in any case. *file*: the file behind it, and the files of *files*, which are closed with it.
    """

    def __init__(self, file: Source, segments: Iterable[tuple[int, int, Reader, int]], container: Container, *,
                 size: int | None = None, hole: Reader | None = None, files: Iterable[Source] = ()):
        self._owned = (file, *(other for other in files if other is not file))
        self.path, self.name, self.mtime_ns, self.identity = file.path, file.name, file.mtime_ns, file.identity
        self.files = tuple(opened for source in self._owned for opened in source.files)
        self.container = container
        self._starts, self._ends, self._offsets, self._which = array("Q"), array("Q"), array("Q"), array("I")
        self._readers: list[Reader] = []
        numbers: dict[int, int] = {}
        position = 0
        for start, end, reader, offset in segments:
            assert position <= start < end, "segments are sorted and disjoint"
            position = end
            number = numbers.setdefault(id(reader), len(self._readers))
            if number == len(self._readers):
                self._readers.append(reader)
            self._starts.append(start)
            self._ends.append(end)
            self._offsets.append(offset)
            self._which.append(number)
        self.size = position if size is None else size
        self._hole: Reader = Nothing(self.path, "missing", NO_MEMORY) if hole is None else hole
        self._beyond = Nothing(self.path, "missing", f"beyond the end of its memory at {self.size:#x}")

    @property
    def fd(self) -> int:
        """See Source."""
        return self._owned[0].fd

    def close(self) -> None:
        """See Source."""
        for source in self._owned:
            source.close()

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        want, done = len(view), 0
        index = bisect_right(self._starts, offset) - 1
        if index >= 0 and offset + want <= self._ends[index]:  # most reads lie in one segment
            self._readers[self._which[index]].preadinto(view, self._offsets[index] + offset - self._starts[index], salvage=salvage)
            return
        while done < want:
            if index >= 0 and offset < self._ends[index]:
                size = min(want - done, self._ends[index] - offset)
                reader, source = self._readers[self._which[index]], self._offsets[index] + offset - self._starts[index]
            elif offset < self.size:
                size = min(want - done, self.size - offset)
                if index + 1 < len(self._starts):
                    size = min(size, self._starts[index + 1] - offset)
                reader, source = self._hole, offset
            else:
                size, reader, source = want - done, self._beyond, offset
            try:
                reader.preadinto(view if size == want else view[done:done + size], source, salvage=salvage)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += size
            offset += size
            if index + 1 < len(self._starts) and offset >= self._starts[index + 1]:
                index += 1

    def absences(self) -> tuple[Absence, ...]:
        """See Source."""
        below = (absence._replace(first=None) for source in self._owned for absence in source.absences())
        return sum_up((*self._absent_segments(), *below))

    def _absent_segments(self) -> Iterator[Absence]:
        for start, end, offset, which in zip(self._starts, self._ends, self._offsets, self._which, strict=True):
            reader = self._readers[which]
            if isinstance(reader, Nothing):
                yield Absence(reader.kind, end - start, start)
            elif isinstance(reader, Source) and offset + end - start > reader.size:
                there = max(reader.size - offset, 0)
                yield Absence("missing", end - start - there, start + there)

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source: zeros and absent bytes are left out; what lies side by side is one part."""
        index = max(bisect_right(self._starts, position) - 1, 0)
        begin = stop = -1
        while index < len(self._starts) and self._starts[index] < end:
            first, last = max(self._starts[index], position), min(self._ends[index], end)
            if first < last:
                a, e = self._data_of(index, first, last)
                if begin >= 0 and a > stop:
                    break
                if a < e:
                    begin, stop = (a if begin < 0 else begin), e
                    if e < last:
                        break
            index += 1
        return (begin, stop) if begin >= 0 else (end, end)

    def _data_of(self, index: int, first: int, last: int) -> tuple[int, int]:
        reader = self._readers[self._which[index]]
        if isinstance(reader, (Zeros, Nothing)):
            return last, last
        if isinstance(reader, Source):
            shift = self._starts[index] - self._offsets[index]
            a, e = reader.next_data(first - shift, last - shift)
            return a + shift, e + shift
        return first, last
