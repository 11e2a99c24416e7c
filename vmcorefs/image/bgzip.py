"""bgzip (BGZF): gzip members of at most 64 KiB, each with its own compressed size in an extra field. A block here is 16 of them.

Source: SAM/BAM specification, section 4.1.
"""

from __future__ import annotations

import struct
import zlib
from typing import NoReturn

from vmcorefs.errors import ImageError
from vmcorefs.image.blocked import BlockFile, BlockTable, check_blocks, open_inside
from vmcorefs.image.blocks import DamagedBlockError, Decoder
from vmcorefs.image.source import Source

MAGIC = b"\x1f\x8b\x08\x04"
# offset size: 0 4 magic, 4 6 time and more, 10 2 bytes of extra fields, 12 2 "BC", 14 2 its size 2, 16 2 BSIZE: bytes of the member - 1
_HEADER = struct.Struct("<4s6xH2sHH")
_TRAILER = struct.Struct("<II")  # CRC-32, unpacked size
_TOGETHER = 16  # members
_EMPTY_LIMIT = 1 << 16
_MEMBER_LIMIT = 1 << 16  # bytes that a member unpacks to
_UNPACK = "gzip -dc"


def _member_size(header: bytes) -> int | None:
    """Bytes of the member that begins with *header*, or None if it is none of bgzip."""
    magic, extra, name, size, less_one = _HEADER.unpack(header)
    if magic != MAGIC or (name, size) != (b"BC", 2) or extra != 6 or less_one + 1 < _HEADER.size + _TRAILER.size:
        return None
    return int(less_one) + 1


class _Members(Decoder):
    """Members one behind the other."""

    what = "bgzip"

    def _decode(self, size: int) -> bytes:
        parts, done, place = [], 0, self.start
        while done < size:
            length = _member_size(self.file.pread(_HEADER.size, place)) or 0
            data = self.file.pread(length, place) if length else b""
            unpacker = zlib.decompressobj(-15)
            try:
                part = unpacker.decompress(memoryview(data)[_HEADER.size:-_TRAILER.size], _MEMBER_LIMIT + 1)
            except zlib.error as error:
                self._bad(place, str(error))
            if not length or not unpacker.eof or _TRAILER.unpack(data[-_TRAILER.size:]) != (zlib.crc32(part), len(part)):
                self._bad(place, "its checksum or size is wrong")
            parts.append(part)
            done += len(part)
            place += length
        if done > size:
            self.broken("more bytes come out of them than should")
        return b"".join(parts)

    def _bad(self, place: int, words: str) -> NoReturn:
        raise DamagedBlockError(self.file.path, place, f"damaged bgzip data: the block here: {words}")

    def _finish(self) -> None:
        """All was checked."""


def from_file(file: Source) -> Source:
    """The memory in what a bgzip file has in it. Raises ImageError."""
    table, place, first, members, empty, incomplete = BlockTable(), 0, 0, 0, 0, None
    header = file.read_some(_HEADER.size, 0)
    while place < file.size:
        length = _member_size(header) if len(header) == _HEADER.size else None
        # the unpacked size of this member, and the next one's header
        row = file.read_some(4 + _HEADER.size, place + length - 4) if length else b""
        header = row[4:]
        if length is None or len(row) < 4:
            incomplete = f"no block of bgzip is at {place:#x}, which was {first:#x} unpacked; what came behind is missing"
            break
        size = int.from_bytes(row[:4], "little")
        if size > _MEMBER_LIMIT:
            raise ImageError(f"{file.name}: damaged bgzip file: the block at {place:#x} would unpack to {size:#x} bytes "
                             f"({_MEMBER_LIMIT:#x} are possible)")
        if members % _TOGETHER == 0 and size:
            table.add(place, first)
            check_blocks(file, table.count, first, _UNPACK)
        members, empty = members + (size > 0), empty + (size == 0)
        if empty > _EMPTY_LIMIT:
            check_blocks(file, empty, 0, _UNPACK)
        place, first = place + length, first + size
    if not first:
        raise ImageError(f"{file.name}: nothing is in this bgzip file{f' ({incomplete})' if incomplete else ''}")
    table.add(place, first)

    def open_members(number: int) -> Decoder:
        return _Members(file, table.places[number], table.places[number + 1], table.firsts[number + 1] - table.firsts[number])
    return open_inside(BlockFile(file, table, open_members), f"bgzip of {members} blocks", incomplete)
