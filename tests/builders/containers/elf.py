"""ELF cores as the programs write them that write ELF cores of s390x machines."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = 4096
EHDR, PHDR, SHDR = 64, 56, 64

# Where the fields are, (offset, size): of the ELF header, of a program header
E_FIELDS = {"e_type": (16, 2), "e_machine": (18, 2), "e_version": (20, 4), "e_entry": (24, 8), "e_phoff": (32, 8), "e_shoff": (40, 8),
            "e_flags": (48, 4), "e_ehsize": (52, 2), "e_phentsize": (54, 2), "e_phnum": (56, 2), "e_shentsize": (58, 2), "e_shnum": (60, 2),
            "e_shstrndx": (62, 2)}
P_FIELDS = {"p_type": (0, 4), "p_flags": (4, 4), "p_offset": (8, 8), "p_vaddr": (16, 8), "p_paddr": (24, 8), "p_filesz": (32, 8),
            "p_memsz": (40, 8), "p_align": (48, 8)}


def note(name: bytes, kind: int, desc: bytes) -> bytes:
    name += b"\0"
    return struct.pack(">III", len(name), len(desc), kind) + name.ljust(-(-len(name) // 4) * 4, b"\0") \
        + desc.ljust(-(-len(desc) // 4) * 4, b"\0")


def prstatus(number: int) -> bytes:
    return note(b"CORE", 1, bytes(32) + struct.pack(">I", number) + bytes([number]) * 300)


def cpu(number: int) -> bytes:
    """Some notes of a CPU, each different."""
    return prstatus(number) + note(b"CORE", 2, bytes([number]) * 136) + note(b"LINUX", 0x305, struct.pack(">I", number << 13)) \
        + note(b"LINUX", 0x304, bytes([0x40 + number]) * 128)


PRPSINFO = note(b"CORE", 3, b"\0R" + bytes(38) + b"vmlinux".ljust(96, b"\0"))


@dataclass(frozen=True)
class Load:
    """A PT_LOAD; *offset* None: where the writer's order puts it."""

    paddr: int
    data: bytes
    memsz: int | None = None
    offset: int | None = None
    vaddr: int | None = None
    flags: int = 7
    align: int = PAGE

    @property
    def size(self) -> int:
        return len(self.data) if self.memsz is None else self.memsz


def ehdr(phoff: int, phnum: int, *, ehsize: int = EHDR, sections: tuple[int, int, int] = (0, 0, 0), shentsize: int = 0,
         flags: int = 0) -> bytes:
    shoff, shnum, shstrndx = sections
    return struct.pack(">16sHHIQQQIHHHHHH", b"\x7fELF\2\2\1" + bytes(9), 4, 22, 1, 0, phoff, shoff, flags, ehsize, PHDR, phnum,
                       shentsize, shnum, shstrndx)


def phdr(kind: int, flags: int, offset: int, vaddr: int, paddr: int, filesz: int, memsz: int, align: int) -> bytes:
    return struct.pack(">IIQQQQQQ", kind, flags, offset, vaddr, paddr, filesz, memsz, align)


def _file(pieces: Sequence[tuple[int, bytes]]) -> bytes:
    out = bytearray(max(offset + len(data) for offset, data in pieces))
    for offset, data in pieces:
        out[offset:offset + len(data)] = data
    return bytes(out)


def _layout(loads: Sequence[Load], begin: int, *, aligned: bool) -> list[int]:
    offsets = []
    for load in loads:
        if aligned:
            begin = -(-begin // PAGE) * PAGE + load.paddr % PAGE
        offsets.append(begin if load.offset is None else load.offset)
        if load.offset is None:
            begin += len(load.data)
    return offsets


def core(loads: Sequence[Load], notes: bytes = b"", *, aligned: bool = False, note_memsz: int | None = None, note_align: int = 0,
         flags: int = 0, notes_behind: bool = True) -> bytes:
    """Any ELF core. By default: headers, notes, data, nothing aligned, as makedumpfile -E writes it of a kernel's vmcore."""
    count = len(loads) + 1
    begin = EHDR + PHDR * count
    if not notes_behind:
        begin = -(-begin // PAGE) * PAGE
    offsets = _layout(loads, begin + len(notes), aligned=aligned)
    headers = ehdr(EHDR, count, flags=flags) + phdr(4, 0, begin, 0, 0, len(notes), len(notes) if note_memsz is None else note_memsz,
                                                    note_align)
    for load, offset in zip(loads, offsets, strict=True):
        vaddr = load.paddr if load.vaddr is None else load.vaddr
        headers += phdr(1, load.flags, offset, vaddr, load.paddr, len(load.data), load.size, load.align)
    return _file([(0, headers), (begin, notes), *((o, load.data) for load, o in zip(loads, offsets, strict=True) if load.data)])


def kernel(loads: Sequence[Load], notes: bytes, note_align: int = 0) -> bytes:
    """fs/proc/vmcore.c: notes on a page of their own, data page aligned."""
    return core(loads, notes, aligned=True, notes_behind=False, note_align=note_align)


def zgetdump(loads: Sequence[Load], notes: bytes) -> bytes:
    """dfo_elf.c: p_memsz of the notes 0; a range of zeros has p_filesz 0 and the offset at which its data would be."""
    return core(loads, notes, note_memsz=0)


def qemu(loads: Sequence[Load], notes: bytes, *, little_endian_host: bool = True) -> bytes:
    """QEMU 7.2 dump.c: section headers first, on a little endian host in its order; e_ehsize 8 there; no flags, no alignment."""
    order = "<" if little_endian_host else ">"
    shoff, count = EHDR, len(loads) + 1
    phoff = shoff + 2 * SHDR
    note_offset = phoff + count * PHDR
    offsets = _layout(loads, note_offset + len(notes), aligned=False)
    end = offsets[-1] + len(loads[-1].data)
    names = b"\0.shstrtab\0"
    sections = bytes(SHDR) + struct.pack(order + "IIQQQQIIQQ", 1, 3, 0, 0, end, len(names), 0, 0, 0, 0)
    headers = ehdr(phoff, count, ehsize=8 if little_endian_host else 64, sections=(shoff, 2, 1), shentsize=SHDR) + sections
    headers += phdr(4, 0, note_offset, 0, 0, len(notes), len(notes), 0)
    for load, offset in zip(loads, offsets, strict=True):
        headers += phdr(1, 0, offset, load.paddr, load.paddr, len(load.data), load.size, 0)
    return _file([(0, headers), (note_offset, notes), *((o, load.data) for load, o in zip(loads, offsets, strict=True)), (end, names)])


def many(loads: Sequence[Load], notes: bytes) -> bytes:
    """makedumpfile's extended numbering: e_phnum 0xffff, the count in sh_info of a section header behind the program headers."""
    count = len(loads) + 1
    shoff = EHDR + PHDR * count
    note_offset = shoff + SHDR
    offsets = _layout(loads, note_offset + len(notes), aligned=False)
    headers = ehdr(EHDR, 0xFFFF, sections=(shoff, 1, 0), shentsize=SHDR) + phdr(4, 0, note_offset, 0, 0, len(notes), len(notes), 0)
    headers += b"".join(phdr(1, 7, offset, load.paddr, load.paddr, len(load.data), load.size, PAGE)
                        for load, offset in zip(loads, offsets, strict=True))
    headers += struct.pack(">IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, count, 0, 0)
    return _file([(0, headers), (note_offset, notes), *((o, load.data) for load, o in zip(loads, offsets, strict=True))])


def secure_execution(load: Load, notes: bytes, *, order: str = ">") -> bytes:
    """A PV dump: sections pv_mem_meta and pv_compl, by name."""
    shoff, phoff = EHDR, EHDR + 4 * SHDR
    names = b"\0pv_mem_meta\0pv_compl\0.shstrtab\0"
    note_offset = phoff + 2 * PHDR
    offset = note_offset + len(notes)
    end = offset + len(load.data)
    sections = bytes(SHDR)
    for name, at, size in ((1, end, 16), (13, end + 16, 288), (22, end + 304, len(names))):
        sections += struct.pack(order + "IIQQQQIIQQ", name, 1, 0, 0, at, size, 0, 0, 0, 0)
    headers = ehdr(phoff, 2, sections=(shoff, 4, 3), shentsize=SHDR) + sections + phdr(4, 0, note_offset, 0, 0, len(notes), len(notes), 0) \
        + phdr(1, 0, offset, load.paddr, load.paddr, len(load.data), len(load.data), 0)
    return _file([(0, headers), (note_offset, notes), (offset, load.data), (end, bytes(304) + names)])
