"""Late: a file that a process of its own makes after the mount answers; it appears when it is ready, or never."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress

from vmcorefs.fs.descriptors import close_other_fds


class Late:
    """*make* gives the file's bytes, or None where it cannot be made. It runs in a child process, so that a slow or broken one
    cannot hold up a read of the other files. Used by the thread that serves the mount.
    """

    def __init__(self, make: Callable[[], bytes | None]):
        self._make = make
        self._pid: int | None = None
        self._memory = -1
        self.size: int | None = None

    def start(self, keep_fds: Collection[int]) -> None:
        """Fork the process; it keeps the descriptors *keep_fds* and no other (one of /dev/fuse would keep a mount alive)."""
        self._memory = os.memfd_create("vmcorefs-late", os.MFD_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            self._run({*keep_fds, self._memory, 0, 1, 2})

    def _run(self, keep: set[int]) -> None:
        status = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            close_other_fds(keep)
            data = self._make()
            if data is not None:
                view, done = memoryview(data), 0
                while done < len(view):
                    done += os.pwrite(self._memory, view[done:], done)
                status = 0
        finally:
            os._exit(status)

    def ready(self) -> bool:
        """Whether the file is there. Never waits."""
        if self._pid is not None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = None
                if status == 0:
                    self.size = os.fstat(self._memory).st_size
        return self.size is not None

    def preadinto(self, view: memoryview, offset: int) -> int:
        """Bytes of the ready file."""
        return os.preadv(self._memory, [view], offset)

    def stop(self) -> None:
        """End the process if it still runs: it holds the image open."""
        if self._pid is not None:
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = None
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
