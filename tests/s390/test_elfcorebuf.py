"""The dump kernel's finished header as evidence: decoys are rejected, one row each."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from tests.builders import CpuState, Facts, Header, KernelImage, Layout, Registers
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390.elfcorebuf import FinishedHeader, find_finished_headers, read_finished_header

MIB = 1 << 20
AT = 0x7000
CPU = CpuState(0x8000, Registers.from_seed(1))
FACTS = Facts(Layout(4, 0), ((0, 2 * MIB), (3 * MIB, 4 * MIB)), (CPU,), vmcoreinfo=b"OSRELEASE=6.1.0\n")
IMAGE = replace(FACTS, layout=Layout(4, 4, True), kernel_image=KernelImage(0x3FFE0000000, 0x3FFE0008000, 0x40000),
                identity_base=0x5000000000)


def page(facts: Facts = FACTS) -> bytearray:
    header = Header(facts)
    return bytearray(header.to_bytes()[:header.note_offset])


def parse(data: bytes | bytearray, at: int = AT, size: int = 0x20000) -> FinishedHeader | None:
    memory = FakeMemory(size)
    memory.put(at, bytes(data))
    return read_finished_header(memory.read, at)


def test_a_header_tells_ranges_align_and_notes_size() -> None:
    header = parse(page())
    assert header is not None
    assert header.ranges == FACTS.ranges
    assert (header.offset, header.note_align, header.image_load, header.identity_base) == (AT, 0, None, 0)
    assert header.notes_size == len(Header(FACTS).notes)
    assert header.data == bytes(page())


def test_a_header_with_the_kernel_image_tells_it_apart_from_memory() -> None:
    header = parse(page(IMAGE))
    assert header is not None
    assert header.ranges == IMAGE.ranges
    assert header.note_align == 4
    assert header.identity_base == 0x5000000000
    assert header.image_load is not None
    assert (header.image_load.p_vaddr, header.image_load.p_paddr, header.image_load.p_memsz) == (0x3FFE0000000, 0x40000, 0x8000)


def test_an_image_with_an_unaligned_end_is_believed() -> None:
    facts = replace(IMAGE, kernel_image=KernelImage(0x3FFE0000000, 0x3FFE0007123, 0x40000))
    header = parse(page(facts))
    assert header is not None
    assert header.image_load is not None
    assert header.image_load.p_memsz == 0x7123


@pytest.mark.parametrize("count", [1, 70, 71, 72, 73, 300])
def test_headers_of_one_page_and_of_many(count: int) -> None:
    """72 program headers fill the first page to 4096 - 0 bytes: 64 + 56 * 72 = 4096."""
    ranges = tuple((2 * i * MIB, (2 * i + 1) * MIB) for i in range(count))
    header = parse(page(replace(FACTS, ranges=ranges)))
    assert header is not None
    assert header.ranges == ranges


def put(data: bytearray, offset: int, form: str, *values: int) -> bytearray:
    struct.pack_into(form, data, offset, *values)
    return data


def phdr(index: int, field: str) -> tuple[int, str]:
    """Offset and format of a field of a program header."""
    place = {"type": 0, "flags": 4, "offset": 8, "vaddr": 16, "paddr": 24, "filesz": 32, "memsz": 40, "align": 48}[field]
    return 64 + 56 * index + place, ">I" if field in ("type", "flags") else ">Q"


DECOYS: dict[str, tuple[int, str, int]] = {
    "e_phnum 0": (56, ">H", 0),
    "e_phnum 1": (56, ">H", 1),
    "e_phnum one less": (56, ">H", 2),
    "e_phnum one more": (56, ">H", 4),
    "little endian": (5, ">B", 1),
    "32 bit": (4, ">B", 1),
    "an executable": (16, ">H", 2),
    "x86": (18, ">H", 62),
    "an entry point": (24, ">Q", 1),
    "other e_phoff": (32, ">Q", 128),
    "sections": (60, ">H", 1),
    "flags": (48, ">I", 1),
    "padding at the end": (4095, ">B", 1),
    "padding right behind the program headers": (64 + 3 * 56, ">B", 1),
    "PT_NOTE is none": (*phdr(0, "type"), 1),
    "PT_NOTE flags": (*phdr(0, "flags"), 4),
    "PT_NOTE elsewhere": (*phdr(0, "offset"), 0x2000),
    "PT_NOTE at a pointer": (*phdr(0, "offset"), 0x7F0100A8),
    "PT_NOTE vaddr": (*phdr(0, "vaddr"), 1),
    "PT_NOTE paddr": (*phdr(0, "paddr"), 1),
    "PT_NOTE sizes differ": (*phdr(0, "memsz"), 5),
    "PT_NOTE align": (*phdr(0, "align"), 8),
    "PT_LOAD is none": (*phdr(1, "type"), 4),
    "PT_LOAD flags": (*phdr(2, "flags"), 5),
    "PT_LOAD offset chain": (*phdr(2, "offset"), 0x203001),
    "PT_LOAD first offset": (*phdr(1, "offset"), 0x1000),
    "PT_LOAD sizes differ": (*phdr(1, "filesz"), 0x1000),
    "PT_LOAD align": (*phdr(1, "align"), 0),
    "PT_LOAD of nothing": (*phdr(2, "memsz"), 0),
    "PT_LOAD far away": (*phdr(2, "paddr"), 1 << 63),
    "PT_LOAD vaddr of another base": (*phdr(2, "vaddr"), 0),
}


@pytest.mark.parametrize("decoy", DECOYS)
def test_a_decoy_is_rejected(decoy: str) -> None:
    offset, form, value = DECOYS[decoy]
    assert parse(put(page(), offset, form, value)) is None


def test_more_program_headers_than_there_are_is_rejected() -> None:
    """e_phnum 65535 is the largest: 3.5 MiB of program headers, read and then refused."""
    assert parse(put(page(), 56, ">H", 65535), size=4 * MIB) is None


@pytest.mark.parametrize("ranges", [
    ((0, 2 * MIB), (MIB, 3 * MIB)),  # overlap
    ((0, 2 * MIB), (2 * MIB, 3 * MIB)),  # touch: the kernel would have one
    ((2 * MIB, 3 * MIB), (0, MIB)),  # fall
])
def test_ranges_that_no_kernel_has_are_rejected(ranges: tuple[tuple[int, int], ...]) -> None:
    assert parse(page(replace(FACTS, ranges=ranges))) is None


def test_notes_of_no_or_absurd_size_are_rejected() -> None:
    for size in (0, 1 << 32, 1 << 63):
        data = put(page(), phdr(0, "filesz")[0], ">QQ", size, size)
        assert parse(data) is None


def test_the_freed_first_version_is_rejected() -> None:
    """crash_dump.c's buffer: PT_NOTE offset is a pointer, PT_LOAD offsets are addresses, notes follow at once."""
    assert parse(Header(FACTS).before_merge(AT)) is None


def test_a_header_cut_off_by_the_end_of_the_image_is_rejected() -> None:
    memory = FakeMemory(MIB)
    ranges = tuple((2 * i * MIB, (2 * i + 1) * MIB) for i in range(100))
    memory.put(MIB - 4096, bytes(page(replace(FACTS, ranges=ranges))[:4096]))
    assert read_finished_header(memory.read, MIB - 4096) is None


def test_an_unreadable_page_is_none() -> None:
    memory = FakeMemory()
    memory.bad = [(AT + 0x800, AT + 0xA00)]
    memory.put(AT, bytes(page()))
    assert read_finished_header(memory.read, AT) is None


def test_search_finds_all_that_are_page_aligned_and_below_the_limit() -> None:
    memory = FakeMemory()
    for at in (0, 0x3000, 0x4000, 0x9000, 0x80000):
        memory.put(at, bytes(page()))
    memory.put(0x20010, bytes(page()))  # not aligned
    memory.put(0x9000 + 5, b"x")
    found = [h.offset for h in find_finished_headers(memory.read, memory.scan, 0x80000)]
    assert found == [0, 0x3000, 0x4000]


def test_search_finds_a_header_behind_a_border_of_the_pieces() -> None:
    memory = FakeMemory()
    memory.put(0x10000, bytes(page()))
    assert [h.offset for h in find_finished_headers(memory.read, memory.scan, 0x80000)] == [0x10000]


def test_every_byte_of_the_structures_counts() -> None:
    """No byte of Ehdr and Phdrs can change without being noticed, but those that only say another size or place."""
    original = parse(page())
    assert original is not None
    for at in range(64 + 3 * 56):
        data = page()
        data[at] ^= 0x40
        header = parse(data)
        assert header is None or (header.ranges, header.notes_size, header.note_align, header.identity_base) != (
            original.ranges, original.notes_size, original.note_align, original.identity_base), at
