"""The pidfile: there, whole, exactly from write to remove; nobody else's file is ever touched."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from vmcorefs.errors import UsageError
from vmcorefs.fs.pidfile import PidFile


def open_files(folder: Path) -> list[str]:
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return [target for target in targets if target.startswith(str(folder))]


def test_a_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = os.umask(0o022)
    try:
        pidfile = PidFile("pid")
    finally:
        os.umask(old)
    monkeypatch.chdir("/")  # as the daemon does
    assert not (tmp_path / "pid").exists()
    pidfile.write(4321)
    assert (tmp_path / "pid").read_bytes() == b"4321\n"
    assert stat.S_IMODE((tmp_path / "pid").stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["pid"]
    assert open_files(tmp_path) == []
    pidfile.remove()
    assert os.listdir(tmp_path) == []
    pidfile.remove()
    pidfile.give_up()


@pytest.mark.parametrize("end", ["give_up", "remove"])
def test_nothing_was_mounted(tmp_path: Path, end: str) -> None:
    (tmp_path / "pid").write_text("77\n", encoding="ascii")
    pidfile = PidFile(str(tmp_path / "pid"))
    getattr(pidfile, end)()
    assert (tmp_path / "pid").read_text(encoding="ascii") == "77\n"
    assert os.listdir(tmp_path) == ["pid"]
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("old", [b"1\n", b"99999", b" 12 \n", b""])
def test_the_pid_of_a_daemon_that_was_killed_is_replaced(tmp_path: Path, old: bytes) -> None:
    (tmp_path / "pid").write_bytes(old)
    pidfile = PidFile(str(tmp_path / "pid"))
    pidfile.write(5)
    assert (tmp_path / "pid").read_bytes() == b"5\n"
    pidfile.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"6\n", b"", b"0\n", b"5", b"5\nmore\n", b"text", b"55\n", b"\xff"])
def test_what_somebody_has_put_there_since_stays(tmp_path: Path, content: bytes) -> None:
    pidfile = PidFile(str(tmp_path / "pid"))
    pidfile.write(5)
    (tmp_path / "pid").unlink()
    (tmp_path / "pid").write_bytes(content)
    pidfile.remove()
    assert (tmp_path / "pid").read_bytes() == content


def test_it_was_taken_away_before(tmp_path: Path) -> None:
    pidfile = PidFile(str(tmp_path / "pid"))
    pidfile.write(5)
    (tmp_path / "pid").unlink()
    pidfile.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"text", b"\x7fELF", b"1\n2\n", b"-1", b"x" * 1000, b"0x10"])
def test_a_file_that_holds_no_pid_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    """--pidfile with the image's name by mistake."""
    path = tmp_path / "oldmem.img"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"oldmem\.img: is there and holds no pid; give another file"):
        PidFile(str(path))
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["oldmem.img"]


@pytest.mark.parametrize("kind", ["device", "fifo", "socket", "link to a device", "dead link into nowhere"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    """A rename would put a file in the place of /dev/null. Never waits for a FIFO's writer."""
    path = tmp_path / "pid"
    with socket.socket(socket.AF_UNIX) as end:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            end.bind(str(path))
        elif kind == "dead link into nowhere":
            path.symlink_to("/nonexistent/pid")
        else:
            path.symlink_to("/dev/null")
        if kind == "dead link into nowhere":
            PidFile(str(path)).give_up()
            return
        with pytest.raises(UsageError, match="holds no pid"):
            PidFile("/dev/null" if kind == "device" else str(path))
    assert len(os.listdir(tmp_path)) == 1
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "is a directory"), (tmp_path / "a" / "pid", "No such file"), (Path("/proc/pid"), "cannot be written"),
                      (tmp_path / ("x" * 254), "File name too long")):
        with pytest.raises(UsageError, match=f"--pidfile {path}: .*{why}"):
            PidFile(str(path))
    assert os.listdir(tmp_path) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows at the start: /dev/full in the place of the file that is made."""
    real_open = os.open
    monkeypatch.setattr("vmcorefs.fs.pidfile.os.open", lambda path, *rest: real_open("/dev/full", os.O_WRONLY))
    with pytest.raises(UsageError, match="No space left on device"):
        PidFile(str(tmp_path / "pid"))
    assert os.listdir(tmp_path) == []


def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path) -> None:
    """In a directory where everybody may write."""
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="ascii")
    (tmp_path / f"pid.{os.getpid()}.part").symlink_to(victim)
    with pytest.raises(UsageError, match="File exists"):
        PidFile(str(tmp_path / "pid"))
    assert victim.read_text(encoding="ascii") == "mine"
