"""--select: which of the two systems of a kdump image is served."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Machine, cpus
from vmcorefs.errors import UsageError

MIB = 1 << 20


def test_all_is_the_image_as_it_lies(tmp_path: Path) -> None:
    built = Machine(body_pages="all").build(tmp_path)
    raw = built.image.read_bytes()
    with vmcorefs.open(built.image, select="all") as dump, vmcorefs.open(built.image, mode="plain") as plain:
        assert dump.vmcore.read() == plain.vmcore.read()
        assert dump.oldmem.read(0, len(raw)) == raw
        assert "--select prod" in dump.notice


def test_kdump_is_the_dump_kernels_memory_and_no_more(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    with vmcorefs.open(built.image, select="kdump") as dump:
        assert dump.memory_map == ((0, MIB),)
        header = dump.merged.size - MIB
        assert dump.vmcore.pread(MIB, header) == built.image.read_bytes()[:MIB]
        assert dump.mode.name == "plain"
        assert "--select prod" in dump.notice


def test_prod_is_the_default_and_names_the_other(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    with vmcorefs.open(built.image) as dump, vmcorefs.open(built.image, select="prod") as same:
        assert dump.vmcore.read() == same.vmcore.read() == built.model.read(0, built.model.size)
        assert "the dump kernel is in the image, too (--select kdump)" in dump.notice


def test_kdump_by_oldmem(tmp_path: Path) -> None:
    built = Machine(os_info="absent", with_elfcorebuf=False).build(tmp_path)
    built.poke_raw(0x10418, bytes(16))
    with vmcorefs.open(built.image, select="kdump", oldmem="2M:1M") as dump:
        assert dump.memory_map == ((0, MIB),)


@pytest.mark.parametrize(("options", "words"), [
    ({"select": "kdump", "mode": "plain"}, "--select kdump cannot be combined with mode plain"),
    ({"select": "all", "mode": "kdump"}, "--select all cannot be combined with mode kdump"),
    ({"select": "all", "mode": "zfcpdump"}, "--select all cannot be combined with mode zfcpdump"),
    ({"select": "both"}, "unknown selection 'both'; one of prod, kdump, all"),
])
def test_contradictions(tmp_path: Path, options: dict[str, str], words: str) -> None:
    built = Machine().build(tmp_path)
    with pytest.raises(UsageError) as caught:
        vmcorefs.open(built.image, **options)
    assert words in str(caught.value)


def test_no_second_system(tmp_path: Path) -> None:
    built = Machine(mode="plain").build(tmp_path)
    with pytest.raises(UsageError, match="nothing shows that a kdump kernel ran"):
        vmcorefs.open(built.image, select="kdump")
