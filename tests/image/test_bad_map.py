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


def test_a_hole_that_ddrescue_left_is_broken_and_no_known_zeros(tmp_path: Path) -> None:
    path = tmp_path / "holes"
    with open(path, "wb") as file:
        file.write(b"\x11" * 0x2000)
        file.truncate(0x100000)
        file.seek(0xf0000)
        file.write(b"\x22" * 0x1000)
    (tmp_path / "map").write_text("0 +\n0 0x40000 +\n0x40000 0x10000 -\n0x50000 0xb0000 +\n")
    with open_image(path, bad_map=str(tmp_path / "map")) as source:
        assert source.next_data(0x1000, 0x100000) == (0x1000, 0x2000)
        assert source.next_data(0x3000, 0x100000) == (0x40000, 0x50000)
        assert source.next_data(0x48000, 0x49000) == (0x48000, 0x49000)
        assert source.next_data(0x50000, 0x100000)[0] == 0xf0000
        assert source.next_data(0x20000, 0x40000) == (0x40000, 0x40000)
