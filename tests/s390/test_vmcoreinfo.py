"""VMCOREINFO: finding the note as the kernel does, and reading numbers out of an untrusted text."""

from __future__ import annotations

import struct

import pytest

from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo, read_vmcoreinfo_note

TEXT = b"OSRELEASE=6.1.192-gold\nPAGESIZE=4096\nSYMBOL(init_task)=46c500\nLENGTH(lowcore_ptr)=512\nCRASHTIME=1795623349\n"


def note(desc: bytes = TEXT, name: bytes = b"VMCOREINFO\0\0", namesz: int = 11, descsz: int | None = None) -> bytes:
    return struct.pack(">III", namesz, len(desc) if descsz is None else descsz, 0) + name + desc


def read(data: bytes, at: int = 0x8000, pointer: int | None = None) -> Vmcoreinfo | Absent:
    memory = FakeMemory()
    memory.put(at, data)
    return read_vmcoreinfo_note(memory.read, at if pointer is None else pointer)


def reason(found: object) -> str:
    assert isinstance(found, Absent)
    assert found.suspicious
    return found.reason


def test_a_note() -> None:
    assert read(note()) == Vmcoreinfo(TEXT, "lowcore", 0x8018)


def test_a_note_need_not_be_aligned_to_more_than_2() -> None:
    assert isinstance(read(note(), at=0x8002), Vmcoreinfo)


def test_the_descriptor_is_at_24_whatever_n_namesz_says() -> None:
    found = read(note(namesz=100))
    assert isinstance(found, Vmcoreinfo)
    assert found.desc == TEXT


def test_an_empty_descriptor_is_one() -> None:
    found = read(note(b""))
    assert isinstance(found, Vmcoreinfo)
    assert found.desc == b""


def test_pointer_zero() -> None:
    assert "pointer at 0xe0c is 0" in reason(read(note(), pointer=0))


def test_an_odd_pointer_is_a_kaslr_offset_of_an_early_crash() -> None:
    text = reason(read(note(), pointer=0x2E4BA6A0001))
    assert "crashed early" in text
    assert "0x2e4ba6a0000 | 1" in text


def test_an_odd_pointer_is_not_followed() -> None:
    assert isinstance(read(note(), at=0x8001), Absent)


@pytest.mark.parametrize("pointer", [0x100000, 0xFFFFFFFFFFFFF000, 0xFFFFFFFFFFFFFFFE, 1 << 63])
def test_a_pointer_outside_of_memory(pointer: int) -> None:
    assert f"{pointer:#x} at 0xe0c leads outside" in reason(read(note(), pointer=pointer))


@pytest.mark.parametrize("name", [b"VMCOREINFX\0\0", b"vmcoreinfo\0\0", bytes(12)])
def test_another_name_is_no_note(name: bytes) -> None:
    assert "no such note at 0x8000" in reason(read(note(name=name)))


def test_only_ten_bytes_of_the_name_are_compared() -> None:
    assert isinstance(read(note(name=b"VMCOREINFOxx")), Vmcoreinfo)


def test_an_absurd_size_is_refused() -> None:
    assert "size 0x10001 is absurd" in reason(read(note(descsz=65537)))
    assert "0xffffffff" in reason(read(note(descsz=0xFFFFFFFF)))


def test_the_largest_size() -> None:
    found = read(note(b"x" * 65536))
    assert isinstance(found, Vmcoreinfo)
    assert len(found.desc) == 65536


def test_a_descriptor_that_leaves_memory() -> None:
    assert "0x1000 bytes cannot be read" in reason(read(note(descsz=4096), at=0x100000 - 0x100))


def info(text: str | bytes) -> Vmcoreinfo:
    return Vmcoreinfo(text if isinstance(text, bytes) else text.encode(), "option")


def test_keys_and_values() -> None:
    fields = info(TEXT).fields
    assert fields == {"OSRELEASE": "6.1.192-gold", "PAGESIZE": "4096", "SYMBOL(init_task)": "46c500", "LENGTH(lowcore_ptr)": "512",
                      "CRASHTIME": "1795623349"}


def test_the_first_of_two_lines_with_one_key_wins() -> None:
    assert info("SYMBOL(a)=10\nSYMBOL(a)=20\n").symbol("a") == 0x10


def test_lines_without_equals_sign_and_bytes_that_are_no_text_do_no_harm() -> None:
    found = info(b"\xff\xfe=\x80\nnonsense\n\n=5\nOSRELEASE=6.1.0\0\0")
    assert found.osrelease == "6.1.0"


def test_a_value_may_hold_an_equals_sign() -> None:
    assert info("BUILD-ID=a=b\n").fields["BUILD-ID"] == "a=b"


def test_numbers_are_hex_or_of_the_base_asked_for() -> None:
    found = info(TEXT)
    assert found.symbol("init_task") == 0x46C500
    assert found.number("LENGTH(lowcore_ptr)", 10) == 512


@pytest.mark.parametrize("value", [
    "", " ", "xyz", "-5", "+5", "1_000", " 10", "10 ", "10\r", "\u0661", "10000000000000000", "1" * 5000, "1.5",
])
def test_what_is_no_64_bit_number_is_none(value: str) -> None:
    assert info(f"SYMBOL(a)={value}\n").symbol("a") is None


def test_the_largest_number() -> None:
    assert info("SYMBOL(a)=ffffffffffffffff\n").symbol("a") == (1 << 64) - 1


def test_a_number_that_is_not_there_is_none() -> None:
    assert info("").number("KERNELOFFSET") is None


@pytest.mark.parametrize("release", ["", "x" * 65, "6.1\x1b[0m"])
def test_what_cannot_be_a_release_is_none(release: str) -> None:
    assert info(f"OSRELEASE={release}\n").osrelease is None


@pytest.mark.parametrize("virtual", [0, 0x1000, 0x2E4BABC0208, (1 << 64) - 1])
def test_without_kerneloffphys_virtual_is_absolute(virtual: int) -> None:
    assert info("KERNELOFFSET=1000\n").physical(virtual) == virtual


@pytest.mark.parametrize(("virtual", "absolute"), [
    (0x2E4BABC0208, 0x10C0208),  # reference 14: lowcore_ptr of k612-smp2
    (0x2E4BA6A0000, 0xBA0000),
    (0xC788000, 0xC788000 - 0x5000),
    (0x5000, 0),
])
def test_with_kerneloffphys_the_image_is_mapped_on_its_own(virtual: int, absolute: int) -> None:
    assert info("IDENTITYBASE=5000\nKERNELOFFSET=2e4ba6a0000\nKERNELOFFPHYS=ba0000\n").physical(virtual) == absolute


def test_below_the_identity_base_wraps_to_what_no_memory_has() -> None:
    found = info("IDENTITYBASE=5000\nKERNELOFFSET=2e4ba6a0000\nKERNELOFFPHYS=ba0000\n").physical(0x1000)
    assert found == (1 << 64) - 0x4000
