"""AVML files of version 2: snappy frames, found from the end; cut off, damaged, in any order."""

from __future__ import annotations

import os
import random
import struct
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers.avml import FIELDS, IDENTIFIER, avml, block, header, stream
from tests.image.bad_disk import BadDisk
from tests.image.model import PAGE, check_all, check_read, error_at, never_wrong, opened, page_of, refusal
from tests.image.opening import cost_of_opening
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.source import Source

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
SIZE = 40 * PAGE  # of a block here
MEMORY = b"".join(bytes(PAGE) if 60 <= n < 130 else page_of(n) for n in range(200))
GOOD = avml([(0, MEMORY)], SIZE)  # blocks at 0, 40, 120, 160
MODEL = {n: MEMORY[n * PAGE:(n + 1) * PAGE] for n in range(200)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def places() -> list[int]:
    found, at = [], GOOD.find(b"AVML\2\0\0\0")
    while at >= 0:
        found.append(at)
        at = GOOD.find(b"AVML\2\0\0\0", at + 1)
    assert len(found) == 4
    return found


PLACES = places()


def test_every_page(path: Path) -> None:
    with opened(path, GOOD) as source:
        check_all(source, MODEL, 202)


def test_what_the_container_says(path: Path) -> None:
    with opened(path, GOOD) as source:
        container = source.container
        assert (container.format, container.writer) == ("avml", "AVML")
        assert "version 2, of 4 blocks" in container.detail
        assert container.memory == ()  # holes cannot be told from blocks of zeros
        assert (container.incomplete, container.problems, container.cpu_notes, container.prefixes) == (None, (), (), ())
        assert source.size == 200 * PAGE


def test_blocks_in_any_order(path: Path) -> None:
    blocks = [block(n * PAGE, MEMORY[n * PAGE:n * PAGE + SIZE]) for n in (160, 0, 120, 40)]
    with opened(path, b"".join(blocks)) as source:
        check_all(source, MODEL, 202, reads=10)


def test_sizes_need_not_be_whole_pages(path: Path) -> None:
    with opened(path, block(0, MEMORY[:5000]) + block(5000, b"x") + block(9000, MEMORY[:100])) as source:
        assert source.pread(9100, 0) == MEMORY[:5000] + b"x" + bytes(3999) + MEMORY[:100]
        assert error_at(source, 9100).kind == "missing"


def test_only_what_is_stored_is_scanned(path: Path) -> None:
    with opened(path, GOOD) as source:
        assert [(at // PAGE, len(data) // PAGE) for at, data in source.scan(0, source.size)] == [(0, 80), (120, 80)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 10_000))
def test_any_ranges_equal_the_model(seed: int) -> None:
    rng = random.Random(seed)
    memory, ranges = bytearray(), []
    for _ in range(rng.randrange(1, 5)):
        memory += bytes(rng.randrange(3) * 5000)
        content = b"".join(rng.choice((bytes(3000), rng.randbytes(3000), b"ab" * 1500)) for _ in range(rng.randrange(1, 60)))
        ranges.append((len(memory), content))
        memory += content
    data = avml(ranges, rng.choice((5000, 70_000, 1 << 20)))
    if not data:
        return
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "dump", data) as source:
        assert not any(memory[source.size:])
        for _ in range(20):
            start = rng.randrange(source.size)
            size = rng.randrange(source.size - start + 1)
            assert source.pread(size, start) == memory[start:start + size]


def test_threads_do_not_disturb_each_other(path: Path) -> None:
    failures: list[BaseException] = []

    def read(source: Source, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(100):
                check_read(source, MODEL, rng.randrange(200 * PAGE), rng.randrange(1, 40 * PAGE))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with opened(path, GOOD) as source:
        threads = [threading.Thread(target=read, args=(source, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


# -- cut off -----------------------------------------------------------------------------------------------------------------


def chunks(place: int) -> list[tuple[int, int, int]]:
    """(begin, end, bytes of memory before it) of the chunks of the block at *place*; the identifier has no memory."""
    found, at, memory = [], place + 32, 0
    while GOOD[at] in {0, 1, 0xFF}:
        length = int.from_bytes(GOOD[at + 1:at + 4], "little")
        found.append((at, at + 4 + length, memory))
        memory += 0 if GOOD[at] == 0xFF else min(65536, SIZE - memory)
        at += 4 + length
        if memory == SIZE:
            break
    return found


CHUNKS = chunks(PLACES[3])
CUTS = sorted({PLACES[1] + 1, PLACES[1] + 31, PLACES[1] + 32, PLACES[2] - 1, PLACES[2] - 8, PLACES[2] + 32,
               *(edge + more for begin, end, _ in CHUNKS for edge in (begin, end) for more in (-1, 0, 1)), len(GOOD) - 1})


@pytest.mark.parametrize("size", [size for size in CUTS if size < len(GOOD)])
def test_cut_off_the_chunks_that_are_there_are_served(path: Path, size: int) -> None:
    blocks = [place for place in PLACES if place + 32 <= size]
    with opened(path, GOOD[:size]) as source:
        assert source.container.incomplete is not None
        pages: dict[int, bytes | str] = {n: page for n, page in MODEL.items() if n * PAGE < source.size}
        last = blocks[-1]
        first = int.from_bytes(GOOD[last + 8:last + 16], "little")
        whole = [memory for begin, end, memory in chunks(last) if end <= size and GOOD[begin] != 0xFF]
        have = min(whole[-1] + 65536, SIZE) if whole else 0
        assert have % PAGE == 0
        pages |= dict.fromkeys(range((first + have) // PAGE, (first + SIZE) // PAGE), "missing")
        check_all(source, pages, 202, reads=5)


def test_cut_off_between_two_blocks_nobody_can_tell(path: Path) -> None:
    with opened(path, GOOD[:PLACES[3]]) as source:
        assert source.container.incomplete is None
        assert source.size == 160 * PAGE


@pytest.mark.parametrize("size", [8, 9, 31])
def test_cut_off_within_the_first_header_nothing_is_left(path: Path, size: int) -> None:
    assert "no block is in it" in refusal(path, GOOD[:size])


@pytest.mark.parametrize("rest", [b"x", bytes(5000), random.Random(7).randbytes(5000)], ids=["byte", "zeros", "garbage"])
def test_something_behind_the_last_block(path: Path, rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, GOOD + rest) as source:
        assert source.container.incomplete is None
        assert f"no block's header is at {len(GOOD):#x}, and {len(rest):#x} bytes follow" in source.container.problems[0]
        check_all(source, MODEL, 202, reads=5)
    monkeypatch.setattr("vmcorefs.image.trailing.S_ISBLK", lambda mode: mode)
    with opened(path, GOOD + rest) as source:
        assert (source.container.incomplete, source.container.problems) == (None, ())
        check_all(source, MODEL, 202, reads=5)


@pytest.mark.parametrize("field", ["magic", "version"])
def test_a_damaged_header_of_the_last_block_is_no_end(path: Path, field: str) -> None:
    with opened(path, with_header(PLACES[3], field, 5)) as source:
        assert f"no block's header is at {PLACES[3]:#x}" in str(source.container.incomplete)


# -- damaged -----------------------------------------------------------------------------------------------------------------


def with_header(place: int, field: str, value: int) -> bytes:
    offset, size = FIELDS[field]
    changed = bytearray(GOOD)
    changed[place + offset:place + offset + size] = value.to_bytes(size, "little")
    return bytes(changed)


@pytest.mark.parametrize(("field", "value"), [
    ("magic", 0), ("version", 0), ("version", 1), ("version", 3), ("first", 80 * PAGE), ("first", (1 << 64) - 1), ("last", 0),
    ("last", 40 * PAGE - 1), ("last", 1 << 46), ("last", (1 << 64) - 1), ("last", 1 << 40)])
def test_a_header_that_cannot_be_ends_the_dump_there(path: Path, field: str, value: int) -> None:
    with opened(path, with_header(PLACES[1], field, value)) as source:
        assert f"{PLACES[1]:#x}" in str(source.container.incomplete)
        assert source.size == 40 * PAGE
        assert source.pread(40 * PAGE, 0) == MEMORY[:40 * PAGE]


@pytest.mark.parametrize("field", ["first", "last"])
@pytest.mark.parametrize("value", [1 << 46, (1 << 64) - 1, 1 << 63])
def test_the_first_header_damaged_leaves_nothing(path: Path, field: str, value: int) -> None:
    assert "the block's header at 0x0 says addresses" in refusal(path, with_header(0, field, value))


@pytest.mark.parametrize("value", [0, 39 * PAGE, 40 * PAGE - 1])
def test_overlapping_blocks_are_refused(path: Path, value: int) -> None:
    words = refusal(path, with_header(PLACES[1], "first", value))
    assert "one of them is damaged" in words or "says addresses" in words


@pytest.mark.parametrize("value", [0, 1, (1 << 64) - 1, 1 << 20])
def test_a_length_that_lies_is_found_out(path: Path, value: int) -> None:
    data = bytearray(GOOD)
    data[PLACES[2] - 8:PLACES[2]] = value.to_bytes(8, "little")
    with opened(path, bytes(data)) as source:
        assert source.container.incomplete is not None
        assert source.pread(80 * PAGE, 0) == MEMORY[:80 * PAGE]


def test_a_block_whose_size_is_another_than_its_stream_s_is_broken_as_a_whole(path: Path) -> None:
    for more in (-SIZE + 65536, -65536, -PAGE, -1, 1, PAGE, 65536):
        packed = stream(MEMORY[:SIZE])
        bad = header(0, SIZE + more) + packed + struct.pack("<Q", len(packed))
        for data in (block(1 << 20, b"x") + bad, block(1 << 20, b"x") + bad + b"garbage"):
            with opened(path, data) as source:
                for _ in range(2):
                    for address in (0, 65536 - 1, SIZE + more - 1):
                        error = error_at(source, max(min(address, SIZE + more - 1), 0))
                        assert (error.kind, error.offset) == ("broken", len(block(1 << 20, b"x")))
                        assert f"has {SIZE + more:#x} bytes by its header here, its chunks have " in error.cause


@pytest.mark.parametrize("bit", range(46))
@pytest.mark.parametrize("field", ["first", "last"])
def test_no_bit_of_an_address_shifts_memory(path: Path, field: str, bit: int) -> None:
    offset, size = FIELDS[field]
    for place in (PLACES[1], PLACES[3]):
        right = int.from_bytes(GOOD[place + offset:place + offset + size], "little")
        path.write_bytes(with_header(place, field, right ^ 1 << bit))
        try:
            source = open_image(path)
        except ImageError:
            continue
        with source:
            area = (40, 80) if place == PLACES[1] else (160, 200)
            never_wrong(source, {n: MODEL[n] for n in MODEL if not area[0] <= n < area[1]}, min(area[0], source.size // PAGE))
            for number in range(*area):
                assert MODEL[number][:source.size - number * PAGE].startswith(source.read_some(PAGE, number * PAGE))
            if place == PLACES[1]:  # behind it blocks are left out, which are zero only where it ends there
                assert all(source.read_some(PAGE, n * PAGE) in {b"", bytes(PAGE)} for n in range(81, 120))


@pytest.mark.parametrize("bit", range(8 * 4))
def test_no_bit_of_a_chunk_s_header_shifts_memory(path: Path, bit: int) -> None:
    for number in range(len(CHUNKS)):
        data = bytearray(GOOD)
        data[CHUNKS[number][0] + bit // 8] ^= 1 << bit % 8
        with opened(path, bytes(data)) as source:
            assert never_wrong(source, MODEL, 200) or number == 0  # without the identifier all else is right
    for number in (1, 2, 3):  # the size that it unpacks to
        data = bytearray(GOOD)
        data[CHUNKS[number][0] + 8] ^= 1 << bit % 8
        with opened(path, bytes(data)) as source:
            assert never_wrong(source, MODEL, 200)


def with_chunk(first: bytes, *, memory: int = SIZE) -> bytes:
    packed = IDENTIFIER + first + stream(MEMORY[:SIZE])[10:]
    return header(0, memory) + packed + struct.pack("<Q", len(packed))


@pytest.mark.parametrize("first", [
    b"\x02\x04\0\0abcd", b"\x7f\0\0\0", b"\0\0\0\0", b"\0\x05\0\0abcd\xff", b"\1\x04\0\0abcd", b"\1\xff\xff\xffabcd",
    b"\0\x09\0\0abcd\xff\xff\xff\xff\x0f", b"\0\x08\0\0abcd\x81\x80\x04x", b"\xff\x06\0\0sNaPpX", b"\xff\0\0\0", b"\0\xff\xff\xff"])
def test_chunks_that_cannot_be_are_read_errors(path: Path, first: bytes) -> None:
    with opened(path, with_chunk(first)) as source:
        error = error_at(source, 0, 100)
        assert (error.kind, error.good) == ("broken", 0)
        assert error.offset == 42


def test_chunks_to_be_skipped_are_skipped(path: Path) -> None:
    for first in (b"\x80\x04\0\0abcd", b"\xfe\0\0\0", IDENTIFIER):
        with opened(path, with_chunk(first)) as source:
            assert source.pread(SIZE, 0) == MEMORY[:SIZE]


def test_a_byte_changed_is_noticed_and_spoils_its_chunk_only(path: Path) -> None:
    begin, end, memory = CHUNKS[2]
    for at in (begin + 4, begin + 12, (begin + end) // 2):
        data = bytearray(GOOD)
        data[at] ^= 4
        spoiled = range((160 * PAGE + memory) // PAGE, (160 * PAGE + memory + 65536) // PAGE)
        with opened(path, bytes(data)) as source:
            check_all(source, MODEL | dict.fromkeys(spoiled, "broken"), 202, reads=5)


def test_endless_chunks_are_bounded(path: Path) -> None:
    for chunk in (b"\x80\0\0\0", b"\1\x05\0\0abcd!"):
        packed = IDENTIFIER + chunk * 3_000_000
        path.write_bytes(header(0, 1 << 27) + packed + struct.pack("<Q", len(packed) if chunk[0] == 1 else 5))
        cost = cost_of_opening(path)
        assert cost.memory < 60 << 10
        assert cost.seconds < 10


def test_a_million_blocks_are_bounded(path: Path) -> None:
    one = stream(b"x")
    with open(path, "wb") as file:
        file.writelines(header(n * 4096, 1) + one + struct.pack("<Q", len(one)) for n in range(1 << 18))
    cost = cost_of_opening(path)
    assert cost.memory < 60 << 10
    assert cost.said.startswith("opened 0x3ffff001 ")
    assert cost.seconds < 10


def test_a_bad_sector(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, _, memory = CHUNKS[2]
    with opened(path, GOOD) as source:
        BadDisk(monkeypatch, path, [(begin + 30, begin + 31)])
        spoiled = range((160 * PAGE + memory) // PAGE, (160 * PAGE + memory + 65536) // PAGE)
        check_all(source, MODEL | dict.fromkeys(spoiled, "broken"), 202, reads=5)


def test_without_the_library_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    path.write_bytes(GOOD)
    with pytest.raises(ImageError, match=r"pip install 'vmcorefs\[snappy\]'"):
        open_image(path)
