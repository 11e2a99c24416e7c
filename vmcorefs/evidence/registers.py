"""Which CPUs have notes, in which order, and with which registers."""

from __future__ import annotations

from dataclasses import dataclass

from vmcorefs.errors import OldmemReadError
from vmcorefs.evidence import Ground
from vmcorefs.image.file import read_small_file
from vmcorefs.oldmem.raw import raw_scan
from vmcorefs.s390 import Absent
from vmcorefs.s390.container_notes import ContainerCpus, from_notes, from_prefixes
from vmcorefs.s390.cpu_state import TEXT_LIMIT, parse_cpu_state
from vmcorefs.s390.cpus import Cpus, boot_only, contradictions, find_prefix, from_list, from_lowcores, read_lowcore_ptr, with_given
from vmcorefs.s390.lowcore import PREFIXREG, STATUS, STATUS_SIZE, AbsoluteLowcore, is_prefix, read_status
from vmcorefs.s390.save_area_list import find_save_area_list
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo


@dataclass(frozen=True)
class Registers:
    """The CPUs that are served, and what the container says of them (None: it says nothing that counts in this mode).

    *no_list*: why they are not by the dump kernel's list of save areas; None where they are, or no dump kernel ran.
    """

    cpus: Cpus
    of_container: ContainerCpus | None
    no_list: str | None


def find_registers(ground: Ground, vmcoreinfo: Vmcoreinfo | None) -> Registers:
    """By the order of trust, then what ``--cpu-state`` replaces. UsageError, ImageError: its files are wrong."""
    capture, problem = ground.capture, ground.problem
    boot = _boot_status(ground, vmcoreinfo)
    of_container = _of_container(ground, vmcoreinfo)
    no_list = None
    if of_container is not None and of_container.cpus.cpus:
        found = of_container.cpus
    else:
        found, no_list = _of_memory(ground, vmcoreinfo, boot)
    if capture.cpu_state:
        states = [state for path in capture.cpu_state for state in parse_cpu_state(*read_small_file(path, "CPU state", TEXT_LIMIT))]
        found, incomplete = with_given(found, states, ground.oldmem.read, vmcoreinfo, capture.origin("cpu_state"))
        for text in incomplete:
            problem("cpu-state", text)
    if not found.cpus:
        problem("cpus", "no CPU with saved registers was found, so vmcore has no register notes"
                + (f" ({found.left_out[0]})" if found.left_out else ""))
    elif found.left_out:
        problem("cpus", f"{len(found.left_out)} CPU(s) left out, their registers are not in the image: {found.left_out[0]}")
    if found.order_assumed and ground.mode.name != "plain":  # no kernel has ever put the CPUs of a plain image in order
        problem("cpu-order", found.order_assumed)
    return Registers(found, of_container, no_list)


def _boot_status(ground: Ground, vmcoreinfo: Vmcoreinfo | None) -> bytes | None:
    """The boot CPU's architected save area at old 0x1200 (kdump: __do_machine_kdump, zfcpdump: firmware); None if nobody
    stored one there.
    """
    read, mode = ground.oldmem.read, ground.mode
    if isinstance(ground.lowcore, AbsoluteLowcore):
        status = ground.lowcore.status
    else:
        try:
            status = read(STATUS, STATUS_SIZE)
        except OldmemReadError:
            status = None
    if mode.name == "kdump" and not any(status or b""):
        return _boot_status_of_its_own(ground, vmcoreinfo)
    if status is not None and mode.name == "plain":
        prefix = int.from_bytes(status[PREFIXREG - STATUS:PREFIXREG - STATUS + 4], "big")
        known = read_lowcore_ptr(read, vmcoreinfo).values()
        # In a dump kernel's memory it is the crashed system's boot CPU, none of its own (--select kdump, --mode plain)
        return status if is_prefix(prefix) and (not known or prefix in known) else None
    return status


def _boot_status_of_its_own(ground: Ground, vmcoreinfo: Vmcoreinfo | None) -> bytes | None:
    """What the boot CPU, logical CPU 0, stored into its own lowcore before it was copied (kdump: __machine_kdump)."""
    read = ground.oldmem.read
    prefix = find_prefix(0, read, ground.scan, vmcoreinfo, ground.crashkernel)
    status = read_status(read, prefix) if prefix is not None else Absent("")
    if isinstance(status, Absent):
        return None
    ground.problem("lowcore", f"the boot CPU's registers at {STATUS:#x} of the absolute lowcore are lost; those in its own lowcore at "
                   f"{prefix:#x} were used instead")
    return status


def _of_container(ground: Ground, vmcoreinfo: Vmcoreinfo | None) -> ContainerCpus | None:
    """What the container says of the CPUs. In kdump mode its notes are the dump kernel's, not the crashed system's."""
    container, read = ground.image.container, ground.oldmem.read
    if ground.mode.name != "plain":
        return None
    if container.cpu_notes:
        found = from_notes(container.cpu_notes, ground.image.name, read, vmcoreinfo, whole_todcmp=container.writer == "QEMU")
        for text in found.incomplete:
            ground.problem("container-notes", text)
        if found.offline and not found.cpus.cpus:
            ground.problem("container-notes", f"none of the container's {len(container.cpu_notes)} CPU(s) is one of this system, by "
                           f"lowcore_ptr[], and their registers are not used: {found.offline[0]}")
        return found
    return from_prefixes(container.prefixes, read) if container.prefixes else None


def _of_memory(ground: Ground, vmcoreinfo: Vmcoreinfo | None, boot: bytes | None) -> tuple[Cpus, str | None]:
    """The dump kernel's list of save areas, else the lowcores in the crashed system's memory, and why not the list."""
    mode, read = ground.mode, ground.oldmem.read
    no_list = ("the boot CPU's registers, by which the dump kernel's list of save areas is found, are lost"
               if mode.dump_kernel_limit else None)
    if mode.dump_kernel_limit and boot is not None:
        dump_vmcoreinfo = ground.dump_vmcoreinfo if isinstance(ground.dump_vmcoreinfo, Vmcoreinfo) else None
        areas = find_save_area_list(ground.raw, raw_scan(ground.image), min(mode.dump_kernel_limit, ground.image.size), boot,
                                    dump_vmcoreinfo)
        if not isinstance(areas, Absent):
            return _compared_with_lowcores(ground, vmcoreinfo, from_list(areas)), None
        no_list = areas.reason
        if mode.name == "zfcpdump":
            return boot_only(boot, vmcoreinfo, read, areas.reason), no_list
    if mode.name == "zfcpdump":
        return Cpus((), "none"), no_list
    return from_lowcores(read, ground.scan, boot, vmcoreinfo, ground.crashkernel), no_list


def _compared_with_lowcores(ground: Ground, vmcoreinfo: Vmcoreinfo | None, found: Cpus) -> Cpus:
    """*found*, from the dump kernel's list; a problem where the crashed system's own lowcores (kdump) say something else."""
    if ground.crashkernel is not None:
        vector = isinstance(ground.dump_lowcore, AbsoluteLowcore) and bool(ground.dump_lowcore.vector_enablement)
        texts = contradictions(found, ground.oldmem.read, vmcoreinfo, ground.crashkernel, vector=vector)
        if texts:
            ground.problem("save-areas", f"the dump kernel's list of CPUs, whose registers are served, may be damaged: {texts[0]}"
                           + (f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""))
    return found
