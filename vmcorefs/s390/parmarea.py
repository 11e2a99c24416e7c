"""The parameter area of a kernel, at absolute 0x10400 of its own memory (asm/setup.h: struct parmarea)."""

from __future__ import annotations

from typing import NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.quantities import MIB
from vmcorefs.s390 import Absent, Read

# offset   size  field
# 0x10008    6   "S390EP"     boot/head.S; a kernel's image stands at 0x10000
# 0x10418    8   oldmem_base  parmarea.oldmem_base: B in a kdump kernel, zero in any other
# 0x10420    8   oldmem_size  parmarea.oldmem_size: S
S390EP_ADDRESS = 0x10008
S390EP = b"S390EP"
OLDMEM_BASE_ADDRESS = 0x10418
AREA_END = 0x10428


class Crashkernel(NamedTuple):
    """B and S: base and size of the crashed kernel's crashkernel area (OLDMEM_BASE, OLDMEM_SIZE)."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """B + S."""
        return self.base + self.size

    @property
    def span(self) -> tuple[int, int]:
        """[B, B+S), for those who cut it out."""
        return self.base, self.end

    def __str__(self) -> str:
        return f"B={self.base:#x} S={self.size:#x}"

    def sane(self) -> bool:
        """Whether setup.c: reserve_crashkernel could have chosen it: both nonzero multiples of 1 MiB, B >= S."""
        return self.why_not() is None

    def why_not(self) -> str | None:
        """What is wrong with these values in words, None if they are sane."""
        if not self.base or not self.size:
            return f"base {self.base:#x} and size {self.size:#x} must both be greater than 0"
        if self.base % MIB or self.size % MIB:
            return f"base {self.base:#x} and size {self.size:#x} must be multiples of 1 MiB (0x100000)"
        if self.base < self.size:
            return f"[0, {self.size:#x}) and [{self.base:#x}, {self.end:#x}) overlap; the base must not be below the size"
        if self.end > 1 << 64:
            return f"base {self.base:#x} + size {self.size:#x} does not fit into 64 bits"
        return None


def has_kernel_image(read: Read) -> bool:
    """Whether "S390EP" stands at 0x10008."""
    try:
        return read(S390EP_ADDRESS, len(S390EP)) == S390EP
    except OldmemReadError:
        return False


def read_crashkernel(read: Read) -> Crashkernel | Absent:
    """B and S as the kernel whose parameter area *read* sees was given them; Absent where they are zero or unreadable.

    The values are not checked here (see Crashkernel.why_not).
    """
    try:
        data = read(OLDMEM_BASE_ADDRESS, 16)
    except OldmemReadError as error:
        return Absent(f"the parameter area cannot be read: {error.cause}")
    found = Crashkernel(int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big"))
    if found == (0, 0):
        return Absent("oldmem_base at 0x10418 is 0", suspicious=False)
    return found
