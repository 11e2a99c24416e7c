"""kdump-compressed dumps: what is served of good ones."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders.containers import elf
from tests.builders.containers.kdump import FLAGS, Kdump
from tests.image.bad_disk import BadDisk
from tests.image.model import PAGE, check_all, check_read, error_at, opened, page_of
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import kdump_codecs, open_image
from vmcorefs.image.source import Source
from vmcorefs.ranges import Range

EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
COMPRESSIONS = sorted(FLAGS)
NOTES = elf.PRPSINFO + elf.cpu(0) + elf.cpu(1)
TEXT = b"OSRELEASE=6.1.0-test\nPAGESIZE=4096\n"


def model(dump: Kdump) -> dict[int, bytes | str]:
    """What each page must give."""
    first = dump.pages[min(dump.pages)] if dump.pages else b"any"
    left_out: bytes | str = bytes(PAGE) if dump.level == 1 else "filtered"
    if dump.one_bitmap or not dump.pages:
        left_out = "missing"
    elif dump.compression == "plain" and not any(first):  # as makedumpfile has it, where zero pages are stored
        left_out = "filtered"
    return dict.fromkeys(dump.absent, left_out) | dict(dump.pages)


def some_dump(**changes: Any) -> Kdump:
    """400 pages: zero pages, stored and left out, a hole, pages that cannot be compressed."""
    pages = {n: page_of(n) for n in range(400) if n % 7 and not 150 <= n < 200}
    pages |= {n: bytes(PAGE) for n in range(40, 60)} | {n: random.Random(n).randbytes(PAGE) for n in range(70, 80)}
    absent = frozenset(n for n in range(400) if n not in pages and not 150 <= n < 180)
    return replace(Kdump(pages, absent, notes=NOTES, vmcoreinfo=TEXT), **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump"


@pytest.mark.parametrize("version", range(1, 7))
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_page_of_every_compression_and_version(path: Path, compression: str, version: int) -> None:
    dump = some_dump(compression=compression, version=version)
    with opened(path, dump.build()) as source:
        check_all(source, model(dump), 402)


@pytest.mark.parametrize("changes", [{"one_bitmap": True}, {"share_zeros": True}, {"mixed": True, "compression": "lzo"}, {"level": 31},
                                     {"level": 0}, {"level": 3}, {"max_pfn": 70_000}, {"max_pfn": 8 * PAGE}, {"max_pfn": 8 * PAGE + 1}],
                         ids=str)
def test_other_shapes(path: Path, changes: dict[str, Any]) -> None:
    dump = some_dump(**changes)
    with opened(path, dump.build()) as source:
        check_all(source, model(dump), 402)


def test_a_dump_of_more_than_one_block_of_bitmap(path: Path) -> None:
    far = {n: page_of(n) for n in (0, 1, 32766, 32767, 32768, 32769, 65535, 65536, 99_998, 99_999)}
    dump = Kdump(far, frozenset({2, 32770}), level=31)
    with opened(path, dump.build()) as source:
        assert source.size == 100_000 * PAGE
        for number in far:
            check_read(source, model(dump), number * PAGE, PAGE)
            check_read(source, model(dump), number * PAGE + 9, 3 * PAGE)
        assert error_at(source, 2 * PAGE).kind == "filtered"
        assert error_at(source, 50_000 * PAGE).kind == "missing"
        assert [at for at, _ in source.scan(0, source.size)] == [n * PAGE for n in (0, 32766, 65535, 99_998)]


def test_what_the_container_says(path: Path) -> None:
    with opened(path, some_dump().build()) as source:
        container = source.container
        assert (container.format, container.writer) == ("kdump-compressed", "makedumpfile")
        assert container.detail == "kdump-compressed, version 6, zlib, dump level 1"
        assert container.memory == (Range(0, 150 * PAGE), Range(180 * PAGE, 400 * PAGE))
        assert [[note.type for note in cpu] for cpu in container.cpu_notes] == [[1, 2, 0x305, 0x304]] * 2
        assert container.cpu_notes[1][2].desc == (1 << 13).to_bytes(4, "big")
        assert container.vmcoreinfo == TEXT
        assert (container.dump_level, container.incomplete, container.problems) == (1, None, ())
        assert (container.time, container.release, container.machine) == (1_700_000_000.0, "6.1.0-test", "s390x")
        assert source.size == 400 * PAGE
        assert [file.path for file in source.files] == [str(path)]


def test_vmcoreinfo_may_be_a_note(path: Path) -> None:
    with opened(path, some_dump(vmcoreinfo=b"", notes=NOTES + elf.note(b"VMCOREINFO", 0, TEXT)).build()) as source:
        assert source.container.vmcoreinfo == TEXT
        assert len(source.container.cpu_notes) == 2


def test_qemu_names_the_machine_only(path: Path) -> None:
    with opened(path, some_dump(machine=b"S390X", release=b"", vmcoreinfo=b"", fields={"seconds": 0}).build()) as source:
        container = source.container
        assert (container.writer, container.release, container.vmcoreinfo, container.time) == ("QEMU", None, None, None)


def test_a_page_left_out_is_zero_only_where_zero_pages_alone_were_left_out(path: Path) -> None:
    for level in range(32):
        with opened(path, some_dump(level=level).build()) as source:
            if level == 1:
                assert source.pread(PAGE, 7 * PAGE) == bytes(PAGE)
            else:
                error = error_at(source, 7 * PAGE)
                assert (error.kind, error.offset) == ("filtered", 7 * PAGE)
                assert f"dump level {level}" in str(error)


def test_reads_beyond_the_end_are_missing(path: Path) -> None:
    with opened(path, some_dump().build()) as source:
        for address in (400 * PAGE, 1 << 46, 1 << 63, (1 << 64) - 1, -1):
            assert error_at(source, address).kind == "missing"
        check_read(source, model(some_dump()), 399 * PAGE + 100, 2 * PAGE)
        assert source.pread(0, 1 << 63) == b""


def test_after_close_reads_are_read_errors(path: Path) -> None:
    source = opened(path, some_dump().build())
    source.close()
    source.close()
    assert source.fd == -1
    assert error_at(source, PAGE).kind == "broken"


@settings(max_examples=EXAMPLES, deadline=None)
@given(end=st.sampled_from((1, 2, 3, 9, 40, 300)), seed=st.integers(0, 1000), compression=st.sampled_from(COMPRESSIONS),
       level=st.sampled_from((0, 1, 31)), version=st.integers(1, 6), one=st.booleans(), share=st.booleans(), mixed=st.booleans())
def test_any_dump_equals_the_model(end: int, seed: int, compression: str, level: int, version: int, one: bool, share: bool,
                                   mixed: bool) -> None:
    rng = random.Random(seed)
    kinds = rng.choices("pzah", (rng.random() * 5, rng.random(), rng.random(), rng.random()), k=end)
    pages = {n: page_of(n) if kind == "p" else bytes(PAGE) for n, kind in enumerate(kinds) if kind in "pz"}
    absent = frozenset(n for n, kind in enumerate(kinds) if kind == "a")
    dump = Kdump(pages, absent, compression, level, version, max_pfn=end, one_bitmap=one, share_zeros=share, mixed=mixed)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "dump", dump.build()) as source:
        for _ in range(30):
            check_read(source, model(dump), rng.randrange(end * PAGE), rng.randrange(end * PAGE + 10))


# -- how it is read ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each page was decompressed."""
    counter: Counter[bytes] = Counter()
    real = kdump_codecs.decoder

    def counting(flags: int, file: str) -> Callable[[memoryview], bytes]:
        decode = real(flags, file)

        def decoded(data: memoryview) -> bytes:
            counter[bytes(data)] += 1
            return decode(data)
        return decoded

    monkeypatch.setattr("vmcorefs.image.kdump_source.decoder", counting)
    return counter


@pytest.mark.parametrize("size", [512, 1000, PAGE, 5000, 64 * 1024 + 1, 100_000])
def test_a_sequential_reader_decompresses_no_page_twice(path: Path, counted: Counter[bytes], size: int) -> None:
    dump = Kdump({n: page_of(n) for n in range(300)})
    with opened(path, dump.build()) as source:
        at = 0
        while at < source.size:
            at += len(source.read_some(min(size, source.size - at), at))
    assert len(counted) == 300
    assert set(counted.values()) == {1}


def test_a_copy_does_not_wash_out_what_others_read(path: Path, counted: Counter[bytes]) -> None:
    dump = Kdump({n: page_of(n) for n in range(3000)})
    with opened(path, dump.build()) as source:
        source.pread(8, 5 * PAGE)
        for at in range(0, source.size, 100 * PAGE):
            source.pread(100 * PAGE, at)
        counted.clear()
        source.pread(8, 5 * PAGE + 100)
    assert not counted


def test_the_cache_is_bounded(path: Path) -> None:
    dump = Kdump({n: page_of(n) for n in range(3000)})
    with opened(path, dump.build()) as source:
        for number in range(3000):
            source.pread(8, number * PAGE)
        assert 7 << 20 < source._cache.size <= 8 << 20  # type: ignore[attr-defined]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_threads_do_not_disturb_each_other(path: Path, compression: str) -> None:
    dump = some_dump(compression=compression)
    pages = model(dump)
    failures: list[BaseException] = []

    def read(source: Source, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(150):
                check_read(source, pages, rng.randrange(400 * PAGE), rng.randrange(1, 40 * PAGE))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with opened(path, dump.build()) as source:
        threads = [threading.Thread(target=read, args=(source, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_fork_while_others_read_is_safe(path: Path) -> None:
    dump = some_dump()
    pages = model(dump)
    end = threading.Event()

    def read(source: Source) -> None:
        rng = random.Random(3)
        while not end.is_set():
            source.read_some(PAGE, rng.randrange(400) * PAGE)

    with opened(path, dump.build()) as source:
        threads = [threading.Thread(target=read, args=(source,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        check_read(source, pages, 0, 60 * PAGE)
                        check_read(source, pages, 5 * PAGE, 10)
                        status = 0
                    finally:
                        os._exit(status)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            end.set()
            for thread in threads:
                thread.join()


# -- bad disks ---------------------------------------------------------------------------------------------------------------


def test_good_pages_before_a_bad_sector_are_counted_exactly(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Kdump({n: page_of(n) for n in range(100)})
    with opened(path, dump.build()) as source:
        data = Path(path).read_bytes()
        bad = int.from_bytes(data[dump.descriptor(50):dump.descriptor(50) + 8], "big")
        disk = BadDisk(monkeypatch, path, [(bad + 3, bad + 4)])
        pages: dict[int, bytes | str] = dict(dump.pages) | {50: "broken"}
        check_read(source, pages, 0, 100 * PAGE)
        check_read(source, pages, 49 * PAGE + 9, PAGE)
        check_read(source, pages, 51 * PAGE, 49 * PAGE)
        error = error_at(source, 50 * PAGE)
        assert error.offset == bad + 3
        assert os.strerror(5) in error.cause
        disk.reads = 0
        with pytest.raises(OldmemReadError):
            source.preadinto(memoryview(bytearray(90 * PAGE)), 0, salvage=False)
        assert disk.reads < 60


def test_bad_descriptors_and_bitmaps_are_read_errors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Kdump({n: page_of(n) for n in range(100)})
    with opened(path, dump.build()) as source:
        where = dump.descriptor(50)
        disk = BadDisk(monkeypatch, path, [(where, where + 1)])
        pages: dict[int, bytes | str] = dict(dump.pages) | {50: "broken"}
        check_read(source, pages, 0, 100 * PAGE)
    with open_image(path) as source:
        disk.bad = [(dump.bitmap + PAGE, dump.bitmap + PAGE + 1)]  # tells of the first eight pages
        assert error_at(source, 3 * PAGE).kind == "broken"
        assert list(source.scan(0, source.size)) == []


# -- split -------------------------------------------------------------------------------------------------------------------

SPLIT = some_dump()
BORDERS = (130, 131, 131, 300)  # one part of one page, one of none


def write_parts(folder: Path, parts: list[bytes], name: str = "dump.{}") -> list[Path]:
    paths = [folder / name.format(number) for number in range(1, len(parts) + 1)]
    for path, data in zip(paths, parts, strict=True):
        path.write_bytes(data)
    return paths


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_the_files_of_a_split_dump_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    paths = write_parts(tmp_path, SPLIT.split(*BORDERS))
    with open_image([paths[i] for i in order]) as source:
        check_all(source, model(SPLIT), 402)
        assert source.path == str(paths[order[0]])
        assert {file.path for file in source.files} == set(map(str, paths))
        assert "5 files of a split dump" in source.container.detail
        assert (source.container.incomplete, source.container.problems) == (None, ())
        assert len(source.container.cpu_notes) == 2


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("version", [5, 6])
def test_one_file_of_a_split_dump_finds_the_others_by_their_numbers(tmp_path: Path, which: int, version: int) -> None:
    dump = replace(SPLIT, version=version)
    paths = write_parts(tmp_path, dump.split(*BORDERS))
    (tmp_path / "dump.6").write_bytes(b"KDUMP   and no more")
    (tmp_path / "dump.7").write_bytes(replace(dump, release=b"6.12.0", part=(0, 400)).build())
    (tmp_path / "dump.8").write_bytes(dump.build())
    with open_image(paths[which]) as source:
        check_all(source, model(dump), 402, reads=5)
        assert {file.path for file in source.files} == set(map(str, paths))
        assert source.container.incomplete is None


@pytest.mark.parametrize("spare", [1, 3])
def test_bitmaps_with_more_room_than_pages_need(tmp_path: Path, spare: int) -> None:
    """The second one begins at half of bitmap_blocks, as libkdumpfile and crash read it."""
    (tmp_path / "dump").write_bytes(replace(SPLIT, spare=spare).build())
    with open_image(tmp_path / "dump") as source:
        check_all(source, model(SPLIT), 402)
        assert (source.container.incomplete, source.container.problems) == (None, ())


@pytest.mark.parametrize("given_", [0, 2])
def test_a_file_that_no_page_fell_to_ends_with_the_bits_of_its_second_bitmap(tmp_path: Path, given_: int) -> None:
    """As makedumpfile leaves it; a bit less is a cut."""
    parts = SPLIT.split(*BORDERS)
    bits = SPLIT.bitmap + SPLIT.bitmap_size + -(-SPLIT.end // 8)
    paths = write_parts(tmp_path, [*parts[:2], parts[2][:bits], *parts[3:]])
    with open_image(paths[given_]) as source:
        check_all(source, model(SPLIT), 402)
        assert "5 files of a split dump" in source.container.detail
        assert (source.container.incomplete, source.container.problems) == (None, ())
    paths[2].write_bytes(parts[2][:bits - 1])
    with pytest.raises(ImageError, match="within its bitmaps"):
        open_image(paths[2])


def test_what_is_in_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, SPLIT.split(100, 300))
    paths[1].unlink()
    pages: dict[int, bytes | str] = model(SPLIT)
    pages |= dict.fromkeys(range(100, 300), "missing")
    for given_ in (paths[0], paths[2], [paths[2], paths[0]]):
        with open_image(given_) as source:
            check_all(source, pages, 402, reads=20)
            assert source.container.incomplete is not None
            assert "0x64000-0x12c000" in source.container.incomplete
            assert "was not given" in error_at(source, 100 * PAGE).cause
            assert error_at(source, 160 * PAGE).cause == "the dump has no memory at this address"


def test_closing_closes_all_files(tmp_path: Path) -> None:
    paths = write_parts(tmp_path, SPLIT.split(*BORDERS))
    before = len(os.listdir("/proc/self/fd"))
    source = open_image(paths[0])
    assert len(os.listdir("/proc/self/fd")) == before + 5
    source.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_split_dump_of_many_pages(tmp_path: Path) -> None:
    """So that a part begins within one block of bitmap and goes on in others."""
    pages = {n: page_of(n % 50) for n in range(0, 120_000, 97)} | {n: page_of(n) for n in range(40_000, 40_050)}
    dump = Kdump(pages, level=31, compression="plain")
    paths = write_parts(tmp_path, dump.split(40_020, 99_999))
    with open_image(paths[1]) as source:
        for number in pages:
            assert source.pread(PAGE, number * PAGE) == pages[number]
        assert error_at(source, 40_051 * PAGE).kind == "missing"
