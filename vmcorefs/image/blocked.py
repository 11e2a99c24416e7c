"""BlockFile: a file compressed in blocks that can be unpacked one by one, read at any offset."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.blocks import Blocks, Decoder
from vmcorefs.image.layer import Layer, check_depth
from vmcorefs.image.page_cache import PageCache
from vmcorefs.image.shell import Printed, piped, plain_of, unpacked_name, unpacking
from vmcorefs.image.source import ADDRESS_LIMIT, Container, Source
from vmcorefs.quantities import human_size

BLOCKS_LIMIT = 1 << 21
_SMALL, _SMALL_COUNT = 1024, 4096  # blocks smaller than this one on the average: not more than so many
_CURSOR_BYTES = 96 << 20  # a decoder may need as much memory as its block has bytes


class BlockTable:
    """Where each block begins, in the file and unpacked; the last row is the end of both."""

    def __init__(self) -> None:
        self.places, self.firsts = array("Q"), array("Q")

    @property
    def count(self) -> int:
        """How many blocks."""
        return len(self.firsts) - 1

    def add(self, place: int, first: int) -> None:
        """The next block, or the end."""
        self.places.append(place)
        self.firsts.append(first)


class BlockFile(Layer, Printed):
    """What is in *file*, which *command* unpacks. *open_block* begins to decode a block, given its number."""

    def __init__(self, file: Source, table: BlockTable, open_block: Callable[[int], Decoder], command: str):
        super().__init__([file], table.firsts[-1], Container())
        self.printed_by, self.plain = piped(file, command), unpacked_name(plain_of(file))
        self._firsts = table.firsts
        largest = max((table.firsts[i + 1] - table.firsts[i] for i in range(table.count)), default=0)
        self._blocks = Blocks(PageCache(), open_block, cursors=max(1, min(4, _CURSOR_BYTES // max(largest, 1))), size_of=self._size_of)

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        want, done = len(view), 0
        if want and not 0 <= offset < self.size:
            raise self._end_error(offset)
        while done < want:
            at = offset + done
            if at >= self.size:
                raise self._end_error(at).moved(good=done)
            block = bisect_right(self._firsts, at) - 1
            first, end = self._firsts[block], self._firsts[block + 1]
            count = min(want - done, end - at)
            try:
                self._blocks.preadinto(view[done:done + count], block, end - first, at - first)
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += count

    def _size_of(self, block: int) -> int:
        return self._firsts[block + 1] - self._firsts[block] if block + 1 < len(self._firsts) else 0

    def _end_error(self, offset: int) -> OldmemReadError:
        return OldmemReadError(self.path, offset, f"beyond the end of what is compressed in it, {self.size:#x} bytes", kind="missing")


def check_blocks(file: Source, count: int, size: int, command: str) -> None:
    """Raise ImageError if *count* blocks of *size* bytes together are too many or too small, or too much; *command* unpacks them."""
    if count > BLOCKS_LIMIT or (count > _SMALL_COUNT and size < count * _SMALL):
        raise ImageError(f"{file.name}: {count} blocks with {human_size(size)} in them cannot be read at random; {unpack(file, command)}")
    if size > ADDRESS_LIMIT:
        raise ImageError(f"{file.name}: {size:#x} bytes cannot be in it; it is damaged")


def unpack(file: Source, command: str) -> str:
    """What to do with a file that is not read at random."""
    return f"unpack it first: {unpacking(file, command)}"


def open_inside(inside: BlockFile, words: str, incomplete: str | None = None) -> Source:
    """The memory in what was unpacked, recognised in turn; *words* say in what it was. Raises ImageError."""
    from vmcorefs.image import recognise

    check_depth(inside.below[0])
    opened = recognise(inside)
    container = opened.container
    told = [text for text in (incomplete, container.incomplete) if text]
    opened.container = replace(container, detail=f"{container.detail or 'raw image'}, in {words}", incomplete="; ".join(told) or None)
    return opened
