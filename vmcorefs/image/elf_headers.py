"""The headers of an ELF core: its program headers, each field checked, and its notes.

Section headers are looked at for two things only (the number of program headers where it does not fit into e_phnum, and the mark of
a secure execution dump): QEMU writes them in the wrong byte order, and e_ehsize, too. Source: ELF gABI.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vmcorefs.elf import E_PHNUM_MAX, EHDR_SIZE, PHDR_SIZE, PT_LOAD, PT_NOTE
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.notes import NOTES_LIMIT, parse_notes
from vmcorefs.image.shell import advised
from vmcorefs.image.source import ADDRESS_LIMIT, Note, Source

_PHDRS_LIMIT = 1 << 19  # program headers: 512 GiB of memory of which every other MiB was left out
_NOTE_SEGMENTS_LIMIT = 1 << 14  # one for each note of 512 CPUs
_SECTIONS_LIMIT = 64
_FILE_LIMIT = 1 << 63
_WINDOW = 4096  # program headers read at once
_WITHOUT_MEMORY = {0x6474E551, 0x70000000}  # PT_GNU_STACK, PT_S390_PGSTE: what they say is no place in the file

_E_PHOFF, _E_SHOFF, _E_FLAGS, _E_PHENTSIZE, _E_PHNUM, _E_SHENTSIZE = 0x20, 0x28, 0x30, 0x36, 0x38, 0x3A
_P_FIELDS = {"p_offset": 8, "p_paddr": 24, "p_filesz": 32, "p_memsz": 40}
_NO_PADDR = (1 << 64) - 1  # a PT_LOAD of virtual addresses only
_DUMP_ELF_INCOMPLETE = 1  # makedumpfile's bit in e_flags
_NT_PV_CPU_DATA = 0x30E
_PHDR = struct.Struct(">IIQQQQQQ")


@dataclass
class Loads:
    """The PT_LOADs in the order of the file: some numbers each."""

    index: array[int] = field(default_factory=lambda: array("L"))  # of the program header
    vaddr: array[int] = field(default_factory=lambda: array("Q"))
    paddr: array[int] = field(default_factory=lambda: array("Q"))
    offset: array[int] = field(default_factory=lambda: array("Q"))
    filesz: array[int] = field(default_factory=lambda: array("Q"))
    memsz: array[int] = field(default_factory=lambda: array("Q"))
    flags: int = 0  # all p_flags, or-ed
    virtual: bool = True  # p_vaddr = p_paddr in all of them

    def __len__(self) -> int:
        return len(self.paddr)

    def remove(self, i: int) -> None:
        """Forget one of them."""
        for numbers in (self.index, self.vaddr, self.paddr, self.offset, self.filesz, self.memsz):
            del numbers[i]

    def in_order(self) -> Iterator[int]:
        """Indexes by rising address; of those that begin at one address the larger one first."""
        paddr, memsz = self.paddr, self.memsz
        if all(paddr[i] < paddr[i + 1] for i in range(len(paddr) - 1)):
            yield from range(len(paddr))
            return
        # One int each: an order of a million tuples would take a hundred MiB.
        keys = [(paddr[i] << 67) | ((ADDRESS_LIMIT - memsz[i]) << 20) | i for i in range(len(paddr))]
        keys.sort()
        mask = (1 << 20) - 1
        for key in keys:
            yield key & mask


class Headers:
    """What the headers of the core in *file* say. Raises ImageError where they cannot be.

    *note_segments*: p_offset, p_filesz, p_memsz, p_align of each PT_NOTE; *others*: number and p_type of the program headers that no
    dump has; *problems*: what is wrong and was worked around.
    """

    def __init__(self, file: Source):
        self.file = file
        self.problems: list[str] = []
        self.loads = Loads()
        self.note_segments: list[tuple[int, int, int, int]] = []
        self.others: list[tuple[int, int]] = []
        self.notes_damaged = False
        self.header = self._read(0, EHDR_SIZE, "the ELF header")
        self.phoff = self.number(_E_PHOFF, 8)
        self.phnum = self._count()
        self._read_program_headers()

    @property
    def incomplete(self) -> bool:
        """Whether makedumpfile ran out of room, by its bit in e_flags."""
        return bool(self.number(_E_FLAGS, 4) & _DUMP_ELF_INCOMPLETE)

    def error(self, text: str) -> ImageError:
        """What is wrong, in words, as an error."""
        return ImageError(f"{self.file.name}: an s390x ELF core, but {text}")

    def _read(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > self.file.size:
            raise self.error(f"cut off: {what} at offset {offset:#x} ends at {offset + size:#x}, the file at {self.file.size:#x}; "
                              "copy it again")
        try:
            return self.file.pread(size, offset)
        except OldmemReadError as error:
            raise self.error(f"{what} cannot be read: {error.cause} (offset {error.offset:#x})") from error

    def number(self, offset: int, size: int) -> int:
        """A field of the ELF header."""
        return int.from_bytes(self.header[offset:offset + size], "big")

    def _count(self) -> int:
        entry = self.number(_E_PHENTSIZE, 2)
        if entry != PHDR_SIZE:
            raise self.error(f"e_phentsize at offset {_E_PHENTSIZE:#x} is {entry}, not {PHDR_SIZE}; the header is damaged")
        count = self.number(_E_PHNUM, 2)
        if count == E_PHNUM_MAX:
            shoff = self.number(_E_SHOFF, 8)
            if not 0 < shoff < _FILE_LIMIT:
                raise self.error(f"e_phnum at offset {_E_PHNUM:#x} is {count:#x}, so the number of program headers is in section "
                                  f"header 0, but e_shoff at offset {_E_SHOFF:#x} is {shoff:#x}")
            count = int.from_bytes(self._read(shoff, 64, "section header 0")[44:48], "big")  # sh_info
        if count == 0:
            raise self.error(f"it has no program headers (e_phnum at offset {_E_PHNUM:#x})")
        if count > _PHDRS_LIMIT:
            raise self.error(f"{count} program headers are more than any dump has ({_PHDRS_LIMIT}); the header is damaged")
        end = self.phoff + count * PHDR_SIZE
        if self.phoff < EHDR_SIZE or end > _FILE_LIMIT:
            raise self.error(f"e_phoff at offset {_E_PHOFF:#x} is {self.phoff:#x}; the header is damaged")
        if end > self.file.size:
            raise self.error(f"cut off: its {count} program headers at {self.phoff:#x} end at {end:#x}, the file at "
                              f"{self.file.size:#x}; copy it again")
        return count

    def _read_program_headers(self) -> None:
        loads, virtual = self.loads, array("L")
        for first in range(0, self.phnum, _WINDOW):
            size = min(_WINDOW, self.phnum - first) * PHDR_SIZE
            data = self._read(self.phoff + first * PHDR_SIZE, size, "program headers")
            for index, row in enumerate(_PHDR.iter_unpack(data), first):
                kind, flags, offset, vaddr, paddr, filesz, memsz, align = row
                if kind == PT_NOTE:
                    self.note_segments.append((offset, filesz, memsz, align))
                if kind not in {PT_LOAD, PT_NOTE, *_WITHOUT_MEMORY} and (filesz or memsz):
                    self.others.append((index, kind))
                if kind != PT_LOAD or (memsz == 0 and filesz == 0):
                    continue
                if paddr == _NO_PADDR:
                    virtual.append(index)
                    continue
                self._check(index, offset, paddr, filesz, memsz)
                loads.index.append(index)
                loads.offset.append(offset)
                loads.vaddr.append(vaddr)
                loads.paddr.append(paddr)
                loads.filesz.append(filesz)
                loads.memsz.append(memsz)
                loads.flags |= flags
                loads.virtual = loads.virtual and vaddr == paddr
        if not len(loads):
            raise self.error(f"none of its {self.phnum} program headers at {self.phoff:#x} is a PT_LOAD with memory")
        if len(self.note_segments) > _NOTE_SEGMENTS_LIMIT:
            raise self.error(f"{len(self.note_segments)} of its program headers are PT_NOTEs, more than any dump has "
                             f"({_NOTE_SEGMENTS_LIMIT}); the header is damaged")
        self._look_behind()
        if virtual:
            self.problems.append(f"PT_LOAD {virtual[0]} at offset {self.place(virtual[0]):#x} has the p_paddr {_NO_PADDR:#x}, which is no "
                                 f"address{f', and {len(virtual) - 1} more' if len(virtual) > 1 else ''}: it is not served; if it is "
                                 "damaged, its memory is missing")
        if self.others:
            index, kind = self.others[0]
            self.problems.append(f"program header {index} at offset {self.place(index):#x} has the p_type {kind:#x}, which no dump has"
                                 f"{f', and {len(self.others) - 1} more' if len(self.others) > 1 else ''}: it is not read; if it is a "
                                 "damaged PT_LOAD, its memory is missing")

    def _look_behind(self) -> None:
        """A PT_LOAD behind the last program header: there are more of them than their number says."""
        end = self.place(self.phnum)
        row = self.file.read_some(PHDR_SIZE, end)
        if len(row) < PHDR_SIZE or any(offset < end + PHDR_SIZE for offset, filesz, _, _ in self.note_segments if filesz):
            return
        kind, _, offset, _, paddr, filesz, memsz, _ = _PHDR.unpack(row)
        if kind == PT_LOAD and 0 < filesz <= memsz and paddr + memsz <= ADDRESS_LIMIT and end + PHDR_SIZE <= offset < self.file.size:
            self.problems.append(f"behind the last of {self.phnum} program headers, at {end:#x}, is one more PT_LOAD: their number "
                                 f"(e_phnum at offset {_E_PHNUM:#x}) is damaged, and memory of it and of what follows is missing")

    def place(self, index: int) -> int:
        """Of a program header."""
        return self.phoff + index * PHDR_SIZE

    def places(self, a: int, b: int) -> str:
        """Of two of them, in words."""
        return f"program headers at offsets {self.place(a):#x} and {self.place(b):#x}"

    def _check(self, index: int, offset: int, paddr: int, filesz: int, memsz: int) -> None:
        at = self.phoff + index * PHDR_SIZE
        if filesz > memsz:
            raise self.error(f"PT_LOAD {index}: p_filesz {filesz:#x} at offset {at + _P_FIELDS['p_filesz']:#x} is more than p_memsz "
                              f"{memsz:#x}; the header is damaged")
        if paddr + memsz > ADDRESS_LIMIT:
            raise self.error(f"PT_LOAD {index}: p_paddr {paddr:#x} at offset {at + _P_FIELDS['p_paddr']:#x} and p_memsz {memsz:#x} "
                              f"lead beyond {ADDRESS_LIMIT:#x}, where no s390x machine has memory; the header is damaged")
        if not filesz:
            return
        if offset + filesz > _FILE_LIMIT:
            raise self.error(f"PT_LOAD {index}: p_offset {offset:#x} at offset {at + _P_FIELDS['p_offset']:#x} is no place in a file; "
                              "the header is damaged")
        phdrs = (self.phoff, self.phoff + self.phnum * PHDR_SIZE)
        if offset < EHDR_SIZE or (offset < phdrs[1] and phdrs[0] < offset + filesz):
            raise self.error(f"PT_LOAD {index}: p_offset {offset:#x} at offset {at + _P_FIELDS['p_offset']:#x} leads into the file's "
                              "own headers; the header is damaged")

    def refuse_secure_execution(self, notes: Sequence[Note]) -> None:
        """Raise ImageError where memory is encrypted."""
        if self._has_pv_section() or any(note.type == _NT_PV_CPU_DATA and note.name == b"LINUX" for note in notes):
            raise ImageError(f"{self.file.name}: the dump of a secure execution guest: its memory is encrypted; "
                             + advised("zgetdump with the guest owner's key decrypts it into an ELF core, which is read: zgetdump --key "
                                       "KEYFILE -f elf {file} > {elf}", self.file))

    def _has_pv_section(self) -> bool:
        """A section is named pv_compl. Never raises: section headers are often wrong, and need not be right."""
        shoff, (entry, count, strings) = self.number(_E_SHOFF, 8), struct.unpack_from(">HHH", self.header, _E_SHENTSIZE)
        if entry != 64 or not 0 < count <= _SECTIONS_LIMIT or strings >= count:
            return False
        table = self.file.read_some(64 * count, shoff) if shoff + 64 * count <= self.file.size else b""
        for order in (">", "<"):
            if len(table) == 64 * count:
                offset, size = struct.unpack_from(order + "QQ", table, 64 * strings + 24)
                if size <= 1 << 16 and offset + size <= self.file.size and \
                        b"pv_compl" in self.file.read_some(size, offset).split(b"\0"):
                    return True
        return False

    def read_notes(self) -> list[Note]:
        """The notes of all PT_NOTEs, as far as they are whole."""
        notes: list[Note] = []
        left = NOTES_LIMIT
        for offset, filesz, _, _ in self.note_segments:
            size = min(filesz, left, max(self.file.size - offset, 0))
            data = self.file.read_some(size, offset)
            left -= len(data)
            wrong = None if len(data) == filesz else f"they have {filesz:#x} bytes, of which {len(data):#x} are there and can be read"
            try:
                notes += parse_notes(data)
            except ValueError as error:
                wrong = wrong or str(error)
            if wrong:
                self.notes_damaged = True
                self.problems.append(f"the notes at {offset:#x} are damaged: {wrong}; those that are whole are used")
        return notes
