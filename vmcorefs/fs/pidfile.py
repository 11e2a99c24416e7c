"""The file that --pidfile names: the daemon's pid, there exactly as long as the mount answers."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from vmcorefs.errors import UsageError, printable, system_reason


class PidFile:
    """Made in two steps: a place that cannot be written to is found out before anything is mounted."""

    def __init__(self, path: str):
        """Check that *path* can be made, and takes the place of nothing but another pid. Raises UsageError."""
        self._path = os.path.abspath(path)
        self._part = f"{self._path}.{os.getpid()}.part"
        self._pid = 0
        self._fd = -1
        if os.path.isdir(self._path):
            raise UsageError(f"--pidfile {printable(path)}: is a directory; give a file")
        if not _may_be_replaced(self._path):
            raise UsageError(f"--pidfile {printable(path)}: is there and holds no pid; give another file")
        if (pid := _living_daemon(self._path)) is not None:
            raise UsageError(f"--pidfile {printable(path)}: is that of another vmcorefs daemon, which lives (pid {pid}); give another file")
        try:
            self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            os.write(self._fd, b"0" * 20)  # a full disk shows here
        except OSError as error:
            self.give_up()
            raise UsageError(f"--pidfile {printable(path)}: cannot be written: {system_reason(error)}; "
                             "give a file in a directory that this user may write to") from error

    @property
    def fd(self) -> int:
        """The open file, to be kept through the fork."""
        return self._fd

    def write(self, pid: int) -> None:
        """The mount answers: the file appears, whole. Raises OSError."""
        os.pwrite(self._fd, f"{pid}\n".encode(), 0)
        os.ftruncate(self._fd, len(f"{pid}\n"))
        os.rename(self._part, self._path)
        self._pid = pid
        fd, self._fd = self._fd, -1
        os.close(fd)

    def give_up(self) -> None:
        """Nothing was mounted."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            with suppress(OSError):
                os.unlink(self._part)

    def remove(self) -> None:
        """The mount ends. A file that somebody else has put there since stays."""
        self.give_up()
        if self._pid and _read(self._path) == b"%d\n" % self._pid:
            with suppress(OSError):
                os.unlink(self._path)


def _may_be_replaced(path: str) -> bool:
    """Whether there is nothing at *path*, or a pid (of a daemon that was killed), or an empty file."""
    content = _read(path)
    return content is None or not content.strip() or content.strip().isdigit()


def _living_daemon(path: str) -> int | None:
    """The pid in the file, if it is that of a vmcorefs process."""
    content = (_read(path) or b"").strip()
    if not content.isdigit() or len(content) > 10:
        return None
    try:
        with open(f"/proc/{int(content)}/cmdline", "rb") as file:
            return int(content) if b"vmcorefs" in file.read(4096) else None
    except OSError:
        return None


def _read(path: str) -> bytes | None:
    """The beginning of a file; None where there is none, "?" for what is no regular file or cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b"?"
        with open(path, "rb") as file:
            return file.read(100)
    except FileNotFoundError:
        return None
    except OSError:
        return b"?"
