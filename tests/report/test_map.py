"""The map as data and in text: every byte of vmcore once, every address once, and the columns of an 80 column terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.captures import sparse
from vmcorefs.report.map import Map, Piece, make_map, map_text

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

MACHINES = {
    "kdump": Machine(cpus=cpus(2)),
    "zfcpdump": Machine(mode="zfcpdump"),
    "plain": Machine(mode="plain"),
    "kernel image": Machine(release="6.12.0"),
    "kernel image in the HSA": Machine(mode="zfcpdump", release="6.12.0"),
    "holes": Machine(memory=((0, 4 * MIB), (6 * MIB, 9 * MIB), (16 * MIB, 64 * MIB))),
    "hole beside the area": Machine(memory=((0, 2 * MIB), (2 * MIB, 3 * MIB), (5 * MIB, 6 * MIB))),
    "many": Machine(memory=((0, 8 * MIB), *((16 * MIB + i * 4 * MIB, 18 * MIB + i * 4 * MIB) for i in range(60))),
                    body_pages="none"),
    "huge": Machine(memory=((0, 15 * TIB),), base=GIB, size=512 * MIB, body_pages="none", release="6.12.0"),
    "huge with holes": Machine(memory=((0, 2 * GIB), (4 * GIB, TIB), (2 * TIB, 15 * TIB)), base=GIB, size=512 * MIB,
                               body_pages="none"),
}


def map_of(built: Built, **options: object) -> Map:
    with vmcorefs.open(built.image, hsa=built.hsa, **options) as dump:
        return make_map(dump)


@pytest.fixture(params=MACHINES)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    return MACHINES[request.param].build(tmp_path)


def check_cover(themap: Map, size: int) -> None:
    at = 0
    for piece in themap.vmcore:
        assert piece.offset == at
        at += piece.size
    assert at == size
    address = 0
    for piece in themap.memory:
        assert piece.start == address
        address += piece.size


def test_it_covers_vmcore_and_all_addresses(built: Built) -> None:
    check_cover(map_of(built), built.model.size)


def test_the_bytes_are_where_it_says(built: Built) -> None:
    """Each end of each piece: the file's bytes there are those that the model has at that offset of vmcore."""
    with vmcorefs.open(built.image, hsa=built.hsa) as dump:
        themap = make_map(dump)
    for piece in themap.vmcore:
        if piece.kind == "header":
            continue
        assert piece.file is not None and piece.source is not None and piece.offset is not None
        for inside in (0, piece.size - 4096):
            with open(piece.file, "rb") as file:
                file.seek(piece.source + inside)
                assert file.read(4096) == built.model.read(piece.offset + inside, 4096)


def test_kinds(tmp_path: Path) -> None:
    themap = map_of(MACHINES["hole beside the area"].build(tmp_path))
    assert [(p.kind, (p.start or 0) // MIB, p.size // MIB) for p in themap.memory] == [
        ("swapped", 0, 1), ("direct", 1, 1), ("crashkernel", 2, 1), ("hole", 3, 2), ("direct", 5, 1)]


def test_the_kernel_image_comes_first_and_again(tmp_path: Path) -> None:
    themap = map_of(MACHINES["kernel image"].build(tmp_path))
    header, image = themap.loads
    assert header.kind == "header"
    assert (image.image, image.kind, image.start, image.size) == (True, "swapped", 0x40000, 0x8000)
    assert image.source == 2 * MIB + 0x40000


def test_what_is_cut_off_is_missing(tmp_path: Path) -> None:
    built = Machine(memory=((0, 8 * MIB),)).build(tmp_path)
    os.truncate(built.image, 5 * MIB + 4096)
    themap = map_of(built)
    check_cover(themap, built.model.size)
    assert [(p.kind, p.size) for p in themap.memory[-2:]] == [("direct", 2 * MIB + 4096), ("missing", 3 * MIB - 4096)]
    assert "MISSING" in map_text(themap)


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).header is not None])
def test_captures(tmp_path: Path, name: str) -> None:
    expanded = sparse.expand(name, tmp_path)
    with vmcorefs.open(expanded.image, hsa=expanded.hsa) as dump:
        check_cover(make_map(dump), sparse.load(name).vmcore_size or 0)
        assert max(map(len, map_text(make_map(dump)).splitlines())) <= 80


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso8859-1"])
def test_text_fits_80_columns(built: Built, encoding: str) -> None:
    text = map_text(map_of(built), encoding=encoding)
    text.encode(encoding)
    assert all(len(line) <= 80 and line == line.rstrip() for line in text.splitlines()), text


def test_text_fits_with_64_bit_addresses_and_long_names() -> None:
    top = 1 << 63
    name = "/x/" + "very-long-name" * 9 + ".img"
    themap = Map("kdump", (Piece("header", 4096, 0),), (
        Piece("direct", top, 4096, 0, name, top - 4096), Piece("crashkernel", 4096, start=top),
        Piece("direct", 1 << 61, top + 4096, top + 4096, name, top + 4096, count=77, length=1 << 60),
        Piece("missing", 4096, top + (1 << 61), top + (1 << 61) + 4096, name, top + (1 << 61))), ((name, top),), 0)
    text = map_text(themap)
    assert max(map(len, text.splitlines()[:-3])) <= 80
    assert ".img" not in text.splitlines()[5]
    assert "mg at 0x7ffffffffffff000" in text


def test_text_line_by_line(tmp_path: Path) -> None:
    built = Machine(memory=((0, 4 * MIB), (6 * MIB, 7 * MIB))).build(tmp_path)
    assert map_text(map_of(built), encoding="ascii").splitlines()[2:17] == [
        "     0x0 +-----------------+",
        "         | header          | 8 KiB      made by vmcorefs",
        "  0x2000 +-----------------+ 0x0",
        "         | swapped         | 1 MiB      oldmem.img at 0x200000",
        "0x102000 +-----------------+ 0x100000",
        "         | direct          | 1 MiB      oldmem.img at 0x100000",
        "0x202000 +-----------------+ 0x200000",
        "         : not served      : 1 MiB      the dump kernel's own",
        "0x202000 +-----------------+ 0x300000",
        "         | direct          | 1 MiB      oldmem.img at 0x300000",
        "0x302000 +-----------------+ 0x400000",
        "         : no memory       : 2 MiB",
        "0x302000 +-----------------+ 0x600000",
        "         | direct          | 1 MiB      oldmem.img at 0x600000",
        "0x402000 +-----------------+ 0x700000"]


def test_every_word_is_explained(built: Built) -> None:
    themap = map_of(built)
    text = map_text(themap)
    drawing, _, notes = text.partition("\n\n")
    for word in ("header", "swapped", "direct", "HSA", "not served", "no memory"):
        assert (word in drawing) == any(line.startswith(word) for line in notes.splitlines()), word
    assert all(path in " ".join(notes.split()) or len(path) > 60 for path, _ in themap.files)


def test_long_runs_are_one_piece_with_the_right_borders(tmp_path: Path) -> None:
    themap = map_of(MACHINES["many"].build(tmp_path))
    short = themap.shortened()
    assert len(themap.memory) > 100
    assert len(short.memory) < 20
    (run,) = [piece for piece in short.memory if piece.count > 1]
    hidden = [p for p in themap.memory if p.served and run.start is not None and p.start is not None
              and run.start <= p.start < run.start + run.size]
    assert (run.count, run.length) == (len(hidden), sum(p.size for p in hidden))
    assert run.end_of("start") == hidden[-1].end_of("start")
    at = 0
    for piece in short.vmcore:
        assert piece.offset == at
        at = piece.end_of("offset") or 0
    assert at == themap.vmcore[-1].end_of("offset")
    address = 0
    for piece in short.memory:
        assert piece.start == address
        address += piece.size
    assert f"in {run.count} ranges" in map_text(themap)


def test_control_characters_in_a_name_do_not_reach_the_terminal() -> None:
    name = "/x/\x1b[31m\n.img"
    themap = Map("plain", (Piece("header", 4096, 0),), (Piece("direct", 4096, 4096, 0, name, 0),), ((name, 4096),), 0)
    text = map_text(themap)
    assert "\x1b" not in text
    assert "\\x1b[31m\\n.img" in text
