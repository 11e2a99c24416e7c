"""Absolute lowcore and a CPU's lowcore."""

from __future__ import annotations

import struct

import pytest

from tests.builders import Registers
from tests.builders.lowcore import Lowcore
from tests.builders.registers import CpuState
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390.lowcore import AbsoluteLowcore, is_prefix, read_absolute_lowcore, read_status, read_vector_registers

STATE = CpuState(0x20000, Registers.from_seed(3))


def absolute(page: bytes) -> AbsoluteLowcore:
    memory = FakeMemory()
    memory.put(0, page)
    found = read_absolute_lowcore(memory.read)
    assert isinstance(found, AbsoluteLowcore)
    return found


def test_fields_of_absolute_lowcore() -> None:
    page = Lowcore(absolute=True, vmcore_info=0x1122334455667788, os_info=0x99AA000, status=STATE.store_status())
    found = absolute(page.to_bytes())
    assert (found.vmcore_info, found.os_info) == (0x1122334455667788, 0x99AA000)
    assert found.status == STATE.store_status()
    assert len(found.status) == 512


def test_an_unreadable_lowcore_is_absent() -> None:
    memory = FakeMemory()
    memory.bad = [(0x800, 0x801)]
    found = read_absolute_lowcore(memory.read)
    assert isinstance(found, Absent)
    assert "not there" in found.reason


def test_of_a_lowcore_whose_second_page_is_unreadable_the_pointers_are_known() -> None:
    memory = FakeMemory()
    memory.bad = [(0x1FFF, 0x2000)]
    found = read_absolute_lowcore(memory.read)
    assert isinstance(found, AbsoluteLowcore)
    assert (found.status, found.vector_enablement) == (None, None)


@pytest.mark.parametrize(("cr0", "enabled"), [
    (0x14146200, False), (0x14166200, True), (0x20000, True), (0xFFFFFFFFFFFDFFFF, False)])
def test_vector_enablement_is_one_bit_of_control_register_0(cr0: int, enabled: bool) -> None:
    assert absolute(Lowcore(absolute=True, cregs=cr0.to_bytes(8, "big")).to_bytes()).vector_enablement is enabled


@pytest.mark.parametrize("is_absolute", [True, False])
def test_new_psws_of_a_kernel_are_evidence(is_absolute: bool) -> None:
    assert absolute(Lowcore(absolute=is_absolute, kernel_offset=0x3FFE0000000).to_bytes()).new_psws_valid


def test_zeros_are_no_new_psws() -> None:
    assert not absolute(bytes(0x2000)).new_psws_valid


@pytest.mark.parametrize("psw", [0x1A0, 0x1B0, 0x1C0, 0x1D0, 0x1E0, 0x1F0])
@pytest.mark.parametrize(("mask", "address"), [
    (0, 0x1000),  # no addressing mode
    (0x0404C00080000000, 0x1000),  # 31 bit
    (0x0404C00100000000, 0x1000),  # invalid addressing mode
    (0x0404C00180000000, 0x1001),  # odd
    (0x0404C00180000000, 0),
    (0x8404C00180000000, 0x1000),  # bit 0
    (0x040CC00180000000, 0x1000),  # bit 12: ESA/390
    (0x0404C00180000001, 0x1000),  # bit 63
    (0x0404C07E80000000 | 1 << 32, 0x1000),  # bits 25..30
])
def test_one_wrong_new_psw_and_it_is_no_lowcore(psw: int, mask: int, address: int) -> None:
    page = bytearray(Lowcore(absolute=True).to_bytes())
    struct.pack_into(">QQ", page, psw, mask, address)
    assert not absolute(bytes(page)).new_psws_valid


@pytest.mark.parametrize("value", [0x2000, 0x7FFFE000, 0xC788000])
def test_a_prefix(value: int) -> None:
    assert is_prefix(value)


@pytest.mark.parametrize("value", [0, 0x1000, 0x2001, 0x80000000, 0x80002000, 1 << 40, (1 << 64) - 0x2000])
def test_no_prefix(value: int) -> None:
    assert not is_prefix(value)


def lowcore(prefix: int, **fields: object) -> FakeMemory:
    memory = FakeMemory()
    memory.put(prefix, Lowcore(**fields).to_bytes())  # type: ignore[arg-type]
    return memory


def test_a_stored_status_names_its_own_lowcore() -> None:
    memory = lowcore(0x20000, status=STATE.store_status())
    assert read_status(memory.read, 0x20000) == STATE.store_status()


def test_a_lowcore_without_stored_status_has_none() -> None:
    found = read_status(lowcore(0x20000, cregs=STATE.registers.ctrs).read, 0x20000)
    assert isinstance(found, Absent)
    assert "0x20000 (its prefix field is 0x0)" in found.reason


def test_a_status_with_another_prefix_is_none() -> None:
    assert isinstance(read_status(lowcore(0x22000, status=STATE.store_status()).read, 0x22000), Absent)


def test_a_lowcore_outside_of_memory_has_no_status() -> None:
    assert isinstance(read_status(FakeMemory().read, 0x7FFFE000), Absent)


def test_vector_registers_are_where_the_lowcore_points() -> None:
    memory = lowcore(0x20000, mcesad=0x30000)
    memory.put(0x30000, STATE.registers.vxrs)
    assert read_vector_registers(memory.read, 0x20000) == STATE.registers.vxrs


def test_the_length_characteristic_is_no_part_of_the_address() -> None:
    memory = lowcore(0x20000, mcesad=0x30000 | 11)
    memory.put(0x30000, STATE.registers.vxrs)
    assert read_vector_registers(memory.read, 0x20000) == STATE.registers.vxrs


@pytest.mark.parametrize("mcesad", [0, 11, 0x3FF])
def test_mcesad_zero_means_unknown_registers(mcesad: int) -> None:
    found = read_vector_registers(lowcore(0x20000, mcesad=mcesad).read, 0x20000)
    assert isinstance(found, Absent)
    assert "mcesad" in found.reason


@pytest.mark.parametrize("mcesad", [0x100000, 0xFFE00, (1 << 64) - 0x400])
def test_mcesad_outside_of_memory_means_unknown_registers(mcesad: int) -> None:
    memory = lowcore(0x20000, mcesad=mcesad)
    memory.bad = [(0xFFC00, 0x100000)]
    assert isinstance(read_vector_registers(memory.read, 0x20000), Absent)


def test_an_unreadable_lowcore_means_unknown_registers() -> None:
    assert isinstance(read_vector_registers(FakeMemory(0x2000).read, 0x20000), Absent)
