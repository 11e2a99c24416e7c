"""The memory ranges of the machine: given by options, or checked evidence, or the image's extent; crashkernel cut out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from vmcorefs.errors import ImageError, UsageError
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range, merge, subtract

TEXT_LIMIT = 16 << 20  # of a file


def given_ranges(ranges: Sequence[tuple[int, int]], image_size: int, image_name: str, where: str = "") -> tuple[Range, ...]:
    """The user's ranges, rising and merged where they touch. Raises UsageError naming the range that cannot be; *where* it was given."""
    ordered = sorted(Range(*r) for r in ranges)
    for r in ordered:
        if r.start >= r.end:
            raise UsageError(f"{where}memory range {r} is empty; START must be below END, which is exclusive")
        if r.start % PAGE_SIZE or r.end % PAGE_SIZE:
            raise UsageError(f"{where}memory range {r} is not page aligned; START and END must be multiples of 4096 (0x1000)")
        if r.end > image_size:
            raise UsageError(f"{where}memory range {r} is beyond the image {image_name}, which ends at {image_size:#x}")
    for a, b in pairwise(ordered):
        if b.start < a.end:
            raise UsageError(f"{where}memory ranges {a} and {b} overlap")
    return merge(ordered)


def without_crashkernel(ranges: Sequence[Range], hole: tuple[int, int] | None) -> tuple[Range, ...]:
    """Physmem minus [B, B+S) (crash_dump.c: loads_init, for_each_physmem_range with oldmem_type excluded)."""
    return tuple(ranges) if hole is None else subtract(ranges, hole)


# /proc/iomem: "START-END : NAME", hex without 0x, END inclusive; children are indented. On s390 the crashkernel area stands
# beside System RAM (arch/s390/kernel/setup.c: setup_resources), so both are memory.
_IOMEM = re.compile(r"^([0-9a-f]{8,16})-([0-9a-f]{8,16}) : (.*)$")
_IOMEM_MEMORY = ("System RAM", "Crash kernel")
# lsmem -b: "0xSTART-0xEND SIZE STATE ...", END inclusive; offline is standby memory, no part of physmem
_LSMEM = re.compile(r"^0x([0-9a-fA-F]{1,16})-0x([0-9a-fA-F]{1,16})\s+\d+\S*\s+(online|offline)\b")


def parse_memory_map(text: str, name: str) -> tuple[Range, ...]:
    """The ranges in the text of /proc/iomem or ``lsmem -b``; *name* is for messages. Raises ImageError with what is wrong."""
    ranges: list[tuple[int, int]] = []
    zeros = 0
    for line in text.splitlines():
        start_end: tuple[str, str] | None = None
        if (iomem := _IOMEM.match(line)) and iomem[3] in _IOMEM_MEMORY:
            start_end = (iomem[1], iomem[2])
        elif (lsmem := _LSMEM.match(line)) and lsmem[3] == "online":
            start_end = (lsmem[1], lsmem[2])
        if start_end is None:
            continue
        start, last = (int(word, 16) for word in start_end)
        if last < start:
            raise ImageError(f"{name}: the range {start:#x}-{last:#x} ends before it begins")
        zeros += last == 0
        ranges.append((start, last + 1))
    if zeros:
        raise ImageError(f"{name}: all addresses are 0, as a user other than root sees /proc/iomem; take it again as root")
    if not ranges:
        raise ImageError(f"{name}: no memory range is in it; give the text of /proc/iomem or of lsmem -b")
    return merge(ranges)
