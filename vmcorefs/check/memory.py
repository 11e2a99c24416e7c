"""Memory: does the image reach as far as memory did, is the dump kernel's part as large as assumed, is everything in place."""

from __future__ import annotations

from itertools import pairwise

from vmcorefs.check.cpus import is_lowcore
from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.quantities import PAGE_SIZE, human_size, round_up
from vmcorefs.ranges import Range, merge, total
from vmcorefs.s390 import Absent
from vmcorefs.s390.cpus import read_lowcore_ptr
from vmcorefs.s390.lowcore import PREFIX_LIMIT, PREFIXREG


def check_memory(dump: Dump) -> Finding:
    """The ranges are in the image (Dump.problems tells where not); does the crashed kernel's own end of memory agree?"""
    text = f"{len(dump.memory_map)} range(s) by {dump.physmem.origin}, the image has {dump.image.size:#x} bytes"
    end = dump.crashed_kernel_end
    if isinstance(end, Absent):
        return Finding("ok", text)
    area = dump.ends_with_crashkernel
    if area is not None:
        return Finding("ok", f"{text}; the crashed kernel's memory reached to {end:#x} (its high_memory), but from {area.base:#x} on it "
                       "was the dump kernel's, which /proc/vmcore does not have")
    if end > round_up(dump.image.size):
        return Finding("failed", f"the crashed kernel's memory reached to {end:#x} (its high_memory), the image ends at "
                       f"{dump.image.size:#x}")
    return Finding("ok", f"{text}; the crashed kernel's memory reached to {end:#x} (its high_memory)")


def check_crashkernel_size(dump: Dump) -> Finding:
    """S against the end of the dump kernel's memory (setup.c: a kdump kernel's memory is [0, S))."""
    area = dump.mode.crashkernel
    if area is None:
        return Finding("none", "no kdump kernel ran")
    end = dump.dump_kernel_end
    if isinstance(end, Absent):
        return Finding("none", end.reason)
    if end != area.size:
        return Finding("failed", f"the dump kernel's memory reached to {end:#x} (its high_memory), S is {area.size:#x}")
    return Finding("ok", f"the dump kernel's memory reached to {end:#x} (its high_memory), as S says")


def check_hsa_size(dump: Dump) -> Finding:
    """The HSA size against the end of the dump kernel's memory (setup.c: a zfcpdump kernel's memory is the HSA size)."""
    size = dump.mode.hsa_size
    if not size:
        return Finding("none", "no HSA image was given")
    end = dump.dump_kernel_end
    if isinstance(end, Absent):
        return Finding("none", end.reason)
    if end < size:
        return Finding("failed", f"the dump kernel's memory reached to {end:#x} only (its high_memory), the HSA size is {size:#x}",
                       means=f"addresses {end:#x} to {size:#x} are served from the HSA file, but stand in the image",
                       advice=f"mount it with --hsa-size {end:#x}")
    if end > size:
        return Finding("failed", f"the dump kernel's memory reached to {end:#x} (its high_memory), the HSA size is {size:#x}")
    return Finding("ok", f"the dump kernel's memory reached to {end:#x} (its high_memory), as the HSA size says")


def check_positions(dump: Dump) -> Finding:
    """Whether bytes stand at their addresses: memory ranges that were written one behind the other look like a good image."""
    prefixes = {cpu.save_area.prefix_address for cpu in dump.cpus} | set(read_lowcore_ptr(dump.oldmem.read, dump.vmcoreinfo).values())
    wrong = {prefix for prefix in prefixes if not is_lowcore(dump, prefix)}
    shifts = _shifts(dump, wrong) if wrong else {}
    holes = _holes(dump)
    end = dump.crashed_kernel_end
    short = max([dump.physmem.value[-1].end] + ([] if isinstance(end, Absent) else [end])) - round_up(dump.image.size)
    left_out = holes if short == total(holes) else [hole for hole in holes if hole.size == short]
    if shifts:
        prefix, shift = min(shifts.items())
        text = (f"{len(shifts)} CPU(s)' lowcores stand too low in the image, that of address {prefix:#x} by {shift:#x} "
                f"({human_size(shift)})")
        hole = next((hole for hole in holes if hole.size == shift), None)
        return Finding("failed", text + (f", the size of the hole {hole}" if hole else ""))
    if short > 0 and left_out:
        return Finding("failed", f"the image is shorter than memory by {short:#x} ({human_size(short)}), exactly the size of the "
                       f"{'hole' if len(left_out) == 1 else 'holes'} in it: {', '.join(str(hole) for hole in left_out[:4])}")
    if not prefixes:
        return Finding("none", "no CPU's lowcore is known, so there is nothing whose place is known twice")
    if wrong:
        return Finding("none", f"{len(wrong)} of {len(prefixes)} lowcore(s) are not at their addresses, and nowhere else in the "
                       "image")
    return Finding("ok", f"{len(prefixes)} lowcore(s) stand at the addresses by which the kernel knows them")


def _holes(dump: Dump) -> list[Range]:
    """Between ranges of memory. The dump kernel's header leaves the crashkernel area out, which is memory."""
    area = dump.mode.crashkernel
    ranges = merge([*dump.physmem.value, *([area.span] if area else [])])
    return [Range(a.end, b.start) for a, b in pairwise(ranges) if a.end < b.start]


def _shifts(dump: Dump, prefixes: set[int]) -> dict[int, int]:
    """How much lower in the image the lowcore of a prefix stands that is not where it should be."""
    expected = {}
    for prefix in prefixes:
        segment, start, _ = next(dump.oldmem.pieces(prefix, prefix + 1))
        if segment.file is dump.image:
            expected[prefix] = segment.offset + start - segment.start
    found: dict[int, int] = {}
    for offset, data in dump.image.scan(0, min(PREFIX_LIMIT, dump.image.size), overlap=2 * PAGE_SIZE):
        for at in range(-offset % PAGE_SIZE, len(data) - 2 * PAGE_SIZE + 1, PAGE_SIZE):
            prefix = int.from_bytes(data[at + PREFIXREG:at + PREFIXREG + 4], "big")
            if prefix in expected and 0 < offset + at < expected[prefix]:
                found.setdefault(prefix, expected[prefix] - offset - at)
    return found
