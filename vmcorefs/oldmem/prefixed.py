"""Memory that was copied through the real addresses of a running CPU, as LiME does: there, prefixing has exchanged two places.

Real 0..0x1fff of a CPU is the absolute memory at its prefix, and the real addresses at its prefix are absolute 0..0x1fff (Principles
of Operation, "Prefixing"). /dev/mem, which AVML reads, undoes it (arch/s390/mm/maccess.c: xlate_dev_mem_ptr).
"""

from __future__ import annotations

import struct

from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import ADDRESS_END, OldMemory, Segment
from vmcorefs.oldmem.raw import leads_to_metadata, raw_reader, raw_scan
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.lowcore import PREFIX_LIMIT, SIZE, VMCORE_INFO, read_absolute_lowcore

_POINTERS = struct.Struct(">QxxxxQ")  # vmcore_info and os_info
_CANDIDATES = 64


def find_prefix(image: Source) -> int | None:
    """The prefix of the CPU through which *image* was copied; None where page 0 is the absolute one, or nothing proves another.

    Only the absolute lowcore has the pointers to os_info and VMCOREINFO (setup.c, os_info.c: they are stored with prefixing undone).
    """
    read = raw_reader(image)
    if _leads_somewhere(read, 0):
        return None
    found: set[int] = set()
    tried = 0
    for start, data in raw_scan(image)(SIZE, min(PREFIX_LIMIT, image.size), SIZE - 1):
        for at in range(-start % SIZE, len(data) - SIZE + 1, SIZE):
            vmcore_info, os_info = _POINTERS.unpack_from(data, at + VMCORE_INFO)
            if (vmcore_info or os_info) and max(vmcore_info, os_info) < image.size and os_info % PAGE_SIZE == 0 and tried < _CANDIDATES:
                tried += 1
                if _leads_somewhere(read, start + at):
                    found.add(start + at)
    return found.pop() if len(found) == 1 else None


def _leads_somewhere(read: Read, lowcore: int) -> bool:
    """Whether the page at *lowcore* is an absolute lowcore that leads to os_info or VMCOREINFO."""
    page = read_absolute_lowcore(lambda address, size: read(lowcore + address, size))
    if isinstance(page, Absent) or not page.new_psws_valid:
        return False
    return leads_to_metadata(read, page)


def prefixed_memory(image: Source, prefix: int) -> OldMemory:
    """Absolute memory, out of an image of the real addresses of the CPU with *prefix*."""
    end = prefix + SIZE
    return OldMemory([
        Segment(0, SIZE, image, prefix, "prefixed"),
        *([Segment(SIZE, prefix, image, SIZE, "direct")] if prefix > SIZE else []),
        Segment(prefix, end, image, 0, "prefixed"),
        Segment(end, ADDRESS_END, image, end, "direct"),
    ])
