"""Seekable zstd, bgzip and xz in blocks: read at any offset; what is inside is recognised; plain ones are refused."""

from __future__ import annotations

import gzip
import lzma
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers import elf, seekable
from tests.builders.containers.flattened import flattened
from tests.builders.containers.kdump import Kdump
from tests.builders.containers.seekable import BGZIP_END, bgzip, cut, member, varint, xz, xz_index, zstd
from tests.image.bad_disk import BadDisk
from tests.image.model import PAGE, check_all, check_read, error_at, opened, page_of, refusal
from tests.image.opening import cost_of_opening
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.blocks import Blocks
from vmcorefs.image.source import Source

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
MIB = 1 << 20
MEMORY = b"".join(bytes(PAGE) if n % 9 == 0 else page_of(n) for n in range(600))
MODEL: dict[int, bytes | str] = {n: MEMORY[n * PAGE:(n + 1) * PAGE] for n in range(600)}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstd(data, 200_000),
    "zstd with checksums": lambda data: zstd(data, 200_000, checksums=True),
    "zstd without sizes": lambda data: zstd(data, 200_000, sizes=False),
    "zstd large": lambda data: zstd(data, 2_300_000),
    "bgzip": bgzip,
    "bgzip small": lambda data: bgzip(data, 1000),
    "xz": lambda data: xz(data, 300_000),
    "xz large": lambda data: xz(data, 2_300_000),
    "xz crc32": lambda data: xz(data, 300_000, lzma.CHECK_CRC32),
    "xz sha256": lambda data: xz(data, 300_000, lzma.CHECK_SHA256),
    "xz streams": lambda data: xz(data[:1_000_001], 300_000) + bytes(8) + xz(data[1_000_001:], 500_000) + bytes(4),
}
SMALL: dict[str, Callable[[bytes, int], bytes]] = {"zstd": zstd, "bgzip": bgzip, "xz": xz}
PACKED = {name: pack(MEMORY) for name, pack in PACKERS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


@pytest.mark.parametrize("name", PACKERS)
def test_every_page(path: Path, name: str) -> None:
    with opened(path, PACKED[name]) as source:
        assert source.size == len(MEMORY)
        check_all(source, MODEL, 602, reads=20)
        container = source.container
        assert container.format == "raw"
        assert container.detail.startswith(f"raw image, in {'seekable zstd' if name.startswith('zstd') else name.partition(' ')[0]} of ")
        assert (container.incomplete, container.problems, container.memory) == (None, (), ())
        assert [file.path for file in source.files] == [str(path)]
        assert source.path == str(path)


@settings(max_examples=EXAMPLES, deadline=None)
@given(kind=st.sampled_from(("zstd", "bgzip", "xz")), block=st.sampled_from((100, 4096, 60_000, 1_100_000)), seed=st.integers(0, 999))
def test_any_image_equals_the_model(kind: str, block: int, seed: int) -> None:
    rng = random.Random(seed)
    memory = b"".join(rng.choice((bytes(5000), rng.randbytes(5000), MEMORY[:5000])) for _ in range(block // 2500 + 2))[:rng.randrange(
        block + 1, 2 * block + 10)]
    data = {"zstd": lambda: zstd(memory, block), "bgzip": lambda: bgzip(memory, min(block, 65536)), "xz": lambda: xz(memory, block)}[kind]()
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "dump", data) as source:
        assert source.size == len(memory)
        for _ in range(10):
            start = rng.randrange(len(memory))
            size = rng.randrange(len(memory) - start + 1)
            assert source.pread(size, start) == memory[start:start + size]
        assert error_at(source, len(memory) - 1, 2).good == 1


@pytest.mark.parametrize("name", ["zstd", "bgzip", "xz"])
def test_another_container_inside(path: Path, name: str) -> None:
    pages = {n: page_of(n) for n in range(300)}
    with opened(path, SMALL[name](Kdump(pages).build(), 50_000)) as source:
        assert source.container.format == "kdump-compressed"
        assert f", in {'seekable zstd' if name == 'zstd' else name} of" in source.container.detail
        check_all(source, dict(pages), 302, reads=5)
    with opened(path, SMALL[name](elf.core([elf.Load(PAGE, MEMORY)]), 50_000)) as source:
        assert source.container.format == "elf"
        assert source.pread(len(MEMORY), PAGE) == MEMORY


def test_foreign_formats_inside_are_refused_by_name(path: Path) -> None:
    assert "QCOW2" in refusal(path, zstd(b"QFI\xfb" + MEMORY, 100_000))


@pytest.mark.parametrize("name", ["zstd", "bgzip", "xz"])
def test_files_in_files_end_somewhere(path: Path, name: str) -> None:
    data = MEMORY
    for _ in range(4):
        data = SMALL[name](data, min(len(data) // 3, 60_000))
    assert "3 times over" in refusal(path, data)
    assert "3 times over" in refusal(path, bgzip(flattened([(0, bgzip(flattened([(0, bgzip(MEMORY))])))])))


# -- what the usual programs write -------------------------------------------------------------------------------------------


def run(*command: str | Path) -> None:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("options", [("-T2", "--block-size=256KiB"), ("-0", "--block-size=1MiB", "--check=sha256"),
                                     ("-1", "--block-list=100KiB,300KiB,0"), ("--x86", "--lzma2=preset=0", "--block-size=500KiB")])
def test_what_xz_writes(path: Path, options: tuple[str, ...]) -> None:
    path.write_bytes(MEMORY)
    run("xz", "-k", *options, path)
    with open_image(path.with_name("dump.xz")) as source:
        check_all(source, MODEL, 602, reads=10)


def test_programs_can_unpack_what_the_builders_write(tmp_path: Path) -> None:
    """Else these tests would only prove that we agree with ourselves."""
    for name, data in PACKED.items():
        packed = tmp_path / "packed"
        packed.write_bytes(data)
        tool = name.split()[0].replace("bgzip", "gzip")
        with packed.open("rb") as file:
            done = subprocess.run([tool, "-dc"], stdin=file, capture_output=True, check=True)
        assert done.stdout == MEMORY, name


# -- plain ones --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "command"), [
    (gzip.compress(MEMORY), "gzip -dc"), (lzma.compress(MEMORY), "xz -dc"), (zstandard.ZstdCompressor().compress(MEMORY), "zstd -dc"),
    (xz(MEMORY, len(MEMORY)), "xz -dc"), (xz(MEMORY, 300_000)[:-13], "xz -dc"), (zstd(MEMORY, 300_000)[:-1], "zstd -dc"),
    (lzma.compress(b""), "xz -dc"), (lzma.compress(b"") + lzma.compress(MEMORY), "xz -dc")],
    ids=["gzip", "xz", "zstd", "xz of one block", "xz cut off", "zstd cut off", "xz of nothing", "xz of one block and of nothing"])
def test_what_cannot_be_read_at_random_is_refused_with_the_command(path: Path, data: bytes, command: str) -> None:
    words = refusal(path, data)
    assert command in words


# -- how it is read ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zstd", "zstd large", "bgzip", "xz", "xz large"])
def test_a_sequential_reader_begins_no_block_twice(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: Counter[int] = Counter()
    real = Blocks.__init__

    def counting(self: Blocks, cache: object, open_block: Callable[[int], object], **other: int) -> None:
        def opening(block: int) -> object:
            begun[block] += 1
            return open_block(block)
        real(self, cache, opening, **other)  # type: ignore[arg-type]

    monkeypatch.setattr(Blocks, "__init__", counting)
    with opened(path, PACKED[name]) as source:
        begun.clear()  # it was recognised by what is at its begin
        source._blocks._decoders.clear()  # type: ignore[attr-defined]
        source._blocks._cache.renew()  # type: ignore[attr-defined]
        for at in range(0, len(MEMORY), 10_000):
            assert source.read_some(min(10_000, len(MEMORY) - at), at) == MEMORY[at:at + 10_000]
    assert set(begun.values()) == {1}


def test_a_large_block_is_not_unpacked_as_a_whole(path: Path) -> None:
    memory = random.Random(1).randbytes(MIB) * 200
    path.write_bytes(zstd(memory, 100 * MIB, level=1))
    cost = cost_of_opening(path)
    assert cost.said.startswith("opened")
    assert cost.memory < 70 << 10


@pytest.mark.parametrize("name", ["zstd large", "bgzip", "xz large"])
def test_threads_do_not_disturb_each_other(path: Path, name: str) -> None:
    failures: list[BaseException] = []

    def read(source: Source, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(20):
                check_read(source, MODEL, rng.randrange(600 * PAGE), rng.randrange(1, 40 * PAGE))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with opened(path, PACKED[name]) as source:
        threads = [threading.Thread(target=read, args=(source, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_closing_closes_the_file(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = opened(path, PACKED["zstd"])
    source.close()
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert error_at(source, 2 * MIB).kind == "broken"


# -- damaged -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zstd", "zstd large", "bgzip", "xz", "xz large"])
def test_a_byte_changed_is_noticed(path: Path, name: str) -> None:
    good = PACKED[name]
    rng = random.Random(name)
    noticed, tries = 0, 10 if name.endswith("large") else 25
    for _ in range(tries):
        data = bytearray(good)
        at = rng.randrange(12, len(good) * 4 // 5)
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        said, source = attempt(path)
        if source is None:
            assert "0x" in said
            noticed += 1
            continue
        with source:
            errors = 0
            for start in range(0, len(MEMORY), 50_000):
                size = min(50_000, len(MEMORY) - start)
                if name.endswith("large"):  # the sum of a large block is at its end
                    errors += len(source.read_some(size, start)) < size
                else:
                    got = source.read_some(size, start)
                    assert got == MEMORY[start:start + len(got)]
                    errors += len(got) < size
            noticed += errors > 0
    assert noticed >= tries * 4 // 5  # not every bit of a header counts


def attempt(path: Path) -> tuple[str, Source | None]:
    try:
        return "", open_image(path)
    except ImageError as error:
        return str(error), None


@pytest.mark.parametrize("name", ["zstd", "zstd large", "bgzip", "bgzip small", "xz", "xz streams"])
def test_cut_off_anywhere_it_is_an_error_or_an_incomplete_image(path: Path, name: str) -> None:
    good = PACKED[name]
    for size in sorted({4, 10, 17, 18, 19, 30, len(good) // 2, *(len(good) - n for n in (1, 2, 8, 9, 17, 27, 28, 29, 40, 300))}):
        path.write_bytes(good[:size])
        said, source = attempt(path)
        if source is None:
            assert "\n" not in said
            continue
        with source:
            if name.startswith("bgzip") and len(good) - size != 28:
                assert source.container.incomplete is not None
                assert "which was 0x" in source.container.incomplete or source.size == len(MEMORY)
            if size > 30 and name.startswith("bgzip"):
                assert source.pread(source.size, 0) == MEMORY[:source.size]


def with_table(good: bytes, **values: int) -> bytes:
    """Seekable zstd with another number of frames, descriptor, size of the skippable frame, first entry."""
    data, count = bytearray(good), int.from_bytes(good[-9:-5], "little")
    begin = len(good) - 9 - 8 * count
    for name, (offset, size) in {"count": (len(good) - 9, 4), "descriptor": (len(good) - 5, 1), "magic": (begin - 8, 4),
                                 "size": (begin - 4, 4), "packed": (begin, 4), "unpacked": (begin + 4, 4)}.items():
        if name in values:
            data[offset:offset + size] = values[name].to_bytes(size, "little")
    return bytes(data)


FRAMES = len(cut(MEMORY, 200_000))


@pytest.mark.parametrize("values", [
    {"count": 0}, {"count": 1}, {"count": FRAMES - 1}, {"count": FRAMES + 1}, {"count": 0xFFFFFFFF}, {"count": 0x08000000},
    {"descriptor": 0x80}, {"descriptor": 4}, {"descriptor": 0x7C}, {"magic": 0}, {"magic": 0x184D2A50}, {"size": 0}, {"size": 0xFFFFFFFF},
    {"packed": 0xFFFFFFFF}, {"packed": 0}, {"packed": 1}, {"packed": 100}, {"unpacked": 0}, {"unpacked": 1}, {"unpacked": 200_001},
    {"unpacked": 199_999}, {"unpacked": 0xFFFFFFFF}], ids=str)
def test_a_zstd_table_that_lies_is_refused(path: Path, values: dict[str, int]) -> None:
    assert "zstd -dc" in refusal(path, with_table(PACKED["zstd"], **values))


def test_frames_that_unpack_to_much_more_cost_no_memory(path: Path) -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 30))
    table = struct.pack("<IIII", len(bomb), 1 << 20, len(bomb), 1 << 20) + struct.pack("<IBI", 2, 0, 0x8F92EAB1)
    path.write_bytes(bomb + bomb + struct.pack("<II", 0x184D2A5E, len(table)) + table)
    cost = cost_of_opening(path)
    assert cost.memory < 70 << 10
    assert cost.seconds < 10


def test_a_zstd_window_that_is_too_large_is_a_read_error(path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with tempfile.TemporaryFile() as file:
        with compressor.stream_writer(file, closefd=False) as writer:
            writer.write(random.Random(1).randbytes(1000))
        file.seek(0)
        frame = file.read()
    table = struct.pack("<IIII", len(frame), 1000, len(frame), 1000) + struct.pack("<IBI", 2, 0, 0x8F92EAB1)
    with opened(path, frame * 2 + struct.pack("<II", 0x184D2A5E, len(table)) + table) as source:
        assert "memory" in error_at(source, 0).cause


def test_many_small_frames_are_bounded(path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(b"x")
    for count, size, words in ((4096, 1, "opened 0x1000 "), (1 << 20, 1024, "opened 0x40000000 "),
                               (4097, 1, "4097 blocks with 4.0 KiB in them "), ((1 << 21) + 1, 1 << 20, "2097153 blocks")):
        table = struct.pack("<II", len(frame), size) * count + struct.pack("<IBI", count, 0, 0x8F92EAB1)
        path.write_bytes(frame * count + struct.pack("<II", 0x184D2A5E, len(table)) + table)
        cost = cost_of_opening(path)
        assert words in cost.said
        assert cost.memory < 100 << 10
        assert cost.seconds < 20


# -- bgzip -------------------------------------------------------------------------------------------------------------------


def test_gzip_with_other_extra_fields_is_plain_gzip(path: Path) -> None:
    data = bytearray(PACKED["bgzip"])
    data[12:14] = b"XX"
    assert "gzip -dc" in refusal(path, bytes(data))


@pytest.mark.parametrize("size", [0, 1, 24, 27, 0xFFFF])
def test_a_member_whose_size_lies_ends_the_image_there(path: Path, size: int) -> None:
    first = member(MEMORY[:60_000])
    second = bytearray(member(MEMORY[60_000:120_000]))
    second[16:18] = struct.pack("<H", size)
    path.write_bytes(first + second + member(MEMORY[120_000:180_000]) + BGZIP_END)
    said, source = attempt(path)
    if source is None:
        assert f"the block at {len(first):#x} would unpack to" in said
        return
    with source:
        assert source.container.incomplete is not None
        assert source.pread(60_000, 0)[:50_000] == MEMORY[:50_000] or error_at(source, 0).kind == "broken"


def test_members_that_lie_about_what_they_unpack_to(path: Path) -> None:
    for size in (0, 1, 59_999, 60_001, 65_536):
        bad = bytearray(member(MEMORY[60_000:120_000]))
        bad[-4:] = struct.pack("<I", size)
        with opened(path, member(MEMORY[:60_000]) + bad + member(MEMORY[120_000:180_000]) + BGZIP_END) as source:
            assert source.size == 180_000
            assert error_at(source, 0, 200).kind == "broken"  # they are read sixteen at a time
    bad = bytearray(member(MEMORY[:60_000]))
    bad[-4:] = struct.pack("<I", 1 << 31)
    assert "the block at 0x0 would unpack to 0x80000000 bytes" in refusal(path, bytes(bad) + BGZIP_END)


def test_members_of_nothing_are_passed_over(path: Path) -> None:
    with opened(path, BGZIP_END * 3 + member(b"abc") + BGZIP_END * 20 + member(b"def") + BGZIP_END) as source:
        assert source.pread(6, 0) == b"abcdef"
    assert "nothing is in this bgzip file" in refusal(path, BGZIP_END * 3)


# -- xz ----------------------------------------------------------------------------------------------------------------------


def xz_parts(data: bytes, block: int) -> tuple[bytes, list[bytes], list[tuple[int, int]]]:
    whole = xz(data, block)
    index_size = (int.from_bytes(whole[-8:-4], "little") + 1) * 4
    index = whole[-12 - index_size:-12]
    numbers, value, shift = [], 0, 0
    for byte in index[1:-4]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    rows = list(zip(numbers[1:1 + 2 * numbers[0]:2], numbers[2:2 + 2 * numbers[0]:2], strict=True))
    blocks, at = [], 12
    for unpadded, _ in rows:
        size = -(-unpadded // 4) * 4
        blocks.append(whole[at:at + size])
        at += size
    return whole[:12], blocks, rows


HEAD, BLOCKS, ROWS = xz_parts(MEMORY, 500_000)


@pytest.mark.parametrize("change", [(0, -1), (0, 1), (0, 1 << 40), (1, -1), (1, 1), (1, -500_000), (1, 1 << 27), (-ROWS[0][0], 0)], ids=str)
def test_an_xz_index_that_lies(path: Path, change: tuple[int, int]) -> None:
    rows = list(ROWS)
    rows[0] = (max(rows[0][0] + change[0], 0), rows[0][1] + change[1]) if change[0] != 1 else (rows[0][0], rows[0][1] + change[1])
    path.write_bytes(HEAD + b"".join(BLOCKS) + xz_index(rows, HEAD[6:8]))
    said, source = attempt(path)
    if source is None:
        assert "does not begin at" in said or "too much to read at random" in said, said
        return
    with source:
        if rows[0][1]:
            assert error_at(source, 0, min(rows[0][1], 1 << 21)).kind == "broken"


def test_an_xz_block_too_large_to_be_read_at_random_is_refused(path: Path) -> None:
    rows = [(ROWS[0][0], (256 << 20) + 1), *ROWS[1:]]
    assert "xz -T0 --block-size=1MiB" in refusal(path, HEAD + b"".join(BLOCKS) + xz_index(rows, HEAD[6:8]))


@pytest.mark.parametrize("at", [-1, -3, -4, -5, -8, -9, -12])
def test_an_xz_footer_damaged(path: Path, at: int) -> None:
    data = bytearray(PACKED["xz"])
    data[at] ^= 1
    assert "xz -dc" in refusal(path, bytes(data))


def test_an_xz_index_with_a_wrong_count_or_without_end(path: Path) -> None:
    rows = b"".join(varint(packed) + varint(size) for packed, size in ROWS)
    for index in (varint(1 << 62), varint(5) + varint(3), b"\xff" * 30, varint(len(ROWS) + 1) + rows):
        whole = b"\0" + index
        whole += bytes(-len(whole) % 4)
        whole += struct.pack("<I", zlib.crc32(whole))
        footer = struct.pack("<I", len(whole) // 4 - 1) + HEAD[6:8]
        words = refusal(path, HEAD + b"".join(BLOCKS) + whole + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ")
        assert "its index ends too early" in words or "does not begin at" in words or "blocks with" in words


def test_many_small_xz_blocks_are_bounded(path: Path) -> None:
    head, blocks, rows = xz_parts(b"xyxyxy", 3)
    for count, words in ((4000, "opened 0x2ee0 "), (1 << 18, "262144 blocks with 768 KiB"), ((1 << 21) + 1, "2097153 blocks with")):
        with open(path, "wb") as file:
            file.write(head)
            file.write(blocks[0] * count)
            file.write(xz_index(rows[:1] * count, head[6:8]))
        cost = cost_of_opening(path)
        assert words in cost.said
        assert cost.memory < 120 << 10
        assert cost.seconds < 20


def test_streams_without_end_are_bounded(path: Path) -> None:
    path.write_bytes(lzma.compress(b"") * 70_000)
    cost = cost_of_opening(path)
    assert cost.said.startswith("ImageError")
    assert cost.memory < 100 << 10


@pytest.mark.parametrize(("size", "words"), [(1 << 30, "takes more than 80 MiB of memory"), (64 << 20, "opened 0x4b0000 ")])
def test_a_dictionary_that_is_too_large_is_refused_and_costs_no_memory(path: Path, size: int, words: str) -> None:
    """xz -9 has one of 64 MiB."""
    whole = lzma.compress(MEMORY, lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": size}])
    path.write_bytes(whole + whole)
    cost = cost_of_opening(path)
    assert words in cost.said
    assert cost.memory < 70 << 10
    if size > 80 << 20:
        assert f"xz -dc {path} > {path}.raw" in cost.said


# -- bad disks and libraries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zstd", "bgzip", "xz"])
def test_a_bad_sector_spoils_its_block_only(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, PACKED[name]) as source:
        where = len(PACKED[name]) // 2
        source._blocks._ahead._jobs.clear()  # type: ignore[attr-defined]  # what was decoded before the disk went bad
        BadDisk(monkeypatch, path, [(where, where + 1)])
        bad = [at for at in range(0, len(MEMORY), 10_000) if not source.read_some(100, at)]
        assert 0 < len(bad) * 10_000 < 1_200_000
        assert max(bad) - min(bad) == (len(bad) - 1) * 10_000
        error = error_at(source, bad[0])
        assert (error.kind, error.offset, error.file) == ("broken", where, str(path))
        assert os.strerror(5) in error.cause


def test_without_the_library_the_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert "pip install 'vmcorefs[zstd]'" in refusal(path, PACKED["zstd"])


def test_the_builders_are_what_they_say() -> None:
    assert gzip.decompress(seekable.bgzip(MEMORY)) == MEMORY


READS = """
import random, sys
sys.path.insert(0, sys.argv[1])
from vmcorefs.image import open_image
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
rng = random.Random(1)
with open_image(sys.argv[2]) as source:
    for number in range(40 + 200):
        if number == 40:
            before = resident()
        source.pread(4096, rng.randrange(source.size - 4096))
print(resident() - before)
"""


@pytest.mark.parametrize("kind", ["zstd", "xz", "bgzip"])
def test_reading_for_long_takes_no_more_memory(path: Path, kind: str) -> None:
    """Objects of C may be in cycles that nobody frees."""
    memory = MEMORY * 10
    path.write_bytes({"zstd": lambda: zstd(memory, 4 << 20, level=1), "xz": lambda: xz(memory, 4 << 20, preset=0),
                      "bgzip": lambda: bgzip(memory)}[kind]())
    done = subprocess.run([sys.executable, "-I", "-c", READS, Path(__file__).resolve().parents[2], path], capture_output=True, text=True,
                          check=True, timeout=120)
    assert int(done.stdout) < 24 << 10
