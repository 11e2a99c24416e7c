"""Late: a file that a process of its own makes after the mount answers; it appears when it is ready, or never."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from vmcorefs.fs.descriptors import close_other_fds

_PATIENCE = 0.3
_PR_SET_PDEATHSIG = 1


class Late:
    """*make* gives the file's bytes, or None where it cannot be made. It runs in a child process, so that a slow or broken one
    cannot hold up a read of the other files.
    """

    def __init__(self, make: Callable[[], bytes | None]):
        self._make = make
        self._pid: int | None = None
        self._memory = -1
        self._waiting = threading.Thread(target=self._wait, name="vmcorefs-late", daemon=True)
        self.size: int | None = None

    def start(self, keep_fds: Collection[int]) -> None:
        """Fork the process; it keeps the descriptors *keep_fds* and no other (one of /dev/fuse would keep a mount alive)."""
        parent = os.getpid()
        try:
            self._memory = os.memfd_create("vmcorefs-late", os.MFD_CLOEXEC)
            self._pid = os.fork()
        except OSError:  # no more processes: the file does not appear
            return
        if self._pid == 0:
            self._run(parent, {*keep_fds, self._memory})
        self._waiting.start()

    def _run(self, parent: int, keep: set[int]) -> None:
        status = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            _die_with(parent)
            os.setsid()  # no Ctrl-C on the terminal of the mount command
            close_other_fds(keep)
            for _ in range(3):  # whoever reads what was standard output waits for its end
                os.open(os.devnull, os.O_RDWR)
            data = self._make()
            if data is not None:
                view, done = memoryview(data), 0
                while done < len(view):
                    done += os.pwrite(self._memory, view[done:], done)
                status = 0
        finally:
            os._exit(status)

    def _wait(self) -> None:
        assert self._pid is not None
        ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        pid, self._pid = self._pid, None  # before the number is free for another process
        os.waitpid(pid, 0)
        if ended is not None and (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0):
            self.size = os.fstat(self._memory).st_size

    def ready(self) -> bool:
        """Whether the file is there. Never waits."""
        return self.size is not None

    def preadinto(self, view: memoryview, offset: int) -> int:
        """Bytes of the ready file."""
        return os.preadv(self._memory, [view], offset)

    def stop(self) -> None:
        """End the process if it still runs: it holds the image open. One that hangs in a bad disk is not waited for."""
        if (pid := self._pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._waiting.join(_PATIENCE)


def _die_with(parent: int) -> None:
    """A daemon that is killed leaves nobody who holds the image."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
