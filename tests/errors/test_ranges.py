"""Ranges against sets of addresses."""

from __future__ import annotations

import itertools

import pytest

from vmcorefs.ranges import Range, contains, find, merge, overlap, subtract, total

SMALL = [(a, e) for a in range(5) for e in range(5)]


def addresses(ranges: tuple[Range, ...] | list[tuple[int, int]]) -> set[int]:
    return {a for start, end in ranges for a in range(start, end)}


def test_merge_of_every_three_small_ranges_keeps_the_addresses() -> None:
    for three in itertools.combinations(SMALL, 3):
        merged = merge(three)
        assert addresses(merged) == addresses(list(three)), three
        assert all(r.start < r.end for r in merged), three
        assert all(a.end < b.start for a, b in itertools.pairwise(merged)), three


def test_merge_joins_what_touches_and_drops_what_is_empty() -> None:
    assert merge([(8, 9), (4, 8), (2, 2), (0, 1)]) == (Range(0, 1), Range(4, 9))


def test_subtract_of_every_small_hole_keeps_the_other_addresses() -> None:
    for (start, end), hole in itertools.product(SMALL, SMALL):
        if start < end:
            left = subtract([(start, end), (10, 12)], hole)
            assert addresses(left) == addresses([(start, end), (10, 12)]) - addresses([hole]), ((start, end), hole)


@pytest.mark.parametrize(("hole", "left"), [
    ((2, 4), (Range(0, 2), Range(4, 8))), ((0, 3), (Range(3, 8),)), ((5, 8), (Range(0, 5),)), ((0, 8), ()),
    ((8, 9), (Range(0, 8),)),
])
def test_subtract(hole: tuple[int, int], left: tuple[Range, ...]) -> None:
    assert subtract([(0, 8)], hole) == left


def test_an_empty_hole_cuts_nothing() -> None:
    assert subtract([(0, 8), (9, 10)], (4, 4)) == (Range(0, 8), Range(9, 10))


def test_subtract_never_joins() -> None:
    assert subtract([(0, 4), (4, 8)], (9, 10)) == (Range(0, 4), Range(4, 8))


@pytest.mark.parametrize(("position", "index"), [(-1, -1), (0, 0), (4, 0), (5, 1), (9, 1), (10, 2), (99, 2)])
def test_find(position: int, index: int) -> None:
    assert find([0, 5, 10], position) == index


def test_find_before_the_first() -> None:
    assert find([3], 2) == -1


def test_total() -> None:
    assert total([(0, 3), (10, 20)]) == 13


@pytest.mark.parametrize(("start", "end", "inside"), [
    (0, 10, True), (3, 7, True), (0, 11, False), (9, 12, False), (10, 12, False), (20, 25, True), (19, 25, False), (12, 30, False),
])
def test_contains(start: int, end: int, inside: bool) -> None:
    assert contains((Range(0, 10), Range(20, 30)), start, end) is inside


def test_contains_in_nothing() -> None:
    assert not contains((), 0, 1)


def test_contains_beyond_64_bits() -> None:
    assert not contains((Range(0, 10),), (1 << 64) - 1, (1 << 64) + 5)


def test_a_range_has_size_and_words() -> None:
    assert (Range(0x1000, 0x3000).size, str(Range(0x1000, 0x3000))) == (0x2000, "0x1000-0x3000")


def test_overlap_of_every_two_small_ranges_has_the_addresses_of_both() -> None:
    for (start, end), two in itertools.product(SMALL, itertools.combinations(SMALL, 2)):
        found = overlap(two, start, end)
        assert addresses(found) == addresses(list(two)) & set(range(start, end))
        assert all(a < e for a, e in found)
