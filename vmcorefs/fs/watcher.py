"""Watcher: the thread of a daemon that waits for signals and for idleness, and takes the mount away.

A Python signal handler runs only when the next request comes, and on a mount that nobody uses none comes.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from vmcorefs.errors import VmcorefsError, printable
from vmcorefs.fs.descriptors import close_device
from vmcorefs.fs.detach import detach
from vmcorefs.fs.mounts import MountEntry, find_mount, list_mounts
from vmcorefs.fs.operations import Operations

log = logging.getLogger("vmcorefs.fs")

_STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_REPORT = signal.SIGUSR1
SIGNALS = _STOP | {_REPORT}
_PATIENCE = 0.5
"""Seconds that the serving thread has to end by itself after the mount is gone; with the rest it makes less than two."""
_DETACH_TIMEOUT = 1.5
_START_TIMEOUT = 10.0
"""Seconds to wait, upon a signal during the start, for a mount that libfuse may be making: it must not be left behind, dead."""
_RETRY = 5.0
"""Seconds until an idle mount that is in use (a shell stands in it) is tried again."""
_MNT_DETACH = 2


class Watcher:
    """*finish* cleans up and is called at most once, by whoever comes first: :meth:`ended`, or this thread before it ends the
    process under a mount that is still in use.

    ``stopping``: a signal has come.
    """

    def __init__(self, operations: Operations, mountpoint: str, idle_timeout: float | None, finish: Callable[[], None]):
        self._operations = operations
        self._mountpoint = mountpoint
        self._idle_timeout = idle_timeout
        self._finish = finish
        self._ending = threading.Lock()  # held while _over is set, and by what must not happen after that
        self._over = threading.Event()
        self._settled = threading.Event()  # the mount is there, or there will be none
        self._entry: MountEntry | None = None
        self._mask: set[signal.Signals | int] = set()
        self._thread = threading.Thread(target=self._watch, name="vmcorefs-watcher", daemon=True)
        self.stopping = False

    def start(self) -> None:
        """Block the signals in all threads that are started from now on, and wait for them in one of its own."""
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS))
        self._thread.start()

    def leave(self) -> None:
        """Unmount and end, as upon a signal. For other threads than the one that serves."""
        self.while_mounted(lambda: signal.pthread_kill(self._thread.ident or 0, signal.SIGTERM))

    def while_mounted(self, action: Callable[[], None]) -> None:
        """Do it unless the end has begun, which waits for it."""
        with self._ending:
            if not self._over.is_set():
                action()

    def mounted(self, entry: MountEntry | None) -> None:
        """The mount is there; idleness counts from now on."""
        self._operations.used = time.monotonic()
        self._entry = entry
        self._settled.set()

    def still_mounted(self) -> MountEntry | None:
        """The mount as it is now, wherever it has been moved to; None if it is gone."""
        return next((entry for entry in list_mounts() if self._entry is not None and entry.key == self._entry.key), None)

    def ended(self) -> None:
        """The serving thread is at its end."""
        self._settled.set()
        with self._ending:
            if not self._over.is_set():
                self._over.set()
                self._finish()
        with suppress(ProcessLookupError):  # wake it; it must not take signals that are meant for somebody else from now on
            signal.pthread_kill(self._thread.ident or 0, _REPORT)
        self._thread.join()
        if not self.stopping:  # a second signal right after the first must not make a failure of a clean end
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _watch(self) -> None:
        while not self._over.is_set():
            info = signal.sigtimedwait(SIGNALS, self._until_idle())
            if self._over.is_set():
                return
            if info is None:
                self._leave_if_idle()
            elif info.si_signo == _REPORT:
                log.info("%s: %s", printable(self._mountpoint), self._operations.counters.counts())
            else:
                self._stop()
                return

    def _until_idle(self) -> float:
        if self._idle_timeout is None or self._entry is None:
            return 3600.0 if self._idle_timeout is None else 0.1
        return max(0.01, self._operations.used + self._idle_timeout - time.monotonic())

    def _leave_if_idle(self) -> None:
        if self._idle_timeout is None or self._entry is None or self._until_idle() > 0.01:
            return
        words = self._detach(lazy=False)
        if words is None:
            log.info("%s: not used for %g s, unmounted", printable(self._mountpoint), self._idle_timeout)
            self._idle_timeout = None  # where another mount namespace has a copy, the daemon lives on for that
        else:  # somebody has a file open or stands in it
            self._operations.used = max(self._operations.used, time.monotonic() - self._idle_timeout + min(_RETRY, self._idle_timeout))

    def _stop(self) -> None:
        """Unmount, lazily; the serving thread then ends by itself, unless the mount is in use or a read hangs in a bad disk."""
        self.stopping = True
        self._settled.wait(_START_TIMEOUT)
        words = self._detach(lazy=True)
        if words is not None:
            log.error("%s: cannot unmount: %s; a dead mount stays", printable(self._mountpoint), words)
        elif self._over.wait(_PATIENCE):
            return
        with self._ending:
            if self._over.is_set():
                return
            self._over.set()
            self._finish()
            close_device()
            if self._entry is not None and words is None:
                log.warning("%s: was in use when it was unmounted; whoever still reads there is cut off", printable(self._mountpoint))
            logging.shutdown()
            os._exit(0 if words is None else 1)

    def _detach(self, *, lazy: bool) -> str | None:
        """None when the mount is gone, else why not."""
        try:
            return self._detach_if_mounted(lazy=lazy)
        except (OSError, VmcorefsError) as error:  # no more descriptors, no /proc; this thread must live on
            return str(error)

    def _detach_if_mounted(self, *, lazy: bool) -> str | None:
        entry = self.still_mounted()
        if entry is None:
            return None
        top = find_mount(entry.mountpoint)
        if os.geteuid() == 0 and top is not None and top.key == entry.key:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.umount2(os.fsencode(entry.mountpoint), _MNT_DETACH if lazy else 0) == 0:
                return None
            number = ctypes.get_errno()
            if number != errno.EPERM:
                return os.strerror(number)
        return detach(entry, lazy=lazy, timeout=_DETACH_TIMEOUT)
