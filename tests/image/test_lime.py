"""LiME files of s390x (big endian), and AVML's uncompressed ones (little endian)."""

from __future__ import annotations

import os
import random
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers import lime
from tests.builders.containers.lime import FIELDS, HEADER, avml
from tests.image.opening import cost_of_opening, kind_at, opened, refusal
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.ranges import Range

PAGE = 4096
MIB = 1 << 20
EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
A, B = random.Random(1).randbytes(3 * PAGE), random.Random(2).randbytes(2 * PAGE)
RANGES = ((0, A), (16 * PAGE, B))
GOOD = lime.lime(RANGES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def test_ranges_of_big_endian_lime(path: Path) -> None:
    with opened(path, GOOD) as source:
        container = source.container
        assert (container.format, container.writer) == ("lime", "LiME")
        assert container.memory == (Range(0, 3 * PAGE), Range(16 * PAGE, 18 * PAGE))
        assert (source.pread(3 * PAGE, 0), source.pread(2 * PAGE, 16 * PAGE)) == (A, B)
        assert kind_at(source, 3 * PAGE) == kind_at(source, 18 * PAGE) == "missing"
        assert (container.incomplete, container.problems, container.cpu_notes) == (None, (), ())


def test_little_endian_lime_with_ranges_longer_than_avml_writes_has_holes(path: Path) -> None:
    with opened(path, lime.lime([(0, bytes(17 * MIB)), (32 * MIB, B)], "<")) as source:
        assert source.container.writer == "LiME"
        assert kind_at(source, 20 * MIB) == "missing"
        assert source.container.memory == (Range(0, 17 * MIB), Range(32 * MIB, 32 * MIB + len(B)))


def test_avml_leaves_out_blocks_of_zeros(path: Path) -> None:
    memory = bytearray(40 * MIB)
    memory[5:8], memory[35 * MIB:35 * MIB + 5] = b"abc", b"defgh"
    with opened(path, avml(bytes(memory))) as source:
        assert source.container.writer == "AVML"
        assert path.stat().st_size < 26 * MIB
        assert source.size == 40 * MIB
        assert source.pread(40 * MIB, 0) == memory
        assert source.container.memory == ()  # holes cannot be told from zeros
        assert kind_at(source, 40 * MIB) == kind_at(source, 1 << 45) == "missing"


def test_ranges_that_touch_are_one_in_the_memory_map_and_order_does_not_matter(path: Path) -> None:
    with opened(path, lime.lime([(16 * PAGE, B), (3 * PAGE, B), (0, A)])) as source:
        assert source.container.memory == (Range(0, 5 * PAGE), Range(16 * PAGE, 18 * PAGE))
        assert source.pread(5 * PAGE, 0) == A + B


def test_sizes_need_not_be_whole_pages(path: Path) -> None:
    with opened(path, lime.lime([(0, A[:5000]), (8192, B[:1])])) as source:
        assert source.pread(5000, 0) == A[:5000]
        assert source.pread(1, 8192) == B[:1]
        assert kind_at(source, 5000) == "missing"


@settings(max_examples=EXAMPLES, deadline=None)
@given(gaps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3 * PAGE)), min_size=1, max_size=8), lost=st.integers(0, 2 * PAGE),
       seed=st.integers(0, 9), order=st.sampled_from([">", "<"]))
def test_every_page_equals_the_model(gaps: list[tuple[int, int]], lost: int, seed: int, order: str) -> None:
    rng = random.Random(seed)
    rows, position = [], 0
    for gap, size in gaps:
        position += gap * 1000
        rows.append((position, rng.randbytes(size)))
        position += size
    rng.shuffle(rows)
    data = lime.lime(rows, order)
    last = rows[-1]
    lost = min(lost, len(last[1]))
    data = data[:len(data) - lost]
    model: dict[int, int | None] = dict.fromkeys(range(position), 0) if order == "<" else {}  # AVML leaves out what is zero
    for first, content in rows:
        model |= {first + n: byte for n, byte in enumerate(content)}
    for at in range(last[0] + len(last[1]) - lost, last[0] + len(last[1])):
        model[at] = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        path.write_bytes(data)
        with open_image(path) as source:
            assert source.size == max(first + len(content) for first, content in rows)
            assert bool(source.container.incomplete) == bool(lost)
            for _ in range(20):
                start, size = rng.randrange(source.size + 100), rng.randrange(3 * PAGE)
                expected = bytearray()
                for at in range(start, start + size):
                    byte = model.get(at)
                    if byte is None:
                        break
                    expected.append(byte)
                assert source.read_some(size, start) == expected


# -- cut off and damaged -----------------------------------------------------------------------------------------------------

SECOND = HEADER + len(A)


@pytest.mark.parametrize("size", [HEADER, HEADER + 1, HEADER + PAGE, SECOND - 1, SECOND + 1, SECOND + 8, SECOND + HEADER - 1,
                                  SECOND + HEADER, SECOND + HEADER + 1, len(GOOD) - 1])
def test_cut_off_it_is_served_as_far_as_it_goes(path: Path, size: int) -> None:
    with opened(path, GOOD[:size]) as source:
        assert source.container.incomplete is not None
        assert f"{size:#x}" in source.container.incomplete or "inside the header at 0x3020" in source.container.incomplete
        assert source.read_some(3 * PAGE, 0) == A[:size - HEADER]
        assert source.read_some(2 * PAGE, 16 * PAGE) == B[:max(0, size - SECOND - HEADER)]


def test_cut_off_behind_a_range_nobody_can_tell(path: Path) -> None:
    with opened(path, GOOD[:SECOND]) as source:
        assert source.container.incomplete is None
        assert source.size == 3 * PAGE


@pytest.mark.parametrize("size", [8, 31])
def test_cut_off_inside_its_only_header_nothing_is_left(path: Path, size: int) -> None:
    assert "cut off" in refusal(path, GOOD[:size])


def test_zeros_where_the_next_header_should_be_were_never_written(path: Path) -> None:
    with opened(path, GOOD + bytes(5 * PAGE)) as source:
        assert source.container.incomplete is not None
        assert f"zeros are at {len(GOOD):#x}" in source.container.incomplete
        assert source.pread(2 * PAGE, 16 * PAGE) == B


def test_whatever_follows_the_last_range_is_told_of_a_file(path: Path) -> None:
    for size in (1, 7, 31, 32, 5 * PAGE):
        with opened(path, GOOD + random.Random(5).randbytes(size)) as source:
            assert source.container.incomplete is None
            (problem,) = source.container.problems
            assert f"no header of version 1 is at {len(GOOD):#x}, and {size:#x} bytes follow" in problem
            assert (source.pread(3 * PAGE, 0), source.pread(2 * PAGE, 16 * PAGE)) == (A, B)
            assert source.size == 18 * PAGE


@pytest.mark.parametrize("rest", [bytes(5 * PAGE), random.Random(5).randbytes(5 * PAGE)], ids=["zeros", "garbage"])
def test_and_does_not_matter_on_a_block_device(path: Path, rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcorefs.image.trailing.S_ISBLK", lambda mode: mode)
    with opened(path, GOOD + rest) as source:
        assert (source.container.incomplete, source.container.problems) == (None, ())
        assert (source.pread(3 * PAGE, 0), source.pread(2 * PAGE, 16 * PAGE)) == (A, B)


@pytest.mark.parametrize("field", ["first", "last"])
def test_no_bit_of_an_address_shifts_memory(path: Path, field: str) -> None:
    for bit in range(46):
        offset, size = FIELDS[field]
        right = int.from_bytes(GOOD[offset:offset + size], "big")
        data = changed(GOOD + bytes(32 * PAGE), 0, field, right ^ 1 << bit)
        path.write_bytes(data)
        try:
            source = open_image(path)
        except ImageError:
            continue
        with source:
            assert source.container.incomplete


def changed(data: bytes, header_at: int, field: str, value: int) -> bytes:
    offset, size = FIELDS[field]
    new = bytearray(data)
    new[header_at + offset:header_at + offset + size] = value.to_bytes(size, "big")
    return bytes(new)


@pytest.mark.parametrize(("at", "field", "value", "words"), [
    (SECOND, "magic", 0, "no header of version 1 is at 0x3020"),
    (SECOND, "magic", 0x454D694C, "no header of version 1 is at 0x3020"),
    (SECOND, "version", 2, "no header of version 1 is at 0x3020"),
    (0, "first", 3 * PAGE, "the header at 0x0 says addresses 0x3000 to 0x2fff, which cannot be"),
    (SECOND, "last", (1 << 64) - 1, "the header at 0x3020 says addresses 0x10000 to 0xffffffffffffffff"),
    (SECOND, "last", 1 << 46, "the header at 0x3020"),
    (0, "last", 3 * PAGE, "no header of version 1 is at 0x3021"),
    (0, "last", 3 * PAGE - 2, "no header of version 1 is at 0x301f"),
    (SECOND, "first", 2 * PAGE, "the header at 0x3020, which begins at address 0x2000, overlaps another one"),
])
def test_what_a_wrong_header_is_told(path: Path, at: int, field: str, value: int, words: str) -> None:
    assert words in refusal(path, changed(GOOD, at, field, value))


@pytest.mark.parametrize("at", [0, SECOND])
@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_field_is_an_error_with_its_offset_or_does_no_harm(path: Path, at: int, field: str) -> None:
    offset, size = FIELDS[field]
    right, most = int.from_bytes(GOOD[at + offset:at + offset + size], "big"), (1 << (8 * size)) - 1
    for value in {0, 1, most, most >> 1, (right + 1) & most, (right - 1) & most} - {right}:
        data = changed(GOOD, at, field, value)
        path.write_bytes(data)
        try:
            source = open_image(path)
        except ImageError as error:
            message = str(error)
            assert message == refusal(path, data)
            assert "0x" in message
            continue
        with source:
            for area in source.container.memory:
                assert source.read_some(PAGE, area.start) in data
            assert source.size <= 1 << 46


def test_the_same_magic_in_another_byte_order_is_no_range(path: Path) -> None:
    assert "no header" in refusal(path, lime.lime(RANGES[:1]) + lime.lime(RANGES[1:], "<"))


def test_many_ranges_take_bounded_memory(path: Path) -> None:
    order = [n * 2 for n in range(60_000)]
    random.Random(8).shuffle(order)
    row = struct.Struct("<IIQQ8x")
    with path.open("wb") as file:
        file.writelines(row.pack(0x4C694D45, 1, at, at) + b"x" for at in order)
    cost = cost_of_opening(path)
    assert cost.said == "opened 0x1d4bf 0"
    assert cost.memory < 60_000


def test_more_ranges_than_any_machine_has_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcorefs.image.lime._HEADERS_LIMIT", 1024)
    many = [(n * 2, b"x") for n in range(1025)]
    assert "more than 1024 ranges; the header at 0x8400" in refusal(path, lime.lime(many))
    with opened(path, lime.lime(many[:1024])) as source:
        assert len(source.container.memory) == 1024
    monkeypatch.setattr("vmcorefs.image.lime.RANGES_LIMIT", 1023)
    assert "more than 1023 separate ranges of memory" in refusal(path, lime.lime(many[:1024]))
