"""Listing: every vmcorefs mount of the system, with what its daemon has counted and who uses it.

Nothing is ever opened in a mount. A mount whose daemon is gone or suspended is not asked at all, any other by a statvfs in a
process of its own that is given up after a second: a dead, stopped or hung mount cannot hold this up.
"""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from vmcorefs.fs.mounts import TYPE, Holder, MountEntry, answers_of, holders_of, list_mounts
from vmcorefs.fs.record import Record, find_counts, find_record

_ANSWER_TIMEOUT = 1.0
_LARGEST = 1 << 63
_LONGEST = 30  # characters of a mode

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class ListedMount:
    """One mount. *state*: "ok", "dead" (its daemon is gone), "stopped" (its daemon is suspended), "hung" (no answer), or
    "unknown" (it may not be asked: another user's, or another mount covers it). None: not known. *size* is vmcore's, *memory*
    the daemon's resident bytes; *since* is a unix time in seconds.
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
    mounts = list_mounts()
    top = {entry.mountpoint: entry.id for entry in mounts}  # the last one at a place covers the others
    entries = [entry for entry in mounts if entry.type == TYPE]
    readers = holders_of({entry.mountpoint for entry in entries}) if entries else {}
    looks = [_Look(entry, readers[entry.mountpoint], covered=top[entry.mountpoint] != entry.id) for entry in entries]
    codes = answers_of({look.entry.mountpoint for look in looks if look.may_be_asked}, _ANSWER_TIMEOUT)
    return [look.result(codes.get(look.entry.mountpoint)) for look in looks]


class _Look:
    """What is known of a mount without asking it."""

    def __init__(self, entry: MountEntry, readers: list[Holder], *, covered: bool):
        self.entry = entry
        self._readers = readers
        self._record = _record_of(entry)
        self._daemon = "unknown" if self._record is None else _state_of_daemon(self._record)
        self._counts = find_counts(entry)
        self.may_be_asked = not covered and self._daemon in {"ok", "unknown"}

    def result(self, code: int | None) -> ListedMount:
        """*code* counts if the mount was asked: errno of the answer, None if there was none."""
        counts = find_counts(self.entry)
        state = self._daemon
        if self.may_be_asked and code is None:
            state = "hung" if counts is None or counts == self._counts else "ok"  # one that goes on reading is slow, not hung
        elif self.may_be_asked and code in {errno.ENOTCONN, errno.ECONNABORTED}:
            state = "dead"
        elif self.may_be_asked and code == 0:
            state = "ok"
        record = self._record
        served = record.served if record is not None else {}
        pid = record.pid if record is not None and self._daemon != "dead" else None
        return ListedMount(
            mountpoint=self.entry.mountpoint,
            source=self.entry.source,
            state=state,
            mode=_name(served.get("mode")),
            size=_number(served.get("size"), int),
            reads=counts.reads if counts else None,
            bytes=counts.bytes if counts else None,
            errors=counts.errors if counts else None,
            memory=resident_memory(pid) if pid is not None else None,
            readers=self._readers,
            pid=pid,
            uid=self.entry.owner,
            since=_number(record.since, float) if record is not None else None,
        )


# A record is a file that its owner may have changed: whatever is in it, and whatever process it names.


def _record_of(entry: MountEntry) -> Record | None:
    return find_record(entry.device, entry.mountpoint, entry.owner, dead=True)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST else None


def _number(value: Any, kind: type[_Number]) -> _Number | None:
    return value if isinstance(value, kind) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


def _state_of_daemon(record: Record) -> str:
    letter = _process_state(record) if record.alive else ""
    return {"": "dead", "T": "stopped", "t": "stopped"}.get(letter, "ok")


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


