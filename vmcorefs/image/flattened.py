"""Flattened dumps (makedumpfile -F, QEMU's kdump-*): records of a file that was to be written out of order, one after the other.

A header of 4096 bytes: "makedumpfile", type and version (u64, both 1). Then records, all big endian: offset i64, size i64, data;
the end is -1, -1. Where records overlap the later one counts; what none has is zero, where the dump inside has nothing there
(flattened_gaps). Source: makedumpfile.h, print_info.h.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.flattened_gaps import Layout, layout_of, split
from vmcorefs.image.flattened_records import Chain, Records
from vmcorefs.image.layer import Layer, check_depth
from vmcorefs.image.source import Container, Source
from vmcorefs.ranges import Range, total

MAGIC = b"makedumpfile\0\0\0\0"
_TYPES = struct.Struct(">QQ")
_COMPARED_LIMIT = 16 << 20  # bytes that are in two records
_PAIRS_LIMIT = 1 << 12  # of chains that overlap
_STEP = 1 << 16


class _Zeros(Range):
    """A gap in which the dump has nothing."""


class _Disputed(Range):
    """A part of its memory that two records have with other bytes, or one that has moved."""


_Part = Chain | _Zeros | _Disputed


class FlattenedFile(Layer):
    """The file inside, with random access. *incomplete*: the end record is missing. *problems*: what is wrong with its records."""

    def __init__(self, file: Source):
        self._records = Records(file)
        self.incomplete = self._records.incomplete
        self.problems: tuple[str, ...] = ()
        self._set([*self._records.chains, *self._records.overlays])
        super().__init__([file], self._ends[-1] if self._ends else 0, Container())
        self._settle()

    def _set(self, parts: Sequence[_Part]) -> None:
        self._parts = list(parts)
        self._starts, self._ends, self._which = array("Q"), array("Q"), array("L")
        for start, end, number in _without_overlaps(self._parts):
            self._starts.append(start)
            self._ends.append(end)
            self._which.append(number)

    def _gaps(self) -> list[Range]:
        return [Range(a, b) for a, b in zip((0, *self._ends), self._starts) if a < b]  # noqa: B905

    def _settle(self) -> None:
        """What the gaps are, and the memory that is in two records."""
        gaps = self._gaps()
        layout = layout_of(self, gaps) or Layout((Range(0, self.size),), self.size)
        zeros, lost = split(gaps, layout.stored)
        end = max((part.end for part in layout.stored), default=0)
        lost += [Range(self.size, end)] if end > self.size else []
        disputed, problems = self._disputed(layout, lost)
        if lost and not self.incomplete:
            problems.append(f"no record of the flattened file has the bytes {lost[0]} of the dump in it ({total(lost):#x} bytes in "
                            f"{len(lost)} part(s)): a record is lost, or the offset of one damaged; copy it again")
        self.problems = tuple(problems)
        if zeros or disputed:
            self._set([*self._parts, *(_Zeros(*part) for part in zeros), *disputed])

    def _disputed(self, layout: Layout, lost: Sequence[Range]) -> tuple[list[_Disputed], list[str]]:
        """(memory that two records have with other bytes, what is to be told of all that two have).

        In headers the later one counts, as for makedumpfile -R; of memory nobody can tell which one has a damaged offset. A record that
        lies over another one and beside a gap has moved: none of its bytes is where it belongs.
        """
        found: list[_Disputed] = []
        first, left = "", _COMPARED_LIMIT
        begins, ends = {gap.end for gap in lost}, {gap.start for gap in lost}
        for number, (later, earlier, start, end) in enumerate(self._records.overlaps()):
            if number == _PAIRS_LIMIT:  # nobody writes such a file
                found = [_Disputed(max(chain.start, layout.data), chain.end) for chain in self._records.overlays if chain.end > layout.data]
                break
            if layout.updated.start <= start and end <= layout.updated.end:
                continue
            moved = [Range(chain.start, chain.end) for chain in (later, earlier) if chain.start in begins or chain.end in ends]
            same = not moved and left >= end - start and self._same(later, earlier, start, end, rewritten=not lost)
            left -= min(end - start, left)
            if same:
                continue
            first = first or (f"two records of the flattened file have the bytes {Range(start, end)} of the dump in it, the later one "
                              f"(from {later.places[0]:#x} on) other ones than the earlier one (from {earlier.places[0]:#x} on)")
            found += [_Disputed(max(part.start, layout.data), part.end) for part in (*moved, Range(start, end)) if part.end > layout.data]
        beyond = [chain for chain in self._records.chains[-1:] if chain.start in begins and chain.end > layout.stored[-1].end]
        for chain in beyond:  # the last record has moved: there is none that it could lie over
            first = first or (f"the record at {chain.places[0]:#x} of the flattened file lies behind a gap and reaches beyond the end of "
                              f"the dump in it at {layout.stored[-1].end:#x}")
            found.append(_Disputed(max(chain.start, layout.data), chain.end))
        words = ("what is right is not known, so memory there is broken; copy it again" if found else
                 "the later one is used, as makedumpfile -R does")
        return found, [f"{first}: {words}"] if first else []

    def _same(self, one: Chain, other: Chain, start: int, end: int, *, rewritten: bool) -> bool:
        """Whether both have the same bytes; *rewritten*: *other* may also have zeros, which kept the place until the bytes were known."""
        for at in range(start, end, _STEP):
            a, b = (bytearray(min(_STEP, end - at)) for _ in range(2))
            try:
                self._records.read(memoryview(a), one, at, salvage=False)
                self._records.read(memoryview(b), other, at, salvage=False)
            except OldmemReadError:
                return False
            if a != b and not (rewritten and not b.strip(b"\0")):
                return False
        return True

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        want, done = len(view), 0
        if want and not 0 <= offset < self.size:
            raise self._gap_error(offset)
        index = bisect_right(self._starts, offset) - 1
        while done < want:
            at = offset + done
            if index + 1 < len(self._starts) and at >= self._starts[index + 1]:
                index += 1
            try:
                if index < 0 or at >= self._ends[index]:
                    raise self._gap_error(at)
                count = min(want - done, self._ends[index] - at)
                part = self._parts[self._which[index]]
                if isinstance(part, Chain):
                    self._records.read(view[done:done + count], part, at, salvage=salvage)
                elif isinstance(part, _Zeros):
                    view[done:done + count] = bytes(count)
                else:
                    raise OldmemReadError(self.path, at, f"damaged offset of a record of the flattened file: what belongs to "
                                          f"{part.start:#x}-{part.end:#x} of the dump in it is not known")
            except OldmemReadError as error:
                raise error.moved(good=done + error.good) from error.__cause__
            done += count

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source: what is in no record is left out."""
        index = bisect_right(self._ends, position)
        while index < len(self._starts) and isinstance(self._parts[self._which[index]], _Zeros):
            index += 1
        if index == len(self._starts) or self._starts[index] >= end:
            return end, end
        return max(position, self._starts[index]), min(self._ends[index], end)

    def _gap_error(self, offset: int) -> OldmemReadError:
        words = f" ({self.incomplete})" if self.incomplete else ""
        return OldmemReadError(self.path, offset, f"no record of the flattened file has this part of the dump{words}", kind="missing")


def _without_overlaps(parts: Sequence[_Part]) -> list[tuple[int, int, int]]:
    """(start, end, number) sorted and disjoint; where parts overlap the later one counts."""
    order = sorted(range(len(parts)), key=lambda number: parts[number].start)
    borders = sorted({border for part in parts for border in (part.start, part.end)})
    pieces: list[tuple[int, int, int]] = []
    active: list[int] = []  # a heap of negative numbers: the latest part first
    following = 0
    for start, end in pairwise(borders):
        while following < len(order) and parts[order[following]].start <= start:
            heappush(active, -order[following])
            following += 1
        while active and parts[-active[0]].end <= start:
            heappop(active)
        if not active:
            continue
        if pieces and pieces[-1][2] == -active[0] and pieces[-1][1] == start:
            pieces[-1] = (pieces[-1][0], end, -active[0])
        else:
            pieces.append((start, end, -active[0]))
    return pieces


def from_file(file: Source) -> Source:
    """The dump in the flattened *file*, which is recognised in turn. Raises ImageError."""
    from vmcorefs.image import recognise

    try:
        kind, version = _TYPES.unpack(file.pread(_TYPES.size, len(MAGIC)))
    except OldmemReadError as error:
        raise ImageError(f"{file.name}: the flattened dump ends within its header, at {error.offset:#x}; copy it again") from error
    if (kind, version) != (1, 1):
        raise ImageError(f"{file.name}: a flattened makedumpfile dump of type {kind:#x}, version {version:#x} (at offset 0x10); only "
                         "type 1, version 1 is known")
    check_depth(file)
    inside = FlattenedFile(file)
    if not inside.size:
        raise ImageError(f"{file.name}: the flattened dump is empty ({inside.incomplete or 'it has no record but its end'}); copy it again")
    if not inside.head(1):
        raise ImageError(f"{file.name}: damaged flattened dump: {inside.problems[0] if inside.problems else inside.incomplete}")
    opened = recognise(inside)
    words = [text for text in (inside.incomplete, opened.container.incomplete) if text]
    opened.container = replace(opened.container, detail=f"{opened.container.detail}, flattened", incomplete="; ".join(words) or None,
                               problems=(*inside.problems, *opened.container.problems))
    return opened
