"""OldMemory: which byte of which file holds absolute address A of the crashed system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.source import Source
from vmcorefs.ranges import find

ADDRESS_END = 1 << 64


class Segment(NamedTuple):
    """Absolute addresses [start, end) are the bytes of *file* from *offset* on. *kind*: direct, swapped, prefixed or HSA."""

    start: int
    end: int
    file: Source
    offset: int
    kind: str


class OldMemory:
    """The crashed system's memory by absolute address: segments that rise, touch and cover all 64 bits.

    What is beyond the end of a file has a segment, too; reading it is an OldmemReadError. Thread safe.
    """

    def __init__(self, segments: Sequence[Segment]):
        self.segments = tuple(s for s in segments if s.start < s.end)
        self._starts = [s.start for s in self.segments]
        assert self._starts[0] == 0 and self.segments[-1].end == ADDRESS_END
        assert all(a.end == b.start for a, b in pairwise(self.segments))

    def read(self, address: int, size: int) -> bytes:
        """Exactly *size* bytes at absolute *address*. Raises OldmemReadError, also where address + size wraps."""
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        for segment, start, end in self.pieces(address, address + size):
            try:
                segment.file.preadinto(view[done:done + end - start], segment.offset + start - segment.start)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good, address=start + error.good) from error
            done += end - start
        return bytes(buffer)

    def pieces(self, start: int, end: int) -> Iterator[tuple[Segment, int, int]]:
        """(segment, a, e) for the consecutive parts [a, e) of [start, end). One translation holds in each of them."""
        if start < 0 or end > ADDRESS_END:
            file = self.segments[0].file
            raise OldmemReadError(file.path, file.size, f"absolute addresses {start:#x}..{end:#x} do not fit into 64 bits",
                                  address=start)
        index = find(self._starts, start)
        while start < end:
            segment = self.segments[index]
            stop = min(end, segment.end)
            yield segment, start, stop
            start, index = stop, index + 1

    def scan(self, start: int, end: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) over [start, end), see Source.scan; a piece does not reach over the end of a segment."""
        for segment, a, e in self.pieces(start, end):
            shift = segment.start - segment.offset
            for offset, data in segment.file.scan(a - shift, e - shift, overlap=overlap):
                yield offset + shift, data
