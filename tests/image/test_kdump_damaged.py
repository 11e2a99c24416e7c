"""kdump-compressed dumps that are cut off, unfinished, damaged, or of other machines: an error with the offset, never a wrong byte."""

from __future__ import annotations

import os
import random
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cramjam
import lzallright
import pytest
import zstandard

from tests.builders.containers import elf
from tests.builders.containers.kdump import FIELDS, FLAGS, Kdump
from tests.image.model import PAGE, check_all, check_read, error_at, never_wrong, opened, page_of, refusal
from tests.image.opening import cost_of_opening
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.source import Source

NOTES = elf.PRPSINFO + elf.cpu(0) + elf.cpu(1)
TEXT = b"OSRELEASE=6.1.0-test\n"
PAGES = {n: page_of(n) for n in range(60) if n % 5}
ABSENT = frozenset(n for n in range(60) if n % 5 == 0 and n != 30)
DUMP = Kdump(PAGES, ABSENT, notes=NOTES, vmcoreinfo=TEXT)
MODEL: dict[int, bytes | str] = {**dict.fromkeys(ABSENT, bytes(PAGE)), **PAGES}
GOOD = DUMP.build()
MEMORY_LIMIT = 100 << 10  # KiB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


# -- cut off and unfinished --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 0x1CF, 0x1D0, PAGE, PAGE + 103, PAGE + 104, PAGE + 110, DUMP.bitmap - 1, DUMP.bitmap,
                                  DUMP.bitmap + 1, DUMP.bitmap + PAGE, DUMP.descriptors - 1])
def test_cut_off_before_the_end_of_the_bitmaps_no_page_is_left(path: Path, size: int) -> None:
    words = refusal(path, GOOD[:size])
    assert f"{size:#x}" in words


@pytest.mark.parametrize("size", [DUMP.descriptors, DUMP.descriptors + 1, DUMP.descriptors + 24 * 20, DUMP.data - 1, DUMP.data,
                                  DUMP.data + 1, (DUMP.data + len(GOOD)) // 2, len(GOOD) - 1])
def test_cut_off_behind_them_the_pages_that_are_there_are_served(path: Path, size: int) -> None:
    offsets = {pfn: struct.unpack_from(">QI", GOOD, DUMP.descriptor(pfn)) for pfn in PAGES}
    pages = {n: page if isinstance(page, bytes) and (n in ABSENT or (sum(offsets[n]) <= size and DUMP.descriptor(n) + 24 <= size))
             else "missing" for n, page in MODEL.items()}
    if size < DUMP.descriptors + 24:  # nothing tells that the second bitmap is whole
        pages |= dict.fromkeys(ABSENT, "filtered")
    with opened(path, GOOD[:size]) as source:
        assert source.container.incomplete is not None
        assert "cut off" in source.container.incomplete
        if size > DUMP.data:
            first = min(n for n in PAGES if pages[n] == "missing")
            assert f"cut off at {size:#x}" in source.container.incomplete
            assert f"from address {first * PAGE:#x} on" in source.container.incomplete
        check_all(source, pages, 62, reads=20)


def test_of_an_incomplete_dump_nothing_that_was_left_out_is_proven_zero(path: Path) -> None:
    data = bytearray(replace(DUMP, fields={"status": 9}).build())
    for number in (58, 59):  # what makedumpfile did not get to has no descriptor
        data[DUMP.descriptor(number):DUMP.descriptor(number) + 24] = bytes(24)
    with opened(path, bytes(data)) as source:
        assert source.container.incomplete is not None
        assert "marked as incomplete by its writer (status 0x9 at offset 0x1a8)" in source.container.incomplete
        pages = MODEL | dict.fromkeys(ABSENT, "filtered") | {58: "missing", 59: "missing"}
        check_all(source, pages, 62, reads=20)
        assert "did not get to this page" in error_at(source, 59 * PAGE).cause


def test_a_file_that_shrinks_while_it_is_open_is_no_crash(path: Path) -> None:
    with opened(path, GOOD) as source:
        os.truncate(path, (DUMP.data + len(GOOD)) // 2)
        check_read(source, MODEL, 0, 10 * PAGE)
        error = error_at(source, 59 * PAGE)
        assert error.kind == "missing"
        assert "it was" in error.cause


# -- header fields -----------------------------------------------------------------------------------------------------------

_RIGHT = {name: int.from_bytes(GOOD[offset:offset + size], "big") for name, (offset, size) in FIELDS.items()}


def attempt(path: Path) -> tuple[str, Source | None]:
    try:
        return "", open_image(path)
    except ImageError as error:
        return str(error), None


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ["0", "1", "-1", "+1", "half", "max"])
def test_no_value_of_any_field_leads_to_a_wrong_byte(path: Path, name: str, value: str) -> None:
    size, right = FIELDS[name][1], _RIGHT[name]
    wrong = {"0": 0, "1": 1, "-1": max(right - 1, 0), "+1": right + 1, "half": 1 << (8 * size - 1), "max": (1 << 8 * size) - 1}[value]
    dump = replace(DUMP, fields={name: wrong})
    path.write_bytes(dump.build())
    said, source = attempt(path)
    if source is None:
        assert "\n" not in said
        assert "offset 0x" in said or " at 0x" in said, said
        return
    with source:
        pages = MODEL if source.container.dump_level == 1 and not _is_incomplete(name, wrong) else MODEL | dict.fromkeys(ABSENT, "filtered")
        lost = never_wrong(source, pages, 60)
    if wrong == right or name in {"phys_base", "nr_cpus", "seconds", "max_mapnr"} or "eraseinfo" in name or "note" in name \
            or "vmcoreinfo" in name:
        assert lost == 1  # the hole


def _is_incomplete(name: str, value: int) -> bool:
    return name == "status" and bool(value & 8)


@pytest.mark.parametrize(("fields", "words"), [
    ({"version": 0}, "header_version at offset 0x8 is 0x0"),
    ({"version": 7}, "header_version at offset 0x8 is 0x7"),
    ({"block_size": 8192}, "block_size at offset 0x1ac is 0x2000"),
    ({"sub_hdr_size": 0}, "sub_hdr_size at offset 0x1b0 is 0x0"),
    ({"sub_hdr_size": 2}, "first page's data begin at"),
    ({"sub_hdr_size": 1 << 20}, "sub_hdr_size at offset 0x1b0 is 0x100000"),
    ({"bitmap_blocks": 0}, "bitmap_blocks at offset 0x1b4 is 0x0"),
    ({"bitmap_blocks": 3}, "bitmap_blocks at offset 0x1b4 is 0x3"),
    ({"max_mapnr_64": 0}, "max_mapnr_64 at offset 0x1060 is 0x0"),
    ({"max_mapnr_64": 1 << 35}, "max_mapnr_64 at offset 0x1060 is 0x800000000"),
    ({"max_mapnr_64": 1 << 17}, "bitmap_blocks at offset 0x1b4 is 0x2"),
    ({"split": 2}, "split at offset 0x100c is 0x2"),
    ({"split": 1, "start_pfn_64": 5, "end_pfn_64": 4}, "start_pfn and end_pfn at offset 0x1050"),
    ({"split": 1, "start_pfn_64": 5, "end_pfn_64": 99}, "start_pfn and end_pfn at offset 0x1050"),
    ({"size_note": 1 << 40}, "the size of the notes at offset 0x1038 is 0x10000000000"),
    ({"offset_note": 1 << 40}, "the offset of the notes at offset 0x1030 is 0x10000000000"),
    ({"size_vmcoreinfo": 1 << 17}, "the size of the VMCOREINFO at offset 0x1028 is 0x20000"),
    ({"offset_vmcoreinfo": (1 << 64) - 1}, "the offset of the VMCOREINFO at offset 0x1020"),
])
def test_a_wrong_field_is_named(path: Path, fields: dict[str, int], words: str) -> None:
    assert words in refusal(path, replace(DUMP, fields=fields).build())


def test_more_descriptors_than_pages_are_refused(path: Path) -> None:
    dump = Kdump({n: page_of(n) for n in range(600)}, fields={"max_mapnr_64": 100})
    assert "max_mapnr in the header is wrong" in refusal(path, dump.build())


@pytest.mark.parametrize(("cut", "words"), [(len(NOTES) - 4, "damaged notes at 0x1068"), (20, "damaged notes at 0x1068")])
def test_notes_that_do_not_fit_are_used_as_far_as_they_go(path: Path, cut: int, words: str) -> None:
    with opened(path, replace(DUMP, vmcoreinfo=b"", fields={"size_note": cut}).build()) as source:
        assert any(words in problem for problem in source.container.problems)
        assert len(source.container.cpu_notes) == (2 if cut > 100 else 0)
        check_read(source, MODEL, 0, 10 * PAGE)


def test_erased_data_are_told(path: Path) -> None:
    with opened(path, replace(DUMP, fields={"size_eraseinfo": 4, "offset_eraseinfo": PAGE}).build()) as source:
        assert "erased some data" in " ".join(source.container.problems)


@pytest.mark.parametrize(("machine", "words"), [(b"ppc64", "ppc64"), (b"s390", "31-bit"), (b"x86_64", "x86_64")])
def test_other_machines_are_named(path: Path, machine: bytes, words: str) -> None:
    assert words in refusal(path, replace(DUMP, machine=machine).build())


def test_little_endian_headers_are_another_machines(path: Path) -> None:
    data = bytearray(replace(DUMP, machine=b"x86_64").build())
    data[8:12] = struct.pack("<I", 6)
    words = refusal(path, bytes(data))
    assert "x86_64" in words
    assert "little-endian" in words


def test_without_any_machine_it_is_taken(path: Path) -> None:
    with opened(path, replace(DUMP, machine=b"").build()) as source:
        check_read(source, MODEL, 0, 20 * PAGE)


# -- descriptors and pages that lie ------------------------------------------------------------------------------------------


def with_descriptor(data: bytes, pfn: int, *, offset: int | None = None, size: int | None = None, flags: int | None = None) -> bytes:
    changed, where = bytearray(data), DUMP.descriptor(pfn)
    for at, length, value in ((0, 8, offset), (8, 4, size), (12, 4, flags)):
        if value is not None:
            changed[where + at:where + at + length] = value.to_bytes(length, "big")
    return bytes(changed)


@pytest.mark.parametrize("pfn", [1, 31, 59])
@pytest.mark.parametrize(("changes", "kind", "words"), [
    ({"size": 0}, "broken", "0x0 bytes of data"),
    ({"size": 1}, "broken", "damaged page"),
    ({"size": 4097}, "broken", "0x1001 bytes of data"),
    ({"size": 0xFFFFFFFF}, "broken", "0xffffffff bytes of data"),
    ({"size": 4096}, None, ""),  # zlib does not mind what follows a page, but for the last one, where it is beyond the end
    ({"offset": 0}, "broken", "into the headers"),
    ({"offset": 1}, "broken", "into the headers"),
    ({"offset": DUMP.descriptors}, "broken", "into the headers"),
    ({"offset": len(GOOD)}, "broken", "the file ends at"),
    ({"offset": (1 << 64) - 1}, "broken", "the file ends at"),
    ({"offset": 1 << 63}, "broken", "the file ends at"),
    ({"flags": 0}, "broken", "not 0x1000"),
    ({"flags": 2}, "broken", "damaged page"),
    ({"flags": 3}, "broken", "flags 0x3 are unknown"),
    ({"flags": 4}, "broken", "damaged page"),
    ({"flags": 8}, "broken", "flags 0x8 are unknown"),
    ({"flags": 0x20}, "broken", "damaged page"),
    ({"flags": 0xFFFFFFFF}, "broken", "flags 0xffffffff are unknown"),
])
def test_a_descriptor_that_lies_spoils_its_page_only(path: Path, pfn: int, changes: dict[str, int], kind: str | None, words: str) -> None:
    if pfn == 59 and (kind is None or words == "the file ends at"):  # the last page beyond the end: as if it was cut off
        kind, words = "missing", "cut off"
    data = with_descriptor(GOOD, pfn, **changes)
    with opened(path, data) as source:
        pages: dict[int, bytes | str] = MODEL if kind is None else MODEL | {pfn: kind}
        check_all(source, pages, 62, reads=10)
        if kind:
            error = error_at(source, pfn * PAGE)
            assert words in error.cause
            assert error.file == str(path)


def packed(content: bytes, compression: str) -> bytes:
    return {"zlib": lambda: zlib.compress(content, 9), "lzo": lambda: bytes(lzallright.LZOCompressor().compress(content)),
            "snappy": lambda: bytes(cramjam.snappy.compress_raw(content)), "zstd": lambda: zstandard.ZstdCompressor().compress(content),
            "zstd without size": lambda: zstandard.ZstdCompressor(write_content_size=False).compress(content)}[compression]()


ZSTD_LARGE = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 960 << 17) + b"".join(  # 120 MiB, in RLE blocks of 128 KiB
    ((1 << 17 << 3) | 2 | (n == 959)).to_bytes(3, "little") + b"x" for n in range(960))
ZSTD_GIB = ZSTD_LARGE[:5] + struct.pack("<Q", 1 << 30) + ZSTD_LARGE[13:]


@pytest.mark.parametrize(("compression", "data"), [
    *((name, packed(bytes(size), name)) for name in ("zlib", "lzo", "snappy", "zstd", "zstd without size")
      for size in (0, 1, 4095, 4097, 8192, 70_000)),
    ("zlib", packed(bytes(4_000_000), "zlib")),
    ("lzo", packed(bytes(700_000), "lzo")),
    ("snappy", b"\xff\xff\xff\xff\x0f" + packed(bytes(4096), "snappy")[2:]),
    ("snappy", b"\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
    ("zstd", ZSTD_GIB),
    ("zstd", ZSTD_LARGE),
    ("zstd without size", packed(bytes(1 << 24), "zstd without size")),
    *((name, b"") for name in ("zlib", "lzo", "snappy", "zstd")),
    *((name, random.Random(name).randbytes(300)) for name in ("zlib", "lzo", "snappy", "zstd")),
])
def test_a_page_that_unpacks_to_anything_else_than_a_page_is_broken(path: Path, compression: str, data: bytes) -> None:
    assert len(data) <= PAGE
    flags = FLAGS[compression.partition(" ")[0]]
    dump = bytearray(with_descriptor(GOOD, 31, offset=len(GOOD), size=len(data), flags=flags))
    with opened(path, bytes(dump + data)) as source:
        check_all(source, MODEL | {31: "broken"}, 62, reads=5)


@pytest.mark.parametrize(("flags", "bomb"), [
    (FLAGS["zlib"], packed(bytes(4_000_000), "zlib")), (FLAGS["zstd"], ZSTD_LARGE),
    (FLAGS["zstd"], packed(bytes(1 << 24), "zstd without size")),
    (FLAGS["snappy"], b"\xff\xff\xff\xff\x0f" + bytes(100))], ids=["zlib", "zstd", "zstd without size", "snappy"])
def test_damaged_pages_cost_no_memory(path: Path, flags: int, bomb: bytes) -> None:
    dump = Kdump({n: page_of(n) for n in range(2, 256)} | {0: page_of(0), 1: page_of(1)})
    data = bytearray(dump.build())
    for number in (0, 128):
        struct.pack_into(">QII", data, dump.descriptor(number), len(data), len(bomb), flags)
        data += bomb
    struct.pack_into(">Q", data, dump.descriptor(1), dump.data)  # so that the descriptors look as if they were in place
    path.write_bytes(data)
    cost = cost_of_opening(path)
    assert cost.said.startswith("opened")
    assert cost.memory < MEMORY_LIMIT
    assert cost.seconds < 5


# -- many and huge -----------------------------------------------------------------------------------------------------------


def sparse_dump(path: Path, max_pfn: int, *, ones: bool, rest: bytes = b"", **fields: int) -> None:
    """A dump whose bitmaps are as large as *max_pfn* needs: zeros (a hole of the file), or a first bitmap of ones."""
    small = Kdump({}, max_pfn=8, level=31, fields={"max_mapnr": min(max_pfn, (1 << 32) - 1), "max_mapnr_64": max_pfn} | fields)
    blocks = -(-max_pfn // (8 * PAGE))
    small = replace(small, fields=dict(small.fields) | {"bitmap_blocks": 2 * blocks})
    with open(path, "wb") as file:
        file.write(small.build()[:small.bitmap])
        if ones:
            file.writelines(b"\xff" * (256 * PAGE) for _ in range(-(-blocks // 256)))
        file.truncate(small.bitmap + 2 * blocks * PAGE)
        file.seek(0, os.SEEK_END)
        file.write(rest)


def test_a_dump_of_a_machine_with_16_tib(path: Path) -> None:
    sparse_dump(path, 1 << 32, ones=True)
    with open_image(path) as source:
        assert source.size == 1 << 44
        assert [(r.start, r.end) for r in source.container.memory] == [(0, 1 << 44)]
        assert error_at(source, (1 << 44) - 1).kind == "missing"  # the second bitmap is empty
        assert source.next_data(0, 1 << 44) == (1 << 44, 1 << 44)
    cost = cost_of_opening(path)
    assert cost.memory < 60 << 10
    assert cost.seconds < 5


def test_a_header_that_says_64_tib_costs_no_memory(path: Path) -> None:
    sparse_dump(path, 1 << 34, ones=False)
    cost = cost_of_opening(path)
    assert cost.memory < MEMORY_LIMIT
    assert cost.said.startswith("opened 0x400000000000")


def test_a_bitmap_of_countless_pieces_is_refused(path: Path) -> None:
    sparse_dump(path, 1 << 22, ones=False)
    with open(path, "r+b") as file:
        file.seek(Kdump({}, max_pfn=8).bitmap)
        file.write(b"\x55" * ((1 << 22) // 8))
    assert "the first bitmap at offset 0x2000 names more than 65536 pieces of memory" in refusal(path)
    cost = cost_of_opening(path)
    assert cost.memory < MEMORY_LIMIT
    assert cost.seconds < 10


# -- split dumps that do not fit ---------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"dump.{number}" for number in range(1, 4)]
    for path, data in zip(paths, DUMP.split(20, 40), strict=True):
        path.write_bytes(data)
    return paths


def list_refusal(paths: list[Path]) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_part_given_twice(parts: list[Path]) -> None:
    assert "give each part of the dump once" in list_refusal([parts[0], parts[1], parts[1]])


def test_a_copy_of_a_part_is_not_the_next_part(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[1].read_bytes())
    with open_image(parts[0]) as source:
        assert source.container.incomplete == "of a split dump, the file with memory 0x28000-0x3c000 is not beside the others"


def test_a_part_of_another_dump(parts: list[Path]) -> None:
    parts[1].write_bytes(replace(DUMP, release=b"6.12.0").split(20, 40)[1])
    assert f"{parts[1]}: no part of the dump that {parts[0]} is a part of" in list_refusal(parts)


def test_a_whole_dump_among_parts(parts: list[Path]) -> None:
    parts[2].write_bytes(GOOD)
    assert f"{parts[2]}: a whole kdump-compressed dump" in list_refusal(parts)


def test_several_whole_dumps(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(GOOD)
    assert "give it alone" in list_refusal(paths)


def test_a_part_that_is_cut_off_leaves_the_others(parts: list[Path]) -> None:
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[:-10])
    with open_image(parts) as source:
        assert source.container.incomplete is not None
        assert "dump.2 is cut off at" in source.container.incomplete
        check_all(source, MODEL | {39: "missing"}, 62, reads=10)


def test_a_refused_part_leaks_no_descriptor(parts: list[Path]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    data = bytearray(parts[1].read_bytes())
    data[DUMP.bitmap + PAGE + 3] ^= 1
    parts[1].write_bytes(data)
    assert "dump.2: damaged dump" in refusal(parts[0])
    assert len(os.listdir("/proc/self/fd")) == before


# -- libraries ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compression", "module"), [("lzo", "lzallright"), ("snappy", "cramjam"), ("zstd", "zstandard")])
def test_without_the_library_the_extra_is_named(path: Path, compression: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    words = refusal(path, replace(DUMP, compression=compression).build())
    assert f"pip install 'vmcorefs[{compression}]'" in words
    assert module in words


def test_without_the_library_of_single_pages_the_others_are_served(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzallright", None)
    changes: dict[str, Any] = {"flags": 2}
    with opened(path, with_descriptor(GOOD, 31, **changes)) as source:
        check_all(source, MODEL | {31: "broken"}, 62, reads=5)
        assert "pip install 'vmcorefs[lzo]'" in str(error_at(source, 31 * PAGE))
