"""os_info: each of the kernel's checks, in its order."""

from __future__ import annotations

import pytest

from tests.builders import Entry, OsInfo, cksm
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390 import os_info as product

PAGE = 0x5000
DATA = 0x9004
TEXT = b"OSRELEASE=6.1.0\nPAGESIZE=4096\n"
GOOD = OsInfo(0x6000000, 0x4000000, {
    0: Entry(DATA, len(TEXT), cksm(TEXT)), 4: Entry(0x100), 5: Entry(0x3FFE0000000), 10: Entry(0xA0), 11: Entry(0xB0),
    12: Entry(0xC0)}, version_minor=7)


def read(page: bytes | OsInfo, pointer: int = PAGE, memory: FakeMemory | None = None) -> product.OsInfo | Absent:
    memory = memory or FakeMemory()
    memory.put(PAGE, page if isinstance(page, bytes) else page.to_bytes())
    return product.read_os_info(memory.read, pointer)


def reason(found: object) -> str:
    assert isinstance(found, Absent)
    assert found.suspicious
    return found.reason


def test_a_good_page() -> None:
    found = read(GOOD)
    assert isinstance(found, product.OsInfo)
    assert (found.address, found.version, found.crashkernel) == (PAGE, (1, 7), (0x6000000, 0x4000000))
    assert found.entries[0] == (DATA, len(TEXT), cksm(TEXT))
    assert len(found.entries) == 13
    assert [found.value(i) for i in (4, 5, 10, 11, 12)] == [0x100, 0x3FFE0000000, 0xA0, 0xB0, 0xC0]


def test_an_old_page_has_zero_values() -> None:
    found = read(OsInfo(0x6000000, 0x4000000))
    assert isinstance(found, product.OsInfo)
    assert [found.value(i) for i in range(4, 13)] == [0] * 9


def test_pointer_zero_is_absent_and_nothing_odd() -> None:
    found = read(GOOD, pointer=0)
    assert isinstance(found, Absent)
    assert not found.suspicious
    assert not found


@pytest.mark.parametrize("pointer", [PAGE + 1, PAGE + 8, PAGE + 2048])
def test_a_pointer_that_is_not_page_aligned_is_refused_unread(pointer: int) -> None:
    memory = FakeMemory()
    assert f"{pointer:#x}" in reason(read(GOOD, pointer, memory))
    assert not memory.reads


@pytest.mark.parametrize("pointer", [0x100000, 0xFFFFFFFFFFFFF000])
def test_a_pointer_outside_of_memory(pointer: int) -> None:
    assert f"{pointer:#x} at 0xe18 leads outside" in reason(read(GOOD, pointer))


def test_wrong_magic() -> None:
    assert "magic is" in reason(read(OsInfo(magic=0x4F53494E464F535B)))


def test_wrong_checksum_is_told_with_both_values() -> None:
    text = reason(read(OsInfo(0x6000000, 0x4000000, csum=0xBADC5)))
    assert "checksum is 0x000badc5, computed 0x0a010001" in text


@pytest.mark.parametrize("at", [12, 16, 31, 32, 300, 4095])
def test_every_byte_behind_the_checksum_counts(at: int) -> None:
    page = bytearray(GOOD.to_bytes())
    page[at] ^= 1
    assert "checksum" in reason(read(bytes(page)))


def test_wrong_major_version() -> None:
    assert "version 2.7 is not known" in reason(read(OsInfo(version_major=2, version_minor=7)))


@pytest.mark.parametrize("major", [0, 1])
def test_older_major_versions_are_taken(major: int) -> None:
    assert isinstance(read(OsInfo(version_major=major)), product.OsInfo)


def test_minor_version_is_ignored() -> None:
    assert isinstance(read(OsInfo(version_minor=0xFFFF)), product.OsInfo)


def test_the_order_is_magic_checksum_version() -> None:
    assert "magic" in reason(read(OsInfo(magic=1, csum=2, version_major=3)))
    assert "checksum" in reason(read(OsInfo(csum=2, version_major=3)))


def entry(found: product.OsInfo | Absent, memory: FakeMemory, index: int = 0) -> bytes | Absent:
    assert isinstance(found, product.OsInfo)
    return product.read_data_entry(memory.read, found, index)


def with_entry(value: Entry, data: bytes = TEXT) -> bytes | Absent:
    memory = FakeMemory()
    memory.put(DATA, data)
    return entry(read(OsInfo(entries={0: value}), memory=memory), memory)


def test_a_good_entry() -> None:
    assert with_entry(Entry(DATA, len(TEXT), cksm(TEXT))) == TEXT


def test_an_empty_entry_is_absent_and_nothing_odd() -> None:
    found = with_entry(Entry(0, len(TEXT), cksm(TEXT)))
    assert isinstance(found, Absent)
    assert not found.suspicious


def test_an_entry_with_a_wrong_checksum() -> None:
    assert "checksum" in reason(with_entry(Entry(DATA, len(TEXT), cksm(TEXT) ^ 1)))


@pytest.mark.parametrize("size", [0, 65537, 0xFFFFFFFF, (1 << 64) - 1])
def test_an_entry_of_absurd_size_is_refused_unread(size: int) -> None:
    memory = FakeMemory()
    found = read(OsInfo(entries={0: Entry(DATA, size, 0)}), memory=memory)
    before = len(memory.reads)
    assert f"size {size:#x} is absurd" in reason(entry(found, memory))
    assert len(memory.reads) == before


def test_an_entry_of_the_largest_size() -> None:
    data = bytes(range(256)) * 256
    assert with_entry(Entry(DATA, 65536, cksm(data)), data) == data


@pytest.mark.parametrize("address", [0x100000, 0xFFFF0, (1 << 64) - 1])
def test_an_entry_outside_of_memory(address: int) -> None:
    assert "cannot be read" in reason(with_entry(Entry(address, 32, 0)))


def test_a_page_is_parsed_where_it_was_found() -> None:
    found = product.parse_os_info(GOOD.to_bytes(), 0x12345000)
    assert isinstance(found, product.OsInfo)
    assert found.address == 0x12345000
