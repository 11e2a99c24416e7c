"""xz files of several blocks, as ``xz -T``, ``xz --block-size`` and pixz write them: the index at the end names every block.

A stream: header of 12 bytes, blocks, index, footer of 12 bytes; several streams may follow each other, with zeros in multiples of 4
between them. Source: tukaani.org/xz/xz-file-format.txt.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from array import array
from collections.abc import Iterator

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.blocked import BLOCKS_LIMIT, BlockFile, BlockTable, check_blocks, open_inside, unpack
from vmcorefs.image.blocks import Decoder
from vmcorefs.image.foreign import refuse_foreign
from vmcorefs.image.shell import unpacking
from vmcorefs.image.source import Source
from vmcorefs.quantities import human_size

HEAD_SIZE = 4096
_MAGIC = b"\xfd7zXZ\0"
_HEADER_SIZE = 12
_FOOTER = struct.Struct("<II2s2s")  # CRC, size of the index / 4 - 1, flags, "YZ"
_MEMORY_LIMIT = 80 << 20  # xz -9 needs 65 MiB
_BLOCK_LIMIT = 256 << 20  # unpacked; reading at random unpacks half of one at a time
_INDEX_LIMIT = 20 * BLOCKS_LIMIT
_STREAMS_LIMIT = 1 << 16
_PADDING_LIMIT = 1 << 12
_TOO_LARGE = "Memory usage limit exceeded"  # Python's words for LZMA_MEMLIMIT_ERROR
_UNPACK = "xz -dc"


class _Block(Decoder):
    """One block, decoded as a stream of one block."""

    what = "xz"

    def __init__(self, file: Source, start: int, size: int, unpadded: int, flags: bytes):
        super().__init__(file, start, start + -(-unpadded // 4) * 4, size)
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)
        self._before = [_MAGIC + flags + struct.pack("<I", zlib.crc32(flags))]
        index = b"\0\1" + _varint(unpadded) + _varint(size)
        index += bytes(-len(index) % 4)
        index += struct.pack("<I", zlib.crc32(index))
        footer = struct.pack("<I", len(index) // 4 - 1) + flags
        self._behind = [index + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"]

    def _decode(self, size: int) -> bytes:
        parts, done = [], 0
        while done < size and not self._xz.eof:
            data = b""
            if self._xz.needs_input:
                data = self._before.pop() if self._before else self.compressed.read() or (self._behind.pop() if self._behind else b"")
                if not data:
                    break
            try:
                part = self._xz.decompress(data, size - done)
            except lzma.LZMAError as error:
                if self.cut:
                    self.too_short(0)
                self.broken(str(error))
            parts.append(part)
            done += len(part)
        return b"".join(parts)

    def _finish(self) -> None:
        if self._decode(1):
            self.broken("more bytes come out of them than should")
        if not self._xz.eof:
            self.too_short(0)


class _Stream:
    """One stream, found from its end: where it begins, its flags, its blocks as (unpadded size, unpacked size)."""

    def __init__(self, file: Source, end: int):
        self.file = file
        crc, backward, self.flags, magic = _FOOTER.unpack(_pread(file, _FOOTER.size, end - _FOOTER.size))
        size = (backward + 1) * 4
        index = end - _FOOTER.size - size
        if magic != b"YZ" or crc != zlib.crc32(struct.pack("<I", backward) + self.flags) or index < _HEADER_SIZE:
            raise _damaged(file, f"no stream's footer ends at {end:#x}")
        if size > _INDEX_LIMIT:
            check_blocks(file, BLOCKS_LIMIT + 1, 0, _UNPACK)
        self._data = _pread(file, size, index)
        if zlib.crc32(self._data[:-4]) != int.from_bytes(self._data[-4:], "little") or self._data[0]:
            raise _damaged(file, f"the index at {index:#x} is damaged")
        self.count = next(self._numbers())
        packed = sum(-(-unpadded // 4) * 4 for unpadded, _ in self.blocks())
        self.start = index - packed - _HEADER_SIZE
        if self.start < 0 or _pread(file, _HEADER_SIZE, self.start)[:8] != _MAGIC + self.flags:
            raise _damaged(file, f"the stream of the index at {index:#x} does not begin at {self.start:#x}")

    def _numbers(self) -> Iterator[int]:
        value = shift = 0
        for byte in memoryview(self._data)[1:-4]:
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                yield value
                value = shift = 0
            elif shift > 63:
                break
        raise _damaged(self.file, "its index ends too early")

    def blocks(self) -> Iterator[tuple[int, int]]:
        """All blocks of the stream, in order."""
        numbers = self._numbers()
        for _ in range(next(numbers)):
            yield next(numbers), next(numbers)


def _streams(file: Source) -> Iterator[_Stream]:
    """From the last to the first."""
    end, count = file.size, 0
    for _ in range(_STREAMS_LIMIT):
        padding = _pread(file, min(_PADDING_LIMIT, end), end - min(_PADDING_LIMIT, end))
        end -= (len(padding) - len(padding.rstrip(b"\0"))) // 4 * 4
        if end <= 0:
            return
        if end % 4 or end < 2 * _HEADER_SIZE:
            break
        stream = _Stream(file, end)
        count += stream.count
        if count > BLOCKS_LIMIT:
            check_blocks(file, count, 0, _UNPACK)
        yield stream
        end = stream.start
    raise _damaged(file, f"no stream ends at {end:#x}")


def from_file(file: Source) -> Source:
    """The memory in what an xz file of several blocks has in it. Raises ImageError."""
    if file.read_some(_PADDING_LIMIT, max(file.size - _PADDING_LIMIT, 0)).rstrip(b"\0")[-2:] != b"YZ":
        refuse_foreign(file.name, file.head(HEAD_SIZE), file)  # cut off, or with zeros for its end
    table, unpadded, flags, first = BlockTable(), array("Q"), set(), 0
    for stream in list(_streams(file))[::-1]:
        flags.add(stream.flags)
        place = stream.start + _HEADER_SIZE
        for packed, size in stream.blocks():
            if size > _BLOCK_LIMIT:
                raise ImageError(f"{file.name}: the xz block at {place:#x} unpacks to {human_size(size)}, too much to read at random; "
                                 f"{unpack(file, _UNPACK)}; compressed again by xz -T0 --block-size=1MiB, it can be")
            if size:
                table.add(place, first)
                unpadded.append(packed)
            place, first = place + -(-packed // 4) * 4, first + size
    if len(unpadded) < 2:
        refuse_foreign(file.name, file.head(HEAD_SIZE), file)
    if len(flags) != 1:
        raise ImageError(f"{file.name}: its xz streams have checks of several kinds; {unpack(file, _UNPACK)}")
    table.add(file.size, first)
    check_blocks(file, table.count, first, _UNPACK)
    (check,) = flags

    def open_block(number: int) -> Decoder:
        size = table.firsts[number + 1] - table.firsts[number]
        return _Block(file, table.places[number], size, unpadded[number], check)
    _check_memory(file, open_block(0))
    return open_inside(BlockFile(file, table, open_block, _UNPACK), f"xz of {table.count} blocks")


def _check_memory(file: Source, block: Decoder) -> None:
    """Raise ImageError if the dictionary is so large that no block can be unpacked. What is damaged is told when it is read."""
    try:
        block.read(1)
    except OldmemReadError as error:
        if _TOO_LARGE in error.cause:
            raise ImageError(f"{file.name}: to unpack its xz blocks takes more than {human_size(_MEMORY_LIMIT)} of memory, too much to "
                             f"read at random; {unpack(file, _UNPACK)}; compressed again by xz -T0 --block-size=1MiB, it can be") from error


def _pread(file: Source, size: int, offset: int) -> bytes:
    try:
        return file.pread(size, offset)
    except OldmemReadError as error:
        raise ImageError(f"{file.name}: the xz index cannot be read: {error}") from error


def _damaged(file: Source, words: str) -> ImageError:
    return ImageError(f"{file.name}: damaged xz file: {words}; copy it again, or get what is whole of it: "
                      f"{unpacking(file, _UNPACK)}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes([*out, value])
