"""What the dump in a flattened file stores where: a gap between the records is zeros of the file only where that is nothing.

makedumpfile -F and QEMU write their dump in the order in which they have it, and skip what they would seek over: the rest of a
header's block, what follows the notes up to the bitmaps, the bits of a bitmap behind the last page (makedumpfile.c:
write_kdump_header, write_kdump_bitmap1_buffer, write_elf_header, write_elf_eraseinfo; QEMU dump/dump.c: create_header64,
write_dump_bitmap). All else they write, each byte: where it is in no record, a record was lost or its offset is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vmcorefs.elf import E_PHNUM_MAX, EHDR_SIZE, PHDR_SIZE, PT_LOAD, PT_NOTE
from vmcorefs.image.source import Source
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range, merge

_MAIN_SIZE = 0x1D0  # struct disk_dump_header
_SUB_SIZE = (0, 0xC, 0x20, 0x30, 0x40, 0x50, 0x68)  # struct kdump_sub_header, by version
_UPDATED = Range(PAGE_SIZE, PAGE_SIZE + _SUB_SIZE[-1])  # makedumpfile --config writes the sub header again at its end
_PHDRS_LIMIT = 1 << 19
_WINDOW = 4096  # program headers read at once
_ALIGNMENT = 4  # of notes: makedumpfile skips what pads them


class Layout(NamedTuple):
    """*stored*: what of the file inside must be in records, sorted and disjoint; *data*: where memory begins in it; *updated*: what
    is rightly in two records that differ.
    """

    stored: tuple[Range, ...]
    data: int
    updated: Range = Range(0, 0)


def layout_of(file: Source, gaps: Sequence[Range]) -> Layout | None:
    """By the headers of the dump in *file*, in which *gaps* cannot be read. None: they are not all there, or it is another format."""
    head = file.read_some(_MAIN_SIZE, 0)
    if head[:8] == b"KDUMP   ":
        return _of_kdump(file, head) if len(head) == _MAIN_SIZE else None
    if head[:7] == b"\x7fELF\2\2\1" and len(head) >= EHDR_SIZE:
        return _of_elf(file, head, gaps)
    return None


def _of_kdump(file: Source, head: bytes) -> Layout | None:
    version, = struct.unpack_from(">I", head, 8)
    block, sub_blocks, bitmap_blocks, max_mapnr = struct.unpack_from(">4I", head, 0x1AC)
    size = _SUB_SIZE[min(version, len(_SUB_SIZE) - 1)]
    sub = file.read_some(size, PAGE_SIZE)
    if block != PAGE_SIZE or len(sub) < size:
        return None
    sub = sub.ljust(_SUB_SIZE[-1], b"\0")
    texts = [Range(offset, offset + length) for offset, length in struct.iter_unpack(">QQ", sub[0x20:0x50]) if length]
    if version >= 6:
        max_mapnr, = struct.unpack_from(">Q", sub, 0x60)
    begin = (1 + sub_blocks) * PAGE_SIZE
    half, bits = bitmap_blocks * PAGE_SIZE // 2, -(-max_mapnr // 8)
    bitmaps = [Range(begin, begin + bits)] + ([Range(begin + half, begin + half + bits)] if half >= bits else [])
    data = begin + bitmap_blocks * PAGE_SIZE
    stored = merge([Range(0, _MAIN_SIZE), Range(PAGE_SIZE, PAGE_SIZE + size), *texts, *bitmaps, Range(data, max(data, file.size))])
    return Layout(stored, data, _UPDATED)


def _of_elf(file: Source, head: bytes, gaps: Sequence[Range]) -> Layout | None:
    phoff, shoff = struct.unpack_from(">QQ", head, 0x20)
    count, = struct.unpack_from(">H", head, 0x38)
    parts = [Range(0, EHDR_SIZE)]
    if count == E_PHNUM_MAX:
        section = file.read_some(64, shoff)
        if len(section) < 64:
            return None
        count = int.from_bytes(section[44:48], "big")
        parts.append(Range(shoff, shoff + 64))
    if count > _PHDRS_LIMIT:
        return None
    parts.append(Range(phoff, phoff + count * PHDR_SIZE))
    loads: list[Range] = []
    for first in range(0, count, _WINDOW):
        size = min(_WINDOW, count - first) * PHDR_SIZE
        table = file.read_some(size, phoff + first * PHDR_SIZE)
        if len(table) < size:
            return None
        for kind, offset, filesz in ((row[0], row[2], row[5]) for row in struct.iter_unpack(">IIQQQQQQ", table)):
            if kind == PT_NOTE:
                parts += _without_padding(Range(offset, offset + filesz), gaps)
            elif kind == PT_LOAD and filesz:
                if loads and loads[-1].end == offset:  # as makedumpfile writes them
                    loads[-1] = Range(loads[-1].start, offset + filesz)
                else:
                    loads.append(Range(offset, offset + filesz))
    return Layout(merge([*parts, *loads]), min((load.start for load in loads), default=0))


def _without_padding(notes: Range, gaps: Sequence[Range]) -> Iterator[Range]:
    start = notes.start
    for gap in gaps:
        if start <= gap.start and gap.end <= notes.end and gap.size < _ALIGNMENT:
            yield Range(start, gap.start)
            start = gap.end
    yield Range(start, notes.end)


def split(gaps: Iterable[Range], stored: Sequence[Range]) -> tuple[list[Range], list[Range]]:
    """(what of *gaps* is nothing of *stored*, what is); all sorted and disjoint."""
    nothing: list[Range] = []
    lost: list[Range] = []
    index = 0
    for gap in gaps:
        position = gap.start
        while index < len(stored) and stored[index].end <= position:
            index += 1
        at = index
        while position < gap.end:
            start, end = stored[at] if at < len(stored) else Range(gap.end, gap.end)
            start, end = min(max(start, position), gap.end), min(end, gap.end)
            if position < start:
                nothing.append(Range(position, start))
            if start < end:
                lost.append(Range(start, end))
            position, at = max(end, start), at + 1
    return nothing, lost
