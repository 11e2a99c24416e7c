"""The checks that compare two places: lowcores and the dump kernel's list, sizes and high_memory, positions and addresses."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Cpu, Machine, cpus
from tests.builders.printk import RecordLog
from tests.check.test_checks import failed, results
from tests.gold.conftest import Expander, gold_names
from tests.report.infos import NAMES, PANIC, ring, utsname, with_log
from vmcorefs.check import CHECKS, quick_checks, run_checks
from vmcorefs.check.files import absent_files
from vmcorefs.report.dmesg import dmesg_text
from vmcorefs.report.files import small_files

MIB = 1 << 20
HIGH_MEMORY = 0x5100  # where the builder's VMCOREINFO says that high_memory is


def set_high_memory(built: Built, end: int, *, dump_kernel: bool) -> None:
    data = struct.pack(">Q", end)
    if dump_kernel:
        built.poke_raw(HIGH_MEMORY, data)
    else:
        built.poke_old(HIGH_MEMORY, data)


# -- each row says everything ---------------------------------------------------------------------------------------------


def test_every_check_says_what_it_means_and_what_to_do() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert set(names) >= {"lowcores", "save-areas", "hsa-size", "crashkernel-size", "log", "small-files", "positions"}
    for check in CHECKS:
        assert check.ok, check.name
        assert (check.failed and check.advice) or check.name == "small-files", check.name


def test_a_failure_has_meaning_and_advice_and_the_rest_none(tmp_path: Path) -> None:
    found = results(Machine(os_info="bad_csum").build(tmp_path))
    assert found["os_info"].advice
    assert "damaged" in found["os_info"].means
    assert all(r.means for r in found.values())
    assert not any(r.advice for r in found.values() if r.status == "ok")


def test_quick_checks_leave_out_those_that_search(tmp_path: Path) -> None:
    with vmcorefs.open(Machine().build(tmp_path).image) as dump:
        quick, left_out = quick_checks(dump)
        whole = run_checks(dump)
    assert set(left_out) == {"dump-kernel-notes", "log"}
    assert quick == [result for result in whole if result.name not in left_out]


@pytest.mark.parametrize("name", gold_names())
def test_whole_real_machines_pass_every_check_there_is(name: str, expander: Expander) -> None:
    gold = expander(name)
    with vmcorefs.open(gold.image, **gold.options) as dump:
        found = {result.name: result for result in run_checks(dump)}
        mode = dump.mode.name
    nothing = {"hsa-size"} if mode == "kdump" else {"crashkernel-size", "save-areas"}
    nothing |= {"search", "container", "missing", "filtered", "broken", "container-notes"}  # raw images, undamaged
    nothing |= set() if name.startswith("k612") else {"kernel-image"}
    assert {n for n, r in found.items() if r.status != "ok"} == nothing, found
    assert "high_memory" in found["hsa-size" if mode == "zfcpdump" else "crashkernel-size"].text


# -- lowcores and save areas ----------------------------------------------------------------------------------------------


def test_a_lowcore_without_psws(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(3)).build(tmp_path)
    built.poke_old(built.places["lowcore[1]"] + 0x1A0, bytes(0x60))
    found = results(built)
    assert failed(found) == ["lowcores"]
    assert hex(built.places["lowcore[1]"]) in found["lowcores"].text
    assert found["positions"].status == "none"


def test_two_lowcores_of_one_cpu(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    built.poke_old(built.places["lowcore[1]"] + 0x3A0, struct.pack(">I", 0))
    assert failed(results(built)) == ["lowcores"]


def test_other_registers_in_a_lowcore_than_in_the_list(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(3)).build(tmp_path)
    built.poke_old(built.places["lowcore[2]"] + 0x1280, bytes(8))
    found = results(built)
    assert failed(found) == ["save-areas"]
    assert f"{built.places['lowcore[2]']:#x}" in found["save-areas"].text


def test_a_cpu_that_the_list_does_not_have(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    built.poke_old(built.places["lowcore_ptr"] + 16, struct.pack(">Q", 0xF0000))
    found = results(built)
    assert failed(found) == ["save-areas"]
    assert "0xf0000" in found["save-areas"].text


def test_registers_in_the_list_alone_are_nothing_to_compare(tmp_path: Path) -> None:
    found = results(Machine(mode="zfcpdump", cpus=cpus(2)).build(tmp_path))
    assert found["save-areas"].status == "none"
    assert "list alone" in found["save-areas"].means


# -- sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "name"), [("kdump", "crashkernel-size"), ("zfcpdump", "hsa-size")])
def test_the_dump_kernels_memory_ends_where_it_should(tmp_path: Path, mode: str, name: str) -> None:
    built = Machine(mode=mode).build(tmp_path)  # type: ignore[arg-type]
    assert results(built)[name].status == "none"
    set_high_memory(built, MIB, dump_kernel=True)
    found = results(built)
    assert (failed(found), found[name].status) == ([], "ok")
    for wrong in (MIB // 2, 2 * MIB):
        set_high_memory(built, wrong, dump_kernel=True)
        found = results(built)
        assert failed(found) == [name]
        assert hex(wrong) in found[name].text


def test_too_long_an_hsa_file_is_told_with_the_option(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    set_high_memory(built, MIB // 2, dump_kernel=True)
    assert "--hsa-size 0x80000" in results(built)["hsa-size"].advice
    assert "hsa-size" not in failed(results(built, hsa_size=MIB // 2))


@pytest.mark.parametrize("value", [0, 0x123456, 1 << 60, (1 << 64) - 4096])
def test_a_high_memory_that_is_none_says_nothing(tmp_path: Path, value: int) -> None:
    built = Machine().build(tmp_path)
    set_high_memory(built, value, dump_kernel=True)
    set_high_memory(built, value, dump_kernel=False)
    found = results(built)
    assert failed(found) == []
    assert found["crashkernel-size"].status == "none"


def test_a_plain_image_that_was_cut_off(tmp_path: Path) -> None:
    built = Machine(mode="plain").build(tmp_path)
    set_high_memory(built, 4 * MIB, dump_kernel=False)
    assert failed(results(built)) == []
    os.truncate(built.image, 3 * MIB)
    found = results(built)
    assert failed(found) == ["memory"]
    assert "0x400000" in found["memory"].text


# -- positions ------------------------------------------------------------------------------------------------------------

HOLE = ((0, 4 * MIB), (8 * MIB, 12 * MIB))


def concatenate(built: Built, hole: tuple[int, int] = (4 * MIB, 8 * MIB)) -> None:
    """As a raw format without positions writes it: the hole is left out."""
    data = built.image.read_bytes()
    built.image.write_bytes(data[:hole[0]] + data[hole[1]:])


def behind_hole() -> tuple[Cpu, ...]:
    return Cpu(0), Cpu(1, prefix=8 * MIB + 0x10000), Cpu(2, prefix=9 * MIB)


@pytest.mark.parametrize("mode", ["kdump", "zfcpdump", "plain"])
def test_an_image_with_its_holes_is_in_place(tmp_path: Path, mode: str) -> None:
    found = results(Machine(mode=mode, memory=HOLE, cpus=behind_hole()).build(tmp_path))  # type: ignore[arg-type]
    assert found["positions"].status == "ok"
    assert failed(found) == []


def test_lowcores_that_stand_too_low(tmp_path: Path) -> None:
    built = Machine(memory=HOLE, cpus=behind_hole()).build(tmp_path)
    concatenate(built)
    found = results(built)
    assert found["positions"].status == "failed"
    for words in ("2 CPU(s)", "0x810000", "0x400000 (4 MiB)", "the hole 0x400000-0x800000"):
        assert words in found["positions"].text
    assert "one behind the other" in found["positions"].means
    assert "take the image again" in found["positions"].advice
    assert set(failed(found)) == {"positions", "memory", "lowcores"}


def test_in_plain_mode_without_any_list_of_ranges(tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=HOLE, cpus=behind_hole()).build(tmp_path)
    concatenate(built)
    found = results(built)
    assert found["positions"].status == "failed"
    assert "4 MiB" in found["positions"].text


def test_an_image_shorter_by_exactly_the_hole(tmp_path: Path) -> None:
    """No CPU's lowcore is behind the hole: the length alone tells."""
    built = Machine(memory=HOLE, cpus=cpus(2)).build(tmp_path)
    concatenate(built)
    found = results(built)
    assert set(failed(found)) == {"positions", "memory"}
    assert "exactly the size of the hole in it: 0x400000-0x800000" in found["positions"].text


def test_an_image_shorter_by_something_else_is_only_cut_off(tmp_path: Path) -> None:
    built = Machine(memory=HOLE, cpus=cpus(2)).build(tmp_path)
    os.truncate(built.image, 11 * MIB)
    assert failed(results(built)) == ["memory"]


def test_a_damaged_lowcore_is_not_taken_for_a_moved_one(tmp_path: Path) -> None:
    built = Machine(memory=HOLE, cpus=behind_hole()).build(tmp_path)
    built.poke_old(9 * MIB + 0x1A0, bytes(0x60))
    found = results(built)
    assert failed(found) == ["lowcores"]


# -- VMCOREINFO, log and small files ----------------------------------------------------------------------------------------


def test_a_vmcoreinfo_of_another_kernel(tmp_path: Path) -> None:
    good = with_log(tmp_path, ring(*PANIC))
    assert "calls itself" in results(good)["vmcoreinfo"].text
    other = with_log(tmp_path, ring(*PANIC), utsname(b"Linux", b"n", b"5.14.0-503.el9.s390x", b"v", b"s390x", b"d"))
    found = results(other)
    assert failed(found) == ["vmcoreinfo"]
    assert "6.1.0" in found["vmcoreinfo"].text
    assert "5.14.0-503.el9.s390x" in found["vmcoreinfo"].text


def test_a_good_log(tmp_path: Path) -> None:
    found = results(with_log(tmp_path, ring(*PANIC)))
    assert (failed(found), found["log"].status, found["small-files"].status) == ([], "ok", "ok")
    assert f"{len(PANIC)} record(s)" in found["log"].text


def test_a_log_in_which_records_are_damaged(tmp_path: Path) -> None:
    log = RecordLog(size=1024)
    log.log(b"one")
    second = log.log(b"two")
    log.set_length(second, 3)
    found = results(with_log(tmp_path, log))
    assert failed(found) == ["log"]
    assert "broken" in found["log"].text


def test_a_log_pointer_that_leads_nowhere(tmp_path: Path) -> None:
    built = with_log(tmp_path, ring(*PANIC))
    built.poke_old(0x300000, struct.pack(">Q", 1 << 50))
    assert failed(results(built)) == ["log"]
    built.poke_old(0x300000, bytes(8))
    found = results(built)
    assert (failed(found), found["log"].status) == ([], "none")


def existing(built: Built) -> tuple[set[str], dict[str, str]]:
    with vmcorefs.open(built.image, hsa=built.hsa) as dump:
        names = {name for name, _ in small_files(dump)}
        if dmesg_text(dump) is not None:
            names.add("dmesg.txt")
        return names, absent_files(dump)


@pytest.mark.parametrize("machine", [
    Machine(cpus=cpus(2)), Machine(vmcoreinfo_by=None), Machine(mode="plain", stored_status=False), Machine(mode="zfcpdump"),
    Machine(mode="plain", vmcoreinfo_by="early", stored_status=False)])
def test_small_files_that_will_be_absent_are_absent(tmp_path: Path, machine: Machine) -> None:
    names, absent = existing(machine.build(tmp_path))
    assert not any(name == gone or name.startswith(gone) for name in names for gone in absent)
    expected = {"vmcoreinfo.txt", "info.json", "dmesg.txt", "cpus/"} - set(absent)
    assert all(any(name == one or name.startswith(one) for name in names) for one in expected)
    assert all(absent.values())


def test_all_small_files_of_a_machine_with_everything(tmp_path: Path) -> None:
    names, absent = existing(with_log(tmp_path, ring(*PANIC), NAMES))
    assert absent == {}
    assert names >= {"vmcoreinfo.txt", "info.json", "dmesg.txt", "cpus/1/registers.json", "cpus/1/lowcore.bin"}


def test_a_lowcore_beyond_the_images_end_is_named(tmp_path: Path) -> None:
    built = Machine(memory=HOLE, cpus=behind_hole()).build(tmp_path)
    os.truncate(built.image, 8 * MIB + 0x800)
    names, absent = existing(built)
    assert set(absent) == {"dmesg.txt", "cpus/2/lowcore.bin", "cpus/3/lowcore.bin"}
    assert "cpus/2/lowcore.bin" not in names
    found = results(built)
    assert "cpus/2/lowcore.bin will be absent" in found["small-files"].text
