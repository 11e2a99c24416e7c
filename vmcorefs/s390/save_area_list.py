"""The dump kernel's own list of save areas (crash_dump.c: dump_save_areas), found in its memory without symbols.

Order, count and values in it are exactly what the notes were made of, in every case; memblock allocations never freed.
"""

from __future__ import annotations

from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent, Read, Scan
from vmcorefs.s390.save_area import SAVE_AREA_SIZE, SaveArea, from_save_area, from_status, pattern
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

CPU_LIMIT = 65536
_PATTERN_OFFSET = 0x10  # of psw in struct save_area
_ALIGN = 8


def find_save_area_list(read: Read, scan: Scan, limit: int, boot_status: bytes,
                        dump_vmcoreinfo: Vmcoreinfo | None) -> tuple[SaveArea, ...] | Absent:
    """The save areas in the kernel's order, boot CPU first.

    *read* and *scan* see the image as it is, where [0, limit) is the dump kernel's memory; *boot_status* is the boot CPU's
    architected save area, the first element must agree with it in every register; *dump_vmcoreinfo* (the dump kernel's own)
    translates its virtual addresses.
    """
    needle = pattern(boot_status)
    if len(set(needle)) < 4:
        return Absent("no registers of the boot CPU to search the dump kernel's save areas with", suspicious=False)
    boot = from_status(boot_status)
    reason = "the dump kernel's list of save areas is not in its memory"
    tried: set[int] = set()  # elements of chains that led nowhere: no later chain through them can do better
    for offset, data in scan(0, limit, len(needle) - 1):
        hit = data.find(needle)
        while hit >= 0:
            first = offset + hit - _PATTERN_OFFSET
            if first >= 0 and first % _ALIGN == 0 and first not in tried:
                found = _walk(read, limit, first, boot, dump_vmcoreinfo, tried)
                if not isinstance(found, Absent):
                    return found
                reason = found.reason
            hit = data.find(needle, hit + 1)
    return Absent(reason)


def _walk(read: Read, limit: int, first: int, boot: SaveArea,
          dump_vmcoreinfo: Vmcoreinfo | None, tried: set[int]) -> tuple[SaveArea, ...] | Absent:
    """The chain that starts with the element at *first*; each prev must lead back, and the ends must meet in the head.

    The places of its elements are added to *tried*.
    """
    where = f"the dump kernel's save area at {first:#x}"
    elements: list[SaveArea] = []
    seen: set[int] = set()
    here, previous = first, None
    try:
        while len(elements) < CPU_LIMIT:
            data = read(here, SAVE_AREA_SIZE)
            next_, prev = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big")
            if previous is None:
                head = _physical(prev, dump_vmcoreinfo, limit)
                if head is None:
                    return Absent(f"{where}: list.prev {prev:#x} is no address of the dump kernel")
            elif _physical(prev, dump_vmcoreinfo, limit) != previous:
                return Absent(f"{where}: the element at {here:#x} does not lead back to {previous:#x}")
            area = from_save_area(data)
            if previous is None and not area.same_status(boot):
                return Absent(f"{where}: its registers are not the boot CPU's")
            elements.append(area)
            seen.add(here)
            tried.add(here)
            following = _physical(next_, dump_vmcoreinfo, limit)
            if following is None or following in seen:
                return Absent(f"{where}: list.next {next_:#x} of the element at {here:#x} is no address of the dump kernel")
            if following == head:
                ends = read(head, 16)
                first_last = [_physical(int.from_bytes(ends[i:i + 8], "big"), dump_vmcoreinfo, limit) for i in (0, 8)]
                if first_last != [first, here]:
                    return Absent(f"{where}: the list head at {head:#x} does not lead to its ends")
                return tuple(elements)
            previous, here = here, following
    except OldmemReadError as error:
        return Absent(f"{where}: the list cannot be followed ({error.cause} at {error.offset:#x})")
    return Absent(f"{where}: more than {CPU_LIMIT} elements")


def _physical(virtual: int, vmcoreinfo: Vmcoreinfo | None, limit: int) -> int | None:
    """Virtual address of the dump kernel to image offset; None if it is no 8-byte aligned place in [0, limit)."""
    address = virtual if vmcoreinfo is None else vmcoreinfo.physical(virtual)
    return address if address % _ALIGN == 0 and 0 < address < limit else None
