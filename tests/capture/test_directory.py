"""A directory as IMAGE: oldmem.img with hsa.img, or one capture file; what is not clear is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import vmcorefs as package
from tests.builders import Machine, cpus
from tests.capture.conftest import served
from tests.cli.conftest import Program
from tests.mounts.mounting import mounted

MIB = 1 << 20
Refused = Callable[..., str]


@pytest.mark.parametrize("mode", ["kdump", "plain"])
def test_an_image_alone(tmp_path: Path, mode: str, vmcorefs: Program) -> None:
    built = Machine(mode=mode).build(tmp_path)  # type: ignore[arg-type]
    (tmp_path / "notes.txt").write_text("not looked at")
    assert vmcorefs("copy", tmp_path, tmp_path / "vmcore").status == 0
    assert (tmp_path / "vmcore").read_bytes() == built.model.read(0, built.model.size)


def test_any_name_of_the_image(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    wanted = served(built.image)
    built.image.rename(tmp_path / "lpar7.img")
    assert served(tmp_path) == wanted


def test_an_image_with_its_hsa(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump", cpus=cpus(2)).build(tmp_path)
    with package.open(tmp_path) as dump:
        assert dump.mode.name == "zfcpdump"
        assert dump.vmcore.pread(dump.vmcore.size, 0) == built.model.read(0, built.model.size)


def test_an_option_wins_over_the_hsa_there(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    assert built.hsa is not None
    other = tmp_path / "other"
    other.write_bytes(built.hsa.read_bytes())
    built.hsa.write_bytes(bytes(4096))
    with package.open(tmp_path, hsa=other) as dump:
        assert dump.vmcore.pread(dump.vmcore.size, 0) == built.model.read(0, built.model.size)
        assert dump.capture.origin("hsa") == "option --hsa"


def test_a_capture_file_says_it_all(tmp_path: Path) -> None:
    """Neither the other images nor hsa.img are guessed at then."""
    built = Machine(mode="plain").build(tmp_path)
    (tmp_path / "hsa.img").write_bytes(bytes(MIB))
    (tmp_path / "another.img").write_bytes(bytes(MIB))
    (tmp_path / "crash.toml").write_text('image = "oldmem.img"\nmemory-range = "0-1M"\n')
    with package.open(tmp_path) as dump:
        assert (dump.image.path, dump.hsa, dump.memory_map) == (str(built.image), None, ((0, MIB),))
        assert dump.capture.origin("memory_range") == f"capture file {tmp_path / 'crash.toml'}"


def test_a_mount_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "capture").mkdir()
    built = Machine(mode="zfcpdump", cpus=cpus(2)).build(tmp_path / "capture")
    with mounted(tmp_path / "capture", tmp_path / "mnt") as mount:
        assert mount.vmcore.read_bytes() == built.model.read(0, built.model.size)


CONTENTS: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "is a directory, and no capture is in it"),
    "other files": (["a.txt", "vmcore"], "is a directory, and no capture is in it"),
    "hsa.img alone": (["hsa.img"], "is a directory, and no capture is in it"),
    "two images": (["oldmem.img", "b.img"], "2 images are in this directory (b.img, oldmem.img); give the one that is meant"),
    "three images": (["oldmem.img", "b.img", "c.img", "hsa.img"], "3 images are in this directory (b.img, c.img"),
    "two capture files": (["oldmem.img", "b.toml", "a.toml"], "2 capture files are in this directory (a.toml, b.toml)"),
}


@pytest.mark.parametrize("what", list(CONTENTS))
def test_what_is_not_clear_is_refused(tmp_path: Path, refused: Refused, what: str) -> None:
    names, words = CONTENTS[what]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"x")
    for command in (["info", folder], ["check", folder], ["copy", folder, tmp_path / "out"]):
        assert f"error: {folder}: {words}" in refused(*command)
    with pytest.raises(package.ImageError) as caught:
        package.open(folder)
    assert words in str(caught.value)


def test_a_bad_capture_file_in_it(tmp_path: Path, refused: Refused) -> None:
    Machine().build(tmp_path)
    (tmp_path / "a.toml").write_text("imgae = 'oldmem.img'\n")
    assert f"{tmp_path / 'a.toml'}: unknown key 'imgae' (did you mean image?)" in refused("info", tmp_path)


def test_one_that_cannot_be_looked_into(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("vmcorefs.capture.os.listdir", refuse)
    assert f"{tmp_path}: cannot look into the directory: Permission denied" in refused("info", tmp_path)


def test_an_unprintable_name(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "a\nb"
    folder.mkdir()
    assert "no capture is in it" in refused("info", folder)  # in one line


@pytest.mark.parametrize("mode", ["plain", "zfcpdump"])
def test_a_mode_wins_over_the_hsa_there(tmp_path: Path, mode: str) -> None:
    """Nobody gave --hsa; the file that happens to be there must not forbid --mode plain."""
    Machine(mode="zfcpdump").build(tmp_path)
    with package.open(tmp_path, mode=mode) as dump:
        assert dump.mode.name == mode


def test_a_capture_option_wins_over_the_capture_file_there(tmp_path: Path) -> None:
    Machine(mode="plain").build(tmp_path)
    (tmp_path / "a.toml").write_text("image = 'oldmem.img'\nmemory-range = '0-1M'\n")
    (tmp_path / "other").write_text("memory-range = '0-2M'\n")
    with package.open(tmp_path, capture=tmp_path / "other") as dump:
        assert dump.memory_map == ((0, 2 * MIB),)
