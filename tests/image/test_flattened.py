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
        assert len(file._chains) <= 6
        assert file.pread(file.size, 0) == PLAIN


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
    plain = rebuilt(records)
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder) / "dump", flattened(records)) as file:
        assert file.incomplete is None
        assert file.size == len(plain)
        assert file.pread(len(plain), 0) == plain
        for _ in range(20):
            start = rng.randrange(len(plain))
            size = rng.randrange(len(plain) - start + 1)
            assert file.pread(size, start) == plain[start:start + size]


def test_long_chains_between_others(path: Path) -> None:
    rng = random.Random(5)
    a, b, c = rng.randbytes(400_000), rng.randbytes(400), rng.randbytes(5000)
    records: list[tuple[int, bytes]] = []
    for i in range(400):  # chain b goes on once in 200 records
        records += [(i * 1000, a[i * 1000:i * 1000 + 1000]), (500_000 + i * 12, c[i * 12:i * 12 + 12])]
        if i % 100 == 0:
            records.append((600_000 + i, b[i:i + 100]))
    with inside(path, flattened(records)) as file:
        assert len(file._chains) == 3
        plain = rebuilt(records)
        assert file.pread(len(plain), 0) == plain
        for _ in range(200):
            start = rng.randrange(len(plain))
            assert file.read_some(700, start) == plain[start:start + 700]


def test_gaps_are_zero(path: Path) -> None:
    with inside(path, flattened([(100, b"abc"), (5000, b"d")])) as file:
        assert file.pread(5001, 0) == bytes(100) + b"abc" + bytes(5000 - 103) + b"d"
        assert error_at(file, 5001).kind == "missing"
        assert error_at(file, 4990, 100).good == 11


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
