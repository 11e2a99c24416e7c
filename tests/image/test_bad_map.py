"""--bad-map: what ddrescue could not read is not served, whatever the file has in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.bad_map import read_bad_map

HEAD = "# Mapfile. Created by GNU ddrescue version 1.27\n# current_pos  current_status  current_pass\n0x00002000     ?               1\n"
SIZE = 0x40000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def a_map(tmp_path: Path, *lines: str, head: str = HEAD) -> Path:
    path = tmp_path / "map"
    path.write_text(head + "".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize("status", ["?", "*", "/", "-"])
def test_every_status_but_finished_is_bad(tmp_path: Path, status: str) -> None:
    path = a_map(tmp_path, "0x0 0x1000 +", f"0x1000 0x200 {status}", "0x1200 0x800 +", "6656 512 -")
    assert read_bad_map(str(path)) == ((0x1000, 0x1200), (0x1A00, 0x1C00))


def test_neighbours_become_one(tmp_path: Path) -> None:
    assert read_bad_map(str(a_map(tmp_path, "0x0 0x200 -", "0x200 0x200 *"))) == ((0, 0x400),)


def test_bytes_up_to_the_bad_ones_and_behind_them(tmp_path: Path, image: Path) -> None:
    path = a_map(tmp_path, "0x0 0x10200 +", "0x10200 0x200 -", "0x10400 0x2fc00 +")
    data = image.read_bytes()
    with open_image(image, bad_map=str(path)) as source:
        buffer = bytearray(0x1000)
        with pytest.raises(OldmemReadError) as caught:
            source.preadinto(memoryview(buffer), 0x10000)
        assert (caught.value.good, caught.value.offset, caught.value.kind) == (0x200, 0x10200, "broken")
        assert buffer[:0x200] == data[0x10000:0x10200]
        assert str(path) in caught.value.cause
        for offset in (0x10200, 0x103FF):
            with pytest.raises(OldmemReadError) as caught:
                source.pread(1, offset)
            assert caught.value.good == 0
        assert source.pread(0x200, 0x10000) == data[0x10000:0x10200]
        assert source.pread(0x1000, 0x10400) == data[0x10400:0x11400]
        found = b"".join(piece for _, piece in source.scan(0, SIZE))
        assert found == data[:0x10200] + data[0x11000:]  # the rest of the page with the bad bytes is left out


def test_a_map_without_bad_areas_costs_nothing(tmp_path: Path, image: Path) -> None:
    with open_image(image, bad_map=str(a_map(tmp_path, "0x0 0x40000 +"))) as source:
        assert type(source).__name__ == "ImageFile"


@pytest.mark.parametrize(("text", "words"), [
    ("", "0 bytes"), ("# nothing\n", "it has no status line"), ("hello\n", "line 1 is no status line"),
    (HEAD + "0x0 0x1000 x\n", "line 4 is no block"), (HEAD + "0x0 0x1000\n", "line 4 is no block"),
    (HEAD + "0x0 0x0 +\n", "line 4: the block at 0x0 of 0x0 bytes is empty"),
    (HEAD + "0x1000 0x1000 +\n0x0 0x1000 +\n", "line 5: the block at 0x0"),
    (HEAD + "0xffffffffffffffff 0x1000 +\n", "too large"), (HEAD + "0x0 0x1000 + more\n", "line 4 is no block"),
])
def test_what_is_no_map(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "map"
    path.write_text(text)
    with pytest.raises(ImageError) as caught:
        read_bad_map(str(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_one_map_for_several_parts_is_refused(tmp_path: Path, image: Path) -> None:
    path = a_map(tmp_path, "0x0 0x200 -")
    with pytest.raises(ImageError, match="--bad-map is the map of one file"):
        open_image([image, image], bad_map=str(path))
