"""ddrescue's map of a file: what could not be read when the image was taken (--bad-map).

The file has something at these places all the same, zeros as a rule: not served, ever.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from vmcorefs.errors import ImageError, OldmemReadError, printable
from vmcorefs.image.file import ImageFile
from vmcorefs.image.layer import Layer
from vmcorefs.image.source import Absence, Source, sum_up

_LIMIT = 64 << 20
_BLOCKS_LIMIT = 1 << 20  # two arrays of 8 MiB; real maps have thousands
_LINE_LIMIT = 4096
_PIECE = 1 << 20
# GNU ddrescue manual, "Mapfile structure": comment lines; a line of status (current position, status, pass); then blocks of
# position, size, status: ? non-tried, * non-trimmed, / non-scraped, - bad sector, + finished. Numbers are those of C, read by %lli
# (mapfile.cc, Mapfile::read_mapfile): 0x hexadecimal, 0 octal.
_NUMBER = rb"(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,22}|[1-9][0-9]{0,19})"
_STATUS = re.compile(rb"\s*" + _NUMBER + rb"\s+[?*/+FG-](\s+[0-9]+)?\s*")
_BLOCK = re.compile(rb"\s*" + _NUMBER + rb"\s+" + _NUMBER + rb"\s+([?*/+-])\s*")


class BadMap:
    """What ddrescue did not get: the areas [starts[i], ends[i]), rising, none touches the next one.

    The map speaks of what lies before *end*; *read_end* is the end of what ddrescue got. What no block of the map names has not
    been tried: it is bad, *unnamed* bytes from *first_unnamed* on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.starts, self.ends = array("Q"), array("Q")
        self.end = self.read_end = 0
        self.unnamed, self.first_unnamed = 0, 0

    def add(self, start: int, size: int, *, bad: bool) -> None:
        """The next block."""
        self.untried(start)
        self.end = start + size
        if bad:
            self._bad(start, self.end)
        else:
            self.read_end = self.end

    def untried(self, end: int) -> None:
        """Up to *end* no block names anything."""
        if end > self.end:
            self.first_unnamed = self.first_unnamed if self.unnamed else self.end
            self.unnamed += end - self.end
            self._bad(self.end, end)

    def _bad(self, start: int, end: int) -> None:
        if self.ends and self.ends[-1] == start:
            self.ends[-1] = end
        else:
            self.starts.append(start)
            self.ends.append(end)

    def problems(self, size: int) -> Iterator[str]:
        """What is odd about a map of a file of *size* bytes."""
        if self.unnamed:
            yield (f"the map {self.name} does not name {self.unnamed:#x} bytes of the image (from {self.first_unnamed:#x} on): ddrescue "
                   "has not read them, they are broken; is it this image's map, and did ddrescue finish?")
        if self.read_end > size:
            yield (f"the map {self.name} covers {self.end:#x} bytes, the image has {size:#x}: is it this image's map? If so, the image was "
                   "cut off; copy it again")
        elif self.end > size:
            yield (f"the map {self.name} covers {self.end:#x} bytes, the image has {size:#x}: ddrescue did not get what is behind; it is "
                   "missing")


def read_bad_map(path: str) -> BadMap:
    """The map in the file *path*. Raises ImageError with the line that is wrong."""
    with ImageFile(path, what="ddrescue map") as file:
        name = file.name
        if not 0 < file.size <= _LIMIT:
            raise ImageError(f"{name}: {file.size} bytes are no ddrescue map (1 to {_LIMIT} bytes)")
        bad_map, status_seen, blocks = BadMap(name), False, 0
        for number, line in enumerate(_lines(file), 1):
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            if not status_seen:
                status_seen = True
                if not _STATUS.fullmatch(line):
                    raise ImageError(f"{name}: line {number} is no status line of a ddrescue map ({_shown(line)}); give the mapfile "
                                     "that ddrescue wrote")
                continue
            match = _BLOCK.fullmatch(line)
            if match is None:
                raise ImageError(f"{name}: line {number} is no block of a ddrescue map ({_shown(line)})")
            start, size = _number(match[1]), _number(match[2])
            if start < bad_map.end or not size or start + size > 1 << 63:
                raise ImageError(f"{name}: line {number}: the block at {start:#x} of {size:#x} bytes is empty, out of order or too large")
            blocks += 1
            if blocks > _BLOCKS_LIMIT:
                raise ImageError(f"{name}: line {number}: more than {_BLOCKS_LIMIT} blocks are in this ddrescue map; let ddrescue try "
                                 "again (ddrescue -r 1), until fewer areas are bad")
            bad_map.add(start, size, bad=match[3] != b"+")
    if not status_seen:
        raise ImageError(f"{name}: no ddrescue map: it has no status line")
    if not blocks:
        raise ImageError(f"{name}: no block is in this ddrescue map; give the mapfile that ddrescue wrote beside the image")
    return bad_map


def _lines(file: ImageFile) -> Iterator[bytes]:
    rest = b""
    for at in range(0, file.size, _PIECE):
        try:
            *lines, rest = (rest + file.pread(min(_PIECE, file.size - at), at)).split(b"\n")
        except OldmemReadError as error:
            raise ImageError(str(error)) from error
        yield from lines
        rest = rest[:_LINE_LIMIT]  # no line of a map is so long: it is refused for what it is
    yield rest


def _number(digits: bytes) -> int:
    if digits[:2].lower() == b"0x":
        return int(digits, 16)
    return int(digits, 8 if digits[:1] == b"0" else 10)


def _shown(line: bytes) -> str:
    return repr(printable(line[:40].decode("utf-8", "replace")))


class WithoutBadAreas(Layer):
    """*file*, but its bytes in the areas of *bad_map* cannot be read. Offsets are those of the file."""

    def __init__(self, file: ImageFile, bad_map: BadMap):
        super().__init__((file,), file.size, file.container)
        self._file = file
        self._bad = bad_map

    def _next_bad(self, offset: int) -> tuple[int, int]:
        """The first area that ends behind *offset*; one beyond the file where there is none."""
        index = bisect_right(self._bad.ends, offset)
        return (self._bad.starts[index], self._bad.ends[index]) if index < len(self._bad.ends) else (1 << 64, 1 << 64)

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        start, _ = self._next_bad(offset)
        if start >= offset + len(view):
            self._file.preadinto(view, offset, salvage=salvage)
            return
        good = max(0, start - offset)
        if good:
            self._file.preadinto(view[:good], offset, salvage=salvage)
        raise OldmemReadError(self.path, offset + good, f"could not be read when the image was taken ({self._bad.name})", good=good)

    def absences(self) -> tuple[Absence, ...]:
        """See Source."""
        return sum_up(Absence("broken", min(end, self.size) - start, start)
                      for start, end in zip(self._bad.starts, self._bad.ends, strict=True) if start < self.size)

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source. ddrescue leaves a hole where it got nothing: that is broken, no zeros that need no reading."""
        data = self._file.next_data(position, end)
        bad_start, bad_end = self._next_bad(position)
        if bad_start >= data[0]:
            return data
        return max(bad_start, position), min(bad_end, end)


def without_bad_areas(file: ImageFile, path: str) -> Source:
    """*file* as the map *path* leaves it. Raises ImageError."""
    bad_map = read_bad_map(path)
    bad_map.untried(file.size)
    problems = tuple(bad_map.problems(file.size))
    if problems:
        file.container = replace(file.container, problems=(*file.container.problems, *problems))
    return WithoutBadAreas(file, bad_map) if bad_map.ends else file


def refuse_several(files: Sequence[Source], *, split: bool) -> NoReturn:
    """The refusal of a map for an image in several *files*; *split*: those of makedumpfile --split."""
    words = f"{files[0].name}: --bad-map is the map of one file, but the image is in {len(files)} "
    if split:
        raise ImageError(f"{words}files of makedumpfile --split; give the one that the map is of alone: those beside it are found")
    raise ImageError(f"{words}parts; put them together first (cat), and give a map whose positions are those in the whole")
