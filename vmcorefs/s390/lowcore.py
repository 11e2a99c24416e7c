"""lowcore: 8 KiB at a CPU's real address 0 (asm/lowcore.h). The same offsets from 5.8 to 6.12."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmcorefs.errors import OldmemReadError
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.s390 import Absent, Read

SIZE = 0x2000
PREFIX_LIMIT = 1 << 31  # a prefix is 8 KiB aligned and below 2 GiB

# offset  size  field
AR_MODE_ID = 0x00A3  # 1: z/Architecture
RESTART_PSW = 0x01A0  # then external 0x1b0, svc 0x1c0, program 0x1d0, machine check 0x1e0, I/O 0x1f0 new PSW
PCPU = 0x0288  # pointer to struct pcpu in 6.12, cpu_flags before
CURRENT_TASK = 0x0340
CPU_NR = 0x03A0
VMCORE_INFO = 0x0E0C  # absolute address of the VMCOREINFO note; the field is unaligned
OS_INFO = 0x0E18
MCESAD = 0x11B0  # machine check extended save area; origin and length code
STATUS = 0x1200  # architected save area, 512 bytes, written by STORE STATUS
PREFIXREG = 0x1318
CREGS = 0x1380

STATUS_SIZE = 0x200
MCESA_VECTOR_SIZE = 512
MCESA_ORIGIN = ~0x3FF

_NEW_PSWS = struct.Struct(">" + "QQ" * 6)
_PSW_EA_BA = 0x0000000180000000  # 64-bit addressing
# Bits of a z/Architecture PSW mask that must be zero: 0, 2..4, 12 (ESA), 25..30 and 33..63 (Principles of Operation).
_PSW_UNASSIGNED = 0xB808007E7FFFFFFF
VECTOR_ENABLEMENT = 0x20000  # control register 0, bit 46


@dataclass(frozen=True)
class AbsoluteLowcore:
    """What counts in the absolute lowcore (absolute addresses 0..0x1fff) of a system."""

    vmcore_info: int
    os_info: int
    status: bytes | None
    """The architected save area, 512 bytes at 0x1200; None where that page cannot be read."""
    new_psws_valid: bool
    """All six new PSWs, from restart to I/O, are z/Architecture PSWs of a 64-bit kernel: strong evidence of a lowcore."""
    vector_enablement: bool | None
    """Control register 0 as the running kernel keeps it in absolute lowcore enables the vector facility; None: unknown."""


def read_absolute_lowcore(read: Read) -> AbsoluteLowcore | Absent:
    """The absolute lowcore of the memory that *read* sees."""
    try:
        page = read(0, PAGE_SIZE)
    except OldmemReadError as error:
        return Absent(f"absolute lowcore cannot be read: {error.cause}")
    try:
        second = read(PAGE_SIZE, PAGE_SIZE)
    except OldmemReadError:
        second = None
    return AbsoluteLowcore(
        vmcore_info=int.from_bytes(page[VMCORE_INFO:VMCORE_INFO + 8], "big"),
        os_info=int.from_bytes(page[OS_INFO:OS_INFO + 8], "big"),
        status=second and second[STATUS - PAGE_SIZE:STATUS - PAGE_SIZE + STATUS_SIZE],
        new_psws_valid=_new_psws_valid(page),
        vector_enablement=None if second is None else bool(
            int.from_bytes(second[CREGS - PAGE_SIZE:CREGS - PAGE_SIZE + 8], "big") & VECTOR_ENABLEMENT),
    )


def _new_psws_valid(page: bytes) -> bool:
    words = _NEW_PSWS.unpack_from(page, RESTART_PSW)
    return all(mask & _PSW_EA_BA == _PSW_EA_BA and not mask & _PSW_UNASSIGNED and address and not address & 1
               for mask, address in zip(words[::2], words[1::2], strict=True))


def is_prefix(value: int) -> bool:
    """Whether *value* can be the address of a CPU's lowcore: 8 KiB aligned, not 0, below 2 GiB."""
    return 0 < value < PREFIX_LIMIT and value % SIZE == 0


def read_status(read: Read, prefix: int) -> bytes | Absent:
    """The architected save area of the CPU whose lowcore is at *prefix*, if STORE STATUS wrote it: its prefix register
    field names this very lowcore (access and control registers alone prove nothing, pcpu_prepare_secondary fills them).
    """
    try:
        status = read(prefix + STATUS, STATUS_SIZE)
    except OldmemReadError as error:
        return Absent(f"lowcore at {prefix:#x} cannot be read: {error.cause}")
    saved = int.from_bytes(status[PREFIXREG - STATUS:PREFIXREG - STATUS + 4], "big")
    if saved != prefix:
        return Absent(f"no registers were stored in the lowcore at {prefix:#x} (its prefix field is {saved:#x})")
    return status


def read_vector_registers(read: Read, prefix: int) -> bytes | Absent:
    """v0..v31, 512 bytes, from the mcesa that the CPU's own lowcore points to.

    Absolute lowcore's mcesad is the early static area (setup.c), not CPU 0's in 6.1 (smp_reinit_ipl_cpu).
    """
    try:
        origin = int.from_bytes(read(prefix + MCESAD, 8), "big") & MCESA_ORIGIN
        if origin == 0:
            return Absent(f"vector registers: mcesad of the lowcore at {prefix:#x} is 0")
        return read(origin, MCESA_VECTOR_SIZE)
    except OldmemReadError as error:
        return Absent(f"vector registers of the lowcore at {prefix:#x} cannot be read: {error.cause}")
