"""What the tests of a mount's life share: processes as the kernel sees them, and traces that a mount must not leave."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.mounts.mounting import PROGRAM, Path_, clear, command_line, daemons_of, row_of, wait_until

SOON = 2.0
"""Seconds in which a daemon ends upon a signal: the promise."""


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def state(pid: int) -> str:
    """The letter of ps; "" where it has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode("ascii")
    return ""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) in {"T", "t"}, "the stop")
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Watched:
    """A process of somebody else's, whose end can be waited for."""

    def __init__(self, pid: int):
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def seconds_to_end(self, timeout: float = 10.0) -> float:
        """From now on; fails where it does not end."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        start = time.monotonic()
        assert poll.poll(timeout * 1000), f"process {self.pid} {command_line(self.pid)} has not ended within {timeout:g} s"
        return time.monotonic() - start

    def seconds_from(self, number: signal.Signals, *more: signal.Signals) -> float:
        """From these signals to its end."""
        for each in (number, *more):
            signal.pidfd_send_signal(self._fd, each)
        return self.seconds_to_end()

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def watched(pid: int) -> Iterator[Watched]:
    process = Watched(pid)
    try:
        yield process
    finally:
        process.close()


def files_of(where: Path_) -> set[str]:
    """The names that the record and the counters of the mount at *where* have."""
    row = row_of(where)
    assert row is not None
    return {f"{row.device}.json", f"{row.device}.counters"}


def records_of(where: Path_, names: Collection[str]) -> set[str]:
    """Those of root's files with these names that belong to a mount at *where*, or to none: the kernel gives the numbers in them to
    others' mounts as soon as they are free.
    """
    folder = Path("/run/vmcorefs")
    found = set()
    for name in names:
        try:
            record = json.loads((folder / name).with_suffix(".json").read_text(encoding="utf-8"))
            if record["mountpoint"] == os.fsdecode(where):
                found.add(name)
        except (FileNotFoundError, ValueError):
            if (folder / name).exists():
                found.add(name)
    return found


@contextmanager
def starting(image: Path, where: Path, *options: Path_) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``vmcorefs mount`` in the background, at the moment when its daemon has been forked; (it, pid of that)."""
    for _ in range(10):
        process = subprocess.Popen([*PROGRAM, "mount", *options, image, where], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        while not (daemon := children(process.pid)) and process.poll() is None:
            pass
        if daemon:
            break
        _, said = process.communicate()  # on a busy machine the moment may go by unseen
        assert process.returncode == 0, said.decode("utf-8", "replace")
        clear(where)
        wait_until(lambda: not daemons_of(where), "the daemon's end")
    try:
        yield process, daemon[0]
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()
