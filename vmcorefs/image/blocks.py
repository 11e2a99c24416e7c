"""Blocks: compressed blocks, each decoded on its own: a small one at once, a large one from its begin, as far as needed.

Who reads one block after the other finds the next ones decoded already, by threads.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.ahead import Ahead
from vmcorefs.image.page_cache import PageCache
from vmcorefs.image.source import Source

PIECE = 1 << 20  # blocks up to this size are checked as a whole before a byte of them is served
_FETCH = 1 << 16
_DAMAGED_LIMIT = 256  # blocks


class DamagedBlockError(OldmemReadError):
    """Compressed bytes that are there and cannot be decoded: they never can, so it is tried once."""


class Compressed:
    """The compressed bytes [start, end) of *file*, one after the other, for a decoder."""

    def __init__(self, file: Source, start: int, end: int):
        self._file = file
        self._next = start
        self._end = end

    def read(self, size: int = _FETCH) -> bytes:
        """The next ones, at most *size*; empty at their end. Raises OldmemReadError."""
        size = min(size, _FETCH, self._end - self._next)
        if size <= 0:
            return b""
        data = self._file.pread(size, self._next)
        self._next += size
        return data


class Decoder(ABC):
    """The bytes of one block from its begin to its end, decoded as they are asked for.

    *start* and *end* bound its compressed bytes in *file*; *size* is how many bytes must come out.
    """

    what = "compressed"

    def __init__(self, file: Source, start: int, end: int, size: int):
        self.file = file
        self.start = start
        self.end = min(end, file.size)
        self.cut = self.end < end
        self.left = size
        self.compressed = Compressed(file, start, self.end)

    def read(self, size: int) -> bytes:
        """The next *size* bytes, exactly; with the last ones the end of the block is checked. Raises OldmemReadError."""
        assert 0 < size <= self.left
        data = self._decode(size)
        if len(data) != size:
            self.too_short(self.left - len(data))
        self.left -= size
        if not self.left:
            self._finish()
        return data

    @abstractmethod
    def _decode(self, size: int) -> bytes:
        """At most *size* bytes, fewer only at the end of the block."""

    @abstractmethod
    def _finish(self) -> None:
        """Check that the block ends here, and its checksum."""

    def too_short(self, by: int) -> NoReturn:
        """The compressed bytes end too early."""
        if self.cut:
            raise OldmemReadError(self.file.path, self.end, f"the file ends at {self.end:#x}, within the {self.what} data that begin at "
                                  f"{self.start:#x}", kind="missing")
        self.broken(f"{by:#x} bytes less come out of them than should" if by else "their end is missing")

    def broken(self, cause: str) -> NoReturn:
        """The compressed bytes are damaged."""
        raise DamagedBlockError(self.file.path, self.start, f"damaged {self.what} data: {cause}")


class Inflater(Decoder):
    """A zlib stream (RFC 1950); what follows it up to *end* is padding."""

    what = "zlib"

    def __init__(self, file: Source, start: int, end: int, size: int):
        super().__init__(file, start, end, size)
        self._zlib = zlib.decompressobj()

    def _decode(self, size: int) -> bytes:
        parts, done = [], 0
        while done < size and not self._zlib.eof:
            data = self._zlib.unconsumed_tail or self.compressed.read()
            try:
                part = self._zlib.decompress(data, size - done)
            except zlib.error as error:
                self.broken(str(error))
            if not data and not part:
                break
            parts.append(part)
            done += len(part)
        return b"".join(parts)

    def _finish(self) -> None:
        if self._decode(1):
            self.broken("more bytes come out of them than should")
        if not self._zlib.eof:
            self.too_short(0)


class Blocks:
    """Reads out of blocks that *open_block* begins to decode. Thread safe.

    A block larger than a piece is decoded in pieces; where its decoding stands is remembered for the *cursors* newest
    ones, so that reading on decodes nothing twice. *size_of*: the bytes that a block will have, 0 where there is no such block;
    with it, small ones are decoded ahead.
    """

    def __init__(self, cache: PageCache, open_block: Callable[[int], Decoder], *, cursors: int = 2,
                 size_of: Callable[[int], int] | None = None):
        self._cache = cache
        self._open_block = open_block
        self._cursors = cursors
        self._decoders: dict[int, tuple[int, Decoder]] = {}  # block -> next piece, decoder; who works with one takes it out
        self._damaged: dict[int, tuple[int, OldmemReadError]] = {}  # block -> its first damaged piece, why
        self._size_of = size_of
        self._ahead = Ahead()
        self._last, self._in_order = -1, 0  # the block that was decoded last, and how many before it came in order

    def preadinto(self, view: memoryview, block: int, size: int, offset: int) -> None:
        """Fill *view* with the bytes of *block*, which has *size*, from *offset* on.

        Raises OldmemReadError with the number of bytes in the pieces before the bad one.
        """
        done = 0
        while done < len(view):
            piece, start = divmod(offset + done, PIECE)
            length = min(PIECE, size - piece * PIECE)
            count = min(length - start, len(view) - done)
            try:
                data = self._piece(block, piece, size, keep=count < length)
            except OldmemReadError as error:
                raise error.moved(good=done) from error.__cause__
            view[done:done + count] = data if count == length else memoryview(data)[start:start + count]
            done += count

    def _piece(self, block: int, piece: int, size: int, *, keep: bool) -> bytes:
        data = self._cache.get((block, piece))
        if data is None:
            damaged = self._damaged.get(block)
            if damaged is not None and piece >= damaged[0]:
                raise damaged[1].moved(good=0)
            try:
                data = self._small(block, size) if size <= PIECE else self._piece_of_large(block, piece, size)
            except DamagedBlockError as error:
                self._remember(block, piece, error)
                raise
            if keep:
                self._cache.put((block, piece), data)
        return data

    def _small(self, block: int, size: int) -> bytes:
        """A block of one piece; the next ones are begun where those before it were asked for in order, one more each time."""
        begun = self._ahead.take(block)
        self._in_order = self._in_order + 1 if block == self._last + 1 else 0
        self._last = block
        if self._size_of is not None:
            for following in range(block + 1, block + 1 + min(self._in_order, self._ahead.limit)):
                following_size = self._size_of(following)
                if not 0 < following_size <= PIECE:
                    break
                if self._cache.get((following, 0)) is None and following not in self._damaged:
                    self._ahead.begin(following, partial(self._decode, following, following_size))
        data = begun.result() if begun is not None else None
        return self._decode(block, size) if data is None else data

    def _decode(self, block: int, size: int) -> bytes:
        return self._open_block(block).read(size)

    def _remember(self, block: int, piece: int, error: OldmemReadError) -> None:
        first, _ = self._damaged.get(block, (piece, error))
        self._damaged[block] = min(first, piece), error
        while len(self._damaged) > _DAMAGED_LIMIT:
            self._damaged.pop(next(iter(self._damaged)), None)

    def _piece_of_large(self, block: int, piece: int, size: int) -> bytes:
        at, decoder = self._decoders.pop(block, (0, None))
        if decoder is None or at > piece:
            self._forget(self._cursors - 1)
            at, decoder = 0, self._open_block(block)
        while at < piece:
            decoder.read(PIECE)
            at += 1
        data = decoder.read(min(PIECE, size - piece * PIECE))
        if decoder.left:
            self._decoders[block] = (at + 1, decoder)
            self._forget(self._cursors)
        return data

    def _forget(self, keep: int) -> None:
        """All decoders but the newest *keep*."""
        while len(self._decoders) > keep:
            try:
                self._decoders.pop(next(iter(self._decoders)), None)
            except (RuntimeError, StopIteration):  # another thread was at it
                return
