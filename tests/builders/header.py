"""Header region of the vmcore: Ehdr, Phdrs and notes as fs/proc/vmcore.c serves them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .notes import all_notes
from .registers import CpuState
from .release import Layout

PAGE = 4096
PT_LOAD = 1
PT_NOTE = 4


def page_down(value: int) -> int:
    return value // PAGE * PAGE


def page_up(value: int) -> int:
    return page_down(value + PAGE - 1)


@dataclass(frozen=True)
class Phdr:
    """Elf64_Phdr; filesz is memsz on s390."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    size: int
    align: int

    def to_bytes(self) -> bytes:
        return struct.pack(
            ">IIQQQQQQ",
            self.type,
            self.flags,
            self.offset,
            self.vaddr,
            self.paddr,
            self.size,
            self.size,
            self.align,
        )

    @property
    def pages(self) -> range:
        """Page addresses the segment has in the file: rounded outwards (vmcore.c: process_ptload_program_headers)."""
        return range(page_down(self.paddr), page_up(self.paddr + self.size), PAGE)


@dataclass(frozen=True)
class KernelImage:
    """The image PT_LOAD of 6.10+ (crash_dump.c: loads_init, os_info entries 10..12)."""

    start: int
    end: int
    phys: int


@dataclass(frozen=True)
class Facts:
    """All that the header depends on. `cpus` in note order; those with prefix 0 may be in it."""

    layout: Layout
    ranges: tuple[tuple[int, int], ...]
    cpus: tuple[CpuState, ...] = ()
    vector: bool = True
    vmcoreinfo: bytes | None = None
    kernel_image: KernelImage | None = None
    identity_base: int = 0


@dataclass(frozen=True)
class Header:
    """The header region of one vmcore, computed from its facts."""

    facts: Facts
    notes: bytes = field(init=False)
    loads: tuple[Phdr, ...] = field(init=False)
    note_offset: int = field(init=False)
    data_offset: int = field(init=False)
    file_size: int = field(init=False)

    def __post_init__(self) -> None:
        facts = self.facts
        notes = all_notes(facts.cpus, facts.vector, facts.layout.todpreg_size, facts.vmcoreinfo)
        segments = []  # vaddr, paddr, size
        if facts.kernel_image is not None:
            image = facts.kernel_image
            segments.append((image.start, image.phys, image.end - image.start))
        for start, end in facts.ranges:
            segments.append(((facts.identity_base + start) % 2**64, start, end - start))
        note_offset = page_up(64 + 56 * (len(segments) + 1))
        data_offset = note_offset + page_up(len(notes))
        loads = []
        position = data_offset
        for vaddr, paddr, size in segments:
            load = Phdr(PT_LOAD, 7, position + paddr % PAGE, vaddr, paddr, size, PAGE)
            loads.append(load)
            position += len(load.pages) * PAGE
        set_field = object.__setattr__
        set_field(self, "notes", notes)
        set_field(self, "loads", tuple(loads))
        set_field(self, "note_offset", note_offset)
        set_field(self, "data_offset", data_offset)
        set_field(self, "file_size", position)

    def to_bytes(self) -> bytes:
        """vmcore.c: merge_note_headers_elf64. PT_NOTE first, all padding zero."""
        pt_note = Phdr(PT_NOTE, 0, self.note_offset, 0, 0, len(self.notes), self.facts.layout.note_align)
        head = ehdr(1 + len(self.loads)) + b"".join(phdr.to_bytes() for phdr in (pt_note, *self.loads))
        return (head.ljust(self.note_offset, b"\0") + self.notes).ljust(self.data_offset, b"\0")

    def before_merge(self, address: int) -> bytes:
        """What crash_dump.c: elfcorehdr_alloc wrote at `address` before vmcore.c merged it, freed later.

        p_offset is an address here, and nt_final's empty note is counted. Real dump kernels have this in memory, too.
        """
        notes_at = address + 64 + 56 * (1 + len(self.loads))
        notes = self.notes + bytes(12)
        pt_note = Phdr(PT_NOTE, 0, notes_at, 0, 0, len(notes), 0)
        unmerged = [Phdr(p.type, p.flags, p.paddr, p.vaddr, p.paddr, p.size, p.align) for p in self.loads]
        return ehdr(1 + len(unmerged)) + b"".join(phdr.to_bytes() for phdr in (pt_note, *unmerged)) + notes


def ehdr(phnum: int) -> bytes:
    """crash_dump.c: ehdr_init."""
    e_ident = b"\x7fELF" + bytes([2, 2, 1]) + bytes(9)
    return e_ident + struct.pack(">HHIQQQIHHHHHH", 4, 22, 1, 0, 64, 0, 0, 64, 56, phnum, 0, 0, 0)
