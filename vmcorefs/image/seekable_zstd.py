"""Seekable zstd: frames that are unpacked one by one, and a table of them in a skippable frame at the end of the file.

Little endian. Source: zstd contrib/seekable_format/zstd_seekable_compression_format.md.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from itertools import pairwise
from typing import Any, NoReturn

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.blocked import BLOCKS_LIMIT, BlockFile, BlockTable, check_blocks, open_inside, unpack
from vmcorefs.image.blocks import PIECE, Decoder
from vmcorefs.image.libraries import library
from vmcorefs.image.source import Source

_FOOTER = struct.Struct("<IBI")  # number of frames, descriptor (bit 7: entries have a checksum), magic
_SKIPPABLE = struct.Struct("<II")  # magic, bytes that follow
_SKIPPABLE_MAGIC = 0x184D2A5E
_WINDOW_LIMIT = 64 << 20
_FRAME_HEADER = 18  # RFC 8878, 3.1.1: magic, descriptor, window, dictionary, content size
_PROVEN_LIMIT = 1 << 16  # frames
_PROVEN_BYTES = 512 << 20  # of frames that do not say their size: one second
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
        self.check_end()

    def check_end(self) -> None:
        """Nothing more may come out of it."""
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
    _Proof(zstandard, file, table).check()

    def open_frame(number: int) -> Decoder:
        first, end = table.firsts[number], table.firsts[number + 1]
        place, behind, size = table.places[number], table.places[number + 1], end - first
        kind = _SmallFrame if size <= PIECE and behind - place <= 2 * PIECE else _Frame
        return kind(zstandard, file, place, behind, size)
    return open_inside(BlockFile(file, table, open_frame, _UNPACK), f"seekable zstd of {table.count} frames")


class _Proof:
    """That the frames have the sizes that the table says: one that is wrong would shift all memory behind it.

    Programs make all frames of one size, but for the last; so only those of another size are looked at. The last one may be what
    the table says that it is: with a wrong size it cannot be read.
    """

    def __init__(self, zstandard: Any, file: Source, table: BlockTable):
        self._zstandard = zstandard
        self._file = file
        self._table = table
        self._left = _PROVEN_BYTES
        self._looked_at = 0

    def check(self) -> None:
        """Raises ImageError."""
        firsts = self._table.firsts
        sizes = array("Q", (end - first for first, end in pairwise(firsts)))
        usual, often = Counter(sizes).most_common(1)[0] if sizes else (0, 0)
        for number, size in enumerate(sizes):
            if size != usual or often < 2 or not size:
                self._check(number, size, last=number == len(sizes) - 1)

    def _check(self, number: int, size: int, *, last: bool) -> None:
        self._looked_at += 1
        if self._looked_at > _PROVEN_LIMIT:
            self._refuse("its frames are of too many sizes to be read at random")
        start, end = self._table.places[number], self._table.places[number + 1]
        words = f"the frame at {start:#x} should unpack to {size:#x} bytes"
        try:
            said = self._zstandard.frame_content_size(self._file.pread(min(_FRAME_HEADER, end - start), start))
        except (OldmemReadError, self._zstandard.ZstdError) as error:
            if not last or not size:
                self._refuse(f"{words}, but cannot be looked at: {error}")
            return
        if said not in {-1, size}:  # -1: it does not say
            self._refuse(f"{words}, but says itself that it has {said:#x}")
        if said == -1 and (not last or not size):
            self._unpack(start, end, size, words)

    def _unpack(self, start: int, end: int, size: int, words: str) -> None:
        self._left -= size
        if self._left < 0:
            self._refuse("too many of its frames are of other sizes than the rest, and do not say their size themselves")
        frame = _Frame(self._zstandard, self._file, start, end, size)
        try:
            while frame.left:
                frame.read(min(PIECE, frame.left))
            frame.check_end()
        except OldmemReadError as error:
            self._refuse(f"{words}, but does not: {error.cause}")

    def _refuse(self, words: str) -> NoReturn:
        raise _damaged(self._file, words)


def _read_table(file: Source) -> BlockTable:
    if file.size < _FOOTER.size + _SKIPPABLE.size:
        raise _damaged(file, f"the file has {file.size:#x} bytes only")
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
    if place != begin - _SKIPPABLE.size:  # a frame that the table does not know would be left out
        raise _damaged(file, f"its frames end at {place:#x}, it begins at {begin - _SKIPPABLE.size:#x}")
    return table


def _damaged(file: Source, words: str) -> ImageError:
    return ImageError(f"{file.name}: the table of this seekable zstd file is damaged: {words}; {unpack(file, _UNPACK)}")
