"""Ahead: work that will be asked for next, done meanwhile by threads.

Decompression leaves Python's lock, so that two blocks take the time of one. The threads end with the process, whatever they
wait for. A process that a fork made begins without any: they are not in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from queue import SimpleQueue

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.after_fork import renew_after_fork

THREADS_LIMIT = 2  # each one holds a block and a decoder, of xz some 8 MiB: four would not fit into the 64 MiB of a daemon


def threads() -> int:
    """How many threads are worth their while: one for each processor that this process may use, but 0 where there is one alone."""
    count = len(os.sched_getaffinity(0))
    return min(count, THREADS_LIMIT) if count > 1 else 0


class Job:
    """One piece of work, and what came out of it."""

    def __init__(self, work: Callable[[], bytes]):
        self._work = work
        self._done = threading.Event()
        self._data: bytes | None = None
        self._error: OldmemReadError | None = None

    def run(self) -> None:
        """Do it. What is no OldmemReadError is found out again by whoever asks, in his own thread."""
        try:
            self._data = self._work()
        except OldmemReadError as error:
            self._error = error
        finally:
            self._done.set()

    def result(self) -> bytes | None:
        """Wait for it; None where it has to be done again. Raises OldmemReadError."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._data


class _Pool:
    """The threads of this process."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without threads."""
        self.lock = threading.Lock()
        self.queue: SimpleQueue[Job] = SimpleQueue()
        self.started = 0

    def start(self, job: Job) -> bool:
        """Give *job* to a thread. False: there is none."""
        with self.lock:
            try:
                while self.started < threads():
                    threading.Thread(target=self._serve, args=(self.queue,), name="vmcorefs-ahead", daemon=True).start()
                    self.started += 1
            except RuntimeError:  # a limit of processes: it is slower without
                pass
            if not self.started:
                return False
        self.queue.put(job)
        return True

    @staticmethod
    def _serve(queue: SimpleQueue[Job]) -> None:
        while True:
            with suppress(Exception):
                queue.get().run()


class Ahead:
    """Results by key, of work that was begun before anybody asked for it. Not more than *limit* at a time. Thread safe."""

    def __init__(self, limit: int | None = None):
        self.limit = threads() if limit is None else limit
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget all that was begun; nobody else uses it now."""
        self._lock = threading.Lock()
        self._jobs: dict[Hashable, Job] = {}

    def begin(self, key: Hashable, work: Callable[[], bytes]) -> None:
        """Have *work* done, unless that was begun before; what nobody has asked for since longest is forgotten."""
        with self._lock:
            if key in self._jobs or not self.limit:
                return
            job = Job(work)
            if _pool.start(job):
                self._jobs[key] = job
            while len(self._jobs) > self.limit:
                del self._jobs[next(iter(self._jobs))]

    def take(self, key: Hashable) -> Job | None:
        """The work for *key*, finished or not; None where it was not begun. It is not kept any longer."""
        with self._lock:
            return self._jobs.pop(key, None)


_pool = _Pool()
