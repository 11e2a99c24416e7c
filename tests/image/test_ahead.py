"""Blocks decoded ahead by threads: the same bytes and errors, nothing for those who jump about, safe across a fork."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from vmcorefs.errors import OldmemReadError
from vmcorefs.image import ahead
from vmcorefs.image.ahead import Ahead
from vmcorefs.image.blocks import PIECE, Blocks, DamagedBlockError, Decoder
from vmcorefs.image.file import ImageFile
from vmcorefs.image.page_cache import PageCache

COUNT = 24


class Stored(Decoder):
    """A block that is kept as it is, bad ones excepted."""

    bad: frozenset[int] = frozenset()
    opened: list[int]

    def _decode(self, size: int) -> bytes:
        block = self.start // PIECE
        self.opened.append(block)
        if block in self.bad:
            self.broken("so it is")
        return self.compressed_bytes(size)

    def compressed_bytes(self, size: int) -> bytes:
        return self.file.pread(size, self.start)

    def _finish(self) -> None:
        """Nothing to check."""


@pytest.fixture
def data() -> bytes:
    return random.Random(5).randbytes(COUNT * PIECE)


@pytest.fixture
def image(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "image"
    path.write_bytes(data)
    return path


def blocks_of(file: ImageFile, bad: frozenset[int] = frozenset(), limit: int = 3) -> tuple[Blocks, list[int]]:
    opened: list[int] = []

    def open_block(number: int) -> Decoder:
        decoder = Stored(file, number * PIECE, (number + 1) * PIECE, PIECE)
        decoder.bad, decoder.opened = bad, opened
        return decoder
    blocks = Blocks(PageCache(), open_block, size_of=lambda number: PIECE if number < COUNT else 0)
    blocks._ahead = Ahead(limit)
    return blocks, opened


def read(blocks: Blocks, block: int, size: int = PIECE, offset: int = 0) -> bytes:
    buffer = bytearray(size)
    blocks.preadinto(memoryview(buffer), block, PIECE, offset)
    return bytes(buffer)


@pytest.fixture(autouse=True)
def several_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "threads", lambda: 3)


def taken(kept: Ahead, key: str) -> bytes | None:
    job = kept.take(key)
    return None if job is None else job.result()


def settled(opened: list[int], count: int) -> list[int]:
    """What was opened, as soon as there are *count*, and a moment later."""
    limit = time.monotonic() + 10
    while len(opened) < count and time.monotonic() < limit:
        time.sleep(0.005)
    time.sleep(0.05)
    return sorted(opened)


def test_one_after_the_other_the_next_ones_are_begun(image: Path, data: bytes) -> None:
    with ImageFile(image) as file:
        blocks, opened = blocks_of(file)
        assert read(blocks, 5) == data[5 * PIECE:6 * PIECE]
        assert settled(opened, 1) == [5]
        assert read(blocks, 6) == data[6 * PIECE:7 * PIECE]
        assert settled(opened, 3) == [5, 6, 7]
        assert read(blocks, 7) == data[7 * PIECE:8 * PIECE]
        assert settled(opened, 5) == [5, 6, 7, 8, 9]
        for number in range(8, COUNT):
            assert read(blocks, number) == data[number * PIECE:(number + 1) * PIECE]
        assert settled(opened, COUNT - 5) == list(range(5, COUNT)), "each one once, none behind the end"


def test_reads_that_jump_about_begin_nothing(image: Path, data: bytes) -> None:
    with ImageFile(image) as file:
        blocks, opened = blocks_of(file)
        for number in (3, 9, 1, 20, 5):
            assert read(blocks, number, 100, 7) == data[number * PIECE + 7:number * PIECE + 107]
        assert settled(opened, 5) == [1, 3, 5, 9, 20]


def test_requests_that_cross_blocks_as_a_reader_sends_them(image: Path, data: bytes) -> None:
    with ImageFile(image) as file:
        blocks, opened = blocks_of(file)
        for at in range(5000, (COUNT - 1) * PIECE, PIECE // 2):
            block, offset = divmod(at, PIECE)
            first = read(blocks, block, min(PIECE // 2, PIECE - offset), offset)
            rest = read(blocks, block + 1, PIECE // 2 - len(first)) if len(first) < PIECE // 2 else b""
            assert first + rest == data[at:at + PIECE // 2]
        assert sorted(opened) == sorted(set(opened)), "none was decoded twice"


def test_a_bad_block_is_an_error_for_whoever_reads_it_and_decoded_once(image: Path, data: bytes) -> None:
    with ImageFile(image) as file:
        blocks, opened = blocks_of(file, frozenset({7}))
        for number in (4, 5, 6):
            assert read(blocks, number) == data[number * PIECE:(number + 1) * PIECE]
        settled(opened, 5)
        for size, offset in ((PIECE, 0), (10, 0), (4096, 8192)):
            with pytest.raises(OldmemReadError, match="damaged compressed data: so it is") as caught:
                read(blocks, 7, size, offset)
            assert (caught.value.good, caught.value.offset) == (0, 7 * PIECE)
        assert read(blocks, 8) == data[8 * PIECE:9 * PIECE]
        assert opened.count(7) == 1


def test_bytes_that_a_disk_did_not_give_are_asked_for_again(image: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with ImageFile(image) as file:
        blocks, _ = blocks_of(file)
        monkeypatch.setattr(Stored, "compressed_bytes", lambda self, size: file.pread(size, 1 << 40))
        with pytest.raises(OldmemReadError) as caught:
            read(blocks, 3)
        assert not isinstance(caught.value, DamagedBlockError)
        monkeypatch.undo()
        assert read(blocks, 3) == data[3 * PIECE:4 * PIECE]


def test_work_that_fails_otherwise_is_done_again_by_who_asks() -> None:
    kept = Ahead(2)
    tried: list[int] = []

    def work() -> bytes:
        tried.append(1)
        raise MemoryError

    kept.begin("a", work)
    assert taken(kept, "a") is None
    assert tried == [1]
    kept.begin("b", lambda: b"still there")
    assert taken(kept, "b") == b"still there"


def test_threads_outlive_whatever_goes_wrong_in_them(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_pool", ahead._Pool())

    def work() -> bytes:
        raise ZeroDivisionError

    kept = Ahead(2)
    for number in range(8):
        kept.begin(str(number), work)
        assert taken(kept, str(number)) is None
    kept.begin("good", lambda: b"good")
    assert taken(kept, "good") == b"good"
    assert capfd.readouterr().err == ""


def test_not_more_than_the_limit_is_kept() -> None:
    kept = Ahead(2)
    for key in "abcd":
        kept.begin(key, key.encode)
    assert [taken(kept, key) for key in "abcd"] == [None, None, b"c", b"d"]
    none = Ahead(0)
    none.begin("a", lambda: b"")
    assert none.take("a") is None


def test_one_processor_alone_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert ahead.threads() == 0
    assert Ahead().limit == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert ahead.threads() == 2


def test_where_no_thread_can_be_started_it_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ahead, "_pool", ahead._Pool())
    monkeypatch.setattr(threading.Thread, "start", refused)
    kept = Ahead(2)
    kept.begin("a", lambda: b"")
    assert kept.take("a") is None


def test_the_child_of_a_fork_has_its_own_threads(image: Path, data: bytes) -> None:
    with ImageFile(image) as file:
        blocks, _ = blocks_of(file)
        for number in range(3):
            read(blocks, number)
        child = os.fork()
        if not child:
            right = all(read(blocks, number) == data[number * PIECE:(number + 1) * PIECE] for number in range(3, 12))
            os._exit(0 if right else 1)
        limit = time.monotonic() + 20
        done = (0, 0)
        while done[0] == 0 and time.monotonic() < limit:
            done = os.waitpid(child, os.WNOHANG)
            time.sleep(0.01)
        if done[0] == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert done == (child, 0)
        assert read(blocks, 3) == data[3 * PIECE:4 * PIECE]


def test_several_readers_at_once(image: Path, data: bytes) -> None:
    wrong: list[int] = []
    with ImageFile(image) as file:
        blocks, _ = blocks_of(file, frozenset({11}))

        def reader(seed: int) -> None:
            rng = random.Random(seed)
            number = 0
            for _ in range(80):
                number = rng.randrange(COUNT) if rng.random() < 0.2 else (number + 1) % COUNT
                offset = rng.randrange(PIECE - 100)
                try:
                    if read(blocks, number, 100, offset) != data[number * PIECE + offset:number * PIECE + offset + 100] or number == 11:
                        wrong.append(number)
                except OldmemReadError:
                    if number != 11:
                        wrong.append(number)
        readers = [threading.Thread(target=reader, args=(seed,)) for seed in range(4)]
        for thread in readers:
            thread.start()
        for thread in readers:
            thread.join()
    assert wrong == []
