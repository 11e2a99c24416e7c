"""The notes of the elfcorehdr, in the kernel's order, names and sizes (crash_dump.c: notes_init, fill_cpu_elf_notes)."""

from __future__ import annotations

from collections.abc import Sequence

from vmcorefs.elf import (
    NT_PRFPREG,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_S390_CTRS,
    NT_S390_PREFIX,
    NT_S390_TIMER,
    NT_S390_TODCMP,
    NT_S390_TODPREG,
    NT_S390_VXRS_HIGH,
    NT_S390_VXRS_LOW,
    pack_note,
)
from vmcorefs.s390.save_area import SaveArea

_CORE = b"CORE"  # KEXEC_CORE_NOTE_NAME; crash_dump.c: nt_name
_LINUX = b"LINUX"
_VMCOREINFO = b"VMCOREINFO"

# struct elf_prpsinfo, 136 bytes: 1 pr_sname 'R'; 40 pr_fname "vmlinux"; all else zero
_PRPSINFO_SIZE = 136
_PRSTATUS_SIZE = 336  # struct elf_prstatus: 32 pr_pid; 112 psw 16; 128 gprs 128; 256 acrs 64; all else zero
_PRFPREG_SIZE = 136  # elf_fpregset_t: 0 fpc 4, pad 4, 8 fprs 128


def prpsinfo() -> bytes:
    """crash_dump.c: nt_prpsinfo."""
    desc = bytearray(_PRPSINFO_SIZE)
    desc[1:2] = b"R"
    desc[40:47] = b"vmlinux"
    return pack_note(_CORE, NT_PRPSINFO, bytes(desc))


def cpu_notes(area: SaveArea, number: int, *, todpreg_size: int, vector: bool) -> bytes:
    """All notes of one CPU; *number* is its place among the CPUs with notes, from 1 (pr_pid), no CPU number.

    *todpreg_size* is 4, or 8 before the fix of D1 (f44e07a8afdd); *vector*: with VXRS_HIGH and, behind it, VXRS_LOW.
    """
    prstatus = bytearray(_PRSTATUS_SIZE)
    prstatus[32:36] = number.to_bytes(4, "big")
    prstatus[112:128] = area.psw
    prstatus[128:256] = area.gprs
    prstatus[256:320] = area.acrs
    prfpreg = area.fpc + bytes(4) + area.fprs
    assert len(prfpreg) == _PRFPREG_SIZE
    parts = [
        pack_note(_CORE, NT_PRSTATUS, bytes(prstatus)),
        pack_note(_CORE, NT_PRFPREG, prfpreg),
        pack_note(_LINUX, NT_S390_TIMER, area.timer),
        pack_note(_LINUX, NT_S390_TODCMP, area.todcmp),
        pack_note(_LINUX, NT_S390_TODPREG, area.todpreg_5_8 if todpreg_size == 8 else area.todpreg),
        pack_note(_LINUX, NT_S390_CTRS, area.ctrs),
        pack_note(_LINUX, NT_S390_PREFIX, area.prefix),
    ]
    if vector:
        if area.vxrs_high is None or area.vxrs_low is None:
            raise ValueError("vector registers of this CPU are not known")
        parts.append(pack_note(_LINUX, NT_S390_VXRS_HIGH, area.vxrs_high))
        parts.append(pack_note(_LINUX, NT_S390_VXRS_LOW, area.vxrs_low))
    return b"".join(parts)


def notes(areas: Sequence[SaveArea], vmcoreinfo: bytes | None, *, todpreg_size: int, vector: bool) -> bytes:
    """PRPSINFO, the CPUs' notes, VMCOREINFO (where there is one). CPUs with prefix 0 must be gone already.

    The 12 zero bytes of nt_final only stop vmcore.c's merge and are no part of the file.
    """
    parts = [prpsinfo()]
    parts += [cpu_notes(area, k, todpreg_size=todpreg_size, vector=vector) for k, area in enumerate(areas, 1)]
    if vmcoreinfo is not None:
        parts.append(pack_note(_VMCOREINFO, 0, vmcoreinfo))
    return b"".join(parts)


def notes_size_per_cpu(*, todpreg_size: int, vector: bool) -> int:
    """crash_dump.c: get_cpu_elf_notes_size: 764 or 1188 bytes, 768 or 1192 with an 8-byte TODPREG."""
    zeros = SaveArea(bytes(16), bytes(128), bytes(64), bytes(128), bytes(4), bytes(4), bytes(4), bytes(8), bytes(8),
                     bytes(128), bytes(128), bytes(256))
    return len(cpu_notes(zeros, 1, todpreg_size=todpreg_size, vector=vector))


def notes_size_without_cpus(vmcoreinfo: bytes | None) -> int:
    """PRPSINFO and VMCOREINFO."""
    return len(notes((), vmcoreinfo, todpreg_size=4, vector=False))
