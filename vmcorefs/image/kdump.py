"""Opens kdump-compressed dumps (makedumpfile, QEMU): one file, or the files of makedumpfile --split, given or found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise

from vmcorefs.errors import ImageError, OldmemReadError, printable
from vmcorefs.image.kdump_bitmap import memory_of
from vmcorefs.image.kdump_extent import strays, try_to_measure
from vmcorefs.image.kdump_header import EXCLUDED_VMEMMAP, INCOMPLETE, KdumpHeader, parse_header
from vmcorefs.image.kdump_pages import Extent, PageTable
from vmcorefs.image.kdump_source import KdumpSource
from vmcorefs.image.kdump_split import Part, find_siblings, missing_parts, same_dump
from vmcorefs.image.libraries import library
from vmcorefs.image.notes import Sorted, parse_notes, sort_notes
from vmcorefs.image.source import Container, Note, Source
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range

# Bytes of a bitmap, neither all ones nor all zeros, that are counted when the dump is opened: 0.1 s. More are counted before the first
# page is read.
_COUNTED = 64 << 20


def from_file(file: Source) -> Source:
    """The dump in *file*; of a split one, with the files beside it that belong to it. Raises ImageError."""
    header = parse_header(file)
    if not header.split:
        return _open([(header, file)], found=False)
    with ExitStack() as stack:
        opened = _open([(header, file), *find_siblings(header, file, stack)], found=True)
        stack.pop_all()
        return opened


def from_files(files: Sequence[Source]) -> Source:
    """The dump that makedumpfile --split wrote into *files*, in any order. Raises ImageError."""
    parts = [(parse_header(file), file) for file in files]
    for header, file in parts:
        if not header.split:
            raise ImageError(f"{file.name}: a whole kdump-compressed dump, no part of one that was split; give it alone")
        if not same_dump(*parts[0], header, file):
            raise ImageError(f"{file.name}: no part of the dump that {files[0].name} is a part of; their headers differ")
    return _open(parts, found=False)


def _open(given: Sequence[Part], *, found: bool) -> Source:
    """*found*: the other parts were looked for, not given."""
    header, first = given[0]
    for part, file in given:
        # a file of a split dump that no page fell to ends behind the last bit that makedumpfile set
        needed = part.descriptors if part.start < part.end else part.bitmap2 + -(-part.max_pfn // 8)
        if needed > file.size:
            raise ImageError(f"{file.name}: the dump is cut off at {file.size:#x}, within its bitmaps, which end at "
                             f"{part.descriptors:#x}: no page is in it; copy it again")
        if part.compression not in {None, "zlib"}:
            library(str(part.compression), file.name)
    parts = sorted(given, key=lambda part: (part[0].start, part[0].end))
    for (a, a_file), (b, b_file) in pairwise(parts):
        if b.start < a.end and b.start < b.end:
            raise ImageError(f"{b_file.name}: the pages {_span(b)} are in it, {_span(a)} in {a_file.name}; give each part of the dump once")
    memory = memory_of(first, header.bitmap1, header.max_pfn, "the first bitmap")
    problems = list(header.problems)
    missing = missing_parts(header, [part for part, _ in parts], memory, found=found)
    tables = [PageTable(file, part) for part, file in parts]
    for table in tables:
        _examine(table, memory, missing, problems)
    notes = _notes(first, header, problems)
    if header.erased:
        problems.append("makedumpfile erased some data on purpose (--config or --eppic): they are not what was in memory")
    if not memory:
        problems.append(f"the first bitmap at {header.bitmap1:#x} names no memory at all")
    container = Container(
        format="kdump-compressed", writer="QEMU" if header.by_qemu else "makedumpfile", detail=_detail(header, len(given)), memory=memory,
        cpu_notes=notes.cpus, vmcoreinfo=notes.vmcoreinfo, dump_level=header.dump_level, incomplete="; ".join(missing) or None,
        problems=tuple(problems), time=header.time, release=header.release, machine=header.machine)
    plain = not any(part.status & (INCOMPLETE | EXCLUDED_VMEMMAP) for part, _ in parts)
    zero = header.dump_level == 1 and plain and header.bitmap1 != header.bitmap2
    return KdumpSource([file for _, file in given], tables, memory[-1].end if memory else header.max_pfn * PAGE_SIZE, container, zero=zero)


def _examine(table: PageTable, memory: Sequence[Range], missing: list[str], problems: list[str]) -> None:
    """What can be told of a file at once: that it is incomplete, that its bitmaps and descriptors do not fit. Raises ImageError."""
    header, file = table.header, table.file
    name = printable(file.path.rpartition("/")[2])
    if header.status & INCOMPLETE:
        missing.append(f"{name} was marked as incomplete by its writer (status {header.status:#x} at offset 0x1a8)")
    if header.start >= header.end:
        table.extent = Extent(0, 0, header.end, whole=True)
        return
    table.extent = try_to_measure(table, memory, _COUNTED)
    if isinstance(table.extent, ImageError):
        raise table.extent
    if table.extent is not None:
        missing += table.extent.incomplete
    try:
        stray = strays(table, memory)
    except OldmemReadError:  # it was told that the bitmap cannot be read
        return
    if stray is not None:
        problems.append(f"the bitmaps of {name} contradict each other: page {stray:#x} (address {stray * PAGE_SIZE:#x}) was saved by the "
                        f"second one at {header.bitmap2:#x}, but is no memory by the first one at {header.bitmap1:#x}; it is not served, "
                        "and more may be wrong")


def _notes(file: Source, header: KdumpHeader, problems: list[str]) -> Sorted:
    notes: list[Note] = []
    try:
        notes.extend(parse_notes(file.pread(header.notes[1], header.notes[0])))
    except ValueError as error:
        problems.append(f"damaged notes at {header.notes[0]:#x}: {error}; those before it are used")
    except OldmemReadError as error:
        problems.append(f"the notes cannot be read: {error}")
    found = sort_notes(notes)
    if header.vmcoreinfo[1]:
        text = file.read_some(header.vmcoreinfo[1], header.vmcoreinfo[0])
        if text:
            return found._replace(vmcoreinfo=text)
    return found


def _span(part: KdumpHeader) -> Range:
    return Range(part.start, part.end)


def _detail(header: KdumpHeader, files: int) -> str:
    words = ["kdump-compressed", f"version {header.version}", header.compression or "not compressed", f"dump level {header.dump_level}"]
    if header.split:
        words.append(f"{files} file{'s' if files > 1 else ''} of a split dump")
    return ", ".join(words)
