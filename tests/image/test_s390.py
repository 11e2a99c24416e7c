"""s390 stand-alone dumps (magic ...23fd): header, memory, end marker; cut off, unfinished and damaged ones."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.builders.containers import s390
from tests.builders.containers.s390 import FIELDS, end_marker, header, tod
from tests.image.opening import cost_of_opening, opened, refusal
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.s390 import agreed_size, unix_time
from vmcorefs.ranges import Range

PAGE = 4096
MEMORY = random.Random(6).randbytes(24 * PAGE)
PREFIXES = (0x10000, 0x12000)
GOOD = s390.s390(MEMORY, PREFIXES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def with_fields(data: bytes, **values: int) -> bytes:
    changed = bytearray(data)
    for name, value in values.items():
        offset, size = FIELDS[name]
        changed[offset:offset + size] = value.to_bytes(size, "big")
    return bytes(changed)


@pytest.mark.parametrize("version", range(1, 6))
def test_memory_prefixes_and_time(path: Path, version: int) -> None:
    with opened(path, with_fields(GOOD, version=version)) as source:
        container = source.container
        assert (container.format, source.size, container.memory) == ("s390", len(MEMORY), (Range(0, len(MEMORY)),))
        assert source.pread(len(MEMORY), 0) == MEMORY
        assert container.prefixes == (PREFIXES if version == 5 else ())
        assert container.time == 1_700_000_000.0
        assert (container.incomplete, container.problems) == (None, ())
        assert f"version {version}" in container.detail
        with pytest.raises(OldmemReadError) as caught:
            source.pread(1, len(MEMORY))
        assert caught.value.kind == "missing"


def test_on_a_partition_whatever_follows_does_not_matter(path: Path) -> None:
    with opened(path, GOOD + random.Random(1).randbytes(100 * PAGE)) as source:
        assert source.size == len(MEMORY)
        assert source.container.incomplete is None


def test_a_time_of_zero_is_not_known(path: Path) -> None:
    with opened(path, with_fields(GOOD, tod=0)) as source:
        assert source.container.time is None


@pytest.mark.parametrize(("value", "seconds"), [(0, None), (0x7D91048BCA000000, None), (0x7D91048BCA000000 + 4096, 1e-6),
                                                (0x8126D60E46000000, 63072000.0)])  # zdump/df_s390.c
def test_tod_to_unix_time(value: int, seconds: float | None) -> None:
    assert unix_time(value) == seconds


def test_tod_of_the_builder_is_the_tod_of_the_kernel() -> None:
    """kernel/time.c: tod_to_timeval; a leap year and a day by hand."""
    assert unix_time(tod(86_400 * 366)) == 86_400.0 * 366


# -- incomplete ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lost", [1, 15, 16, 17, PAGE, 5 * PAGE + 1, len(MEMORY) + 15, len(MEMORY) + 16])
def test_cut_off_it_is_served_as_far_as_it_goes(path: Path, lost: int) -> None:
    size = len(GOOD) - lost
    have = max(0, min(len(MEMORY), size - PAGE))
    with opened(path, GOOD[:size]) as source:
        assert source.size == len(MEMORY)
        assert source.container.memory == (Range(0, len(MEMORY)),)
        assert source.read_some(len(MEMORY), 0) == MEMORY[:have]
        assert source.container.incomplete or source.container.problems
        if have < len(MEMORY):
            assert source.container.incomplete is not None
            assert f"memory from address {have:#x} on is missing" in source.container.incomplete
            with pytest.raises(OldmemReadError) as caught:
                source.pread(1, have)
            assert (caught.value.kind, caught.value.offset) == ("missing", size)


@pytest.mark.parametrize("size", [8, 9, 100, 4095])
def test_cut_off_inside_the_header_it_is_refused(path: Path, size: int) -> None:
    assert f"cut off inside its header: it has {size:#x} bytes" in refusal(path, GOOD[:size])


def test_without_an_end_marker_it_was_not_finished(path: Path) -> None:
    with opened(path, GOOD[:-16] + bytes(PAGE)) as source:
        assert source.container.incomplete is not None
        assert f"the end marker is not at {PAGE + len(MEMORY):#x}: the dump was not finished" in source.container.incomplete
        assert source.pread(len(MEMORY), 0) == MEMORY


def test_an_end_marker_of_an_older_dump_is_doubtful(path: Path) -> None:
    with opened(path, GOOD[:-16] + end_marker(tod(1_699_999_999))) as source:
        assert source.container.incomplete is None
        assert "is older than the header" in source.container.problems[0]


def test_zgetdump_gives_both_times_the_same_value(path: Path) -> None:
    with opened(path, GOOD[:-16] + end_marker(tod(1_700_000_000))) as source:
        assert source.container.problems == ()


def test_a_limited_dump_is_partial_though_it_is_finished(path: Path) -> None:
    with opened(path, with_fields(GOOD, mem_size_real=1 << 30)) as source:
        assert source.container.incomplete is not None
        assert "limited to 96 KiB of the machine's 1 GiB; memory from 0x18000 on is missing" in source.container.incomplete


@pytest.mark.parametrize("version", [1, 2])
def test_old_versions_have_no_real_size(path: Path, version: int) -> None:
    with opened(path, with_fields(GOOD, version=version, mem_size_real=1 << 30)) as source:
        assert source.container.incomplete is None


def test_prefix_pages_outside_of_the_dump_are_told(path: Path) -> None:
    with opened(path, s390.s390(MEMORY, (0x10000, len(MEMORY) - PAGE))) as source:
        assert source.container.prefixes == (0x10000, len(MEMORY) - PAGE)
        assert "1 CPU(s) have their registers outside of the dump, which ends at 0x18000; one at 0x17000" in source.container.problems[0]


# -- damaged ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("values", "words"), [
    ({"version": 0}, "version 0 (at offset 0x8)"),
    ({"version": 6}, "version 6 (at offset 0x8)"),
    ({"hdr_size": 0xFFF}, "hdr_size at offset 0xc is 0xfff, not 0x1000"),
    ({"page_size": 0x10000}, "page_size at offset 0x14 is 0x10000"),
    ({"mem_size": 0}, "mem_size at offset 0x18 is 0x0"),
    ({"mem_size": PAGE - 1}, "mem_size at offset 0x18 is 0xfff"),
    ({"mem_size": (1 << 46) + PAGE}, "mem_size at offset 0x18"),
    ({"mem_size": (1 << 64) - 1}, "mem_size at offset 0x18"),
    ({"arch": 1}, "of a 31-bit system (arch at offset 0x48)"),
    ({"arch": 0}, "arch at offset 0x48 is 0, not 2"),
    ({"build_arch": 1}, "of a 31-bit system (build_arch at offset 0x50)"),
    ({"build_arch": 3}, "build_arch at offset 0x50 is 3"),
    ({"mvdump": 1, "volnr": 3}, "volume 3 of an s390 dump on several volumes (offset 0x5c)"),
    ({"cpu_cnt": 513}, "cpu_cnt at offset 0x5d is 513, more than 512"),
])
def test_what_a_wrong_header_is_told(path: Path, values: dict[str, int], words: str) -> None:
    assert words in refusal(path, with_fields(GOOD, **values))


def _changed() -> list[tuple[str, int]]:
    rows = []
    for name, (offset, size) in FIELDS.items():
        right, most = int.from_bytes(GOOD[offset:offset + size], "big"), (1 << (8 * size)) - 1
        rows += [(name, v) for v in sorted({0, 1, most, most >> 1, (right + 1) & most, (right - 1) & most} - {right})]
    return rows


MATTERS = {"magic", "version", "hdr_size", "page_size", "mem_size", "arch", "build_arch", "mvdump", "cpu_cnt"}


@pytest.mark.parametrize(("name", "value"), _changed())
def test_a_wrong_field_is_an_error_with_its_offset_or_does_no_harm(path: Path, name: str, value: int) -> None:
    data = with_fields(GOOD, **{name: value})
    path.write_bytes(data)
    if (name, value) == ("magic", 0xA8190173618F23FE):
        return  # the extended format
    try:
        source = open_image(path)
    except ImageError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message == refusal(path, data)
        assert f"offset {FIELDS[name][0]:#x}" in message
        assert name in MATTERS
        return
    with source:
        if name == "magic":
            assert source.container.format != "s390"
            return
        assert source.read_some(PAGE, 0) == MEMORY[:PAGE]
        assert name == "mem_size" or source.size == len(MEMORY)
        assert len(source.container.prefixes) <= 512


M, T = 0x605000, 1 << 44  # T: num_pages wraps


@pytest.mark.parametrize(("mem_size", "mem_end", "num_pages", "size", "proven", "told"), [
    (M, M, M >> 12, M, M, False),  # the dump tools
    (M, M - 1, M >> 12, M, M, False),  # zgetdump
    (T + M, T + M - 1, M >> 12, T + M, T + M, False),
    (1 << 46, 1 << 46, 0, 1 << 46, 1 << 46, False),
    (M + 0x1000, M, M >> 12, M, M, True),
    (M - 0x1000, M - 1, M >> 12, M, M, True),
    (M, 0, M >> 12, M, M, True),
    (M, (1 << 64) - 1, M >> 12, M, M, True),
    (M, M + 0x1000, M >> 12, M, M, True),
    (M, M, 0, M, M, True),
    (M, M - 1, (M >> 12) + 1, M, M, True),
    (T + M, M, M >> 12, M, M, True),  # num_pages fits both
    (M, T + M, M >> 12, M, M, True),
    (1 << 46, M, 5, 1 << 46, 0x5000, True),
    (M, 0x7000, 9, M, 0x7000, True),
    (1 << 46, 0, 1, 1 << 46, 0x1000, True),
    (1 << 45, 3, 0, 1 << 45, 0, True),
    (M, 0, 0, M, M, False),  # not filled in
])
def test_of_three_fields_that_say_the_size_of_memory_two_outvote_the_third(
        mem_size: int, mem_end: int, num_pages: int, size: int, proven: int, told: bool) -> None:
    got = agreed_size(mem_size, mem_end, num_pages)
    assert got[:2] == (size, proven)
    assert bool(got[2]) == told
    assert not told or all(f"{where} {value:#x}" in str(got[2]) for where, value in (
        ("0x18 is", mem_size), ("0x28", mem_end), ("0x30", num_pages)))


@pytest.mark.parametrize(("name", "offset"), [("mem_start", "0x20"), ("mem_end", "0x28"), ("num_pages", "0x30"), ("mem_size", "0x18")])
@pytest.mark.parametrize("value", [PAGE, 5 * PAGE, 1 << 31])
def test_a_field_about_the_size_that_the_others_contradict_is_told_and_not_used(path: Path, name: str, offset: str, value: int) -> None:
    with opened(path, with_fields(GOOD, **{name: value}) + random.Random(1).randbytes(9 * PAGE)) as source:
        assert source.size == len(MEMORY)
        assert source.container.incomplete is None
        (problem,) = source.container.problems[:1]
        assert f"{offset} " in problem
        assert f"{value:#x}" in problem


def test_a_memory_size_beyond_the_file_is_missing_not_zero_and_costs_nothing(path: Path) -> None:
    with opened(path, header(1 << 46, (0x10000,)) + MEMORY) as source:
        assert source.size == 1 << 46
        assert source.read_some(len(MEMORY) + 5, 0) == MEMORY
        with pytest.raises(OldmemReadError) as caught:
            source.pread(PAGE, (1 << 46) - PAGE)
        assert caught.value.kind == "missing"
        assert sum(len(data) for _, data in source.scan(0, 1 << 46)) == len(MEMORY)
    assert cost_of_opening(path).memory < 40_000


def test_512_prefixes_are_read(path: Path) -> None:
    prefixes = tuple(0x2000 * n for n in range(512))
    with opened(path, s390.s390(MEMORY, prefixes)) as source:
        assert source.container.prefixes == prefixes
    assert struct.unpack_from(">I", s390.header(PAGE, prefixes), 0xFFC) == (0x2000 * 511,)
