"""ddrescue's map of a file: what could not be read when the image was taken (--bad-map).

The file has something at these places all the same, zeros as a rule: not served, ever.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from vmcorefs.errors import ImageError, OldmemReadError, printable
from vmcorefs.image.file import ImageFile, read_small_file
from vmcorefs.image.layer import Layer
from vmcorefs.image.source import Absence, Source, sum_up
from vmcorefs.ranges import Range, merge

_LIMIT = 64 << 20
# GNU ddrescue manual, "Mapfile structure": comment lines; a line of status (current position, status, pass); then blocks of
# position, size, status: ? non-tried, * non-trimmed, / non-scraped, - bad sector, + finished
_BLOCK = re.compile(r"\s*(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})\s+(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})\s+([?*/+-])\s*")


def read_bad_map(path: str) -> tuple[Range, ...]:
    """The ranges of the file that ddrescue did not get, rising and disjoint. Raises ImageError with the line that is wrong."""
    data, name = read_small_file(path, "ddrescue map", _LIMIT)
    bad: list[Range] = []
    status_seen = False
    end = 0
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not status_seen:
            status_seen = True
            if not re.fullmatch(r"\s*(0[xX][0-9a-fA-F]+|[0-9]+)\s+[?*/+FG-](\s+[0-9]+)?\s*", line):
                raise ImageError(f"{name}: line {number} is no status line of a ddrescue map ({printable(line[:40])!r}); give the mapfile "
                                 "that ddrescue wrote")
            continue
        match = _BLOCK.fullmatch(line)
        if match is None:
            raise ImageError(f"{name}: line {number} is no block of a ddrescue map ({printable(line[:40])!r})")
        start, size = int(match[1], 0), int(match[2], 0)
        if start < end or not size or start + size > 1 << 63:
            raise ImageError(f"{name}: line {number}: the block at {start:#x} of {size:#x} bytes is empty, out of order or too large")
        end = start + size
        if match[3] != "+":
            bad.append(Range(start, end))
    if not status_seen:
        raise ImageError(f"{name}: no ddrescue map: it has no status line")
    return merge(bad) if bad else ()


class WithoutBadAreas(Layer):
    """*file*, but its bytes in *bad* cannot be read. Offsets are those of the file."""

    def __init__(self, file: ImageFile, bad: Sequence[Range], map_name: str):
        super().__init__((file,), file.size, file.container)
        self._file = file
        self._bad = tuple(bad)
        self._ends = [area.end for area in self._bad]
        self._map_name = map_name

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        index = bisect_right(self._ends, offset)
        bad = self._bad[index] if index < len(self._bad) else None
        if bad is None or bad.start >= offset + len(view):
            self._file.preadinto(view, offset, salvage=salvage)
            return
        good = max(0, bad.start - offset)
        if good:
            self._file.preadinto(view[:good], offset, salvage=salvage)
        raise OldmemReadError(self.path, offset + good, f"could not be read when the image was taken ({self._map_name})", good=good)

    def absences(self) -> tuple[Absence, ...]:
        """See Source."""
        return sum_up(Absence("broken", min(bad.end, self.size) - bad.start, bad.start) for bad in self._bad if bad.start < self.size)

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source. ddrescue leaves a hole where it got nothing: that is broken, no zeros that need no reading."""
        data = self._file.next_data(position, end)
        index = bisect_right(self._ends, position)
        bad = self._bad[index] if index < len(self._bad) else None
        if bad is None or bad.start >= data[0]:
            return data
        return max(bad.start, position), min(bad.end, end)


def without_bad_areas(file: ImageFile, path: str) -> Source:
    """*file* as the map *path* leaves it. Raises ImageError."""
    bad = read_bad_map(path)
    return WithoutBadAreas(file, bad, printable(path)) if bad else file
