"""Which CPUs the crashed system had, with which registers, in the order of the kernel's notes.

Sources, best first: the dump kernel's list of save areas; lowcore_ptr; a scan for prefix pages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.s390 import Absent, Read, Scan
from vmcorefs.s390.cpu_state import CpuState
from vmcorefs.s390.kallsyms import find_symbol
from vmcorefs.s390.lowcore import (
    CPU_NR,
    CURRENT_TASK,
    PCPU,
    PREFIX_LIMIT,
    PREFIXREG,
    RESTART_PSW,
    SIZE,
    is_prefix,
    read_status,
    read_vector_registers,
)
from vmcorefs.s390.save_area import STATUS_FIELDS, SaveArea, from_status
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

LOWCORE_PTR_LIMIT = 4096
_LOGICAL_LIMIT = 512  # NR_CPUS of s390 at most

# struct pcpu (smp.c): u16 address; 6.12: per CPU, lowcore.pcpu points to it; 6.1: an array pcpu_devices by logical number
_PCPU_ADDRESS_6_12 = 0x22
_PCPU_SIZE_6_1 = 0x18
_PCPU_ADDRESS_6_1 = 0x12
_CPU_FLAGS_LIMIT = 0x1000  # before 6.12 the pointer's place holds cpu_flags, a few low bits


@dataclass(frozen=True)
class Cpu:
    """One CPU of the crashed system. *logical* and *address* are None where they are not known."""

    save_area: SaveArea
    origin: str
    logical: int | None = None
    address: int | None = None


@dataclass(frozen=True)
class Cpus:
    """The CPUs with notes, in order, as they were found; *origin*: "save area list", "lowcore_ptr", "prefix scan" or "none".

    *left_out*: reasons for CPUs whose registers nobody stored; *order_assumed*: why the order may not be the kernel's, or
    None; *vector_reason*: why the vector registers are not known for all of them, or None.
    """

    cpus: tuple[Cpu, ...]
    origin: str
    left_out: tuple[str, ...] = ()
    order_assumed: str | None = None
    vector_reason: str | None = None


@dataclass(frozen=True)
class _Lowcore:
    prefix: int
    logical: int


def from_list(areas: Sequence[SaveArea]) -> Cpus:
    """From the dump kernel's list; elements with prefix 0 have no note and no number (get_cpu_cnt, notes_init)."""
    return Cpus(tuple(Cpu(a, "save area list") for a in areas if a.prefix_address), "save area list")


def contradictions(found: Cpus, read: Read, vmcoreinfo: Vmcoreinfo | None, skip: tuple[int, int], *, vector: bool) -> list[str]:
    """Where the list's CPUs and the crashed system's own lowcores (kdump: __machine_kdump stored every status there) differ.

    *vector*: the dump kernel filled in vector registers.
    """
    read = outside(read, skip)
    texts = []
    prefixes = set()
    for number, cpu in enumerate(found.cpus, 1):
        area, prefix = cpu.save_area, cpu.save_area.prefix_address
        prefixes.add(prefix)
        status = read_status(read, prefix) if is_prefix(prefix) else Absent(f"its prefix {prefix:#x} is no address of a lowcore")
        if isinstance(status, Absent):
            if not is_prefix(prefix):
                texts.append(f"CPU {number}: {status.reason}")
            continue
        vectors = read_vector_registers(read, prefix)
        in_lowcore = from_status(status, vectors if isinstance(vectors, bytes) else None)
        if not in_lowcore.same_status(area):
            texts.append(f"CPU {number}: its registers differ from those in its lowcore at {prefix:#x}")
        elif vector and isinstance(vectors, bytes) and (in_lowcore.vxrs_low, in_lowcore.vxrs_high) != (area.vxrs_low, area.vxrs_high):
            texts.append(f"CPU {number}: its vector registers differ from those in its lowcore's extended save area")
    texts += [f"the CPU with the lowcore at {lowcore.prefix:#x}, whose registers were stored, is not in the list"
              for lowcore in _by_lowcore_ptr(read, vmcoreinfo)
              if lowcore.prefix not in prefixes and isinstance(read_status(read, lowcore.prefix), bytes)]
    return texts


def boot_only(boot_status: bytes, vmcoreinfo: Vmcoreinfo | None, read: Read, why: str) -> Cpus:
    """Zfcpdump without the dump kernel's list: firmware stored the boot CPU's status, nobody stored the others' in oldmem,
    and the boot CPU's vector registers were only in the dump kernel's memory. *why*: why its list was not used.
    """
    boot = from_status(boot_status)
    others = [c for c in _by_lowcore_ptr(read, vmcoreinfo) if c.prefix != boot.prefix_address]
    left_out = tuple(f"the registers of the CPU with prefix {c.prefix:#x} were only in the dump kernel's memory ({why})" for c in others)
    if not boot.prefix_address:
        return Cpus((), "none", left_out)
    return Cpus((Cpu(boot, "HSA"),), "HSA", left_out,
                vector_reason=f"the boot CPU's vector registers were only in the dump kernel's memory ({why})")


def from_lowcores(read: Read, scan: Scan, boot_status: bytes | None, vmcoreinfo: Vmcoreinfo | None,
                  skip: tuple[int, int] | None) -> Cpus:
    """From the crashed system's own memory: lowcore_ptr, else a scan for prefix pages.

    *boot_status*: the boot CPU's architected save area at absolute 0x1200 (kdump: __do_machine_kdump put it there), None
    where nobody stored one. *scan* sees oldmem by absolute address; *skip* is [B, B+S), which is no part of it.
    """
    read = outside(read, skip)
    boot = from_status(boot_status) if boot_status is not None else None
    boot_prefix = boot.prefix_address if boot else 0
    origin, lowcores = "lowcore_ptr", _by_lowcore_ptr(read, vmcoreinfo)
    if not lowcores:
        origin, lowcores = "prefix scan", _by_prefix_scan(scan, skip)
    if is_prefix(boot_prefix) and all(c.prefix != boot_prefix for c in lowcores):
        lowcores.insert(0, _Lowcore(boot_prefix, 0))
    addresses = _cpu_addresses(read, vmcoreinfo, lowcores)
    by_logical = sorted(lowcores, key=lambda c: (c.prefix != boot_prefix, c.logical))
    ordered = by_logical
    if not isinstance(addresses, Absent):
        known = addresses
        ordered = sorted(lowcores, key=lambda c: (c.prefix != boot_prefix, known[c.prefix]))
    cpus: list[Cpu] = []
    left_out: list[str] = []
    vector_reason: str | None = None
    if boot_prefix and not is_prefix(boot_prefix):
        left_out.append(f"the boot CPU's saved prefix {boot_prefix:#x} at absolute 0x1318 is no address of a lowcore")
    for lowcore in ordered:
        status: bytes | Absent
        if boot_status is not None and lowcore.prefix == boot_prefix:
            status = boot_status
        else:
            status = read_status(read, lowcore.prefix)
        if isinstance(status, Absent):
            left_out.append(status.reason)
            continue
        vectors = read_vector_registers(read, lowcore.prefix)
        if isinstance(vectors, Absent):
            vector_reason = vector_reason or vectors.reason
        area = from_status(status, None if isinstance(vectors, Absent) else vectors)
        address = None if isinstance(addresses, Absent) else addresses[lowcore.prefix]
        cpus.append(Cpu(area, origin, lowcore.logical, address))
    return Cpus(tuple(cpus), origin if cpus else "none", tuple(left_out),
                _order_assumed(cpus, boot_prefix, addresses, reordered=ordered != by_logical), vector_reason)


def outside(read: Read, skip: tuple[int, int] | None) -> Read:
    """*read*, but for [B, B+S), whose content is the dump kernel's: nothing that a pointer finds there is the crashed system's."""
    if skip is None:
        return read

    def guarded(address: int, size: int) -> bytes:
        if address < skip[1] and skip[0] < address + size:
            raise OldmemReadError("oldmem", address, "in the crashkernel area, whose memory is the dump kernel's", address=address)
        return read(address, size)

    return guarded


def _order_assumed(cpus: Sequence[Cpu], boot_prefix: int, addresses: dict[int, int] | Absent, *,
                   reordered: bool) -> str | None:
    """Why the order of *cpus* is not proven. With one CPU beside the boot CPU there is only one order."""
    if sum(1 for cpu in cpus if cpu.save_area.prefix_address != boot_prefix) < 2:
        return None
    if isinstance(addresses, Absent):
        return (f"the CPUs' addresses are not known ({addresses.reason}), so their notes stand in the order of the logical "
                "CPU numbers, which may not be the kernel's")
    if reordered:
        return ("the dump kernel's list of CPUs is lost; the notes stand in the order of the CPU addresses as the crashed kernel "
                "knew them, which is not the order of the logical CPU numbers")
    return None


def with_given(found: Cpus, given: Sequence[CpuState], read: Read, vmcoreinfo: Vmcoreinfo | None,
               origin: str = "option --cpu-state") -> tuple[Cpus, tuple[str, ...]]:
    """*found* with the CPUs from outside: one of the same prefix is replaced, others follow by CPU address.

    Also what the files lack, a sentence a CPU: those registers are zero in its notes. A CPU with prefix 0 is left out, as the
    kernel would. Raises ImageError for a CPU given twice, or one of which it is not known which it is.
    """
    lowcores = _by_lowcore_ptr(read, vmcoreinfo)
    addresses = _cpu_addresses(read, vmcoreinfo, lowcores)
    by_address = {c.logical if isinstance(addresses, Absent) else addresses[c.prefix]: c for c in lowcores}
    by_prefix = {c.prefix: address for address, c in by_address.items()}
    new: dict[int, Cpu] = {}
    sources: dict[int, str] = {}
    incomplete: list[str] = []
    for state in given:
        told = bool(lowcores) and not isinstance(addresses, Absent)
        if state.one_of_all and "prefix" not in state.fields and told and state.address not in by_address:
            incomplete.append(f"{state.source}: left out, since the crashed kernel had no lowcore for a CPU of address {state.address}: "
                              "it was offline")
            continue
        area, lacks = _area_of(state, by_address)
        prefix = area.prefix_address
        if not prefix:
            continue
        if prefix in new:
            raise ImageError(f"{state.source}: the CPU with prefix {prefix:#x} is given twice (also by {sources[prefix]}); "
                             "leave one of them out")
        if lacks:
            incomplete.append(f"{state.source}: not in the file, so zero in the notes of the CPU with prefix {prefix:#x}: "
                              f"{', '.join(lacks)}")
        address = state.address if state.address is not None else by_prefix.get(prefix)
        new[prefix], sources[prefix] = Cpu(area, origin, None, address), state.source
    cpus = [new.pop(cpu.save_area.prefix_address, cpu) for cpu in found.cpus]
    cpus += sorted(new.values(), key=lambda cpu: (cpu.address is None, cpu.address, cpu.save_area.prefix_address))
    known = [cpu for cpu in cpus if cpu.save_area.vxrs_high is not None]
    reason = None if len(known) == len(cpus) else found.vector_reason or "--cpu-state does not give them for all CPUs"
    if any(cpu.origin != origin for cpu in cpus):
        origin = found.origin
    left_out = () if found.origin == "none" else found.left_out
    return Cpus(tuple(cpus), origin, left_out, found.order_assumed, reason), tuple(incomplete)


def _area_of(state: CpuState, by_address: dict[int, _Lowcore]) -> tuple[SaveArea, tuple[str, ...]]:
    """The save area, and what the file lacks. The prefix is looked up by CPU address where the file has none."""
    fields = dict(state.fields)
    if "prefix" not in fields:
        lowcore = by_address.get(state.address) if state.address is not None else None
        if lowcore is None:
            raise ImageError(f"{state.source}: the prefix of this CPU is not in the file and cannot be found in the image; "
                             "give it in a JSON file (key prefix)")
        fields["prefix"] = lowcore.prefix.to_bytes(4, "big")
    lacks = tuple(word for word in state.missing if word != "prefix")
    for name, (_, size) in STATUS_FIELDS.items():
        fields.setdefault(name, bytes(size))
    if "vxrs_low" not in fields or "vxrs_high" not in fields:
        fields.pop("vxrs_low", None)
        fields.pop("vxrs_high", None)
    return SaveArea(**fields), lacks


def read_lowcore_ptr(read: Read, vmcoreinfo: Vmcoreinfo | None) -> dict[int, int]:
    """Prefix by logical CPU number, as the array lowcore_ptr[] has them; {} where it cannot be found, read or believed.

    A prefix may be there twice.
    """
    if vmcoreinfo is None:
        return {}
    virtual, length = vmcoreinfo.symbol("lowcore_ptr"), vmcoreinfo.number("LENGTH(lowcore_ptr)", 10)
    if virtual is None or length is None or not 0 < length <= LOWCORE_PTR_LIMIT:
        return {}
    try:
        array = struct.unpack(f">{length}Q", read(vmcoreinfo.physical(virtual), 8 * length))
    except OldmemReadError:
        return {}
    found = {logical: vmcoreinfo.physical(virtual) for logical, virtual in enumerate(array) if virtual}
    return found if all(is_prefix(prefix) for prefix in found.values()) else {}


def find_prefix(logical: int, read: Read, scan: Scan, vmcoreinfo: Vmcoreinfo | None, skip: tuple[int, int] | None) -> int | None:
    """Where the lowcore of the CPU with this logical number is, by lowcore_ptr[], else by a scan for prefix pages."""
    lowcores = _by_lowcore_ptr(outside(read, skip), vmcoreinfo) or _by_prefix_scan(scan, skip)
    return next((lowcore.prefix for lowcore in lowcores if lowcore.logical == logical), None)


def _by_lowcore_ptr(read: Read, vmcoreinfo: Vmcoreinfo | None) -> list[_Lowcore]:
    """The lowcores that lowcore_ptr[] names, by logical CPU number; [] also where two CPUs would have the same one."""
    found = [_Lowcore(prefix, logical) for logical, prefix in read_lowcore_ptr(read, vmcoreinfo).items()]
    return found if len({c.prefix for c in found}) == len(found) else []


def _by_prefix_scan(scan: Scan, skip: tuple[int, int] | None) -> list[_Lowcore]:
    """Pages below 2 GiB that are the lowcore of a CPU whose status was stored there; by logical number, each once."""
    u32, u64 = struct.Struct(">I"), struct.Struct(">Q")
    found: dict[int, _Lowcore] = {}
    for start, data in scan(SIZE, PREFIX_LIMIT, SIZE - 1):
        first = -start % SIZE
        for at in range(first, len(data) - SIZE + 1, SIZE):
            address = start + at
            if u32.unpack_from(data, at + PREFIXREG)[0] != address or (skip and skip[0] <= address < skip[1]):
                continue
            logical = u32.unpack_from(data, at + CPU_NR)[0]
            if (logical < _LOGICAL_LIMIT and u64.unpack_from(data, at + RESTART_PSW)[0]
                    and u64.unpack_from(data, at + CURRENT_TASK)[0]):
                found.setdefault(logical, _Lowcore(address, logical))
    return [found[logical] for logical in sorted(found)]


def _cpu_addresses(read: Read, vmcoreinfo: Vmcoreinfo | None, lowcores: Sequence[_Lowcore]) -> dict[int, int] | Absent:
    """CPU address by prefix, for all of *lowcores* or none."""
    if vmcoreinfo is None:
        return Absent("no VMCOREINFO")
    addresses: dict[int, int] = {}
    try:
        pcpus = {c.prefix: int.from_bytes(read(c.prefix + PCPU, 8), "big") for c in lowcores}
        if lowcores and all(p >= _CPU_FLAGS_LIMIT and p % 8 == 0 for p in pcpus.values()):
            for prefix, pcpu in pcpus.items():
                addresses[prefix] = int.from_bytes(read(vmcoreinfo.physical(pcpu) + _PCPU_ADDRESS_6_12, 2), "big")
        else:
            array = find_symbol(read, vmcoreinfo, "pcpu_devices")
            if isinstance(array, Absent):
                return array
            base = vmcoreinfo.physical(array)
            for c in lowcores:
                place = base + _PCPU_SIZE_6_1 * c.logical + _PCPU_ADDRESS_6_1
                addresses[c.prefix] = int.from_bytes(read(place, 2), "big")
    except OldmemReadError as error:
        return Absent(f"{error.cause} at {error.offset:#x}")
    if len(set(addresses.values())) != len(addresses):
        return Absent("two CPUs seem to have the same address")
    return addresses
