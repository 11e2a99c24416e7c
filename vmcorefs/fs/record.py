"""Record: what a mount's daemon writes down about itself, so that umount can wait for its end, and info and list can read it.

A file of mode 0600, /run/vmcorefs/MAJOR:MINOR.json for root, else in XDG_RUNTIME_DIR or below the temporary directory. Beside
it, with the same mode, the counters: MAJOR:MINOR.counters.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vmcorefs.fs.counters import Counters, Counts, read_counts
from vmcorefs.fs.mounts import MountEntry

_LARGEST = 1 << 20  # bytes of a record; a capture with thousands of memory ranges needs some 100 KiB


@dataclass(frozen=True)
class Record:
    """*started* is the daemon's start time in clock ticks since boot: with the pid it names one process for good. *served*: what
    it said about what it serves, for list; *since*: unix time.
    """

    pid: int
    started: int
    mountpoint: str
    device: str
    capture: dict[str, Any]
    served: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether the daemon that wrote it still lives."""
        return start_time(self.pid) == self.started


def user_of(pid: int) -> int | None:
    """The real user id of a process; None where it has gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"Uid:"))
    except (OSError, StopIteration, ValueError):
        return None


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
    if runtime and os.path.isabs(runtime):
        return os.path.join(runtime, "vmcorefs")
    return os.path.join(tempfile.gettempdir(), f"vmcorefs-{os.geteuid()}")


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


def _make_directory() -> str:
    """The directory for our own records, which nobody else may look into. Raises OSError."""
    directory = _own_directory()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NotADirectoryError(directory)
    return directory


def _create(path: str) -> int:
    """A new file in the place of whatever was there. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def write_record(record: Record, counters: Counters | None = None) -> str | None:
    """Write it, and keep *counters* beside it; the path, or None where it cannot be written (umount then does not wait, list
    has no figures, nothing else is lost).
    """
    try:
        path = os.path.join(_make_directory(), f"{record.device}.json")
        if counters is not None:
            descriptor = _create(_counters_path(path))
            try:
                counters.keep_in(descriptor)
            finally:
                os.close(descriptor)
        with os.fdopen(_create(path), "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        return path
    except (OSError, ValueError):
        return None


def _counters_path(path: str) -> str:
    return path.removesuffix(".json") + ".counters"


def remove_record(path: str | None) -> None:
    """Remove a daemon's own record."""
    if path is not None:
        for name in (path, _counters_path(path)):
            with suppress(OSError):
                os.unlink(name)


def remove_stale_record(device: str) -> None:
    """Remove what a killed daemon left behind about a mount that is gone now, wherever that had been moved to."""
    path = os.path.join(_own_directory(), f"{device}.json")
    record = _read(path, os.geteuid())
    if record is not None and not record.alive:
        remove_record(path)


def find_record(device: str, mountpoint: str, owner: int | None = None, *, dead: bool = False) -> Record | None:
    """The record of the mount at *mountpoint*; None if there is none that belongs to a living daemon of this mount.

    *dead*: one of a daemon that was killed is wanted, too. It counts only as a regular file of *owner*, who mounted (default:
    this user), and only with a process of that user: root looks in places where anybody may write, a FIFO or a record of
    somebody else's mount among them.
    """
    owner = os.geteuid() if owner is None else owner
    for directory in _directories():
        record = _read(os.path.join(directory, f"{device}.json"), owner)
        if record is not None and record.mountpoint == mountpoint and (user_of(record.pid) == owner if record.alive else dead):
            return record
    return None


def find_counts(entry: MountEntry) -> Counts | None:
    """What the daemon of a mount has counted; None where that cannot be known."""
    for directory in _directories():
        descriptor = _open(os.path.join(directory, f"{entry.device}.counters"), entry.owner)
        if descriptor is not None:
            try:
                return read_counts(descriptor)
            except OSError:
                continue
            finally:
                os.close(descriptor)
    return None


def _open(path: str, owner: int) -> int | None:
    """A descriptor of a regular file of *owner*, else None. Never waits, whatever somebody has put there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == owner:
        return descriptor
    os.close(descriptor)
    return None


def _read(path: str, owner: int) -> Record | None:
    descriptor = _open(path, owner)
    if descriptor is None:
        return None
    try:
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            return None
        content = json.loads(data.decode())
        known = {row.name for row in fields(Record)}  # a daemon of another version may have written more
        record = Record(**{name: value for name, value in content.items() if name in known})
    except (ValueError, TypeError, AttributeError, OSError, RecursionError):
        return None
    well_formed = (type(record.pid), type(record.mountpoint)) == (int, str) and all(
        isinstance(value, dict) for value in (record.capture, record.served))
    return record if well_formed else None
