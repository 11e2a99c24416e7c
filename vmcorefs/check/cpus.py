"""The CPUs: their lowcores, and the two places where their registers stand."""

from __future__ import annotations

from collections import Counter

from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent
from vmcorefs.s390.cpus import read_lowcore_ptr
from vmcorefs.s390.lowcore import CPU_NR, read_absolute_lowcore, read_status
from vmcorefs.s390.lowcore import SIZE as LOWCORE_SIZE
from vmcorefs.s390.save_area import STATUS_FIELDS, from_status

_LIST = "save area list"
_SHOWN = 4


def is_lowcore(dump: Dump, prefix: int) -> bool:
    """Whether a CPU's lowcore stands at absolute *prefix*."""
    lowcore = read_absolute_lowcore(lambda address, size: dump.oldmem.read(prefix + address, size))
    return not isinstance(lowcore, Absent) and lowcore.new_psws_valid


def _is_not_in_the_dump(dump: Dump, prefix: int) -> bool:
    """Never saved, or cut off. A raw image says nothing about itself: what is beyond its end may be its mistake."""
    if dump.image.container.format == "raw":
        return False
    try:
        dump.oldmem.read(prefix, LOWCORE_SIZE)
    except OldmemReadError as error:
        return error.kind != "broken"
    return False


def check_lowcores(dump: Dump) -> Finding:
    """Each CPU with notes has a lowcore where its prefix register says, with a number of its own."""
    prefixes = [cpu.save_area.prefix_address for cpu in dump.cpus]
    if not prefixes:
        return Finding("none", "no CPU is known")
    gone = [prefix for prefix in prefixes if _is_not_in_the_dump(dump, prefix)]
    if gone:
        return Finding("none", f"the lowcores of {len(gone)} of {len(prefixes)} CPU(s) are not in the dump: {_some(gone)}",
                       means="their registers were taken from elsewhere; nothing says that they are wrong",
                       advice="see the checks missing and filtered")
    wrong = [prefix for prefix in prefixes if not is_lowcore(dump, prefix)]
    if wrong:
        return Finding("failed", f"{len(wrong)} of {len(prefixes)} CPU(s) have no lowcore where their prefix register says: "
                       f"{_some(wrong)}")
    numbers = Counter(int.from_bytes(dump.oldmem.read(prefix + CPU_NR, 4), "big") for prefix in prefixes)
    twice = [number for number, count in numbers.items() if count > 1]
    if twice:
        return Finding("failed", f"two lowcores are of the same CPU ({twice[0]}, by cpu_nr at 0x3a0)")
    return Finding("ok", f"{len(prefixes)} lowcore(s) with the new PSWs of a kernel, of CPU {', '.join(map(str, sorted(numbers)))}")


def check_save_areas(dump: Dump) -> Finding:
    """The dump kernel's list of save areas against the save areas in the lowcores, and against lowcore_ptr[]."""
    if dump.found_cpus.origin != _LIST:
        told = dump.registers.no_list or "the dump kernel's list of save areas was not used"
        return Finding("none", f"{told} (registers: {dump.found_cpus.origin})")
    known = set(read_lowcore_ptr(dump.oldmem.read, dump.vmcoreinfo).values())
    listed = {cpu.save_area.prefix_address for cpu in dump.cpus}
    if known and listed != known:
        more, fewer = sorted(listed - known), sorted(known - listed)
        words = [f"{text} {_some(prefixes)}" for text, prefixes in (
            ("lowcore_ptr[] does not have the list's lowcore at", more), ("the list does not have lowcore_ptr[]'s at", fewer))
            if prefixes]
        return Finding("failed", "; ".join(words))
    stored, differ = 0, []
    for cpu in dump.cpus:
        prefix = cpu.save_area.prefix_address
        status = read_status(dump.oldmem.read, prefix)
        if isinstance(status, Absent):
            continue
        stored += 1
        other = from_status(status)
        fields = [name for name in STATUS_FIELDS if name != "timer" and getattr(other, name) != getattr(cpu.save_area, name)]
        if fields:
            differ.append(f"{prefix:#x} ({', '.join(fields)})")
    if differ:
        return Finding("failed", f"{len(differ)} of {stored} save area(s) in the lowcores have other registers than the list: "
                       f"{', '.join(differ[:_SHOWN])}")
    if not stored:
        return Finding("none", f"the list has {len(listed)} CPU(s); no registers were stored in their lowcores",
                       means="the list alone tells the registers, as always in a zfcpdump or stand-alone dump", advice="")
    return Finding("ok", f"the list's {len(listed)} CPU(s) are those of lowcore_ptr[], and {stored} save area(s) in the lowcores "
                   "have the same registers")


def _some(addresses: list[int]) -> str:
    return ", ".join(hex(a) for a in addresses[:_SHOWN]) + (", ..." if len(addresses) > _SHOWN else "")
