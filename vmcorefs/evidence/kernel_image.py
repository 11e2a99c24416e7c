"""Where the crashed kernel's image is, which has a PT_LOAD of its own from 6.10 on."""

from __future__ import annotations

from vmcorefs.evidence import Ground
from vmcorefs.evidence.metadata import Metadata
from vmcorefs.ranges import Range, contains
from vmcorefs.s390 import Absent
from vmcorefs.s390.elfcorebuf import FinishedHeader
from vmcorefs.s390.kallsyms import find_symbol
from vmcorefs.s390.os_info import IDENTITY_BASE, IMAGE_END, IMAGE_PHYS, IMAGE_START, KASLR_OFFSET
from vmcorefs.vmcore.elfcorehdr import IMAGE_SIZE_LIMIT, Load
from vmcorefs.vmcore.layout_evidence import HEADER_ORIGIN


def find_kernel_image(ground: Ground, metadata: Metadata, header: FinishedHeader | None,
                      memory: tuple[Range, ...]) -> tuple[Load | None, int]:
    """(PT_LOAD of the kernel image, identity base), from the value entries of os_info; None where it is not in *memory*."""
    info = metadata.os_info
    if not metadata.os_info_used:
        return None, 0
    if isinstance(info, Absent):
        return _without_os_info(ground, metadata, header, memory)
    if not info.value(KASLR_OFFSET):
        return None, 0
    start, end, phys = info.value(IMAGE_START), info.value(IMAGE_END), info.value(IMAGE_PHYS)
    base = info.value(IDENTITY_BASE)
    if not start < end <= start + IMAGE_SIZE_LIMIT or not contains(memory, phys, phys + end - start):
        ground.problem("kernel-image", f"os_info at {info.address:#x}: the kernel image {start:#x}..{end:#x} at physical "
                       f"address {phys:#x} is not in memory; its PT_LOAD is left out")
        return None, base
    return Load(start, phys, end - start, "kernel image"), base


def _without_os_info(ground: Ground, metadata: Metadata, header: FinishedHeader | None,
                     memory: tuple[Range, ...]) -> tuple[Load | None, int]:
    """What os_info would have said is in the dump kernel's own header, too, and in VMCOREINFO with the symbol table (os_info.c,
    setup.c: _stext and _end).
    """
    vmcoreinfo = metadata.vmcoreinfo
    if header is not None and header.image_load is not None:
        start, phys, size = header.image_load.p_vaddr, header.image_load.p_paddr, header.image_load.p_memsz
        base, origin = header.identity_base, HEADER_ORIGIN
    else:
        if vmcoreinfo is None or vmcoreinfo.number("KERNELOFFPHYS") is None:  # not told by a kernel before 6.10, nor needed
            return None, 0
        stext, end = vmcoreinfo.symbol("_stext"), find_symbol(ground.oldmem.read, vmcoreinfo, "_end")
        base, origin = vmcoreinfo.number("IDENTITYBASE") or 0, "VMCOREINFO and the symbol _end"
        start, size = stext or 0, 0 if stext is None or isinstance(end, Absent) else end - stext
        phys = vmcoreinfo.physical(start)
    if not 0 < size <= IMAGE_SIZE_LIMIT or not contains(memory, phys, phys + size):
        ground.problem("kernel-image", "os_info, which tells where the kernel image is, is lost; its PT_LOAD is left out")
        return None, base
    ground.problem("os_info", f"the kernel image's addresses, which os_info would have told, were taken from: {origin}")
    return Load(start, phys, size, "kernel image"), base
