"""The registers of CPUs as a container carries them: the ELF notes of a core, or the prefixes in the header of an s390 dump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vmcorefs.elf import (
    NT_PRFPREG,
    NT_PRSTATUS,
    NT_S390_CTRS,
    NT_S390_PREFIX,
    NT_S390_TIMER,
    NT_S390_TODCMP,
    NT_S390_TODPREG,
    NT_S390_VXRS_HIGH,
    NT_S390_VXRS_LOW,
)
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.cpu_state import CpuState
from vmcorefs.s390.cpus import Cpu, Cpus, read_lowcore_ptr
from vmcorefs.s390.lowcore import VECTOR_ENABLEMENT, is_prefix, read_status, read_vector_registers
from vmcorefs.s390.save_area import STATUS_FIELDS, SaveArea, from_status
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

RawNote = tuple[bytes, int, bytes]
"""Name, type, descriptor."""

# note type -> field of SaveArea: (offset in the descriptor, size)
_FIELDS: Mapping[int, Mapping[str, tuple[int, int]]] = {
    NT_PRSTATUS: {"psw": (112, 16), "gprs": (128, 128), "acrs": (256, 64)},
    NT_PRFPREG: {"fpc": (0, 4), "fprs": (8, 128)},
    NT_S390_TIMER: {"timer": (0, 8)},
    NT_S390_TODCMP: {"todcmp": (0, 8)},
    NT_S390_TODPREG: {"todpreg": (0, 4)},  # 8 bytes long in old kernels, the register first (D1)
    NT_S390_CTRS: {"ctrs": (0, 128)},
    NT_S390_PREFIX: {"prefix": (0, 4)},
    NT_S390_VXRS_LOW: {"vxrs_low": (0, 128)},
    NT_S390_VXRS_HIGH: {"vxrs_high": (0, 256)},
}


@dataclass(frozen=True)
class ContainerCpus:
    """What a container says about the CPUs. *incomplete*: a sentence for each CPU whose notes lack registers, which are then
    zero; *offline*: one for each CPU that is left out as the kernel leaves it out; *in_memory*: what the save areas in memory say
    of the same CPUs, by prefix, where that is something else. *vector*: whether the kernel used vector registers, as far as the
    container shows it.
    """

    cpus: Cpus
    incomplete: tuple[str, ...]
    in_memory: Mapping[int, SaveArea]
    vector: bool | None = None
    offline: tuple[str, ...] = ()


def from_notes(notes: Sequence[Sequence[RawNote]], name: str, read: Read, vmcoreinfo: Vmcoreinfo | None, *,
               whole_todcmp: bool) -> ContainerCpus:
    """The CPUs of a core, in the order of their notes. *whole_todcmp*: the clock comparator is the register itself, as QEMU has
    it; STORE STATUS keeps its first 7 bytes behind a zero byte.

    CPUs with prefix 0 have no notes in a vmcore (crash_dump.c: get_cpu_cnt), nor have those that the kernel had no lowcore
    for: QEMU lists CPUs that were offline, too.
    """
    known = set(read_lowcore_ptr(read, vmcoreinfo).values())
    cpus: list[Cpu] = []
    left_out: list[str] = []
    offline: list[str] = []
    incomplete: list[str] = []
    in_memory: dict[int, SaveArea] = {}
    for number, own in enumerate(notes, 1):
        state = CpuState(f"{name}: CPU {number} of its notes", _fields(own, whole_todcmp=whole_todcmp))
        fields = dict(state.fields)
        prefix = int.from_bytes(fields.get("prefix", b""), "big")
        if not prefix:
            continue
        if not is_prefix(prefix) or any(cpu.save_area.prefix_address == prefix for cpu in cpus):
            left_out.append(f"{state.source}: its prefix {prefix:#x} is no address of a lowcore, or another CPU's")
            continue
        if known and prefix not in known:
            offline.append(f"{state.source}: the crashed kernel had no lowcore at {prefix:#x}, the CPU was offline")
            continue
        lacks = state.missing
        if lacks:
            incomplete.append(f"{state.source}: not in its notes, so zero: {', '.join(lacks)}")
        for field, (_, size) in STATUS_FIELDS.items():
            fields.setdefault(field, bytes(size))
        if "vxrs_low" not in fields or "vxrs_high" not in fields:
            fields.pop("vxrs_low", None)
            fields.pop("vxrs_high", None)
        area = SaveArea(**fields)
        other = _in_memory(read, prefix)
        if other is not None and not other.same_status(area):
            in_memory[prefix] = other
        cpus.append(Cpu(area, "container's notes"))
    return ContainerCpus(_as_cpus(cpus, "container's notes", left_out, "the container's notes do not have them for all CPUs"),
                         tuple(incomplete), in_memory, _uses_vector(cpus, always=whole_todcmp) if cpus else None,
                         tuple(offline))


def prefix_and_psw(notes: Sequence[RawNote]) -> tuple[bytes, bytes]:
    """Of a CPU that is not served, b"" where its notes do not have it: 4 and 16 bytes."""
    fields = _fields(notes, whole_todcmp=False)
    return fields.get("prefix", b""), fields.get("psw", b"")


def from_prefixes(prefixes: Sequence[int], read: Read) -> ContainerCpus:
    """The CPUs of an s390 stand-alone dump: the dump tool stored every CPU's status into its lowcore, and lists the prefixes."""
    cpus: list[Cpu] = []
    left_out: list[str] = []
    reason = "their save areas have none"
    for prefix in dict.fromkeys(prefixes):
        status = read_status(read, prefix) if is_prefix(prefix) else Absent(f"the dump's header lists the prefix {prefix:#x}, which is "
                                                                            "no address of a lowcore")
        if isinstance(status, Absent):
            if prefix:
                left_out.append(status.reason)
            continue
        vectors = read_vector_registers(read, prefix)
        if isinstance(vectors, Absent):
            reason = vectors.reason
        cpus.append(Cpu(from_status(status, vectors if isinstance(vectors, bytes) else None), "dump header"))
    return ContainerCpus(_as_cpus(cpus, "dump header", left_out, reason), (), {})


def _uses_vector(cpus: Sequence[Cpu], *, always: bool) -> bool:
    """A dump kernel writes vector notes if it uses vector registers itself; who writes them *always* (QEMU) leaves it to control
    register 0.
    """
    return any(cpu.save_area.vxrs_high is not None
               and (not always or int.from_bytes(cpu.save_area.ctrs[:8], "big") & VECTOR_ENABLEMENT) for cpu in cpus)


def _as_cpus(cpus: Sequence[Cpu], origin: str, left_out: Sequence[str], vector_reason: str) -> Cpus:
    known = all(cpu.save_area.vxrs_high is not None for cpu in cpus)
    return Cpus(tuple(cpus), origin if cpus else "none", tuple(left_out), None, None if known else vector_reason)


def _fields(notes: Sequence[RawNote], *, whole_todcmp: bool) -> dict[str, bytes]:
    """The fields of a SaveArea that are in a CPU's notes; of two notes of one type the first counts, a short one does not."""
    fields: dict[str, bytes] = {}
    for name, kind, desc in notes:
        if name not in {b"CORE", b"LINUX"}:
            continue
        for field, (at, size) in _FIELDS.get(kind, {}).items():
            if at + size <= len(desc):
                fields.setdefault(field, desc[at:at + size])
    if whole_todcmp and "todcmp" in fields:
        fields["todcmp"] = b"\0" + fields["todcmp"][:7]
    return fields


def _in_memory(read: Read, prefix: int) -> SaveArea | None:
    """The save area in the CPU's own lowcore, if a status was stored there."""
    status = read_status(read, prefix)
    return None if isinstance(status, Absent) else from_status(status)
