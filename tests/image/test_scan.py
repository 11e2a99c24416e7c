"""Searching an image: nothing that is there and can be read is missed, holes and bad pages cost nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.image.bad_disk import BadDisk
from vmcorefs.image.file import ImageFile

PAGE = 4096
MIB = 1 << 20
STEP = MIB  # pieces are of some MiB; patterns are put across their borders
NEEDLE = b"the needle that is searched for."


def found(path: Path, *, needle: bytes = NEEDLE, start: int = 0, end: int = 1 << 63, overlap: int | None = None) -> set[int]:
    hits = set()
    with ImageFile(path) as file:
        for offset, data in file.scan(start, end, overlap=len(needle) - 1 if overlap is None else overlap):
            at = data.find(needle)
            while at >= 0:
                hits.add(offset + at)
                at = data.find(needle, at + 1)
    return hits


def sparse(path: Path, size: int, places: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in places.items():
            file.seek(offset)
            file.write(data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.img"


@pytest.mark.parametrize("at", [
    0, 1, PAGE - 5, STEP - 31, STEP - 1, STEP, 2 * STEP - 16, 4 * STEP - 7, 8 * STEP - 31, 9 * MIB - 32])
def test_a_needle_is_found_wherever_it_lies(path: Path, at: int) -> None:
    path.write_bytes(b"x" * 9 * MIB)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(NEEDLE)
    assert found(path) == {at}


def test_a_needle_across_the_border_of_a_hole_is_found(path: Path) -> None:
    needle = NEEDLE + bytes(100)
    at = 3 * PAGE - len(NEEDLE)
    sparse(path, MIB, {2 * PAGE: b"x" * (PAGE - len(NEEDLE)) + NEEDLE})
    assert found(path, needle=needle) == {at}


def test_holes_are_left_out(path: Path) -> None:
    sparse(path, 1 << 40, {5 << 30: NEEDLE, (1 << 40) - 100: NEEDLE})
    with ImageFile(path) as file:
        pieces = [(offset, len(data)) for offset, data in file.scan(0, 1 << 63)]
    assert sum(size for _, size in pieces) < MIB
    assert found(path) == {5 << 30, (1 << 40) - 100}


def test_a_file_that_is_all_hole_gives_nothing(path: Path) -> None:
    sparse(path, 1 << 40, {})
    assert found(path) == set()


def test_the_pieces_cover_the_asked_for_part_and_no_more(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(10 * PAGE))
    with ImageFile(path) as file:
        pieces = list(file.scan(3 * PAGE, 7 * PAGE, overlap=1000))
    assert pieces == [(3 * PAGE, path.read_bytes()[3 * PAGE:7 * PAGE])]


def test_a_needle_that_reaches_over_the_end_of_the_part_is_not_found(path: Path) -> None:
    sparse(path, MIB, {8 * PAGE - 3: NEEDLE})
    assert found(path, end=8 * PAGE) == set()


def test_without_seek_hole_everything_is_searched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(path, 9 * MIB, {STEP - 5: NEEDLE})

    def refuse(descriptor: int, offset: int, whence: int) -> int:
        raise OSError(22, os.strerror(22))

    with ImageFile(path) as file:
        monkeypatch.setattr("vmcorefs.image.file.os.lseek", refuse)
        assert any(NEEDLE in data for _, data in file.scan(0, 1 << 63, overlap=len(NEEDLE) - 1))


def test_bad_pages_are_left_out_and_all_others_searched(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [0, 5 * PAGE - 32, 6 * PAGE, 20 * PAGE - 7, 64 * PAGE - 32]
    path.write_bytes(b"x" * 64 * PAGE)
    with path.open("r+b") as file:
        for at in places:
            file.seek(at)
            file.write(NEEDLE)
    BadDisk(monkeypatch, path, [(5 * PAGE, 5 * PAGE + 512), (40 * PAGE + 512, 40 * PAGE + 1024)])
    assert found(path) == set(places)


def test_a_needle_in_a_bad_page_is_not_found_and_does_no_harm(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(path, MIB, {5 * PAGE: NEEDLE, 9 * PAGE: NEEDLE})
    BadDisk(monkeypatch, path, [(5 * PAGE, 6 * PAGE)])
    assert found(path) == {9 * PAGE}


def test_a_needle_of_two_pages_right_before_a_bad_page_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lowcore has two pages; what is behind it does not matter."""
    needle = random.Random(3).randbytes(2 * PAGE)
    sparse(path, MIB, {8 * PAGE: needle})
    BadDisk(monkeypatch, path, [(10 * PAGE, 11 * PAGE)])
    assert found(path, needle=needle) == {8 * PAGE}


def test_an_image_that_is_bad_everywhere_gives_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(path, 16 * PAGE, {PAGE: NEEDLE})
    BadDisk(monkeypatch, path, [(0, MIB)])
    assert found(path) == set()


def test_random_images_against_plain_find(path: Path) -> None:
    rng = random.Random(11)
    for _ in range(30):
        size = rng.randrange(1, 40) * PAGE + rng.choice((0, 0, 17))
        places = {rng.randrange(size): NEEDLE for _ in range(rng.randrange(4))}
        path.unlink(missing_ok=True)
        sparse(path, size, places)
        data = path.read_bytes()
        expected = {i for i in range(len(data)) if data.startswith(NEEDLE, i)}
        assert found(path) == expected
