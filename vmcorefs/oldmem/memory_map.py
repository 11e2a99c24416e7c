"""The memory ranges of the machine: given by options, or checked evidence, or the image's extent; crashkernel cut out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from vmcorefs.errors import UsageError
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range, merge, subtract


def given_ranges(ranges: Sequence[tuple[int, int]], image_size: int, image_name: str) -> tuple[Range, ...]:
    """The user's ranges, rising and merged where they touch. Raises UsageError naming the range that cannot be."""
    ordered = sorted(Range(*r) for r in ranges)
    for r in ordered:
        if r.start >= r.end:
            raise UsageError(f"memory range {r} is empty; START must be below END, which is exclusive")
        if r.start % PAGE_SIZE or r.end % PAGE_SIZE:
            raise UsageError(f"memory range {r} is not page aligned; START and END must be multiples of 4096 (0x1000)")
        if r.end > image_size:
            raise UsageError(f"memory range {r} is beyond the image {image_name}, which ends at {image_size:#x}")
    for a, b in pairwise(ordered):
        if b.start < a.end:
            raise UsageError(f"memory ranges {a} and {b} overlap")
    return merge(ordered)


def without_crashkernel(ranges: Sequence[Range], hole: tuple[int, int] | None) -> tuple[Range, ...]:
    """Physmem minus [B, B+S) (crash_dump.c: loads_init, for_each_physmem_range with oldmem_type excluded)."""
    return tuple(ranges) if hole is None else subtract(ranges, hole)
