"""The dump kernel's finished vmcore header (fs/proc/vmcore.c: elfcorebuf) as evidence in its memory.

It tells the memory ranges and the layout exactly. Nothing of its bytes is ever copied into the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from vmcorefs.elf import E_IDENT, EHDR_SIZE, PF_RWX, PHDR_SIZE, PT_LOAD, PT_NOTE, Phdr, parse_ehdr, parse_phdr
from vmcorefs.errors import OldmemReadError
from vmcorefs.quantities import PAGE_SIZE, round_down, round_up
from vmcorefs.ranges import Range
from vmcorefs.s390 import Read, Scan
from vmcorefs.s390.pages import pages_with

_ADDRESS_LIMIT = 1 << 62  # far above any machine; keeps sums of untrusted numbers in 64 bits


@dataclass(frozen=True)
class FinishedHeader:
    """What a finished header at image offset *offset* says; *data* are its bytes (for comparison, never for serving)."""

    offset: int
    data: bytes
    notes_size: int
    note_align: int
    image_load: Phdr | None
    ranges: tuple[Range, ...]
    identity_base: int


def find_finished_headers(read: Read, scan: Scan, limit: int) -> Iterator[FinishedHeader]:
    """Every page of [0, limit) that starts a finished header: exact Ehdr, offsets chained as vmcore_init does it.

    The first version of the header, as crash_dump.c made it (PT_NOTE offset is a pointer), is not one of them.
    """
    for offset, data in scan(0, limit, len(E_IDENT) - 1):
        for at in pages_with(data, -offset % PAGE_SIZE, E_IDENT):
            header = read_finished_header(read, offset + at)
            if header is not None:
                yield header


def read_finished_header(read: Read, offset: int) -> FinishedHeader | None:
    """The finished header at *offset*, None if there is none."""
    try:
        first = read(offset, PAGE_SIZE)
        e_phnum = parse_ehdr(first)
        if e_phnum is None or e_phnum < 2:
            return None
        size = round_up(EHDR_SIZE + PHDR_SIZE * e_phnum)
        if not _plausible(first, size):  # before the rest is read: every page of an image may claim 65535 program headers
            return None
        data = first if size == PAGE_SIZE else read(offset, size)
    except OldmemReadError:
        return None
    end = EHDR_SIZE + PHDR_SIZE * e_phnum
    if data[end:].strip(b"\0"):
        return None
    note, *loads = (parse_phdr(data, at) for at in range(EHDR_SIZE, end, PHDR_SIZE))
    if (note.p_type, note.p_flags, note.p_offset, note.p_vaddr, note.p_paddr) != (PT_NOTE, 0, size, 0, 0):
        return None
    if note.p_filesz != note.p_memsz or note.p_align not in (0, 4) or not 0 < note.p_filesz < 1 << 32:
        return None
    if not _chained(loads, size + round_up(note.p_filesz)):
        return None
    image, memory = _split(loads)
    ranges = tuple(Range(load.p_paddr, load.p_paddr + load.p_memsz) for load in memory)
    identity_base = (memory[0].p_vaddr - memory[0].p_paddr) % (1 << 64)
    if any((load.p_vaddr - load.p_paddr) % (1 << 64) != identity_base for load in memory):
        return None
    if any(a.end >= b.start for a, b in pairwise(ranges)):
        return None
    return FinishedHeader(offset, data, note.p_filesz, note.p_align, image, ranges, identity_base)


def _plausible(first: bytes, size: int) -> bool:
    """Whether the PT_NOTE and all whole PT_LOADs of a header's first page chain as they should; *size*: of the header."""
    note = parse_phdr(first, EHDR_SIZE)
    count = int.from_bytes(first[56:58], "big") - 1
    loads = [parse_phdr(first, at) for at in range(EHDR_SIZE + PHDR_SIZE, PAGE_SIZE - PHDR_SIZE + 1, PHDR_SIZE)][:count]
    return (note.p_type, note.p_offset) == (PT_NOTE, size) and _chained(loads, size + round_up(note.p_filesz))


def _chained(loads: list[Phdr], position: int) -> bool:
    """Whether the PT_LOADs' offsets are the ones that vmcore.c: process_ptload_program_headers_elf64 gives."""
    for load in loads:
        if load.p_type != PT_LOAD or load.p_flags != PF_RWX or load.p_align != PAGE_SIZE:
            return False
        if load.p_filesz != load.p_memsz or not 0 < load.p_memsz < _ADDRESS_LIMIT or load.p_paddr >= _ADDRESS_LIMIT:
            return False
        start = round_down(load.p_paddr)
        if load.p_offset != position + load.p_paddr - start:
            return False
        position += round_up(load.p_paddr + load.p_memsz) - start
    return True


def _split(loads: list[Phdr]) -> tuple[Phdr | None, list[Phdr]]:
    """The kernel image's PT_LOAD, if the first one is it (its memory lies in a later one as well), and the memory's."""
    first, rest = loads[0], loads[1:]
    if any(r.p_paddr <= first.p_paddr and first.p_paddr + first.p_memsz <= r.p_paddr + r.p_memsz for r in rest):
        return first, rest
    return None, loads
