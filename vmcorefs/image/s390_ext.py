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
from vmcorefs.image.shell import Printed, advised, free_name, plain_of, quoted
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
                place, _, plain = self._entry(segment, entry)
                if plain:
                    self.file.preadinto(view[done:done + count], place + skip, salvage=salvage)
                else:
                    self._blocks.preadinto(view[done:done + count], start // MIB, size, skip)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += count

    def _entry(self, segment: int, entry: int) -> tuple[int, int, bool]:
        """(begin and end of its room in the file, whether it is stored plain).

        The tool writes one entry behind the other (zipl/boot/eckd2dump_zlib.c), so each ends where the next one begins, the last one
        with the segment's data; a plain one fills its room.
        """
        header, blocks = self._headers[segment], self._sizes[segment]
        size = self._ends[segment] - self._starts[segment]
        where = header + _ENTRIES + 4 * entry
        last = (entry + 1) * MIB >= size
        data = self.file.pread(8 if last else 12, where - 4)
        before = int.from_bytes(data[:4], "big") & ~_PLAIN if entry else -1
        value = int.from_bytes(data[4:8], "big")
        block, plain = value & ~_PLAIN, bool(value & _PLAIN)
        end = blocks if last else int.from_bytes(data[8:], "big") & ~_PLAIN
        if not before < block < end <= blocks or (block and not entry):
            raise OldmemReadError(self.file.path, where, f"damaged segment header: the data of a compressed MiB would begin in block "
                                  f"{block:#x} of {blocks:#x}, those of the one before it in {max(before, 0):#x}, of the next one in "
                                  f"{end:#x}")
        need = -(-min(MIB, size - entry * MIB) // PAGE_SIZE)
        if plain and end - block != need:
            raise OldmemReadError(self.file.path, where, f"damaged segment header: {need:#x} blocks are said to be stored plain in a room "
                                  f"of {end - block:#x}")
        place = header + PAGE_SIZE
        return place + block * PAGE_SIZE, place + end * PAGE_SIZE, plain

    def _size_of(self, block: int) -> int:
        """Bytes that a compressed entry unpacks to; 0 for what is none: decoding it ahead brings nothing."""
        segment = bisect_right(self._starts, block * MIB) - 1
        if segment < 0 or block * MIB >= self._ends[segment]:
            return 0
        try:
            plain = self._entry(segment, (block * MIB - self._starts[segment]) // MIB)[2]
        except OldmemReadError:  # who reads there is told
            return 0
        return 0 if plain else min(MIB, self._ends[segment] - block * MIB)

    def _open(self, block: int) -> Decoder:
        segment = bisect_right(self._starts, block * MIB) - 1
        place, end, _ = self._entry(segment, (block * MIB - self._starts[segment]) // MIB)
        return Inflater(self.file, place, end, min(MIB, self._ends[segment] - block * MIB))


class _Chain:
    """The segments, followed from the first on.

    Memory that no segment has is zero by the format's definition. But that they are all is said by the last one's stop marker and the
    end marker behind it, and that there is memory by the header up to *proven*: without that what lies behind the last is missing.
    """

    def __init__(self, file: Source, memory_size: int, proven: int):
        self.file = file
        self.memory_size = memory_size
        self.zero_end = proven
        self.why_missing = "no segment has this memory, and the header contradicts itself on whether it exists (offsets 0x18, 0x28, 0x30)"
        self.entries = _Entries(file)
        self.starts, self.ends, self.offsets = array("Q"), array("Q"), array("Q")  # offset 0: compressed
        self.end = 0  # of the last segment in memory
        self.incomplete: str | None = None
        self.position = HEADER_SIZE  # behind what was followed
        self._follow()
        if self.incomplete:
            self.zero_end, self.why_missing = self.end, f"the dump is incomplete: {self.incomplete}"
        self.zero_end = max(self.zero_end, self.end)

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
        entries = -(-size // MIB)
        if count and not blocks:
            return (f"it has {count} compressed entries (entry_count at offset {self.position + 0x30:#x}) of no size (size_on_disk at "
                    f"{self.position + 0x18:#x} is 0)")
        if blocks and (count != entries or not entries <= min(blocks, _ENTRIES_LIMIT)):
            return (f"it has {count} compressed entries (entry_count at offset {self.position + 0x30:#x}) in {blocks:#x} blocks "
                    f"(size_on_disk at {self.position + 0x18:#x}) for {size:#x} bytes, which are {entries}")
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

    def without_end(self, words: str) -> str:
        """There is no right end marker behind the last segment, as *words* say: so it may not be the last."""
        self.zero_end, self.why_missing = self.end, f"no segment has this memory, and {words}"
        return f"{words}; memory from {self.end:#x} on is missing" if self.end < self.memory_size else words

    def segments(self) -> Iterator[tuple[int, int, Reader, int]]:
        """For a SegmentSource."""
        for start, end, offset in zip(self.starts, self.ends, self.offsets, strict=True):
            if offset:
                yield start, end, self.file, offset
            else:
                yield start, end, self.entries, start
        if self.zero_end < self.memory_size:
            yield self.zero_end, self.memory_size, Nothing(self.file.path, "missing", self.why_missing), self.zero_end


def _is_tape(file: Source, memory_size: int) -> bool:
    """Whether these are the records of a tape, one behind the other: the same magic, but all of memory as it is."""
    return any(file.read_some(8, HEADER_SIZE + size) == b"DUMP_END" for size in (memory_size, round_up(memory_size, _TAPE_BLOCK)))


def _without_header(file: Source, pages: int) -> str:
    """The command that copies the memory behind the header."""
    command = f"dd bs=4096 skip=1 count={pages} iflag=fullblock of={quoted(free_name('RAW'))}"
    return f"{file.printed_by} | {command}" if isinstance(file, Printed) else f"{command} if={quoted(plain_of(file))}"


def from_file(file: Source) -> Source:
    """The memory in an s390_ext dump on one volume. Raises ImageError."""
    header = Header(file, range(1, 3))
    if header.several:
        raise ImageError(f"{file.name}: volume {header.volume} of an s390 dump on several volumes (offset 0x5c), which is not read yet; "
                         + advised("where all its volumes are, zgetdump joins them, given any of them: zgetdump -f elf /dev/dasdX > {elf}",
                                   file))
    chain = _Chain(file, header.mem_size, header.proven)
    missing, doubtful = (chain.incomplete, None) if chain.incomplete else header.check_end(file, chain.position)
    if not chain.incomplete:
        missing, doubtful = missing and chain.without_end(missing), doubtful and chain.without_end(doubtful)
    if missing and _is_tape(file, header.mem_size):
        raise ImageError(f"{file.name}: an s390 dump off a tape, whose records were joined; behind its header it is plain memory: "
                         + _without_header(file, header.mem_size // PAGE_SIZE))
    if not chain.starts and (missing or doubtful):
        raise ImageError(f"{file.name}: an s390_ext dump without memory: {missing or doubtful}; the dump was not finished")
    incomplete = ([missing] if missing else []) + header.partial()
    problems = header.problems + header.prefix_problems() + ([doubtful] if doubtful else [])
    if header.proven < header.mem_size:
        problems.append(f"memory from {max(header.proven, chain.end):#x} on that no segment has is missing, not zero")
    compressed = "with zlib segments" if 0 in chain.offsets else "not compressed"
    return SegmentSource(file, chain.segments(), Container(
        format="s390_ext", detail=f"s390 stand-alone dump, extended, version {header.version}, {compressed}",
        memory=(Range(0, header.mem_size),), prefixes=header.prefixes, incomplete="; ".join(incomplete) or None,
        problems=tuple(problems), time=header.time), size=header.mem_size, hole=Zeros())
