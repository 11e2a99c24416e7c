"""The checks of the container: what it says, what is not in it and why, its notes; and that every problem has its check."""

from __future__ import annotations

import ast
import struct
from dataclasses import replace
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Machine, cpus
from tests.builders.containers import elf
from tests.check.test_checks import failed
from tests.containers.absent import HOLED, Case, case
from tests.containers.wrapping import Content, kdump_of, of_image
from tests.image.samples import sample
from vmcorefs.check import CHECKS, quick_checks, run_checks
from vmcorefs.check.checks import Result
from vmcorefs.report.text import info_text

ROWS = ("container", "missing", "filtered", "broken", "container-notes")
MACHINE = Machine(mode="plain", cpus=cpus(2))
FULL = Machine(mode="plain", cpus=cpus(2), body_pages="all")  # no page is zero
KDUMP = Machine(cpus=cpus(2))


def rows(path: Path, **options: object) -> dict[str, Result]:
    with vmcorefs.open(path, **options) as dump:
        found = run_checks(dump)
    assert all(r.text and r.means and "\n" not in r.text for r in found)
    return {r.name: r for r in found}


def content(tmp_path: Path, machine: Machine = MACHINE) -> Content:
    return of_image(machine.build(tmp_path))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_every_problem_of_dump_fails_one_check() -> None:
    """A code is in one row; or a row of this name finds out itself."""
    package = Path(vmcorefs.__file__).parent
    codes = {node.args[0].value for path in [package / "dump.py", *(package / "evidence").glob("*.py")]  # type: ignore[attr-defined]
             for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")).lstrip("_") == "problem"}
    assert codes >= {"incomplete", "container", "container-notes", "linux", "os_info", "vmcoreinfo", "cpus", "kernel-image", "vector"}
    for code in codes:
        assert len([check.name for check in CHECKS if code in check.codes or check.name == code]) == 1, code


def test_a_raw_image_has_no_container(tmp_path: Path) -> None:
    found = rows(MACHINE.build(tmp_path).image)
    assert [found[name].status for name in ROWS] == ["none"] * 5
    assert "a raw memory image of 0x400000 bytes" in found["container"].text


def test_the_parts_of_a_raw_image(tmp_path: Path) -> None:
    data = MACHINE.build(tmp_path).image.read_bytes()
    for number in range(2):
        written(tmp_path / f"image.00{number}", data[number * 0x200000:(number + 1) * 0x200000])
    assert "2 parts, " in rows(tmp_path / "image.000")["container"].text


def test_a_whole_core(tmp_path: Path) -> None:
    given = content(tmp_path)
    found = rows(written(tmp_path / "core", elf.core(given.loads, given.notes)))
    assert failed(found) == []
    assert [found[name].status for name in ROWS] == ["ok", "ok", "ok", "none", "ok"]
    assert "1 memory range(s), 2 CPU(s), VMCOREINFO" in found["container"].text
    assert "4 MiB of memory" in found["missing"].text
    assert found["container-notes"].text == "registers of 2 CPU(s), and no save area in memory says anything else"


def test_headers_that_contradict_each_other(tmp_path: Path) -> None:
    """Two PT_LOADs of one address with different bytes."""
    given = content(tmp_path)
    other = elf.Load(0x100000, b"\x5a" * 0x2000)
    found = rows(written(tmp_path / "core", elf.core([*given.loads, other], given.notes)))
    assert failed(found) == ["container"]
    assert "both hold address 0x100000 and differ" in found["container"].text
    assert "contradict" in found["container"].means
    assert found["container"].advice


@pytest.fixture(scope="session")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(params=HOLED)
def holed(request: pytest.FixtureRequest, machine_folder: Path, tmp_path: Path) -> Case:
    return case(str(request.param), tmp_path, machine_folder)


def test_filtered_missing_and_broken_are_told_apart(holed: Case) -> None:
    kinds = {kind for _, _, kind in holed.holed.absent}
    found = rows(holed.path, **holed.options)
    assert ("missing" in failed(found)) is ("missing" in kinds)
    assert found["filtered"].text.startswith("left out on purpose") is ("filtered" in kinds)
    assert found["filtered"].status in {"ok", "none"}  # never a failure
    assert ("broken" in failed(found)) is bool(holed.options)  # damaged data is known when it is read
    assert set(failed(found)) <= {"missing", "broken"}


def test_the_numbers_are_right(holed: Case) -> None:
    """Where a container knows at once what it does not have: as many bytes as cannot be read, and the first address."""
    with vmcorefs.open(holed.path, **holed.options) as dump:
        known = dump.image.absences()
        kdump = dump.image.container.format == "kdump-compressed"
    start, _, kind = holed.holed.absent[0]
    if (kdump and kind == "missing") or (kind == "broken" and not holed.options):
        assert known == ()  # only reading tells
        return
    (absence,) = known
    assert (absence.kind, absence.size) == (kind, sum(end - start for start, end, _ in holed.holed.absent))
    assert absence.first == (None if kdump else start)


def test_lowcores_that_a_dump_does_not_have_are_not_called_damaged(tmp_path: Path) -> None:
    given = content(tmp_path)
    prefix = given.cpus[1].prefix
    loads = [elf.Load(0, given.memory[:prefix]), elf.Load(prefix + 0x2000, given.memory[prefix + 0x2000:])]
    found = rows(written(tmp_path / "core", elf.core(loads, given.notes)))
    assert (found["lowcores"].status, found["lowcores"].text) == ("none", f"the lowcores of 1 of 2 CPU(s) are not in the dump: {prefix:#x}")


def test_a_live_dump_is_told(tmp_path: Path) -> None:
    built = MACHINE.build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        assert "while the system ran" not in dump.notice
    built.poke_raw(0, b"LIVEDUMP")
    with vmcorefs.open(built.image) as dump:
        assert "taken by zgetdump while the system ran" in dump.notice


def test_zeros_for_what_is_missing(tmp_path: Path) -> None:
    given = content(tmp_path, FULL)
    gone = frozenset(range(0x300, 0x310))
    dump = kdump_of(given, "zlib", level=31)
    pages = {pfn: page for pfn, page in dump.pages.items() if pfn not in gone}
    path = written(tmp_path / "dump", replace(dump, pages=pages, absent=gone).build())
    found = rows(path)
    assert found["filtered"].text == "left out on purpose (dump level 31): 64 KiB of 4 MiB memory"
    assert "fail (EIO, 'filtered'); --missing zeros gives zeros" in found["filtered"].means
    assert "reads there give zeros, as --missing zeros asks for" in rows(path, missing="zeros")["filtered"].means


def test_a_split_dump_without_one_of_its_files(tmp_path: Path) -> None:
    parts = kdump_of(content(tmp_path, FULL), "zlib", level=31).split(0x100, 0x200)
    for number in (0, 2):
        written(tmp_path / f"dump.{number}", parts[number])
    with vmcorefs.open(tmp_path / "dump.0") as dump:
        assert dump.image.absences() == (("missing", 0x100000, None),)
        found = {result.name: result for result in run_checks(dump)}
    assert failed(found) == ["missing"]
    assert "the file with memory 0x100000-0x200000 is not beside the others" in found["missing"].text


# -- notes ------------------------------------------------------------------------------------------------------------------


def test_other_registers_in_memory_than_in_the_notes(tmp_path: Path) -> None:
    built = MACHINE.build(tmp_path)
    built.poke_old(built.places["lowcore[1]"] + 0x1280, b"\x11" * 8)
    given = replace(of_image(built), cpus=built.model.facts.cpus)
    found = rows(written(tmp_path / "core", elf.core(given.loads, given.notes)))
    assert failed(found) == []
    text = f"1 of 2 CPU(s) have other registers in their save areas in memory: {built.places['lowcore[1]']:#x}"
    assert found["container-notes"].text == text
    assert "the container's are served" in found["container-notes"].means


def test_registers_that_the_notes_lack(tmp_path: Path) -> None:
    given = content(tmp_path)
    notes = given.notes.replace(struct.pack(">II", 8, 0x301), struct.pack(">II", 8, 0x3FF))  # CPU timer
    found = rows(written(tmp_path / "core", elf.core(given.loads, notes)))
    assert failed(found) == ["container-notes"]
    assert "not in its notes, so zero" in found["container-notes"].text


def test_the_dump_kernels_notes_are_not_the_crashed_systems(tmp_path: Path) -> None:
    given = content(tmp_path, KDUMP)
    found = rows(written(tmp_path / "core", elf.core(given.loads, given.notes)))
    assert failed(found) == []
    assert "the container's 2 CPU(s) are the dump kernel's" in found["container-notes"].text
    assert found["cpus"].text == "2 CPU(s) by save area list"
    with vmcorefs.open(tmp_path / "core") as dump:
        info = dump.info()
        assert info.container is not None
        assert [cpu["psw"] for cpu in info.container.not_served] == [registers.registers.psw.hex() for registers in given.cpus]
        assert [int(cpu["prefix"], 16) for cpu in info.container.not_served] == [registers.prefix for registers in given.cpus]
        text = " ".join(info_text(info).split())
    for cpu in info.container.not_served:
        assert f"prefix {cpu['prefix']}, PSW {cpu['psw'][:16]} {cpu['psw'][16:]} [the dump kernel's" in text


def test_in_plain_mode_no_cpu_of_the_container_is_the_dump_kernels(tmp_path: Path) -> None:
    given = content(tmp_path)
    with vmcorefs.open(written(tmp_path / "core", elf.core(given.loads, given.notes))) as dump:
        info = dump.info()
        assert info.container is not None
        assert info.container.not_served == []
        assert dump.registers.no_list is None


# -- the search -------------------------------------------------------------------------------------------------------------


def test_what_was_searched_for_and_why_it_is_believed(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2), release="6.12.0").build(tmp_path)
    assert rows(built.image)["search"].text == "nothing was searched for"
    built.poke_old(0xE0C, bytes(20))
    found = rows(built.image)
    assert failed(found) == ["os_info", "vmcoreinfo"]
    assert found["search"].status == "ok"
    assert f"os_info at {built.places['os_info']:#x}: its checksum is right, B and S in it are right" in found["search"].text
    text = f"VMCOREINFO at {built.places['vmcoreinfo'] + 24:#x}: its note is whole, its lowcore_ptr[] leads to 2 lowcores"
    assert text in found["search"].text
    assert "(searched: 4 MiB from address 0 on)" in found["search"].text
    assert "taken from elsewhere" in found["os_info"].means
    assert "see the check search" in found["vmcoreinfo"].advice


def test_what_was_not_found(tmp_path: Path) -> None:
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    built.poke_old(built.places["vmcoreinfo"], bytes(4096))
    found = rows(built.image)
    assert failed(found) == ["vmcoreinfo"]
    assert (found["search"].status, found["search"].advice) == ("none", "see the checks os_info and vmcoreinfo")
    assert "no other one is in memory" in found["search"].text
    assert "VMCOREINFO: VMCOREINFO" not in found["search"].text


def test_why_the_lists_that_are_usually_there_were_not_used(tmp_path: Path) -> None:
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    built.poke_old(built.places["vmcoreinfo"], bytes(4096))
    built.wipe_dump_kernel()
    found = rows(built.image)
    assert found["cpus"].text == "1 CPU(s) by prefix scan, since there is no VMCOREINFO"
    assert found["save-areas"].text == "the dump kernel's list of save areas is not in its memory (registers: prefix scan)"


def test_memory_that_is_not_linuxs(tmp_path: Path) -> None:
    path = written(tmp_path / "core", elf.core([elf.Load(0, b"\x5a" * 0x10000)], elf.PRPSINFO + elf.cpu(0)))
    found = rows(path)
    assert "lowcore" in failed(found)
    assert "neither os_info, VMCOREINFO nor a lowcore of Linux" in found["lowcore"].text


def test_info_has_these_checks(tmp_path: Path) -> None:
    with vmcorefs.open(MACHINE.build(tmp_path).image) as dump:
        quick, left_out = quick_checks(dump)
    assert {*ROWS, "search"} <= {result.name for result in quick}
    assert not {*ROWS, "search"} & set(left_out)


# -- real dumps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["k61-smp1.mdf-d31.kdump", "k61-smp1.mdf-d31.elf"])
def test_a_filtered_copy_of_a_kernels_vmcore_is_in_order(name: str) -> None:
    """It ends where the crashkernel area begins, though the kernel knew of memory behind it."""
    found = rows(sample(name))
    assert failed(found) == []
    assert "from 0x6000000 on it was the dump kernel's" in found["memory"].text
    assert "left out on purpose" in found["filtered"].text
