"""--memory-map: text of /proc/iomem and of lsmem -b; --device-memory cuts ranges out of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vmcorefs
from tests.builders import Built, Machine, Model
from tests.captures import sparse
from vmcorefs.errors import ImageError, UsageError
from vmcorefs.oldmem.memory_map import parse_memory_map

MIB = 1 << 20
GOLD = os.environ.get("VMCOREFS_GOLD")
PLAIN = Machine(mode="plain", memory=((0, 8 * MIB),))


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return PLAIN.build(tmp_path)


def header(built: Built, **options: Any) -> bytes:
    with vmcorefs.open(built.image, **options) as dump:
        return dump.merged.header


def with_ranges(built: Built, *ranges: tuple[int, int]) -> bytes:
    return Model(replace(built.model.facts, ranges=ranges), built.model.old_page).header


def file_of(tmp_path: Path, text: str) -> Path:
    (tmp_path / "map.txt").write_text(text)
    return tmp_path / "map.txt"


def iomem(*ranges: tuple[int, int], name: str = "System RAM") -> str:
    return "".join(f"{start:08x}-{end - 1:08x} : {name}\n" for start, end in ranges)


# -- real text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sparse.names())
def test_iomem_of_the_captured_machines_gives_the_same_header(tmp_path: Path, name: str) -> None:
    if GOLD is None:
        pytest.skip("VMCOREFS_GOLD is not set: no /proc/iomem of the captures")
    text = Path(GOLD) / name / "iomem.txt"
    if not text.exists():
        pytest.skip(f"{name} has no iomem.txt")
    capture = sparse.expand(name, tmp_path)
    options: dict[str, Any] = {"hsa": capture.hsa} if capture.hsa else {}
    with vmcorefs.open(capture.image, **options) as dump, vmcorefs.open(capture.image, memory_map=text, **options) as mapped:
        assert mapped.merged.header == dump.merged.header
        assert mapped.vmcore.size == dump.vmcore.size
        assert mapped.memory_map == dump.memory_map
        assert mapped.physmem.origin == f"option --memory-map ({text})"
        wanted = sparse.load(name).header
        assert wanted in {None, mapped.merged.header}


# as lsmem of util-linux 2.38 and later prints it (s390: blocks of 256 MiB, the last two are standby memory)
LSMEM = """\
RANGE                                      SIZE   STATE REMOVABLE BLOCK
0x0000000000000000-0x000000001fffffff 536870912  online       yes   0-1
0x0000000020000000-0x000000002fffffff 268435456 offline               2
0x0000000030000000-0x000000004fffffff 536870912  online       yes   3-4
0x0000000050000000-0x000000005fffffff 268435456 offline               5

Memory block size:            268435456
Total online memory:         1073741824
Total offline memory:         536870912
"""
LSMEM_ALL = """\
RANGE                                      SIZE   STATE REMOVABLE BLOCK
0x0000000000000000-0x000000000fffffff 268435456  online       yes     0
0x0000000010000000-0x000000001fffffff 268435456  online       yes     1
0x0000000020000000-0x000000002fffffff 268435456 offline               2
0x0000000030000000-0x000000003fffffff 268435456  online        no     3
0x0000000040000000-0x000000004fffffff 268435456  online       yes     4
0x0000000050000000-0x000000005fffffff 268435456 offline               5
"""
LSMEM_RAW = """\
RANGE SIZE STATE REMOVABLE BLOCK
0x0000000000000000-0x000000001fffffff 536870912 online yes 0-1
0x0000000020000000-0x000000002fffffff 268435456 offline  2
0x0000000030000000-0x000000004fffffff 536870912 online yes 3-4
"""
LSMEM_HUMAN = """\
RANGE                                  SIZE   STATE REMOVABLE BLOCK
0x0000000000000000-0x000000001fffffff  512M  online       yes   0-1
0x0000000020000000-0x000000002fffffff  256M offline               2
0x0000000030000000-0x000000004fffffff  512M  online       yes   3-4
"""
GIB = 1 << 30


@pytest.mark.parametrize("text", [LSMEM, LSMEM_ALL, LSMEM_RAW, LSMEM_HUMAN, LSMEM.replace("\n", "\r\n")])
def test_lsmem_counts_what_is_online(tmp_path: Path, text: str) -> None:
    ranges = ((0, GIB // 2), (3 * GIB // 4, 5 * GIB // 4))
    built = Machine(mode="plain", memory=((0, 6 * GIB // 4),), body_pages="none").build(tmp_path)
    assert header(built, memory_map=file_of(tmp_path, text)) == with_ranges(built, *ranges)
    assert header(built) == built.model.header != with_ranges(built, *ranges)


def test_iomem_counts_top_level_memory_and_the_crashkernel_area_alone(built: Built, tmp_path: Path) -> None:
    text = (iomem((0, MIB)) + "  00010000-0004ffff : Kernel code\n  00050000-0005ffff : System RAM\n"
            + iomem((MIB, 2 * MIB), name="Crash kernel") + iomem((2 * MIB, 3 * MIB), name="PCI Bus 0000:00")
            + iomem((3 * MIB, 4 * MIB), name="System RAM (kmem)") + iomem((5 * MIB, 6 * MIB)))
    assert header(built, memory_map=file_of(tmp_path, text)) == with_ranges(built, (0, 2 * MIB), (5 * MIB, 6 * MIB))


def test_the_crashkernel_area_is_cut_out_in_kdump_mode(tmp_path: Path) -> None:
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    text = iomem((0, 2 * MIB)) + iomem((2 * MIB, 3 * MIB), name="Crash kernel") + iomem((3 * MIB, 4 * MIB))
    assert header(built, memory_map=file_of(tmp_path, text)) == built.model.header


@pytest.mark.parametrize("ranges", [
    [(0, MIB), (MIB, 2 * MIB)], [(0, MIB), (0x80000, 2 * MIB)], [(0, 2 * MIB), (0x1000, 0x2000)], [(MIB, 2 * MIB), (0, MIB)],
    [(0, 2 * MIB), (0, 2 * MIB)]])
def test_ranges_that_touch_overlap_or_are_out_of_order_become_one(built: Built, tmp_path: Path,
                                                                  ranges: Sequence[tuple[int, int]]) -> None:
    assert header(built, memory_map=file_of(tmp_path, iomem(*ranges))) == with_ranges(built, (0, 2 * MIB))


def test_addresses_above_4_gib() -> None:
    text = "00000000-7fffffff : System RAM\n100000000-17fffffff : System RAM\n"
    assert parse_memory_map(text, "x") == ((0, 2 * GIB), (4 * GIB, 6 * GIB))


def test_the_option_is_stronger_than_the_dump_kernels_header(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    with vmcorefs.open(built.image, memory_map=file_of(tmp_path, iomem((0, MIB)))) as dump:
        assert dump.finished_header is not None
        assert dump.memory_map == ((0, MIB),)


# -- refusals --------------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, str]] = {
    "as a user other than root sees it": (
        "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n00000000-00000000 : Crash kernel\n",
        "all addresses are 0, as a user other than root sees /proc/iomem; take it again as root"),
    "no range": ("MemTotal: 5 kB\n", "no memory range is in it; give the text of /proc/iomem or of lsmem -b"),
    "other ranges only": (iomem((0, MIB), name="ACPI Tables"), "no memory range is in it"),
    "indented ranges only": ("  " + iomem((0, MIB)), "no memory range is in it"),
    "offline only": ("0x0000000000000000-0x000000000fffffff 268435456 offline 0\n", "no memory range is in it"),
    "END before START": ("00200000-000fffff : System RAM\n", "the range 0x200000-0xfffff ends before it begins"),
    "END before START by one": ("00001000-00000fff : System RAM\n", "ends before it begins"),
    "END before START in lsmem": ("0x0000000010000000-0x0000000000000fff 5 online yes 0\n", "ends before it begins"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_text_that_is_no_map(built: Built, tmp_path: Path, what: str) -> None:
    text, words = BAD[what]
    file = file_of(tmp_path, text)
    with pytest.raises(ImageError) as caught:
        vmcorefs.open(built.image, memory_map=file)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", [iomem((0, MIB), (2 * MIB, 9 * MIB)), iomem((0, 8 * MIB + 4096)), iomem((9 * MIB, 10 * MIB))])
def test_memory_beyond_the_image(built: Built, tmp_path: Path, text: str) -> None:
    with pytest.raises(vmcorefs.VmcorefsError, match=r"is beyond the image .*oldmem.img, which ends at 0x800000"):
        vmcorefs.open(built.image, memory_map=file_of(tmp_path, text))


def test_ranges_that_are_not_page_aligned(built: Built, tmp_path: Path) -> None:
    with pytest.raises(vmcorefs.VmcorefsError, match="0x0-0x801 is not page aligned"):
        vmcorefs.open(built.image, memory_map=file_of(tmp_path, iomem((0, 0x801))))


@pytest.mark.parametrize("content", [b"", b"\0" * 100, bytes(range(256))])
def test_files_that_are_no_text(built: Built, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map").write_bytes(content)
    with pytest.raises(ImageError, match=f"{tmp_path / 'map'}: "):
        vmcorefs.open(built.image, memory_map=tmp_path / "map")


def test_a_missing_file(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none: cannot open the memory map: No such file"):
        vmcorefs.open(built.image, memory_map=tmp_path / "none")


# -- device memory ---------------------------------------------------------------------------------------------------------

CUTS: dict[str, tuple[list[str], list[tuple[int, int]]]] = {
    "the end": (["6M-8M"], [(0, 6 * MIB)]),
    "beyond the end": (["6M-1T"], [(0, 6 * MIB)]),
    "behind the end": (["8M-1T"], [(0, 8 * MIB)]),
    "the middle": (["2M-3M"], [(0, 2 * MIB), (3 * MIB, 8 * MIB)]),
    "two": (["5M-6M", "2M-3M"], [(0, 2 * MIB), (3 * MIB, 5 * MIB), (6 * MIB, 8 * MIB)]),
    "two that touch": (["2M-3M", "3M-4M"], [(0, 2 * MIB), (4 * MIB, 8 * MIB)]),
    "a page": (["0x1ff000-2M"], [(0, 0x1FF000), (2 * MIB, 8 * MIB)]),
}


@pytest.mark.parametrize("what", list(CUTS))
def test_device_memory_is_cut_out(built: Built, what: str) -> None:
    given, ranges = CUTS[what]
    with vmcorefs.open(built.image, device_memory=given) as dump:
        assert dump.merged.header == with_ranges(built, *ranges)
        assert dump.physmem.origin == "extent of the image, without option --device-memory"
        assert dump.vmcore.size == Model(replace(built.model.facts, ranges=tuple(ranges)), built.model.old_page).size


def test_device_memory_is_cut_out_of_given_ranges_and_of_the_dump_kernels(tmp_path: Path, built: Built) -> None:
    assert header(built, memory_range=["0-4M"], device_memory=["1M-2M"]) == with_ranges(built, (0, MIB), (2 * MIB, 4 * MIB))
    text = file_of(tmp_path, iomem((0, 4 * MIB)))
    assert header(built, memory_map=text, device_memory=["1M-2M"]) == with_ranges(built, (0, MIB), (2 * MIB, 4 * MIB))
    (tmp_path / "k").mkdir()
    kdump = Machine().build(tmp_path / "k")
    assert header(kdump, device_memory=["3M-4M"]) == with_ranges(kdump, (0, 2 * MIB))


@pytest.mark.parametrize(("given", "words"), [
    ("5-0x2000", "0x5-0x2000 is not page aligned"), ("2M-1M", "0x200000-0x100000 is empty"),
    ("1M-1M", "0x100000-0x100000 is empty"), ("1M", "'1M' is no START-END"), ("a-b", "'a' is no size or address"),
])
def test_device_memory_that_cannot_be(built: Built, given: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        vmcorefs.open(built.image, device_memory=[given])
    assert words in str(caught.value)


@pytest.mark.parametrize("given", ["5-0x2000", "2M-1M", "0-8M"])
def test_a_refusal_names_device_memory(built: Built, given: str) -> None:
    with pytest.raises(vmcorefs.VmcorefsError, match=r"device.memory"):
        vmcorefs.open(built.image, device_memory=[given])


def test_overlapping_device_memory(built: Built) -> None:
    with pytest.raises(UsageError, match="0x100000-0x300000 and 0x200000-0x400000 overlap"):
        vmcorefs.open(built.image, device_memory=["1M-3M", "2M-4M"])
