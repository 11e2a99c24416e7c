"""The mounts of this host, from /proc/self/mountinfo, and who holds one. A mounted path itself is never asked for them:
on a dead or hung mount that fails or hangs.
"""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from vmcorefs.errors import SystemLacksError, printable

TYPE = "fuse.vmcorefs"
_TOGETHER = 8  # paths asked at the same time: each takes a process and a descriptor
_USER_ID = re.compile(rb"(?:^|,)user_id=([0-9]+)(?:,|$)")
_OCTAL = re.compile(rb"\\([0-7]{3})")


class MountEntry(NamedTuple):
    """A row of mountinfo. *device* is MAJOR:MINOR; paths as this process sees them."""

    device: str
    mountpoint: str
    type: str
    source: str
    owner: int = -1  # user_id of a FUSE mount
    id: int = -1

    @property
    def key(self) -> tuple[int, str]:
        """What names this mount alone: ids are given again, the device's number not as long as its daemon lives."""
        return self.id, self.device


class Holder(NamedTuple):
    """A process that uses a mount."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def _unescape(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))


def parse_mountinfo(data: bytes) -> list[MountEntry]:
    """Rows in the order of the file; of two at one mount point the later one is on top. Format: proc_pid_mountinfo(5)."""
    entries = []
    for line in data.split(b"\n"):  # the kernel escapes a newline in a path, and no other character that ends a line
        fields = line.split(b" ")
        if b"-" not in fields[6:]:
            continue
        dash = fields.index(b"-", 6)
        owner = _USER_ID.search(fields[-1])
        entries.append(MountEntry(fields[2].decode(), _unescape(fields[4]), fields[dash + 1].decode(),
                                  _unescape(fields[dash + 2]), int(owner[1]) if owner else -1, int(fields[0])))
    return entries


def list_mounts() -> list[MountEntry]:
    """All mounts of this mount namespace. Raises SystemLacksError without /proc, OSError where it cannot be read."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return parse_mountinfo(file.read())
    except FileNotFoundError:
        raise SystemLacksError("/proc is not mounted, which tells what is mounted where; mount it: mount -t proc proc /proc") from None


def find_mount(mountpoint: str) -> MountEntry | None:
    """The topmost mount at exactly this absolute path."""
    found = [entry for entry in list_mounts() if entry.mountpoint == mountpoint]
    return found[-1] if found else None


def absolute(path: str) -> str:
    """Absolute path of a mount point with links resolved, without a system call on a mounted directory itself."""
    path = os.path.abspath(path)
    if any(entry.mountpoint == path for entry in list_mounts()):
        return path
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) if not os.path.islink(path) \
        else os.path.realpath(path)


def answers(path: str, timeout: float) -> int | None:
    """Errno of a statvfs of *path* (0: it answers; EACCES: another user's), None if there was no answer in *timeout* seconds.

    statvfs always asks the daemon; a stat is answered from the kernel's cache, on a dead mount too. Asked in a child process,
    since it cannot be interrupted on a hung mount; without our standard descriptors, whose readers would wait for it.
    """
    return answers_of([path], timeout)[path]


def answers_of(paths: Iterable[str], timeout: float) -> dict[str, int | None]:
    """:func:`answers` of several paths, of which some are asked at the same time."""
    found: dict[str, int | None] = {}
    left = list(paths)
    while left:
        some, left = left[:_TOGETHER], left[_TOGETHER:]
        asked = {path: _ask(path) for path in some}
        end = time.monotonic() + timeout
        found |= {path: _answer(pid, read_end, max(0.0, end - time.monotonic())) for path, (pid, read_end) in asked.items()}
    return found


def _ask(path: str) -> tuple[int, int]:
    """(pid, pipe) of a child process that asks for *path*."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            # the kernel does not ask for a user who may not look in, and fills the answer with zeros (fuse_statfs)
            code = 0 if os.statvfs(path).f_bsize else errno.EACCES
        except OSError as error:
            code = error.errno or 255
        os.write(write_end, bytes([min(code, 255)]))
        os._exit(0)
    os.close(write_end)
    return pid, read_end


def _answer(pid: int, read_end: int, timeout: float) -> int | None:
    try:
        ready, _, _ = select.select([read_end], [], [], timeout)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return None
        data = os.read(read_end, 1)
        os.waitpid(pid, 0)
        return data[0] if data else 255
    finally:
        os.close(read_end)


def holders(mountpoint: str) -> list[Holder]:
    """The processes with an open file, a mapping, their root or working directory in *mountpoint*.

    Found by the links in /proc alone (psutil's open_files would stat them and hang on a stopped mount).
    """
    return holders_of([mountpoint])[mountpoint]


def holders_of(mountpoints: Collection[str]) -> dict[str, list[Holder]]:
    """:func:`holders` of several mounts in one pass over /proc."""
    found: dict[str, list[Holder]] = {mountpoint: [] for mountpoint in mountpoints}
    for pid in _pids():
        # A process that hangs in mmap() of a file of a stopped mount holds its memory map locked, and before Linux 6.17 a read of
        # /proc/PID/maps would wait for that lock. It has the file open, too: whoever is found by a link is not asked for maps.
        held: set[str] = set()
        for paths in (_links_of(pid), _mapped_by(pid)):
            held = held or {mountpoint for path in paths for mountpoint in mountpoints if _is_in(path, mountpoint)}
        if held:
            holder = Holder(pid, process_name(pid))
            for mountpoint in held:
                found[mountpoint].append(holder)
    return found


def process_name(pid: int) -> str:
    """The process's name for people, at most 15 bytes; "?" where it has gone.

    Not by psutil, which completes a long one by the command line: that can only be read when the process's memory map is not
    locked, and hangs with a process that hangs in mmap().
    """
    with suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return printable(file.read().rstrip("\n")) or "?"
    return "?"


def _pids() -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != own:
            yield int(name)


def _links_of(pid: int) -> Iterator[str]:
    base = f"/proc/{pid}"
    for link in ("cwd", "root"):
        with suppress(OSError):
            yield os.readlink(f"{base}/{link}")
    with suppress(OSError):
        for name in os.listdir(f"{base}/fd"):
            with suppress(OSError):
                yield os.readlink(f"{base}/fd/{name}")


def _mapped_by(pid: int) -> Iterator[str]:
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(b" ", 5)
            if len(fields) == 6 and fields[5].lstrip().startswith(b"/"):
                path = fields[5].lstrip()
                yield os.fsdecode(path)
                yield os.fsdecode(path.replace(b"\\012", b"\n"))  # only this is escaped there, and a backslash is not


def _is_in(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")
