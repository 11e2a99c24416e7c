"""umount(): returns when the mount is gone, the daemon has ended and the image is released; says who holds it otherwise."""

from __future__ import annotations

import os
import select
from contextlib import suppress

from vmcorefs.errors import BusyError, MountpointError, SystemLacksError, printable
from vmcorefs.fs.detach import detach
from vmcorefs.fs.mounts import TYPE, MountEntry, absolute, find_mount, holders
from vmcorefs.fs.record import Record, find_record, remove_stale_record

_DAEMON_TIMEOUT = 20.0


def umount(mountpoint: str, *, lazy: bool = False, if_mounted: bool = False) -> None:
    """Unmount a vmcorefs mount, a dead one too; *lazy*: detach it even if it is in use (its daemon ends with the last user);
    *if_mounted*: a place where nothing is mounted is no error.

    Raises MountpointError (no such mount), BusyError (in use, or the daemon did not end), SystemLacksError (not permitted).
    """
    name = printable(mountpoint)
    where = absolute(mountpoint)
    entry = find_mount(where)
    if entry is None and if_mounted:
        return
    if entry is None or entry.type != TYPE:
        what = "nothing is mounted there" if entry is None else f"a {entry.type} is mounted there"
        raise MountpointError(f"{name}: not a vmcorefs mount ({what}); all vmcorefs mounts: vmcorefs list")
    record = find_record(entry.device, where, entry.owner)
    daemon = _open_daemon(record)
    try:
        words = detach(entry, lazy=lazy)
        if words is not None:
            raise _refused(name, entry, words)
        if daemon is not None and not lazy and not _wait(daemon):
            assert record is not None
            raise BusyError(f"{name}: unmounted, but its daemon (pid {record.pid}) did not end within {_DAEMON_TIMEOUT:.0f} s "
                            "and may still hold the image (a container that was started since has the mount, too?)")
        remove_stale_record(entry.device)
    finally:
        if daemon is not None:
            os.close(daemon)


def _refused(name: str, entry: MountEntry, words: str) -> BusyError | SystemLacksError:
    busy = holders(entry.mountpoint)
    if busy or "busy" in words:
        who = ", ".join(str(holder) for holder in busy[:5]) or "somebody that cannot be seen from here"
        return BusyError(f"{name}: in use by {who}; end that first, or detach it with: vmcorefs umount --lazy {name}")
    if any(word in words for word in ("not permitted", "must be superuser", "not found in /etc/mtab", "does not match")):
        return SystemLacksError(f"{name}: cannot unmount: {words}; only its owner or root may")
    return BusyError(f"{name}: cannot unmount: {words}")


def _open_daemon(record: Record | None) -> int | None:
    if record is None:
        return None
    with suppress(OSError):
        return os.pidfd_open(record.pid)
    return None


def _wait(daemon: int) -> bool:
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    return bool(poll.poll(_DAEMON_TIMEOUT * 1000))
