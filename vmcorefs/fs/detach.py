"""Taking a mount away: by the programs that exist for that, which is what a user other than root has."""

from __future__ import annotations

import os
import time

from vmcorefs.errors import system_reason
from vmcorefs.fs.mounts import MountEntry, find_mount, list_mounts

_SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def detach(entry: MountEntry, *, lazy: bool, timeout: float = 30.0) -> str | None:
    """Unmount *entry*, which is the topmost mount at its place; *lazy*: even if it is in use. None when it is gone, else words.

    Nothing is touched if by now another mount is on top.
    """
    import shutil  # these two are heavy, and no mount needs them on its way to the first byte
    import subprocess

    words = "no program to unmount with is installed (fusermount3, fusermount or umount)"
    for command in _commands(entry.mountpoint, lazy=lazy):
        found = shutil.which(command[0], path=":".join(filter(None, (os.environ.get("PATH"), _SYSTEM_PATH))))
        if found is None:
            continue
        now = find_mount(entry.mountpoint)
        if now is None or now.key != entry.key:
            return None if not is_mounted(entry) else "another mount is on top of it"
        try:
            done = subprocess.run([found, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                  timeout=timeout, env={**os.environ, "LC_ALL": "C"})
        except subprocess.TimeoutExpired:
            words = f"{command[0]} did not return within {timeout:g} s"
            continue
        except OSError as error:  # no more processes, no memory
            words = f"{command[0]}: {system_reason(error)}"
            continue
        if done.returncode == 0 or not is_mounted(entry):
            _settle(entry)
            return None
        words = " ".join(done.stderr.decode("utf-8", "replace").split()) or f"{command[0]} ended with {done.returncode}"
        if "busy" in words:
            break
    return words


def _commands(where: str, *, lazy: bool) -> list[list[str]]:
    commands = [[program, "-u", *(["-z"] if lazy else []), "--", where] for program in ("fusermount3", "fusermount")]
    return [*commands, ["umount", *(["-l"] if lazy else []), "--", where]]


def is_mounted(entry: MountEntry) -> bool:
    """Whether it still is, on top or not."""
    return any((mount.mountpoint, mount.key) == (entry.mountpoint, entry.key) for mount in list_mounts())


def _settle(entry: MountEntry) -> None:
    """Mountinfo may lag behind the program's return for a moment."""
    for _ in range(50):
        if not is_mounted(entry):
            return
        time.sleep(0.02)
