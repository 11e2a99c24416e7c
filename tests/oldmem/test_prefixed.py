"""LiME copies the real addresses of the CPU that it runs on: its lowcore and the absolute one are exchanged, and put back here."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.builders.containers import lime
from tests.containers.test_same_vmcore import same
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.oldmem.prefixed import find_prefix, prefixed_memory

SIZE = 0x2000
MACHINES = {
    "6.1": Machine(mode="plain", memory=((0, 0x280000),), cpus=cpus(3)),
    "6.12": Machine(mode="plain", memory=((0, 0x280000),), cpus=cpus(3), release="6.12.0"),
    "with an area for a dump kernel": Machine(mode="plain", base=0x200000, size=0x100000, cpus=cpus(3)),
}


def as_seen_by(built: Built, prefix: int) -> bytes:
    """Real memory of the CPU with *prefix*."""
    data = bytearray(built.image.read_bytes())
    data[:SIZE], data[prefix:prefix + SIZE] = data[prefix:prefix + SIZE], data[:SIZE]
    return bytes(data)


@pytest.fixture(params=MACHINES)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    return MACHINES[request.param].build(tmp_path)


@pytest.mark.parametrize("cpu", range(3))
def test_the_copying_cpus_prefixing_is_undone(built: Built, cpu: int, tmp_path: Path) -> None:
    prefix = built.places[f"lowcore[{cpu}]"]
    path = tmp_path / "dump.lime"
    path.write_bytes(lime.lime([(0, as_seen_by(built, prefix))]))
    with vmcorefs.open(path) as dump:
        assert dump.problems == ()
        assert f"a CPU whose lowcore, at {prefix:#x}, stood at address 0: undone" in dump.notice
        same(dump, built.model)
        kinds = {(extent.kind, extent.length) for extent in dump.info().extents}
        assert ("prefixed", SIZE) in kinds
        assert dump.oldmem.read(prefix, SIZE) == built.model.read(*_span(built, prefix))
    with vmcorefs.open(path, mode="plain") as dump:
        same(dump, built.model)
    with vmcorefs.open(path, select="all") as dump:
        assert dump.oldmem.read(0, SIZE) == as_seen_by(built, prefix)[:SIZE]


def _span(built: Built, address: int) -> tuple[int, int]:
    header = built.model.size - built.image.stat().st_size if not built.machine.base else len(built.model.header)
    return header + address, SIZE


def test_an_absolute_copy_is_left_as_it_is(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "dump.lime"
    for order in ("<", ">"):
        path.write_bytes(lime.lime([(0, built.image.read_bytes())], order))
        with vmcorefs.open(path) as dump:
            assert "undone" not in dump.notice
            same(dump, built.model)


def test_a_raw_image_is_absolute_by_definition(built: Built, tmp_path: Path) -> None:
    prefix = built.places["lowcore[1]"]
    built.image.write_bytes(as_seen_by(built, prefix))
    with vmcorefs.open(built.image) as dump:
        assert dump.oldmem.read(0, SIZE) == built.image.read_bytes()[:SIZE]


def test_what_leads_nowhere_or_to_two_places_is_not_exchanged(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "raw"
    data = bytearray(as_seen_by(built, built.places["lowcore[0]"]))
    path.write_bytes(data)
    with open_image(path) as image:
        assert find_prefix(image) == built.places["lowcore[0]"]
    data[0x1e0000:0x1e0000 + SIZE] = built.image.read_bytes()[:SIZE]
    path.write_bytes(data)
    with open_image(path) as image:
        assert find_prefix(image) is None
    path.write_bytes(bytes(0x280000))
    with open_image(path) as image:
        assert find_prefix(image) is None


def test_a_prefix_right_behind_the_lowcore(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(b"\1" * SIZE + b"\2" * SIZE + b"\3" * SIZE)
    with open_image(path) as image:
        assert prefixed_memory(image, SIZE).read(0, 3 * SIZE) == b"\2" * SIZE + b"\1" * SIZE + b"\3" * SIZE
        assert prefixed_memory(image, 2 * SIZE).read(0, 3 * SIZE) == b"\3" * SIZE + b"\2" * SIZE + b"\1" * SIZE


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_lime_file_of_another_architecture_is_refused_with_who_reads_it(tmp_path: Path, order: str) -> None:
    path = tmp_path / "x86.lime"
    path.write_bytes(lime.lime([(0x1000, b"\x90" * 0x9000)], order))
    with pytest.raises(ImageError, match=r"no s390x Linux is in the memory of this LiME file, .*volatility3 reads those"):
        vmcorefs.open(path)
