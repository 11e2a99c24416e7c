"""Byte tables of the ELF structures in a vmcore: Ehdr, Phdr, Nhdr; big endian, 64 bit. Nothing else.

On the floor of the house, below s390/ and vmcore/, because both the writer (vmcore/) and the reader of the dump kernel's
own header (s390/elfcorebuf.py) speak it. Sources: include/uapi/linux/elf.h, elf-em.h; crash_dump.c: ehdr_init.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

EHDR_SIZE = 64
PHDR_SIZE = 56
NHDR_SIZE = 12

ET_CORE = 4
EM_S390 = 22
PT_LOAD = 1
PT_NOTE = 4
PF_RWX = 7

# note types
NT_PRSTATUS = 1
NT_PRFPREG = 2
NT_PRPSINFO = 3
NT_S390_TIMER = 0x301
NT_S390_TODCMP = 0x302
NT_S390_TODPREG = 0x303
NT_S390_CTRS = 0x304
NT_S390_PREFIX = 0x305
NT_S390_VXRS_LOW = 0x309
NT_S390_VXRS_HIGH = 0x30A

# offset size  field
#   0    16    e_ident      7f 'ELF' ELFCLASS64=2 ELFDATA2MSB=2 EV_CURRENT=1, nine zeros
#  16     2    e_type       ET_CORE
#  18     2    e_machine    EM_S390
#  20     4    e_version    1
#  24     8    e_entry      0
#  32     8    e_phoff      64
#  40     8    e_shoff      0
#  48     4    e_flags      0
#  52     2    e_ehsize     64
#  54     2    e_phentsize  56
#  56     2    e_phnum
#  58     6    e_shentsize, e_shnum, e_shstrndx = 0
_EHDR = struct.Struct(">16sHHIQQQIHHHHHH")
E_IDENT = b"\x7fELF\x02\x02\x01" + bytes(9)

# offset size  field          offset size  field
#   0     4    p_type           24    8    p_paddr
#   4     4    p_flags          32    8    p_filesz
#   8     8    p_offset         40    8    p_memsz
#  16     8    p_vaddr          48    8    p_align
_PHDR = struct.Struct(">IIQQQQQQ")

# offset size  field: 0 4 n_namesz (with NUL), 4 4 n_descsz, 8 4 n_type; then name and descriptor, each padded to 4
_NHDR = struct.Struct(">III")

E_PHNUM_MAX = 0xFFFF


class Phdr(NamedTuple):
    """struct elf64_phdr, fields in the order of the file."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int

    def pack(self) -> bytes:
        """The 56 bytes."""
        return _PHDR.pack(*self)


def pack_ehdr(e_phnum: int) -> bytes:
    """The 64 bytes of crash_dump.c: ehdr_init for *e_phnum* program headers."""
    return _EHDR.pack(E_IDENT, ET_CORE, EM_S390, 1, 0, EHDR_SIZE, 0, 0, EHDR_SIZE, PHDR_SIZE, e_phnum, 0, 0, 0)


def parse_ehdr(data: bytes) -> int | None:
    """e_phnum, if *data* begins with exactly the Ehdr that crash_dump.c makes; else None."""
    if len(data) < EHDR_SIZE:
        return None
    e_phnum = int.from_bytes(data[56:58], "big")
    return e_phnum if data[:EHDR_SIZE] == pack_ehdr(e_phnum) else None


def parse_phdr(data: bytes, offset: int) -> Phdr:
    """The program header at *offset* of *data* (56 bytes must be there)."""
    return Phdr(*_PHDR.unpack_from(data, offset))


def parse_nhdr(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """(n_namesz, n_descsz, n_type) at *offset* of *data* (12 bytes must be there)."""
    namesz, descsz, kind = _NHDR.unpack_from(data, offset)
    return namesz, descsz, kind


def pack_note(name: bytes, n_type: int, desc: bytes) -> bytes:
    """One note (crash_dump.c: nt_init_name): header, name with NUL, descriptor, both zero-padded to 4 bytes."""
    return b"".join((_NHDR.pack(len(name) + 1, len(desc), n_type),
                     name + bytes(4 - len(name) % 4), desc, bytes(-len(desc) % 4)))
