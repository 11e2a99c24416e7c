"""Synthetic crashed s390x machines, and a slow model of the vmcore the kernel would have served.

A second implementation of reference/s390-vmcore.md: shares no code with vmcorefs, so that an error shows.

    built = Machine(release="6.12.0", cpus=cpus(3)).build(tmp_path)
    built.image, built.model.header, built.model.read(offset, size)
"""

from .header import Facts, Header, KernelImage, Phdr
from .machine import Built, Cpu, Machine, cpus
from .model import Model
from .notes import all_notes, cpu_notes, note
from .os_info import Entry, OsInfo, cksm
from .registers import CpuState, Registers
from .release import Layout, layout_of

__all__ = [
    "Built",
    "Cpu",
    "CpuState",
    "Entry",
    "Facts",
    "Header",
    "KernelImage",
    "Layout",
    "Machine",
    "Model",
    "OsInfo",
    "Phdr",
    "Registers",
    "all_notes",
    "cksm",
    "cpu_notes",
    "cpus",
    "layout_of",
    "note",
]
