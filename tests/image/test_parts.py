"""An image that was split over files: given or found, joined one behind the other; what does not fit together is told."""

from __future__ import annotations

import gzip
import os
import random
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.containers import elf, lime, s390
from tests.builders.containers.kdump import Kdump
from tests.builders.containers.seekable import bgzip, xz
from tests.image.bad_disk import BadDisk
from tests.image.samples import sample
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.parts import find_parts, first_part

PAGE = 4096
IMAGE = random.Random(12).randbytes(10 * PAGE)


def split(folder: Path, size: int, names: list[str], data: bytes = IMAGE) -> list[Path]:
    paths = []
    for at, name in zip(range(0, len(data), size), names, strict=True):
        paths.append(folder / name)
        paths[-1].write_bytes(data[at:at + size])
    return paths


NAMES = {
    "000": [f"image.{n:03}" for n in range(4)],
    "001": [f"image.{n:03}" for n in range(1, 5)],
    "00": [f"image-{n:02}" for n in range(4)],
    "0000": [f"image_{n:04}" for n in range(4)],
    "aa": ["image.aa", "image.ab", "image.ac", "image.ad"],
    "aaa": ["image.aaa", "image.aab", "image.aac", "image.aad"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_parts_behind_the_first_one_are_found(tmp_path: Path, names: list[str]) -> None:
    paths = split(tmp_path, 3 * PAGE, names)
    with open_image(paths[0]) as source:
        assert source.size == len(IMAGE)
        assert source.pread(len(IMAGE), 0) == IMAGE
        assert (source.path, source.name) == (str(paths[0]), str(paths[0]))
        assert [file.path for file in source.files] == [str(path) for path in paths]
        assert source.container.format == "raw"
        assert f"4 parts, {paths[0]} to {paths[3]} (40 KiB)" in source.container.detail
        assert source.container.problems == ()


@pytest.mark.parametrize("names", [NAMES["000"], NAMES["aa"], NAMES["001"]])
def test_the_name_without_the_number_finds_them_too(tmp_path: Path, names: list[str]) -> None:
    split(tmp_path, 3 * PAGE, names)
    with open_image(tmp_path / "image") as source:
        assert source.pread(len(IMAGE), 0) == IMAGE


def test_what_split_1_makes_is_found(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(IMAGE)
    subprocess.run(["split", "-b", "700", "image", "image."], cwd=tmp_path, check=True)
    assert (tmp_path / "image.cg").exists()
    with open_image(tmp_path / "image.aa") as source:
        assert source.pread(len(IMAGE), 0) == IMAGE
        assert len(source.files) == 59


def test_given_parts_are_joined_in_the_order_given(tmp_path: Path) -> None:
    one, two = tmp_path / "lower", tmp_path / "upper"
    one.write_bytes(IMAGE[:6 * PAGE])
    two.write_bytes(IMAGE[6 * PAGE:])
    with open_image([one, two]) as source:
        assert source.pread(len(IMAGE), 0) == IMAGE
    with open_image([two, one]) as source:
        assert source.pread(4 * PAGE, 0) == IMAGE[6 * PAGE:]
        assert "of one size, but for the last" in source.container.problems[0]


def test_reads_across_parts_and_beyond_the_last_one(tmp_path: Path) -> None:
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    with open_image(paths[0]) as source:
        rng = random.Random(1)
        for _ in range(200):
            offset, size = rng.randrange(len(IMAGE) + 50), rng.randrange(8 * PAGE)
            assert source.read_some(size, offset) == IMAGE[offset:offset + size]
        with pytest.raises(OldmemReadError, match=r"image\.000.*beyond the end of its memory at 0xa000") as caught:
            source.pread(10, len(IMAGE) - 5)
        assert (caught.value.kind, caught.value.good) == ("missing", 5)


def test_an_error_names_the_part_and_the_offset_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    BadDisk(monkeypatch, paths[2], [(PAGE, PAGE + 1)])
    with open_image(paths[0]) as source:
        with pytest.raises(OldmemReadError) as caught:
            source.pread(10 * PAGE, 0)
        assert (caught.value.file, caught.value.offset, caught.value.good) == (str(paths[2]), PAGE, 7 * PAGE)


@pytest.mark.parametrize("data", [elf.core([elf.Load(0, IMAGE)]), s390.s390(IMAGE)], ids=["elf", "s390"])
def test_a_container_may_be_split_at_any_byte(tmp_path: Path, data: bytes) -> None:
    paths = split(tmp_path, 4099, [f"dump.{n:03}" for n in range(-(-len(data) // 4099))], data)
    with open_image(paths[0]) as source:
        assert source.container.format in {"elf", "s390"}
        assert source.container.incomplete is None
        assert source.pread(len(IMAGE), 0) == IMAGE
        assert len(source.files) == len(paths)


def test_a_part_that_is_missing_in_the_middle_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    paths[2].unlink()
    with pytest.raises(ImageError, match=r"image\.002: this part of the image is missing, though .*image\.003 is there"):
        open_image(paths[0])


def test_the_second_of_three_parts_is_missing(tmp_path: Path) -> None:
    paths = split(tmp_path, 4 * PAGE, NAMES["000"][:3])
    paths[1].unlink()
    for name in (paths[0], tmp_path / "image"):
        with pytest.raises(ImageError) as caught:
            open_image(name)
        assert str(caught.value) == (f"{paths[1]}: this part of the image is missing, though {paths[2]} is there; copy it, too, or give "
                                     f"all parts by name, or, if {tmp_path}/image.* are no parts of one image, rename them")
    with open_image([paths[0], paths[2]]) as source:  # given is given
        assert source.size == 6 * PAGE


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(("make", "words"), [
    (lambda path: os.symlink(path.name, path), "is a link that leads nowhere (Too many levels of symbolic links)"),
    (lambda path: os.symlink("nothing", path), "is a link that leads nowhere (No such file or directory)"),
    (os.mkfifo, "is no regular file"), (os.mkdir, "is no regular file"), (a_socket, "is no regular file")],
    ids=["loop", "dangling", "FIFO", "directory", "socket"])
@pytest.mark.parametrize("others", [0, 1])
def test_a_part_that_cannot_be_one_is_named(tmp_path: Path, make: Callable[[Path], None], words: str, others: int) -> None:
    paths = split(tmp_path, 4 * PAGE, NAMES["000"][:3])
    paths[1].unlink()
    make(paths[1])
    if not others:
        paths[2].unlink()
    with pytest.raises(ImageError) as caught:
        open_image(paths[0])
    assert str(caught.value).startswith(f"{paths[1]}: this part of the image {words}; give all parts by name, or, if ")


def test_numbered_dumps_one_of_which_was_removed(tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"dump.00{number}").write_bytes(elf.core([elf.Load(0, IMAGE)]))
    with open_image(tmp_path / "dump.000") as source:
        assert source.size == len(IMAGE)


# -- parts that are none -----------------------------------------------------------------------------------------------------


def test_the_same_part_twice_is_refused(tmp_path: Path) -> None:
    paths = split(tmp_path, 5 * PAGE, ["lower", "upper"])
    (tmp_path / "again").hardlink_to(paths[0])
    (tmp_path / "link").symlink_to(paths[0])
    for name in ("lower", "again", "link"):
        with pytest.raises(ImageError, match=f"{name}: the same file as the part .*lower; give each part once"):
            open_image([paths[0], paths[1], tmp_path / name])


CORE = elf.core([elf.Load(0, IMAGE)])


@pytest.mark.parametrize(("first", "second", "words"), [
    (CORE, s390.s390(IMAGE), "second: a file of its own (s390), no further part of"),
    (CORE, Kdump({1: IMAGE[:PAGE]}).build(), "second: a file of its own (kdump-compressed), no further part of"),
    (IMAGE, CORE, "second: a file of its own (elf), no further part of"),
    (CORE, CORE, "second: no part of"),
    (CORE, IMAGE, "second: no part of"),
    (s390.s390(IMAGE), IMAGE, "second: no part of"),
    (bgzip(IMAGE), bytes(PAGE), "second: no part of"),
], ids=["elf, s390", "elf, kdump", "raw, elf", "elf twice", "elf, raw", "s390, raw", "bgzip, zeros"])
def test_what_belongs_to_no_part_is_refused(tmp_path: Path, first: bytes, second: bytes, words: str) -> None:
    (tmp_path / "first").write_bytes(first)
    (tmp_path / "second").write_bytes(second)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageError) as caught:
        open_image([tmp_path / "first", tmp_path / "second"])
    assert words in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_of_a_split_dump_and_something_else(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(IMAGE)
    for other, words in ((path, "no part of"), (sample("synth.elf"), "a file of its own"), (sample("synth.kdump-zlib"), "a whole kdump")):
        with pytest.raises(ImageError, match=words):
            open_image([sample("synth.kdump-split1"), other])


@pytest.mark.parametrize("data", [CORE, s390.s390(IMAGE), bgzip(IMAGE, 5000), xz(IMAGE, 5000), lime.lime([(0, IMAGE)]),
                                  lime.lime([(0, IMAGE[:2 * PAGE]), (4 * PAGE, IMAGE[2 * PAGE:])])],
                         ids=["elf", "s390", "bgzip", "xz", "lime", "lime of two ranges"])
@pytest.mark.parametrize("at", [20, 5000, 2 * PAGE + 32, -10])
def test_two_parts_of_anything_are_accepted(tmp_path: Path, data: bytes, at: int) -> None:
    (tmp_path / "a").write_bytes(data[:at])
    (tmp_path / "b").write_bytes(data[at:])
    (tmp_path / "whole").write_bytes(data)
    with open_image([tmp_path / "a", tmp_path / "b"]) as source, open_image(tmp_path / "whole") as whole:
        assert source.size == whole.size
        assert source.container.incomplete is None
        assert source.read_some(source.size, 0) == whole.read_some(whole.size, 0)


# -- what helps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 7])
def test_something_packed_in_parts_is_refused_with_a_command_that_works(tmp_path: Path, count: int) -> None:
    packed = gzip.compress(IMAGE)
    size = -(-len(packed) // count)
    folder = tmp_path / "a b"
    folder.mkdir()
    paths = split(folder, size, [f"im.gz.{n:03}" for n in range(count)], packed)
    for given in (paths[0], paths):
        if given is paths and count > 4:
            continue
        with pytest.raises(ImageError) as caught:
            open_image(given)
        words, _, command = str(caught.value).partition("unpack it first: ")
        assert "what is in it is gzip-compressed" in words
        assert command.startswith("cat ")
        subprocess.run(["sh", "-c", command], check=True, stderr=subprocess.PIPE)
    made = [path for path in folder.iterdir() if path not in paths]
    assert [path.read_bytes() for path in made] == [IMAGE] * len(made)
    assert len(made) == (2 if count == 2 else 1)  # the second time under a name that was free


@pytest.mark.parametrize(("part", "size"), [(1, PAGE), (1, 0), (2, 3 * PAGE - 1), (3, 3 * PAGE + 1), (0, 5)])
def test_found_parts_of_different_sizes_are_refused(tmp_path: Path, part: int, size: int) -> None:
    """Else everything behind the part that was not copied whole would stand at wrong addresses."""
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    with paths[part].open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ImageError, match=r"looks like an image in 4 parts, but .* copy it again, or give all parts by name"):
        open_image(paths[0])
    with open_image(list(paths)) as source:
        assert "stands at wrong addresses" in source.container.problems[0]


@pytest.mark.parametrize("names", [["dump.1", "dump.2"], ["image", "image1"], ["vmcore-2024-05-11", "vmcore-2024-05-12"], ["a.01", "a.02"],
                                   ["image.002", "image.003"], ["000", "001"], ["image.0", "image.1"], ["x.ba", "x.bb"]])
def test_other_numbers_are_no_parts(tmp_path: Path, names: list[str]) -> None:
    """Two dumps of two days are two dumps."""
    paths = split(tmp_path, 5 * PAGE, names)
    with open_image(paths[0]) as source:
        assert source.size == 5 * PAGE
        assert len(source.files) == 1


def test_a_single_file_with_a_number_is_that_file(tmp_path: Path) -> None:
    (path,) = split(tmp_path, 10 * PAGE, ["image.000"])
    with open_image(path) as source:
        assert source.size == len(IMAGE)
        assert source.container.detail == ""


def test_later_parts_know_their_first_one(tmp_path: Path) -> None:
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    assert first_part(str(paths[2])) == str(paths[0])
    assert first_part(str(paths[0])) is None
    assert first_part(str(tmp_path / "image.007")) is None
    assert find_parts(str(paths[1])) == (str(paths[1]),)


def test_a_later_part_alone_is_served_with_a_warning(tmp_path: Path) -> None:
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    with open_image(paths[1]) as source:
        assert source.size == 3 * PAGE
        assert f"looks like a part of {paths[0]}" in source.container.problems[0]


@pytest.mark.parametrize("sizes", [(10, 10), (3, 10), (10, 3)])
def test_numbered_dumps_that_are_whole_are_not_joined(tmp_path: Path, sizes: tuple[int, int]) -> None:
    for number, size in enumerate(sizes):
        (tmp_path / f"dump.00{number}").write_bytes(elf.core([elf.Load(0, IMAGE[:size * PAGE])]))
    before = len(os.listdir("/proc/self/fd"))
    with open_image(tmp_path / "dump.000") as source:
        assert source.size == sizes[0] * PAGE
        assert len(source.files) == 1
        assert len(os.listdir("/proc/self/fd")) == before + 1
    with open_image(tmp_path / "dump.001") as source:
        assert source.container.problems == ()


def test_a_name_that_is_nothing_is_still_told_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none: cannot open the image: No such file"):
        open_image(tmp_path / "none")


def test_no_parts_at_all_are_refused() -> None:
    with pytest.raises(ImageError, match="no image is given"):
        open_image([])


def test_a_refused_image_leaks_no_descriptor(tmp_path: Path) -> None:
    paths = split(tmp_path, 3 * PAGE, NAMES["000"])
    os.truncate(paths[1], 5)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ImageError):
            open_image(paths[0])
        with pytest.raises(ImageError):
            open_image([*paths, tmp_path / "none"])
    assert len(os.listdir("/proc/self/fd")) == before
