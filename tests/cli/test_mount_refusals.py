"""vmcorefs mount, before anything is mounted: mount points that contain what the mount would cover, in every disguise."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.cli.conftest import Program
from tests.mounts.mounting import need_root, row_of

MIB = 1 << 20
Refused = Callable[..., str]
OPTIONS = ["--hsa", "--memory-map", "--vmcoreinfo", "--cpu-state", "--capture"]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Machine().build(tmp_path)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """The mount point; it has a folder with a file, which none of the tests opens."""
    path = tmp_path / "mnt"
    (path / "deep/er").mkdir(parents=True)
    (path / "deep/er/file").write_text('image = "../../../oldmem.img"\n')
    return path


def assert_covers(line: str, where: Path | str, source: Path | str) -> None:
    assert f"{where}: the mount point contains {source}, which the mount would cover; choose another directory" in line


@pytest.mark.parametrize("option", OPTIONS)
def test_it_contains_a_file_that_an_option_names(built: Built, where: Path, refused: Refused, option: str) -> None:
    """At any depth; -o nonempty, which says that what is in the directory may be covered, does not mean that."""
    file = where / "deep/er/file"
    image = [] if option == "--capture" else [built.image]
    assert_covers(refused("mount", "-o", "nonempty", *image, where, option, file), where, file)
    assert_covers(refused("mount", *image, where, option, file), where, file)  # and this is said rather than "not empty"
    word = f"nonempty,{option[2:]}={file}"
    assert_covers(refused("mount", *image, where, "-o", word), where, file)


def test_it_contains_the_image(built: Built, refused: Refused, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path.parent):
        assert_covers(refused("mount", "-o", "nonempty", built.image, place), place, built.image)


def test_relative_names(built: Built, where: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(where / "deep")
    assert_covers(refused("mount", "-o", "nonempty", built.image, "..", "--hsa", "er/file"), "..", "er/file")
    assert_covers(refused("mount", "-o", "nonempty", "../../oldmem.img", "../.."), "../..", "../../oldmem.img")


def test_by_links(built: Built, where: Path, refused: Refused, tmp_path: Path) -> None:
    """To the mount point, to the folder of the file, to the file."""
    (tmp_path / "point").symlink_to(where)
    (tmp_path / "folder").symlink_to(where / "deep")
    (tmp_path / "link").symlink_to(tmp_path / "folder/er/file")
    for source in ("folder/er/file", "link"):
        for point in ("point", "mnt"):
            line = refused("mount", "-o", "nonempty", built.image, tmp_path / point, "--memory-map", tmp_path / source)
            assert_covers(line, tmp_path / point, tmp_path / source)


@pytest.fixture
def bound(tmp_path: Path, where: Path) -> Iterator[Path]:
    """The same directory at another place."""
    need_root()
    path = tmp_path / "bound"
    path.mkdir()
    subprocess.run(["mount", "--bind", where, path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_by_a_bind_mount(built: Built, where: Path, bound: Path, refused: Refused) -> None:
    for point, source in ((bound, where / "deep/er/file"), (where, bound / "deep/er/file")):
        assert_covers(refused("mount", "-o", "nonempty", built.image, point, "--hsa", source), point, source)


def test_a_capture_file_whose_mount_point_contains_it(built: Built, tmp_path: Path, refused: Refused) -> None:
    capture = tmp_path / "capture.toml"
    for text in (".", "..", str(tmp_path)):
        capture.write_text(f'image = "oldmem.img"\n[mount]\nmountpoint = "{text}"\nnonempty = true\n')
        assert "the mount point contains" in refused("mount", "--capture", capture)
        assert "the mount point contains" in refused("mount", capture)


@pytest.mark.parametrize("key", ["memory-map", "hsa", "vmcoreinfo"])
def test_a_capture_file_that_names_a_file_in_it(built: Built, where: Path, tmp_path: Path, vmcorefs: Program, key: str) -> None:
    """info MOUNTPOINT would look for it below the mount."""
    (tmp_path / "capture.toml").write_text(f'image = "oldmem.img"\n{key} = "mnt/deep/er/file"\n')
    (where / "deep/er/file").write_bytes({
        "memory-map": b"00000000-001fffff : System RAM\n", "hsa": bytes(4096), "vmcoreinfo": b"OSRELEASE=6.1.0\n"}[key])
    answer = vmcorefs("mount", "-o", "nonempty", "--capture", tmp_path / "capture.toml", where)
    assert answer.status == 2
    assert_covers(answer.lines[-1], where, where / "deep/er/file")
    assert row_of(where) is None


def test_by_a_link_in_it(built: Built, where: Path, refused: Refused) -> None:
    """The name by which it was given would be covered, and info MOUNTPOINT with it."""
    (where / "link").symlink_to(built.image)
    assert_covers(refused("mount", "-o", "nonempty", where / "link", where), where, where / "link")


@pytest.mark.parametrize("capture", [False, True])
def test_swapped(built: Built, tmp_path: Path, refused: Refused, capture: bool) -> None:
    """Also where the directory holds a capture."""
    folder = tmp_path if capture else tmp_path / "mnt"
    folder.mkdir(exist_ok=True)
    line = refused("mount", folder, built.image)
    assert f"{built.image}: the mount point is not a directory" in line
    assert f"swapped? vmcorefs mount {built.image} {folder}" in line


def test_a_directory_with_a_capture_at_itself(built: Built, tmp_path: Path, vmcorefs: Program) -> None:
    """The image is found in it."""
    answer = vmcorefs("mount", "-o", "nonempty", tmp_path, tmp_path)
    assert answer.status == 2
    assert_covers(answer.lines[-1], tmp_path, built.image)
    assert row_of(tmp_path) is None


def test_a_name_that_only_begins_the_same(built: Built, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/x").touch()
    assert "not empty (x is in it)" in refused("mount", built.image, tmp_path / "old")


def test_a_mount_point_that_is_the_image(built: Built, refused: Refused) -> None:
    assert "not a directory" in refused("mount", built.image, built.image)


@pytest.mark.parametrize(("words", "line"), [
    (["--memory-rang", "0-1M"], "unknown option --memory-rang (did you mean --memory-range?)"),
    (["-o", "memory-rang=0-1M"], "-o: unknown option memory-rang (did you mean memory-range?)"),
    (["-o", "ro,relpace-stale"], "-o: unknown option relpace-stale (did you mean replace-stale?)"),
    (["-o", "ro=1,noatim"], "-o: unknown option noatim"),
    (["-o", "fsname=x"], "-o: unknown option fsname"), (["-o", "subtype=x"], "-o: unknown option subtype"),
    (["-o", "default_permissions"], "-o: unknown option default_permissions"), (["-o", "user_id=5"], "-o: unknown option user_id"),
    (["-o", "ro\\,allow_other"], "-o: unknown option ro,allow_other"),
])
def test_unknown_words(built: Built, tmp_path: Path, refused: Refused, words: list[str], line: str) -> None:
    """None of libfuse's own gets through: they would change what is served, or lie about whose it is."""
    (tmp_path / "mnt").mkdir()
    assert line in refused("mount", built.image, tmp_path / "mnt", *words)
    assert row_of(tmp_path / "mnt") is None
    assert os.listdir(tmp_path / "mnt") == []
