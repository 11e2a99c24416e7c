"""Every check: ok on a good image, failed on the damage it is for, nothing where there is nothing to look at."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Cpu, Entry, Machine, OsInfo, cpus
from tests.captures import sparse
from vmcorefs.check import CHECKS, run_checks
from vmcorefs.check.checks import Result

MIB = 1 << 20
NAMES = ["mode", "lowcore", "os_info", "vmcoreinfo", "search", "cpus", "vector", "memory", "kernel-image", "layout",
         "dump-kernel-header", "dump-kernel-notes"]


def results(built: Built, **options: object) -> dict[str, Result]:
    with vmcorefs.open(built.image, hsa=built.hsa, **options) as dump:
        found = run_checks(dump)
    assert all(r.status in {"ok", "failed", "none"} for r in found)
    assert all(r.text and "\n" not in r.text for r in found)
    return {r.name: r for r in found}


def failed(found: dict[str, Result]) -> list[str]:
    return [name for name, r in found.items() if r.status == "failed"]


def test_the_names_are_stable() -> None:
    assert [check.name for check in CHECKS][:len(NAMES)] == NAMES
    assert all(check.looks_at for check in CHECKS)


GOOD = {
    "kdump": Machine(cpus=cpus(2)),
    "kdump 5.8": Machine(release="5.8.0", cpus=cpus(3)),
    "kdump 6.12": Machine(release="6.12.0", cpus=cpus(3)),
    "kdump os_info": Machine(vmcoreinfo_by="both"),
    "zfcpdump": Machine(mode="zfcpdump", cpus=cpus(2)),
    "zfcpdump 6.12": Machine(mode="zfcpdump", release="6.12.0", cpus=cpus(2)),
    "mixed": Machine(release="5.8.0", dump_release="6.12.0"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_image_passes_all_with_the_dump_kernels_own_bytes(tmp_path: Path, name: str) -> None:
    found = results(GOOD[name].build(tmp_path))
    assert failed(found) == []
    assert found["dump-kernel-header"].status == "ok"
    assert found["dump-kernel-notes"].status == "ok"


def test_a_good_plain_image_passes_all(tmp_path: Path) -> None:
    found = results(Machine(mode="plain", cpus=cpus(2)).build(tmp_path))
    assert failed(found) == []
    assert found["dump-kernel-header"].status == "none"
    assert found["dump-kernel-notes"].status == "none"


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).header is not None])
def test_a_real_capture_passes_all_with_the_dump_kernels_own_bytes(tmp_path: Path, name: str) -> None:
    expanded = sparse.expand(name, tmp_path)
    with vmcorefs.open(expanded.image, hsa=expanded.hsa) as dump:
        found = {r.name: r.status for r in run_checks(dump)}
    assert "failed" not in found.values()
    assert (found["dump-kernel-header"], found["dump-kernel-notes"]) == ("ok", "ok")


def test_a_wiped_dump_kernel_leaves_nothing_to_compare(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    built.wipe_dump_kernel()
    found = results(built)
    assert failed(found) == []
    assert found["dump-kernel-header"].status == "none"
    assert found["dump-kernel-notes"].status == "none"
    assert found["layout"].status == "none"
    assert "assumed" in found["layout"].text


Damage = Callable[[Built], None]
NO_HEADER = Machine(with_elfcorebuf=False)  # what is damaged afterwards was in the dump kernel's header when it was made

DAMAGES: dict[str, tuple[Machine, Damage, str]] = {
    "os_info outside memory": (Machine(), lambda b: b.poke_old(0xE18, struct.pack(">Q", 1 << 40)), "os_info"),
    "os_info far outside memory": (Machine(), lambda b: b.poke_old(0xE18, struct.pack(">Q", 0xFFFFFFFFFFFFF000)), "os_info"),
    "os_info unaligned": (Machine(), lambda b: b.poke_old(0xE18, struct.pack(">Q", 0x85001)), "os_info"),
    "os_info checksum": (Machine(os_info="bad_csum"), lambda b: None, "os_info"),
    "os_info magic": (Machine(os_info="bad_magic"), lambda b: None, "os_info"),
    "os_info version": (Machine(os_info="bad_version"), lambda b: None, "os_info"),
    "os_info entry checksum": (Machine(os_info="bad_entry_csum", vmcoreinfo_by="both"), lambda b: None, "os_info"),
    "os_info entry outside memory": (
        Machine(os_info_entries={0: Entry(1 << 40, 100, 5)}), lambda b: None, "os_info"),
    "os_info entry of absurd size": (Machine(os_info_entries={0: Entry(0x80000, 1 << 40, 5)}), lambda b: None, "os_info"),
    "vmcore_info odd": (Machine(vmcoreinfo_by="early"), lambda b: None, "vmcoreinfo"),
    "vmcore_info 0": (Machine(vmcoreinfo_by=None), lambda b: None, "vmcoreinfo"),
    "VMCOREINFO outside memory": (
        NO_HEADER, lambda b: b.poke_old(0xE0C, struct.pack(">Q", 1 << 40)), "vmcoreinfo"),
    "VMCOREINFO far outside memory": (
        NO_HEADER, lambda b: b.poke_old(0xE0C, struct.pack(">Q", 0xFFFFFFFFFFFFF000)), "vmcoreinfo"),
    "VMCOREINFO of absurd size": (
        NO_HEADER, lambda b: b.poke_old(b.places["vmcoreinfo"] + 4, struct.pack(">I", 0x10001)), "vmcoreinfo"),
    "VMCOREINFO without its name": (NO_HEADER, lambda b: b.poke_old(b.places["vmcoreinfo"] + 12, b"X"), "vmcoreinfo"),
    "no CPU with saved registers": (Machine(mode="plain", stored_status=False), lambda b: None, "cpus"),
    "no CPU with a prefix": (Machine(cpus=(Cpu(online=False),)), lambda b: None, "cpus"),
    "order of CPUs": (Machine(cpus=cpus(3)), Built.wipe_dump_kernel, "cpus"),
    "vector registers": (Machine(mode="zfcpdump", with_save_area_list=False, with_elfcorebuf=False), lambda b: None, "vector"),
    "image shorter than memory": (Machine(), lambda b: os.truncate(b.image, 3 * MIB + 4096), "memory"),
    "image ends inside the crashkernel area": (Machine(), lambda b: os.truncate(b.image, 3 * MIB - 4096), "memory"),
    "a partial last page": (Machine(), lambda b: os.truncate(b.image, 4 * MIB - 100), "memory"),
    "a partial last page in plain mode": (Machine(mode="plain"), lambda b: os.truncate(b.image, 4 * MIB - 100), "memory"),
    "kernel image nowhere": (
        Machine(release="6.12.0", os_info_entries={12: Entry(1 << 40)}, with_elfcorebuf=False), lambda b: None, "kernel-image"),
    "lowcore overwritten": (Machine(), lambda b: b.poke_old(0x1A0, bytes(0x60)), "lowcore"),
    "other values in os_info": (
        Machine(), lambda b: b.poke_old(b.places["os_info"], OsInfo(2 * MIB, 2 * MIB).to_bytes()), "mode"),
    "parmarea lost": (Machine(), lambda b: b.poke_raw(0x10000, bytes(4096)), "mode"),
    "the dump kernel's header differs": (
        Machine(), lambda b: b.poke_raw(b.dump_places["elfcorebuf"] + 64 + 32, struct.pack(">QQ", 1000, 1000)),
        "dump-kernel-header"),
    "the dump kernel's notes differ": (
        Machine(), lambda b: b.poke_raw(b.dump_places["elfnotes_buf[0]"] + 600, b"\xff\x00\xff"), "dump-kernel-notes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_fails_its_check_and_no_other(tmp_path: Path, damage: str) -> None:
    machine, do, name = DAMAGES[damage]
    built = machine.build(tmp_path)
    do(built)
    assert failed(results(built)) == [name]


@pytest.mark.parametrize("damage", [d for d, (*_, name) in DAMAGES.items() if not name.startswith("dump-") and name != "lowcore"])
def test_each_damage_is_one_problem(tmp_path: Path, damage: str) -> None:
    machine, do, _ = DAMAGES[damage]
    built = machine.build(tmp_path)
    do(built)
    with vmcorefs.open(built.image, hsa=built.hsa) as dump:
        assert len(dump.problems) == 1


def test_a_wrong_layout_option_shows_in_the_dump_kernels_bytes(tmp_path: Path) -> None:
    found = results(Machine(cpus=cpus(2)).build(tmp_path), layout="5.8")
    assert failed(found) == ["dump-kernel-header", "dump-kernel-notes"]
    assert "--layout" in found["dump-kernel-header"].text


def test_wrong_ranges_show_in_the_dump_kernels_header(tmp_path: Path) -> None:
    found = results(Machine().build(tmp_path), memory_range=[(0, 2 * MIB)])
    assert failed(found) == ["dump-kernel-header"]


def test_all_problems_belong_to_a_check() -> None:
    """A code that no check names would be a warning that `check` does not know."""
    codes = {code for check in CHECKS for code in check.codes}
    assert codes >= {"mode", "lowcore", "os_info", "vmcoreinfo", "cpus", "cpu-order", "vector", "truncated", "partial-page",
                     "kernel-image", "finished-header"}


def test_two_headers_that_differ_fail_the_layout_check(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    page = bytearray(built.image.read_bytes()[built.dump_places["elfcorebuf"]:][:4096])
    page[64 + 48:64 + 56] = (4).to_bytes(8, "big")
    built.poke_raw(0xF0000, bytes(page))
    found = results(built)
    assert found["layout"].status == "failed"
    assert found["dump-kernel-header"].status == "ok"  # one of them is ours
