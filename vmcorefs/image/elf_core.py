"""ELF cores of an s390x machine: a kernel's /proc/vmcore, zgetdump's, makedumpfile -E, QEMU's dump-guest-memory, libvirt's.

Only what lies in the file by physical address counts: PT_LOADs by p_paddr, PT_NOTEs. Section headers are looked at for two
things only (the number of program headers where it does not fit into e_phnum, and the mark of a secure execution dump): QEMU
writes them in the wrong byte order, and e_ehsize, too. Sources: ELF gABI; makedumpfile.c: write_elf_pages_cyclic,
write_elf_header; zgetdump dfo_elf.c, dfi_elf.c; QEMU dump/dump.c, target/s390x/arch_dump.c.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import pairwise

from vmcorefs.elf import E_PHNUM_MAX, EHDR_SIZE, PHDR_SIZE, PT_LOAD, PT_NOTE
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.elf_doubts import Broken, Doubts, covered
from vmcorefs.image.notes import NOTES_LIMIT, NT_PRSTATUS, VMCOREINFO_LIMIT, parse_notes, sort_notes
from vmcorefs.image.segments import Nothing, Reader, SegmentSource, Zeros
from vmcorefs.image.shell import advised
from vmcorefs.image.source import ADDRESS_LIMIT, RANGES_LIMIT, Container, Note, Source
from vmcorefs.quantities import MIB, PAGE_SIZE, round_up
from vmcorefs.ranges import Range

_PHDRS_LIMIT = 1 << 19  # program headers: 512 GiB of memory of which every other MiB was left out
_CLUSTER_LIMIT = 1 << 16  # PT_LOADs that overlap each other
_NOTE_SEGMENTS_LIMIT = 64
_HEADER_LIMIT = 16 << 20
_SECTIONS_LIMIT = 64
_FILE_LIMIT = 1 << 63
_WINDOW = 4096  # program headers read at once
_SAMPLES = 64  # pages compared where two PT_LOADs hold the same memory
_SAMPLED_LIMIT = 32  # such places looked at
_WITHOUT_MEMORY = {0x6474E551, 0x70000000}  # PT_GNU_STACK, PT_S390_PGSTE: what they say is no place in the file

_E_PHOFF, _E_SHOFF, _E_FLAGS, _E_PHENTSIZE, _E_PHNUM, _E_SHENTSIZE = 0x20, 0x28, 0x30, 0x36, 0x38, 0x3A
_P_FIELDS = {"p_offset": 8, "p_paddr": 24, "p_filesz": 32, "p_memsz": 40}
_NO_PADDR = (1 << 64) - 1  # a PT_LOAD of virtual addresses only
_DUMP_ELF_INCOMPLETE = 1  # makedumpfile's bit in e_flags

_NT_PRPSINFO, _NT_PV_CPU_DATA = 3, 0x30E
_PHDR = struct.Struct(">IIQQQQQQ")

_WRITERS = {"": "", "kernel": ", as a kernel's /proc/vmcore has it", "QEMU": " of QEMU's dump-guest-memory (or virsh dump --memory-only)",
            "zgetdump": " of zgetdump", "makedumpfile": " of makedumpfile -E"}
# (start, end, rank, order, reader, offset): of two for one address the lower (rank, order) counts; rank 0 are data of the file
_Piece = tuple[int, int, int, tuple[int, int], Reader, int]
_LOST = 2  # rank of a piece that the file was cut off before
_FILTERED = "the program that wrote the dump left this memory out (its PT_LOAD has no data for it), zero or not is not known"


def from_file(file: Source) -> Source:
    """The memory in an ELF core. Raises ImageError."""
    return _Opening(file).source()


@dataclass
class _Loads:
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


class _Opening:
    """What is known while an ELF core is opened."""

    def __init__(self, file: Source):
        self.file = file
        self.problems: list[str] = []
        self.loads = _Loads()
        self.note_segments: list[tuple[int, int, int, int]] = []  # p_offset, p_filesz, p_memsz, p_align
        self.header = self._read(0, EHDR_SIZE, "the ELF header")
        self.phoff = self._number(_E_PHOFF, 8)
        self.phnum = self._count()
        self.memory: list[Range] = []
        self.missing: tuple[int, int, int] | None = None  # first address, bytes, end of file that would be needed
        self.sampled = 0
        self.others: list[tuple[int, int]] = []  # (number, p_type) of the program headers that are none of a dump
        self.notes_damaged = False
        self.left_out: list[Range] = []  # data of PT_LOADs that are no memory
        self.broken = Broken((), ())
        self.covered: frozenset[int] = frozenset()  # of the PT_LOADs of a cluster, those whose memory others have, too
        self.file_reader: Reader = file
        self.no_memory: Reader = Nothing(file.path, "broken", "damaged program headers: two PT_LOADs contradict each other here")

    # -- headers -------------------------------------------------------------------------------------------------------

    def _error(self, text: str) -> ImageError:
        return ImageError(f"{self.file.name}: an s390x ELF core, but {text}")

    def _read(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > self.file.size:
            raise self._error(f"cut off: {what} at offset {offset:#x} ends at {offset + size:#x}, the file at {self.file.size:#x}; "
                              "copy it again")
        try:
            return self.file.pread(size, offset)
        except OldmemReadError as error:
            raise self._error(f"{what} cannot be read: {error.cause} (offset {error.offset:#x})") from error

    def _number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.header[offset:offset + size], "big")

    def _count(self) -> int:
        entry = self._number(_E_PHENTSIZE, 2)
        if entry != PHDR_SIZE:
            raise self._error(f"e_phentsize at offset {_E_PHENTSIZE:#x} is {entry}, not {PHDR_SIZE}; the header is damaged")
        count = self._number(_E_PHNUM, 2)
        if count == E_PHNUM_MAX:
            shoff = self._number(_E_SHOFF, 8)
            if not 0 < shoff < _FILE_LIMIT:
                raise self._error(f"e_phnum at offset {_E_PHNUM:#x} is {count:#x}, so the number of program headers is in section "
                                  f"header 0, but e_shoff at offset {_E_SHOFF:#x} is {shoff:#x}")
            count = int.from_bytes(self._read(shoff, 64, "section header 0")[44:48], "big")  # sh_info
        if count == 0:
            raise self._error(f"it has no program headers (e_phnum at offset {_E_PHNUM:#x})")
        if count > _PHDRS_LIMIT:
            raise self._error(f"{count} program headers are more than any dump has ({_PHDRS_LIMIT}); the header is damaged")
        end = self.phoff + count * PHDR_SIZE
        if self.phoff < EHDR_SIZE or end > _FILE_LIMIT:
            raise self._error(f"e_phoff at offset {_E_PHOFF:#x} is {self.phoff:#x}; the header is damaged")
        if end > self.file.size:
            raise self._error(f"cut off: its {count} program headers at {self.phoff:#x} end at {end:#x}, the file at "
                              f"{self.file.size:#x}; copy it again")
        return count

    def _read_program_headers(self) -> None:
        loads = self.loads
        for first in range(0, self.phnum, _WINDOW):
            size = min(_WINDOW, self.phnum - first) * PHDR_SIZE
            data = self._read(self.phoff + first * PHDR_SIZE, size, "program headers")
            for index, row in enumerate(_PHDR.iter_unpack(data), first):
                kind, flags, offset, vaddr, paddr, filesz, memsz, align = row
                if kind == PT_NOTE and len(self.note_segments) < _NOTE_SEGMENTS_LIMIT:
                    self.note_segments.append((offset, filesz, memsz, align))
                if kind not in {PT_LOAD, PT_NOTE, *_WITHOUT_MEMORY} and (filesz or memsz):
                    self.others.append((index, kind))
                if kind != PT_LOAD or paddr == _NO_PADDR or (memsz == 0 and filesz == 0):
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
            raise self._error(f"none of its {self.phnum} program headers at {self.phoff:#x} is a PT_LOAD with memory")
        self._look_behind()
        if self.others:
            index, kind = self.others[0]
            self.problems.append(f"program header {index} at offset {self._place(index):#x} has the p_type {kind:#x}, which no dump has"
                                 f"{f', and {len(self.others) - 1} more' if len(self.others) > 1 else ''}: it is not read; if it is a "
                                 "damaged PT_LOAD, its memory is missing")

    def _look_behind(self) -> None:
        """A PT_LOAD behind the last program header: there are more of them than their number says."""
        end = self._place(self.phnum)
        row = self.file.read_some(PHDR_SIZE, end)
        if len(row) < PHDR_SIZE or any(offset < end + PHDR_SIZE for offset, filesz, _, _ in self.note_segments if filesz):
            return
        kind, _, offset, _, paddr, filesz, memsz, _ = _PHDR.unpack(row)
        if kind == PT_LOAD and 0 < filesz <= memsz and paddr + memsz <= ADDRESS_LIMIT and end + PHDR_SIZE <= offset < self.file.size:
            self.problems.append(f"behind the last of {self.phnum} program headers, at {end:#x}, is one more PT_LOAD: their number "
                                 f"(e_phnum at offset {_E_PHNUM:#x}) is damaged, and memory of it and of what follows is missing")

    def _place(self, index: int) -> int:
        """Of a program header."""
        return self.phoff + index * PHDR_SIZE

    def _places(self, a: int, b: int) -> str:
        return f"program headers at offsets {self._place(a):#x} and {self._place(b):#x}"

    def _find_contradictions(self, *, cpus: bool) -> None:
        """What of the PT_LOADs cannot be right, and so is broken or told; notes without any *cpus* may be at a wrong place themselves."""
        notes = [] if self.notes_damaged or not cpus else [Range(offset, offset + filesz) for offset, filesz, _, _ in self.note_segments]
        begin = max([self.phoff + self.phnum * PHDR_SIZE, *(offset + filesz for offset, filesz, _, _ in self.note_segments)])
        doubts = Doubts(self.loads, self._place)
        try:
            self.broken = doubts.broken(begin, self.file.size, notes)
        except ValueError as error:
            raise self._error(f"{error}; the program headers at {self.phoff:#x} are damaged") from error
        if not self.others and not self.notes_damaged:
            doubts.look_for_gaps(begin, self.left_out)
        doubts.compare_addresses()
        self.problems += doubts.problems

    def _check(self, index: int, offset: int, paddr: int, filesz: int, memsz: int) -> None:
        at = self.phoff + index * PHDR_SIZE
        if filesz > memsz:
            raise self._error(f"PT_LOAD {index}: p_filesz {filesz:#x} at offset {at + _P_FIELDS['p_filesz']:#x} is more than p_memsz "
                              f"{memsz:#x}; the header is damaged")
        if paddr + memsz > ADDRESS_LIMIT:
            raise self._error(f"PT_LOAD {index}: p_paddr {paddr:#x} at offset {at + _P_FIELDS['p_paddr']:#x} and p_memsz {memsz:#x} "
                              f"lead beyond {ADDRESS_LIMIT:#x}, where no s390x machine has memory; the header is damaged")
        if not filesz:
            return
        if offset + filesz > _FILE_LIMIT:
            raise self._error(f"PT_LOAD {index}: p_offset {offset:#x} at offset {at + _P_FIELDS['p_offset']:#x} is no place in a file; "
                              "the header is damaged")
        phdrs = (self.phoff, self.phoff + self.phnum * PHDR_SIZE)
        if offset < EHDR_SIZE or (offset < phdrs[1] and phdrs[0] < offset + filesz):
            raise self._error(f"PT_LOAD {index}: p_offset {offset:#x} at offset {at + _P_FIELDS['p_offset']:#x} leads into the file's "
                              "own headers; the header is damaged")

    def _refuse_secure_execution(self, notes: Sequence[Note]) -> None:
        if self._has_pv_section() or any(note.type == _NT_PV_CPU_DATA and note.name == b"LINUX" for note in notes):
            raise ImageError(f"{self.file.name}: the dump of a secure execution guest: its memory is encrypted; "
                             + advised("zgetdump with the guest owner's key decrypts it into an ELF core, which is read: zgetdump --key "
                                       "KEYFILE -f elf {file} > {elf}", self.file))

    def _has_pv_section(self) -> bool:
        """A section is named pv_compl. Never raises: section headers are often wrong, and need not be right."""
        shoff, (entry, count, strings) = self._number(_E_SHOFF, 8), struct.unpack_from(">HHH", self.header, _E_SHENTSIZE)
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

    # -- notes ---------------------------------------------------------------------------------------------------------

    def _notes(self) -> list[Note]:
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

    # -- memory --------------------------------------------------------------------------------------------------------

    def _segments(self, tail: Reader) -> Iterator[tuple[int, int, Reader, int]]:
        """Sorted and disjoint, as SegmentSource wants them; counts what is missing on the way."""
        loads = self.loads
        cluster: list[int] = []
        reach = 0
        for i in loads.in_order():
            start, end = loads.paddr[i], loads.paddr[i] + loads.memsz[i]
            if cluster and start >= reach:
                yield from self._cluster(cluster, tail)
                cluster = []
            cluster.append(i)
            if len(cluster) > _CLUSTER_LIMIT:
                raise self._error(f"more than {_CLUSTER_LIMIT} PT_LOADs overlap at address {start:#x}; the header is damaged")
            reach = max(reach, end)
            if self.memory and start <= self.memory[-1].end:
                self.memory[-1] = Range(self.memory[-1].start, reach)
            else:
                self.memory.append(Range(start, end))
                if len(self.memory) > RANGES_LIMIT:
                    raise self._error(f"it has more than {RANGES_LIMIT} separate memory ranges; the header is damaged")
        yield from self._cluster(cluster, tail)

    def _cluster(self, indexes: list[int], tail: Reader) -> Iterator[tuple[int, int, Reader, int]]:
        """The pieces of PT_LOADs that overlap; mostly it is one."""
        pieces = [piece for i in indexes for piece in self._pieces(i, tail)]
        if len(indexes) > 1:
            ranges = [(self.loads.paddr[i], self.loads.paddr[i] + self.loads.memsz[i]) for i in indexes]
            self.covered = frozenset(i for i, also in zip(indexes, covered(ranges), strict=True) if also)
            pieces = list(self._best(pieces))
        for start, end, rank, _, reader, offset in pieces:
            if rank == _LOST:
                first, size, need = self.missing or (start, 0, 0)
                self.missing = (min(first, start), size + end - start, max(need, offset + end - start))
            yield start, end, reader, offset

    def _pieces(self, i: int, tail: Reader) -> list[_Piece]:
        """Of one PT_LOAD: its data, those that are broken, those that the file has lost, what has none. Lower rank, then order: better."""
        loads = self.loads
        start, offset, filesz = loads.paddr[i], loads.offset[i], loads.filesz[i]
        there = min(max(self.file.size - offset, 0), filesz)
        order = (-filesz, i)
        rows: list[_Piece] = [
            (start + a - offset, start + b - offset, int(bad), order, self.no_memory if bad else self.file_reader, a)
            for a, b, bad in self.broken.split(i, offset, offset + there)] if there else []
        rows += [
            (start + there, start + filesz, _LOST, order, self.file_reader, offset + there),
            (start + filesz, start + loads.memsz[i], 3, order, tail, start + filesz),
        ]
        return [row for row in rows if row[0] < row[1]]

    def _best(self, pieces: list[_Piece]) -> Iterator[_Piece]:
        """Disjoint pieces: at each address the best of those that have it."""
        pieces.sort(key=lambda piece: piece[0])
        borders = sorted({border for piece in pieces for border in piece[:2]})
        heap: list[tuple[int, tuple[int, int], int]] = []
        following, last = 0, None
        for start, end in pairwise(borders):
            while following < len(pieces) and pieces[following][0] <= start:
                heappush(heap, (pieces[following][2], pieces[following][3], following))
                following += 1
            while heap and pieces[heap[0][2]][1] <= start:
                heappop(heap)
            if not heap:
                continue
            best = pieces[heap[0][2]]
            others = [pieces[n] for _, _, n in heap[1:3] if pieces[n][1] > start and pieces[n][2] == 0]
            if best[2] == 0 and others:
                self._compare(best, others[0], start, end)
            cut = (start, end, best[2], best[3], best[4], best[5] + start - best[0])
            if last is not None and last[3] == cut[3] and last[2] == cut[2] and last[1] == start:
                last = (last[0], end, *last[2:])
                continue
            if last is not None:
                yield last
            last = cut
        if last is not None:
            yield last

    def _compare(self, one: _Piece, other: _Piece, start: int, end: int) -> None:
        """Note down if two PT_LOADs hold different bytes for [start, end), by some pages of it, or should not both hold it at all."""
        self.sampled += 1
        if self.sampled > _SAMPLED_LIMIT:
            return
        a, b = (self.loads.index[piece[3][1]] for piece in (one, other))
        if self.covered.isdisjoint((one[3][1], other[3][1])):
            self.problems.append(f"PT_LOADs {a} and {b} ({self._places(a, b)}) both hold addresses {Range(start, end)}, and each more "
                                 f"besides: one is damaged; {a}, the larger one, is used there")
            return
        step = max(round_up((end - start) // _SAMPLES), PAGE_SIZE)
        for at in (*range(start, end, step), max(end - PAGE_SIZE, start)):
            size = min(PAGE_SIZE, end - at)
            first, second = (self.file.read_some(size, piece[5] + at - piece[0]) for piece in (one, other))
            if first[:len(second)] != second[:len(first)]:
                self.problems.append(f"PT_LOADs {a} and {b} both hold address {at:#x} and differ there; {a}, the larger one, is used")
                return

    def _without_virtual_image(self, writer: str, vmcoreinfo: bytes | None) -> None:
        """Older zgetdump (2.16) took p_vaddr for the address, and so put the kernel image of a 6.10+ vmcore at its virtual one.

        It is in the file a second time, as a part of memory. Such kernels have IDENTITYBASE in VMCOREINFO.
        """
        found = re.search(rb"^SYMBOL\(_stext\)=([0-9a-f]{1,16})$", vmcoreinfo or b"", re.MULTILINE)
        if writer != "zgetdump" or found is None or b"\nIDENTITYBASE=" not in (vmcoreinfo or b"") or len(self.loads) < 2:
            return
        address = int(found[1], 16)
        for i in range(len(self.loads)):
            if self.loads.paddr[i] == address:
                self.problems.append(f"PT_LOAD {self.loads.index[i]} is the kernel image at its virtual address {address:#x}, a mistake of "
                                     "older zgetdump; it is no memory of its own and left out")
                self.left_out.append(Range(self.loads.offset[i], self.loads.offset[i] + self.loads.filesz[i]))
                self.loads.remove(i)
                return

    # -- who wrote it --------------------------------------------------------------------------------------------------

    def _chained(self, position: int) -> bool:
        """Whether the PT_LOADs' data lie one behind the other from *position* on, without gaps, those without data included."""
        for offset, filesz in zip(self.loads.offset, self.loads.filesz, strict=True):
            if offset != position:
                return False
            position += filesz
        return True

    def _writer(self, first: Note | None, *, erased: bool) -> str:
        loads = self.loads
        tails = any(f < m for f, m in zip(loads.filesz, loads.memsz, strict=True))
        behind = EHDR_SIZE + self.phnum * PHDR_SIZE
        begins_with = None if first is None else first.type
        if begins_with == NT_PRSTATUS and not loads.flags and not tails:
            return "QEMU"
        if begins_with != _NT_PRPSINFO or len(self.note_segments) != 1 or self.phoff != EHDR_SIZE:
            return ""
        offset, filesz, memsz, align = self.note_segments[0]
        if (memsz, align, offset) == (0, 0, behind) and loads.virtual and self._chained(offset + filesz) and not erased \
                and all(f in {0, m} for f, m in zip(loads.filesz, loads.memsz, strict=True)):
            return "zgetdump"
        flags = self._number(_E_FLAGS, 4)
        if tails or erased or flags & _DUMP_ELF_INCOMPLETE:
            return "makedumpfile"
        if offset == round_up(behind) and memsz == filesz and self._page_aligned():
            return "kernel"
        return "makedumpfile" if offset == behind and self._chained(offset + filesz) else ""

    def _page_aligned(self) -> bool:
        return all((o - p) % PAGE_SIZE == 0 for o, p in zip(self.loads.offset, self.loads.paddr, strict=True))

    def _kernel_header(self) -> bytes | None:
        end = min(offset - paddr % PAGE_SIZE for offset, paddr in zip(self.loads.offset, self.loads.paddr, strict=True))
        header = self.file.read_some(end, 0) if EHDR_SIZE < end <= _HEADER_LIMIT else b""
        return header if len(header) == end else None

    def _tail(self, writer: str) -> tuple[Reader, str]:
        """What a PT_LOAD reads as behind its data, and words for it.

        zgetdump writes whole PT_LOADs without data for zeros, which in the stand-alone dumps that it converts are whole MiB. It
        does the same with what makedumpfile filtered out of an ELF core, in whole pages: then nothing is known of it. Nor is it where
        data follow that none has: p_filesz is damaged.
        """
        loads = self.loads
        last = max(offset + filesz for offset, filesz in zip(loads.offset, loads.filesz, strict=True))
        empty = [(p, p + m) for p, f, m in zip(loads.paddr, loads.filesz, loads.memsz, strict=True) if f == 0]
        end = max(p + m for p, m in zip(loads.paddr, loads.memsz, strict=True))
        if writer == "zgetdump" and last >= self.file.size and all(a % MIB == 0 and (e % MIB == 0 or e == end) for a, e in empty):
            return Zeros(), "parts without data are zero"
        filtered = sum(m - f for f, m in zip(loads.filesz, loads.memsz, strict=True))
        return Nothing(self.file.path, "filtered", _FILTERED), f"{filtered:#x} bytes of memory left out" if filtered else ""

    # -- all together --------------------------------------------------------------------------------------------------

    def source(self) -> Source:
        """The opened core."""
        self._read_program_headers()
        notes = self._notes()
        cpus, vmcoreinfo, others = sort_notes(notes)
        self._refuse_secure_execution(notes)
        if vmcoreinfo is not None and len(vmcoreinfo) > VMCOREINFO_LIMIT:
            self.problems.append(f"the VMCOREINFO note has {len(vmcoreinfo):#x} bytes, more than any kernel writes, and is not used")
            vmcoreinfo = None
        writer = self._writer(notes[0] if notes else None, erased=any(note.name == b"ERASEINFO" for note in others))
        self._without_virtual_image(writer, vmcoreinfo)
        self._find_contradictions(cpus=bool(cpus))
        tail, words = self._tail(writer)
        detail = f"ELF core{_WRITERS[writer]}"
        source = SegmentSource(self.file, self._segments(tail), Container(
            format="elf", writer=writer, detail=f"{detail}; {words}" if words else detail,
            cpu_notes=cpus, vmcoreinfo=vmcoreinfo,
            vmcore_header=self._kernel_header() if writer == "kernel" else None))
        source.container = replace(source.container, memory=tuple(self.memory), incomplete=self._incomplete(),
                                   problems=tuple(self.problems))
        return source

    def _incomplete(self) -> str | None:
        words = []
        if self._number(_E_FLAGS, 4) & _DUMP_ELF_INCOMPLETE:
            words.append("makedumpfile marked it as incomplete (e_flags at offset 0x30): there was no room for all of it")
        if self.missing:
            first, size, need = self.missing
            words.append(f"the file is cut off: it ends at {self.file.size:#x} instead of {need:#x}; {size:#x} bytes of memory are "
                         f"missing, the first at address {first:#x}")
        return "; ".join(words) or None
