"""ELF cores of an s390x machine: a kernel's /proc/vmcore, zgetdump's, makedumpfile -E, QEMU's dump-guest-memory, libvirt's.

Only what lies in the file by physical address counts: PT_LOADs by p_paddr, PT_NOTEs. Sources: makedumpfile.c: write_elf_pages_cyclic,
write_elf_header; zgetdump dfo_elf.c, dfi_elf.c; QEMU dump/dump.c, target/s390x/arch_dump.c.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise

from vmcorefs.elf import EHDR_SIZE, PHDR_SIZE
from vmcorefs.image.elf_doubts import Broken, Doubts, covered
from vmcorefs.image.elf_headers import Headers
from vmcorefs.image.notes import NT_PRSTATUS, VMCOREINFO_LIMIT, sort_notes
from vmcorefs.image.segments import Nothing, Reader, SegmentSource, Zeros
from vmcorefs.image.source import RANGES_LIMIT, Container, Note, Source
from vmcorefs.quantities import MIB, PAGE_SIZE, round_up
from vmcorefs.ranges import Range

_CLUSTER_LIMIT = 1 << 16  # PT_LOADs that overlap each other
_HEADER_LIMIT = 16 << 20
_SAMPLES = 64  # pages compared where two PT_LOADs hold the same memory
_SAMPLED_LIMIT = 32  # such places looked at
_NT_PRPSINFO = 3

_WRITERS = {"": "", "kernel": ", as a kernel's /proc/vmcore has it", "QEMU": " of QEMU's dump-guest-memory (or virsh dump --memory-only)",
            "zgetdump": " of zgetdump", "makedumpfile": " of makedumpfile -E"}
# (start, end, rank, order, reader, offset): of two for one address the lower (rank, order) counts; rank 0 are data of the file
_Piece = tuple[int, int, int, tuple[int, int], Reader, int]
_LOST = 2  # rank of a piece that the file was cut off before
_FILTERED = "the program that wrote the dump left this memory out (its PT_LOAD has no data for it), zero or not is not known"


def from_file(file: Source) -> Source:
    """The memory in an ELF core. Raises ImageError."""
    return _Core(file).source()


class _Core(Headers):
    """The memory that the headers lead to."""

    def __init__(self, file: Source):
        super().__init__(file)
        self.memory: list[Range] = []
        self.missing: tuple[int, int, int] | None = None  # first address, bytes, end of file that would be needed
        self.sampled = 0
        self.left_out: list[Range] = []  # data of PT_LOADs that are no memory
        self.broken = Broken((), ())
        self.covered: frozenset[int] = frozenset()  # of the PT_LOADs of a cluster, those whose memory others have, too
        self.file_reader: Reader = file
        self.no_memory: Reader = Nothing(file.path, "broken", "damaged program headers: two PT_LOADs contradict each other here")

    def _is_padding(self, gap: Range) -> bool:
        """Whether zeros up to the next boundary, of a page at most, are all that is in *gap*."""
        boundary = gap.end & -gap.end  # the largest power of two that data behind the gap are aligned to
        return gap.size < min(boundary, PAGE_SIZE) and self.file.read_some(gap.size, gap.start) == bytes(gap.size)

    def _find_contradictions(self, *, cpus: bool) -> None:
        """What of the PT_LOADs cannot be right, and so is broken or told; notes without any *cpus* may be at a wrong place themselves."""
        notes = [] if self.notes_damaged or not cpus else [Range(offset, offset + filesz) for offset, filesz, _, _ in self.note_segments]
        begin = max([self.phoff + self.phnum * PHDR_SIZE, *(offset + filesz for offset, filesz, _, _ in self.note_segments)])
        doubts = Doubts(self.loads, self.place)
        try:
            self.broken = doubts.broken(begin, self.file.size, notes)
        except ValueError as error:
            raise self.error(f"{error}; the program headers at {self.phoff:#x} are damaged") from error
        if not self.others and not self.notes_damaged:
            doubts.look_for_gaps(begin, self.left_out, self._is_padding)
        doubts.compare_addresses()
        self.problems += doubts.problems

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
                raise self.error(f"more than {_CLUSTER_LIMIT} PT_LOADs overlap at address {start:#x}; the header is damaged")
            reach = max(reach, end)
            if self.memory and start <= self.memory[-1].end:
                self.memory[-1] = Range(self.memory[-1].start, reach)
            else:
                self.memory.append(Range(start, end))
                if len(self.memory) > RANGES_LIMIT:
                    raise self.error(f"it has more than {RANGES_LIMIT} separate memory ranges; the header is damaged")
        yield from self._cluster(cluster, tail)

    def _cluster(self, indexes: list[int], tail: Reader) -> Iterator[tuple[int, int, Reader, int]]:
        """The pieces of PT_LOADs that overlap; mostly it is one."""
        pieces = [piece for i in indexes for piece in self._pieces(i, tail)]
        if len(indexes) > 1:
            ranges = [(self.loads.paddr[i], self.loads.paddr[i] + self.loads.memsz[i]) for i in indexes]
            rows = Counter((self.loads.paddr[i], self.loads.offset[i], self.loads.filesz[i]) for i in indexes if self.loads.filesz[i])
            twice = next((row for row, count in rows.items() if count > 1), None)
            if twice is not None:
                self.problems.append(f"two PT_LOADs are the same (p_paddr {twice[0]:#x}, p_offset {twice[1]:#x}): if one of them is "
                                     "damaged, its memory is missing")
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
            self.problems.append(f"PT_LOADs {a} and {b} ({self.places(a, b)}) both hold addresses {Range(start, end)}, and each more "
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
        if tails or erased or self.incomplete:
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
        notes = self.read_notes()
        cpus, vmcoreinfo, others = sort_notes(notes)
        self.refuse_secure_execution(notes)
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
        if self.incomplete:
            words.append("makedumpfile marked it as incomplete (e_flags at offset 0x30): there was no room for all of it")
        if self.missing:
            first, size, need = self.missing
            words.append(f"the file is cut off: it ends at {self.file.size:#x} instead of {need:#x}; {size:#x} bytes of memory are "
                         f"missing, the first at address {first:#x}")
        return "; ".join(words) or None
