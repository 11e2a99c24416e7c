"""The same memory in every container gives the same vmcore, with no option: against the builders' model, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, CpuState, Machine, Model, Registers, cpus
from tests.containers.wrapping import EVERY, MIB, NOTES, PAGE, RANGES, WHOLE, Content, of_image
from vmcorefs.check import run_checks
from vmcorefs.dump import Dump

SMALL = ((0, 0x280000),)
MACHINES = {
    "plain 6.1": Machine(mode="plain", memory=SMALL, cpus=cpus(2)),
    "plain 6.12, KASLR": Machine(mode="plain", memory=SMALL, release="6.12.0", cpus=cpus(3), kernel_offset=0x2E4BA000000,
                                 kernel_offset_phys=0x100000),
    "plain 5.8": Machine(mode="plain", memory=SMALL, release="5.8.0", cpus=cpus(1)),
    "kdump 6.1": Machine(cpus=cpus(2)),
    "kdump 6.12": Machine(release="6.12.0", cpus=cpus(2), base=0x300000),
}
HOLES = ((0, 0x345000), (0x403000, 5 * MIB))


@pytest.fixture(scope="module", params=MACHINES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return MACHINES[request.param].build(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def content(built: Built) -> Content:
    return of_image(built)


@pytest.fixture(scope="module")
def wanted(built: Built) -> bytes:
    return built.model.read(0, built.model.size)


def same(dump: Dump, model: Model) -> None:
    """Every byte."""
    equal(dump.vmcore.pread(dump.vmcore.size, 0), model.read(0, model.size))


def equal(found: bytes, wanted: bytes) -> None:
    if found != wanted:
        first = next(at for at in range(0, max(len(found), len(wanted)), 16) if found[at:at + 16] != wanted[at:at + 16])
        pytest.fail(f"vmcore differs at {first:#x}, its sizes are {len(found):#x} and {len(wanted):#x}")


@pytest.mark.parametrize("name", EVERY)
def test_every_container(built: Built, content: Content, wanted: bytes, name: str, tmp_path: Path) -> None:
    with vmcorefs.open(EVERY[name](content, tmp_path)) as dump:
        assert dump.problems == ()
        assert dump.mode.name == built.machine.mode
        equal(dump.vmcore.pread(dump.vmcore.size, 0), wanted)
        if built.machine.mode == "plain":
            assert dump.found_cpus.origin == ("container's notes" if name in NOTES else "dump header" if dump.image.container.prefixes
                                              else "lowcore_ptr")


@pytest.mark.parametrize("mode", ["plain", "kdump"])
@pytest.mark.parametrize("name", RANGES)
def test_memory_with_a_hole(name: str, mode: str, tmp_path: Path) -> None:
    """A container that knows the ranges of memory: no option is needed, and no dump kernel's header."""
    built = Machine(mode=mode, memory=HOLES, base=MIB if mode == "kdump" else None, cpus=cpus(2)).build(tmp_path)  # type: ignore[arg-type]
    if mode == "kdump":
        built.wipe_dump_kernel()
    with vmcorefs.open(EVERY[name](of_image(built), tmp_path)) as dump:
        kernels = name == "elf of a kernel" and mode == "plain"
        assert dump.physmem.origin == ("dump kernel's own header" if kernels else "container's memory ranges")
        same(dump, built.model)
        assert {problem.code for problem in dump.problems} <= ({"cpu-order"} if mode == "kdump" else set())


@pytest.mark.parametrize("name", WHOLE)
def test_holes_that_the_container_does_not_know_are_not_invented(name: str, tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=HOLES, cpus=cpus(1)).build(tmp_path)
    with vmcorefs.open(EVERY[name](of_image(built), tmp_path)) as dump:
        same(dump, replace(built.model, facts=replace(built.model.facts, ranges=((0, 5 * MIB),))))


@pytest.mark.parametrize("name", NOTES)
def test_registers_of_the_container_win_over_stale_ones_in_memory(name: str, tmp_path: Path) -> None:
    """QEMU stores no status: what is in the save areas is left from boot, or zero. ``info`` shows both."""
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2)).build(tmp_path)
    fresh = tuple(CpuState(cpu.prefix, Registers.from_seed(f"at the dump {cpu.prefix}").with_vector_enabled(enabled=True))
                  for cpu in built.model.facts.cpus)
    stale = built.model.facts.cpus
    model = replace(built.model, facts=replace(built.model.facts, cpus=fresh))
    with vmcorefs.open(EVERY[name](replace(of_image(built), cpus=fresh), tmp_path)) as dump:
        same(dump, model)
        assert dump.problems == ()
        for cpu, before in zip(dump.info().cpus, stale, strict=True):
            assert cpu.origin == "container's notes"
            assert cpu.in_memory == before.registers.psw.hex()
            assert cpu.psw_mask + cpu.psw_address != cpu.in_memory
    with vmcorefs.open(EVERY[name](of_image(built), tmp_path)) as dump:
        assert [cpu.in_memory for cpu in dump.info().cpus] == [None, None]


def test_info_prints_both(tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=SMALL).build(tmp_path)
    fresh = (CpuState(built.model.facts.cpus[0].prefix, Registers.from_seed("at the dump").with_vector_enabled(enabled=True)),)
    path = EVERY["elf, QEMU"](replace(of_image(built), cpus=fresh), tmp_path)
    said = subprocess.run([sys.executable, "-m", "vmcorefs", "info", path], capture_output=True, text=True, check=True, timeout=60).stdout
    new, old = (cpu.registers.psw.hex() for cpu in (fresh[0], built.model.facts.cpus[0]))
    line = next(line for line in said.splitlines() if new[:16] in line)
    text = " ".join(said[said.index(line):].split())
    assert f"PSW {new[:16]} {new[16:]}" in text
    assert f"its save area in memory has other registers, PSW {old[:16]} {old[16:]}" in text
    assert "registers of: 1 CPU(s) [container's notes" in " ".join(said.split())


def test_vector_registers_of_a_container_without_control_register_0_in_memory(tmp_path: Path) -> None:
    """The page with the absolute lowcore's save area was not saved; the notes have them."""
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2)).build(tmp_path)
    content = of_image(built)
    content = replace(content, ranges=((0, PAGE), (2 * PAGE, len(content.memory))))
    for name in ("elf, QEMU", "elf of a kernel"):
        with vmcorefs.open(EVERY[name](content, tmp_path)) as dump:
            assert dump.vector is True
            same(dump, replace(built.model, facts=replace(built.model.facts, ranges=content.ranges)))


@pytest.mark.parametrize("name", NOTES)
def test_a_machine_without_vector_registers(name: str, tmp_path: Path) -> None:
    """QEMU has notes of them all the same."""
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2), crashed_vector=False).build(tmp_path)
    with vmcorefs.open(EVERY[name](of_image(built), tmp_path)) as dump:
        assert dump.problems == ()
        same(dump, built.model)


def test_a_dump_kernel_without_vector_registers(tmp_path: Path) -> None:
    """The crashed kernel used them, the dump kernel was started with novx: its vmcore, and what is made of it, has none."""
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2)).build(tmp_path)
    model = replace(built.model, facts=replace(built.model.facts, vector=False))
    for name in NOTES:
        if "QEMU" not in name:
            with vmcorefs.open(EVERY[name](replace(of_image(built), vector=False), tmp_path)) as dump:
                assert dump.problems == (), name
                same(dump, model)


def test_cpus_that_qemu_lists_and_the_kernel_does_not_know(tmp_path: Path) -> None:
    """Never started (prefix 0) or offline (with an old prefix): no notes in any vmcore. ``info`` and ``check`` say so."""
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2)).build(tmp_path)
    content = of_image(built)
    never = replace(content, cpus=(content.cpus[0], CpuState(0, Registers.from_seed("never started")), content.cpus[1]))
    with vmcorefs.open(EVERY["elf, QEMU"](never, tmp_path)) as dump:
        assert dump.problems == ()
        same(dump, built.model)
    offline = replace(content, cpus=(*content.cpus, CpuState(0x3C000, Registers.from_seed("offline"))))
    with vmcorefs.open(EVERY["elf, QEMU"](offline, tmp_path)) as dump:
        assert dump.problems == ()
        assert "the crashed kernel had no lowcore at 0x3c000, the CPU was offline" in dump.info().cpus_left_out[0]
        (row,) = [row for row in run_checks(dump) if row.name == "container-notes"]
        assert row.status == "ok"
        assert row.text.endswith("1 more were offline, and have no notes in a vmcore")
        same(dump, built.model)


def test_a_container_all_of_whose_cpus_are_of_another_system(tmp_path: Path) -> None:
    """Memory's own registers are served, and a warning says that the container's are not."""
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2)).build(tmp_path)
    content = of_image(built)
    other = replace(content, cpus=(CpuState(0x1000000, content.cpus[0].registers), CpuState(0x1002000, content.cpus[1].registers)))
    with vmcorefs.open(EVERY["elf, QEMU"](other, tmp_path)) as dump:
        assert [problem.code for problem in dump.problems] == ["container-notes"]
        assert "none of the container's 2 CPU(s) is one of this system" in dump.problems[0].text
        assert dump.found_cpus.origin == "lowcore_ptr"
        same(dump, built.model)


# -- VMCOREINFO ------------------------------------------------------------------------------------------------------------


def without_pointer(built: Built) -> Content:
    """Nothing in memory says where VMCOREINFO is."""
    built.poke_old(0xE0C, bytes(8))
    return of_image(built)


def test_a_container_without_vmcoreinfo_gets_it_from_memory(tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=SMALL).build(tmp_path)
    for name in EVERY:
        with vmcorefs.open(EVERY[name](replace(of_image(built), vmcoreinfo=None), tmp_path)) as dump:
            assert dump.image.container.vmcoreinfo is None
            assert dump.vmcoreinfo is not None
            assert dump.vmcoreinfo.origin == "lowcore"
            same(dump, built.model)


def test_memory_without_vmcoreinfo_gets_it_from_the_container(tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=SMALL).build(tmp_path)
    content = without_pointer(built)
    for name in RANGES:
        if "QEMU" not in name and name not in {"LiME", "LiME, unsorted"}:
            with vmcorefs.open(EVERY[name](content, tmp_path)) as dump:
                assert dump.vmcoreinfo is not None
                assert dump.vmcoreinfo.origin == "container", name
                assert dump.info().vmcoreinfo["origin"] == "container"
                same(dump, built.model)


def test_a_dump_kernels_vmcoreinfo_is_not_the_crashed_systems(tmp_path: Path) -> None:
    """In kdump mode the container's notes are the dump kernel's, its VMCOREINFO, too."""
    built = Machine(vmcoreinfo_by=None).build(tmp_path)
    content = replace(of_image(built), vmcoreinfo=b"OSRELEASE=6.1.0-of-the-dump-kernel\nPAGESIZE=4096\n")
    with vmcorefs.open(EVERY["elf"](content, tmp_path)) as dump:
        assert dump.mode.name == "kdump"
        assert dump.vmcoreinfo is None
        same(dump, built.model)


# -- two systems -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["elf, QEMU", "kdump zlib", "s390", "s390_ext zlib", "raw"])
def test_the_other_system(name: str, tmp_path: Path) -> None:
    """A line names it; --select kdump shows its memory with the registers of the container, all everything as it lies."""
    built = Machine(cpus=cpus(2)).build(tmp_path)
    own = CpuState(built.dump_places["lowcore"], Registers.from_seed("dump kernel"))
    content = replace(of_image(built), cpus=(own, CpuState(0x4000, Registers.from_seed("was never started"))))
    path = EVERY[name](content, tmp_path)
    size = built.machine.crash_area[1]
    with vmcorefs.open(path) as dump:
        assert "the dump kernel is in the image, too (--select kdump)" in dump.notice
        same(dump, built.model)
    for select, end in (("kdump", size), ("all", len(content.memory))):
        with vmcorefs.open(path, select=select) as dump:
            assert [tuple(r) for r in dump.memory_map] == [(0, end)]
            assert dump.oldmem.read(0, end) == content.memory[:end]
            assert b"".join(dump.vmcore.pread(PAGE, dump.vmcore.size - end + at) for at in range(0, end, PAGE)) == content.memory[:end]
            # The status in absolute lowcore is the crashed boot CPU's, and no CPU's of this system
            assert [cpu.save_area.psw for cpu in dump.cpus] == ([own.registers.psw] if name in NOTES else [])


@pytest.mark.parametrize("name", RANGES)
def test_a_zfcpdump_system_in_a_container(name: str, tmp_path: Path) -> None:
    """The HSA image is the one thing that must be given."""
    built = Machine(mode="zfcpdump", release="6.12.0", cpus=cpus(2)).build(tmp_path)
    with vmcorefs.open(EVERY[name](of_image(built), tmp_path), hsa=built.hsa) as dump:
        same(dump, built.model)


def test_the_files_of_one_dump_given_one_by_one(tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=SMALL, cpus=cpus(2)).build(tmp_path)
    for name, order in (("kdump, split", (2, 0, 1)), ("parts of raw", (0, 1, 2, 3)), ("parts of an elf", (0, 1, 2))):
        folder = tmp_path / "parts"
        folder.mkdir()
        EVERY[name](of_image(built), folder)
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(tmp_path / f"{'xyzw'[number]}-piece")  # names that say nothing
        files = [tmp_path / f"{'xyzw'[number]}-piece" for number in order]
        folder.rmdir()
        for given in ({"image": files}, {"image": files[0], "part": files[1:]}):
            with vmcorefs.open(**given) as dump:
                assert dump.problems == ()
                same(dump, built.model)
