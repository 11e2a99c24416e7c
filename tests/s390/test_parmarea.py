"""The parameter area at 0x10400 and what makes B and S sane."""

from __future__ import annotations

import pytest

from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390.parmarea import Crashkernel, has_kernel_image, read_crashkernel

MIB = 1 << 20


def test_base_and_size_are_read_where_the_kernel_has_them() -> None:
    memory = FakeMemory()
    memory.put_u64(0x10418, 0x6000000, 0x4000000)
    assert read_crashkernel(memory.read) == Crashkernel(0x6000000, 0x4000000)


def test_zeros_are_absent_and_nothing_odd() -> None:
    found = read_crashkernel(FakeMemory().read)
    assert isinstance(found, Absent)
    assert not found.suspicious


def test_one_zero_is_not_absent_but_insane() -> None:
    memory = FakeMemory()
    memory.put_u64(0x10418, 0x6000000, 0)
    found = read_crashkernel(memory.read)
    assert isinstance(found, Crashkernel)
    assert not found.sane()


def test_an_unreadable_page_is_absent() -> None:
    memory = FakeMemory()
    memory.bad = [(0x10000, 0x11000)]
    found = read_crashkernel(memory.read)
    assert isinstance(found, Absent)
    assert "cannot be read" in found.reason
    assert has_kernel_image(memory.read) is False


@pytest.mark.parametrize(("data", "found"), [(b"S390EP", True), (b"S390EX", False), (bytes(6), False)])
def test_kernel_image(data: bytes, found: bool) -> None:
    memory = FakeMemory()
    memory.put(0x10008, data)
    assert has_kernel_image(memory.read) is found


@pytest.mark.parametrize(("base", "size"), [(MIB, MIB), (0x7500000, 0x4000000), (1 << 50, MIB), (2 * MIB, 2 * MIB)])
def test_sane(base: int, size: int) -> None:
    area = Crashkernel(base, size)
    assert area.sane()
    assert area.end == base + size


@pytest.mark.parametrize(("base", "size", "words"), [
    (0, MIB, "0x0"), (MIB, 0, "0x0"), (0, 0, "greater than 0"), (MIB + 4096, MIB, "0x101000"), (MIB, MIB // 2, "0x80000"),
    (MIB, 2 * MIB, "overlap"), ((1 << 64) - MIB, 2 * MIB, "64 bits"),
])
def test_insane_says_why_with_the_value(base: int, size: int, words: str) -> None:
    why = Crashkernel(base, size).why_not()
    assert why is not None
    assert words in why
    assert not Crashkernel(base, size).sane()
