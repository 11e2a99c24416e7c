"""Metadata that is damaged in the image is found where it lies: the vmcore stays, byte for byte, and a person is told."""

from __future__ import annotations

import logging
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Cpu, Machine, cpus
from tests.captures import sparse
from tests.image.bad_disk import BadDisk
from vmcorefs import VmcorefsError
from vmcorefs.dump import Dump

PAGE = 4096
MIB = 1 << 20

MACHINES = {
    "kdump": Machine(cpus=cpus(3)),
    "kdump, hotplugged": Machine(cpus=(Cpu(0), Cpu(3), Cpu(2))),
    "kdump by os_info": Machine(cpus=cpus(2), vmcoreinfo_by="both"),
    "kdump 5.8": Machine(release="5.8.0", cpus=cpus(2)),
    "kdump 6.12": Machine(release="6.12.0", cpus=cpus(3), kernel_offset=0x2E4BA6A0000),
    "zfcpdump": Machine(mode="zfcpdump", cpus=cpus(2)),
    "zfcpdump 6.12": Machine(mode="zfcpdump", release="6.12.0", cpus=cpus(2), vmcoreinfo_by="both"),
    "plain": Machine(mode="plain", cpus=cpus(3)),
    "plain 6.12": Machine(mode="plain", release="6.12.0", cpus=cpus(2)),
}


def pointer(at: int, value: int) -> Callable[[Built], None]:
    return lambda built: built.poke_old(at, struct.pack(">Q", value))


def both(value: int) -> Callable[[Built], None]:
    return lambda built: (pointer(0xE0C, value)(built), pointer(0xE18, value)(built), None)[-1]


def note(at: int, data: bytes) -> Callable[[Built], None]:
    return lambda built: built.poke_old(built.places["vmcoreinfo"] + at, data)


DAMAGES: dict[str, Callable[[Built], None]] = {
    "vmcore_info 0": pointer(0xE0C, 0),
    "vmcore_info odd": pointer(0xE0C, 0x1234001),
    "vmcore_info outside": pointer(0xE0C, 1 << 60),
    "vmcore_info elsewhere": pointer(0xE0C, 0x3000),
    "os_info unaligned": pointer(0xE18, 0x85008),
    "os_info outside": pointer(0xE18, 0xFFFFFFFFFFFFF000),
    "os_info elsewhere": pointer(0xE18, 0x3000),
    "both 0": both(0),
    "both outside": both(1 << 60),
    "first page zero": lambda built: built.poke_old(0, bytes(PAGE)),
    "header of the note zero": note(0, bytes(24)),
    "name of the note": note(12, b"\0"),
    "size of the note": note(4, b"\xff\xff\xff\xff"),
}


def opened(built: Built) -> Dump:
    return vmcorefs.open(built.image, hsa=built.hsa)


def same(dump: Dump, built: Built) -> None:
    assert dump.vmcore.header == built.model.header
    assert dump.vmcore.size == built.model.size


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", MACHINES)
def test_the_vmcore_is_the_same(tmp_path: Path, name: str, damage: str) -> None:
    built = MACHINES[name].build(tmp_path)
    DAMAGES[damage](built)
    with opened(built) as dump:
        same(dump, built)
        by_os_info = dump.vmcoreinfo is not None and dump.vmcoreinfo.origin == "os_info"
        told = {problem.code for problem in dump.problems}
    # a plain system may have no os_info at all, so that a 0 there is none lost; entry 0 of os_info is all that is looked at
    if not by_os_info and damage != "first page zero":
        assert told & {"os_info", "vmcoreinfo"}, damage
        assert told <= {"os_info", "vmcoreinfo", "lowcore", "hsa", "cpu-order"}


@pytest.mark.parametrize("name", ["kdump", "kdump 6.12", "kdump, hotplugged"])
def test_both_pages_of_the_lowcore_are_lost(tmp_path: Path, name: str) -> None:
    """The boot CPU's registers are in its own lowcore, too, and lead to the dump kernel's list as before."""
    built = MACHINES[name].build(tmp_path)
    built.poke_old(0, bytes(2 * PAGE))
    with opened(built) as dump:
        same(dump, built)
        assert dump.found_cpus.origin == "save area list"
        assert "those in its own lowcore at " in " ".join(p.text for p in dump.problems if p.code == "lowcore")


@pytest.mark.parametrize("name", ["kdump", "kdump 6.12", "plain"])
@pytest.mark.parametrize("with_list", [True, False])
def test_the_lowcore_cannot_be_read(tmp_path: Path, name: str, with_list: bool) -> None:
    """The CPUs come from the lowcore_ptr[] of the VMCOREINFO that was found, where the dump kernel's list is lost, too."""
    built = MACHINES[name].build(tmp_path)
    base = built.machine.placement.base
    if not with_list:
        built.wipe_dump_kernel()
    with pytest.MonkeyPatch.context() as patch:
        BadDisk(patch, built.image, [(base, base + 2 * PAGE)])
        with vmcorefs.open(built.image, memory_range=list(built.machine.memory), **({"mode": "plain"} if base == 0 else {})) as dump:
            assert dump.vmcoreinfo is not None
            assert dump.vmcoreinfo.origin == "search"
            assert len(dump.cpus) == len(built.machine.cpus)
            if with_list or name != "kdump 6.12":
                assert dump.found_cpus.origin == ("save area list" if base and with_list else "lowcore_ptr")
            if name != "plain":  # control register 0 was there, too
                assert dump.vmcore.header == built.model.header


def test_no_lowcore_and_no_vmcoreinfo_leave_the_prefix_pages(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(3), with_save_area_list=False, with_elfcorebuf=False).build(tmp_path)
    built.poke_old(0, bytes(2 * PAGE))
    built.poke_old(built.places["vmcoreinfo"], bytes(PAGE))
    with opened(built) as dump:
        assert (dump.vmcoreinfo, dump.found_cpus.origin) == (None, "prefix scan")
        assert [cpu.save_area.prefix_address for cpu in dump.cpus] == [built.places[f"lowcore[{i}]"] for i in range(3)]


@pytest.mark.parametrize("with_header", [True, False])
def test_os_info_itself_is_lost(tmp_path: Path, with_header: bool) -> None:
    """What it would have told of the kernel image is in the dump kernel's header."""
    built = Machine(release="6.12.0", cpus=cpus(2), identity_base=0x10000000, dump_identity_base=0x10000000,
                    with_elfcorebuf=with_header).build(tmp_path)
    built.poke_old(built.places["os_info"], bytes(PAGE))
    with opened(built) as dump:
        texts = [p.text for p in dump.problems if p.code in {"os_info", "kernel-image"}]
        assert "no other one is in the crashed kernel's image" in texts[0]
        if with_header:
            same(dump, built)
            assert "were taken from: dump kernel's own header" in texts[1]
        else:
            assert "PT_LOAD is left out" in texts[1]
            assert len(dump.merged.placed) == len(built.model.loads) - 1


def test_without_the_note_a_copy_of_its_text_is_told_to_lack_the_time(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    place = built.places["vmcoreinfo"]
    text = built.old.read(place + 24, PAGE).partition(b"\0")[0]
    built.poke_old(place, bytes(PAGE))
    built.poke_old(0x1F0000, text.partition(b"CRASHTIME=")[0])
    with opened(built) as dump:
        assert dump.vmcoreinfo is not None
        assert dump.vmcoreinfo.address == 0x1F0000
        (problem,) = dump.problems
        assert "a search found at 0x1f0000 is used instead, without the time of the crash: it is a copy of the text" in problem.text


def test_a_guests_vmcoreinfo_is_not_the_systems(tmp_path: Path) -> None:
    built = Machine(vmcoreinfo_by=None).build(tmp_path)
    text = b"OSRELEASE=5.14.0-guest\nSYMBOL(lowcore_ptr)=180000\nLENGTH(lowcore_ptr)=512\n"
    built.poke_old(0x190000, struct.pack(">III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text)
    with opened(built) as dump:
        assert dump.vmcoreinfo is None
        (problem,) = dump.problems
        assert "of another system: 5.14.0-guest at 0x190018 (its lowcore_ptr[] leads to no lowcore)" in problem.text
        assert "--vmcoreinfo FILE" in problem.text


@pytest.mark.parametrize("given", ["--vmcoreinfo", "pointer"])
def test_nothing_is_searched_where_somebody_has_it(tmp_path: Path, given: str) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    (tmp_path / "vmcoreinfo.txt").write_bytes(built.model.facts.vmcoreinfo or b"")
    if given == "--vmcoreinfo":
        pointer(0xE0C, 0)(built)
    with vmcorefs.open(built.image, vmcoreinfo=tmp_path / "vmcoreinfo.txt") as dump:
        assert dump.metadata.searched_for == {}
        assert dump.search.searched == 0


# -- memory without a lowcore -----------------------------------------------------------------------------------------------


def test_memory_with_an_empty_first_page_is_linuxs_if_something_proves_it(tmp_path: Path) -> None:
    built = MACHINES["plain"].build(tmp_path)
    built.poke_old(0, bytes(PAGE))
    with opened(built) as dump:
        same(dump, built)
    built.poke_old(built.places["lowcore_ptr"], bytes(PAGE))
    with pytest.raises(VmcorefsError, match="not the memory of an s390x Linux system"):
        opened(built)


def test_a_file_that_begins_with_something_else_is_not_searched(tmp_path: Path) -> None:
    built = MACHINES["plain"].build(tmp_path)
    built.poke_old(0, b"\x5a" * PAGE)
    with pytest.raises(VmcorefsError, match="not the memory of an s390x Linux system"):
        opened(built)


def test_a_large_file_of_zeros_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(VmcorefsError, match="not the memory of an s390x Linux system"):
        vmcorefs.open(tmp_path / "zeros")


@pytest.mark.parametrize("mode", ["plain", "kdump"])
def test_an_early_crash_costs_2_gib_and_a_lost_pointer_all(tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """A kdump kernel was never started in a system that had no VMCOREINFO yet, so that there the pointer is lost."""
    monkeypatch.setattr(logging.getLogger("vmcorefs"), "propagate", True)
    built = Machine(mode=mode, vmcoreinfo_by="early", memory=((0, 3 << 30),), body_pages="none").build(tmp_path)  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "vmcorefs"), opened(built) as dump:
        assert dump.vmcoreinfo is None
        assert dump.search.searched == (2 << 30 if mode == "plain" else 3 << 30)
        assert f"no other one is in memory{' below 2 GiB' if mode == 'plain' else ''}" in " ".join(p.text for p in dump.problems)
    assert ("searching all of memory (3 GiB)" in caplog.text) == (mode == "kdump")


# -- any damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kdump", "kdump 6.12", "zfcpdump 6.12", "plain 6.12"])
def test_random_damage_of_everything_that_can_be_found(tmp_path: Path, name: str) -> None:
    """Any bytes in the two pointers, the note's header and the rest of the first page of the lowcore: the same header."""
    built = MACHINES[name].build(tmp_path)
    target = built.hsa or built.image
    data = target.read_bytes()
    base = 0 if built.hsa is not None else built.machine.placement.base
    spots = [(0xE0C, 8), (0xE18, 8), (built.places["vmcoreinfo"], 24), (0x200, 0xC00), (0, 0x1A0)]
    rng = random.Random(name)
    for _ in range(30):
        for at, size in rng.sample(spots, rng.randint(1, len(spots))):
            start = at + rng.randrange(size)
            junk = rng.choice((rng.randbytes, lambda n: b"\xff" * n, bytes))(rng.randint(1, at + size - start))
            with target.open("r+b") as file:
                file.seek(base + start)
                file.write(junk)
            print(f"{start:#x}: {junk.hex()}")  # the last ones are the culprits
        with opened(built) as dump:
            same(dump, built)
            dump.info()
        target.write_bytes(data)


# -- real machines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).header is not None])
@pytest.mark.parametrize("damage", ["pointers", "pages"])
def test_a_capture_without_pointers(tmp_path: Path, name: str, damage: str) -> None:
    capture, expanded = sparse.load(name), sparse.expand(name, tmp_path)
    places = [(0xE0C, bytes(8)), (0xE18, bytes(8))] if damage == "pointers" else [(0, bytes(PAGE))]
    with (expanded.hsa or expanded.image).open("r+b") as file:
        for at, data in places:
            file.seek((0 if expanded.hsa else capture.base) + at)
            file.write(data)
    with vmcorefs.open(expanded.image, hsa=expanded.hsa) as dump:
        assert dump.vmcore.header == capture.header
        assert "vmcoreinfo" in dump.metadata.searched_for
        if not expanded.hsa:
            assert dump.metadata.searched_for["os_info"][:2] == ("its checksum is right", "B and S in it are right")
