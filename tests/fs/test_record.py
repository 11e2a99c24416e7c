"""The record of a mount: for its owner's eyes, and only believed of a living daemon."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from vmcorefs.fs import record
from vmcorefs.fs.record import Record, find_record, remove_record, start_time, write_record

DEVICE = "0:4242"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where records go in these tests; not made yet."""
    path = tmp_path / "records"
    monkeypatch.setattr(record, "_own_directory", lambda: str(path))
    monkeypatch.setattr(record, "_directories", lambda: iter([str(path)]))
    return path


@pytest.fixture
def own(directory: Path) -> Record:
    """This process as the daemon."""
    started = start_time(os.getpid())
    assert started is not None
    return Record(os.getpid(), started, "/mnt/a b\n\udcff", DEVICE, {"image": "/im\udcffage", "hsa": None})


def test_written_and_found(own: Record) -> None:
    path = write_record(own)
    assert path is not None
    assert find_record(DEVICE, own.mountpoint) == own
    assert find_record("0:1", own.mountpoint) is None
    assert find_record(DEVICE, "/mnt/other") is None
    remove_record(path)
    assert find_record(DEVICE, own.mountpoint) is None
    remove_record(path)
    remove_record(None)


def test_modes(own: Record, directory: Path) -> None:
    old = os.umask(0)
    try:
        path = write_record(own)
    finally:
        os.umask(old)
    assert path is not None
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_place_of_an_old_record_is_taken_anew(own: Record, directory: Path) -> None:
    directory.mkdir()
    old = directory / f"{DEVICE}.json"
    old.write_text("old", encoding="ascii")
    old.chmod(0o666)
    with old.open(encoding="ascii") as file:
        assert write_record(own) == str(old)
        assert file.read() == "old"
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


def test_a_link_is_not_written_through(own: Record, directory: Path, tmp_path: Path) -> None:
    directory.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="ascii")
    (directory / f"{DEVICE}.json").symlink_to(victim)
    write_record(own)
    assert victim.read_text(encoding="ascii") == "mine"
    assert not (directory / f"{DEVICE}.json").is_symlink()


def test_a_directory_that_is_a_link_is_refused(own: Record, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    assert write_record(own) is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_directory_of_somebody_else_is_refused(own: Record, directory: Path) -> None:
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    assert write_record(own) is None
    assert list(directory.iterdir()) == []


def test_a_directory_that_is_a_file(own: Record, directory: Path) -> None:
    directory.touch()
    assert write_record(own) is None
    assert find_record(DEVICE, own.mountpoint) is None


def test_a_link_is_not_read_through(own: Record, directory: Path, tmp_path: Path) -> None:
    directory.mkdir()
    (tmp_path / "real.json").write_text(json.dumps(asdict(own)), encoding="ascii")
    (directory / f"{DEVICE}.json").symlink_to(tmp_path / "real.json")
    assert find_record(DEVICE, own.mountpoint) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"pid": 1}', "\x00", '"text"', "1", '{"pid": 1, "more": 2}'])
def test_what_is_no_record(text: str, directory: Path) -> None:
    directory.mkdir()
    (directory / f"{DEVICE}.json").write_text(text, encoding="ascii")
    assert find_record(DEVICE, "/mnt") is None


@pytest.mark.parametrize("change", [{"pid": "1"}, {"pid": None}, {"pid": -1}, {"started": None}, {"mountpoint": 7}])
def test_a_record_with_wrong_types(change: dict[str, object], own: Record, directory: Path) -> None:
    directory.mkdir()
    (directory / f"{DEVICE}.json").write_text(json.dumps(asdict(own) | change), encoding="ascii")
    assert find_record(DEVICE, own.mountpoint) is None


def test_bytes_that_are_no_text(directory: Path) -> None:
    directory.mkdir()
    (directory / f"{DEVICE}.json").write_bytes(b"\xff\xfe{}")
    assert find_record(DEVICE, "/mnt") is None


def test_another_process_with_the_same_number(own: Record) -> None:
    write_record(replace(own, started=own.started - 1))
    assert find_record(DEVICE, own.mountpoint) is None


def test_a_daemon_that_has_ended(own: Record) -> None:
    """Also while its parent has not asked for its exit status yet: after a kill -9 under an init that is slow."""
    process = subprocess.Popen(["sleep", "60"])
    started = start_time(process.pid)
    assert started is not None
    write_record(replace(own, pid=process.pid, started=started))
    assert find_record(DEVICE, own.mountpoint) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert find_record(DEVICE, own.mountpoint) is None
    process.wait()
    assert find_record(DEVICE, own.mountpoint) is None


@pytest.mark.parametrize("size", [(1 << 20) + 1, 1 << 40])
def test_a_huge_file_is_not_read(own: Record, directory: Path, size: int) -> None:
    """Anybody can make one below the temporary directory, at no cost."""
    path = write_record(own)
    assert path is not None
    with open(path, "ab") as file:
        file.write(b" " * ((1 << 20) - file.tell()))
    assert find_record(DEVICE, own.mountpoint) == own
    os.truncate(path, size)
    assert find_record(DEVICE, own.mountpoint) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_process_of_somebody_else(own: Record, directory: Path) -> None:
    """Else a user could have root's umount wait for any process that he likes."""
    path = write_record(own)
    assert path is not None
    os.chown(path, 65534, 65534)
    for dead in (False, True):
        assert find_record(DEVICE, own.mountpoint, 65534, dead=dead) is None


def test_start_time() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**22 + 1) is None
