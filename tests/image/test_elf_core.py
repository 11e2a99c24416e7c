"""ELF cores: every program that writes them, as it writes them; damaged, cut off and hostile ones."""

from __future__ import annotations

import os
import random
import struct
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers import elf
from tests.builders.containers.elf import E_FIELDS, EHDR, P_FIELDS, PHDR, PRPSINFO, Load, cpu, note
from tests.image.opening import cost_of_opening, kind_at, opened, refusal
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.elf_doubts import covered
from vmcorefs.ranges import Range

PAGE = 4096
MIB = 1 << 20
EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
NOTES = PRPSINFO + cpu(1) + cpu(2) + note(b"VMCOREINFO", 0, b"OSRELEASE=6.1.0\n")
RANDOM = random.Random(3).randbytes(64 * PAGE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "core"


# -- who writes them -------------------------------------------------------------------------------------------------------

LOADS = (Load(0, RANDOM[:5 * PAGE]), Load(16 * PAGE, RANDOM[5 * PAGE:8 * PAGE]))
WRITERS = {
    "kernel": elf.kernel(LOADS, NOTES),
    "makedumpfile": elf.core(LOADS, NOTES),
    "zgetdump": elf.zgetdump(LOADS, NOTES),
    "QEMU": elf.qemu(LOADS, cpu(1) + cpu(2)),
    "": elf.core(LOADS, b""),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_memory_notes_and_writer(path: Path, writer: str) -> None:
    with opened(path, WRITERS[writer]) as source:
        container = source.container
        assert (container.format, container.writer) == ("elf", writer)
        assert container.memory == (Range(0, 5 * PAGE), Range(16 * PAGE, 19 * PAGE))
        assert source.size == 19 * PAGE
        assert source.pread(5 * PAGE, 0) == RANDOM[:5 * PAGE]
        assert source.pread(3 * PAGE, 16 * PAGE) == RANDOM[5 * PAGE:8 * PAGE]
        assert kind_at(source, 5 * PAGE) == kind_at(source, 19 * PAGE) == "missing"
        assert container.vmcoreinfo == (b"OSRELEASE=6.1.0\n" if writer not in {"QEMU", ""} else None)
        assert [[(n.name, n.type) for n in notes] for notes in container.cpu_notes] == (
            [] if not writer else [[(b"CORE", 1), (b"CORE", 2), (b"LINUX", 0x305), (b"LINUX", 0x304)]] * 2)
        assert not container.incomplete
        assert container.problems == ()
        assert container.dump_level is None


def test_a_note_has_its_descriptor_and_its_name_without_nul(path: Path) -> None:
    with opened(path, WRITERS["kernel"]) as source:
        assert source.container.cpu_notes[1][2] == (b"LINUX", 0x305, bytes.fromhex("00004000"))
        assert source.container.cpu_notes[0][3].desc == b"\x41" * 128


def test_of_a_kernels_vmcore_the_header_is_kept(path: Path) -> None:
    data = elf.kernel(LOADS, NOTES)
    with opened(path, data) as source:
        first = data.index(RANDOM[:PAGE])
        assert first % PAGE == 0
        assert source.container.vmcore_header == data[:first]


@pytest.mark.parametrize("writer", [w for w in WRITERS if w != "kernel"])
def test_of_others_there_is_none(path: Path, writer: str) -> None:
    with opened(path, WRITERS[writer]) as source:
        assert source.container.vmcore_header is None


@pytest.mark.parametrize("little_endian_host", [True, False])
def test_section_headers_and_ehsize_of_qemu_do_not_matter(path: Path, little_endian_host: bool) -> None:
    data = elf.qemu(LOADS, cpu(1), little_endian_host=little_endian_host)
    with opened(path, data) as source:
        assert source.pread(5 * PAGE, 0) == RANDOM[:5 * PAGE]
        assert source.container.writer == "QEMU"
        assert source.container.cpu_notes[0][0].desc[32:36] == bytes.fromhex("00000001")


def test_a_window_of_memory_begins_where_it_does(path: Path) -> None:
    with opened(path, elf.qemu([Load(MIB, RANDOM)], cpu(1))) as source:
        assert source.container.memory == (Range(MIB, MIB + len(RANDOM)),)
        assert kind_at(source, 0) == "missing"
        assert source.pread(len(RANDOM), MIB) == RANDOM


def test_ranges_that_touch_are_one_in_the_memory_map(path: Path) -> None:
    with opened(path, elf.core([Load(0, RANDOM[:PAGE]), Load(PAGE, RANDOM[PAGE:3 * PAGE]), Load(4 * PAGE, RANDOM[:PAGE])])) as source:
        assert source.container.memory == (Range(0, 3 * PAGE), Range(4 * PAGE, 5 * PAGE))


def test_order_of_the_program_headers_does_not_matter(path: Path) -> None:
    loads = [Load(at * PAGE, RANDOM[at * PAGE:(at + 1) * PAGE]) for at in range(32)]
    random.Random(1).shuffle(loads)
    with opened(path, elf.core(loads)) as source:
        assert source.pread(32 * PAGE, 0) == RANDOM[:32 * PAGE]
        assert source.container.memory == (Range(0, 32 * PAGE),)


def test_addresses_need_not_be_whole_pages(path: Path) -> None:
    with opened(path, elf.core([Load(7, RANDOM[:100]), Load(5000, RANDOM[100:333])])) as source:
        assert source.pread(100, 7) == RANDOM[:100]
        assert source.pread(233, 5000) == RANDOM[100:333]
        assert kind_at(source, 6) == kind_at(source, 107) == "missing"


def test_extended_numbering(path: Path) -> None:
    loads = [Load(at * PAGE, RANDOM[at * PAGE:(at + 1) * PAGE]) for at in range(40)]
    with opened(path, elf.many(loads, NOTES)) as source:
        assert source.pread(40 * PAGE, 0) == RANDOM[:40 * PAGE]
        assert len(source.container.cpu_notes) == 2


def test_a_pt_load_of_virtual_addresses_only_is_skipped(path: Path) -> None:
    with opened(path, elf.core([*LOADS, Load((1 << 64) - 1, RANDOM[:PAGE])])) as source:
        assert source.size == 19 * PAGE


def test_an_empty_pt_load_is_skipped(path: Path) -> None:
    with opened(path, elf.core([Load(1 << 40, b""), *LOADS])) as source:
        assert source.size == 19 * PAGE


# -- what is left out --------------------------------------------------------------------------------------------------------

def test_what_makedumpfile_left_out_is_filtered_never_zero(path: Path) -> None:
    loads = [Load(0, RANDOM[:PAGE], memsz=300 * PAGE), Load(300 * PAGE, RANDOM[:PAGE])]
    with opened(path, elf.core(loads, NOTES)) as source:
        assert source.container.writer == "makedumpfile"
        assert source.container.memory == (Range(0, 301 * PAGE),)
        assert "0x12b000 bytes of memory left out" in source.container.detail
        assert kind_at(source, PAGE) == kind_at(source, 300 * PAGE - 1) == "filtered"
        assert source.read_some(3 * PAGE, 0) == RANDOM[:PAGE]
        assert source.pread(PAGE, 300 * PAGE) == RANDOM[:PAGE]


def test_memory_without_any_data_of_an_unknown_writer_is_filtered(path: Path) -> None:
    with opened(path, elf.core([Load(0, b"", memsz=MIB, offset=0), Load(MIB, RANDOM[:PAGE])])) as source:
        assert kind_at(source, 0) == "filtered"


def test_whole_mib_without_data_are_zero_in_what_zgetdump_converted(path: Path) -> None:
    """A stand-alone dump leaves out MiB that are zero; zgetdump writes a PT_LOAD without data for them."""
    loads = [Load(0, RANDOM[:64 * PAGE]), Load(MIB, b"", memsz=3 * MIB), Load(4 * MIB, RANDOM[:PAGE]), Load(5 * MIB, b"", memsz=PAGE)]
    with opened(path, elf.zgetdump(loads, NOTES)) as source:
        assert source.container.writer == "zgetdump"
        assert source.pread(3 * MIB, MIB) == bytes(3 * MIB)
        assert source.pread(PAGE, 5 * MIB) == bytes(PAGE)
        assert source.container.memory == (Range(0, 64 * PAGE), Range(MIB, 4 * MIB + PAGE), Range(5 * MIB, 5 * MIB + PAGE))


@pytest.mark.parametrize(("start", "size"), [(PAGE, 300 * PAGE), (PAGE, 255 * PAGE), (MIB, 300 * PAGE)])
def test_other_parts_without_data_are_not_even_of_zgetdump(path: Path, start: int, size: int) -> None:
    """zgetdump makes the same of what makedumpfile had filtered out."""
    loads = [Load(0, RANDOM[:PAGE]), Load(start, b"", memsz=size), Load(start + size, RANDOM[:PAGE])]
    with opened(path, elf.zgetdump(loads, NOTES)) as source:
        assert source.container.writer == "zgetdump"
        assert kind_at(source, start) == "filtered"


def test_makedumpfile_of_a_zgetdump_core_is_not_taken_for_zgetdump(path: Path) -> None:
    """PT_NOTE stays as the source had it; but a range without data has the offset 0."""
    loads = [Load(0, RANDOM[:PAGE]), Load(MIB, b"", memsz=MIB, offset=0), Load(2 * MIB, RANDOM[:PAGE])]
    with opened(path, elf.core(loads, NOTES, note_memsz=0)) as source:
        assert source.container.writer == "makedumpfile"
        assert kind_at(source, MIB) == "filtered"


def test_an_incomplete_dump_of_makedumpfile_says_so(path: Path) -> None:
    with opened(path, elf.core(LOADS, NOTES, flags=1)) as source:
        assert source.container.incomplete is not None
        assert "makedumpfile marked it as incomplete (e_flags at offset 0x30)" in source.container.incomplete


def test_erased_data_are_makedumpfiles_doing(path: Path) -> None:
    with opened(path, elf.kernel(LOADS, NOTES + note(b"ERASEINFO", 0, b"erase jiffies"))) as source:
        assert source.container.writer == "makedumpfile"


# -- overlapping PT_LOADs ----------------------------------------------------------------------------------------------------

def test_the_kernel_image_of_610_is_in_the_file_twice_and_in_memory_once(path: Path) -> None:
    loads = [Load(10 * PAGE, RANDOM[10 * PAGE:14 * PAGE], vaddr=0x3FFE0000000 + 10 * PAGE), Load(0, RANDOM)]
    with opened(path, elf.kernel(loads, NOTES)) as source:
        assert source.container.writer == "kernel"
        assert source.container.memory == (Range(0, 64 * PAGE),)
        assert source.pread(64 * PAGE, 0) == RANDOM
        assert source.container.problems == ()


def test_copies_that_differ_are_told_and_the_larger_one_is_served(path: Path) -> None:
    changed = bytearray(RANDOM[10 * PAGE:14 * PAGE])
    changed[2 * PAGE] ^= 1
    with opened(path, elf.kernel([Load(10 * PAGE, bytes(changed)), Load(0, RANDOM)], NOTES)) as source:
        assert source.pread(64 * PAGE, 0) == RANDOM
        (problem,) = source.container.problems
        assert "PT_LOADs 2 and 1 both hold address 0xc000 and differ there; 2, the larger one, is used" in problem


VIRTUAL = 0x2E4BA7A0000
VMCOREINFO_610 = b"OSRELEASE=6.12.117\nSYMBOL(_stext)=2e4ba7a0000\nIDENTITYBASE=0\nKERNELOFFSET=2e4ba6a0000\n"


def test_a_kernel_image_that_zgetdump_put_at_its_virtual_address_is_left_out(path: Path) -> None:
    loads = [Load(VIRTUAL, RANDOM[10 * PAGE:14 * PAGE]), Load(0, RANDOM)]
    with opened(path, elf.zgetdump(loads, PRPSINFO + cpu(1) + note(b"VMCOREINFO", 0, VMCOREINFO_610))) as source:
        assert source.container.memory == (Range(0, 64 * PAGE),)
        assert source.size == 64 * PAGE
        assert "PT_LOAD 1 is the kernel image at its virtual address 0x2e4ba7a0000" in source.container.problems[0]
        assert source.pread(64 * PAGE, 0) == RANDOM


@pytest.mark.parametrize("text", [VMCOREINFO_610.replace(b"\nIDENTITYBASE=0", b""), VMCOREINFO_610.replace(b"(_stext)", b"(_text)"), b""])
def test_any_other_range_there_is_memory(path: Path, text: bytes) -> None:
    """Before 6.10 a kernel's virtual addresses are its absolute ones."""
    loads = [Load(VIRTUAL, RANDOM[10 * PAGE:14 * PAGE]), Load(0, RANDOM)]
    with opened(path, elf.zgetdump(loads, PRPSINFO + cpu(1) + note(b"VMCOREINFO", 0, text))) as source:
        assert source.container.memory == (Range(0, 64 * PAGE), Range(VIRTUAL, VIRTUAL + 4 * PAGE))
        assert source.container.problems == ()


def test_data_are_better_than_none(path: Path) -> None:
    loads = [Load(0, b"", memsz=64 * PAGE, offset=0), Load(10 * PAGE, RANDOM[:2 * PAGE])]
    with opened(path, elf.core(loads, NOTES)) as source:
        assert source.pread(2 * PAGE, 10 * PAGE) == RANDOM[:2 * PAGE]
        assert kind_at(source, 10 * PAGE - 1) == kind_at(source, 12 * PAGE) == "filtered"


def test_a_copy_that_is_there_is_better_than_one_that_is_cut_off(path: Path) -> None:
    data = elf.kernel([Load(10 * PAGE, RANDOM[10 * PAGE:14 * PAGE]), Load(0, RANDOM)], NOTES)
    with opened(path, data[:-52 * PAGE]) as source:  # 12 pages of the large one are left
        assert source.pread(14 * PAGE, 0) == RANDOM[:14 * PAGE]
        assert kind_at(source, 14 * PAGE) == "missing"
        assert source.container.incomplete is not None
        assert f"{50 * PAGE:#x} bytes of memory are missing, the first at address {14 * PAGE:#x}" in source.container.incomplete


@st.composite
def overlapping(draw: st.DrawFn) -> list[Load]:
    """Up to eight PT_LOADs within 24 pages; contents differ, so that it shows which one was taken."""
    loads = []
    for number in range(draw(st.integers(1, 8))):
        size = draw(st.integers(0, 8))
        memsz = size + draw(st.integers(0, 3))
        content = b"".join(bytes([number + 1, page]) * (PAGE // 2) for page in range(size))
        if memsz:
            loads.append(Load(draw(st.integers(0, 16)) * PAGE, content, memsz=memsz * PAGE))
    return loads


def model_of(loads: list[Load], offsets: list[int], file_size: int) -> dict[int, bytes | str]:
    """Page by page, the best of all PT_LOADs that have it: data in the file, data that were cut off, no data; the larger one."""
    model: dict[int, bytes | str] = {}
    for page in range(64):
        best: tuple[int, int, int] | None = None
        for number, (load, offset) in enumerate(zip(loads, offsets, strict=True)):
            at = page * PAGE - load.paddr
            if not 0 <= at < load.size:
                continue
            in_file = at < len(load.data)
            rank = 2 if not in_file else 0 if offset + at + PAGE <= file_size else 1
            if best is None or (rank, -len(load.data), number) < best:
                best = (rank, -len(load.data), number)
                model[page] = ("filtered" if rank == 2 else "missing" if rank == 1 else load.data[at:at + PAGE])
        model.setdefault(page, "missing")
    return model


@settings(max_examples=EXAMPLES, deadline=None)
@given(loads=overlapping(), lost=st.integers(0, 6), rng=st.randoms(use_true_random=False))
def test_every_page_equals_the_model(loads: list[Load], lost: int, rng: random.Random) -> None:
    if not loads:
        return
    data = elf.core(loads, NOTES)
    begin = EHDR + PHDR * (len(loads) + 1)
    offsets = [struct.unpack_from(">Q", data, EHDR + PHDR * (n + 1) + 8)[0] for n in range(len(loads))]
    data = data[:max(len(data) - lost * PAGE, begin + len(NOTES))]
    model = model_of(loads, offsets, len(data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "core"
        path.write_bytes(data)
        with open_image(path) as source:
            for page, expected in model.items():
                if isinstance(expected, bytes):
                    assert source.pread(PAGE, page * PAGE) == expected
                else:
                    assert kind_at(source, page * PAGE) == expected
            known = sorted({load.paddr // PAGE + n for load in loads for n in range(load.size // PAGE)})
            assert [page for r in source.container.memory for page in range(r.start // PAGE, r.end // PAGE)] == known
            for _ in range(20):
                start, size = rng.randrange(30 * PAGE), rng.randrange(6 * PAGE)
                expected_bytes = b""
                for page in range(start // PAGE, (start + size) // PAGE + 1):
                    have = model[page]
                    if not isinstance(have, bytes):
                        break
                    expected_bytes += have
                expected_bytes = expected_bytes[start % PAGE:start % PAGE + size]
                assert source.read_some(size, start) == expected_bytes


# -- PT_LOADs that contradict each other --------------------------------------------------------------------------------------

THREE = [Load(0, RANDOM[:16 * PAGE]), Load(20 * PAGE, RANDOM[16 * PAGE:36 * PAGE]), Load(50 * PAGE, RANDOM[36 * PAGE:])]
THREE_MODEL = {load.paddr // PAGE + n: load.data[n * PAGE:(n + 1) * PAGE] for load in THREE for n in range(len(load.data) // PAGE)}
THREE_FILES = {"makedumpfile": elf.core(THREE, NOTES), "kernel": elf.kernel(THREE, NOTES), "zgetdump": elf.zgetdump(THREE, NOTES),
               "QEMU": elf.qemu(THREE, cpu(1))}


@pytest.mark.parametrize("writer", THREE_FILES)
@pytest.mark.parametrize("damage", [-1, 1, -7, -PAGE, PAGE, -MIB, 5 * PAGE, -5 * PAGE])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_p_offset_gives_no_wrong_byte(path: Path, writer: str, damage: int, number: int) -> None:
    data = bytearray(THREE_FILES[writer])
    phoff = int.from_bytes(data[32:40], "big")
    at = phoff + (number + 1) * PHDR + P_FIELDS["p_offset"][0]
    right = int.from_bytes(data[at:at + 8], "big")
    if (number, damage < 0) in {(0, True), (2, False)}:
        return  # into the notes, beyond the end: nothing else of the file is there
    if right + damage < phoff + 4 * PHDR:
        return
    data[at:at + 8] = (right + damage).to_bytes(8, "big")
    with opened(path, bytes(data)) as source:
        told = next(text for text in source.container.problems if "both take the file's bytes" in text)
        assert all(f"{phoff + (n + 1) * PHDR:#x}" in told for n in ((number - 1, number) if damage < 0 else (number, number + 1))) or \
            damage < -16 * PAGE
        broken = 0
        for page, content in THREE_MODEL.items():
            got = source.read_some(PAGE, page * PAGE)
            assert content.startswith(got), hex(page)
            if len(got) < PAGE:
                broken += kind_at(source, page * PAGE + len(got)) == "broken"
        assert broken


def test_a_p_filesz_that_is_too_large_breaks_only_what_is_not_its_own(path: Path) -> None:
    data = bytearray(THREE_FILES["makedumpfile"])
    at = EHDR + PHDR + P_FIELDS["p_filesz"][0]
    data[at:at + 16] = struct.pack(">QQ", 17 * PAGE, 17 * PAGE)
    with opened(path, bytes(data)) as source:
        assert source.pread(16 * PAGE, 0) == RANDOM[:16 * PAGE]
        assert kind_at(source, 16 * PAGE) == kind_at(source, 20 * PAGE) == "broken"
        assert source.pread(19 * PAGE, 21 * PAGE) == RANDOM[17 * PAGE:36 * PAGE]
        assert "memory there is broken" in source.container.problems[0]


def test_the_same_bytes_for_the_same_addresses_are_no_contradiction(path: Path) -> None:
    """QEMU with paging=true: virtual aliases."""
    data = elf.core([Load(0, RANDOM[:16 * PAGE]), Load(4 * PAGE, RANDOM[4 * PAGE:8 * PAGE], offset=EHDR + 3 * PHDR + 4 * PAGE)])
    with opened(path, data) as source:
        assert source.container.problems == ()
        assert source.pread(16 * PAGE, 0) == RANDOM[:16 * PAGE]


@pytest.mark.parametrize("damage", [1, -1, PAGE, 4 * PAGE + 5, 6 * PAGE, -5 * PAGE])
@pytest.mark.parametrize("content", [RANDOM, bytes(64 * PAGE)], ids=["random", "zeros"])
def test_memory_of_two_that_overlaps_in_parts_is_told(path: Path, content: bytes, damage: int) -> None:
    """Even if the bytes are the same: the rest of one of them is not where it was."""
    loads = [Load(0, content[:16 * PAGE]), Load(16 * PAGE + damage, content[16 * PAGE:32 * PAGE]), Load(32 * PAGE, content[32 * PAGE:])]
    with opened(path, elf.core(loads, NOTES)) as source:
        (problem,) = source.container.problems
        pair = (1, 2) if damage < 0 else (2, 3)
        assert f"PT_LOADs {pair[0]} and {pair[1]} (" in problem or f"PT_LOADs {pair[1]} and {pair[0]} (" in problem
        assert "and each more besides: one is damaged" in problem
        assert all(f"{EHDR + n * PHDR:#x}" in problem for n in pair)


def test_an_image_that_lies_in_two_ranges_is_no_contradiction(path: Path) -> None:
    """The kernel's, where a range of memory ends within it."""
    loads = [Load(10 * PAGE, RANDOM[10 * PAGE:30 * PAGE]), Load(0, RANDOM[:16 * PAGE]), Load(16 * PAGE, RANDOM[16 * PAGE:])]
    with opened(path, elf.kernel(loads, NOTES)) as source:
        assert source.container.problems == ()
        assert source.pread(64 * PAGE, 0) == RANDOM


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=7))
def test_covered_equals_the_model(rows: list[tuple[int, int]]) -> None:
    ranges = [(start, start + size) for start, size in rows]
    others = [{at for n, (a, b) in enumerate(ranges) if n != number for at in range(a, b)} for number in range(len(ranges))]
    assert covered(ranges) == [set(range(*span)) <= others[number] for number, span in enumerate(ranges)]


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 7, 9, 0x80000001, 0x6474E550])
def test_a_program_header_of_another_type_is_told(path: Path, kind: int) -> None:
    data = bytearray(THREE_FILES["makedumpfile"])
    at = EHDR + 2 * PHDR
    data[at:at + 4] = kind.to_bytes(4, "big")
    with opened(path, bytes(data)) as source:
        (problem,) = source.container.problems
        assert f"program header 2 at offset {at:#x} has the p_type {kind:#x}, which no dump has: it is not read" in problem
        assert kind_at(source, 20 * PAGE) == "missing"


@pytest.mark.parametrize("writer", ["makedumpfile", "QEMU", "zgetdump"])
@pytest.mark.parametrize(("damage", "words"), [(-1, "takes bytes of the notes for memory"), (1, "no program leaves such a gap"),
                                               (-100, "takes bytes of the notes for memory"), (24, "no program leaves such a gap")])
def test_the_first_data_begin_where_the_notes_end(path: Path, writer: str, damage: int, words: str) -> None:
    load = [Load(MIB, RANDOM)]
    data = bytearray({"makedumpfile": elf.core(load, NOTES), "QEMU": elf.qemu(load, NOTES), "zgetdump": elf.zgetdump(load, NOTES)}[writer])
    phoff = int.from_bytes(data[32:40], "big")
    at = phoff + PHDR + P_FIELDS["p_offset"][0]
    data[at:at + 8] = (int.from_bytes(data[at:at + 8], "big") + damage).to_bytes(8, "big")
    with opened(path, bytes(data)) as source:
        (problem,) = source.container.problems
        assert words in problem
        assert f"PT_LOAD 1 (program header at offset {phoff + PHDR:#x})" in problem
        if damage < 0:
            assert kind_at(source, MIB) == kind_at(source, MIB + len(RANDOM) - 1) == "broken"


def test_notes_that_are_too_long_break_no_memory(path: Path) -> None:
    data = bytearray(THREE_FILES["makedumpfile"])
    at = EHDR + P_FIELDS["p_filesz"][0]
    data[at:at + 8] = (int.from_bytes(data[at:at + 8], "big") + 5 * PAGE).to_bytes(8, "big")
    with opened(path, bytes(data)) as source:
        assert "the notes at" in source.container.problems[0]
        assert source.pread(16 * PAGE, 0) == RANDOM[:16 * PAGE]


@pytest.mark.parametrize("writer", [*THREE_FILES])
def test_a_number_of_program_headers_that_is_too_small_is_told(path: Path, writer: str) -> None:
    data = bytearray(THREE_FILES[writer])
    phoff = int.from_bytes(data[32:40], "big")
    data[56:58] = (3).to_bytes(2, "big")
    with opened(path, bytes(data)) as source:
        assert f"behind the last of 3 program headers, at {phoff + 3 * PHDR:#x}, is one more PT_LOAD" in source.container.problems[0]
        assert kind_at(source, 50 * PAGE) == "missing"


def test_notes_at_a_wrong_place_break_no_memory(path: Path) -> None:
    data = bytearray(THREE_FILES["QEMU"])
    phoff = int.from_bytes(data[32:40], "big")
    at = phoff + P_FIELDS["p_offset"][0]
    right = int.from_bytes(data[at:at + 8], "big")
    for damage in (24, 0x130, PAGE, MIB):
        data[at:at + 8] = (right + damage).to_bytes(8, "big")
        with opened(path, bytes(data)) as source:
            assert source.pread(16 * PAGE, 0) == RANDOM[:16 * PAGE]


@pytest.mark.parametrize("damage", [PAGE, 1 << 20, 1 << 40, -PAGE])
def test_p_vaddr_that_does_not_belong_to_p_paddr_is_told(path: Path, damage: int) -> None:
    for number in range(3):
        data = bytearray(THREE_FILES["makedumpfile"])
        at = EHDR + (number + 1) * PHDR + P_FIELDS["p_paddr"][0]
        right = int.from_bytes(data[at:at + 8], "big")
        if right + damage < 0:
            continue
        data[at:at + 8] = (right + damage).to_bytes(8, "big")
        with opened(path, bytes(data)) as source:
            if right:  # p_vaddr 0 may be: not given
                assert f"its p_paddr {right + damage:#x} and its p_vaddr {right:#x} do not belong together" in \
                    " ".join(source.container.problems)


def test_the_kernel_image_and_identity_base_of_610_are_no_problem(path: Path) -> None:
    base = 0x30000000000
    loads = [Load(10 * PAGE, RANDOM[10 * PAGE:14 * PAGE], vaddr=0x3FFE0000000), Load(0, RANDOM[:32 * PAGE], vaddr=base),
             Load(40 * PAGE, RANDOM[32 * PAGE:], vaddr=base + 40 * PAGE)]
    with opened(path, elf.kernel(loads, NOTES)) as source:
        assert source.container.problems == ()


@pytest.mark.parametrize("header", [bytes(PHDR), elf.phdr(0x6474E551, 6, 0, 0, 0, 0, 1 << 20, 16), elf.phdr(1, 7, 0, 0, 0, 0, 0, 0)])
def test_program_headers_without_memory_are_no_problem(path: Path, header: bytes) -> None:
    begin = EHDR + 3 * PHDR
    data = elf.ehdr(EHDR, 3) + elf.phdr(4, 0, begin, 0, 0, len(NOTES), len(NOTES), 0) + header \
        + elf.phdr(1, 7, begin + len(NOTES), 0, 0, PAGE, PAGE, PAGE) + NOTES + RANDOM[:PAGE]
    with opened(path, data) as source:
        assert source.container.problems == ()
        assert source.pread(PAGE, 0) == RANDOM[:PAGE]


def test_zeros_of_zgetdump_are_believed_only_where_the_file_ends_with_its_data(path: Path) -> None:
    """Else p_filesz of the last PT_LOAD is damaged."""
    loads = [Load(0, RANDOM[:64 * PAGE].ljust(MIB, b"x")), Load(MIB, b"", memsz=MIB)]
    data = elf.zgetdump(loads, NOTES)
    with opened(path, data) as source:
        assert source.pread(MIB, MIB) == bytes(MIB)
    with opened(path, data + RANDOM) as source:
        assert kind_at(source, MIB) == "filtered"


# -- secure execution --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", [">", "<"])
def test_a_secure_execution_dump_is_refused_by_its_section(path: Path, order: str) -> None:
    message = refusal(path, elf.secure_execution(Load(0, RANDOM), cpu(1), order=order))
    assert "secure execution" in message
    assert "zgetdump --key" in message


def test_a_secure_execution_dump_is_refused_by_its_notes(path: Path) -> None:
    assert "secure execution" in refusal(path, elf.qemu([Load(0, RANDOM)], cpu(1) + note(b"LINUX", 0x30E, bytes(1568))))


# -- notes -------------------------------------------------------------------------------------------------------------------

def test_notes_of_several_segments_are_joined(path: Path) -> None:
    """crash_dump.c's own header has one PT_NOTE, others may have several."""
    first, second = cpu(1), cpu(2)
    begin = EHDR + 3 * PHDR
    data = elf.ehdr(EHDR, 3) + elf.phdr(4, 0, begin, 0, 0, len(first), len(first), 0) \
        + elf.phdr(4, 0, begin + len(first), 0, 0, len(second), len(second), 0) \
        + elf.phdr(1, 7, begin + len(first + second), 0, 0, PAGE, PAGE, PAGE) + first + second + RANDOM[:PAGE]
    with opened(path, data) as source:
        assert [notes[0].desc[32:36] for notes in source.container.cpu_notes] == [bytes([0, 0, 0, 1]), bytes([0, 0, 0, 2])]
        assert source.pread(PAGE, 0) == RANDOM[:PAGE]


def test_a_row_that_repeats_another_or_has_no_address_is_told(path: Path) -> None:
    """Eight damaged bytes, and memory would be gone without a word."""
    good = elf.core([Load(0, RANDOM[:4 * PAGE]), Load(MIB, RANDOM[4 * PAGE:8 * PAGE])], NOTES)
    row = EHDR + 2 * PHDR  # of the second PT_LOAD
    damaged = bytearray(good)
    damaged[row + 24:row + 32] = b"\xff" * 8
    with opened(path, bytes(damaged)) as source:
        assert f"at offset {row:#x} has the p_paddr 0xffffffffffffffff, which is no address" in " ".join(source.container.problems)
    damaged = bytearray(good)
    damaged[row:row + PHDR] = good[row - PHDR:row]
    with opened(path, bytes(damaged)) as source:
        assert "two PT_LOADs are the same (p_paddr 0x0, " in " ".join(source.container.problems)
        assert source.pread(4 * PAGE, 0) == RANDOM[:4 * PAGE]


@pytest.mark.parametrize("boundary", [16, 512])
def test_padding_between_data_is_no_gap_unless_something_is_in_it(path: Path, boundary: int) -> None:
    sizes = (3 * PAGE + 8, 2 * PAGE)
    place = EHDR + 3 * PHDR + len(NOTES)
    data = bytearray(elf.ehdr(EHDR, 3) + elf.phdr(4, 0, EHDR + 3 * PHDR, 0, 0, len(NOTES), len(NOTES), 0))
    places = []
    for number, size in enumerate(sizes):
        place += -place % boundary
        places.append(place)
        data += elf.phdr(1, 7, place, number * MIB, number * MIB, size, size, boundary)
        place += size
    data += NOTES
    for at, size in zip(places, sizes, strict=True):
        data += bytes(at - len(data)) + RANDOM[:size]
    with opened(path, bytes(data)) as source:
        assert source.container.problems == ()
        assert source.pread(2 * PAGE, MIB) == RANDOM[:2 * PAGE]
    data[places[1] - 1] = 1
    with opened(path, bytes(data)) as source:
        assert "no program leaves such a gap" in source.container.problems[0]


def test_a_segment_for_each_of_many_cpus(path: Path) -> None:
    """None is dropped, however many there are; more than any machine can have are damage."""
    for count in (300, (1 << 14) + 1):
        notes = [cpu(number % 100) for number in range(count)]
        place = EHDR + (count + 1) * PHDR
        data = elf.ehdr(EHDR, count + 1)
        for own in notes:
            data += elf.phdr(4, 0, place, 0, 0, len(own), len(own), 0)
            place += len(own)
        data += elf.phdr(1, 7, place, 0, 0, PAGE, PAGE, PAGE) + b"".join(notes) + RANDOM[:PAGE]
        if count > 1 << 14:
            path.write_bytes(data)
            with pytest.raises(ImageError, match="16385 of its program headers are PT_NOTEs"):
                open_image(path)
        else:
            with opened(path, data) as source:
                assert [own[0].desc[35] for own in source.container.cpu_notes] == [number % 100 for number in range(count)]
                assert source.container.problems == ()


def test_padding_behind_the_notes_is_no_damage(path: Path) -> None:
    with opened(path, elf.kernel(LOADS, NOTES + bytes(100))) as source:
        assert source.container.problems == ()
        assert len(source.container.cpu_notes) == 2


@pytest.mark.parametrize("field", [0, 4])
@pytest.mark.parametrize("value", [0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_note_that_runs_over_the_end_ends_the_list_with_a_warning(path: Path, field: int, value: int) -> None:
    broken = bytearray(cpu(2))
    struct.pack_into(">I", broken, len(elf.prstatus(2)) + field, value)
    with opened(path, elf.kernel(LOADS, PRPSINFO + cpu(1) + bytes(broken))) as source:
        assert len(source.container.cpu_notes) == 2
        assert len(source.container.cpu_notes[1]) == 1
        (problem,) = source.container.problems
        assert "does not fit" in problem
        assert "those that are whole are used" in problem
        assert source.pread(PAGE, 0) == RANDOM[:PAGE]


def test_a_vmcoreinfo_of_absurd_size_is_not_used(path: Path) -> None:
    with opened(path, elf.kernel(LOADS, NOTES[:-4] + note(b"VMCOREINFO", 0, b"x" * 0x10001))) as source:
        assert source.container.vmcoreinfo is None or source.container.vmcoreinfo.startswith(b"OSRELEASE")
    with opened(path, elf.kernel(LOADS, PRPSINFO + note(b"VMCOREINFO", 0, b"x" * 0x10001))) as source:
        assert source.container.vmcoreinfo is None
        assert "VMCOREINFO note has 0x10001 bytes" in source.container.problems[0]


# -- cut off and damaged -----------------------------------------------------------------------------------------------------

CUT = elf.kernel([Load(0, RANDOM[:3 * PAGE]), Load(8 * PAGE, RANDOM[3 * PAGE:5 * PAGE])], NOTES)
_NOTES_AT = PAGE
_BORDERS = [5, 16, 20, EHDR, EHDR + PHDR, EHDR + 2 * PHDR, EHDR + 3 * PHDR, _NOTES_AT, _NOTES_AT + 12, _NOTES_AT + len(NOTES),
            *range(2 * PAGE, len(CUT) + 1, PAGE)]


@pytest.mark.parametrize("size", sorted({max(0, border + d) for border in _BORDERS for d in (-1, 0, 1) if border + d < len(CUT)}))
def test_cut_off_anywhere_it_is_refused_or_the_rest_is_missing(path: Path, size: int) -> None:
    path.write_bytes(CUT[:size])
    if size < EHDR + 3 * PHDR:
        assert "cut off" in refusal(path, CUT[:size]) or "damaged ELF file" in refusal(path, CUT[:size])
        return
    with open_image(path) as source:
        assert source.container.incomplete is not None
        assert f"it ends at {size:#x} instead of {len(CUT):#x}" in source.container.incomplete
        lost = min(len(CUT) - size, 5 * PAGE)
        assert f"{lost:#x} bytes of memory are missing" in source.container.incomplete
        got = source.read_some(3 * PAGE, 0) + source.read_some(2 * PAGE, 8 * PAGE)
        assert got == RANDOM[:5 * PAGE - lost]
        assert kind_at(source, 10 * PAGE - 1) == "missing"
        if size < _NOTES_AT + len(NOTES):
            assert "damaged" in source.container.problems[0]


def _changed() -> Iterator[tuple[str, int, int, int]]:
    """(field, offset, size, value): every field of the ELF header and of three program headers at 0, 1, most, off by one."""
    fields = [(f"{name}", offset, size) for name, (offset, size) in E_FIELDS.items()]
    fields += [(f"{name}[{n}]", EHDR + n * PHDR + offset, size) for n in range(3) for name, (offset, size) in P_FIELDS.items()]
    for name, offset, size in fields:
        right = int.from_bytes(CUT[offset:offset + size], "big")
        most = (1 << (8 * size)) - 1
        for value in sorted({0, 1, most, most >> 1, (right + 1) & most, (right - 1) & most} - {right}):
            yield name, offset, size, value


@pytest.mark.parametrize(("name", "offset", "size", "value"), list(_changed()))
def test_a_wrong_field_is_an_error_with_its_offset_or_does_no_harm(path: Path, name: str, offset: int, size: int, value: int) -> None:
    data = bytearray(CUT)
    data[offset:offset + size] = value.to_bytes(size, "big")
    path.write_bytes(data)
    try:
        source = open_image(path)
    except ImageError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message == refusal(path, bytes(data))
        assert "offset" in message or " at 0x" in message
        assert name not in {"e_version", "e_entry", "e_ehsize", "e_shentsize", "e_shstrndx", "e_flags"}, "it need not be right"
        return
    with source:
        assert source.size <= 1 << 46
        for area in source.container.memory[:3]:
            for address in (area.start, area.end - PAGE):
                got = source.read_some(PAGE, max(address, 0))
                assert got in bytes(data), "only bytes of the file are served"
        if name not in {"p_paddr[1]", "p_paddr[2]", "p_offset[1]", "p_offset[2]", "p_filesz[1]", "p_filesz[2]", "p_memsz[1]", "p_memsz[2]",
                        "p_type[1]", "p_type[2]", "e_phnum", "e_phoff"}:
            assert source.pread(3 * PAGE, 0) == RANDOM[:3 * PAGE]
            assert source.pread(2 * PAGE, 8 * PAGE) == RANDOM[3 * PAGE:5 * PAGE]


@pytest.mark.parametrize(("field", "value", "words"), [
    ("e_phentsize", 55, "e_phentsize at offset 0x36 is 55, not 56"),
    ("e_phentsize", 0, "e_phentsize at offset 0x36 is 0"),
    ("e_phnum", 0, "no program headers (e_phnum at offset 0x38)"),
    ("e_phnum", 0xFFFF, "e_shoff at offset 0x28 is 0x0"),
    ("e_phnum", 0xFFFE, "cut off: its 65534 program headers at 0x40"),
    ("e_phnum", 1, "none of its 1 program headers at 0x40 is a PT_LOAD"),
    ("e_phoff", 0, "e_phoff at offset 0x20 is 0x0"),
    ("e_phoff", (1 << 64) - 1, "e_phoff at offset 0x20"),
    ("e_type", 2, "an s390 ELF file (e_type 2 at offset 0x10"),
    ("e_machine", 62, "for x86-64 (e_machine 62 at offset 0x12), no s390x system"),
])
def test_what_a_wrong_elf_header_is_told(path: Path, field: str, value: int, words: str) -> None:
    data = bytearray(CUT)
    offset, size = E_FIELDS[field]
    data[offset:offset + size] = value.to_bytes(size, "big")
    assert words in refusal(path, bytes(data))


@pytest.mark.parametrize(("field", "value", "words"), [
    ("p_filesz", 3 * PAGE + 1, "PT_LOAD 1: p_filesz 0x3001 at offset 0x98 is more than p_memsz 0x3000"),
    ("p_filesz", 4 * PAGE, "PT_LOAD 1: p_filesz 0x4000 at offset 0x98 is more than p_memsz 0x3000"),
    ("p_memsz", (1 << 46) + 1, "PT_LOAD 1: p_paddr 0x0 at offset 0x90 and p_memsz 0x400000000001 lead beyond 0x400000000000"),
    ("p_paddr", (1 << 64) - PAGE, "PT_LOAD 1: p_paddr 0xfffffffffffff000 at offset 0x90"),
    ("p_offset", (1 << 64) - PAGE, "PT_LOAD 1: p_offset 0xfffffffffffff000 at offset 0x80 is no place in a file"),
    ("p_offset", 0, "PT_LOAD 1: p_offset 0x0 at offset 0x80 leads into the file's own headers"),
    ("p_offset", EHDR + 3 * PHDR - 1, "leads into the file's own headers"),
])
def test_what_a_wrong_program_header_is_told(path: Path, field: str, value: int, words: str) -> None:
    data = bytearray(CUT)
    offset, size = P_FIELDS[field]
    data[EHDR + PHDR + offset:EHDR + PHDR + offset + size] = value.to_bytes(size, "big")
    assert words in refusal(path, bytes(data))


def test_the_elf_header_is_no_memory_wherever_the_program_headers_are(path: Path) -> None:
    data = bytearray(elf.qemu([Load(0, RANDOM[:100])], cpu(1)))
    at = data.index(struct.pack(">II", 1, 0), 192 + PHDR) + P_FIELDS["p_offset"][0]
    data[at:at + 8] = bytes(8)
    assert f"PT_LOAD 1: p_offset 0x0 at offset {at:#x} leads into the file's own headers" in refusal(path, bytes(data))


def test_random_damage_of_the_headers_is_never_more_than_an_error(path: Path) -> None:
    rng = random.Random(9)
    for _ in range(400):
        data = bytearray(CUT[:_NOTES_AT + len(NOTES)] + CUT[2 * PAGE:])
        for _ in range(rng.randrange(1, 6)):
            at = rng.choice((rng.randrange(EHDR + 3 * PHDR), rng.randrange(_NOTES_AT, _NOTES_AT + len(NOTES))))
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(data)
        try:
            source = open_image(path)
        except ImageError:
            continue
        with source:
            source.read_some(PAGE, 0)
            source.read_some(PAGE, source.size - 1)


# -- bounded -----------------------------------------------------------------------------------------------------------------

MOST = 100_000  # KiB, Python itself included


def _phdrs(count: int, paddr: array[int], size: int, offset: int, room: int) -> bytes:
    row = struct.Struct(">IIQQQQQQ")
    return b"".join(row.pack(1, 7, offset + n * room, 0, paddr[n], size, size, PAGE) for n in range(count))


def _huge(path: Path, order: list[int], step: int, size: int, *, room: int | None = None) -> None:
    """PT_LOADs of *size* bytes, *room* (default: as many) of the file for each, at *step* times the numbers of *order*."""
    count = len(order)
    room = size if room is None else room
    begin = EHDR + 64 + count * PHDR
    with path.open("wb") as file:
        file.write(elf.ehdr(EHDR + 64, 0xFFFF, sections=(EHDR, 1, 0), shentsize=64))
        file.write(struct.pack(">IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, count, 0, 0))
        file.write(_phdrs(count, array("Q", (n * step for n in order)), size, begin, room))
        file.write(RANDOM[:PAGE])
        file.truncate(begin + min(count * room, 1 << 42))


def test_half_a_million_program_headers_in_any_order_take_bounded_memory(path: Path) -> None:
    order = list(range(1 << 19))
    random.Random(2).shuffle(order)
    _huge(path, order, PAGE, PAGE)
    cost = cost_of_opening(path)
    assert cost.said == f"opened {PAGE << 19:#x} 0"
    assert cost.memory < MOST
    assert cost.seconds < 20


def test_more_program_headers_than_any_dump_has_are_refused(path: Path) -> None:
    path.write_bytes(elf.ehdr(EHDR + 64, 0xFFFF, sections=(EHDR, 1, 0), shentsize=64)
                     + struct.pack(">IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, 0xFFFFFFFF, 0, 0))
    os.truncate(path, 1 << 40)
    cost = cost_of_opening(path)
    assert "4294967295 program headers are more than any dump has" in cost.said
    assert cost.memory < MOST


def test_more_ranges_than_any_machine_has_are_refused(path: Path) -> None:
    _huge(path, list(range(70_000)), 2 * PAGE, PAGE)
    cost = cost_of_opening(path)
    assert "more than 65536 separate memory ranges" in cost.said
    assert cost.memory < MOST


def test_program_headers_that_all_overlap_are_refused(path: Path) -> None:
    _huge(path, list(range(70_000)), PAGE, 1 << 40)
    cost = cost_of_opening(path)
    assert "more than 65536 PT_LOADs overlap" in cost.said
    assert cost.memory < MOST


def test_overlaps_up_to_the_limit_take_bounded_time(path: Path) -> None:
    _huge(path, list(range(20_000)), PAGE, 1 << 40)
    cost = cost_of_opening(path)
    assert cost.said.startswith("opened ")
    assert cost.memory < MOST
    assert cost.seconds < 20


@pytest.mark.parametrize("room", [0, 1, PAGE - 1])
def test_program_headers_that_all_take_the_same_bytes_are_refused(path: Path, room: int) -> None:
    _huge(path, list(range(1 << 19)), PAGE, PAGE, room=room)
    cost = cost_of_opening(path)
    assert "4096 of its PT_LOADs and more take bytes of the file that another one has for other addresses" in cost.said
    assert cost.memory < MOST
    assert cost.seconds < 20


def test_notes_without_end_take_bounded_memory(path: Path) -> None:
    begin = EHDR + 2 * PHDR
    size = 1 << 30
    with path.open("wb") as file:
        file.write(elf.ehdr(EHDR, 2) + elf.phdr(4, 0, begin, 0, 0, size, size, 0) + elf.phdr(1, 7, begin + size, 0, 0, PAGE, PAGE, PAGE))
        file.write(struct.pack(">III", 0, 0, 1) * (20 << 20 >> 2))
        file.truncate(begin + size + PAGE)
    cost = cost_of_opening(path)
    assert cost.said.startswith("opened 0x1000 ")
    assert cost.memory < MOST
