"""Map: which bytes of vmcore are which memory of the crashed system, and where that lies in the files; as a drawing in text."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vmcorefs.errors import printable
from vmcorefs.quantities import human_size, round_up

if TYPE_CHECKING:
    from vmcorefs.dump import Dump
    from vmcorefs.image.source import Source

_KEPT = 2  # of a long run of pieces of one kind, at either end
_RUN = 6  # longer runs are drawn as one piece with a number


@dataclass(frozen=True)
class Piece:
    """A stretch of bytes in which one translation holds.

    *kind*: header, direct, swapped, prefixed, HSA; missing: beyond the end of its file; crashkernel, hole: no part of vmcore.
    *offset*: in vmcore; *start*: absolute address in the crashed system; *source*: offset in *file*. None: not there.
    *count*: how many pieces are drawn as this one; between them there may be gaps.
    """

    kind: str
    size: int
    offset: int | None = None
    start: int | None = None
    file: str | None = None
    source: int | None = None
    count: int = 1
    length: int | None = None
    """Bytes in vmcore where the gaps between several pieces count in *size*."""
    image: bool = False
    """A PT_LOAD of its own for the kernel image."""

    @property
    def served(self) -> bool:
        """Whether vmcore has it."""
        return self.offset is not None

    def end_of(self, name: str) -> int | None:
        """Behind the last byte by offset, start or source."""
        value: int | None = getattr(self, name)
        if value is None:
            return None
        return value + (self.length if name == "offset" and self.length is not None else self.size)


@dataclass(frozen=True)
class Map:
    """*loads*: header region, then what the kernel image's PT_LOAD serves; *memory*: the crashed system's memory by address."""

    mode: str
    loads: tuple[Piece, ...]
    memory: tuple[Piece, ...]
    files: tuple[tuple[str, int], ...]
    dump_kernel: int
    """Raw [0, dump_kernel) is the dump kernel's memory."""

    @property
    def vmcore(self) -> tuple[Piece, ...]:
        """By offset."""
        return (*self.loads, *(p for p in self.memory if p.served))

    def shortened(self) -> Map:
        """Long runs of pieces of one kind, and the holes between them, become one piece each."""
        return replace(self, memory=tuple(_shorten(self.memory)))


def make_map(dump: Dump) -> Map:
    """The map of an open Dump."""
    regions = iter(dump.vmcore.regions)
    region = next(regions)
    loads = [Piece("header", region.end, 0)]
    memory: list[Piece] = []
    for placed in dump.merged.placed:
        at, end = placed.offset, placed.offset + placed.end - placed.start
        image = placed.load.kind == "kernel image"
        while at < end:
            while region.end <= at:
                region = next(regions)
            size = min(end, region.end) - at
            assert region.file is not None
            piece = Piece(region.kind, size, at, placed.start + at - placed.offset, region.file.path,
                          region.source + at - region.start, image=image)
            (loads if image else memory).extend(_cut_at_end(piece, region.file))
            at += size
    area = dump.mode.crashkernel
    top = max(memory[-1].end_of("start") or 0, area.end if area else 0)
    everything = list(_with_gaps(memory, area.span if area else None, top, dump.image))
    files = [(f.path, f.size) for f in (dump.hsa, dump.image) if f is not None]
    return Map(dump.mode.name, tuple(loads), tuple(everything), tuple(files), dump.mode.dump_kernel_limit)


def _cut_at_end(piece: Piece, file: Source) -> Iterator[Piece]:
    assert piece.source is not None and piece.offset is not None and piece.start is not None
    there = max(0, min(piece.size, round_up(file.size) - piece.source))
    if there:
        yield replace(piece, size=there)
    if there < piece.size:
        yield replace(piece, kind="missing", size=piece.size - there, offset=piece.offset + there, start=piece.start + there,
                      source=piece.source + there)


def _with_gaps(memory: Sequence[Piece], area: tuple[int, int] | None, top: int, image: Source) -> Iterator[Piece]:
    at = 0
    for piece in [*memory, Piece("end", 0, start=top)]:
        assert piece.start is not None
        yield from _gap(at, piece.start, area, image)
        if piece.size:
            yield piece
        at = piece.start + piece.size


def _gap(start: int, end: int, area: tuple[int, int] | None, image: Source) -> Iterator[Piece]:
    """Addresses without a PT_LOAD: the crashkernel area, and holes beside it."""
    a, e = area or (end, end)
    for kind, first, last, source in (("hole", start, min(end, a), start), ("crashkernel", max(start, a), min(end, e), 0),
                                      ("hole", max(start, e), end, max(start, e))):
        if first < last:
            yield Piece(kind, last - first, start=first, file=image.path, source=source)


def _shorten(pieces: Sequence[Piece]) -> Iterator[Piece]:
    for kind, run in _runs(pieces):
        served = [p for p in run if p.served]
        if len(served) <= _RUN:
            yield from run
            continue
        first, last = run.index(served[_KEPT - 1]) + 1, run.index(served[-_KEPT])
        yield from run[:first]
        inner = [p for p in run[first:last] if p.served]
        head, tail = inner[0], inner[-1]
        assert head.start is not None and tail.start is not None
        if run[first] is not head:
            yield run[first]
        yield replace(head, kind=kind, size=tail.start + tail.size - head.start, count=len(inner),
                      length=sum(p.size for p in inner))
        if run[last - 1] is not tail:
            yield run[last - 1]
        yield from run[last:]


def _runs(pieces: Sequence[Piece]) -> Iterator[tuple[str, list[Piece]]]:
    """Consecutive pieces of one kind, holes counted to the run they stand in."""
    kinds: list[str] = []
    for piece in pieces:
        kinds.append(piece.kind if piece.kind != "hole" or not kinds else kinds[-1])
    at = 0
    for kind, group in groupby(kinds):
        length = len(list(group))
        yield kind, list(pieces[at:at + length])
        at += length


# kind -> (word in the drawing, what it is)
WORDS = {
    "header": ("header", "ELF header, program headers and notes (registers, VMCOREINFO): made by vmcorefs, as the kernel does"),
    "direct": ("direct", "stands in the image at the offset that is its address"),
    "swapped": ("swapped", "changed places with the dump kernel when that was started; vmcorefs undoes it"),
    "prefixed": ("prefixed", "exchanged by prefixing in the CPU through which the memory was copied (LiME); vmcorefs undoes it"),
    "HSA": ("HSA", "saved by firmware in the hardware system area before the dump kernel overwrote it"),
    "missing": ("MISSING", "beyond the end of the file; a read of it is an I/O error"),
    "crashkernel": ("not served", "crashkernel area: the dump kernel's, no part of the crashed system"),
    "hole": ("no memory", "the machine has no memory at these addresses, or vmcore leaves it out"),
}


def words_of(piece: Piece) -> str:
    """The word in its box."""
    word = WORDS[piece.kind][0]
    return f"{word}, kernel" if piece.image else word


def explanations(themap: Map) -> list[tuple[str, str]]:
    """(word, explanation) of the kinds that occur."""
    present = {piece.kind for piece in (*themap.loads, *themap.memory)}
    return [row for kind, row in WORDS.items() if kind in present]


@dataclass(frozen=True)
class _Lines:
    """The characters of the drawing."""

    top: str = "┌─┐"
    between: str = "├─┤"
    bottom: str = "└─┘"
    side: str = "│"
    open: str = "╎"

    @classmethod
    def for_encoding(cls, encoding: str) -> _Lines:
        box = cls()
        try:
            (box.top + box.between + box.bottom + box.side + box.open).encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return cls("+-+", "+-+", "+-+", "|", ":")
        return box


_BOX = 19


def map_text(themap: Map, *, encoding: str = "utf-8", width: int = 80) -> str:
    """The drawing: from top to bottom vmcore; left its offsets, then addresses and where the bytes come from."""
    themap = themap.shortened()
    lines = _Lines.for_encoding(encoding)
    rows = [*themap.loads, *themap.memory]
    left = max(len("offset"), *(len(hex(p.end_of("offset") or 0)) for p in rows))
    out = [f"{'vmcore':>{left}} {'':{_BOX}} address in the", f"{'offset':>{left}} {'':{_BOX}} crashed system   bytes stand in"]

    def border(ends: str, offset: int | None, address: int | None) -> None:
        text = f"{'' if offset is None else hex(offset):>{left}} {ends[0]}{ends[1] * (_BOX - 2)}{ends[2]}"
        out.append(f"{text} {'' if address is None else hex(address)}".rstrip())

    before: Piece | None = None
    offset = 0
    for piece in rows:
        joined = before is not None and (before.end_of("start") == piece.start or before.start is None)
        if before is not None and not joined:
            border(lines.bottom, None, before.end_of("start"))
        border(lines.between if joined else lines.top, offset, piece.start)
        out += _content(piece, lines, left, width)
        offset = piece.end_of("offset") or offset
        before = piece
    assert before is not None
    border(lines.bottom, offset, before.end_of("start"))
    return "\n".join([*out, "", *_notes(themap, width)]) + "\n"


def _content(piece: Piece, lines: _Lines, left: int, width: int) -> list[str]:
    side = lines.side if piece.served else lines.open
    head = f"{'':{left}} {side} {words_of(piece):{_BOX - 4}} {side} "
    size = human_size(piece.size)
    if piece.count > 1:
        start = f"{head}{human_size(piece.length or 0):10} in {piece.count} ranges, "
        return [start + _short(piece.file, width - len(start))]
    if piece.kind == "header":
        return [f"{head}{size:10} made by vmcorefs"]
    if piece.kind == "hole":
        return [f"{head}{size}"]
    if piece.kind == "crashkernel":
        return [f"{head}{size:10} the dump kernel's own"]
    where = f" at {piece.source:#x}" if piece.source is not None else ""
    start = f"{head}{size:10} "
    return [f"{start}{_short(piece.file, width - len(start) - len(where))}{where}"]


def _short(path: str | None, room: int) -> str:
    name = printable(os.path.basename(path or ""))
    room = max(room, 6)
    return name if len(name) <= room else name[:room - 4] + ".." + name[-2:]


def _notes(themap: Map, width: int) -> Iterator[str]:
    for word, text in explanations(themap):
        yield from textwrap.wrap(f"{word:11}{text}", width, subsequent_indent=" " * 11)
    for path, size in themap.files:
        yield from textwrap.wrap(f"{'file':11}{printable(path)} ({human_size(size)})", width, subsequent_indent=" " * 11)


def as_dicts(themap: Map) -> list[dict[str, Any]]:
    """The memory by address, for JSON."""
    return [{"start": p.start, "end": p.end_of("start"), "kind": p.kind, "offset": p.offset,
             "source": printable(p.file) if p.file is not None and p.served else None,
             "source_offset": p.source if p.served else None} for p in themap.memory]
