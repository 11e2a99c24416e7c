"""umount(): returns when the mount is gone, the daemon has ended and the image is released; says who holds it otherwise."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from contextlib import suppress

from vmcorefs.errors import BusyError, MountpointError, SystemLacksError, printable
from vmcorefs.fs.mounts import TYPE, absolute, find_mount, holders
from vmcorefs.fs.record import Record, find_record, remove_stale_record

_DAEMON_TIMEOUT = 20.0
_COMMAND_TIMEOUT = 30.0


def umount(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount a vmcorefs mount, a dead one too; *lazy*: detach it even if it is in use (its daemon ends with the last user).

    Raises MountpointError (no such mount), BusyError (in use, or the daemon did not end), SystemLacksError (not permitted).
    """
    name = printable(mountpoint)
    where = absolute(mountpoint)
    entry = find_mount(where)
    if entry is None or entry.type != TYPE:
        what = "nothing is mounted there" if entry is None else f"a {entry.type} is mounted there"
        raise MountpointError(f"{name}: not a vmcorefs mount ({what}); vmcorefs mounts are in: findmnt -t {TYPE}")
    record = find_record(entry.device, where, entry.owner)
    daemon = _open_daemon(record)
    try:
        words = _unmount(where, lazy=lazy)
        if words is not None:
            busy = holders(where)
            if busy or "busy" in words:
                who = ", ".join(str(holder) for holder in busy[:5]) or "somebody that cannot be seen from here"
                raise BusyError(f"{name}: in use by {who}; end that first, or detach it with: vmcorefs umount --lazy {name}")
            if "not permitted" in words or "must be superuser" in words:
                raise SystemLacksError(f"{name}: cannot unmount: {words}; only its owner or root may")
            raise BusyError(f"{name}: cannot unmount: {words}")
        if daemon is not None and not lazy and not _wait(daemon):
            assert record is not None
            raise BusyError(f"{name}: unmounted, but its daemon (pid {record.pid}) did not end within {_DAEMON_TIMEOUT:.0f} s "
                            "and may still hold the image")
        remove_stale_record(entry.device, where)
    finally:
        if daemon is not None:
            os.close(daemon)


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


def _unmount(where: str, *, lazy: bool) -> str | None:
    """None when done, else the words of the last program that was tried."""
    words = "no program to unmount with is installed (umount, fusermount3 or fusermount)"
    commands = [["umount", *(["-l"] if lazy else []), "--", where]]
    commands += [[program, "-u", *(["-z"] if lazy else []), "--", where] for program in ("fusermount3", "fusermount")]
    if os.geteuid() != 0:
        commands.append(commands.pop(0))
    before = find_mount(where)
    for command in commands:
        found = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/sbin:/sbin")
        if found is None:
            continue
        try:
            done = subprocess.run([found, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                  timeout=_COMMAND_TIMEOUT, env={**os.environ, "LC_ALL": "C"})
        except subprocess.TimeoutExpired:
            words = f"{command[0]} did not return within {_COMMAND_TIMEOUT:.0f} s"
            continue
        if done.returncode == 0 or find_mount(where) != before:
            _settle(where, before)
            return None
        words = " ".join(done.stderr.decode("utf-8", "replace").split()) or f"{command[0]} ended with {done.returncode}"
        if "busy" in words:
            break
    return words


def _settle(where: str, before: object) -> None:
    """Mountinfo may lag behind the program's return for a moment."""
    for _ in range(50):
        if find_mount(where) != before:
            return
        time.sleep(0.02)
