"""s390_ext stand-alone dumps (magic ...23fe): segments of memory, plain or in zlib entries of 1 MiB; what is in none is zero.

What the dump tools write since s390-tools 2.4. Sources: s390-tools include/dump/s390_dump.h, zipl/boot/dump.c, eckd2dump.c.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.blocks import Blocks, Decoder, Inflater
from vmcorefs.image.page_cache import PageCache
from vmcorefs.image.s390 import HEADER_SIZE, Header
from vmcorefs.image.segments import Nothing, Reader, SegmentSource, Zeros
from vmcorefs.image.source import Container, Source
from vmcorefs.quantities import MIB, PAGE_SIZE, round_up
from vmcorefs.ranges import Range

# segment header, one page:
# offset size field                     offset size field
#  0x00   8   start, absolute            0x18   4   size_on_disk: blocks of 4 KiB of compressed data, 0 = plain
#  0x08   8   len, bytes of memory       0x30   4   entry_count
#  0x10   8   stop_marker, last segment  0x34   4n  entry_offset[]: in blocks from the data's begin; bit 31: stored plain
_SEGMENT = struct.Struct(">QQQI20xI")
_ENTRIES = 0x34
_ENTRIES_LIMIT = (PAGE_SIZE - _ENTRIES) // 4
_PLAIN = 0x80000000
_SEGMENTS_LIMIT = 1 << 20
_TAPE_BLOCK = 0x8000


class _Entries:
    """The memory of all compressed segments; offset = address. A block is an entry, numbered by its MiB."""

    def __init__(self, file: Source):
        self.file = file
        self._starts, self._ends, self._headers, self._sizes = array("Q"), array("Q"), array("Q"), array("L")
        self._blocks = Blocks(PageCache(), self._open, size_of=self._size_of)

    def add(self, start: int, end: int, header: int, blocks: int) -> None:
        """A segment whose header is at *header*, with *blocks* blocks of data."""
        self._starts.append(start)
        self._ends.append(end)
        self._headers.append(header)
        self._sizes.append(blocks)

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        done, want = 0, len(view)
        while done < want:
            segment = bisect_right(self._starts, offset + done) - 1
            entry, skip = divmod(offset + done - self._starts[segment], MIB)
            start = self._starts[segment] + entry * MIB
            size = min(MIB, self._ends[segment] - start)
            count = min(want - done, size - skip)
            try:
                place, plain = self._entry(segment, entry)
                if plain:
                    self.file.preadinto(view[done:done + count], place + skip, salvage=salvage)
                else:
                    self._blocks.preadinto(view[done:done + count], start // MIB, size, skip)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += count

    def _entry(self, segment: int, entry: int) -> tuple[int, bool]:
        """(offset in the file, whether it is stored plain)."""
        header = self._headers[segment]
        where = header + _ENTRIES + 4 * entry
        data = self.file.pread(8, where - 4)
        before = int.from_bytes(data[:4], "big") & ~_PLAIN if entry else -1
        value = int.from_bytes(data[4:], "big")
        block = value & ~_PLAIN
        if not before < block < self._sizes[segment] or (block and not entry):
            raise OldmemReadError(self.file.path, where, f"damaged segment header: the data of a compressed MiB would begin in block "
                                  f"{block:#x} of {self._sizes[segment]:#x}, those of the one before it in {max(before, 0):#x}")
        return header + PAGE_SIZE + block * PAGE_SIZE, bool(value & _PLAIN)

    def _size_of(self, block: int) -> int:
        """Bytes that a compressed entry unpacks to; 0 for what is none: decoding it ahead brings nothing."""
        segment = bisect_right(self._starts, block * MIB) - 1
        if segment < 0 or block * MIB >= self._ends[segment]:
            return 0
        try:
            plain = self._entry(segment, (block * MIB - self._starts[segment]) // MIB)[1]
        except OldmemReadError:  # who reads there is told
            return 0
        return 0 if plain else min(MIB, self._ends[segment] - block * MIB)

    def _open(self, block: int) -> Decoder:
        segment = bisect_right(self._starts, block * MIB) - 1
        place, _ = self._entry(segment, (block * MIB - self._starts[segment]) // MIB)
        end = self._headers[segment] + PAGE_SIZE + self._sizes[segment] * PAGE_SIZE
        return Inflater(self.file, place, end, min(MIB, self._ends[segment] - block * MIB))


class _Chain:
    """The segments, followed from the first on."""

    def __init__(self, file: Source, memory_size: int):
        self.file = file
        self.memory_size = memory_size
        self.entries = _Entries(file)
        self.starts, self.ends, self.offsets = array("Q"), array("Q"), array("Q")  # offset 0: compressed
        self.end = 0  # of the last segment in memory
        self.incomplete: str | None = None
        self.position = HEADER_SIZE  # behind what was followed
        self._follow()

    def _follow(self) -> None:
        while True:
            try:
                header = self.file.pread(_SEGMENT.size, self.position)
            except OldmemReadError as error:
                words = "the file ends" if error.kind == "missing" else "the dump cannot be read"
                self._stop(f"{words} at {error.offset:#x}, where the next segment's header should be ({error.cause})")
                return
            start, size, stop, blocks, count = _SEGMENT.unpack(header)
            wrong = self._wrong(start, size, stop, blocks, count)
            if wrong:
                self._stop(f"no segment's header is at {self.position:#x}: {wrong}")
                return
            data = blocks * PAGE_SIZE or size
            if size:
                self._add(start, start + size, self.position, blocks)
                if self.position + PAGE_SIZE + data > self.file.size:
                    self._cut(start, size, blocks)
                    return
            self.position += PAGE_SIZE + data
            if stop:
                return

    def _wrong(self, start: int, size: int, stop: int, blocks: int, count: int) -> str | None:
        end = start + size
        if not size:
            return None if stop and not blocks else "its length is 0"
        if start % MIB or (size % MIB and end != self.memory_size):
            return f"its memory {start:#x}-{end:#x} is not in whole MiB"
        if start < self.end:
            return f"its memory begins at {start:#x}, before the end of the segment before it at {self.end:#x}"
        if end > self.memory_size:
            return f"its memory ends at {end:#x}, that of the dump at {self.memory_size:#x}"
        if blocks and (count > _ENTRIES_LIMIT or count != -(-size // MIB)):
            return f"it has {count} compressed entries for {size:#x} bytes"
        if len(self.starts) == _SEGMENTS_LIMIT:
            return f"there are more than {_SEGMENTS_LIMIT} segments"
        return None

    def _add(self, start: int, end: int, header: int, blocks: int) -> None:
        if blocks:
            self.entries.add(start, end, header, blocks)
        self.starts.append(start)
        self.ends.append(end)
        self.offsets.append(0 if blocks else header + PAGE_SIZE)
        self.end = end

    def _cut(self, start: int, size: int, blocks: int) -> None:
        have = self.file.size - self.position - PAGE_SIZE
        if blocks:
            self.incomplete = (f"the file is cut off at {self.file.size:#x}, within the compressed segment {start:#x}-{start + size:#x}; "
                               f"some memory of it, and all from {self.end:#x} on, is missing")
            return
        self.ends[-1] = self.end = start + max(have, 0)
        if self.end == start:
            for column in (self.starts, self.ends, self.offsets):
                column.pop()
        self._stop(f"the file is cut off at {self.file.size:#x}, within the segment {start:#x}-{start + size:#x}")

    def _stop(self, words: str) -> None:
        self.incomplete = f"{words}; memory from {self.end:#x} on is missing"

    def segments(self) -> Iterator[tuple[int, int, Reader, int]]:
        """For a SegmentSource."""
        for start, end, offset in zip(self.starts, self.ends, self.offsets, strict=True):
            if offset:
                yield start, end, self.file, offset
            else:
                yield start, end, self.entries, start
        if self.incomplete and self.end < self.memory_size:
            yield self.end, self.memory_size, Nothing(self.file.path, "missing", f"the dump is incomplete: {self.incomplete}"), self.end


def _is_tape(file: Source, memory_size: int) -> bool:
    """Whether these are the records of a tape, one behind the other: the same magic, but all of memory as it is."""
    return any(file.read_some(8, HEADER_SIZE + size) == b"DUMP_END" for size in (memory_size, round_up(memory_size, _TAPE_BLOCK)))


def from_file(file: Source) -> Source:
    """The memory in an s390_ext dump on one volume. Raises ImageError."""
    header = Header(file, range(1, 3))
    if header.several:
        raise ImageError(f"{file.name}: volume {header.volume} of an s390 dump on several volumes (offset 0x5c), which is not read yet; "
                         "zgetdump converts all of them together: zgetdump -f elf")
    chain = _Chain(file, header.mem_size)
    missing, doubtful = (chain.incomplete, None) if chain.incomplete else header.check_end(file, chain.position)
    if missing and _is_tape(file, header.mem_size):
        raise ImageError(f"{file.name}: an s390 dump off a tape, whose records were joined; behind its header it is plain memory: dd "
                         f"bs=4096 skip=1 count={header.mem_size // PAGE_SIZE} if={file.name} of=RAW")
    if not chain.starts and chain.incomplete:
        raise ImageError(f"{file.name}: an s390_ext dump without memory: {chain.incomplete}; the dump was not finished")
    incomplete = ([missing] if missing else []) + header.partial()
    problems = header.prefix_problems() + ([doubtful] if doubtful else [])
    compressed = "with zlib segments" if 0 in chain.offsets else "not compressed"
    return SegmentSource(file, chain.segments(), Container(
        format="s390_ext", detail=f"s390 stand-alone dump, extended, version {header.version}, {compressed}",
        memory=(Range(0, header.mem_size),), prefixes=header.prefixes, incomplete="; ".join(incomplete) or None,
        problems=tuple(problems), time=header.time), size=header.mem_size, hole=Zeros())
