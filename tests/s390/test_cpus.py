"""CPUs out of the crashed system's memory: lowcore_ptr, prefix scan, their order; every pointer may be a lie."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.builders import Cpu, CpuState, Machine, Registers, cpus
from tests.builders.lowcore import Lowcore
from tests.captures import sparse
from tests.image.bad_disk import BadDisk
from tests.s390.fake_memory import FakeMemory
from vmcorefs import Dump
from vmcorefs import open as open_dump
from vmcorefs.s390.cpus import Cpus, boot_only, from_list, from_lowcores
from vmcorefs.s390.save_area import from_status
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

MIB = 1 << 20
ARRAY = 0x6000
PREFIXES = (0x20000, 0x24000, 0x22000)
STATES = tuple(CpuState(p, Registers.from_seed(p)) for p in PREFIXES)
BOOT = STATES[0].store_status()


def info(length: object = 512, symbol: int | str = ARRAY, extra: str = "") -> Vmcoreinfo:
    text = symbol if isinstance(symbol, str) else f"{symbol:x}"
    return Vmcoreinfo(f"SYMBOL(lowcore_ptr)={text}\nLENGTH(lowcore_ptr)={length}\n{extra}".encode(), "lowcore")


def machine(states: Sequence[CpuState] = STATES, pointers: Sequence[int] | None = None, *, vectors: bool = True) -> FakeMemory:
    memory = FakeMemory()
    for number, state in enumerate(states):
        mcesad = 0x40000 + 0x400 * number if vectors else 0
        memory.put(state.prefix, Lowcore(cpu_nr=number, mcesad=mcesad, status=state.store_status()).to_bytes())
        memory.put(0x40000 + 0x400 * number, state.registers.vxrs)
    array = list(pointers if pointers is not None else [s.prefix for s in states])
    memory.put(ARRAY, struct.pack(f">{len(array)}Q", *array))
    return memory


def look(memory: FakeMemory, vmcoreinfo: Vmcoreinfo | None = None, *, boot: bytes | None = BOOT,
         skip: tuple[int, int] | None = None, no_info: bool = False) -> Cpus:
    used = None if no_info else vmcoreinfo or info()
    return from_lowcores(memory.read, memory.scan, boot, used, skip)


def prefixes(found: Cpus) -> list[int]:
    return [cpu.save_area.prefix_address for cpu in found.cpus]


# -- lowcore_ptr -----------------------------------------------------------------------------------------------------------


def test_lowcore_ptr_gives_all_cpus_by_logical_number() -> None:
    found = look(machine())
    assert found.origin == "lowcore_ptr"
    assert prefixes(found) == list(PREFIXES)
    assert [cpu.logical for cpu in found.cpus] == [0, 1, 2]
    assert found.left_out == ()
    assert found.vector_reason is None


def test_registers_and_vector_registers_are_the_cpus_own() -> None:
    for cpu, state in zip(look(machine()).cpus, STATES, strict=True):
        assert cpu.save_area == from_status(state.store_status(), state.registers.vxrs)


def test_the_boot_cpu_is_first_whatever_its_number() -> None:
    found = look(machine(), boot=STATES[2].store_status())
    assert prefixes(found) == [PREFIXES[2], PREFIXES[0], PREFIXES[1]]


def test_the_boot_cpus_registers_are_those_at_absolute_0x1200() -> None:
    other = CpuState(PREFIXES[0], Registers.from_seed("other"))
    found = look(machine(), boot=other.store_status())
    assert found.cpus[0].save_area.gprs == other.registers.gprs
    assert found.cpus[0].save_area.vxrs_high == STATES[0].registers.vxrs_high


def test_holes_in_the_array_are_cpus_that_never_started() -> None:
    found = look(machine(pointers=[PREFIXES[0], 0, 0, PREFIXES[1], 0]), info(5))
    assert prefixes(found) == list(PREFIXES[:2])
    assert [cpu.logical for cpu in found.cpus] == [0, 3]


def test_a_cpu_without_stored_status_is_left_out_with_the_reason() -> None:
    memory = machine()
    memory.put(PREFIXES[1] + 0x1318, bytes(4))
    found = look(memory)
    assert prefixes(found) == [PREFIXES[0], PREFIXES[2]]
    assert len(found.left_out) == 1
    assert f"{PREFIXES[1]:#x}" in found.left_out[0]


def test_the_array_reaches_to_its_length_only() -> None:
    assert prefixes(look(machine(), info(2))) == list(PREFIXES[:2])


SCANNED = [PREFIXES[0], *sorted(PREFIXES[1:], key=PREFIXES.index)]


@pytest.mark.parametrize("length", ["0", "4097", "18446744073709551615", "99999999999999999999999", "-1", "", "x", "200h"])
def test_an_absurd_length_falls_back_to_the_scan(length: str) -> None:
    found = look(machine(), info(length))
    assert found.origin == "prefix scan"
    assert prefixes(found) == SCANNED


def test_the_largest_length_is_taken() -> None:
    assert look(machine(), info(4096)).origin == "lowcore_ptr"


@pytest.mark.parametrize("symbol", ["", "zz", "100000", "ffff8", "fffffffffffffff8", "8000000000000000"])
def test_an_array_that_cannot_be_read_falls_back_to_the_scan(symbol: str) -> None:
    assert look(machine(), info(symbol=symbol)).origin == "prefix scan"


@pytest.mark.parametrize("pointers", [
    [PREFIXES[0], PREFIXES[0]],  # twice
    [PREFIXES[0], PREFIXES[1] + 0x1000],  # no multiple of 8 KiB
    [PREFIXES[0], PREFIXES[1] + 1],
    [PREFIXES[0], 0x80000000],  # not below 2 GiB
    [PREFIXES[0], 0xFFFFFFFFFFFFE000],
    [PREFIXES[0], 0x1_0000_0000 + PREFIXES[1]],
    [0, 0, 0],
])
def test_an_array_with_one_impossible_pointer_falls_back_to_the_scan(pointers: list[int]) -> None:
    found = look(machine(pointers=pointers), info(len(pointers)))
    assert found.origin == "prefix scan"
    assert prefixes(found) == SCANNED


def test_a_pointer_outside_of_memory_is_left_out_and_the_others_stay() -> None:
    found = look(machine(pointers=[*PREFIXES, 0x7FFFE000]), info(4))
    assert prefixes(found) == list(PREFIXES)
    assert len(found.left_out) == 1
    assert "0x7fffe000" in found.left_out[0]


def test_a_boot_cpu_that_the_array_does_not_name_is_first_all_the_same() -> None:
    found = look(machine(pointers=PREFIXES[1:]), info(2))
    assert prefixes(found) == list(PREFIXES)


def test_pointers_of_6_10_are_translated() -> None:
    identity = 0x5000000000
    memory = machine(pointers=[p + identity for p in PREFIXES])
    text = f"IDENTITYBASE={identity:x}\nKERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=1000\n"
    found = look(memory, info(3, ARRAY - 0x1000 + 0x3FFE0000000, text))
    assert found.origin == "lowcore_ptr"
    assert prefixes(found) == list(PREFIXES)


# -- prefix scan -----------------------------------------------------------------------------------------------------------


def test_without_vmcoreinfo_lowcores_are_searched() -> None:
    found = look(machine(), no_info=True)
    assert found.origin == "prefix scan"
    assert prefixes(found) == list(PREFIXES)


def test_the_crashkernel_area_is_not_searched() -> None:
    found = look(machine(), no_info=True, skip=(0x22000, 0x24000))
    assert prefixes(found) == list(PREFIXES[:2])


@pytest.mark.parametrize(("offset", "data"), [
    (0x1A0, bytes(8)),  # restart_psw
    (0x340, bytes(8)),  # current_task
    (0x3A0, struct.pack(">I", 512)),  # cpu_nr
    (0x1318, bytes(4)),
    (0x1318, struct.pack(">I", 0x26000)),
])
def test_what_is_no_lowcore_is_not_found(offset: int, data: bytes) -> None:
    memory = machine()
    memory.put(PREFIXES[1] + offset, data)
    assert PREFIXES[1] not in prefixes(look(memory, no_info=True))


def test_of_two_lowcores_with_one_number_the_first_counts() -> None:
    memory = machine()
    memory.put(0x2A000, Lowcore(cpu_nr=1, status=CpuState(0x2A000, Registers.from_seed(9)).store_status()).to_bytes())
    assert prefixes(look(memory, no_info=True)) == list(PREFIXES)


def test_nothing_at_all_gives_no_cpu() -> None:
    found = look(FakeMemory(), boot=None, no_info=True)
    assert (found.cpus, found.origin) == ((), "none")


def test_without_a_stored_status_anywhere_no_cpu_is_invented() -> None:
    memory = FakeMemory()
    for number, state in enumerate(STATES):
        memory.put(state.prefix, Lowcore(cpu_nr=number, cregs=state.registers.ctrs).to_bytes())
    memory.put(ARRAY, struct.pack(">3Q", *PREFIXES))
    found = look(memory, info(3), boot=None)
    assert found.cpus == ()
    assert len(found.left_out) == 3


def test_a_lowcore_next_to_a_bad_page_is_found_by_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Machine(cpus=cpus(3), vmcoreinfo_by="early", with_save_area_list=False, crashed_vector=False,
                    vector=False).build(tmp_path)
    behind = built.machine.crash_area[0] + built.places["lowcore[2]"] + 0x2000
    BadDisk(monkeypatch, built.image, [(behind, behind + 512)])
    with open_dump(built.image) as dump:
        assert prefixes(dump.found_cpus) == [built.places[f"lowcore[{i}]"] for i in range(3)]


# -- boot CPU --------------------------------------------------------------------------------------------------------------


def test_a_boot_cpu_with_prefix_zero_has_no_notes_and_no_number() -> None:
    """CPU 0 was offline: everything of it is in absolute lowcore, its saved prefix is 0 (D3)."""
    boot = CpuState(0, Registers.from_seed("boot")).store_status()
    found = look(machine(STATES[1:], [0, *PREFIXES[1:]]), info(3), boot=boot)
    assert prefixes(found) == list(PREFIXES[1:])


@pytest.mark.parametrize("prefix", [0x1000, 0x20001, 0x80000000, 0xFFFFFFFF])
def test_a_boot_prefix_that_is_no_address_of_a_lowcore_is_left_out_with_its_value(prefix: int) -> None:
    boot = CpuState(prefix, Registers.from_seed("boot")).store_status()
    found = look(machine(), boot=boot)
    assert prefixes(found) == list(PREFIXES)
    assert any(f"{prefix:#x}" in reason for reason in found.left_out)


def test_vector_registers_that_are_not_known_are_told_and_not_invented() -> None:
    found = look(machine(vectors=False))
    assert found.vector_reason is not None
    assert "mcesad" in found.vector_reason
    assert found.cpus[0].save_area.vxrs_high is None


# -- order -----------------------------------------------------------------------------------------------------------------


def with_pcpu(addresses: Sequence[int]) -> FakeMemory:
    """6.12: lowcore.pcpu points to struct pcpu."""
    memory = machine()
    for i, (prefix, address) in enumerate(zip(PREFIXES, addresses, strict=True)):
        memory.put_u64(prefix + 0x288, 0x50000 + 0x100 * i)
        memory.put(0x50000 + 0x100 * i + 0x22, struct.pack(">H", address))
    return memory


def test_others_stand_by_rising_cpu_address() -> None:
    found = look(with_pcpu([5, 9, 2]))
    assert prefixes(found) == [PREFIXES[0], PREFIXES[2], PREFIXES[1]]
    assert [cpu.address for cpu in found.cpus] == [5, 2, 9]
    assert [cpu.logical for cpu in found.cpus] == [0, 2, 1]
    assert found.order_assumed is not None


def test_an_order_that_both_numbers_agree_on_is_not_assumed() -> None:
    assert look(with_pcpu([0, 1, 2])).order_assumed is None


def test_two_cpus_with_one_address_are_not_believed() -> None:
    found = look(with_pcpu([0, 7, 7]))
    assert prefixes(found) == list(PREFIXES)
    assert found.order_assumed is not None
    assert "same address" in found.order_assumed


def test_without_addresses_the_order_is_logical_and_assumed() -> None:
    found = look(machine())
    assert prefixes(found) == list(PREFIXES)
    assert found.order_assumed is not None
    assert "logical" in found.order_assumed


def test_one_cpu_beside_the_boot_cpu_has_only_one_order() -> None:
    assert look(machine(STATES[:2], PREFIXES[:2]), info(2)).order_assumed is None


@pytest.mark.parametrize("pointer", [0x100000, 0xFFFFFFFFFFFFFFF8, 0x50004])
def test_a_pcpu_pointer_that_leads_nowhere_loses_the_order_only(pointer: int) -> None:
    memory = with_pcpu([0, 1, 2])
    memory.put_u64(PREFIXES[1] + 0x288, pointer)
    found = look(memory)
    assert sorted(prefixes(found)) == sorted(PREFIXES)
    assert found.order_assumed is not None


# -- the other sources -----------------------------------------------------------------------------------------------------


def test_of_the_dump_kernels_list_those_with_prefix_zero_are_dropped() -> None:
    areas = [from_status(s.store_status()) for s in (STATES[0], CpuState(0, STATES[1].registers), STATES[2])]
    found = from_list(areas)
    assert prefixes(found) == [PREFIXES[0], PREFIXES[2]]
    assert found.origin == "save area list"


def test_in_zfcpdump_without_the_list_only_the_boot_cpu_is_known() -> None:
    found = boot_only(BOOT, info(3), machine().read, "its list is lost")
    assert prefixes(found) == [PREFIXES[0]]
    assert len(found.left_out) == 2
    assert found.vector_reason is not None


def test_in_zfcpdump_a_boot_cpu_with_prefix_zero_has_no_notes() -> None:
    found = boot_only(CpuState(0, Registers.from_seed(1)).store_status(), None, FakeMemory().read, "its list is lost")
    assert (found.cpus, found.origin) == ((), "none")


# -- real and synthetic machines -------------------------------------------------------------------------------------------


def opened(built: object, **options: object) -> Dump:
    return open_dump(built.image, hsa=built.hsa, **options)  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", ["list", "lowcore_ptr", "prefix scan"])
@pytest.mark.parametrize("release", ["6.1.0", "6.12.0"])
def test_all_three_sources_give_equal_notes(tmp_path: Path, source: str, release: str) -> None:
    built = Machine(release=release, cpus=cpus(4), with_save_area_list=source == "list",
                    with_lowcore_ptr=source != "prefix scan").build(tmp_path)
    with opened(built) as dump:
        assert dump.found_cpus.origin == ("save area list" if source == "list" else source)
        assert dump.vmcore.header == built.model.header


def test_cpu_0_offline(tmp_path: Path) -> None:
    for wiped in (False, True):
        built = Machine(cpus=(Cpu(0, online=False), Cpu(1), Cpu(2))).build(tmp_path)
        if wiped:
            built.wipe_dump_kernel()
        with opened(built) as dump:
            assert len(dump.cpus) == 2
            assert dump.vmcore.header == built.model.header


def test_hotplugged_in_another_order_by_6_12s_own_addresses(tmp_path: Path) -> None:
    built = Machine(release="6.12.0", cpus=(Cpu(0), Cpu(1), Cpu(3), Cpu(2))).build(tmp_path)
    built.wipe_dump_kernel()
    with opened(built) as dump:
        assert [cpu.address for cpu in dump.cpus] == [0, 1, 2, 3]
        assert [p.code for p in dump.problems] == ["cpu-order"]
        assert dump.vmcore.header == built.model.header


def wipe(capture: sparse.SparseCapture, image: Path) -> None:
    """Zeros in the dump kernel's memory but for lowcore and parameter area."""
    with image.open("r+b") as file:
        for start, end in ((0x2000, 0x10000), (0x12000, capture.size)):
            file.seek(start)
            file.write(bytes(end - start))


def test_the_order_of_a_real_hotplug_machine_from_kallsyms_alone(tmp_path: Path) -> None:
    """k61-hot: logical CPU 2 has address 3, logical 3 has 2. Its list is wiped; pcpu_devices is found by kallsyms."""
    capture = sparse.load("k61-hot")
    expanded = sparse.expand("k61-hot", tmp_path)
    wipe(capture, expanded.image)
    with open_dump(expanded.image) as dump:
        assert dump.found_cpus.origin == "lowcore_ptr"
        assert [cpu.logical for cpu in dump.cpus] == [0, 1, 3, 2]
        assert [cpu.address for cpu in dump.cpus] == [0, 1, 2, 3]
        assert [p.code for p in dump.problems] == ["cpu-order"]
        assert dump.vmcore.header == capture.header


def test_the_same_without_kallsyms_has_the_logical_order_and_says_so(tmp_path: Path) -> None:
    capture = sparse.load("k61-hot")
    expanded = sparse.expand("k61-hot", tmp_path)
    wipe(capture, expanded.image)
    with expanded.image.open("r+b") as file:
        for run in capture.kept["crashed: kallsyms"]["image"]:
            start, _, end = run.partition("-")
            file.seek(int(start, 16))
            file.write(bytes(int(end, 16) - int(start, 16)))
    with open_dump(expanded.image) as dump:
        assert [cpu.logical for cpu in dump.cpus] == [0, 1, 2, 3]
        assert [p.code for p in dump.problems] == ["cpu-order"]
        assert dump.vmcore.header != capture.header


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).mode == "kdump" and n != "k61-hot"])
def test_a_wiped_dump_kernel_makes_no_difference_to_a_real_machines_header(tmp_path: Path, name: str) -> None:
    capture = sparse.load(name)
    expanded = sparse.expand(name, tmp_path)
    wipe(capture, expanded.image)
    with open_dump(expanded.image) as dump:
        assert dump.vmcore.header == capture.header
        assert dump.vmcore.size == capture.vmcore_size
