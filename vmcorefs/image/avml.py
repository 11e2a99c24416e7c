"""AVML, version 2: blocks of memory up to 16 MiB, each a header, a snappy stream in its framing format, the stream's length.

Little endian. The length stands behind the stream, so that the blocks are found from the end of the file backwards, by one read
each; where the file is cut or something follows, forwards, chunk by chunk. Blocks that are all zero are left out. Sources: AVML
src/image.rs, snappy framing_format.txt.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NoReturn

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.layer import Layer
from vmcorefs.image.libraries import library
from vmcorefs.image.page_cache import PageCache
from vmcorefs.image.source import ADDRESS_LIMIT, Container, Source
from vmcorefs.image.trailing import trailing
from vmcorefs.ranges import find

MAGIC = b"AVML\2\0\0\0"
_HEADER = struct.Struct("<4sIQQ8x")  # magic, version, first address, last address
_IDENTIFIER = b"\xff\x06\0\0sNaPpY"
_CHUNK_LIMIT = 1 << 16  # bytes that a chunk unpacks to
_PACKED_LIMIT = 4 + 32 + _CHUNK_LIMIT + _CHUNK_LIMIT // 6  # the most that snappy makes of them, and a sum
_BLOCK_LIMIT = 1 << 28  # bytes of memory in one block; AVML makes 16 MiB
_BLOCKS_LIMIT = 1 << 20
_CHUNKS_LIMIT = 1 << 16  # of one block
_BROKEN_LIMIT = 256  # blocks remembered


class _DamagedError(Exception):
    """What is wrong, where."""

    def __init__(self, offset: int, words: str):
        self.offset = offset
        super().__init__(words)


class AvmlSource(Layer):
    """Memory out of blocks, by their first address; zeros between them."""

    def __init__(self, file: Source, cramjam: Any, columns: tuple[array[int], ...], container: Container):
        self._starts, self._ends, self._places, self._lengths = columns  # places: of the headers, in the file; lengths: of the streams
        super().__init__([file], self._ends[-1], container)
        self._file = file
        self._snappy = cramjam.snappy
        self._error: type[Exception] = cramjam.DecompressionError
        self._cache = PageCache()
        self._broken: dict[int, str] = {}  # blocks, why
        self._right = bytearray(len(self._starts))  # 1: a block that is not

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        done, want = 0, len(view)
        self.check_range(offset, want)
        while done < want:
            address = offset + done
            number = find(self._starts, address)
            try:
                if number >= 0 and address < self._ends[number]:
                    data, skip = self._chunk(number, address - self._starts[number])
                    count = min(want - done, len(data) - skip)
                    view[done:done + count] = memoryview(data)[skip:skip + count]
                else:
                    self.check_range(address, 1)
                    self._check_beside(number)
                    count = min(want - done, self._starts[number + 1] - address)
                    view[done:done + count] = bytes(count)
            except _DamagedError as error:
                raise OldmemReadError(self.path, error.offset, f"damaged AVML data: {error}", good=done) from error
            except OldmemReadError as error:
                raise error.moved(good=done) from error.__cause__
            done += count

    def _chunk(self, number: int, at: int) -> tuple[bytes, int]:
        """The bytes of the chunk that has byte *at* of block *number*, and where it is in them."""
        places, firsts = self._index(number)
        chunk = bisect_right(firsts, at) - 1
        if chunk == len(firsts) - 1:
            _read_chunk(self._file, places[chunk])
            raise _DamagedError(places[chunk], f"the block has more than {_CHUNKS_LIMIT} chunks")
        data = self._cache.get(places[chunk])
        if data is None:
            data = self._unpack(places[chunk], firsts[chunk + 1] - firsts[chunk])
            self._cache.put(places[chunk], data)
        return data, at - firsts[chunk]

    def _index(self, number: int) -> tuple[memoryview, memoryview]:
        """Places of a block's chunks in the file, and the first byte of each; one row more, for the end of those that are good.

        Where its chunks have another number of bytes than its addresses, no byte of the block is known to be at the right one.
        """
        if number in self._broken:
            raise _DamagedError(self._places[number], self._broken[number])
        packed = self._cache.get((number,))
        if packed is None:
            places, firsts = array("Q"), array("Q")
            place, at, size = self._places[number] + _HEADER.size, 0, self._ends[number] - self._starts[number]
            whole = False
            try:
                for _ in range(_CHUNKS_LIMIT):
                    whole = self._ends_at(number, place, at == size)
                    if whole or at > size:
                        break
                    length, unpacked = _read_chunk(self._file, place)
                    if unpacked:
                        places.append(place)
                        firsts.append(at)
                    at += unpacked
                    place += 4 + length
            except (_DamagedError, OldmemReadError):  # who reads there is told
                pass
            if at > size or (whole and at != size):
                self._remember(number, f"the block {self._starts[number]:#x}-{self._ends[number]:#x} has {size:#x} bytes by its header "
                               f"here, its chunks have {'more' if at > size else f'{at:#x}'}")
            places.append(place)
            firsts.append(at)
            packed = places.tobytes() + firsts.tobytes()
            if whole:
                self._cache.put((number,), packed)
        table = memoryview(packed).cast("Q")
        return table[:len(table) // 2], table[len(table) // 2:]

    def _check_beside(self, number: int) -> None:
        """Between block *number* and the next one memory is zero only if both begin and end where their headers say."""
        for block in (number, number + 1):
            if block >= 0 and not self._right[block]:
                self._index(block)
                self._right[block] = 1

    def _ends_at(self, number: int, place: int, full: bool) -> bool:  # noqa: FBT001
        """Whether the stream of the block ends at *place*; *full*: its chunks so far have all the bytes that it should have."""
        start = self._places[number] + _HEADER.size
        if self._lengths[number]:
            return place >= start + self._lengths[number]
        if full and (place + 8 >= self._file.size or self._file.read_some(8, place + 8) == MAGIC):
            return True
        return place > start and self._file.read_some(8, place) == (place - start).to_bytes(8, "little")

    def _remember(self, number: int, words: str) -> NoReturn:
        self._broken[number] = words
        while len(self._broken) > _BROKEN_LIMIT:
            self._broken.pop(next(iter(self._broken)), None)
        raise _DamagedError(self._places[number], words)

    def _unpack(self, place: int, size: int) -> bytes:
        length, _ = _read_chunk(self._file, place)
        data = self._file.pread(4 + length, place)
        try:
            unpacked = bytes(self._snappy.decompress(_IDENTIFIER + data))  # checks the sum, too
        except self._error as error:
            raise _DamagedError(place, f"the chunk here: {error}") from error
        if len(unpacked) != size:
            raise _DamagedError(place, f"the chunk here unpacks to {len(unpacked):#x} bytes, not {size:#x}")
        return unpacked

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source: what is in no block is left out."""
        number = find(self._starts, position)
        if number < 0 or position >= self._ends[number]:
            number += 1
        if number >= len(self._starts) or self._starts[number] >= end:
            return end, end
        start, stop = max(position, self._starts[number]), self._ends[number]
        while stop < end and number + 1 < len(self._starts) and self._starts[number + 1] == stop:
            number += 1
            stop = self._ends[number]
        return start, min(stop, end)


def _read_chunk(file: Source, place: int) -> tuple[int, int]:
    """(bytes behind the chunk's first 4, bytes that it unpacks to) of the chunk at *place*."""
    header = file.read_some(13, place)
    if len(header) < 4 or (header[0] in {0, 0xff} and len(header) < 10):
        file.pread(10, place)  # raises, with the reason
    kind, length = header[0], int.from_bytes(header[1:4], "little")
    if kind == 0xff and header[:10] != _IDENTIFIER:
        raise _DamagedError(place, "no snappy stream begins here")
    if kind >= 0x80:  # to be skipped: padding and whatever may come
        return length, 0
    if kind > 1:
        raise _DamagedError(place, f"a chunk of the unknown type {kind:#x}")
    unpacked = length - 4 if kind else _varint(header[8:4 + length])
    if not 0 < unpacked <= _CHUNK_LIMIT or length > _PACKED_LIMIT:
        raise _DamagedError(place, f"a chunk of {length:#x} bytes that would unpack to {unpacked:#x} ({_CHUNK_LIMIT:#x} are possible)")
    return length, unpacked


def _varint(data: bytes) -> int:
    value = 0
    for i, byte in enumerate(data[:5]):
        value |= (byte & 0x7f) << 7 * i
        if byte < 0x80:
            return value
    return -1


class _Opening:
    """What is known while the blocks are looked for."""

    def __init__(self, file: Source):
        self.file = file
        self.starts, self.ends, self.places, self.lengths = (array("Q") for _ in range(4))
        self.incomplete: str | None = None
        self.problem: str | None = None
        why = self._backwards()
        if why:
            found = len(self.starts)
            self.starts, self.ends, self.places, self.lengths = (array("Q") for _ in range(4))
            self._forwards(why, found)
        else:
            self._order(range(len(self.starts) - 1, -1, -1))

    def _error(self, text: str) -> ImageError:
        return ImageError(f"{self.file.name}: an AVML file, but {text}")

    def _order(self, order: Sequence[int]) -> None:
        self.starts, self.ends, self.places, self.lengths = (
            array("Q", (column[i] for i in order)) for column in (self.starts, self.ends, self.places, self.lengths))

    def _add(self, place: int, header: bytes) -> str | None:
        """Note down the block whose header is at *place*; why not, if it is none."""
        if len(header) < _HEADER.size:
            return f"the file ends at {self.file.size:#x}, within the block's header at {place:#x}"
        magic, version, first, last = _HEADER.unpack(header)
        if (magic, version) != (MAGIC[:4], 2):
            return f"no block's header is at {place:#x}"
        if first > last or last >= ADDRESS_LIMIT or last - first >= _BLOCK_LIMIT:
            return f"the block's header at {place:#x} says addresses {first:#x} to {last:#x}, which cannot be"
        if len(self.starts) == _BLOCKS_LIMIT:
            return f"there are more than {_BLOCKS_LIMIT} blocks (at {place:#x})"
        self.starts.append(first)
        self.ends.append(last + 1)
        self.places.append(place)
        self.lengths.append(0)  # not known
        return None

    def _backwards(self) -> str | None:
        """Find all blocks from the last to the first; why it was not possible, if so."""
        end = self.file.size
        footer = self.file.read_some(8, end - 8) if end >= 8 else b""
        while end > 0:
            place = end - 8 - int.from_bytes(footer, "little") - _HEADER.size
            if len(footer) < 8 or place < 0:
                return f"there is no length of a block at {end - 8:#x}"
            before = min(place, 8)
            header = self.file.read_some(before + _HEADER.size, place - before)
            if len(header) < before + _HEADER.size:
                return f"the block's header at {place:#x} cannot be read"
            why = self._add(place, header[before:])
            if why:
                return why
            self.lengths[-1] = int.from_bytes(footer, "little")
            end, footer = place, header[:before]
        return None

    def _forwards(self, why: str, behind: int) -> None:
        """Find the blocks from the first on, as far as they are whole; *behind*: how many there are at the end of the file."""
        place = 0
        try:
            while place < self.file.size:
                wrong = self._add(place, self.file.pread(min(_HEADER.size, self.file.size - place), place))
                if wrong:
                    why = wrong
                    break
                following = self._behind(place + _HEADER.size, self.ends[-1] - self.starts[-1])
                self.lengths[-1] = following - 8 - place - _HEADER.size
                place = following
        except (OldmemReadError, _DamagedError) as error:
            why = f"{error.cause if isinstance(error, OldmemReadError) else error} (at {error.offset:#x})"
        if not self.starts:
            raise self._error(f"no block is in it: {why}; copy it again")
        rest = self.file.read_some(len(MAGIC), place)
        header = MAGIC.startswith(rest) or rest[:4] == MAGIC[:4] or rest[4:] == MAGIC[4:]  # a part of one, or of a damaged one
        if self.lengths[-1] and not behind and not header:
            self.problem = trailing(self.file, place, "block's header")
            return
        self.incomplete = (f"{why}; some memory of the block {self.starts[-1]:#x}-{self.ends[-1]:#x}, and all that came behind it, may be "
                           "missing")

    def _behind(self, place: int, size: int) -> int:
        """The end of the block whose stream, of *size* bytes unpacked, begins at *place*."""
        start = place
        for _ in range(_CHUNKS_LIMIT):
            if size <= 0:
                break
            length, unpacked = _read_chunk(self.file, place)
            place += 4 + length
            size -= unpacked
        footer = int.from_bytes(self.file.pread(8, place), "little")
        if size or footer != place - start:
            raise _DamagedError(place, f"the block's length here is {footer:#x}, not {place - start:#x}")
        return place + 8

    def source(self) -> Source:
        """The opened file."""
        cramjam = library("snappy", self.file.name)
        count = len(self.starts)
        if any(self.starts[i] < self.starts[i - 1] for i in range(1, count)):
            self._order(sorted(range(count), key=self.starts.__getitem__))
        for i in range(1, count):
            if self.starts[i] < self.ends[i - 1]:
                raise self._error(f"the block whose header is at {self.places[i]:#x} begins at address {self.starts[i]:#x}, within the one "
                                  f"at {self.places[i - 1]:#x}; one of them is damaged")
        return AvmlSource(self.file, cramjam, (self.starts, self.ends, self.places, self.lengths), Container(
            format="avml", writer="AVML", incomplete=self.incomplete, problems=(self.problem,) if self.problem else (),
            detail=f"AVML file, version 2, of {count} blocks; copied from a running system"))


def from_file(file: Source) -> Source:
    """The memory in an AVML file. Raises ImageError."""
    return _Opening(file).source()
