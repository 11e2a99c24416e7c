"""Opens kdump-compressed dumps (makedumpfile, QEMU): one file, or the files of makedumpfile --split, given or found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.file import ImageFile
from vmcorefs.image.kdump_header import DESCRIPTOR_SIZE, INCOMPLETE, MAGIC, KdumpHeader, parse_header
from vmcorefs.image.kdump_pages import PageTable, memory_of
from vmcorefs.image.kdump_source import DESCRIPTOR, KdumpSource
from vmcorefs.image.libraries import library
from vmcorefs.image.notes import Sorted, parse_notes, sort_notes
from vmcorefs.image.parts import numbered
from vmcorefs.image.source import Container, Note, Source
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range

_COUNTED = 64 << 20  # bytes of a bitmap up to which its pages are counted when the dump is opened
# what differs between the parts of a split dump: status, start_pfn and end_pfn, start_pfn_64 and end_pfn_64
_OWN = ((0x1a8, 0x1ac), (PAGE_SIZE + 0x10, PAGE_SIZE + 0x20), (PAGE_SIZE + 0x50, PAGE_SIZE + 0x60))


def from_file(file: Source) -> Source:
    """The dump in *file*; of a split one, with the files beside it that belong to it. Raises ImageError."""
    header = parse_header(file)
    if not header.split:
        return _open([(header, file)], found=False)
    with ExitStack() as stack:
        parts = [(header, file)]
        for path in numbered(file.path) if isinstance(file, ImageFile) else ():
            sibling = _sibling(path, header, file)
            if sibling is not None:
                stack.callback(sibling[1].close)
                parts.append(sibling)
        opened = _open(parts, found=True)
        stack.pop_all()
        return opened


def from_files(files: Sequence[Source]) -> Source:
    """The dump that makedumpfile --split wrote into *files*, in any order. Raises ImageError."""
    parts = [(parse_header(file), file) for file in files]
    for header, file in parts:
        if not header.split:
            raise ImageError(f"{file.name}: a whole kdump-compressed dump, no part of one that was split; give it alone")
        if not _same_dump(*parts[0], header, file):
            raise ImageError(f"{file.name}: no part of the dump that {files[0].name} is a part of; their headers differ")
    return _open(parts, found=False)


def _sibling(path: str, header: KdumpHeader, file: Source) -> tuple[KdumpHeader, Source] | None:
    """The file at *path*, opened, if it is another part of the dump that *file* is a part of."""
    try:
        sibling = ImageFile(path)
    except ImageError:
        return None
    try:
        if sibling.identity != file.identity and sibling.head(len(MAGIC)) == MAGIC:
            found = parse_header(sibling)
            if _same_dump(header, file, found, sibling):
                return found, sibling
    except ImageError:
        pass
    sibling.close()
    return None


def _same_dump(header: KdumpHeader, file: Source, other: KdumpHeader, other_file: Source) -> bool:
    """Whether all of the first two blocks is equal but for the status and what pages a part has."""
    try:
        return other.split and header.max_pfn == other.max_pfn and _common(file) == _common(other_file)
    except OldmemReadError:
        return False


def _common(file: Source) -> bytes:
    data = bytearray(file.pread(2 * PAGE_SIZE, 0))
    for start, end in _OWN:
        data[start:end] = bytes(end - start)
    return bytes(data)


def _open(given: Sequence[tuple[KdumpHeader, Source]], *, found: bool) -> Source:
    """*found*: the other parts were looked for, not given."""
    header, first = given[0]
    for part, file in given:
        if part.descriptors > file.size:
            raise ImageError(f"{file.name}: the dump is cut off at {file.size:#x}, within its bitmaps, which end at "
                             f"{part.descriptors:#x}: no page is in it; copy it again")
        if part.compression not in {None, "zlib"}:
            library(str(part.compression), file.name)
    parts = sorted(given, key=lambda part: (part[0].start, part[0].end))
    for (a, a_file), (b, b_file) in pairwise(parts):
        if b.start < a.end and b.start < b.end:
            raise ImageError(f"{b_file.name}: the pages {_span(b)} are in it, {_span(a)} in {a_file.name}; give each part of the dump once")
    memory = memory_of(first, header.bitmap1, header.max_pfn, "the first bitmap")
    problems: list[str] = []
    missing = _missing_parts(header, [part for part, _ in parts], memory, found=found)
    tables = [PageTable(file, part) for part, file in parts]
    for table in tables:
        _examine(table, missing)
    notes = _notes(first, header, problems)
    if header.erased:
        problems.append("makedumpfile erased some data on purpose (--config or --eppic): they are not what was in memory")
    if not memory:
        problems.append(f"the first bitmap at {header.bitmap1:#x} names no memory at all")
    container = Container(
        format="kdump-compressed", writer="QEMU" if header.by_qemu else "makedumpfile", detail=_detail(header, len(given)), memory=memory,
        cpu_notes=notes.cpus, vmcoreinfo=notes.vmcoreinfo, dump_level=header.dump_level, incomplete="; ".join(missing) or None,
        problems=tuple(problems), time=header.time, release=header.release, machine=header.machine)
    all_there = not any(part.status & INCOMPLETE for part, _ in parts)
    zero = header.dump_level == 1 and all_there and header.bitmap1 != header.bitmap2
    return KdumpSource([file for _, file in given], tables, memory[-1].end if memory else header.max_pfn * PAGE_SIZE, container, zero=zero)


def _missing_parts(header: KdumpHeader, parts: Sequence[KdumpHeader], memory: Sequence[Range], *, found: bool) -> list[str]:
    missing, position = [], 0
    for part in [*parts, header._replace(start=header.max_pfn, end=header.max_pfn)]:
        hole = Range(position * PAGE_SIZE, part.start * PAGE_SIZE)
        if any(max(r.start, hole.start) < min(r.end, hole.end) for r in memory):
            missing.append(f"of a split dump, the file with memory {hole} is not {'beside the others' if found else 'given'}")
        position = max(position, part.end)
    return missing


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


def _examine(table: PageTable, missing: list[str]) -> None:
    """What can be told of a file at once: that it is incomplete, that its bitmaps and descriptors do not fit."""
    header, file = table.header, table.file
    name = os.path.basename(file.name)
    if header.status & INCOMPLETE:
        missing.append(f"{name} was marked as incomplete by its writer (status {header.status:#x} at offset 0x1a8)")
    if header.start >= header.end or (header.end - header.start) // 8 > _COUNTED:
        return
    try:
        count = table.rank(header.end)
        if not count:
            return
        first, second, last = (DESCRIPTOR.unpack(table.descriptors(number, 1)) for number in (0, min(1, count - 1), count - 1))
    except OldmemReadError as error:
        missing.append(f"{name} is cut off within its page descriptors: {error.cause}")
        return
    end = header.descriptors + count * DESCRIPTOR_SIZE
    begins = end <= first[0] <= end + PAGE_SIZE or end <= second[0] <= end + 2 * PAGE_SIZE  # a zero page for all may come first
    if not begins and not (header.status & INCOMPLETE and first[0] == 0):
        raise ImageError(f"{file.name}: damaged dump: the bitmap at {header.bitmap2:#x} names {count:#x} pages, whose descriptors end at "
                         f"{end:#x}, but the first page's data begin at {first[0]:#x}; sub_hdr_size or max_mapnr in the header is wrong")
    if last[0] + last[1] > file.size:
        start = _first_cut(table, count) * PAGE_SIZE
        missing.append(f"{name} is cut off at {file.size:#x}, the last page's data would end at {last[0] + last[1]:#x}; pages from "
                       f"address {start:#x} on are not in it")


def _first_cut(table: PageTable, count: int) -> int:
    """The first page whose data are beyond the end of the file, if data lie in the order of the pages."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        offset, size, _ = DESCRIPTOR.unpack(table.descriptors(middle, 1))
        low, high = (low, middle) if offset + size > table.file.size else (middle + 1, high)
    first, end = table.header.start, table.header.end
    while first + 1 < end:  # the last page with not more than *low* pages before it is the one with this descriptor
        middle = (first + end) // 2
        first, end = (middle, end) if table.rank(middle) <= low else (first, middle)
    return first


def _span(part: KdumpHeader) -> Range:
    return Range(part.start, part.end)


def _detail(header: KdumpHeader, files: int) -> str:
    words = ["kdump-compressed", f"version {header.version}", header.compression or "not compressed", f"dump level {header.dump_level}"]
    if header.split:
        words.append(f"{files} file{'s' if files > 1 else ''} of a split dump")
    return ", ".join(words)
