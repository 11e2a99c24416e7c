"""VmcoreFile: the bytes of vmcore, read by pread on one flat table composed once at open."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from typing import NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.vmcore.merge import Merged


class Region(NamedTuple):
    """Bytes [start, end) of vmcore: the header region (*file* None) or *file* from *source* on, oldmem from *address* on."""

    start: int
    end: int
    kind: str
    file: Source | None
    source: int
    address: int | None


def compose(merged: Merged, memory: OldMemory) -> tuple[Region, ...]:
    """The flat table: header region, then every PT_LOAD's pages cut at the borders of the mapping."""
    regions = [Region(0, len(merged.header), "header", None, 0, None)]
    for placed in merged.placed:
        for segment, start, end in memory.pieces(placed.start, placed.end):
            offset = placed.offset + start - placed.start
            source = segment.offset + start - segment.start
            last = regions[-1]
            if last.file is segment.file and last.source + last.end - last.start == source and last.kind == segment.kind \
                    and last.address is not None and last.address + last.end - last.start == start:
                regions[-1] = last._replace(end=offset + end - start)
            else:
                regions.append(Region(offset, offset + end - start, segment.kind, segment.file, source, start))
    return tuple(regions)


class VmcoreFile(io.RawIOBase):
    """A read-only, seekable binary file. pread and preadinto are thread safe; the position of read and seek is not shared
    between objects, and one object's is for one thread.
    """

    def __init__(self, header: bytes, regions: tuple[Region, ...]):
        super().__init__()
        self.header = header
        self.regions = regions
        self.size = regions[-1].end
        self._header = memoryview(header)
        self._starts = [region.start for region in regions]
        self._position = 0

    def preadinto(self, buffer: bytearray | memoryview, offset: int, *, salvage: bool = True) -> int:
        """Fill *buffer* from *offset*; the count is smaller than its length only at the end of the file.

        Raises OldmemReadError if any of the bytes cannot be read; the bytes before the first bad one are then in the
        buffer, and ``error.good`` counts them (exactly with *salvage*, else a lower bound).
        """
        self._check_open()
        if offset < 0:
            raise ValueError(f"negative offset {offset}")
        view = memoryview(buffer)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        want = min(len(view), self.size - offset)
        if want <= 0:
            return 0
        index = bisect_right(self._starts, offset) - 1
        region = self.regions[index]
        done = 0
        while True:
            size = min(want - done, region.end - offset)
            if region.file is None:
                view[done:done + size] = self._header[offset:offset + size]
            else:
                try:
                    region.file.preadinto(view[done:done + size], region.source + offset - region.start, salvage=salvage)
                except OldmemReadError as error:
                    assert region.address is not None
                    raise error.moved(good=done + error.good,
                                      address=region.address + offset - region.start + error.good) from error.__cause__
            done += size
            if done == want:
                return done
            offset += size
            index += 1
            region = self.regions[index]

    def pread(self, size: int, offset: int) -> bytes:
        """*size* bytes at *offset*, fewer only at the end of the file. Raises OldmemReadError."""
        buffer = bytearray(max(0, min(size, self.size - offset)))
        self.preadinto(memoryview(buffer), offset)
        return bytes(buffer)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """io.RawIOBase: the good bytes before a bad one first, OldmemReadError where the first byte is bad."""
        try:
            count = self.preadinto(buffer, self._position)
        except OldmemReadError as error:
            if not error.good:
                raise
            count = error.good
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """io.RawIOBase."""
        self._check_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if start is None:
            raise ValueError(f"invalid whence {whence}")
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """io.RawIOBase."""
        self._check_open()
        return self._position

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readable(self) -> bool:
        """io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """io.RawIOBase."""
        return True
