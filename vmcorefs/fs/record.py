"""Record: what a mount's daemon writes down about itself, so that umount can wait for its end and info can read it.

A file of mode 0600, /run/vmcorefs/MAJOR:MINOR.json for root, else in XDG_RUNTIME_DIR or below the temporary directory.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """*started* is the daemon's start time in clock ticks since boot: with the pid it names one process for good."""

    pid: int
    started: int
    mountpoint: str
    device: str
    capture: dict[str, Any]


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None if there is no such process, or it has ended and was only not waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            return None if fields[0] in {b"Z", b"X"} else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _own_directory() -> str:
    if os.geteuid() == 0:
        return "/run/vmcorefs"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime, "vmcorefs") if runtime else os.path.join(tempfile.gettempdir(), f"vmcorefs-{os.geteuid()}")


def _directories() -> Iterator[str]:
    yield _own_directory()
    if os.geteuid() == 0:
        with suppress(OSError):
            for uid in os.listdir("/run/user"):
                yield f"/run/user/{uid}/vmcorefs"
        with suppress(OSError):
            for name in os.listdir(tempfile.gettempdir()):
                if name.startswith("vmcorefs-"):
                    yield os.path.join(tempfile.gettempdir(), name)


def write_record(record: Record) -> str | None:
    """Write it; the path, or None where it cannot be written (umount then does not wait, nothing else is lost)."""
    directory = _own_directory()
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return None
        path = os.path.join(directory, f"{record.device}.json")
        with suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        return path
    except OSError:
        return None


def remove_record(path: str | None) -> None:
    """Remove a daemon's own record."""
    if path is not None:
        with suppress(OSError):
            os.unlink(path)


def remove_stale_record(device: str, mountpoint: str) -> None:
    """Remove what a killed daemon left behind about a mount that is gone now."""
    path = os.path.join(_own_directory(), f"{device}.json")
    with suppress(OSError, ValueError, TypeError, KeyError), open(path, encoding="utf-8") as file:
        record = json.load(file)
        if record["mountpoint"] == mountpoint and start_time(record["pid"]) != record["started"]:
            os.unlink(path)


def find_record(device: str, mountpoint: str, owner: int | None = None) -> Record | None:
    """The record of the mount at *mountpoint*; None if there is none that belongs to a living daemon of this mount.

    It counts only as a regular file of *owner*, who mounted (default: this user): root looks in places where anybody may
    write, a FIFO or a record of somebody else's mount among them.
    """
    owner = os.geteuid() if owner is None else owner
    for directory in _directories():
        path = os.path.join(directory, f"{device}.json")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        with os.fdopen(descriptor, encoding="utf-8") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
                continue
            try:
                record = Record(**json.load(file))
            except (ValueError, TypeError, OSError):
                continue
        if record.mountpoint == mountpoint and start_time(record.pid) == record.started:
            return record
    return None
