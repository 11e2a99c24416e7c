"""bgzip and seekable zstd whose sizes lie: what is behind must stay where it belongs, or not be served at all."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers.seekable import BGZIP_END, bgzip, cut, member, zstd
from tests.image.model import error_at, opened, refusal
from tests.image.opening import cost_of_opening
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
BLOCK = 3000
MEMORY = b"".join(random.Random(n).randbytes(80) * 25 for n in range(100))  # 200,000 bytes
FULL = len(MEMORY) // BLOCK


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def never_wrong(path: Path, data: bytes, memory: bytes) -> int | None:
    """How many pieces of 500 bytes are errors; all others must be right. None: the file was refused, or is said to be incomplete."""
    path.write_bytes(data)
    try:
        source = open_image(path)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return None
    with source:
        errors = 0
        for at in range(0, min(source.size, len(memory)), 500):
            want = memory[at:at + 500]
            got = source.read_some(min(len(want), source.size - at), at)
            assert got == want[:len(got)], hex(at)
            errors += len(got) < len(want)
        if source.container.incomplete:
            return None
        assert source.size == len(memory)
        return errors


# -- bgzip -------------------------------------------------------------------------------------------------------------------


def members(sizes: list[int]) -> tuple[list[bytes], bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(member(MEMORY[at:at + size]))
        at += size
    return parts, MEMORY[:at]


def with_size(data: bytes, size: int) -> bytes:
    return data[:-4] + struct.pack("<I", size)


@pytest.mark.parametrize("number", [0, 1, 15, 16, 17, 32, FULL - 1, FULL])
@pytest.mark.parametrize("size", [0, 1, 2999, 3001, 65536])
def test_a_member_that_lies_about_its_size_spoils_no_other_group(path: Path, number: int, size: int) -> None:
    parts = [member(piece) for piece in cut(MEMORY, BLOCK)]
    parts[number] = with_size(parts[number], size)
    errors = never_wrong(path, b"".join(parts) + BGZIP_END, MEMORY)
    group = min(16, len(parts) - number // 16 * 16) * 6
    if number == len(parts) - 1 and size not in {0, len(MEMORY) % BLOCK}:
        assert errors is None or errors <= group
    else:
        assert errors is not None
        assert 0 < errors <= group


@pytest.mark.parametrize("number", [1, 16, 20])
@pytest.mark.parametrize("size", [0, 1, 2999, BLOCK])
def test_a_member_that_is_damaged_and_lies(path: Path, number: int, size: int) -> None:
    """How much memory was in it cannot be known; if its size is the others', that is proof enough."""
    parts = [member(piece) for piece in cut(MEMORY, BLOCK)]
    bad = bytearray(with_size(parts[number], size))
    bad[40] ^= 0xFF
    parts[number] = bytes(bad)
    with opened(path, b"".join(parts) + BGZIP_END) as source:
        if size == BLOCK:
            assert source.container.incomplete is None
            assert source.pread(BLOCK, 48 * BLOCK) == MEMORY[48 * BLOCK:49 * BLOCK]
            assert error_at(source, number * BLOCK).kind == "broken"
        else:
            where = f"{sum(map(len, parts[:number])):#x}, which was {number * BLOCK:#x} unpacked"
            assert f"damaged is the block at or before {where}" in str(source.container.incomplete)
            assert source.size == number * BLOCK
            assert source.pread(source.size, 0) == MEMORY[:source.size]


def test_the_first_member_damaged_is_measured_by_the_second(path: Path) -> None:
    parts = [member(piece) for piece in cut(MEMORY, BLOCK)]
    bad = bytearray(parts[0])
    bad[40] ^= 0xFF
    with opened(path, bytes(bad) + b"".join(parts[1:]) + BGZIP_END) as source:
        assert source.container.incomplete is None
        assert source.pread(len(MEMORY) - 16 * BLOCK, 16 * BLOCK) == MEMORY[16 * BLOCK:]
        assert error_at(source, 0).kind == "broken"
    with opened(path, with_size(bytes(bad), 2000) + b"".join(parts[1:]) + BGZIP_END) as source:
        assert "damaged is the block" in str(source.container.incomplete)


@settings(max_examples=EXAMPLES, deadline=None)
@given(sizes=st.lists(st.sampled_from((0, 1, 700, 3000, 3000, 3000, 5000)), min_size=1, max_size=40), seed=st.integers(0, 999))
def test_members_of_any_sizes_and_a_lie(sizes: list[int], seed: int) -> None:
    rng = random.Random(seed)
    parts, memory = members(sizes)
    if not memory:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        assert never_wrong(path, b"".join(parts) + BGZIP_END, memory) == 0
        number = rng.randrange(len(parts))
        parts[number] = with_size(parts[number], rng.choice((0, 1, 700, 3000, 5000, 65536)))
        if rng.random() < 0.3:
            at = rng.randrange(18, len(parts[number]) - 8)
            parts[number] = parts[number][:at] + bytes([parts[number][at] ^ 1 << rng.randrange(8)]) + parts[number][at + 1:]
        if not like_another(parts, number):
            never_wrong(path, b"".join(parts) + BGZIP_END, memory)


def like_another(parts: list[bytes], number: int) -> bool:
    """A member that claims just the size of the others is believed."""
    claimed = int.from_bytes(parts[number][-4:], "little")
    return claimed in {int.from_bytes(part[-4:], "little") for i, part in enumerate(parts) if i != number}


def test_a_cut_at_the_border_of_a_member_is_told(path: Path) -> None:
    parts = [member(piece) for piece in cut(MEMORY, BLOCK)]
    for count in (1, 16, 40, len(parts)):
        data = b"".join(parts[:count])
        with opened(path, data) as source:
            assert f"the file ends at {len(data):#x}, which was {source.size:#x} unpacked, without the block that ends a bgzip file" in str(
                source.container.incomplete)
            assert source.pread(source.size, 0) == MEMORY[:count * BLOCK]


def test_files_behind_each_other_are_one(path: Path) -> None:
    """As gzip has it; bgzip files are joined by cat."""
    data = bgzip(MEMORY[:10_000], BLOCK) + bgzip(MEMORY[10_000:150_000], 5000) + bgzip(MEMORY[150_000:], BLOCK)
    assert never_wrong(path, data, MEMORY) == 0


@pytest.mark.parametrize(("behind", "told"), [(bytes(5000), False), (b"\0" * 100 + b"x" * 100, True), (b"\x1f\x8b\x08\4", True)])
def test_what_follows_on_a_device(path: Path, behind: bytes, told: bool) -> None:
    with opened(path, bgzip(MEMORY, BLOCK) + behind) as source:
        assert (source.container.incomplete is not None) == told
        assert source.pread(len(MEMORY), 0) == MEMORY


def test_too_many_odd_members_are_refused_with_the_command(path: Path) -> None:
    odd = [member(MEMORY[:500 + n % 2]) for n in range(4000)]
    with opened(path, b"".join(odd) + BGZIP_END) as source:
        assert source.size == 4000 * 500 + 2000
    path.write_bytes(b"".join(member(MEMORY[:500 + n % 3]) for n in range(15_000)) + BGZIP_END)
    cost = cost_of_opening(path)
    assert "have too many sizes to be read at random" in cost.said
    assert f"gzip -dc {path} > {path}.raw" in cost.said
    assert cost.seconds < 20


def test_what_bgzip_itself_writes(path: Path) -> None:
    if shutil.which("bgzip") is None:
        pytest.skip("bgzip is not installed")
    path.write_bytes(MEMORY)
    subprocess.run(["bgzip", path], check=True)
    with open_image(path.with_name("dump.gz")) as source:
        assert source.container.incomplete is None
        assert source.pread(len(MEMORY), 0) == MEMORY


# -- seekable zstd -----------------------------------------------------------------------------------------------------------


def frames(data: bytes) -> tuple[int, list[tuple[int, int]]]:
    count = int.from_bytes(data[-9:-5], "little")
    begin = len(data) - 9 - 8 * count
    return begin - 8, list(struct.iter_unpack("<II", data[begin:-9]))


def with_entries(data: bytes, entries: list[tuple[int, int]]) -> bytes:
    table = b"".join(struct.pack("<II", *entry) for entry in entries) + struct.pack("<IBI", len(entries), 0, 0x8F92EAB1)
    return data[:frames(data)[0]] + struct.pack("<II", 0x184D2A5E, len(table)) + table


@pytest.mark.parametrize("said", [True, False], ids=["sizes in the frames", "none"])
@pytest.mark.parametrize("number", [0, 1, 30, FULL - 1, FULL])
@pytest.mark.parametrize("size", [0, 1, 2999, 3001, 0x7FFFFFFF])
def test_an_entry_that_lies_about_its_frame_shifts_nothing(path: Path, number: int, size: int, said: bool) -> None:
    good = zstd(MEMORY, BLOCK, sizes=said)
    _, entries = frames(good)
    entries[number] = (entries[number][0], size)
    data = with_entries(good, entries)
    if number == FULL and not said and size:  # the last frame of a size that nobody knows: nothing of it can be read
        with opened(path, data) as source:
            assert source.pread(FULL * BLOCK, 0) == MEMORY[:FULL * BLOCK]
            assert error_at(source, source.size - 1).kind == "broken"
        return
    words = refusal(path, data)
    assert "should unpack to" in words or "of other sizes" in words
    assert f"zstd -dc {path} > {path}.raw" in words


@pytest.mark.parametrize("lost", [0, 1, 30, FULL])
def test_a_frame_that_the_table_has_lost(path: Path, lost: int) -> None:
    good = zstd(MEMORY, BLOCK)
    _, entries = frames(good)
    del entries[lost]
    words = refusal(path, with_entries(good, entries))
    assert "its frames end at" in words
    assert "zstd -dc" in words


def test_a_frame_that_is_twice_in_the_table_and_one_of_nothing(path: Path) -> None:
    good = zstd(MEMORY, BLOCK)
    begin, entries = frames(good)
    assert "its frames end at" in refusal(path, with_entries(good, [*entries[:5], entries[4], *entries[5:]]))
    empty = zstandard.ZstdCompressor().compress(b"")
    at = sum(packed for packed, _ in entries[:5])
    data = good[:at] + empty + good[at:begin]
    assert never_wrong(path, with_entries(data + good[begin:], [*entries[:5], (len(empty), 0), *entries[5:]]), MEMORY) == 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(sizes=st.lists(st.sampled_from((1, 700, 3000, 3000, 5000)), min_size=1, max_size=30), seed=st.integers(0, 999), said=st.booleans())
def test_frames_of_any_sizes_and_a_lie(sizes: list[int], seed: int, said: bool) -> None:
    rng = random.Random(seed)
    packed, memory, at = [], MEMORY[:sum(sizes)], 0
    for size in sizes:
        one = zstd(MEMORY[at:at + size], size, sizes=said)
        packed.append((one[:frames(one)[0]], size))
        at += size
    start = b"".join(frame for frame, _ in packed)
    entries = [(len(frame), size) for frame, size in packed]
    good = with_entries(start + zstd(b"x", 1)[frames(zstd(b"x", 1))[0]:], entries)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        assert never_wrong(path, good, memory) == 0
        number = rng.randrange(len(entries))
        lie = rng.choice((0, 1, 699, 5001, 1 << 20))
        if lie in sizes:
            return
        entries[number] = (entries[number][0], lie)
        path.write_bytes(with_entries(good, entries))
        try:
            source = open_image(path)
        except ImageError:
            return
        with source:  # the last frame, which does not say its size
            assert number == len(entries) - 1
            before = sum(sizes[:-1])
            assert source.read_some(before, 0) == memory[:before]
            assert error_at(source, source.size - 1).kind == "broken"


def test_what_is_unpacked_when_it_is_opened_is_bounded(path: Path) -> None:
    """A table of frames that all differ and do not say their sizes, each of which unpacks to much."""
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    packed = [(compressor.compress(bytes((60 << 20) + n)), (60 << 20) + n) for n in range(20)]
    table = b"".join(struct.pack("<II", len(frame), size) for frame, size in packed) + struct.pack("<IBI", len(packed), 0, 0x8F92EAB1)
    path.write_bytes(b"".join(frame for frame, _ in packed) + struct.pack("<II", 0x184D2A5E, len(table)) + table)
    cost = cost_of_opening(path)
    assert "of other sizes than the rest" in cost.said
    assert cost.memory < 70 << 10
    assert cost.seconds < 20
