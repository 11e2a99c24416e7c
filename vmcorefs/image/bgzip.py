"""bgzip (BGZF): gzip members of at most 64 KiB, each with its own compressed size in an extra field. A block here is 16 of them.

Source: SAM/BAM specification, section 4.1. bgzip fills all members of a file equally (0xff00 bytes), but for the last one: where a
member's unpacked size is another, an error in it would shift all that is behind, and so it is unpacked when the file is opened.
"""

from __future__ import annotations

import struct
import zlib
from typing import NoReturn

from vmcorefs.errors import ImageError
from vmcorefs.image.blocked import BlockFile, BlockTable, check_blocks, open_inside, unpack
from vmcorefs.image.blocks import DamagedBlockError, Decoder
from vmcorefs.image.source import Source
from vmcorefs.image.trailing import trailing

MAGIC = b"\x1f\x8b\x08\x04"
# offset size: 0 4 magic, 4 6 time and more, 10 2 bytes of extra fields, 12 2 "BC", 14 2 its size 2, 16 2 BSIZE: bytes of the member - 1
_HEADER = struct.Struct("<4s6xH2sHH")
_TRAILER = struct.Struct("<II")  # CRC-32, unpacked size
_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # 4.1.2: a member of nothing ends every file
_WRITTEN = 0xff00  # bytes that htslib puts into a member
_TOGETHER = 16  # members
_EMPTY_LIMIT = 1 << 16
_PROVEN_LIMIT = 1 << 12  # members that are unpacked when the file is opened: one second
_MEMBER_LIMIT = 1 << 16  # bytes that a member unpacks to
_PADDING = 1 << 12
_UNPACK = "gzip -dc"


def _member_size(header: bytes) -> int | None:
    """Bytes of the member that begins with *header*, or None if it is none of bgzip."""
    if len(header) < _HEADER.size:
        return None
    magic, extra, name, size, less_one = _HEADER.unpack(header)
    if magic != MAGIC or (name, size) != (b"BC", 2) or extra != 6 or less_one + 1 < _HEADER.size + _TRAILER.size:
        return None
    return int(less_one) + 1


def _contents(member: bytes) -> bytes:
    """What is in *member*, by its checksum. Raises zlib.error."""
    unpacker = zlib.decompressobj(-15)
    data = unpacker.decompress(memoryview(member)[_HEADER.size:-_TRAILER.size], _MEMBER_LIMIT + 1)
    if not unpacker.eof or _TRAILER.unpack(member[-_TRAILER.size:])[0] != zlib.crc32(data):
        raise zlib.error("its checksum is wrong")
    return data


class _Members(Decoder):
    """Members one behind the other."""

    what = "bgzip"

    def _decode(self, size: int) -> bytes:
        parts, done, place = [], 0, self.start
        while done < size:
            length = _member_size(self.file.pread(_HEADER.size, place))
            if length is None:
                self._bad(place, "its header is damaged")
            member = self.file.pread(length, place)
            try:
                part = _contents(member)
            except zlib.error as error:
                self._bad(place, str(error))
            if len(part) != _TRAILER.unpack(member[-_TRAILER.size:])[1]:
                self._bad(place, "its size is wrong")
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


class _Index:
    """Where all members are, found from the first one on, as far as it is sure where in memory they belong."""

    def __init__(self, file: Source):
        self.file = file
        self.table = BlockTable()
        self.members = 0
        self.incomplete: str | None = None
        self._empty = self._proven = 0
        self._usual = 0  # the unpacked size of most members
        self._place = self._first = 0
        self._ended = False  # the last member was the one that ends a file
        self._doubtful = False  # how many bytes are in the last member with any is not sure
        self._walk()
        self.table.add(self._place, self._first)

    def _walk(self) -> None:
        file = self.file
        header = file.read_some(_HEADER.size, 0)
        while self._place < file.size:
            length = _member_size(header)
            # the unpacked size of this member, and the next one's header
            row = file.read_some(4 + _HEADER.size, self._place + length - 4) if length else b""
            if length is None or len(row) < 4:
                if not (self._ended and (self._only_zeros() or trailing(file, self._place, "block of bgzip") is None)):
                    self.incomplete = f"no block of bgzip is at {self._here()}; what came behind is missing"
                return
            header = row[4:]
            size = self._size(length, int.from_bytes(row[:4], "little"), last=_member_size(header) is None or header == _END[:_HEADER.size])
            if size is None:
                self.incomplete = (f"damaged is the block at or before {self._here()}: how many bytes were in it is not sure, and so what "
                                   "is behind it has no address and is missing")
                return
            self._add(length, size)
        if not self._ended:
            self.incomplete = f"the file ends at {self._here()}, without the block that ends a bgzip file; what came behind is missing"
        elif self._doubtful:
            self.incomplete = f"damaged is the last block of the bgzip file, before {self._here()}: how many bytes were in it is not sure"

    def _here(self) -> str:
        return f"{self._place:#x}, which was {self._first:#x} unpacked"

    def _size(self, length: int, size: int, *, last: bool) -> int | None:
        """How many bytes the member at the place unpacks to, which says *size*; None: it is not sure and matters.

        It does not matter for the *last* one: reading it will fail.
        """
        if size > _MEMBER_LIMIT:
            raise ImageError(f"{self.file.name}: damaged bgzip file: the block at {self._place:#x} would unpack to {size:#x} bytes "
                             f"({_MEMBER_LIMIT:#x} are possible); copy it again, or {unpack(self.file, _UNPACK)}")
        self._ended = not size and self.file.read_some(length, self._place) == _END
        if self._ended:
            return 0
        if self._doubtful:  # if it was the first one, a second one like it is proof enough
            if self.members > 1 or size != self._usual:
                return None
            self._doubtful = False
        if not self._usual and size == _WRITTEN:
            self._usual = size
        if size == self._usual and size:
            return size
        proven = self._unpacked(length)
        if proven is None:
            if not size or not (last or not self.members):
                return None
            self._doubtful = True
        size = size if proven is None else proven
        self._usual = self._usual or size
        return size

    def _unpacked(self, length: int) -> int | None:
        """How many bytes the member at the place unpacks to, whatever it says; None: it is damaged."""
        self._proven += 1
        if self._proven > _PROVEN_LIMIT:
            raise ImageError(f"{self.file.name}: the blocks of this bgzip file have too many sizes to be read at random (bgzip makes them "
                             f"equal); {unpack(self.file, _UNPACK)}")
        member = self.file.read_some(length, self._place)
        try:
            return len(_contents(member)) if len(member) == length else None
        except zlib.error:
            return None

    def _add(self, length: int, size: int) -> None:
        if size:
            if self.members % _TOGETHER == 0:
                self.table.add(self._place, self._first)
                check_blocks(self.file, self.table.count, self._first, _UNPACK)
            self.members += 1
        else:
            self._empty += 1
            if self._empty > _EMPTY_LIMIT:
                check_blocks(self.file, self._empty, 0, _UNPACK)
        self._place, self._first = self._place + length, self._first + size

    def _only_zeros(self) -> bool:
        """Whether what follows the end looks like room that was not used."""
        return not self.file.read_some(_PADDING, self._place).strip(b"\0")


def from_file(file: Source) -> Source:
    """The memory in what a bgzip file has in it. Raises ImageError."""
    index = _Index(file)
    table = index.table
    if not table.firsts[-1]:
        raise ImageError(f"{file.name}: nothing is in this bgzip file{f' ({index.incomplete})' if index.incomplete else ''}; copy it again")

    def open_members(number: int) -> Decoder:
        return _Members(file, table.places[number], table.places[number + 1], table.firsts[number + 1] - table.firsts[number])
    return open_inside(BlockFile(file, table, open_members, _UNPACK), f"bgzip of {index.members} blocks", index.incomplete)
