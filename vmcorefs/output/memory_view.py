"""MemoryView: the crashed system's memory by absolute address, from 0 to its end; what is no memory reads as zeros.

Only what the machine did not have is zero. A page that it had and that cannot be read is an error, as everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.ranges import Range


class _Piece(NamedTuple):
    """[start, end): bytes of *file* from *offset* on, or *data* (None: zeros)."""

    start: int
    end: int
    file: Source | None
    offset: int
    data: bytes | None


class MemoryView:
    """*memory_map* of *memory*; *overlays*: bytes by address that take the place of those in memory. Thread safe."""

    def __init__(self, memory: OldMemory, memory_map: Sequence[Range], overlays: Mapping[int, bytes] | None = None):
        self.size = memory_map[-1].end
        self._pieces = tuple(_pieces(memory, memory_map, overlays or {}))
        self._starts = [piece.start for piece in self._pieces]

    def preadinto(self, view: memoryview, address: int, *, salvage: bool = True) -> int:
        """Fill *view* from *address*; the count is smaller than its length only at the end of memory. Raises OldmemReadError."""
        want = min(len(view), self.size - address)
        index = bisect_right(self._starts, address) - 1
        done = 0
        while done < want:
            piece = self._pieces[index]
            at = address + done
            size = min(want - done, piece.end - at)
            part = view[done:done + size]
            if piece.file is not None:
                try:
                    piece.file.preadinto(part, piece.offset + at - piece.start, salvage=salvage)
                except OldmemReadError as error:
                    raise error.moved(good=done + error.good, address=at + error.good) from error.__cause__
            else:
                part[:] = bytes(size) if piece.data is None else piece.data[at - piece.start:at - piece.start + size]
            done += size
            index += 1
        return max(0, want)


def _pieces(memory: OldMemory, memory_map: Sequence[Range], overlays: Mapping[int, bytes]) -> list[_Piece]:
    """Pieces that rise, touch and begin at 0. Overlays that do not lie in memory, or in another one, are left out."""
    placed: list[tuple[int, bytes]] = []
    for address, data in sorted(overlays.items()):
        inside = any(r.start <= address and address + len(data) <= r.end for r in memory_map)
        if inside and (not placed or placed[-1][0] + len(placed[-1][1]) <= address):
            placed.append((address, data))
    cuts = sorted({0, memory_map[-1].end, *(at for r in memory_map for at in r),
                   *(at for address, data in placed for at in (address, address + len(data)))})
    replaced = dict(placed)
    ranges = iter(memory_map)
    current = next(ranges)
    found: list[_Piece] = []
    for start, end in pairwise(cuts):
        while current.end <= start:
            current = next(ranges)
        if start in replaced:
            found.append(_Piece(start, end, None, 0, replaced[start]))
        elif start < current.start:
            found.append(_Piece(start, end, None, 0, None))
        else:
            found += [_Piece(a, e, segment.file, segment.offset + a - segment.start, None) for segment, a, e in memory.pieces(start, end)]
    return found
