"""The notes of the kernel's own header, taken apart by the offsets of <linux/elfcore.h> and asm/elf.h of s390."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

PRSTATUS, FPREGSET = 1, 2
PID_AT = 32  # in struct elf_prstatus
_REGISTERS = struct.Struct(">2Q16Q16IQ")  # pr_reg: PSW, general and access registers, orig_gpr2
_REGISTERS_AT = 112


@dataclass(frozen=True)
class CpuNotes:
    """NT_PRSTATUS and the NT_FPREGSET that follows it."""

    pid: int
    registers: dict[str, int]


def _notes(header: bytes) -> list[tuple[bytes, int, bytes]]:
    phoff = struct.unpack_from(">Q", header, 32)[0]
    at, size = struct.unpack_from(">Q16xQ", header, phoff + 8)  # PT_NOTE is the first program header
    end = at + size
    found = []
    while at + 12 <= end:
        name_size, desc_size, kind = struct.unpack_from(">III", header, at)
        desc = at + 12 + (name_size + 3) // 4 * 4
        found.append((header[at + 12:at + 12 + name_size].rstrip(b"\0"), kind, header[desc:desc + desc_size]))
        at = desc + (desc_size + 3) // 4 * 4
    return found


def pid_of(prstatus: bytes) -> int:
    """pr_pid."""
    return int(struct.unpack_from(">i", prstatus, PID_AT)[0])


def cpu_notes(header: bytes) -> list[CpuNotes]:
    """The CPUs of a header region in the order of their notes, registers by the names that GDB has for them."""
    core = [(kind, desc) for name, kind, desc in _notes(header) if name == b"CORE"]
    found = []
    for (kind, desc), (next_kind, fpregset) in itertools.pairwise(core):
        if kind != PRSTATUS:
            continue
        assert next_kind == FPREGSET
        names = ["pswm", "pswa", *(f"r{n}" for n in range(16)), *(f"acr{n}" for n in range(16)), "orig_r2"]
        registers = dict(zip(names, _REGISTERS.unpack_from(desc, _REGISTERS_AT), strict=True))
        registers["fpc"] = struct.unpack_from(">I", fpregset)[0]
        found.append(CpuNotes(pid_of(desc), registers))
    return found
