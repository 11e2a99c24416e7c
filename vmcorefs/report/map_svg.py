"""The map as a picture (SVG): vmcore, the crashed machine's memory, the files; bands show which bytes are the same."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from vmcorefs.errors import printable
from vmcorefs.quantities import PAGE_SIZE, human_size
from vmcorefs.report.map import WORDS, Map, Piece

# kind -> (fill, border)
_COLOURS = {
    "header": ("#cbd5e1", "#64748b"),
    "direct": ("#bbe3c6", "#3f8f5b"),
    "swapped": ("#ffd9a0", "#c77f17"),
    "prefixed": ("#ffd9a0", "#c77f17"),
    "HSA": ("#d5ccf7", "#6d55c9"),
    "missing": ("#f8b4b4", "#b91c1c"),
    "crashkernel": ("#e5e7eb", "#9ca3af"),
    "hole": ("#ffffff", "#9ca3af"),
    "unused": ("#ffffff", "#9ca3af"),
}
_PLAIN_WORDS = {
    "header": "The beginning of vmcore: ELF header, registers of the CPUs, VMCOREINFO. It is in no file; vmcorefs makes it, as the "
              "dump kernel did.",
    "direct": "Memory that nobody touched: it stands in the image where its address says.",
    "swapped": "Memory that changed places with the dump kernel's when that was started. vmcorefs changes it back.",
    "prefixed": "The lowcore of the CPU that copied the memory stood at address 0, and the absolute one at that CPU's prefix. vmcorefs "
                "changes them back.",
    "HSA": "Memory that the dump kernel was loaded over. Firmware had saved it in the hardware system area (HSA) before.",
    "missing": "Memory that should be in the image, but the file ends before it. Reading it gives an I/O error.",
    "crashkernel": "The dump kernel's own memory (crashkernel area): no part of the crashed system, and not in vmcore.",
    "hole": "No memory at these addresses, or none that is served.",
}
_NAMES = {"header": "header", "direct": "memory", "swapped": "memory", "prefixed": "memory", "HSA": "memory", "missing": "missing memory",
          "crashkernel": "dump kernel's area", "hole": "no memory"}

_MARGIN, _WIDTH, _GAP = 32, 280, 120
_X = tuple(_MARGIN + i * (_WIDTH + _GAP) for i in range(3))
_TOTAL = _X[2] + _WIDTH + _MARGIN
_TOP = 172
_TITLE = 128  # where the columns' titles stand
_STRIP = 62  # room for the title of a further file
_LEGEND_ROW = 24
_SMALLEST = 42  # two lines of text
_FONT = "font-family:DejaVu Sans,Helvetica,Arial,sans-serif"
_MONO = "font-family:DejaVu Sans Mono,Menlo,Consolas,monospace"


@dataclass(frozen=True)
class _Box:
    """*y*, *height*: where it is drawn; *first*: its lowest offset or address."""

    y: float
    height: float
    kind: str
    name: str
    size: int
    first: int
    last: int


def _height(size: int) -> float:
    """By the logarithm: 12 KiB and 16 TiB are both to be seen."""
    return _SMALLEST + 4.5 * math.log2(max(size, PAGE_SIZE) / PAGE_SIZE)


def map_svg(themap: Map, title: str = "") -> str:
    """The picture as an SVG document; *title* tells which dump this is."""
    drawing = _Drawing(themap.shortened(), title)
    return drawing.document()


class _Drawing:
    def __init__(self, themap: Map, title: str):
        self.map = themap
        self.title = title
        self.bands: list[str] = []
        self.boxes: list[str] = []
        self.bottom = float(_TOP)

    def document(self) -> str:
        memory = self._memory()
        self._vmcore(memory)
        self._files(memory)
        legend = list(self._legend(self.bottom + 34))
        height = self.bottom + 34 + _LEGEND_ROW * len(legend) + 48
        body = [*self._head(), *self.bands, *self.boxes, *legend, *self._foot(height)]
        return "\n".join([
            '<?xml version="1.0" encoding="UTF-8"?>',
            (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_TOTAL} {height:.0f}" width="{_TOTAL}" height="{height:.0f}" '
             f'role="img" style="{_FONT}">'),
            f"<title>{_text(self.title or 'map of vmcore')}</title>",
            f'<rect width="{_TOTAL}" height="{height:.0f}" fill="#ffffff"/>', *body, "</svg>", ""])

    # -- the three columns ----------------------------------------------------------------------------------------------

    def _memory(self) -> list[tuple[Piece, _Box]]:
        """The middle: each piece, cut where the kernel image begins and ends, with the box of the whole piece."""
        images = sorted((p.start, p.end_of("start")) for p in self.map.loads if p.start is not None)
        drawn = []
        y = float(_TOP)
        for piece in self.map.memory:
            assert piece.start is not None
            first, top = piece.start, y
            for start, end, image in _cut(piece, images):
                name = "kernel image" if image else _name(piece)
                box = _Box(y, _height(end - start), piece.kind, name, _shown_size(piece, end - start), start, end)
                self._box(1, box)
                y += box.height
            drawn.append((piece, _Box(top, y - top, piece.kind, "", piece.size, first, first + piece.size)))
        self._at_least(y)
        return drawn

    def _vmcore(self, memory: Sequence[tuple[Piece, _Box]]) -> None:
        """The left: by offset; a band to the memory it shows."""
        y = float(_TOP)
        inner = _image_boxes(self.map, memory)
        for piece in self.map.vmcore:
            assert piece.offset is not None
            end = piece.end_of("offset") or 0
            name = ("header" if piece.kind == "header" else "kernel image" if piece.image else _name(piece))
            box = _Box(y, _height(end - piece.offset), piece.kind, name, end - piece.offset, piece.offset, end)
            self._box(0, box)
            if piece.start is not None:
                target = inner.get(piece.start) if piece.image else None
                target = target or next(b for p, b in memory if p.offset == piece.offset or (piece.image and _within(piece, p)))
                self._band(0, box, target, piece.kind)
            y += box.height
        self._at_least(y)

    def _files(self, memory: Sequence[tuple[Piece, _Box]]) -> None:
        """The right: the files, by offset; a band from the memory that stands there."""
        y = float(_TOP)
        for number, (path, size) in enumerate(self.map.files):
            if number:
                self.boxes += self._column_title(2, y + 30, _base(path), f"{human_size(size)}; offsets in the file")
                y += _STRIP
            for kind, name, first, last, sources in self._stretches(path, size, memory):
                box = _Box(y, _height(last - first), kind, name, last - first, first, last)
                self._box(2, box)
                y += box.height
                for piece, source in sources:
                    self._band(1, source, box, piece.kind)
            y += 8
        self._at_least(y)

    def _stretches(self, path: str, size: int, memory: Sequence[tuple[Piece, _Box]]) -> Iterator[
            tuple[str, str, int, int, list[tuple[Piece, _Box]]]]:
        """(kind, name, first, last, memory that stands there) over a whole file."""
        at = 0
        stands = sorted(((p, b) for p, b in memory if p.file == path and p.source is not None and p.kind != "missing"),
                        key=lambda row: row[0].source or 0)
        for piece, box in stands:
            assert piece.source is not None
            first, last = piece.source, min(piece.source + piece.size, size)
            if first >= last:
                continue
            if at < first:
                yield self._unused(path, at, first)
            yield piece.kind, _file_name(piece), first, last, [(piece, box)] if piece.kind != "hole" else []
            at = last
        if at < size:
            yield self._unused(path, at, size)

    def _unused(self, path: str, first: int, last: int) -> tuple[str, str, int, int, list[tuple[Piece, _Box]]]:
        dump_kernel = path == self.map.files[-1][0] and last <= self.map.dump_kernel
        return ("crashkernel" if dump_kernel else "unused"), ("dump kernel" if dump_kernel else "not used"), first, last, []

    # -- what it is drawn with --------------------------------------------------------------------------------------------

    def _at_least(self, y: float) -> None:
        self.bottom = max(self.bottom, y)

    def _box(self, column: int, box: _Box) -> None:
        x = _X[column]
        fill, border = _COLOURS[box.kind]
        dash = ' stroke-dasharray="5 4"' if box.kind in {"hole", "unused", "crashkernel"} else ""
        middle = box.y + box.height / 2
        self.boxes += [
            f'<rect x="{x}" y="{box.y:.1f}" width="{_WIDTH}" height="{box.height:.1f}" fill="{fill}" stroke="{border}"{dash}/>',
            f'<text x="{x + 10}" y="{middle - 4:.1f}" font-size="14" font-weight="bold" fill="#1f2937">{_text(box.name)}</text>',
            (f'<text x="{x + _WIDTH - 10}" y="{middle - 4:.1f}" font-size="14" text-anchor="end" fill="#1f2937">'
             f"{human_size(box.size)}</text>"),
            (f'<text x="{x + 10}" y="{middle + 13:.1f}" font-size="11" fill="#4b5563" style="{_MONO}">'
             f"{box.first:#x} - {box.last:#x}</text>"),
        ]

    def _band(self, column: int, left: _Box, right: _Box, kind: str) -> None:
        a, b = _X[column] + _WIDTH, _X[column + 1]
        middle = (a + b) / 2
        fill, border = _COLOURS[kind]
        self.bands.append(
            f'<path d="M{a},{left.y:.1f} C{middle},{left.y:.1f} {middle},{right.y:.1f} {b},{right.y:.1f} '
            f"V{right.y + right.height:.1f} C{middle},{right.y + right.height:.1f} {middle},{left.y + left.height:.1f} "
            f'{a},{left.y + left.height:.1f} Z" fill="{fill}" fill-opacity="0.6" stroke="{border}" stroke-opacity="0.5"/>')

    def _head(self) -> Iterator[str]:
        yield (f'<text x="{_MARGIN}" y="44" font-size="22" font-weight="bold" fill="#111827">'
               "Where the bytes of vmcore come from</text>")
        yield f'<text x="{_MARGIN}" y="70" font-size="14" fill="#4b5563">{_text(_fit(self.title, _TOTAL - 2 * _MARGIN, 14))}</text>'
        size = (self.map.vmcore[-1].end_of("offset")) or 0
        yield from self._column_title(0, _TITLE, "vmcore", f"{human_size(size)}; offsets in the file you read")
        yield from self._column_title(1, _TITLE, "crashed machine's memory", "absolute addresses")
        path, length = self.map.files[0]
        yield from self._column_title(2, _TITLE, _base(path), f"{human_size(length)}; offsets in the file")
        for column, word in ((0, "shows"), (1, "stands in")):
            x = _X[column] + _WIDTH + _GAP / 2
            yield f'<text x="{x}" y="{_TITLE}" font-size="13" text-anchor="middle" fill="#6b7280">{word} →</text>'

    @staticmethod
    def _column_title(column: int, y: float, name: str, more: str) -> Iterator[str]:
        x = _X[column]
        yield (f'<text x="{x}" y="{y:.1f}" font-size="16" font-weight="bold" fill="#111827">'
               f"{_text(_fit(name, _WIDTH, 17))}</text>")
        yield f'<text x="{x}" y="{y + 19:.1f}" font-size="12" fill="#6b7280">{_text(more)}</text>'

    def _legend(self, y: float) -> Iterator[str]:
        present = {p.kind for p in (*self.map.loads, *self.map.memory)}
        if self.map.dump_kernel:
            present.add("crashkernel")
        rows = [kind for kind in WORDS if kind in present]
        for number, kind in enumerate(rows):
            fill, border = _COLOURS[kind]
            dash = ' stroke-dasharray="5 4"' if kind in {"hole", "crashkernel"} else ""
            top = y + _LEGEND_ROW * number
            text = _PLAIN_WORDS[kind]
            if kind == "crashkernel" and self.map.mode == "zfcpdump":
                text = "The dump kernel's own memory, over what was there before: not in vmcore."
            yield (f'<rect x="{_MARGIN}" y="{top:.1f}" width="26" height="15" fill="{fill}" stroke="{border}"{dash}/>'
                   f'<text x="{_MARGIN + 36}" y="{top + 12:.1f}" font-size="13" fill="#374151">{_text(text)}</text>')

    def _foot(self, height: float) -> Iterator[str]:
        twice = " The kernel image is in vmcore twice." if len(self.map.loads) > 1 else ""
        yield (f'<text x="{_MARGIN}" y="{height - 18:.0f}" font-size="12" fill="#6b7280">'
               f"Larger stretches are taller, but not in proportion: else only the largest could be seen.{twice}</text>")


def _cut(piece: Piece, images: Sequence[tuple[int, int | None]]) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it is the kernel image) of the parts of a piece."""
    assert piece.start is not None
    at, end = piece.start, piece.start + piece.size
    for first, last in images if piece.served and piece.count == 1 else ():
        assert last is not None
        if at <= first < last <= end:
            if at < first:
                yield at, first, False
            yield first, last, True
            at = last
    if at < end:
        yield at, end, False


def _image_boxes(themap: Map, memory: Sequence[tuple[Piece, _Box]]) -> dict[int, _Box]:
    """The box of the kernel image's memory by its address."""
    images = sorted((p.start, p.end_of("start")) for p in themap.loads if p.start is not None)
    found = {}
    for piece, whole in memory:
        y = whole.y
        for start, end, image in _cut(piece, images):
            box = replace(whole, y=y, height=_height(end - start))
            if image:
                found[start] = box
            y += box.height
    return found


def _within(piece: Piece, other: Piece) -> bool:
    assert piece.start is not None and other.start is not None
    return other.start <= piece.start < other.start + other.size


def _shown_size(piece: Piece, size: int) -> int:
    return piece.length if piece.length is not None else size


def _name(piece: Piece) -> str:
    return f"{piece.count} ranges of memory" if piece.count > 1 else _NAMES[piece.kind]


def _file_name(piece: Piece) -> str:
    if piece.kind == "crashkernel":
        return "dump kernel"
    return {"swapped": "memory, moved", "prefixed": "memory, moved", "hole": "not used"}.get(piece.kind, _name(piece))


def _base(path: str) -> str:
    return printable(os.path.basename(path))


def _text(text: str) -> str:
    return escape("".join(c if c.isprintable() else "?" for c in text))


def _fit(text: str, width: float, size: float) -> str:
    """Cut to what certainly fits."""
    room = int(width / (size * 0.64))
    return text if len(text) <= room else text[:room - 1] + "…"
