"""Given ranges are checked one by one; the crashkernel area is cut out as the kernel cuts it."""

from __future__ import annotations

import pytest

from vmcorefs.errors import UsageError
from vmcorefs.oldmem.memory_map import given_ranges, without_crashkernel
from vmcorefs.ranges import Range

SIZE = 0x400000


def given(*ranges: tuple[int, int]) -> tuple[Range, ...]:
    return given_ranges(ranges, SIZE, "a.img")


def test_ranges_are_sorted_and_merged_where_they_touch() -> None:
    assert given((0x200000, 0x300000), (0x1000, 0x2000), (0, 0x1000)) == (Range(0, 0x2000), Range(0x200000, 0x300000))


@pytest.mark.parametrize(("ranges", "words"), [
    ([(0x1000, 0x1000)], "0x1000-0x1000 is empty"),
    ([(0x2000, 0x1000)], "0x2000-0x1000 is empty"),
    ([(0x800, 0x2000)], "0x800-0x2000 is not page aligned"),
    ([(0, 0x1fff)], "0x0-0x1fff is not page aligned"),
    ([(0, 0x401000)], "0x0-0x401000 is beyond the image a.img, which ends at 0x400000"),
    ([(0x400000, 0x500000)], "0x400000-0x500000 is beyond the image"),
    ([(0, 0x3000), (0x2000, 0x4000)], "0x0-0x3000 and 0x2000-0x4000 overlap"),
    ([(0x2000, 0x4000), (0, 0x3000)], "0x0-0x3000 and 0x2000-0x4000 overlap"),
    ([(0, 0x3000), (0, 0x3000)], "0x0-0x3000 and 0x0-0x3000 overlap"),
    ([(0, 0x100000), (0x1000, 0x2000)], "0x0-0x100000 and 0x1000-0x2000 overlap"),
])
def test_what_cannot_be_memory_is_refused_by_its_values(ranges: list[tuple[int, int]], words: str) -> None:
    with pytest.raises(UsageError, match="memory range") as caught:
        given(*ranges)
    assert words in str(caught.value)


def test_up_to_the_end_of_the_image_is_allowed() -> None:
    assert given((0, SIZE)) == (Range(0, SIZE),)


@pytest.mark.parametrize(("ranges", "expected"), [
    ([(0, 8)], [(0, 3), (5, 8)]),
    ([(0, 5)], [(0, 3)]),
    ([(3, 8)], [(5, 8)]),
    ([(3, 5)], []),
    ([(0, 1), (4, 8)], [(0, 1), (5, 8)]),
    ([(0, 4), (4, 8)], [(0, 3), (5, 8)]),
    ([(0, 1), (7, 8)], [(0, 1), (7, 8)]),
])
def test_the_crashkernel_area_is_cut_out(ranges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert without_crashkernel([Range(*r) for r in ranges], (3, 5)) == tuple(Range(*r) for r in expected)


def test_without_a_crashkernel_area_nothing_is_cut() -> None:
    assert without_crashkernel([Range(0, 8)], None) == (Range(0, 8),)
