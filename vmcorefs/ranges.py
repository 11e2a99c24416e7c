"""Sorted, disjoint, half-open ranges of addresses: [start, end)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Range(NamedTuple):
    """The addresses start <= a < end."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many addresses."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


def merge(ranges: Iterable[tuple[int, int]]) -> tuple[Range, ...]:
    """Sorted and disjoint; ranges that touch or overlap become one, empty ones vanish (as memblock keeps them)."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if start >= end:
            continue
        if merged and start <= merged[-1].end:
            merged[-1] = Range(merged[-1].start, max(merged[-1].end, end))
        else:
            merged.append(Range(start, end))
    return tuple(merged)


def subtract(ranges: Iterable[tuple[int, int]], hole: tuple[int, int]) -> tuple[Range, ...]:
    """*ranges* without the addresses of *hole*, in the same order; ranges are cut, never joined."""
    left: list[Range] = []
    for start, end in ranges:
        for a, e in ((start, min(end, hole[0])), (max(start, hole[1]), end)):
            if a < e:
                left.append(Range(a, e))
    return tuple(left) if hole[0] < hole[1] else tuple(Range(*r) for r in ranges)


def overlap(ranges: Iterable[tuple[int, int]], start: int, end: int) -> tuple[Range, ...]:
    """What of *ranges* lies in [start, end), in the same order."""
    return tuple(Range(max(a, start), min(e, end)) for a, e in ranges if max(a, start) < min(e, end))


def find(starts: Sequence[int], position: int) -> int:
    """Index of the last element of the sorted *starts* that is <= *position*; -1 where there is none."""
    return bisect_right(starts, position) - 1


def total(ranges: Iterable[tuple[int, int]]) -> int:
    """How many addresses lie in *ranges*."""
    return sum(end - start for start, end in ranges)


def contains(ranges: Sequence[Range], start: int, end: int) -> bool:
    """Whether [start, end) lies within one of the sorted *ranges*."""
    index = bisect_right(ranges, (start, 1 << 65)) - 1
    return index >= 0 and ranges[index].start <= start and end <= ranges[index].end
