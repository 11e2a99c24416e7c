"""The final layout of fs/proc/vmcore.c: page rounding, offsets, and what one more program header moves."""

from __future__ import annotations

import itertools
import random
import struct

import pytest

from tests.builders import Facts, Header, KernelImage, Layout
from vmcorefs.elf import Phdr, pack_ehdr, pack_note, parse_ehdr, parse_nhdr, parse_phdr
from vmcorefs.errors import ImageError
from vmcorefs.ranges import Range
from vmcorefs.vmcore.elfcorehdr import Elfcorehdr, Load, build_elfcorehdr
from vmcorefs.vmcore.merge import Merged, merge

PAGE = 4096
MIB = 1 << 20


def merged(ranges: list[tuple[int, int]], notes: bytes = b"n" * 180, align: int = 4, image: Load | None = None,
           identity: int = 0) -> Merged:
    return merge(build_elfcorehdr(notes, [Range(*r) for r in ranges], image, identity), align)


def spread(count: int) -> list[tuple[int, int]]:
    return [(2 * i * PAGE, (2 * i + 1) * PAGE) for i in range(count)]


COUNTS = [1, 2, 3, 70, 71, 72, 73, 144, 145, 1000, 2999, 3000]


@pytest.mark.parametrize("count", COUNTS)
def test_offsets_for_any_number_of_ranges(count: int) -> None:
    found = merged(spread(count))
    first = -(-(64 + 56 * (count + 1)) // PAGE) * PAGE
    assert found.phdrs[0].p_offset == first
    assert [p.p_offset for p in found.phdrs[1:]] == [first + PAGE + i * PAGE for i in range(count)]
    assert found.size == first + PAGE + count * PAGE
    assert len(found.header) == first + PAGE
    assert found.header[64 + 56 * (count + 1):first] == bytes(first - 64 - 56 * (count + 1))


def test_72_program_headers_fill_a_page_to_the_last_byte() -> None:
    assert merged(spread(71)).phdrs[0].p_offset == PAGE
    assert merged(spread(72)).phdrs[0].p_offset == 2 * PAGE


@pytest.mark.parametrize(("length", "pages"), [(1, 1), (4095, 1), (4096, 1), (4097, 2), (8192, 2)])
def test_notes_are_padded_with_zeros_to_a_page(length: int, pages: int) -> None:
    found = merged([(0, MIB)], b"\xaa" * length)
    assert found.phdrs[0].p_filesz == found.phdrs[0].p_memsz == length
    assert len(found.header) == PAGE + pages * PAGE
    assert found.header[PAGE:] == b"\xaa" * length + bytes(pages * PAGE - length)


@pytest.mark.parametrize("align", [0, 4])
def test_pt_note(align: int) -> None:
    found = merged([(0, MIB)], align=align)
    assert found.phdrs[0] == Phdr(4, 0, PAGE, 0, 0, 180, 180, align)
    assert struct.unpack_from(">IIQQQQQQ", found.header, 64) == (4, 0, PAGE, 0, 0, 180, 180, align)


def test_pt_loads_of_memory() -> None:
    found = merged([(0, MIB), (2 * MIB, 3 * MIB)])
    assert found.phdrs[1:] == (Phdr(1, 7, 2 * PAGE, 0, 0, MIB, MIB, PAGE),
                               Phdr(1, 7, 2 * PAGE + MIB, 2 * MIB, 2 * MIB, MIB, MIB, PAGE))


def test_identity_base_is_added_and_wraps() -> None:
    found = merged([(0, MIB), (2 * MIB, 3 * MIB)], identity=(1 << 64) - MIB)
    assert [p.p_vaddr for p in found.phdrs[1:]] == [(1 << 64) - MIB, MIB]
    assert [p.p_paddr for p in found.phdrs[1:]] == [0, 2 * MIB]


def test_the_kernel_image_comes_first_and_only_its_own_vaddr_counts() -> None:
    found = merged([(0, MIB)], image=Load(0x3FFE0000000, 0x40000, 0x8000, "kernel image"), identity=0x5000)
    assert [(p.p_vaddr, p.p_paddr, p.p_memsz) for p in found.phdrs[1:]] == [(0x3FFE0000000, 0x40000, 0x8000), (0x5000, 0, MIB)]
    assert [p.p_offset for p in found.phdrs[1:]] == [2 * PAGE, 2 * PAGE + 0x8000]


@pytest.mark.parametrize(("start", "end", "offset", "pages"), [
    (0x40000, 0x48001, 0, 9), (0x40001, 0x48000, 1, 8), (0x40FFF, 0x41001, 0xFFF, 2), (0x40800, 0x40801, 0x800, 1),
])
def test_a_load_is_rounded_outwards_to_pages(start: int, end: int, offset: int, pages: int) -> None:
    found = merged([(0, MIB)], image=Load(0x1000, start, end - start, "kernel image"))
    assert found.phdrs[1].p_offset == 2 * PAGE + offset
    assert found.phdrs[1].p_filesz == end - start
    assert (found.placed[0].offset, found.placed[0].end - found.placed[0].start) == (2 * PAGE, pages * PAGE)
    assert found.phdrs[2].p_offset == 2 * PAGE + pages * PAGE


def test_placed_pages_follow_each_other_without_gaps() -> None:
    rng = random.Random(3)
    edges = sorted(rng.sample(range(1, 10000), 40))
    found = merged([(a * 100, b * 100) for a, b in zip(edges[::2], edges[1::2], strict=True)])
    assert found.placed[0].offset == len(found.header)
    for a, b in itertools.pairwise(found.placed):
        assert a.offset + a.end - a.start == b.offset
    assert found.placed[-1].offset + found.placed[-1].end - found.placed[-1].start == found.size


def test_random_machines_against_another_implementation() -> None:
    rng = random.Random(9)
    for _ in range(200):
        count = rng.choice((1, 2, 5, 71, 72, 200))
        edges = sorted(rng.sample(range(1, 100000), 2 * count))
        ranges = tuple((a * PAGE, b * PAGE) for a, b in zip(edges[::2], edges[1::2], strict=True))
        facts = Facts(Layout(4, rng.choice((0, 4)), True), ranges, identity_base=rng.choice((0, 1 << 40)),
                      vmcoreinfo=bytes(rng.randrange(6000)))
        image = None
        if rng.random() < 0.5:
            size = rng.randrange(1, 100000)
            facts = Facts(facts.layout, ranges, (), vmcoreinfo=facts.vmcoreinfo, identity_base=facts.identity_base,
                          kernel_image=KernelImage(0x3FFE0000000, 0x3FFE0000000 + size, ranges[0][0] + rng.randrange(4096)))
            assert facts.kernel_image is not None
            image = Load(facts.kernel_image.start, facts.kernel_image.phys, size, "kernel image")
        expected = Header(facts)
        found = merged(list(ranges), expected.notes, facts.layout.note_align, image, facts.identity_base)
        assert found.header == expected.to_bytes()
        assert found.size == expected.file_size


# -- e_phnum and the byte tables -------------------------------------------------------------------------------------------


def test_as_many_program_headers_as_e_phnum_holds() -> None:
    header = build_elfcorehdr(b"", [Range(*r) for r in spread(65534)], None, 0)
    assert len(header.loads) == 65534
    assert parse_ehdr(merge(header, 4).header) == 65535


@pytest.mark.parametrize(("count", "image"), [(65535, None), (65534, Load(0, 0, PAGE, "kernel image")), (100000, None)])
def test_one_more_is_refused_with_both_numbers(count: int, image: Load | None) -> None:
    loads = count + (image is not None)
    with pytest.raises(ImageError) as caught:
        build_elfcorehdr(b"", [Range(*r) for r in spread(count)], image, 0)
    assert str(loads) in str(caught.value)
    assert "65535" in str(caught.value)


def test_ehdr() -> None:
    assert pack_ehdr(0x1234).hex() == (
        "7f454c46020201000000000000000000" "0004" "0016" "00000001" "0000000000000000" "0000000000000040" "0000000000000000"
        "00000000" "0040" "0038" "1234" "000000000000")


@pytest.mark.parametrize("e_phnum", [0, 1, 65535])
def test_ehdr_is_parsed_back(e_phnum: int) -> None:
    assert parse_ehdr(pack_ehdr(e_phnum)) == e_phnum


def test_a_short_or_changed_ehdr_is_none() -> None:
    data = pack_ehdr(3)
    assert parse_ehdr(data[:63]) is None
    for at in itertools.chain(range(56), range(58, 64)):
        assert parse_ehdr(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]) is None, at


def test_phdr_is_parsed_back() -> None:
    phdr = Phdr(1, 7, 0x2000, 1 << 63, 3, 4, 5, 4096)
    assert parse_phdr(b"xx" + phdr.pack(), 2) == phdr
    assert phdr.pack().hex() == ("00000001" "00000007" "0000000000002000" "8000000000000000" "0000000000000003" "0000000000000004"
                                 "0000000000000005" "0000000000001000")


def test_note_name_and_descriptor_are_padded_to_4() -> None:
    assert pack_note(b"CORE", 3, b"abcde") == bytes.fromhex("000000050000000500000003") + b"CORE\0\0\0\0abcde\0\0\0"
    assert pack_note(b"abc", 1, b"") == bytes.fromhex("000000040000000000000001") + b"abc\0"
    assert parse_nhdr(pack_note(b"LINUX", 0x301, b"12345678")) == (6, 8, 0x301)


def test_elfcorehdr_keeps_notes_and_order() -> None:
    header = build_elfcorehdr(b"notes", [Range(0, PAGE)], Load(1, 2, 3, "kernel image"), 0)
    assert header == Elfcorehdr(b"notes", (Load(1, 2, 3, "kernel image"), Load(0, 0, PAGE)))
