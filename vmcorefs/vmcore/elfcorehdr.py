"""The elfcorehdr before fs/proc/vmcore.c merges it: which PT_LOADs, over which memory (crash_dump.c: loads_init)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmcorefs.elf import E_PHNUM_MAX
from vmcorefs.errors import ImageError
from vmcorefs.ranges import Range

IMAGE_SIZE_LIMIT = 4 << 30


@dataclass(frozen=True)
class Load:
    """One PT_LOAD: memory [paddr, paddr + size) of the crashed system. *kind*: "kernel image" or "memory"."""

    vaddr: int
    paddr: int
    size: int
    kind: str = "memory"


@dataclass(frozen=True)
class Elfcorehdr:
    """Notes and PT_LOADs, in the order of the program headers."""

    notes: bytes
    loads: tuple[Load, ...]


def build_elfcorehdr(notes: bytes, ranges: Sequence[Range], image: Load | None, identity_base: int) -> Elfcorehdr:
    """The kernel *image*'s PT_LOAD first (6.10+, text_init), then one per range, at identity_base + address.

    Raises ImageError if e_phnum cannot hold the number of program headers (the kernel's would wrap).
    """
    count = len(ranges) + (image is not None) + 1
    if count > E_PHNUM_MAX:
        raise ImageError(f"{count} program headers ({count - 1} PT_LOADs and the PT_NOTE) do not fit into the 16-bit e_phnum, "
                         f"which holds {E_PHNUM_MAX}; give fewer, larger memory ranges")
    memory = tuple(Load((identity_base + start) % (1 << 64), start, end - start) for start, end in ranges)
    return Elfcorehdr(notes, memory if image is None else (image, *memory))
