"""s390_ext stand-alone dumps (magic ...23fe): plain and zlib segments; on partitions, cut off, unfinished and damaged."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers import s390
from tests.builders.containers.s390_ext import MIB, PAGE, SEGMENT, header, packed_segment, runs, s390_ext, segment, tape
from tests.image.bad_disk import BadDisk
from tests.image.model import check_all, check_read, error_at, opened, page_of, refusal
from tests.image.opening import cost_of_opening
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.blocks import Inflater
from vmcorefs.image.source import Source
from vmcorefs.ranges import Range

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
PREFIXES = (0x10000, 0x12000)


def memory_of(kinds: str, end: int = 0) -> bytes:
    """A MiB for each letter: z zeros, p pages, r random bytes; *end* bytes more."""
    parts = []
    for number, kind in enumerate(kinds):
        if kind == "z":
            parts.append(bytes(MIB))
        elif kind == "p":
            parts.append((page_of(number) + page_of(number + 100)) * 128)
        else:
            parts.append(random.Random(number).randbytes(MIB))
    return b"".join(parts) + random.Random(3).randbytes(end)


def model(memory: bytes) -> dict[int, bytes | str]:
    return {n: memory[n * PAGE:(n + 1) * PAGE] for n in range(len(memory) // PAGE)}


MEMORY = memory_of("pzprpz", 5 * PAGE)
MODEL = model(MEMORY)
PLAIN, PACKED = s390_ext(MEMORY, PREFIXES), s390_ext(MEMORY, PREFIXES, packed=True, plain=(1,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


@pytest.mark.parametrize("data", [PLAIN, PACKED], ids=["plain", "packed"])
def test_every_page(path: Path, data: bytes) -> None:
    with opened(path, data) as source:
        for number in range(0, len(MODEL), 17):
            check_read(source, MODEL, number * PAGE, PAGE)
        rng = random.Random(2)
        for _ in range(30):
            check_read(source, MODEL, rng.randrange(len(MEMORY)), rng.randrange(2 * MIB))
        assert source.pread(len(MEMORY), 0) == MEMORY
        assert error_at(source, len(MEMORY)).kind == "missing"


@pytest.mark.parametrize(("data", "words"), [(PLAIN, "version 1, not compressed"), (PACKED, "version 2, with zlib segments")],
                         ids=["plain", "packed"])
def test_what_the_container_says(path: Path, data: bytes, words: str) -> None:
    with opened(path, data) as source:
        container = source.container
        assert container.format == "s390_ext"
        assert words in container.detail
        assert container.memory == (Range(0, len(MEMORY)),)
        assert container.prefixes == PREFIXES
        assert container.time == 1_700_000_000.0
        assert (container.incomplete, container.problems, container.cpu_notes) == (None, (), ())


def test_on_a_partition_whatever_follows_does_not_matter(path: Path) -> None:
    with opened(path, PACKED + random.Random(9).randbytes(300 * PAGE)) as source:
        assert source.container.incomplete is None
        assert source.pread(len(MEMORY), 0) == MEMORY


@pytest.mark.parametrize("packed", [False, True])
def test_all_memory_zero(path: Path, packed: bool) -> None:
    with opened(path, s390_ext(bytes(3 * MIB), packed=packed)) as source:
        assert source.container.incomplete is None
        assert source.pread(3 * MIB, 0) == bytes(3 * MIB)


def test_an_empty_last_segment_ends_the_chain(path: Path) -> None:
    memory = memory_of("pz")
    data = header(2 * MIB) + segment(0, memory[:MIB], stop=False) + segment(0, b"", stop=True) + s390.end_marker().ljust(PAGE, b"\0")
    with opened(path, data) as source:
        assert source.container.incomplete is None
        assert source.pread(2 * MIB, 0) == memory


@settings(max_examples=max(EXAMPLES // 3, 10), deadline=None)
@given(kinds=st.text("zpr", min_size=1, max_size=5), end=st.sampled_from((0, PAGE, 100 * PAGE)), packed=st.booleans(),
       plain=st.sets(st.integers(0, 4)), seed=st.integers(0, 99))
def test_any_memory_equals_the_model(kinds: str, end: int, packed: bool, plain: set[int], seed: int) -> None:
    memory = memory_of(kinds, end)
    data = s390_ext(memory, packed=packed, plain=sorted(plain))
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "dump", data) as source:
        assert source.size == len(memory)
        assert source.container.incomplete is None
        for _ in range(10):
            check_read(source, model(memory), rng.randrange(len(memory)), rng.choice((1, PAGE, 10 * PAGE, MIB, 3 * MIB)))


# -- how it is read ----------------------------------------------------------------------------------------------------------


def test_a_sequential_reader_inflates_no_entry_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: Counter[int] = Counter()
    real = Inflater.__init__

    def counting(self: Inflater, file: Source, start: int, end: int, size: int) -> None:
        begun[start] += 1
        real(self, file, start, end, size)

    monkeypatch.setattr(Inflater, "__init__", counting)
    memory = memory_of("pppp")
    with opened(path, s390_ext(memory, packed=True)) as source:
        for at in range(0, 4 * MIB - 5 * PAGE, 5 * PAGE):
            assert source.pread(5 * PAGE, at) == memory[at:at + 5 * PAGE]
    assert len(begun) == 3
    assert set(begun.values()) == {1}


def test_threads_do_not_disturb_each_other(path: Path) -> None:
    failures: list[BaseException] = []

    def read(source: Source, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(60):
                check_read(source, MODEL, rng.randrange(len(MEMORY)), rng.randrange(1, 40 * PAGE))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with opened(path, PACKED) as source:
        threads = [threading.Thread(target=read, args=(source, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


# -- cut off and unfinished --------------------------------------------------------------------------------------------------

# where each segment's header of PLAIN is, and its memory
BORDERS: list[tuple[int, int, int]] = []
_place = PAGE
for _start, _end in runs(MEMORY):
    BORDERS.append((_place, _start, _end))
    _place += PAGE + _end - _start


def served_of_plain(size: int) -> dict[int, bytes | str]:
    """What is left of PLAIN when it has *size* bytes: all up to the end of what is there of the last segment."""
    have = 0
    for place, start, end in BORDERS:
        if place + 52 <= size:
            have = max(start, min(end, start + size - place - PAGE))
    cut = have - have % PAGE
    return {n: page if (n + 1) * PAGE <= cut else "missing" for n, page in MODEL.items()}


@pytest.mark.parametrize("size", [BORDERS[0][0] + PAGE + 10 * PAGE, BORDERS[1][0] + 40 * PAGE, _place - 1,
                                  *(place + more for place, _, _ in BORDERS[1:] for more in (-1, 0, 1, 51, 52, PAGE - 1, PAGE))])
def test_cut_off_a_plain_dump_is_served_as_far_as_it_goes(path: Path, size: int) -> None:
    with opened(path, PLAIN[:size]) as source:
        assert source.container.incomplete is not None
        assert f"{size:#x}" in source.container.incomplete or size in {place + 51 for place, _, _ in BORDERS}
        pages = served_of_plain(size)
        for number in range(0, len(pages), 13):
            page = pages[number]
            if isinstance(page, bytes):
                assert source.pread(PAGE, number * PAGE) == page
            elif number and pages[number - 1] == "missing":
                assert error_at(source, number * PAGE).kind == "missing"


def test_cut_off_within_compressed_data_the_entries_before_are_served(path: Path) -> None:
    memory = memory_of("ppppp")
    data = s390_ext(memory, packed=True)
    entries = [int.from_bytes(data[2 * PAGE + MIB + 0x34 + 4 * n:2 * PAGE + MIB + 0x38 + 4 * n], "big") for n in range(4)]
    cut = 3 * PAGE + MIB + entries[2] * PAGE + 100
    with opened(path, data[:cut]) as source:
        assert f"cut off at {cut:#x}, within the compressed segment 0x100000-0x500000" in str(source.container.incomplete)
        assert source.pread(3 * MIB, 0) == memory[:3 * MIB]
        error = error_at(source, 3 * MIB)
        assert (error.kind, error.offset) == ("missing", cut)
        assert error_at(source, 4 * MIB).kind == "missing"
        assert error_at(source, 2 * MIB, 2 * MIB).good == MIB


def test_without_an_end_marker_it_was_not_finished(path: Path) -> None:
    with opened(path, PLAIN[:-PAGE] + bytes(PAGE)) as source:
        assert f"the end marker is not at {len(PLAIN) - PAGE:#x}" in str(source.container.incomplete)
        assert source.pread(len(MEMORY), 0) == MEMORY


@pytest.mark.parametrize("marker", [b"", bytes(PAGE), s390.end_marker(s390.tod(1_600_000_000)), b"DUMP_END", b"DUMP_ENE" + bytes(8)])
def test_behind_the_last_segment_memory_is_zero_only_where_the_end_marker_is_right(path: Path, marker: bytes) -> None:
    memory = memory_of("pzpzzz")
    good = s390_ext(memory)
    with opened(path, good) as source:
        assert source.pread(3 * MIB, 3 * MIB) == bytes(3 * MIB)
    with opened(path, good[:-PAGE] + marker) as source:
        told = " ".join((str(source.container.incomplete), *source.container.problems))
        assert f"{len(good) - PAGE:#x}" in told
        assert "memory from 0x300000 on is missing" in told
        assert source.pread(3 * MIB, 0) == memory[:3 * MIB]
        for address in (3 * MIB, 5 * MIB, 6 * MIB - 1):
            assert error_at(source, address).kind == "missing"


def test_a_stop_marker_that_comes_too_early_invents_no_zeros(path: Path) -> None:
    with opened(path, with_segment(PLAIN, PAGE, stop_marker=1)) as source:
        assert source.pread(MIB, 0) == MEMORY[:MIB]
        for address in (MIB, 2 * MIB, len(MEMORY) - 1):
            assert error_at(source, address).kind == "missing"
        assert "the end marker is not at" in str(source.container.incomplete)


@pytest.mark.parametrize("damage", [1 << 46, 1 << 45, 1 << 40, 64 * MIB])
def test_a_memory_size_that_nothing_else_says_invents_no_zeros(path: Path, damage: int) -> None:
    memory = memory_of("pzprz")
    others: tuple[dict[str, int], ...] = ({}, {"mem_end": 0, "num_pages": 9}, {"mem_end": 3, "num_pages": 4})
    for fields in others:
        data = bytearray(s390_ext(memory))
        for name, value in {"mem_size": damage, **fields}.items():
            offset, size = s390.FIELDS[name]
            data[offset:offset + size] = value.to_bytes(size, "big")
        with opened(path, bytes(data)) as source:
            told = " ".join(source.container.problems)
            assert f"mem_size at offset 0x18 is {damage:#x}, mem_end at 0x28 " in told
            assert source.pread(4 * MIB, 0) == memory[:4 * MIB]
            if fields:
                assert "memory from 0x400000 on that no segment has is missing" in told
                assert error_at(source, 4 * MIB).kind == error_at(source, damage - 1).kind == "missing"
            else:
                assert source.size == len(memory)
                assert source.pread(MIB, 4 * MIB) == bytes(MIB)


def test_a_writer_that_fills_in_mem_size_alone_is_believed(path: Path) -> None:
    memory = memory_of("pzprz")
    data = bytearray(s390_ext(memory))
    for name in ("mem_end", "num_pages"):
        offset, size = s390.FIELDS[name]
        data[offset:offset + size] = bytes(size)
    with opened(path, bytes(data)) as source:
        assert source.container.problems == ()
        assert source.pread(len(memory), 0) == memory


def test_an_end_marker_older_than_the_header_is_doubtful(path: Path) -> None:
    with opened(path, PLAIN[:-PAGE] + s390.end_marker(s390.tod(1_600_000_000)).ljust(PAGE, b"\0")) as source:
        assert "older than the header" in " ".join(source.container.problems)


def test_a_memory_limit_makes_it_incomplete(path: Path) -> None:
    with opened(path, s390_ext(MEMORY, mem_size_real=1 << 30)) as source:
        assert "memory from 0x605000 on is missing" in str(source.container.incomplete)


@pytest.mark.parametrize("size", [0x1000, 0x1001, 0x1033])
def test_without_a_segment_nothing_is_left(path: Path, size: int) -> None:
    assert "without memory" in refusal(path, PLAIN[:size])


# -- damaged -----------------------------------------------------------------------------------------------------------------


def with_segment(data: bytes, place: int, **values: int) -> bytes:
    changed = bytearray(data)
    for name, value in values.items():
        offset, size = SEGMENT[name]
        changed[place + offset:place + offset + size] = value.to_bytes(size, "big")
    return bytes(changed)


SECOND = BORDERS[1][0]
PACKED_SECOND = 2 * PAGE + MIB


@pytest.mark.parametrize("values", [
    {"start": 0}, {"start": 1}, {"start": 2 * MIB - 1}, {"start": 2 * MIB + PAGE}, {"start": 1 << 46}, {"start": (1 << 64) - 1},
    {"start": 1 << 63}, {"len": 0}, {"len": 1}, {"len": 1 << 46}, {"len": (1 << 64) - 1}, {"len": MIB + PAGE}, {"size_on_disk": 1},
    {"size_on_disk": (1 << 32) - 1}, {"len": 6 * MIB}, {"size_on_disk": 1, "entry_count": 3},
    {"entry_count": 1}, {"entry_count": 3}], ids=str)
def test_a_segment_header_that_cannot_be_ends_the_dump_there(path: Path, values: dict[str, int]) -> None:
    with opened(path, with_segment(PLAIN, SECOND, **values)) as source:
        assert source.pread(MIB, 0) == MEMORY[:MIB]
        assert f"no segment's header is at {SECOND:#x}" in str(source.container.incomplete)
        for address in (MIB, 2 * MIB, 5 * MIB, len(MEMORY) - 1):
            assert error_at(source, address).kind == "missing"


@pytest.mark.parametrize("values", [{"stop_marker": 1}, {"len": 2 * MIB}, {"len": MIB}, {"start": 3 * MIB, "len": 2 * MIB}], ids=str)
def test_a_segment_header_that_is_wrong_leads_to_no_end_marker(path: Path, values: dict[str, int]) -> None:
    with opened(path, with_segment(PLAIN, SECOND, **values)) as source:
        assert source.container.incomplete is not None
        assert source.pread(MIB, 0) == MEMORY[:MIB]


def test_the_first_segment_damaged_leaves_nothing(path: Path) -> None:
    assert "no segment's header is at 0x1000: its memory" in refusal(path, with_segment(PLAIN, PAGE, start=1))


@pytest.mark.parametrize(("values", "good"), [
    ({"entry_offset": 1 << 30}, 0), ({"entry_offset": 0x7FFFFFFF}, 0), ({"entry_offset": 0xFFFFFFFF}, 0), ({"entry_offset": 1}, 0)])
def test_entries_that_lie_are_read_errors(path: Path, values: dict[str, int], good: int) -> None:
    memory = memory_of("pppp")
    data = s390_ext(memory, packed=True)
    with opened(path, with_segment(data, PACKED_SECOND, **values)) as source:
        error = error_at(source, MIB, 100)
        assert (error.kind, error.good) == ("broken", good)
        assert error.file == str(path)
        assert source.pread(MIB, 3 * MIB) == memory[3 * MIB:]


@pytest.mark.parametrize(("values", "words"), [
    ({"size_on_disk": 0}, f"of no size (size_on_disk at {PACKED_SECOND + 0x18:#x} is 0)"),
    ({"entry_count": 0}, f"0 compressed entries (entry_count at offset {PACKED_SECOND + 0x30:#x}) in "),
    ({"size_on_disk": 2}, f"3 compressed entries (entry_count at offset {PACKED_SECOND + 0x30:#x}) in 0x2 blocks"),
])
def test_compressed_bytes_are_never_memory(path: Path, values: dict[str, int], words: str) -> None:
    memory = memory_of("pppp")
    with opened(path, with_segment(s390_ext(memory, packed=True), PACKED_SECOND, **values)) as source:
        assert words in str(source.container.incomplete)
        assert source.pread(MIB, 0) == memory[:MIB]
        for address in (MIB, 2 * MIB, 4 * MIB - 1):
            assert error_at(source, address).kind == "missing"


def test_no_bit_of_an_entry_offset_leads_to_a_wrong_byte(path: Path) -> None:
    memory = memory_of("pprp", 3 * PAGE)
    data = s390_ext(memory, packed=True, plain=(1,))
    pages = model(memory)
    for bit in range(4 * 32):
        changed = bytearray(data)
        changed[PACKED_SECOND + 0x34 + bit // 8] ^= 1 << bit % 8
        with opened(path, bytes(changed)) as source:
            served = {n: source.read_some(PAGE, n * PAGE) for n in (0, 256, 511, 512, 767, 768, 1023, 1024, 1026)}
            assert all(page in {b"", pages[n]} for n, page in served.items()), bit
            assert served[0] == pages[0]
            entry = bit // 32
            for n in range(4):
                if abs(n - entry) > 1:
                    assert served[256 * (n + 1)] == pages[256 * (n + 1)]


@pytest.mark.parametrize("entry", [0, 2, 3])
def test_an_entry_that_is_said_to_be_plain_and_has_no_room_for_it_is_broken(path: Path, entry: int) -> None:
    memory = memory_of("pprp", 3 * PAGE)
    changed = bytearray(s390_ext(memory, packed=True, plain=(1,)) + page_of(3) * 600)
    where = PACKED_SECOND + 0x34 + 4 * entry
    changed[where] |= 0x80
    with opened(path, bytes(changed)) as source:
        error = error_at(source, (entry + 1) * MIB, PAGE)
        assert (error.kind, error.offset, error.good) == ("broken", where, 0)
        assert "said to be stored plain in a room of " in error.cause


def one_entry(data: bytes) -> bytes:
    """A dump of 2 MiB, of which the second is an entry of this compressed data."""
    blocks = -(-len(data) // PAGE)
    head = with_segment(packed_segment(MIB, bytes(MIB), stop=True)[:PAGE], 0, size_on_disk=blocks)
    return header(2 * MIB, version=2) + segment(0, bytes(MIB), stop=False) + head + data.ljust(blocks * PAGE, b"\0") \
        + s390.end_marker().ljust(PAGE, b"\0")


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB + 1, 5 * MIB])
def test_an_entry_that_unpacks_to_another_size_is_broken(path: Path, size: int) -> None:
    with opened(path, one_entry(zlib.compress(bytes(size)))) as source:
        assert source.container.incomplete is None
        error = error_at(source, MIB, MIB)
        assert (error.kind, error.good) == ("broken", 0)
        assert "damaged zlib data: " in error.cause
        assert error.offset == PACKED_SECOND + PAGE


def test_an_entry_without_its_checksum_is_broken(path: Path) -> None:
    rng = random.Random(5)
    noise = rng.randbytes(100_000)
    data = next(packed for size in range(90_000, 100_000)  # one that ends with a block but for its checksum
                if len(packed := zlib.compress(noise[:size].ljust(MIB, b"\0"))) % PAGE == 4)
    with opened(path, one_entry(data)) as source:
        assert source.pread(90_000, MIB) == noise[:90_000]
    with opened(path, one_entry(data[:-4])) as source:
        error = error_at(source, MIB)
        assert (error.kind, error.good) == ("broken", 0)
        assert "their end is missing" in error.cause


def test_a_byte_changed_in_an_entry_is_noticed(path: Path) -> None:
    for at in (0, 1, 2, 60, 1000):
        data = bytearray(s390_ext(memory_of("pp"), packed=True))
        data[PACKED_SECOND + PAGE + at] ^= 1
        with opened(path, bytes(data)) as source:
            assert error_at(source, MIB + 5).kind == "broken"


def test_a_bomb_costs_no_memory(path: Path) -> None:
    path.write_bytes(one_entry(zlib.compress(bytes(400 * MIB), 9)))
    cost = cost_of_opening(path)
    assert cost.memory < 60 << 10
    assert cost.said.startswith("opened")
    with open_image(path) as source:
        assert "more bytes come out" in error_at(source, MIB).cause


def test_countless_segments_are_bounded(path: Path) -> None:
    count = 1 << 18
    with open(path, "wb") as file:
        file.write(header(1 << 46))
        for number in range(count):
            file.seek(PAGE + number * (PAGE + MIB))
            file.write(number.to_bytes(3, "big").rjust(5, b"\0") * 0 + (2 * number * MIB).to_bytes(8, "big") + MIB.to_bytes(8, "big"))
        file.truncate(PAGE + count * (PAGE + MIB))
    cost = cost_of_opening(path)
    assert cost.memory < 100 << 10
    assert cost.seconds < 30


FIELDS = [name for name in s390.FIELDS if name not in {"magic", "dump_level", "mem_start", "mem_end", "num_pages", "pad", "cpu_id", "volnr",
                                                      "real_cpu_cnt", "zlib_version", "zlib_entry_size"}]


@pytest.mark.parametrize("name", sorted(s390.FIELDS))
@pytest.mark.parametrize("value", [0, 1, "max"])
def test_no_value_of_a_header_field_leads_to_a_wrong_byte(path: Path, name: str, value: int | str) -> None:
    if name == "magic":
        return
    offset, size = s390.FIELDS[name]
    changed = bytearray(PLAIN)
    changed[offset:offset + size] = ((1 << 8 * size) - 1 if isinstance(value, str) else value).to_bytes(size, "big")
    path.write_bytes(changed)
    said, source = attempt(path)
    if source is None:
        assert f"{offset:#x}" in said or "0x1000" in said, said
        assert name in FIELDS
        return
    with source:
        for at in range(0, min(source.size, len(MEMORY)), 50 * PAGE):
            assert source.read_some(PAGE, at) in {MEMORY[at:at + PAGE], b""}


def attempt(path: Path) -> tuple[str, Source | None]:
    try:
        return "", open_image(path)
    except ImageError as error:
        return str(error), None


# -- what only looks like it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + PAGE])
def test_joined_records_of_a_tape_are_no_segments(path: Path, size: int) -> None:
    assert f"off a tape, whose records were joined; behind its header it is plain memory: dd bs=4096 skip=1 count={size // PAGE}" \
        in refusal(path, tape(random.Random(4).randbytes(size)))


def test_an_end_marker_in_memory_makes_no_tape(path: Path) -> None:
    memory = bytearray(memory_of("pp"))
    memory[-2 * PAGE:-2 * PAGE + 8] = b"DUMP_END"  # where a tape's end marker would be in this file
    with opened(path, s390_ext(bytes(memory))) as source:
        assert source.container.incomplete is None
        assert source.pread(2 * MIB, 0) == memory


def test_a_volume_of_several_is_refused(path: Path) -> None:
    assert "volume 3 of an s390 dump on several volumes" in refusal(path, s390_ext(MEMORY, mvdump=1, volnr=3))


# -- bad disks ---------------------------------------------------------------------------------------------------------------


def test_a_bad_sector(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path, PLAIN) as source:
        BadDisk(monkeypatch, path, [(2 * PAGE + 7777, 2 * PAGE + 7778)])
        pages: dict[int, bytes | str] = dict(MODEL)
        error = error_at(source, 0, 3 * PAGE)
        assert (error.good, error.offset) == (7777, 2 * PAGE + 7777)
        check_read(source, pages, 2 * PAGE, 100 * PAGE)


def test_a_bad_sector_of_an_entry_spoils_its_mib_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = memory_of("ppp")
    with opened(path, s390_ext(memory, packed=True)) as source:
        BadDisk(monkeypatch, path, [(PACKED_SECOND + PAGE + 10, PACKED_SECOND + PAGE + 11)])
        pages = model(memory) | dict.fromkeys(range(256, 512), "broken")
        check_all(source, pages, 768, reads=5)
