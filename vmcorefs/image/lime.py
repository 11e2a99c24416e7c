"""LiME: ranges of memory, each behind a header of 32 bytes with its addresses; and what AVML writes when it does not compress.

The kernel module writes the byte order of its machine, big endian on s390x; AVML writes little endian everywhere, cuts ranges to
16 MiB and leaves out those that are all zero. There is no end mark: the first thing that is no header ends the list. Both copy what
a running kernel sees: the CPU that copied had its prefix page and page 0 exchanged. Sources: LiME doc/README.md, src/lime.h; AVML
image.rs.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import replace

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.segments import Reader, SegmentSource, Zeros
from vmcorefs.image.source import ADDRESS_LIMIT, RANGES_LIMIT, Container, Source
from vmcorefs.image.trailing import trailing
from vmcorefs.ranges import Range

_MAGIC = {">": b"LiME", "<": b"EMiL"}
_HEADER_SIZE = 32  # u32 magic, u32 version, u64 first address, u64 last address, 8 zero bytes
_HEADERS_LIMIT = 1 << 20  # 16 TiB in AVML's blocks
_AVML_BLOCK = 16 << 20


def from_file(file: Source) -> Source:
    """The memory in a LiME file. Raises ImageError."""
    return _Opening(file).source()


class _Opening:
    """What is known while the headers are followed."""

    def __init__(self, file: Source):
        self.file = file
        self.order = ">" if file.head(4) == _MAGIC[">"] else "<"
        self.starts, self.ends, self.offsets = array("Q"), array("Q"), array("Q")
        self.incomplete: str | None = None
        self.problem: str | None = None

    def _error(self, text: str) -> ImageError:
        return ImageError(f"{self.file.name}: a LiME file, but {text}")

    def _follow(self) -> None:
        """All headers. The first one was recognised already."""
        position, size = 0, self.file.size
        while position < size and self.incomplete is None:
            header = self._header(position)
            if header is None:
                return
            first, last = header
            end = last + 1
            if first > last or end > ADDRESS_LIMIT:
                raise self._error(f"the header at {position:#x} says addresses {first:#x} to {last:#x}, which cannot be; it is damaged")
            if len(self.starts) == _HEADERS_LIMIT:
                raise self._error(f"it has more than {_HEADERS_LIMIT} ranges; the header at {position:#x} is damaged")
            position += _HEADER_SIZE
            self.starts.append(first)
            self.ends.append(end)
            self.offsets.append(position)
            position += end - first
        if position > size:
            have = self.starts[-1] + size - self.offsets[-1]
            self.incomplete = (f"the file is cut off: it ends at {size:#x} instead of {position:#x}; memory from address {have:#x} to "
                               f"{self.ends[-1]:#x} is missing, and whatever would have followed")

    def _header(self, position: int) -> tuple[int, int] | None:
        """(first, last address) by the header at *position*; None: there is none, the list ends here."""
        count = min(_HEADER_SIZE, self.file.size - position)
        try:
            header = self.file.pread(count, position)
        except OldmemReadError as error:
            raise self._error(f"the header at {position:#x} cannot be read: {error.cause}") from error
        start = _MAGIC[self.order] + struct.pack(self.order + "I", 1)
        if header[:len(start)] == start[:count]:
            if count == _HEADER_SIZE:
                first, last = struct.unpack_from(self.order + "QQ", header, len(start))
                return first, last
            if not self.starts:
                raise self._error(f"cut off inside its first header: it has {count:#x} bytes; copy it again")
            self.incomplete = f"the file is cut off inside the header at {position:#x}; what memory follows is not known"
            return None
        if self._damaged(position, header):
            raise self._error(f"no header of version 1 is at {position:#x}, where the range before it ends; one of its headers is damaged")
        self.problem = trailing(self.file, position, "header of version 1")
        if self.problem and not header.strip(b"\0"):
            self.incomplete = f"zeros are at {position:#x}, where the next header should be: the rest was never written"
            self.problem = None
        return None

    def _damaged(self, position: int, header: bytes) -> bool:
        """Whether *header* at *position*, which is none, was one, or the right place of one is a bit of an address away."""
        if header[:4] in _MAGIC.values():
            return True
        if len(header) == _HEADER_SIZE:
            version, first, last, pad = struct.unpack_from(self.order + "IQQQ", header, 4)
            if version == 1 and not pad and first <= last < ADDRESS_LIMIT:
                return True
        begin = self.offsets[-1] if self.offsets else 0
        start = _MAGIC[self.order] + struct.pack(self.order + "I", 1)
        bits = (1 << n for n in range(ADDRESS_LIMIT.bit_length()))
        places = (place for bit in bits for place in (position - bit, position + bit) if begin <= place <= self.file.size - _HEADER_SIZE)
        return any(self.file.read_some(len(start), place) == start for place in places)

    def _in_order(self) -> Iterator[int]:
        starts = self.starts
        if all(starts[i] < starts[i + 1] for i in range(len(starts) - 1)):
            yield from range(len(starts))
            return
        mask = _HEADERS_LIMIT - 1
        keys = [(starts[i] << 20) | i for i in range(len(starts))]
        keys.sort()
        for key in keys:
            yield key & mask

    def _segments(self, memory: list[Range]) -> Iterator[tuple[int, int, Reader, int]]:
        end = 0
        for i in self._in_order():
            if self.starts[i] < end:
                raise self._error(f"the range of the header at {self.offsets[i] - _HEADER_SIZE:#x}, which begins at address "
                                  f"{self.starts[i]:#x}, overlaps another one; one of them is damaged")
            start, end = self.starts[i], self.ends[i]
            yield start, end, self.file, self.offsets[i]
            if memory and memory[-1].end == start:
                memory[-1] = Range(memory[-1].start, end)
            else:
                memory.append(Range(start, end))
            if len(memory) > RANGES_LIMIT:
                raise self._error(f"it has more than {RANGES_LIMIT} separate ranges of memory; it is damaged")

    def source(self) -> Source:
        """The opened file."""
        self._follow()
        avml = self.order == "<" and all(e - s <= _AVML_BLOCK for s, e in zip(self.starts, self.ends, strict=True))
        memory: list[Range] = []
        writer = "AVML" if avml else "LiME"
        source = SegmentSource(self.file, self._segments(memory), Container(
            format="lime", writer=writer, incomplete=self.incomplete,
            problems=(self.problem,) if self.problem else (),
            detail=f"{writer} file of {len(self.starts)} ranges; copied from a running system"), hole=Zeros() if avml else None)
        if not avml:
            source.container = replace(source.container, memory=tuple(memory))
        return source
