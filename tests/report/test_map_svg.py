"""The picture: XML, nothing overlaps, every text fits its box, each column is whole, small parts of a huge machine are seen."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

import vmcorefs
from tests.builders import Machine
from tests.captures import sparse
from tests.report.test_map import MACHINES, TIB, map_of
from vmcorefs.report.map import Map, Piece, make_map
from vmcorefs.report.map_svg import map_svg

NAMESPACE = "{http://www.w3.org/2000/svg}"
WIDTHS = {"11": 6.7, "12": 7.5, "13": 8.0, "14": 8.7, "16": 11.2, "22": 15.2}  # of a character at most, by font size; measured


class Rect(NamedTuple):
    x: float
    y: float
    width: float
    height: float


class Text(NamedTuple):
    x: float
    y: float
    text: str
    size: str
    anchor: str

    @property
    def span(self) -> tuple[float, float]:
        width = len(self.text) * WIDTHS[self.size] * (0.92 if self.size == "13" else 1)
        left = {"start": self.x, "end": self.x - width, "middle": self.x - width / 2}[self.anchor]
        return left, left + width


class Picture:
    def __init__(self, svg: str):
        self.root = ET.fromstring(svg)  # noqa: S314 of our own making
        self.width, self.height = float(self.root.attrib["width"]), float(self.root.attrib["height"])
        self.rects = [Rect(*(float(r.attrib.get(k, 0)) for k in ("x", "y", "width", "height")))
                      for r in self.root.iter(f"{NAMESPACE}rect")][1:]
        self.boxes = [r for r in self.rects if r.width > 100]
        self.texts = [Text(float(t.attrib["x"]), float(t.attrib["y"]), t.text or "", t.attrib["font-size"],
                           t.attrib.get("text-anchor", "start")) for t in self.root.iter(f"{NAMESPACE}text")]
        self.bands = [p.attrib["d"] for p in self.root.iter(f"{NAMESPACE}path")]

    def column(self, number: int) -> list[Rect]:
        x = sorted({r.x for r in self.boxes})[number]
        return sorted((r for r in self.boxes if r.x == x), key=lambda r: r.y)

    def inside(self, rect: Rect) -> list[Text]:
        return [t for t in self.texts if rect.x <= t.x <= rect.x + rect.width and rect.y < t.y < rect.y + rect.height]


def check(svg: str) -> Picture:
    picture = Picture(svg)
    for number in range(3):
        for above, below in pairwise(picture.column(number)):
            assert above.y + above.height <= below.y + 0.2
    for box in picture.boxes:
        name, size, where = picture.inside(box)
        assert box.height >= 40
        assert name.y - box.y >= 14
        assert box.y + box.height - where.y >= 4
        assert name.span[1] <= size.span[0], (name, size)
        assert where.span[1] <= box.x + box.width
    for text in picture.texts:
        assert text.span[0] >= 0
        assert text.span[1] <= picture.width, text
        assert text.y <= picture.height - 10
    lines = sorted(picture.texts, key=lambda t: t.y)
    for one, other in ((a, b) for i, a in enumerate(lines) for b in lines[i + 1:i + 12]):
        assert other.y - one.y >= 10 or one.span[1] <= other.span[0] or other.span[1] <= one.span[0], (one, other)
    return picture


def numbers(text: str) -> tuple[int, int]:
    first, last = text.split(" - ")
    return int(first, 16), int(last, 16)


def stretches(picture: Picture, column: int) -> list[tuple[int, int]]:
    return [numbers(picture.inside(box)[2].text) for box in picture.column(column)]


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_overlaps_and_each_column_is_whole(tmp_path: Path, name: str) -> None:
    built = MACHINES[name].build(tmp_path)
    picture = check(map_svg(map_of(built), f"{built.image}: a machine"))
    for column, end in ((0, built.model.size), (1, built.machine.memory[-1][1])):
        found = stretches(picture, column)
        assert found[0][0] == 0
        assert found[-1][1] == end
        assert all(a[1] == b[0] for a, b in pairwise(found))
    files = stretches(picture, 2)
    ends = [built.image.stat().st_size] if built.hsa is None else [built.hsa.stat().st_size, built.image.stat().st_size]
    assert [b for (_, b), (a, _) in pairwise([*files, (0, 0)]) if a == 0] == ends
    served = len(picture.column(0)) - 1
    assert len(picture.bands) >= 2 * served - sum(p.image for p in map_of(built).loads)


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).header is not None])
def test_captures(tmp_path: Path, name: str) -> None:
    expanded = sparse.expand(name, tmp_path)
    with vmcorefs.open(expanded.image, hsa=expanded.hsa) as dump:
        check(map_svg(make_map(dump), f"{expanded.image}"))


def test_a_band_ends_at_the_boxes_that_it_joins(tmp_path: Path) -> None:
    """Kdump: [0, S) of the crashed system stands at B in the image; the dump kernel's own area at 0."""
    picture = check(map_svg(map_of(Machine().build(tmp_path))))
    memory, files = picture.column(1), picture.column(2)
    assert [numbers(picture.inside(b)[2].text)[0] >> 20 for b in files] == [0, 1, 2, 3]
    joined = {(f"{memory[a].y:.1f}", f"{files[b].y:.1f}") for a, b in ((0, 2), (1, 1), (2, 0), (3, 3))}
    found = set()
    for band in picture.bands:
        x, left, right = re.findall(r"^M([\d.]+),([\d.]+) .*? [\d.]+,([\d.]+) V", band)[0]
        if float(x) > memory[0].x:
            found.add((left, right))
    assert found == joined


def test_a_larger_stretch_is_taller_and_a_small_one_is_seen_beside_15_tib(tmp_path: Path) -> None:
    picture = check(map_svg(map_of(MACHINES["huge"].build(tmp_path))))
    boxes = {b - a: r.height for r in picture.column(0) for a, b in [numbers(picture.inside(r)[2].text)]}
    sizes = sorted(boxes)
    assert sizes[0] == 8192
    assert sizes[-1] > 14 * TIB
    assert [boxes[size] for size in sizes] == sorted(boxes.values())
    assert picture.height < 1600


def test_evil_names_and_titles() -> None:
    name = "/x/<script>&\x1b\n\"'.img"
    themap = Map("plain", (Piece("header", 4096, 0),), (Piece("direct", 4096, 4096, 0, name, 0),), ((name, 4096),), 0)
    picture = check(map_svg(themap, "<b>&\x00\x1b" + "W" * 500))
    assert any("<script>&\\x1b" in t.text for t in picture.texts)


def test_an_image_without_evidence_of_memory_behind_its_end(tmp_path: Path) -> None:
    check(map_svg(map_of(Machine(mode="plain").build(tmp_path), memory_range=[(0, 1 << 20), (2 << 20, 3 << 20)])))


@pytest.mark.skipif(shutil.which("rsvg-convert") is None, reason="no rsvg-convert (librsvg2-bin)")
def test_a_renderer_takes_it(tmp_path: Path) -> None:
    svg = map_svg(map_of(Machine().build(tmp_path)), "a machine")
    done = subprocess.run(["rsvg-convert"], input=svg.encode(), capture_output=True, check=True)
    assert done.stdout.startswith(b"\x89PNG")
