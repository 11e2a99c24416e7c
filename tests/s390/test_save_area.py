"""The registers of one CPU, out of the two places they come from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.builders import CpuState, Registers
from tests.builders.dump_kernel import save_area
from vmcorefs.s390.save_area import SAVE_AREA_SIZE, SaveArea, from_save_area, from_status, pattern

STATE = CpuState(0x1234000, Registers.from_seed("save"))
R = STATE.registers


def check(area: SaveArea) -> None:
    for name in ("psw", "gprs", "acrs", "fprs", "fpc", "todpreg", "timer", "todcmp", "ctrs"):
        assert getattr(area, name) == getattr(R, name), name
    assert area.prefix_address == 0x1234000
    assert area.prefix == b"\x01\x23\x40\x00"


def test_from_the_architected_save_area() -> None:
    area = from_status(STATE.store_status())
    check(area)
    assert area.vxrs_low is area.vxrs_high is None


def test_vector_registers_are_split_into_low_and_high() -> None:
    area = from_status(STATE.store_status(), R.vxrs)
    check(area)
    assert (area.vxrs_low, area.vxrs_high) == (R.vxrs_low, R.vxrs_high)


@pytest.mark.parametrize("todpreg_size", [4, 8])
def test_from_the_dump_kernels_save_area(todpreg_size: int) -> None:
    area = from_save_area((bytes(16) + save_area(STATE, todpreg_size, vector=True))[:SAVE_AREA_SIZE])
    check(area)
    assert (area.vxrs_low, area.vxrs_high) == (R.vxrs_low, R.vxrs_high)


def test_both_places_agree() -> None:
    listed = from_save_area((bytes(16) + save_area(STATE, 4, vector=True))[:SAVE_AREA_SIZE])
    assert listed == from_status(STATE.store_status(), R.vxrs)


def test_todpreg_of_5_8_has_half_of_the_cpu_timer() -> None:
    assert from_status(STATE.store_status()).todpreg_5_8 == R.todpreg + R.timer[:4] == STATE.todpreg_bytes(8)


@pytest.mark.parametrize("name", ["psw", "gprs", "acrs", "fprs", "fpc", "prefix", "todpreg", "timer", "todcmp", "ctrs"])
def test_same_status_looks_at_every_register(name: str) -> None:
    area = from_status(STATE.store_status())
    value = getattr(area, name)
    assert not area.same_status(replace(area, **{name: bytes([value[0] ^ 1]) + value[1:]}))


def test_same_status_does_not_look_at_vector_registers() -> None:
    area = from_status(STATE.store_status())
    assert area.same_status(from_status(STATE.store_status(), R.vxrs))


def test_the_pattern_is_what_the_save_area_holds_at_16() -> None:
    needle = pattern(STATE.store_status())
    assert len(needle) == 272
    assert save_area(STATE, 4, vector=True)[:272] == needle
