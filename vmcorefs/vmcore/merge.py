"""What fs/proc/vmcore.c makes of the elfcorehdr: the header region and where each PT_LOAD's pages lie in the file."""

from __future__ import annotations

from dataclasses import dataclass

from vmcorefs.elf import EHDR_SIZE, PF_RWX, PHDR_SIZE, PT_LOAD, PT_NOTE, Phdr, pack_ehdr
from vmcorefs.quantities import PAGE_SIZE, round_down, round_up
from vmcorefs.vmcore.elfcorehdr import Elfcorehdr, Load


@dataclass(frozen=True)
class Placed:
    """The pages [start, end) of oldmem, which a PT_LOAD covers, at *offset* of the file."""

    offset: int
    start: int
    end: int
    load: Load


@dataclass(frozen=True)
class Merged:
    """The finished layout: *header* is the header region, *placed* its PT_LOADs, *size* the size of the file."""

    header: bytes
    phdrs: tuple[Phdr, ...]
    placed: tuple[Placed, ...]
    size: int


def merge(elfcorehdr: Elfcorehdr, note_align: int) -> Merged:
    """Ehdr, Phdrs, zeros to a page; notes, zeros to a page; then every PT_LOAD rounded outwards to pages, without gaps.

    Sources: vmcore.c: merge_note_headers_elf64 (*note_align* is 0 before 6.5, 4 since 60592fb6b67c),
    process_ptload_program_headers_elf64.
    """
    notes, loads = elfcorehdr.notes, elfcorehdr.loads
    notes_offset = round_up(EHDR_SIZE + PHDR_SIZE * (len(loads) + 1))
    position = notes_offset + round_up(len(notes))
    phdrs = [Phdr(PT_NOTE, 0, notes_offset, 0, 0, len(notes), len(notes), note_align)]
    placed: list[Placed] = []
    for load in loads:
        start, end = round_down(load.paddr), round_up(load.paddr + load.size)
        phdrs.append(Phdr(PT_LOAD, PF_RWX, position + load.paddr - start, load.vaddr, load.paddr, load.size, load.size,
                          PAGE_SIZE))
        placed.append(Placed(position, start, end, load))
        position += end - start
    head = pack_ehdr(len(phdrs)) + b"".join(phdr.pack() for phdr in phdrs)
    header = head + bytes(notes_offset - len(head)) + notes + bytes(-len(notes) % PAGE_SIZE)
    return Merged(header, tuple(phdrs), tuple(placed), position)
