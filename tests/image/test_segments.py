"""SegmentSource: memory in pieces of files, against a model of one entry a byte; and what all Sources do the same way."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.image.bad_disk import BadDisk
from vmcorefs.errors import OldmemReadError, ReadErrorKind
from vmcorefs.image.file import ImageFile
from vmcorefs.image.segments import Nothing, Reader, SegmentSource, Zeros
from vmcorefs.image.source import Container

PAGE = 4096
MIB = 1 << 20
EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "80"))
Model = list["int | ReadErrorKind"]  # a byte, or why there is none


def source(file: ImageFile, *segments: tuple[int, int, Reader, int], size: int | None = None) -> SegmentSource:
    return SegmentSource(file, segments, Container(format="test"), size=size)


@pytest.fixture
def content() -> bytes:
    return random.Random(5).randbytes(4 * PAGE)


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> ImageFile:
    path = tmp_path / "image"
    path.write_bytes(content)
    return ImageFile(path)


# -- against the model -----------------------------------------------------------------------------------------------------

@st.composite
def layouts(draw: st.DrawFn) -> list[tuple[int, int, str, int]]:
    """(start, end, kind, offset) of up to ten segments in the first few hundred addresses; a file of 200 bytes is behind them."""
    rows, position = [], 0
    for _ in range(draw(st.integers(0, 10))):
        start = position + draw(st.integers(0, 3)) * draw(st.integers(0, 20))
        end = start + draw(st.integers(1, 60))
        rows.append((start, end, draw(st.sampled_from(["file", "file", "zeros", "filtered"])), draw(st.integers(0, 260))))
        position = end
    return rows


def modelled(rows: list[tuple[int, int, str, int]], data: bytes, size: int) -> Model:
    model: Model = ["missing"] * size
    for start, end, kind, offset in rows:
        for at in range(start, end):
            source_at = offset + at - start
            if kind == "file":
                model[at] = data[source_at] if source_at < len(data) else "missing"
            else:
                model[at] = 0 if kind == "zeros" else "filtered"
    return model


@settings(max_examples=EXAMPLES, deadline=None)
@given(rows=layouts(), reads=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 200), st.booleans()), max_size=12))
def test_every_read_equals_the_model(rows: list[tuple[int, int, str, int]], reads: list[tuple[int, int, bool]]) -> None:
    data = random.Random(1).randbytes(200)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        with ImageFile(path) as file:
            readers: dict[str, Reader] = {"file": file, "zeros": Zeros(), "filtered": Nothing(file.path, "filtered", "left out")}
            opened = source(file, *((start, end, readers[kind], offset) for start, end, kind, offset in rows))
            assert opened.size == max([0, *(end for _, end, _, _ in rows)])
            model = modelled(rows, data, 1200)
            for offset, size, salvage in reads:
                expected = model[offset:offset + size]
                bad = next((i for i, byte in enumerate(expected) if isinstance(byte, str)), None)
                buffer = bytearray(b"\xee" * size)
                if bad is None:
                    opened.preadinto(memoryview(buffer), offset, salvage=salvage)
                    assert list(buffer) == expected
                    continue
                with pytest.raises(OldmemReadError) as caught:
                    opened.preadinto(memoryview(buffer), offset, salvage=salvage)
                good = caught.value.good
                assert good == bad
                assert list(buffer[:good]) == expected[:good]
                assert caught.value.kind == expected[bad]
                assert opened.read_some(size, offset) == bytes(buffer[:good])


@settings(max_examples=EXAMPLES, deadline=None)
@given(rows=layouts(), start=st.integers(0, 600), size=st.integers(0, 600), overlap=st.integers(0, 70))
def test_scan_gives_only_bytes_of_the_model_and_leaves_no_run_out(rows: list[tuple[int, int, str, int]], start: int, size: int,
                                                                  overlap: int) -> None:
    """Below a page everything is one piece: the bytes up to the first bad one; so a run that begins behind one may be left out."""
    data = random.Random(2).randbytes(200)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        with ImageFile(path) as file:
            readers: dict[str, Reader] = {"file": file, "zeros": Zeros(), "filtered": Nothing(file.path, "filtered", "left out")}
            opened = source(file, *((a, e, readers[kind], offset) for a, e, kind, offset in rows))
            model = modelled(rows, data, 1300)
            last = start
            for offset, piece in opened.scan(start, start + size, overlap=overlap):
                assert last <= offset
                assert list(piece) == model[offset:offset + len(piece)]
                last = offset


def test_a_hole_that_is_zero_ends_where_memory_ends(file: ImageFile, content: bytes) -> None:
    opened = SegmentSource(file, [(PAGE, 2 * PAGE, file, 0)], Container(), size=4 * PAGE, hole=Zeros())
    assert opened.pread(4 * PAGE, 0) == bytes(PAGE) + content[:PAGE] + bytes(2 * PAGE)
    assert opened.read_some(10 * PAGE, 3 * PAGE) == bytes(PAGE)
    with pytest.raises(OldmemReadError) as caught:
        opened.pread(PAGE, 4 * PAGE)
    assert caught.value.kind == "missing"


# -- scanning at the size it is made for ----------------------------------------------------------------------------------

def places(opened: SegmentSource, needle: bytes, start: int = 0, end: int = 1 << 63) -> set[int]:
    hits = set()
    for offset, data in opened.scan(start, end, overlap=len(needle) - 1):
        at = data.find(needle)
        while at >= 0:
            hits.add(offset + at)
            at = data.find(needle, at + 1)
    return hits


def test_a_needle_across_two_segments_is_found(file: ImageFile, content: bytes) -> None:
    opened = source(file, (0, PAGE, file, 2 * PAGE), (PAGE, 2 * PAGE, file, 0))
    needle = content[3 * PAGE - 20:3 * PAGE] + content[:30]
    assert places(opened, needle) == {PAGE - 20}


def test_a_needle_across_pieces_beside_absent_memory_is_found(tmp_path: Path) -> None:
    data = bytearray(b"x" * 3 * MIB)
    needle = random.Random(4).randbytes(2 * PAGE)
    for at in (0, MIB - PAGE, 2 * MIB - 5, 3 * MIB - 2 * PAGE):
        data[at:at + len(needle)] = needle
    path = tmp_path / "image"
    path.write_bytes(data)
    with ImageFile(path) as file:
        opened = source(file, (5 * MIB, 8 * MIB, file, 0), (9 * MIB, 10 * MIB, file, 0))
        expected = {5 * MIB + at for at in (0, MIB - PAGE, 2 * MIB - 5, 3 * MIB - 2 * PAGE)} | {9 * MIB}
        assert places(opened, needle) == expected
        assert places(opened, needle, end=9 * MIB) == expected - {9 * MIB}


def test_zeros_absent_memory_and_holes_of_the_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    with path.open("wb") as handle:
        handle.truncate(1 << 40)
        handle.seek(7 << 30)
        handle.write(b"needle")
    with ImageFile(path) as file:
        opened = source(file, (0, 1 << 40, file, 0), (1 << 40, 1 << 45, Zeros(), 0), (1 << 45, 1 << 46, Nothing("f", "filtered", "x"), 0))
        disk = BadDisk(monkeypatch, path, [])
        assert places(opened, b"needle") == {7 << 30}
        assert disk.reads < 20


def test_what_is_scanned_begins_page_aligned_where_the_start_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 20 * PAGE)
    with ImageFile(path) as file:
        opened = source(file, (3 * PAGE + 100, 5 * PAGE, file, 0), (8 * PAGE, 12 * PAGE + 7, file, 0))
        pieces = list(opened.scan(0, 1 << 40))
        assert [(offset, len(data)) for offset, data in pieces] == [(4 * PAGE, PAGE), (8 * PAGE, 4 * PAGE + 7)]


def test_bad_pages_are_left_out_of_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 6 * PAGE)
    with ImageFile(path) as file:
        BadDisk(monkeypatch, path, [(2 * PAGE + 9, 2 * PAGE + 10)])
        opened = source(file, (MIB, MIB + 6 * PAGE, file, 0))
        assert [(offset, len(data)) for offset, data in opened.scan(0, 1 << 40)] == [
            (MIB, 2 * PAGE + 9), (MIB + 3 * PAGE, 3 * PAGE)]


@pytest.mark.parametrize("strict", [True, False])
def test_the_rest_of_a_piece_is_searched_where_a_file_gives_a_short_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                          strict: bool) -> None:
    """A kernel that reads the good bytes before a bad sector: what is behind the sector must not be forgotten."""
    path = tmp_path / "image"
    path.write_bytes(b"x" * 30 * PAGE + b"needle" + b"x" * 100 * PAGE)
    BadDisk(monkeypatch, path, [(9 * PAGE, 9 * PAGE + 512)], strict=strict)
    with ImageFile(path) as file:
        assert any(b"needle" in data for _, data in file.scan(0, 1 << 40))


# -- what a Source is ------------------------------------------------------------------------------------------------------

def test_an_error_names_file_and_file_offset(file: ImageFile) -> None:
    opened = source(file, (0x10000, 0x20000, file, PAGE))
    with pytest.raises(OldmemReadError) as caught:
        opened.pread(4 * PAGE, 0x10000)
    error = caught.value
    assert (error.file, error.offset, error.good, error.kind, error.address) == (file.path, 4 * PAGE, 3 * PAGE, "missing", None)
    assert "beyond the end of the file at 0x4000" in str(error)


def test_an_address_in_no_segment_is_missing_and_the_message_says_so(file: ImageFile) -> None:
    opened = source(file, (PAGE, 2 * PAGE, file, 0), (4 * PAGE, 5 * PAGE, file, 0))
    for address in (0, PAGE - 1, 2 * PAGE, 4 * PAGE - 1, 5 * PAGE, 1 << 63, (1 << 64) - PAGE):
        words = "no memory at this address" if address < 5 * PAGE else "beyond the end of its memory at 0x5000"
        with pytest.raises(OldmemReadError, match=words) as caught:
            opened.pread(1, address)
        assert (caught.value.kind, caught.value.offset, caught.value.good) == ("missing", address, 0)


def test_filtered_memory_says_that_it_was_not_saved(file: ImageFile) -> None:
    opened = source(file, (0, PAGE, Nothing(file.path, "filtered", "left out by makedumpfile"), 0))
    with pytest.raises(OldmemReadError) as caught:
        opened.pread(8, 16)
    assert str(caught.value) == f"{file.path}: not saved, at 0x10: left out by makedumpfile"


def test_nothing_is_read_for_nothing(file: ImageFile) -> None:
    opened = source(file)
    assert (opened.size, opened.pread(0, 5), opened.head(100), list(opened.scan(0, 1 << 40))) == (0, b"", b"", [])


@pytest.mark.parametrize("size", [1, 4095, 65535, 65536, 65537, 3 * MIB])
def test_zeros_fill_any_view(size: int) -> None:
    buffer = bytearray(b"x" * size)
    Zeros().preadinto(memoryview(buffer), 77)
    assert buffer == bytes(size)


def test_it_is_the_first_files_name_time_and_identity_and_closes_all_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    before = len(os.listdir("/proc/self/fd"))
    files = [ImageFile(path) for path in paths]
    opened = SegmentSource(files[0], [(i * 100, i * 100 + 100, f, 0) for i, f in enumerate(files)], Container(), files=files)
    assert (opened.path, opened.name, opened.identity, opened.mtime_ns, opened.fd) == (
        files[0].path, files[0].name, files[0].identity, files[0].mtime_ns, files[0].fd)
    assert opened.files == tuple(files)
    assert opened.pread(300, 0) == b"a" * 100 + b"b" * 100 + b"c" * 100
    with opened:
        pass
    opened.close()
    assert opened.fd == -1
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OldmemReadError) as caught:
        opened.pread(1, 0)
    assert caught.value.kind == "broken"


def test_segments_of_segments_know_the_files_at_the_bottom(file: ImageFile, content: bytes) -> None:
    below = source(file, (0, 4 * PAGE, file, 0))
    above = SegmentSource(below, [(PAGE, 3 * PAGE, below, PAGE)], Container())
    assert above.files == (file,)
    assert above.fd == file.fd
    assert above.pread(2 * PAGE, PAGE) == content[PAGE:3 * PAGE]
    above.close()
    assert file.fd == -1


def test_many_threads_read_at_once(file: ImageFile, content: bytes) -> None:
    opened = source(file, *((i * 64, i * 64 + 64, file, (255 - i) * 64) for i in range(256)))
    expected = b"".join(content[at:at + 64] for at in range(255 * 64, -1, -64))
    wrong: list[int] = []

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            offset = rng.randrange(len(expected))
            size = rng.randrange(len(expected) - offset)
            if opened.pread(size, offset) != expected[offset:offset + size]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("make", [
    lambda file: source(file, (0, 2 * PAGE, file, 0), (PAGE, 3 * PAGE, file, 0)),
    lambda file: source(file, (PAGE, PAGE, file, 0)),
])
def test_segments_that_overlap_or_are_empty_are_a_mistake_of_ours(file: ImageFile, make: Callable[[ImageFile], SegmentSource]) -> None:
    with pytest.raises(AssertionError):
        make(file)
