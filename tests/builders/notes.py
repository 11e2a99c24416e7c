"""ELF notes in the order and size crash_dump.c writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from .registers import CpuState

NT_PRSTATUS = 1
NT_PRFPREG = 2
NT_PRPSINFO = 3
NT_S390_TIMER = 0x301
NT_S390_TODCMP = 0x302
NT_S390_TODPREG = 0x303
NT_S390_CTRS = 0x304
NT_S390_PREFIX = 0x305
NT_S390_VXRS_LOW = 0x309
NT_S390_VXRS_HIGH = 0x30A


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def note(name: bytes, note_type: int, desc: bytes) -> bytes:
    """crash_dump.c: nt_init_name. n_namesz counts the NUL."""
    name += b"\0"
    return struct.pack(">III", len(name), len(desc), note_type) + _padded(name) + _padded(desc)


def prpsinfo() -> bytes:
    """crash_dump.c: nt_prpsinfo. Zeros but for pr_sname and pr_fname."""
    desc = bytearray(136)
    desc[1:2] = b"R"
    desc[40:47] = b"vmlinux"
    return note(b"CORE", NT_PRPSINFO, bytes(desc))


def cpu_notes(cpu: CpuState, pid: int, vector: bool, todpreg_size: int) -> bytes:
    """crash_dump.c: fill_cpu_elf_notes. pid is a running number from 1, no CPU number."""
    r = cpu.registers
    prstatus = bytearray(336)
    prstatus[32:36] = pid.to_bytes(4, "big")
    prstatus[112:128] = r.psw
    prstatus[128:256] = r.gprs
    prstatus[256:320] = r.acrs
    notes = note(b"CORE", NT_PRSTATUS, bytes(prstatus))
    notes += note(b"CORE", NT_PRFPREG, r.fpc + bytes(4) + r.fprs)
    notes += note(b"LINUX", NT_S390_TIMER, r.timer)
    notes += note(b"LINUX", NT_S390_TODCMP, r.todcmp)
    notes += note(b"LINUX", NT_S390_TODPREG, cpu.todpreg_bytes(todpreg_size))
    notes += note(b"LINUX", NT_S390_CTRS, r.ctrs)
    notes += note(b"LINUX", NT_S390_PREFIX, cpu.prefix.to_bytes(4, "big"))
    if vector:
        notes += note(b"LINUX", NT_S390_VXRS_HIGH, r.vxrs_high)  # before LOW
        notes += note(b"LINUX", NT_S390_VXRS_LOW, r.vxrs_low)
    return notes


def vmcoreinfo_note(text: bytes) -> bytes:
    """kernel/crash_core.c: the note the crashed kernel keeps, and crash_dump.c: nt_vmcoreinfo writes again."""
    return note(b"VMCOREINFO", 0, text)


def all_notes(cpus: Iterable[CpuState], vector: bool, todpreg_size: int, vmcoreinfo: bytes | None) -> bytes:
    """crash_dump.c: notes_init. A CPU with prefix 0 has no notes and no number, the boot CPU neither."""
    notes = prpsinfo()
    started = [cpu for cpu in cpus if cpu.prefix != 0]
    for pid, cpu in enumerate(started, start=1):
        notes += cpu_notes(cpu, pid, vector, todpreg_size)
    if vmcoreinfo is not None:
        notes += vmcoreinfo_note(vmcoreinfo)
    return notes
