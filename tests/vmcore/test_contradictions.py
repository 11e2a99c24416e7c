"""Where the image's own evidence contradicts itself, a person is told; and hostile evidence costs no more than honest one."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Machine, cpus
from vmcorefs.elf import Phdr, pack_ehdr
from vmcorefs.s390.elfcorebuf import read_finished_header
from vmcorefs.s390.save_area import pattern
from vmcorefs.s390.save_area_list import find_save_area_list

MIB = 1 << 20


def problems(image: Path, **options: str) -> list[str]:
    with vmcorefs.open(image, **options) as dump:
        return [problem.code for problem in dump.problems]


@pytest.mark.parametrize("base", [2 * MIB, 3 * MIB])  # in the middle of memory, and at its end
def test_zeroed_b_and_s_are_found_again(tmp_path: Path, base: int) -> None:
    """The parameter area has S390EP, but no B and S: a finished header says that a dump kernel ran here all the same."""
    built = Machine(base=base, size=MIB).build(tmp_path)
    built.poke_raw(0x10418, bytes(16))
    with vmcorefs.open(built.image) as dump:
        assert (dump.mode.name, dump.mode.crashkernel) == ("kdump", (base, MIB))
        assert [problem.code for problem in dump.problems] == ["mode"]
        assert dump.merged.header == built.model.header


@pytest.mark.parametrize("base", [2 * MIB, 3 * MIB])
def test_b_and_s_by_the_hole_in_the_finished_header(tmp_path: Path, base: int) -> None:
    """Parameter area and os_info are both gone."""
    built = Machine(base=base, size=MIB, os_info="bad_csum").build(tmp_path)
    built.poke_raw(0x10000, bytes(4096))
    for place in {"os_info", "os_info_old"} & set(built.dump_places):
        built.poke_raw(built.dump_places[place], bytes(4096))
    with vmcorefs.open(built.image) as dump:
        assert (dump.mode.name, dump.mode.crashkernel) == ("kdump", (base, MIB))
        assert [problem.code for problem in dump.problems] == ["mode", "os_info"]
        assert dump.merged.header == built.model.header


def test_other_values_in_the_parameter_area_lose_against_proof(tmp_path: Path) -> None:
    built = Machine(base=3 * MIB, size=MIB).build(tmp_path)
    built.poke_raw(0x10418, (2 * MIB).to_bytes(8, "big"))
    with vmcorefs.open(built.image) as dump:
        assert dump.mode.crashkernel == (3 * MIB, MIB)
        assert [problem.code for problem in dump.problems] == ["mode"]


def test_a_cpu_that_the_list_lost_is_missed(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(3)).build(tmp_path)
    built.poke_raw(built.dump_places["save_area[1]"] + 0x1E4, bytes(4))
    assert problems(built.image)[0] == "save-areas"


@pytest.mark.parametrize("offset", [0xA0, 0x200, 0x280 + 255])  # gprs, v0..v15, v31
def test_other_registers_in_the_list_than_in_the_lowcore(tmp_path: Path, offset: int) -> None:
    built = Machine(cpus=cpus(3)).build(tmp_path)
    built.poke_raw(built.dump_places["save_area[1]"] + offset, b"\x5a")
    assert problems(built.image)[0] == "save-areas"


def test_vector_registers_in_the_crashkernel_area_are_not_believed(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2), with_save_area_list=False, with_elfcorebuf=False, base=2 * MIB, size=MIB).build(tmp_path)
    assert problems(built.image) == []
    built.poke_old(built.places["lowcore[1]"] + 0x11B0, (2 * MIB).to_bytes(8, "big"))
    with vmcorefs.open(built.image) as dump:
        assert [problem.code for problem in dump.problems] == ["vector"]
        assert not dump.vector


def test_a_header_of_other_memory_is_not_used(tmp_path: Path) -> None:
    """Its ranges end elsewhere than the image, and its notes are not those of our CPUs."""
    other = Machine(cpus=cpus(4), memory=((0, 16 * MIB),), base=2 * MIB, size=MIB)
    for name in ("other", "this"):
        (tmp_path / name).mkdir()
    stale = other.build(tmp_path / "other").model.header[:4096]
    built = Machine(cpus=cpus(2), with_elfcorebuf=False, base=2 * MIB, size=MIB).build(tmp_path / "this")
    built.poke_raw(0xF0000, stale)
    with vmcorefs.open(built.image) as dump:
        assert [problem.code for problem in dump.problems] == ["finished-header"]
        assert dump.memory_map == ((0, 2 * MIB), (3 * MIB, 4 * MIB))


def test_our_header_is_compared_with_the_dump_kernels(tmp_path: Path) -> None:
    """lowcore_ptr lost a CPU, and so did the list: only the size of the notes still tells."""
    built = Machine(cpus=cpus(3), with_save_area_list=False).build(tmp_path)
    built.poke_old(built.places["lowcore_ptr"] + 16, bytes(8))
    assert problems(built.image) == ["dump-kernel-header"]
    assert problems(built.image, layout="6.1") == []  # what was asked for is no contradiction


def test_a_page_that_claims_65535_program_headers_is_read_no_further() -> None:
    asked = []

    def read(address: int, size: int) -> bytes:
        asked.append(size)
        return (pack_ehdr(0xFFFF) + Phdr(4, 0, 0x123000, 0, 0, 4, 4, 0).pack() + bytes(4096))[:size]

    assert read_finished_header(read, 0) is None
    assert sum(asked) <= 4096


def test_chains_through_the_same_elements_are_followed_once() -> None:
    """Elements that all bear the boot CPU's registers, chained without an end: one walk, not one from each."""
    status = bytes(range(256)) * 2
    count, step = 300, 0x400
    memory = bytearray((count + 2) * step)
    for i in range(count):
        here = (i + 1) * step
        memory[here:here + 16] = (here + step).to_bytes(8, "big") + (here - step if i else 8).to_bytes(8, "big")
        memory[here + 16:here + 16 + 272] = pattern(status)
        for at, source, size in ((0x120, 0x140, 64), (0x160, 0, 128), (0x1E0, 0x11C, 4), (0x1E4, 0x118, 4), (0x1E8, 0x124, 4),
                                 (0x1F0, 0x128, 8), (0x1F8, 0x130, 8)):
            memory[here + at:here + at + size] = status[source:source + size]
    reads = 0

    def read(address: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        return bytes(memory[address:address + size])

    found = find_save_area_list(read, lambda start, end, overlap: iter([(0, bytes(memory))]), len(memory), status, None)
    assert not found
    assert reads <= 2 * count
