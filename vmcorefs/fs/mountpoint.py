"""Is a folder a mount point that can be used: there, a directory, empty, not mounted on, not dead?"""

from __future__ import annotations

import errno
import os

from vmcorefs.errors import MountpointError, printable, system_reason
from vmcorefs.fs.mounts import TYPE, absolute, answers, find_mount

_ANSWER_TIMEOUT = 3.0


def check_mountpoint(path: str, sources: list[str]) -> str:
    """The absolute path to mount at. *sources* are files that must not be covered by the mount.

    Raises MountpointError with what to do.
    """
    name = printable(path)
    if not path:
        raise MountpointError("the mount point is empty; give a directory")
    where = absolute(path)
    entry = find_mount(where)
    if entry is not None and entry.type.startswith("fuse"):
        command = "vmcorefs umount" if entry.type == TYPE else "umount"
        code = answers(where, _ANSWER_TIMEOUT)
        if code in (errno.ENOTCONN, errno.ECONNABORTED):
            raise MountpointError(f"{name}: a dead mount of {printable(entry.source)} is there, its daemon is gone; "
                                  f"clear it with: {command} {name}")
        state = "that does not answer" if code is None else "already"
        raise MountpointError(f"{name}: {printable(entry.source)} is mounted there {state}; unmount it first: {command} {name}")
    try:
        content = os.listdir(where)
    except FileNotFoundError:
        raise MountpointError(f"{name}: the mount point does not exist; create it: mkdir -p {name}") from None
    except NotADirectoryError:
        raise MountpointError(f"{name}: the mount point is not a directory; give an empty directory") from None
    except OSError as error:
        raise MountpointError(f"{name}: the mount point cannot be used: {system_reason(error)}") from error
    for source in sources:
        if os.path.realpath(source).startswith(where.rstrip("/") + "/"):
            raise MountpointError(f"{name}: the mount point contains {printable(source)}, which the mount would cover; "
                                  "choose another directory")
    if content:
        raise MountpointError(f"{name}: the mount point is not empty ({printable(min(content))} is in it); "
                              "choose an empty directory")
    return where
