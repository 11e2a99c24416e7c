"""The log, and the small files that a mount has beside vmcore."""

from __future__ import annotations

from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent
from vmcorefs.s390.lowcore import SIZE
from vmcorefs.s390.printk import Damage, read_log

_POINTERS = ("prb", "log_buf")


def check_log(dump: Dump) -> Finding:
    """Every record of the crashed kernel's log."""
    info = dump.vmcoreinfo
    if info is None:
        return Finding("none", "VMCOREINFO alone leads to the log, and there is none")
    log = read_log(dump.oldmem.read, info)
    if isinstance(log, Absent):
        return Finding("none" if _nothing_leads_to_it(dump) else "failed", log.reason)
    damage = Damage()
    count = sum(1 for _ in log.records(damage))
    if damage or not count:
        return Finding("failed", f"{count} record(s) can be read; {damage or 'the log is empty'}")
    return Finding("ok", f"{count} record(s), none of them damaged")


def _nothing_leads_to_it(dump: Dump) -> bool:
    """VMCOREINFO has no pointer to the log, or it leads to zeros: the page is not in the image, rather than damaged."""
    info = dump.vmcoreinfo
    assert info is not None
    addresses = [address for name in _POINTERS if (address := info.symbol(name)) is not None]
    if not addresses:
        return True
    try:
        return not any(dump.oldmem.read(info.physical(addresses[0]), 8))
    except OldmemReadError:
        return False


def absent_files(dump: Dump) -> dict[str, str]:
    """Small files of the mount (report/files.py) that cannot be made, and why."""
    absent = {}
    info = dump.vmcoreinfo
    if info is None:
        found = dump.metadata.found_vmcoreinfo
        absent["vmcoreinfo.txt"] = found.reason if isinstance(found, Absent) else "no VMCOREINFO"
        absent["dmesg.txt"] = "VMCOREINFO alone leads to the log"
    else:
        log = read_log(dump.oldmem.read, info)
        if isinstance(log, Absent):
            absent["dmesg.txt"] = log.reason
    if not dump.cpus:
        absent["cpus/"] = "no CPU with saved registers is known"
    for number, cpu in enumerate(dump.cpus, 1):
        try:
            dump.oldmem.read(cpu.save_area.prefix_address, SIZE)
        except OldmemReadError as error:
            absent[f"cpus/{number}/lowcore.bin"] = f"{error.cause} at {error.offset:#x}"
    return absent


def check_small_files(dump: Dump) -> Finding:
    """Which of them there will be."""
    absent = absent_files(dump)
    if not absent:
        return Finding("ok", "vmcoreinfo.txt, info.json, dmesg.txt and cpus/ can all be made")
    return Finding("none", "; ".join(f"{name} will be absent: {reason}" for name, reason in list(absent.items())[:8]),
                   means="vmcore is not touched by it", advice="")
