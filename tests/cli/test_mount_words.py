"""vmcorefs mount: IMAGE, MOUNTPOINT and --capture in every order, and the table [mount] of a capture file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Built, Machine
from tests.cli.conftest import Program
from vmcorefs.cli.mount_options import MOUNT_FIELDS
from vmcorefs.fs.access import Access
from vmcorefs.fs.session import MountOptions

Refused = Callable[..., str]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    built = Machine().build(tmp_path)
    for name in ("mnt", "other"):
        (tmp_path / name).mkdir()
    return built


@pytest.fixture
def capture(built: Built, tmp_path: Path) -> Callable[[str], Path]:
    """capture(TEXT): a capture file that names the image, with TEXT after that."""
    def write(text: str) -> Path:
        (tmp_path / "db7.toml").write_text(f'image = "oldmem.img"\n{text}\n', encoding="utf-8")
        return tmp_path / "db7.toml"

    return write


Called = Callable[..., tuple[str, MountOptions]]


@pytest.fixture
def called(built: Built, monkeypatch: pytest.MonkeyPatch, vmcorefs: Program) -> Called:
    """called("IMAGE", "MOUNTPOINT"): where, and with which options, the file system would be started."""
    found: list[tuple[str, MountOptions]] = []
    monkeypatch.setattr("vmcorefs.cli.mount.mount", lambda tree, where, options, *, fake: found.append((where, options)))

    def call(*words: str | Path) -> tuple[str, MountOptions]:
        said = vmcorefs("mount", *words)
        assert said.status == 0, said.err
        return found.pop()

    return call


def test_also_may_be_given_more_than_once(built: Built, called: Called, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comma separates options of -o, so a second file is a second word there."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr("vmcorefs.cli.mount.make_tree", lambda dump, mountpoint, access, also: asked.append(also))
    for words in (["-o", "also=dump.s390,also=mem.raw"], ["--also", "dump.s390,mem.raw"],
                  ["-o", "also=dump.s390", "-o", "also=mem.raw"]):
        called(built.image, tmp_path / "mnt", *words)
    assert asked == [("dump.s390", "mem.raw")] * 3


# -- the order of the words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    "IMAGE DIR --io cached", "IMAGE --io cached DIR", "--io cached IMAGE DIR", "--io=cached IMAGE -- DIR", "IMAGE --io cached -- DIR",
    "-o io=cached -- IMAGE DIR", "IMAGE -o io=cached DIR", "IMAGE DIR -o ro,io=cached,noauto", "--io cached -- IMAGE DIR",
    "IMAGE --log-level error --io cached DIR", "-o ro IMAGE -o io=cached DIR"])
def test_image_and_mount_point(built: Built, called: Called, tmp_path: Path, words: str) -> None:
    where, options = called(*(str({"IMAGE": built.image, "DIR": tmp_path / "mnt"}.get(word, word)) for word in words.split()))
    assert (where, options.source, options.io) == (str(tmp_path / "mnt"), str(built.image), "cached")


@pytest.mark.parametrize("words", [
    "--capture FILE OTHER", "OTHER --capture FILE", "OTHER --capture=FILE", "-o capture=FILE OTHER", "OTHER -o ro,capture=FILE",
    "--capture FILE --log-level error OTHER", "--capture FILE -- OTHER", "FILE OTHER", "FILE --log-level error OTHER"])
@pytest.mark.parametrize("table", ["", '[mount]\nmountpoint = "mnt"\n'])
def test_a_mount_point_beside_a_capture_file_wins(capture: Callable[[str], Path], called: Called, tmp_path: Path, built: Built, words: str,
                                                  table: str) -> None:
    replaced = {"FILE": str(capture(table)), "OTHER": str(tmp_path / "other")}
    where, options = called(*(word.replace("FILE", replaced["FILE"]).replace("OTHER", replaced["OTHER"]) for word in words.split()))
    assert (where, options.source) == (replaced["OTHER"], str(built.image))


@pytest.mark.parametrize("words", ["--capture FILE", "--capture=FILE", "FILE", "-o capture=FILE", "FOLDER", "--log-level error FILE"])
def test_a_capture_file_alone(capture: Callable[[str], Path], called: Called, tmp_path: Path, built: Built, words: str) -> None:
    path = capture('[mount]\nmountpoint = "mnt"')
    where, options = called(*(word.replace("FILE", str(path)).replace("FOLDER", str(tmp_path)) for word in words.split()))
    assert (where, options.source) == (str(tmp_path / "mnt"), str(built.image))


def test_an_image_beside_a_capture_file_wins(capture: Callable[[str], Path], called: Called, tmp_path: Path, built: Built) -> None:
    """With the mount point that the file names left out there are two words again."""
    (tmp_path / "copy.img").write_bytes(built.image.read_bytes())
    _, options = called("--capture", capture('[mount]\nmountpoint = "mnt"'), tmp_path / "copy.img", tmp_path / "mnt")
    assert options.source == str(tmp_path / "copy.img")


@pytest.mark.parametrize(("words", "line"), [
    ("", "the following arguments are required: IMAGE, MOUNTPOINT; see vmcorefs mount --help"),
    ("IMAGE", "MOUNTPOINT is missing; give a directory; see vmcorefs mount --help"),
    ("FILE", "MOUNTPOINT is missing; give a directory, or name it in FILE under [mount]"),
    ("--capture FILE", "MOUNTPOINT is missing; give a directory, or name it in FILE under [mount]"),
    ("IMAGE DIR OTHER", "one argument too many: OTHER"),
    ("IMAGE --io cached DIR OTHER", "one argument too many: OTHER"),
    ("--capture FILE IMAGE DIR OTHER", "one argument too many: OTHER"),
    ("IMAGE DIR --capture", "expected one argument"),
    ("IMAGE DIR --oi cached", "unknown option --oi (did you mean --io?)"),
    ("IMAGE DIR --idle", "unknown option --idle"),
    ("--capture /nonexistent.toml DIR", "/nonexistent.toml: "),
    ("IMAGE DIR --io warp", "--io"),
    ("DIR IMAGE", "the mount point is not a directory; give an empty directory (image and mount point swapped? vmcorefs mount "),
])
def test_words_that_are_wrong(built: Built, capture: Callable[[str], Path], tmp_path: Path, refused: Refused, words: str,
                              line: str) -> None:
    path = str(capture(""))
    names = {"IMAGE": str(built.image), "FILE": path, "DIR": str(tmp_path / "mnt"), "OTHER": str(tmp_path / "other")}
    said = refused("mount", *(names.get(word, word) for word in words.split()))
    for name, value in names.items():
        line = line.replace(name, value) if name in {"FILE", "OTHER"} else line
    assert line in said


# -- the table [mount] ---------------------------------------------------------------------------------------------------

TABLE: dict[str, tuple[str, Any]] = {
    "foreground": ("true", ("foreground", True)),
    "io": ('"cached"', ("io", "cached")),
    "backend": ('"fusepy"', ("backend", "fusepy")),
    "also": ('["mem.raw", "dump.s390"]', None),
    "allow-other": ("true", ("access", Access(allow_other=True))),
    "replace-stale": ("true", ("replace_stale", True)),
    "pidfile": ('"run/pid"', ("pidfile", "{folder}/run/pid")),
    "idle-timeout": ('"10min"', ("idle_timeout", 600.0)),
    "nonempty": ("true", ("nonempty", True)),
    "uid": ("7", ("access", Access(allow_other=True, uid=7))),
    "gid": ('"root"', ("access", Access(allow_other=True, gid=0))),
    "mode": ('"0440"', ("access", Access(allow_other=True, mode=0o440))),
}
NEED_ALLOW_OTHER = {"uid", "gid", "mode"}


def test_every_option_is_a_key() -> None:
    assert set(TABLE) == {row.word for row in MOUNT_FIELDS}


@pytest.mark.parametrize("underscores", [False, True])
@pytest.mark.parametrize("key", TABLE)
def test_a_key(capture: Callable[[str], Path], called: Called, tmp_path: Path, key: str, underscores: bool) -> None:
    text, wanted = TABLE[key]
    (tmp_path / "run").mkdir()
    name = key.replace("-", "_") if underscores else key
    lines = [f"{name} = {text}", 'mountpoint = "mnt"', *(["allow-other = true"] if key in NEED_ALLOW_OTHER else [])]
    where, options = called(capture("[mount]\n" + "\n".join(lines)))
    assert where == str(tmp_path / "mnt")
    if wanted is not None:
        name, value = wanted
        assert getattr(options, name) == (value.format(folder=tmp_path) if isinstance(value, str) else value)


def test_the_command_line_wins(capture: Callable[[str], Path], called: Called) -> None:
    path = capture('[mount]\nmountpoint = "mnt"\nio = "cached"\nidle-timeout = 5\nallow-other = true\nmode = "0440"')
    _, options = called(path, "--io", "direct", "-o", "mode=0444,idle_timeout=7m")
    assert (options.io, options.idle_timeout, options.access) == ("direct", 420, Access(allow_other=True, mode=0o444))


def test_a_relative_mount_point_is_by_the_file_s_folder(capture: Callable[[str], Path], called: Called, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    capture('[mount]\nmountpoint = "../' + tmp_path.name + '/mnt"')
    monkeypatch.chdir(tmp_path / "elsewhere")
    where, _ = called("../db7.toml")
    assert os.path.samefile(where, tmp_path / "mnt")
    assert os.path.isabs(where)


def test_an_odd_mount_point(capture: Callable[[str], Path], called: Called, tmp_path: Path) -> None:
    (tmp_path / "a b,c=d\\e'").mkdir()
    where, _ = called(capture("[mount]\nmountpoint = '''a b,c=d\\e\u0027'''"))
    assert where == str(tmp_path / "a b,c=d\\e'")


@pytest.mark.parametrize(("lines", "line"), [
    ("mountpont = 'mnt'", "[mount]: unknown key 'mountpont' (did you mean mountpoint?)"),
    ("alow-other = true", "[mount]: unknown key 'alow-other' (did you mean allow-other?)"),
    ("mountpoint = 5", '[mount]: mountpoint: 5 is no directory; write mountpoint = "/mnt/dump"'),
    ("mountpoint = ''", "[mount]: mountpoint: '' is no directory"),
    ("mountpoint = ['mnt']", "[mount]: mountpoint: ['mnt'] is no directory"),
    ('mountpoint = "a\\u0000b"', "is no directory"),
    ("allow-other = 'yes'", "[mount]: allow-other: takes no value"),
    ("allow-other = 1", "[mount]: allow-other: 1; write true or false"),
    ("io = true", "[mount]: io: True is unknown; one of auto, direct, cached"),
    ("io = 'Direct'", "[mount]: io: 'Direct' is unknown; one of auto, direct, cached"),
    ("backend = []", "[mount]: backend: [] is unknown; one of auto"),
    ("pidfile = 5", "[mount]: pidfile: 5 is no file name"), ("pidfile = ''", "[mount]: pidfile: '' is no file name"),
    ("idle-timeout = 1.5", "[mount]: idle-timeout: 1.5 is no time"), ("idle-timeout = true", "[mount]: idle-timeout: True is no time"),
    ("idle-timeout = -5", "[mount]: idle-timeout: -5 is no time"), ("idle-timeout = 10:00:00", "is no time"),
    ("uid = -1", "[mount]: uid: -1: there is no such user"), ("uid = true", "there is no such user"),
    ("gid = 1.0", "there is no such group"), ("gid = 4294967295", "there is no such group"),
    ("gid = 99999999999999999999", "there is no such group"),
    ("mode = 440", "[mount]: mode: 440: files can only be read here; write one of 0400, 0440, 0444"),
    ("mode = 0o440", "[mount]: mode: 288: files"), ("mode = 'kdump'", "[mount]: mode: 'kdump'"), ("mode = '0777'", "[mount]: mode: '0777'"),
    ("hsa = 'hsa.img'", "[mount]: unknown key 'hsa'"), ("x-systemd.automount = true", "[mount]: unknown key 'x-systemd'"),
    ("also = ['x']", "[mount]: also: 'x' is unknown"), ("also = 5", "[mount]: also: 5 is unknown"),
    ("io = 'direct'\nio = 'cached'", "db7.toml"), ("idle-timeout = 5\nidle_timeout = 6", "[mount]: idle_timeout is there twice"),
    ("io = 'direct'\n[mount.more]\na = 1", "[mount]: unknown key 'more'"),
])
def test_wrong_lines(capture: Callable[[str], Path], tmp_path: Path, refused: Refused, lines: str, line: str) -> None:
    path = capture(f"[mount]\n{lines}")
    said = refused("mount", path, tmp_path / "mnt")
    assert line in said
    assert str(path) in said


@pytest.mark.parametrize("text", ["mount = 5", "mount = 'mnt'", "mount = []", "[[mount]]\nmountpoint = 'mnt'"])
def test_what_is_no_table(capture: Callable[[str], Path], tmp_path: Path, refused: Refused, text: str) -> None:
    assert "mount" in refused("mount", capture(text), tmp_path / "mnt")


@pytest.mark.parametrize("command", ["info", "copy", "check"])
def test_other_commands_do_not_mind_the_table(capture: Callable[[str], Path], tmp_path: Path, vmcorefs: Program, command: str) -> None:
    """The same file, whatever it says about mounting."""
    path = capture('[mount]\nmountpoint = "/nonexistent"\ngid = "support-group-of-another-host"')
    said = vmcorefs(command, path, *([tmp_path / "out"] if command == "copy" else []))
    assert "error" not in said.err
