"""Flattened dumps: records in any order, overlapping, cut off and damaged; what is inside is recognised in turn."""

from __future__ import annotations

import os
import random
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers import elf
from tests.builders.containers.flattened import END, HEADER, flattened, pieces, rebuilt, record
from tests.builders.containers.kdump import Kdump
from tests.image.bad_disk import BadDisk
from tests.image.model import PAGE, check_all, error_at, opened, page_of, refusal
from tests.image.opening import cost_of_opening
from tests.image.samples import sample
from vmcorefs.errors import OldmemReadError
from vmcorefs.image.file import ImageFile
from vmcorefs.image.flattened import FlattenedFile

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
PAGES = {n: page_of(n) for n in range(100) if n % 5}
DUMP = Kdump(PAGES, frozenset(n for n in range(100) if n % 5 == 0), notes=elf.cpu(0))
MODEL: dict[int, bytes | str] = {**dict.fromkeys(DUMP.absent, bytes(PAGE)), **PAGES}
PLAIN = DUMP.build()
RECORDS = pieces(PLAIN, 1500)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def inside(path: Path, data: bytes) -> FlattenedFile:
    path.write_bytes(data)
    return FlattenedFile(ImageFile(path))


def makedumpfile_order() -> list[tuple[int, bytes]]:
    """Headers, bitmaps, then a piece of the descriptors before each piece of the data."""
    parts = [(0, PLAIN[:0x1D0]), (PAGE + 104, PLAIN[PAGE + 104:DUMP.bitmap]), (PAGE, PLAIN[PAGE:PAGE + 104]),
             (DUMP.bitmap, PLAIN[DUMP.bitmap:DUMP.descriptors])]
    descriptors = pieces(PLAIN[:DUMP.data], 24 * 7, DUMP.descriptors)
    data = pieces(PLAIN, 4000, DUMP.data)
    for i in range(max(len(descriptors), len(data))):
        parts += descriptors[i:i + 1] + data[i:i + 1]
    return parts


@pytest.mark.parametrize("order", ["rising", "falling", "shuffled", "makedumpfile"])
def test_records_in_any_order(path: Path, order: str) -> None:
    records = {"rising": RECORDS, "falling": RECORDS[::-1], "shuffled": random.Random(1).sample(RECORDS, len(RECORDS)),
               "makedumpfile": makedumpfile_order()}[order]
    with opened(path, flattened(records)) as source:
        check_all(source, MODEL, 102, reads=20)
        container = source.container
        assert (container.format, container.incomplete) == ("kdump-compressed", None)
        assert container.detail == "kdump-compressed, version 6, zlib, dump level 1, flattened"
        assert source.path == str(path)
        assert [file.path for file in source.files] == [str(path)]
        assert len(container.cpu_notes) == 1


def test_what_makedumpfile_writes_takes_few_chains(path: Path) -> None:
    with inside(path, flattened(makedumpfile_order())) as file:
        assert len(file._records.chains) + len(file._records.overlays) <= 6
        assert file.pread(file.size, 0) == PLAIN


@pytest.mark.parametrize("name", ["synth.kdump-flat", "r32.qemu.kdump-zlib"])
def test_the_gaps_of_real_dumps_are_no_problem(name: str) -> None:
    with FlattenedFile(ImageFile(sample(name))) as file:
        assert file.problems == ()
        assert file._gaps() == []
        assert len(file.pread(file.size, 0)) == file.size


def test_whatever_follows_the_end_record_does_not_matter(path: Path) -> None:
    with opened(path, flattened(RECORDS) + random.Random(1).randbytes(5000)) as source:
        assert source.container.incomplete is None


def test_an_elf_core_inside(path: Path) -> None:
    core = elf.core([elf.Load(0, page_of(1) * 3), elf.Load(16 * PAGE, page_of(2))], elf.cpu(0))
    with opened(path, flattened(pieces(core, 1000)[::-1])) as source:
        assert source.container.format == "elf"
        assert source.container.detail.endswith(", flattened")
        assert source.pread(3 * PAGE, 0) == page_of(1) * 3
        assert source.pread(PAGE, 16 * PAGE) == page_of(2)


def test_closing_closes_the_file(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = opened(path, flattened(RECORDS))
    source.close()
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert error_at(source, PAGE).kind == "broken"


# -- the file inside, against what makedumpfile -R would make of it ----------------------------------------------------------


def recorded(records: list[tuple[int, bytes]]) -> bytes:
    """A 1 for each byte that a record has."""
    return rebuilt([(offset, bytes([1]) * len(data)) for offset, data in records])


def good_from(there: bytes, start: int, size: int) -> int:
    """How many bytes can be read at *start* before the first one that no record has."""
    hole = there.find(0, start)
    return size if hole < 0 else min(size, hole - start)


def contradicting(records: list[tuple[int, bytes]]) -> bool:
    """Whether a record has other bytes than one before it for the same place."""
    known: dict[int, set[int]] = {}
    for offset, data in records:
        for at, byte in enumerate(data, offset):
            known.setdefault(at, set()).add(byte)
    return any(len(values) > 1 for values in known.values())


@pytest.mark.parametrize("size", [0x1D0, 5000, 50_000])
def test_zeros_that_kept_a_place_are_no_problem(path: Path, size: int) -> None:
    with opened(path, flattened([(0, bytes(size)), *pieces(PLAIN, 3000, size), (0, PLAIN[:size])])) as source:
        assert source.container.problems == ()
        check_all(source, MODEL, 102, reads=5)


@settings(max_examples=EXAMPLES * 5, deadline=None)
@given(st.integers(0, 100_000))
def test_any_records_give_what_makedumpfile_rebuilds(seed: int) -> None:
    rng = random.Random(seed)
    records, position = [], 0
    for _ in range(rng.choice((1, 2, 5, 30, 300))):
        if rng.random() < rng.choice((0.1, 0.5, 1)):
            position = rng.randrange(rng.choice((20, 2000, 20000)))
        data = rng.randbytes(rng.choice((1, 3, 17, 500)))
        records.append((position, data))
        position += len(data)
    plain, there = rebuilt(records), recorded(records)
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder) / "dump", flattened(records)) as file:
        assert file.incomplete is None
        assert file.size == len(plain)
        for _ in range(20):
            start = rng.choice((0, rng.randrange(len(plain))))
            size = rng.randrange(len(plain) - start + 1)
            assert file.read_some(size, start) == plain[start:start + good_from(there, start, size)]
        assert any("no record of the flattened file has" in text for text in file.problems) == (0 in there)
        assert any("two records" in text and "the later one is used" in text for text in file.problems) == contradicting(records)


def test_long_chains_between_others(path: Path) -> None:
    rng = random.Random(5)
    a, b, c = rng.randbytes(400_000), rng.randbytes(400), rng.randbytes(5000)
    records: list[tuple[int, bytes]] = []
    for i in range(400):  # chain b goes on once in 200 records
        records += [(i * 1000, a[i * 1000:i * 1000 + 1000]), (500_000 + i * 12, c[i * 12:i * 12 + 12])]
        if i % 100 == 0:
            records.append((600_000 + i, b[i:i + 100]))
    with inside(path, flattened(records)) as file:
        assert len(file._records.chains) == 3
        plain, there = rebuilt(records), recorded(records)
        for _ in range(200):
            start = rng.randrange(len(plain))
            assert file.read_some(700, start) == plain[start:start + good_from(there, start, 700)]


def test_gaps_where_nothing_is_known_are_missing(path: Path) -> None:
    with inside(path, flattened([(0, b"abc"), (5000, b"d")])) as file:
        assert file.pread(3, 0) == b"abc"
        assert error_at(file, 3).kind == error_at(file, 5001).kind == "missing"
        assert error_at(file, 0, 100).good == 3
        assert file.pread(1, 5000) == b"d"
        assert "no record of the flattened file has the bytes 0x3-0x1388 of the dump in it (0x1385 bytes in 1 part(s))" in file.problems[0]


# -- gaps that the writers leave, and others ---------------------------------------------------------------------------------


def test_the_gaps_that_makedumpfile_leaves_are_zeros_of_the_file(path: Path) -> None:
    """Main header, sub header and notes, the bits of both bitmaps up to the last page, and all behind them."""
    half = (DUMP.descriptors - DUMP.bitmap) // 2
    bits = -(-int.from_bytes(PLAIN[PAGE + 0x60:PAGE + 0x68], "big") // 8)
    assert bits < half
    notes = int.from_bytes(PLAIN[PAGE + 0x30:PAGE + 0x38], "big") + int.from_bytes(PLAIN[PAGE + 0x38:PAGE + 0x40], "big")
    stored = [(0, 0x1D0), (PAGE, notes), (DUMP.bitmap, DUMP.bitmap + bits), (DUMP.bitmap + half, DUMP.bitmap + half + bits),
              (DUMP.descriptors, len(PLAIN))]
    with inside(path, flattened([(a, PLAIN[a:b]) for a, b in stored])) as file:
        assert file.problems == ()
        assert file.pread(file.size, 0) == PLAIN
    for number, (a, b) in enumerate(stored):  # and if it is one byte more, that byte is missing
        parts = [*stored[:number], (a, b - 1 - (number == 4)), *([(b - 1, b)] if number == 4 else []), *stored[number + 1:]]
        lost = b - 1 - (number == 4)
        with inside(path, flattened([(x, PLAIN[x:y]) for x, y in parts])) as file:
            if number == 0:  # without its header nothing is known of the dump
                assert "no record" in file.problems[0]
                continue
            assert f"has the bytes {lost:#x}-{lost + 1:#x} of the dump in it (0x1 bytes in 1 part(s))" in file.problems[0]
            assert error_at(file, lost).kind == "missing"
            assert file.read_some(file.size, 0) == PLAIN[:lost]


@pytest.mark.parametrize("version", [1, 3, 4, 5])
def test_an_older_sub_header_is_shorter(path: Path, version: int) -> None:
    plain = bytearray(replace(DUMP, notes=b"").build())
    plain[8:12] = version.to_bytes(4, "big")
    end = PAGE + {1: 0xC, 3: 0x30, 4: 0x40, 5: 0x50}[version]
    begin = int.from_bytes(plain[0x1B0:0x1B4], "big") * PAGE + PAGE
    plain[end:begin] = bytes(begin - end)
    with inside(path, flattened([(0, bytes(plain[:end])), (begin, bytes(plain[begin:]))])) as file:
        assert file.problems == ()
        assert file.pread(file.size, 0) == plain


def test_a_sub_header_that_is_written_again_is_no_problem(path: Path) -> None:
    """makedumpfile --config: update_eraseinfo_of_sub_header()."""
    before = bytearray(PLAIN[PAGE:PAGE + 104])
    before[0x40:0x50] = b"x" * 16
    with opened(path, flattened([(0, PLAIN[:PAGE]), (PAGE, bytes(before)), *pieces(PLAIN, 3000, PAGE + 104),
                                 (PAGE, PLAIN[PAGE:PAGE + 104])])) as source:
        assert source.container.problems == ()
        check_all(source, MODEL, 102, reads=5)


def test_headers_that_differ_are_told_and_the_later_one_counts(path: Path) -> None:
    changed = bytearray(PLAIN[:0x1D0])
    changed[0x20] ^= 1
    with opened(path, flattened([(0, bytes(changed)), *pieces(PLAIN, 3000, 0x1D0), (0, PLAIN[:0x1D0])])) as source:
        (problem,) = source.container.problems
        assert "two records of the flattened file have the bytes 0x0-0x1d0" in problem
        assert "(from 0x1000 on): the later one is used, as makedumpfile -R does" in problem
        check_all(source, MODEL, 102, reads=5)


CORE = elf.core([elf.Load(0, page_of(1) * 30), elf.Load(64 * PAGE, page_of(2) * 30)], elf.cpu(0))
CORE_PAGES = {n: (page_of(1) if n < 32 else page_of(2)) for n in (*range(30), *range(64, 94))}


def test_the_same_record_twice_is_no_problem(path: Path) -> None:
    records = pieces(CORE, 10_000)
    with opened(path, flattened([*records, records[7]])) as source:
        assert source.container.problems == ()
        assert source.pread(30 * PAGE, 0) == page_of(1) * 30


@pytest.mark.parametrize("damage", [1 << 40, 1 << 20, 1 << 14, 1 << 12, 1, -1, -(1 << 12), -(1 << 14)])
@pytest.mark.parametrize("core", [CORE, elf.core([elf.Load(0, bytes(PAGE) * 30), elf.Load(64 * PAGE, page_of(2) * 30)], elf.cpu(0))],
                         ids=["full", "zeros"])
def test_a_damaged_offset_of_a_record_gives_no_wrong_byte_of_memory(path: Path, core: bytes, damage: int) -> None:
    records = pieces(core, 10_000)
    with opened(path, core) as source:
        right = {n: source.pread(PAGE, n * PAGE) for n in CORE_PAGES}
    for number in range(2, len(records)):  # the first one has the headers
        moved = [*records]
        offset, data = moved[number]
        moved[number] = offset + damage, data
        if offset + damage < 10_000:
            continue
        with opened(path, flattened(moved)) as source:
            assert "no record of the flattened file has" in " ".join(source.container.problems)
            errors = 0
            for page, content in right.items():
                got = source.read_some(PAGE, page * PAGE)
                assert content.startswith(got)
                errors += got != content
            assert errors


def test_padding_of_notes_is_skipped_by_makedumpfile(path: Path) -> None:
    """write_elf_eraseinfo() begins at a multiple of 4 behind the notes."""
    begin = 64 + 3 * 56
    end = begin + len(elf.cpu(0))
    core = bytearray(CORE)
    core[end - 3:end] = bytes(3)
    with inside(path, flattened([(0, bytes(core[:end - 3])), (end, bytes(core[end:]))])) as file:
        assert file.problems == ()
        assert file.pread(file.size, 0) == core
    with inside(path, flattened([(0, bytes(core[:end - 4])), (end, bytes(core[end:]))])) as file:
        assert error_at(file, end - 4).kind == "missing"


def test_lost_program_headers_are_not_taken_for_none(path: Path) -> None:
    assert "program headers cannot be read" in refusal(path, flattened([(0, CORE[:64 + 2 * 56]), *pieces(CORE, 5000, 64 + 3 * 56)]))


# -- cut off and damaged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 17, 31, 32, 4095, 4096, 4097, 4096 + 15])
def test_cut_off_before_its_first_record_nothing_is_left(path: Path, size: int) -> None:
    assert f"{size:#x}" in refusal(path, flattened(RECORDS)[:size]) or size <= 32


def test_cut_off_the_records_that_are_there_are_served(path: Path) -> None:
    data = flattened(RECORDS, end=False)
    assert len(RECORDS) > 20
    for less in (0, 1, 15, 1500, 1501, 1516, len(data) // 3):
        size = len(data) - less
        have = sum(min(max(size - 4096 - 16 * (i + 1) - 1500 * i, 0), len(piece)) for i, (_, piece) in enumerate(RECORDS))
        offsets = {pfn: struct.unpack_from(">QI", PLAIN, DUMP.descriptor(pfn)) for pfn in PAGES}
        pages = {n: page if n in DUMP.absent or sum(offsets[n]) <= have else "missing" for n, page in MODEL.items()}
        with opened(path, data[:size]) as source:
            assert source.container.incomplete is not None
            assert f"{size:#x}" in source.container.incomplete
            check_all(source, pages, 102, reads=10)


def test_cut_off_gaps_are_not_zero_but_missing(path: Path) -> None:
    with inside(path, flattened([(100, b"abc"), (5000, b"d")], end=False)) as file:
        assert file.incomplete
        error = error_at(file, 99)
        assert error.kind == "missing"
        assert "without an end record" in error.cause
        assert file.pread(3, 100) == b"abc"
        assert error_at(file, 102, 5).good == 1


@pytest.mark.parametrize(("offset", "size", "words"), [
    (-1, 5, "the record at 0x1000 says 0x5 bytes at -0x1"),
    (-2, -2, "the record at 0x1000"),
    (0, 0, "the record at 0x1000 says 0x0 bytes"),
    (0, -1, "the record at 0x1000 says -0x1 bytes"),
    (-(1 << 63), 1, "the record at 0x1000"),
    ((1 << 63) - 1, 1, "the record at 0x1000"),
    (0, (1 << 63) - 1, "the record at 0x1000"),
    (1 << 47, 1, "the record at 0x1000"),
])
def test_a_record_that_cannot_be_is_named(path: Path, offset: int, size: int, words: str) -> None:
    assert words in refusal(path, HEADER + struct.pack(">qq", offset, size) + bytes(100) + END)


def test_without_the_record_of_its_begin_it_is_refused(path: Path) -> None:
    records = [(1 << 46, PLAIN[:1500]), *RECORDS[1:]]
    path.write_bytes(flattened(records))
    cost = cost_of_opening(path)
    assert f"damaged flattened dump: no record of the flattened file has the bytes 0x0-{1500:#x}" in cost.said
    with FlattenedFile(ImageFile(path)) as file:
        assert len(PLAIN) - PAGE < sum(len(data) for _, data in file.scan(0, file.size)) < len(PLAIN)


def test_nothing_but_an_end_is_refused(path: Path) -> None:
    assert "the flattened dump is empty" in refusal(path, HEADER + END)


@pytest.mark.parametrize("field", [16, 24])
@pytest.mark.parametrize("value", [0, 2, (1 << 64) - 1])
def test_other_types_and_versions_are_refused(path: Path, field: int, value: int) -> None:
    data = bytearray(flattened(RECORDS))
    data[field:field + 8] = value.to_bytes(8, "big")
    assert "only type 1, version 1 is known" in refusal(path, bytes(data))


def test_what_is_inside_is_refused_under_the_name_of_the_file(path: Path) -> None:
    words = refusal(path, flattened(pieces(replace(DUMP, fields={"block_size": 1}).build(), 1500)))
    assert words.startswith(f"{path}: damaged header of a kdump-compressed dump: block_size")


def test_files_in_files_end_somewhere(path: Path) -> None:
    data = PLAIN
    for _ in range(3):
        data = flattened([(0, data)])
    with opened(path, data):
        pass
    assert "3 times over" in refusal(path, flattened([(0, data)]))


def test_too_many_pieces_are_refused_in_little_time_and_memory(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(HEADER)
        file.writelines(record(1 << 40 | n * 10, b"x") for n in range(100_000, 0, -1))
    cost = cost_of_opening(path)
    assert "in too many pieces" in cost.said
    assert cost.memory < 100 << 10
    assert cost.seconds < 15


def test_overlapping_without_end_is_refused_in_little_time(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(HEADER)
        file.writelines(record(n % 7, b"xyz") for n in range(100_000))
    cost = cost_of_opening(path)
    assert "in too many pieces" in cost.said
    assert cost.seconds < 15


def test_more_than_a_million_records_of_next_to_nothing_are_refused(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(HEADER)
        file.write(b"".join(record(n, b"x") for n in range(1_100_000)))
        file.write(END)
    cost = cost_of_opening(path)
    assert "in too many pieces" in cost.said
    assert f"rebuild it: makedumpfile -R DUMP < {path}" in cost.said
    assert cost.memory < 40 << 10


def test_countless_overlaps_are_bounded(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(HEADER)
        file.writelines(record(n * 10, b"x") for n in range(30_000))
        file.writelines(record(n % 2, b"y" * 300_000) for n in range(250))
        file.write(END)
    cost = cost_of_opening(path)
    assert cost.memory < 100 << 10
    assert cost.seconds < 15


def test_a_million_records_in_order_cost_little(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(HEADER)
        file.writelines(record(n * 8, b"abcdefgh") for n in range(1_000_000))
        file.write(END)
    cost = cost_of_opening(path)
    assert cost.memory < 40 << 10
    assert cost.said.startswith("opened 0x7a1200 ")


# -- bad disks ---------------------------------------------------------------------------------------------------------------


def test_the_good_bytes_before_a_bad_sector_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with inside(path, flattened(RECORDS)) as file:
        where = 4096 + 16 * 5 + 1500 * 4 + 700  # in the fifth record
        BadDisk(monkeypatch, path, [(where, where + 1)])
        error = error_at(file, 0, 10_000)
        assert (error.good, error.offset, error.kind) == (4 * 1500 + 700, where, "broken")
        assert file.read_some(20_000, 100) == PLAIN[100:6700]


def test_a_bad_record_header_while_opening_ends_the_dump_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = 4096 + 16 * 5 + 1500 * 4 - 8
    path.write_bytes(flattened(RECORDS))
    BadDisk(monkeypatch, path, [(where, where + 1)])
    with FlattenedFile(ImageFile(path)) as file:
        assert file.size == 4 * 1500
        assert file.incomplete
        assert "cannot be read" in file.incomplete
        assert error_at(file, 6000).kind == "missing"


def test_a_file_that_changes_while_it_is_open_is_noticed(path: Path) -> None:
    with inside(path, flattened(RECORDS)) as file:
        with open(path, "r+b") as other:
            other.seek(4096)
            other.write(bytes(16))
        with pytest.raises(OldmemReadError, match="another one than when the dump was opened"):
            file.pread(100, 0)
