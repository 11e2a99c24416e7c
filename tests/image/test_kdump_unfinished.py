"""kdump-compressed dumps whose writer was stopped at any moment, or of which a bit is lost: never a page at the wrong place, never a zero
that is not proven, and a word about it.
"""

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

from tests.builders.containers.kdump import Kdump
from tests.image.makedumpfile_writer import Makedumpfile, as_file
from tests.image.model import PAGE, check_all, check_read, error_at, never_wrong, opened, page_of, refusal
from vmcorefs.errors import ImageError
from vmcorefs.image import kdump, kdump_descriptors, open_image
from vmcorefs.image.source import Source

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


def memory(end: int, seed: int = 0) -> dict[int, bytes]:
    """Pages, among them runs of zero pages, one that cannot be compressed, and a hole."""
    rng = random.Random(seed)
    zero = {n + k for n in rng.choices(range(end), k=end // 20 + 1) for k in range(rng.randrange(1, 9))}
    hole = range(end // 3, end // 3 + rng.randrange(3) * 8)
    pages = {n: bytes(PAGE) if n in zero else page_of(n) for n in range(end) if n not in hole}
    return pages | {end - 2: rng.randbytes(PAGE), end - 1: page_of(end - 1) if rng.random() < 0.7 else bytes(PAGE)}


def readable(dump: Makedumpfile, data: bytes) -> dict[int, bytes | str]:
    """What must be served of the unfinished or finished file *data*, page by page of what the descriptors in it say."""
    pages: dict[int, bytes | str] = {}
    bits = int.from_bytes(data[dump.shape.bitmap + dump.shape.bitmap_size:dump.shape.descriptors], "little")
    for number, pfn in enumerate(dump.own):
        at = dump.shape.descriptors + 24 * number
        offset, size = struct.unpack_from(">QI", data, at) if at + 24 <= len(data) else (0, 0)
        pages[pfn] = dump.pages[pfn] if bits >> pfn & 1 and size and offset + size <= len(data) else "missing"
    proven = bits.bit_count() == len(dump.saved) and len(data) >= dump.shape.descriptors + 24 \
        and any(data[dump.shape.descriptors + 8:dump.shape.descriptors + 16])
    memory = int.from_bytes(data[dump.shape.bitmap:dump.shape.bitmap + dump.shape.bitmap_size], "little")
    for pfn in dump.excluded:
        pages[pfn] = "filtered" if (bits >> pfn or proven) and memory >> pfn & 1 else "missing"
    return pages


def check_unfinished(path: Path, dump: Makedumpfile, data: bytes, *, finished: bool) -> None:
    if len(data) < dump.shape.descriptors:
        assert "cut off" in refusal(path, data)
        return
    with opened(path, data) as source:
        assert (source.container.incomplete is None) is finished, source.container.incomplete
        nothing_yet = not any(data[dump.shape.bitmap:dump.shape.bitmap + dump.shape.bitmap_size])
        assert source.container.problems == (("the first bitmap at 0x2000 names no memory at all",) if nothing_yet else ())
        for pfn, page in readable(dump, data).items():
            check_read(source, {pfn: page}, pfn * PAGE, PAGE)


DUMPS = [Makedumpfile(memory(120), cache=1 << 12), Makedumpfile(memory(120, 1), level=0, cache=3000),
         Makedumpfile(memory(120, 2), cycle=32),
         Makedumpfile(memory(150, 3), frozenset(range(0, 100, 3)), level=31, cycle=40, cache=2000),
         Makedumpfile(memory(400, 4), frozenset(range(200, 390)), level=31, cycle=64), Makedumpfile(memory(80, 5), cycle=8, cache=900)]


@pytest.mark.parametrize("dump", DUMPS, ids=range(len(DUMPS)))
def test_a_writer_that_is_killed_between_any_two_writes(path: Path, dump: Makedumpfile) -> None:
    writes = dump.writes()
    whole = as_file(writes)
    for count in range(2, len(writes) + 1):
        data = as_file(writes[:count])
        check_unfinished(path, dump, data, finished=data == whole)


@settings(max_examples=EXAMPLES, deadline=None)
@given(end=st.integers(9, 200), seed=st.integers(0, 1000), level=st.sampled_from((0, 1, 1, 31)), cycle=st.sampled_from((8, 16, 64, 4096)),
       cache=st.sampled_from((500, 4096, 1 << 16)), part=st.booleans(), where=st.floats(0, 1), within=st.booleans())
def test_a_writer_that_is_killed_at_any_moment(end: int, seed: int, level: int, cycle: int, cache: int, part: bool, where: float,
                                               within: bool) -> None:
    rng = random.Random(seed)
    excluded = frozenset(rng.sample(range(end - 3), end // 3)) if level > 1 else frozenset()
    pages = memory(end, seed)
    dump = Makedumpfile(pages, excluded & pages.keys(), level, cycle, cache)
    if part:
        dump = replace(dump, part=(0, end))
    writes = dump.writes()
    whole = as_file(writes)
    count = 2 + round(where * (len(writes) - 2))
    stopped = writes[:count]
    if within:  # no space is left: a write is cut
        offset, last = stopped[-1]
        stopped = [*stopped[:-1], (offset, last[:rng.randrange(8, len(last) + 8) & ~7])]
    data = as_file(stopped)
    with tempfile.TemporaryDirectory() as folder:
        check_unfinished(Path(folder) / "dump", dump, data, finished=data == whole)


def test_the_last_cycle_is_lost_and_looks_like_zero_pages(path: Path) -> None:
    """Found with makedumpfile -c -d 1 --cyclic-buffer: fewer pages than a page has descriptors, level 1, status without 8."""
    pages = {n: page_of(n) for n in range(8292) if not 4096 <= n < 8192}
    dump = Makedumpfile(pages, cycle=8192, cache=1 << 18)
    writes = dump.writes()
    second = [number for number, (offset, _) in enumerate(writes) if offset == dump.shape.bitmap + dump.shape.bitmap_size + 1024]
    with opened(path, as_file(writes[:second[-1]])) as source:
        assert source.container.incomplete is not None
        assert "names 0x1000 of 0x1064 pages that were to be saved" in source.container.incomplete
        assert "of memory from address 0x1000000 on nothing is in it" in source.container.incomplete
        assert [kind for kind, _, _ in source.absences()] == ["missing"]
        assert sum(size for _, size, _ in source.absences()) == 100 * PAGE
        for pfn in (8192, 8200, 8291):
            error = error_at(source, pfn * PAGE)
            assert (error.kind, "did not get to this page" in error.cause) == ("missing", True)
        check_read(source, {0: pages[0]}, 0, PAGE)


def test_a_writer_that_leaves_zero_pages_out_and_is_killed(path: Path) -> None:
    pages = {n: bytes(PAGE) if n % 4 == 2 else page_of(n) for n in range(128)}
    dump = Makedumpfile(pages, cycle=32, cache=1000, keeps_zeros=False)
    writes = dump.writes()
    whole = as_file(writes)
    for count in range(2, len(writes) + 1):
        data = as_file(writes[:count])
        if len(data) < dump.shape.descriptors:
            refusal(path, data)
            continue
        with opened(path, data) as source:
            assert (source.container.incomplete is None) is (data == whole)
            bits = int.from_bytes(data[dump.shape.bitmap + dump.shape.bitmap_size:dump.shape.descriptors], "little")
            for pfn in range(2, 128, 4):
                proven = bits.bit_count() == len(dump.saved) and any(data[dump.shape.descriptors:dump.shape.descriptors + 24])
                page = bytes(PAGE) if proven else "filtered" if bits >> pfn else "missing"
                check_read(source, {pfn: page}, pfn * PAGE, PAGE)


def test_what_is_left_out_beside_stored_zero_pages_is_something_else(path: Path) -> None:
    """At level 1, too: makedumpfile clears bits of the second bitmap for other reasons, never for zeros."""
    pages = memory(100)
    with opened(path, Makedumpfile(pages, frozenset({3, 50})).build()) as source:
        assert source.container.incomplete is None
        check_all(source, {**pages, 3: "filtered", 50: "filtered"}, 102, reads=20)
        assert [(kind, size) for kind, size, _ in source.absences()] == [("filtered", 2 * PAGE)]
    for status in (0x11, 9):  # pages of page structures were excluded; incomplete
        left_out = Kdump({n: page_of(n) for n in range(20)}, frozenset({20}), fields={"status": status})
        with opened(path, left_out.build()) as source:
            assert error_at(source, 20 * PAGE).kind == "filtered"


# -- cut off where the last pages are zero pages -----------------------------------------------------------------------------


@pytest.fixture(params=[4096, 8])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors that are read at once: few, so that there are many pieces."""
    monkeypatch.setattr(kdump_descriptors, "_CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("zeros", [0, 1, 20, 100])
def test_a_cut_is_told_though_the_last_pages_are_zero_pages(path: Path, zeros: int) -> None:
    pages = {n: bytes(PAGE) if n >= 120 or n % 9 < 3 else page_of(n) for n in range(120 + zeros)}
    dump = Makedumpfile(pages)
    whole = dump.build()
    for size in (len(whole) - 1, (len(whole) + dump.data + PAGE) // 2, dump.data + PAGE + 1):
        data = whole[:size]
        served = readable(dump, data)
        with opened(path, data) as source:
            first = min(n for n, page in served.items() if page == "missing")
            assert source.container.incomplete is not None
            assert f"cut off at {size:#x}" in source.container.incomplete
            assert f"pages from address {first * PAGE:#x} on" in source.container.incomplete
            check_all(source, served, 120 + zeros, reads=5)


# -- bits that are lost ------------------------------------------------------------------------------------------------------


def outcome(path: Path, data: bytes, pages: dict[int, bytes | str], end: int) -> str:
    """What came of a dump with a wrong bit; no page may be wrong."""
    try:
        source = opened(path, data)
    except ImageError as error:
        return str(error)
    with source:
        never_wrong(source, pages, end)
        return "; ".join(source.container.problems) or "nothing"


FLIPPED = [Kdump({n: page_of(n) for n in range(70) if n % 5}, frozenset(range(0, 70, 5))), Makedumpfile(memory(70)),
           Makedumpfile(memory(70), frozenset(range(0, 60, 4)), level=31), replace(Makedumpfile(memory(70)), part=(0, 70))]


@pytest.mark.parametrize("dump", FLIPPED, ids=range(len(FLIPPED)))
def test_a_wrong_bit_of_the_second_bitmap_is_refused(path: Path, dump: Kdump | Makedumpfile) -> None:
    data = dump.build()
    shape = dump if isinstance(dump, Kdump) else dump.shape
    for bit in range(70):
        changed = bytearray(data)
        changed[shape.bitmap + shape.bitmap_size + (bit >> 3)] ^= 1 << (bit & 7)
        said = outcome(path, bytes(changed), dict(dump.pages), 70)
        assert f"the bitmap at {shape.bitmap + shape.bitmap_size:#x} names" in said, bit
        assert "bits of the bitmap are lost" in said


def test_a_lost_bit_is_no_unfinished_bitmap(path: Path) -> None:
    """A writer that was killed behind the second bitmap, and a bit of it that was lost since."""
    dump = Makedumpfile({n: page_of(n) for n in range(200)}, cache=2000)
    writes = dump.writes()
    changed = bytearray(as_file(writes[:-len(writes) // 3]))
    changed[dump.shape.bitmap + PAGE + 1] ^= 1
    assert "bits of the bitmap are lost" in refusal(path, bytes(changed))


def test_a_part_that_begins_elsewhere_than_its_header_says(path: Path) -> None:
    dump = replace(Makedumpfile({n: page_of(n) for n in range(200)}), part=(50, 120))
    changed = bytearray(dump.build())
    struct.pack_into(">Q", changed, PAGE + 0x50, 51)
    assert "start_pfn or end_pfn in the header is wrong" in refusal(path, bytes(changed))


def test_a_page_that_the_first_bitmap_lost_is_told(path: Path) -> None:
    dump = Kdump({n: page_of(n) for n in range(70)})
    for bit in (0, 13, 69):
        changed = bytearray(dump.build())
        changed[dump.bitmap + (bit >> 3)] ^= 1 << (bit & 7)
        with opened(path, bytes(changed)) as source:
            (problem,) = source.container.problems
            assert f"page {bit:#x} (address {bit * PAGE:#x}) was saved by the second one" in problem
            assert f"no memory by the first one at {dump.bitmap:#x}" in problem


def test_bitmaps_that_differ_beyond_many_holes(path: Path) -> None:
    dump = Kdump({n: page_of(n % 5) for n in range(0, 400, 2)}, compression="plain")
    with opened(path, dump.build()) as source:
        assert source.container.problems == ()


@pytest.mark.parametrize("part", [None, (0, 70), (10, 60)])
@pytest.mark.parametrize("level", [1, 31])
def test_a_second_bitmap_of_zeros_is_no_memory_of_zeros(path: Path, level: int, part: tuple[int, int] | None) -> None:
    dump = Kdump({n: page_of(n) for n in range(70)}, level=level, part=part)
    data = bytearray(dump.build())
    data[dump.bitmap + PAGE:dump.descriptors] = bytes(PAGE)
    assert "names no page" in refusal(path, bytes(data))
    data[dump.descriptors:dump.data] = bytes(dump.data - dump.descriptors)  # as if nothing had been written yet
    with opened(path, bytes(data)) as source:
        assert source.container.incomplete is not None
        assert "names no page at all" in source.container.incomplete
        assert error_at(source, 20 * PAGE).kind == "missing"


def test_a_first_descriptor_that_is_damaged_does_not_hide_a_lost_bit(path: Path) -> None:
    dump = Kdump({n: page_of(n) for n in range(70)}, frozenset({70}))
    data = bytearray(dump.build())
    struct.pack_into(">I", data, dump.descriptor(0) + 8, 0)
    with opened(path, bytes(data)) as source:
        check_all(source, {**dump.pages, 0: "broken", 70: bytes(PAGE)}, 71, reads=5)
    data[dump.bitmap + PAGE + 4] ^= 1
    assert "bits of the bitmap are lost" in refusal(path, bytes(data))


@pytest.mark.parametrize(("max_mapnr", "problem"), [(70, False), (69, True), (71, True), (0, True), ((1 << 32) - 1, True)])
def test_two_numbers_of_pages_that_differ_are_told(path: Path, max_mapnr: int, problem: bool) -> None:
    dump = Kdump({n: page_of(n) for n in range(70)}, fields={"max_mapnr": max_mapnr})
    with opened(path, dump.build()) as source:
        assert bool(source.container.problems) is problem
        if problem:
            assert f"max_mapnr at offset 0x1b8 is {max_mapnr:#x}, max_mapnr_64 at offset 0x1060 is 0x46" in source.container.problems[0]


# -- bitmaps that are counted later ------------------------------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every bitmap were one of more than 2 TiB of memory: none is counted when the dump is opened."""
    monkeypatch.setattr(kdump, "_COUNTED", 0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("part", [None, (0, 70), (8, 60)])
def test_a_bitmap_that_is_counted_later(path: Path, part: tuple[int, int] | None) -> None:
    pages = memory(70)
    dump = replace(Makedumpfile(pages, frozenset({3, 50}), level=31), part=part)
    start, end = part or (0, 70)
    everything: dict[int, bytes | str] = {**pages, 3: "filtered", 50: "filtered"}
    model = {n: page for n, page in everything.items() if start <= n < end}
    with opened(path, dump.build()) as source:
        check_all(source, model, 72, reads=20)
    changed = bytearray(dump.build())
    changed[dump.shape.bitmap + PAGE + 5] ^= 4
    with opened(path, bytes(changed)) as source:
        for pfn in (start, 42, end - 1):
            error = error_at(source, pfn * PAGE)
            assert (error.kind, error.offset) == ("broken", dump.shape.bitmap + PAGE)
            assert "bits of the bitmap are lost" in error.cause
        assert [kind for kind, _, _ in source.absences()] == []


@pytest.mark.usefixtures("hurried")
def test_an_unfinished_one_that_is_counted_later(path: Path) -> None:
    dump = DUMPS[2]
    data = as_file(dump.writes()[:-4], dump.shape.descriptors)
    with opened(path, data) as source:
        for pfn, page in readable(dump, data).items():
            check_read(source, {pfn: page}, pfn * PAGE, PAGE)


# -- split: room for the descriptors of all files in each of them ------------------------------------------------------------


def parts_of(folder: Path, dump: Makedumpfile, borders: tuple[int, ...], names: str) -> list[Path]:
    edges = [0, *borders, dump.end]
    paths = [folder / f"dump.{name}" for name in names]
    for path, start, end in zip(paths, edges, edges[1:], strict=False):
        path.write_bytes(replace(dump, part=(start, end)).build())
    return paths


def check_split(source: Source, dump: Makedumpfile, model: dict[int, bytes | str]) -> None:
    assert source.container.incomplete is None
    assert source.container.problems == ()
    check_all(source, model, dump.end + 2, reads=10)


@pytest.mark.parametrize(("level", "excluded"), [(1, frozenset()), (0, frozenset()), (31, frozenset(range(40, 90)))])
@pytest.mark.parametrize("names", ["123", "abc", ["one", "two.kdump", "3"]], ids=str)
def test_a_split_dump_of_makedumpfile_is_found_whatever_its_names(tmp_path: Path, level: int, excluded: frozenset[int],
                                                                  names: str) -> None:
    pages = memory(200)
    dump = Makedumpfile(pages, excluded & pages.keys(), level)
    paths = parts_of(tmp_path, dump, (50, 85), names)
    (tmp_path / "dump.other").write_bytes(replace(dump, pages=memory(210), part=(0, 100)).build())
    (tmp_path / "dump.folder").mkdir()
    os.mkfifo(tmp_path / "dump.0")
    (tmp_path / "dump.zz").write_bytes(paths[1].read_bytes())  # a copy
    os.link(paths[0], tmp_path / "dump.y")
    model: dict[int, bytes | str] = {**pages, **dict.fromkeys(dump.excluded, "filtered")}
    for path in paths:
        with open_image(path) as source:
            check_split(source, dump, model)
            assert "3 files of a split dump" in source.container.detail


def test_a_part_that_was_not_finished(tmp_path: Path) -> None:
    dump = Makedumpfile(memory(200), cycle=64, cache=2000)
    paths = parts_of(tmp_path, dump, (50, 120), "abc")
    last = replace(dump, part=(120, 200))
    paths[2].write_bytes(as_file(last.writes()[:-1]))
    with open_image(paths[0]) as source:
        assert source.container.incomplete is not None
        assert source.container.incomplete.startswith("dump.c was not finished")
        served = {**dump.pages, **readable(last, paths[2].read_bytes())}
        check_all(source, served, 200, reads=10)


def test_only_so_many_files_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcorefs.image.kdump_split._FILES_LIMIT", 5)
    dump = Makedumpfile(memory(60))
    paths = parts_of(tmp_path, dump, (30,), "ab")
    for number in range(20):
        (tmp_path / f"dum.{number}").write_bytes(b"x")
    with open_image(paths[1]) as source:
        assert source.container.incomplete is None
    paths[0].rename(tmp_path / "other")
    with open_image(paths[1]) as source:
        assert source.container.incomplete == "of a split dump, the file with memory 0x0-0x1e000 is not beside the others"
