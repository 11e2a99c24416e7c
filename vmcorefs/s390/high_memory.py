"""Where a kernel's memory ended, by its own variable high_memory (arch/s390: arch_crash_save_vmcoreinfo names it)."""

from __future__ import annotations

from vmcorefs.errors import OldmemReadError
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

_LIMIT = 1 << 53  # the largest address space of s390


def read_high_memory(read: Read, vmcoreinfo: Vmcoreinfo) -> int | Absent:
    """The absolute address behind the last byte of the memory that the kernel of *vmcoreinfo* was booted with."""
    variable = vmcoreinfo.symbol("high_memory")
    if variable is None:
        return Absent("VMCOREINFO has no line SYMBOL(high_memory)=", suspicious=False)
    address = vmcoreinfo.physical(variable)
    try:
        end = vmcoreinfo.physical(int.from_bytes(read(address, 8), "big"))
    except OldmemReadError as error:
        return Absent(f"high_memory at {address:#x} cannot be read ({error.cause})")
    if not 0 < end <= _LIMIT or end % PAGE_SIZE:
        return Absent(f"high_memory at {address:#x} is {end:#x}, which is no end of memory")
    return end
