"""Seekable zstd: frames that are unpacked one by one, and a table of them in a skippable frame at the end of the file.

Little endian. Source: zstd contrib/seekable_format/zstd_seekable_compression_format.md.
"""

from __future__ import annotations

import struct
from typing import Any

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.blocked import BLOCKS_LIMIT, BlockFile, BlockTable, check_blocks, open_inside, unpack
from vmcorefs.image.blocks import PIECE, Decoder
from vmcorefs.image.libraries import library
from vmcorefs.image.source import Source

_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor (bit 7: entries have a checksum), magic
_SKIPPABLE = struct.Struct("<II")  # magic, bytes that follow
_SKIPPABLE_MAGIC = 0x184D2A5E
_WINDOW_LIMIT = 64 << 20
_UNPACK = "zstd -dc"


class _Frame(Decoder):
    """One frame, unpacked as it is read."""

    what = "zstd"

    def __init__(self, zstandard: Any, file: Source, start: int, end: int, size: int):
        super().__init__(file, start, end, size)
        self._error: type[Exception] = zstandard.ZstdError
        # Not of self: zstandard's objects are not seen by the garbage collector, a cycle through one would never be freed.
        self._reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).stream_reader(self.compressed)

    def _decode(self, size: int) -> bytes:
        data = bytearray(size)
        view, done = memoryview(data), 0
        try:
            while done < size:
                count = self._reader.readinto(view[done:])
                if not count:
                    break
                done += count
        except self._error as error:
            self.broken(str(error))
        return bytes(view[:done])

    def _finish(self) -> None:
        if self._decode(1):
            self.broken("more bytes come out of them than should")


class _SmallFrame(Decoder):
    """One frame, unpacked at once, which is faster."""

    what = "zstd"

    def __init__(self, zstandard: Any, file: Source, start: int, end: int, size: int):
        super().__init__(file, start, end, size)
        self._zstandard = zstandard

    def _decode(self, size: int) -> bytes:
        data = self.file.pread(self.end - self.start, self.start)
        try:
            said = self._zstandard.frame_content_size(data)  # -1: it does not say
            if said not in {-1, size}:
                self.broken(f"{said:#x} bytes come out of them, not {size:#x}")
            return bytes(self._zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT).decompress(data, max_output_size=size))
        except self._zstandard.ZstdError as error:
            self.broken(str(error))

    def _finish(self) -> None:
        """All of it was looked at."""


def from_file(file: Source) -> Source:
    """The memory in what a seekable zstd file has in it. Raises ImageError."""
    zstandard = library("zstd", file.name)
    table = _read_table(file)

    def open_frame(number: int) -> Decoder:
        first, end = table.firsts[number], table.firsts[number + 1]
        place, behind, size = table.places[number], table.places[number + 1], end - first
        kind = _SmallFrame if size <= PIECE and behind - place <= 2 * PIECE else _Frame
        return kind(zstandard, file, place, behind, size)
    return open_inside(BlockFile(file, table, open_frame), f"seekable zstd of {table.count} frames")


def _read_table(file: Source) -> BlockTable:
    try:
        count, descriptor, _ = _FOOTER.unpack(file.pread(_FOOTER.size, file.size - _FOOTER.size))
        width = 12 if descriptor & 0x80 else 8
        begin = file.size - _FOOTER.size - count * width
        if descriptor & 0x7c or begin < _SKIPPABLE.size:
            raise _damaged(file, f"{count} frames (descriptor {descriptor:#x}) at {file.size - _FOOTER.size:#x} are not possible")
        header = _SKIPPABLE.unpack(file.pread(_SKIPPABLE.size, begin - _SKIPPABLE.size))
        if header != (_SKIPPABLE_MAGIC, file.size - begin):
            raise _damaged(file, f"it should begin at {begin - _SKIPPABLE.size:#x} for {count} frames, but does not")
        if count > BLOCKS_LIMIT:
            check_blocks(file, count, 0, _UNPACK)
        entries = file.pread(count * width, begin)
    except OldmemReadError as error:
        raise ImageError(f"{file.name}: the table of this seekable zstd file cannot be read: {error}") from error
    table, place, first = BlockTable(), 0, 0
    for row in struct.iter_unpack("<III" if width == 12 else "<II", entries):
        table.add(place, first)
        place, first = place + row[0], first + row[1]
    table.add(place, first)
    check_blocks(file, count, first, _UNPACK)
    if place > begin - _SKIPPABLE.size:
        raise _damaged(file, f"its frames end at {place:#x}, behind its begin at {begin - _SKIPPABLE.size:#x}")
    return table


def _damaged(file: Source, words: str) -> ImageError:
    return ImageError(f"{file.name}: the table of this seekable zstd file is damaged: {words}; {unpack(file, _UNPACK)}")
