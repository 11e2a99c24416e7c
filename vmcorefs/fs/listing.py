"""Listing: every vmcorefs mount of the system, with what its daemon has counted and who uses it.

Nothing is ever opened in a mount, and only the state of one without a record of its daemon is asked for, by a statvfs in a
process of its own that is given up after a second: a dead, stopped or hung mount cannot hold this up.
"""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from typing import Any

from vmcorefs.fs.counters import Counts
from vmcorefs.fs.mounts import TYPE, Holder, MountEntry, answers_of, holders_of, list_mounts
from vmcorefs.fs.record import Record, find_counts, find_record

_ANSWER_TIMEOUT = 1.0


@dataclass(frozen=True)
class ListedMount:
    """One mount. *state*: "ok", "dead" (its daemon is gone), "stopped" (its daemon is suspended), "hung" (no answer), or
    "unknown" (another user's, which only its owner may ask). None: not known. *size* is vmcore's, *memory* the daemon's
    resident bytes; *since* and unix times in seconds.
    """

    mountpoint: str
    source: str
    state: str
    mode: str | None
    size: int | None
    reads: int | None
    bytes: int | None
    errors: int | None
    memory: int | None
    readers: list[Holder]
    pid: int | None
    uid: int
    since: float | None

    def as_dict(self) -> dict[str, Any]:
        r"""For JSON: a path's bytes that are not UTF-8 are escaped as in Python, ``\udcXX``."""
        return asdict(self) | {"readers": [holder._asdict() for holder in self.readers]}


def list_vmcorefs() -> list[ListedMount]:
    """All vmcorefs mounts of this mount namespace, in the order they were mounted."""
    entries = [entry for entry in list_mounts() if entry.type == TYPE]
    records = [find_record(entry.device, entry.mountpoint, entry.owner, dead=True) for entry in entries]
    readers = holders_of({entry.mountpoint for entry in entries}) if entries else {}
    codes = answers_of({entry.mountpoint for entry, record in zip(entries, records, strict=True) if record is None}, _ANSWER_TIMEOUT)
    return [_look_at(entry, record, readers[entry.mountpoint], codes.get(entry.mountpoint))
            for entry, record in zip(entries, records, strict=True)]


def _look_at(entry: MountEntry, record: Record | None, readers: list[Holder], code: int | None) -> ListedMount:
    counts: Counts | None = find_counts(entry)
    served = record.served if record is not None else {}
    alive = record is not None and record.alive
    return ListedMount(
        mountpoint=entry.mountpoint,
        source=entry.source,
        state=_state(record, code),
        mode=_typed(served.get("mode"), str),
        size=_typed(served.get("size"), int),
        reads=counts.reads if counts else None,
        bytes=counts.bytes if counts else None,
        errors=counts.errors if counts else None,
        memory=resident_memory(record.pid) if record is not None and alive else None,
        readers=readers,
        pid=record.pid if record is not None and alive else None,
        uid=entry.owner,
        since=_typed(record.since, float) if record is not None else None,
    )


def _typed(value: Any, kind: type) -> Any:
    """A value out of a record, which is a file that its owner may have changed."""
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _state(record: Record | None, code: int | None) -> str:
    if record is not None:
        letter = _process_state(record) if record.alive else ""
        return {"": "dead", "T": "stopped", "t": "stopped"}.get(letter, "ok")
    if code is None:
        return "hung"
    if code in (errno.ENOTCONN, errno.ECONNABORTED):
        return "dead"
    return "ok" if code == 0 else "unknown"


def _process_state(record: Record) -> str:
    try:
        with open(f"/proc/{record.pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode("ascii")
    except (OSError, IndexError, ValueError):
        return ""


def resident_memory(pid: int) -> int | None:
    """The bytes of a process that are in memory; None where it has gone."""
    try:
        import psutil

        return int(psutil.Process(pid).memory_info().rss)
    except ImportError:
        pass
    except psutil.Error:
        return None
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


