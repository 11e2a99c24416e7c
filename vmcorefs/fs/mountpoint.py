"""Is a folder a mount point that can be used: there, a directory, empty, not mounted on, not dead?"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Collection
from contextlib import suppress

from vmcorefs.errors import MountpointError, printable, system_reason
from vmcorefs.fs.detach import detach
from vmcorefs.fs.mounts import TYPE, MountEntry, absolute, answers, find_mount
from vmcorefs.fs.record import remove_stale_record

log = logging.getLogger("vmcorefs.fs")

_ANSWER_TIMEOUT = 3.0
_CLAIM_TIMEOUT = 10.0
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def check_mountpoint(path: str, sources: Collection[str], *, stale: str = "refuse", nonempty: bool = False) -> str:
    """The absolute path to mount at. *sources* are files that must not be covered by the mount; *nonempty*: what is in the
    directory may be. *stale* says what to do with a dead vmcorefs mount of this user: "refuse", "accept" (for now) or "clear".

    Raises MountpointError with what to do.
    """
    name = printable(path)
    if not path:
        raise MountpointError("the mount point is empty; give a directory")
    where = absolute(path)
    while (entry := find_mount(where)) is not None and entry.type.startswith("fuse"):
        _check_stale(entry, name, replaced=stale != "refuse")
        if stale != "clear":
            return where
        _clear(entry, name)
    try:
        content = os.listdir(where)
    except FileNotFoundError:
        raise MountpointError(f"{name}: the mount point does not exist; create it: mkdir -p {name}") from None
    except NotADirectoryError:
        raise MountpointError(f"{name}: the mount point is not a directory; give an empty directory{_swapped(name, sources)}") from None
    except OSError as error:
        raise MountpointError(f"{name}: the mount point cannot be used: {system_reason(error)}") from error
    for source in sources:
        if _contains(where, source):
            raise MountpointError(f"{name}: the mount point contains {printable(source)}, which the mount would cover; "
                                  "choose another directory")
    if content and not nonempty:
        raise MountpointError(f"{name}: the mount point is not empty ({printable(min(content))} is in it); "
                              "choose an empty directory, or cover what is there with -o nonempty")
    return where


class Claim:
    """A lock on the directory *where*, until the mount on it answers: of two who mount there at the same time the second waits,
    and then sees the first one's mount. Where it cannot be had (NFS; somebody keeps it) the mount is made without.
    """

    def __init__(self, where: str):
        self._fd = -1
        with suppress(OSError):
            self._fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            end = time.monotonic() + _CLAIM_TIMEOUT
            while not _lock(self._fd) and time.monotonic() < end:
                time.sleep(0.02)

    def release(self) -> None:
        """Let the next one have it. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _lock(descriptor: int) -> bool:
    """Whether it is locked now. Raises OSError where it cannot be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_stale(entry: MountEntry, name: str, *, replaced: bool) -> None:
    """Returns if the mount *entry* may be cleared away. Raises MountpointError otherwise: a living one is never touched."""
    command = "vmcorefs umount" if entry.type == TYPE else "umount"
    source = printable(entry.source)
    code = answers(entry.mountpoint, _ANSWER_TIMEOUT)
    if code not in _DEAD:
        if code is None:
            raise MountpointError(f"{name}: {source} is mounted there and does not answer (is its daemon stopped, or its disk dead?); "
                                  f"unmount it first: {command}{' --lazy' if entry.type == TYPE else ' -l'} {name}")
        raise MountpointError(f"{name}: {source} is mounted there already; unmount it first: {command} {name}")
    if not replaced or entry.type != TYPE:
        advice = f" with: {command} {name}" + (", or mount with --replace-stale" if entry.type == TYPE else "")
        raise MountpointError(f"{name}: a dead mount of {source} is there, its daemon is gone; clear it{advice}")
    if entry.owner != os.geteuid():
        raise MountpointError(f"{name}: a dead mount of {source} is there, which user id {entry.owner} mounted; --replace-stale "
                              f"clears only one's own; its owner or root may clear it with: {command} {name}")


def _clear(entry: MountEntry, name: str) -> None:
    source = printable(entry.source)
    words = detach(entry, lazy=True)
    if words is not None:
        raise MountpointError(f"{name}: the dead mount of {source} cannot be cleared: {words}")
    remove_stale_record(entry.device)
    log.warning("%s: a dead mount of %s was there and has been cleared", name, source)


def _swapped(name: str, sources: Collection[str]) -> str:
    """A hint, where what should be the image is a directory, too."""
    source = next(iter(sources), "")
    return f" (image and mount point swapped? vmcorefs mount {name} {printable(source)})" if os.path.isdir(source) else ""


def _contains(where: str, source: str) -> bool:
    """Whether *source*, or a link by which it is named, is in the directory *where*, by whatever name (a bind mount shows the same
    directory elsewhere).
    """
    target = os.stat(where)
    for path in (os.path.realpath(source), os.path.abspath(source)):
        folder = os.path.dirname(path)
        while True:
            with suppress(OSError):
                if os.path.samestat(os.stat(folder), target):
                    return True
            if folder == (folder := os.path.dirname(folder)):
                break
    return False
