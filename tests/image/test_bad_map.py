"""--bad-map: what ddrescue could not read is not served, whatever the file has in its place."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.containers import elf
from tests.image.samples import sample
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.bad_map import read_bad_map, refuse_several
from vmcorefs.image.file import ImageFile

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


def areas(path: Path) -> list[tuple[int, int]]:
    found = read_bad_map(str(path))
    return list(zip(found.starts, found.ends, strict=True))


@pytest.mark.parametrize("status", ["?", "*", "/", "-"])
def test_every_status_but_finished_is_bad(tmp_path: Path, status: str) -> None:
    path = a_map(tmp_path, "0x0 0x1000 +", f"0x1000 0x200 {status}", "0x1200 0x800 +", "6656 512 -")
    assert areas(path) == [(0x1000, 0x1200), (0x1A00, 0x1C00)]


def test_neighbours_become_one(tmp_path: Path) -> None:
    assert areas(a_map(tmp_path, "0x0 0x200 -", "0x200 0x200 *")) == [(0, 0x400)]


def test_numbers_are_those_of_c(tmp_path: Path) -> None:
    """ddrescue reads them by %lli."""
    assert areas(a_map(tmp_path, "00 010000 +", "010000 4096 -", "0X2000 017 +")) == [(4096, 8192)]


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
    (HEAD + "0 08 +\n", "line 4 is no block"), (HEAD + "0 -1 +\n", "line 4 is no block"), ("08 + 1\n0 1 +\n", "line 1 is no status line"),
    (HEAD, "no block is in this ddrescue map"), (HEAD + "# " + "x" * 10_000 + "\n0 1 y\n", "line 5 is no block"),
    (HEAD + "0 " + "1" * 3_000_000, "line 4 is no block"), ("\0" * 5000, "line 1 is no status line"),
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


@pytest.mark.parametrize(("split", "words"), [(True, "2 files of makedumpfile --split; give the one that the map is of alone"),
                                              (False, "2 parts; put them together first (cat)")])
def test_what_helps_depends_on_what_the_files_are(image: Path, split: bool, words: str) -> None:
    with ImageFile(image) as file, pytest.raises(ImageError) as caught:
        refuse_several([file, file], split=split)
    assert words in str(caught.value)


def test_the_map_of_one_file_of_a_split_dump(tmp_path: Path) -> None:
    """The files beside it are found all the same."""
    path = sample("synth.kdump-split1")
    size = path.stat().st_size
    bad = a_map(tmp_path, f"0 {size - 5000} +", f"{size - 5000} 5000 -")
    with open_image(path) as whole, open_image(path, bad_map=str(bad)) as source:
        assert (len(source.files), source.container.incomplete, source.size) == (3, None, whole.size)
        lost = 0
        for at in range(0, whole.size, 4096):
            good, got = whole.read_some(4096, at), source.read_some(4096, at)
            assert got in {good, b""}
            lost += len(got) < len(good)
        assert 0 < lost < 20


# -- a map of something else -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lines", "unnamed", "first", "bad"), [
    (["0x0 0x1000 +"], 0x3F000, 0x1000, [(0x1000, SIZE)]),
    (["0x2000 0x3e000 +"], 0x2000, 0, [(0, 0x2000)]),
    (["0x0 0x1000 +", "0x3000 0x1000 -", "0x8000 0x38000 +"], 0x6000, 0x1000, [(0x1000, 0x8000)]),
    (["0x0 0x200 -"], 0x3FE00, 0x200, [(0, SIZE)])])
def test_what_the_map_does_not_name_was_never_read(tmp_path: Path, image: Path, lines: list[str], unnamed: int, first: int,
                                                   bad: list[tuple[int, int]]) -> None:
    with open_image(image, bad_map=str(a_map(tmp_path, *lines))) as source:
        (problem,) = source.container.problems
        assert f"does not name {unnamed:#x} bytes of the image (from {first:#x} on)" in problem
        for start, end in bad:
            for at in (start, end - 1):
                with pytest.raises(OldmemReadError) as caught:
                    source.pread(1, at)
                assert caught.value.kind == "broken"
        assert [(a.kind, a.size, a.first) for a in source.absences()] == [("broken", sum(e - s for s, e in bad), bad[0][0])]


def test_a_map_that_is_longer_than_the_image(tmp_path: Path, image: Path) -> None:
    with open_image(image, bad_map=str(a_map(tmp_path, "0x0 0x50000 +"))) as source:
        assert "covers 0x50000 bytes, the image has 0x40000: is it this image's map?" in source.container.problems[0]
        assert source.size == SIZE
    with open_image(image, bad_map=str(a_map(tmp_path, "0x0 0x40000 +", "0x40000 0x1000 -"))) as source:
        assert "ddrescue did not get what is behind" in source.container.problems[0]
    with open_image(image, bad_map=str(a_map(tmp_path, "0x0 0x3f000 +", "0x3f000 0x1000 -"))) as source:
        assert source.container.problems == ()


def test_the_problem_is_told_of_a_dump_of_any_format(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(elf.core([elf.Load(0, bytes(range(256)) * 64)]))
    with open_image(path, bad_map=str(a_map(tmp_path, "0x0 0x50000 +"))) as source:
        assert source.container.format == "elf"
        assert any("is it this image's map?" in problem for problem in source.container.problems)


def test_a_map_of_very_many_blocks_is_bounded(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "map"
    with open(path, "w") as file:
        file.write("0 + 1\n")
        file.writelines(f"{at} 1 {'-+'[at & 1]}\n" for at in range(1_100_000))
    with pytest.raises(ImageError, match=r"line 1048578: more than 1048576 blocks are in this ddrescue map"):
        read_bad_map(str(path))
    many = "".join(f"{at} 1 {'-+'[at & 1]}\n" for at in range(1_000_000))
    path.write_text("0 + 1\n" + many)
    assert len(read_bad_map(str(path)).starts) == 500_000
    program = "import sys; from vmcorefs.image import open_image; open_image(sys.argv[1], bad_map=sys.argv[2]); "
    program += "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program, image, path], cwd=folder, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 10


# -- ddrescue itself ---------------------------------------------------------------------------------------------------------


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("seed", range(5))
def test_ddrescuelog_reads_the_same(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines, at = [], 0
    for _ in range(40):
        size = rng.randrange(1, 20)
        spell = rng.choice((hex, str, lambda n: f"0{n:o}"))
        lines.append(f"{spell(at * 512)}  {spell(size * 512)} \t{rng.choice('?*/-++++')}")
        at += size
    path = a_map(tmp_path, *lines)
    done = subprocess.run([tool("ddrescuelog"), "-b", "512", "-l", "?*/-", path], capture_output=True, text=True, check=True)
    assert [n for start, end in areas(path) for n in range(start // 512, end // 512)] == [int(line) for line in done.stdout.split()]


def test_what_ddrescue_writes(tmp_path: Path) -> None:
    """Of a disk with bad sectors, which it plays itself (--test-mode)."""
    ddrescue = tool("ddrescue")
    disk, image, image_map = tmp_path / "disk", tmp_path / "image", tmp_path / "image.map"
    data = random.Random(1).randbytes(SIZE)
    disk.write_bytes(data)
    bad = [(0x3000, 0x3400), (0x10200, 0x10400), (SIZE - 0x1000, SIZE - 0x200)]
    lines, at = [], 0
    for start, end in bad:
        lines += [f"{at} {start - at} +", f"{start} {end - start} -"]
        at = end
    lines.append(f"{at} {SIZE - at} +")
    played = a_map(tmp_path, *lines)
    subprocess.run([ddrescue, "-q", f"--test-mode={played}", disk, image, image_map], check=True)
    with open_image(image, bad_map=str(image_map)) as source:
        assert areas(image_map) == bad
        at = 0
        for start, end in bad:
            assert source.pread(start - at, at) == data[at:start]
            with pytest.raises(OldmemReadError):
                source.pread(1, start)
            at = end
        assert source.pread(SIZE - at, at) == data[at:]
        assert source.container.problems == ()


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
