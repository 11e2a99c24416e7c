"""Damage with which the kernel would have served all the same: served, with one warning, and `check` says no."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import Built, Entry, Machine
from tests.cli.conftest import Program

MIB = 1 << 20
NO_HEADER = Machine(with_elfcorebuf=False)
Damage = Callable[[Built], None]


def point(field: int, value: int) -> Damage:
    return lambda built: built.poke_old(field, struct.pack(">Q", value))


def nothing(built: Built) -> None:
    """The machine itself is odd enough."""


DAMAGES: dict[str, tuple[Machine, Damage, str]] = {
    "os_info outside memory": (Machine(), point(0xE18, 1 << 40), "0x10000000000"),
    "os_info at the end of the address space": (Machine(), point(0xE18, 0xFFFFFFFFFFFFF000), "0xfffffffffffff000"),
    "os_info right behind memory": (Machine(), point(0xE18, 4 * MIB), "0x400000"),
    "os_info unaligned": (Machine(), point(0xE18, 0x85008), "0x85008"),
    "os_info with a wrong checksum": (Machine(os_info="bad_csum"), nothing, "0x000badc5"),
    "os_info with a wrong magic": (Machine(os_info="bad_magic"), nothing, "magic"),
    "os_info of a later version": (Machine(os_info="bad_version"), nothing, "version 2.1"),
    "VMCOREINFO by os_info with a wrong checksum": (Machine(os_info="bad_entry_csum", vmcoreinfo_by="both"), nothing, "checksum"),
    "VMCOREINFO by os_info outside memory": (Machine(os_info_entries={0: Entry(1 << 40, 100, 5)}), nothing, "0x10000000000"),
    "VMCOREINFO by os_info of absurd size": (Machine(os_info_entries={0: Entry(0x80000, 1 << 40, 5)}), nothing, "absurd"),
    "VMCOREINFO outside memory": (NO_HEADER, point(0xE0C, 1 << 40), "0x10000000000"),
    "VMCOREINFO at the end of the address space": (NO_HEADER, point(0xE0C, 0xFFFFFFFFFFFFF000), "0xfffffffffffff000"),
    "VMCOREINFO right before the end of memory": (NO_HEADER, point(0xE0C, 4 * MIB - 8), "0x3ffff8"),
    "VMCOREINFO of absurd size": (
        NO_HEADER, lambda b: b.poke_old(b.places["vmcoreinfo"] + 4, b"\xff\xff\xff\xff"), "0xffffffff"),
    "VMCOREINFO that is none": (NO_HEADER, lambda b: b.poke_old(b.places["vmcoreinfo"] + 12, b"vmcoreinfo"), "no such note"),
    "an early crash": (Machine(vmcoreinfo_by="early"), nothing, "0x1234000 | 1"),
    "an early crash in plain mode": (Machine(mode="plain", vmcoreinfo_by="early"), nothing, "0x1234000 | 1"),
    "no CPU with saved registers": (Machine(mode="plain", stored_status=False), nothing, "no CPU with saved registers"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_served_with_one_warning_and_check_says_no(tmp_path: Path, vmcorefs: Program, damage: str) -> None:
    machine, do, words = DAMAGES[damage]
    built = machine.build(tmp_path)
    do(built)
    answer = vmcorefs("copy", built.image, tmp_path / "vmcore")
    assert answer.status == 0, answer.err
    assert len(answer.warnings) == 1
    assert str(built.image) in answer.warnings[0]
    assert words in answer.warnings[0]
    assert len(answer.lines) == 2  # and which system is served
    check = vmcorefs("check", built.image)
    assert check.status == 1
    assert check.err == ""
    assert len([line for line in check.out.splitlines() if line.startswith("FAILED")]) == 1
    info = vmcorefs("info", built.image)
    assert info.status == 0
    assert words in info.out


@pytest.mark.parametrize("damage", [d for d in DAMAGES if (d.startswith("VMCOREINFO") and "os_info" not in d) or "early" in d])
def test_without_vmcoreinfo_the_rest_is_served(tmp_path: Path, vmcorefs: Program, damage: str) -> None:
    machine, do, _ = DAMAGES[damage]
    built = machine.build(tmp_path)
    do(built)
    if "vmcoreinfo" in built.places:  # a search would find it, if only the way to it were lost
        built.poke_old(built.places["vmcoreinfo"] & -0x1000, bytes(0x2000))
    vmcorefs("copy", built.image, tmp_path / "vmcore")
    data = (tmp_path / "vmcore").read_bytes()
    assert b"VMCOREINFO" not in data[:0x3000]
    assert data[0x1000 + 12:0x1000 + 16] == b"CORE"


CUT: dict[str, tuple[Machine, int, str]] = {
    "longer ranges than the image": (Machine(), 4 * MIB - 0x10000, "0x400000"),
    "one page is missing": (Machine(), 4 * MIB - 4096, "0x3ff000"),
    "the end of the crashkernel area is missing": (Machine(), 3 * MIB - 4096, "0x2ff000"),
    "a partial last page": (Machine(), 4 * MIB - 100, "0x3fff9c"),
    "a partial last page in plain mode": (Machine(mode="plain"), 4 * MIB - 100, "0x3fff9c"),
}


@pytest.mark.parametrize("cut", CUT)
def test_a_cut_image_is_served_as_far_as_it_goes(tmp_path: Path, vmcorefs: Program, cut: str) -> None:
    machine, size, words = CUT[cut]
    built = machine.build(tmp_path)
    os.truncate(built.image, size)
    answer = vmcorefs("info", built.image)
    assert answer.status == 0
    assert f"{built.model.size} bytes" in answer.out
    warnings = [line for line in answer.out.splitlines() if line.startswith("  failed:")]
    assert len(warnings) == 1, answer.out
    assert words in warnings[0]
    assert vmcorefs("check", built.image).status == 1
    copy = vmcorefs("copy", built.image, tmp_path / "vmcore")
    assert copy.status == 1
    assert len(copy.warnings) == 1
    assert copy.lines[-1].startswith("vmcorefs: error: ")
    assert str(built.image) in copy.lines[-1]


def test_a_good_image_has_no_warning_and_check_says_yes(tmp_path: Path, vmcorefs: Program) -> None:
    built = Machine().build(tmp_path)
    answer = vmcorefs("copy", built.image, tmp_path / "vmcore")
    assert (answer.status, answer.warnings) == (0, [])
    assert vmcorefs("check", built.image).status == 0


@pytest.mark.parametrize(("machine", "words"), [
    (Machine(), "kdump mode: served is the crashed (production) system"),
    (Machine(mode="zfcpdump"), "zfcpdump mode: served is the crashed (production) system"),
    (Machine(mode="plain"), "plain mode: served is the system in this memory"),
])
def test_one_line_says_which_system_is_served_and_why(tmp_path: Path, vmcorefs: Program, machine: Machine, words: str) -> None:
    built = machine.build(tmp_path)
    options = ["--hsa", built.hsa] if built.hsa else []
    answer = vmcorefs("copy", built.image, tmp_path / "vmcore", *options)
    (line,) = answer.lines
    assert line.startswith(f"vmcorefs: {built.image}: ")
    assert words in line


def test_log_level_warning_leaves_warnings_only(tmp_path: Path, vmcorefs: Program) -> None:
    built = Machine(os_info="bad_csum").build(tmp_path)
    answer = vmcorefs("copy", built.image, tmp_path / "a", "--log-level", "warning")
    assert answer.lines == answer.warnings
    assert len(answer.warnings) == 1
    assert vmcorefs("copy", built.image, tmp_path / "b", "--log-level", "error").err == ""


def test_an_early_crash_in_kdump_has_every_cpus_registers(tmp_path: Path, vmcorefs: Program) -> None:
    """Only VMCOREINFO is missing; the rest is byte for byte the kernel's."""
    built = Machine(vmcoreinfo_by="early").build(tmp_path)
    vmcorefs("copy", built.image, tmp_path / "vmcore")
    assert (tmp_path / "vmcore").read_bytes()[:len(built.model.header)] == built.model.header
