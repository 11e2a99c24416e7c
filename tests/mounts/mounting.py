"""The real ``vmcorefs mount`` on an image, unmounted for sure at the end; and what a test may have left behind."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

PROGRAM = (sys.executable, "-m", "vmcorefs")
BACKENDS = ("mfusepy", "fusepy")
LIBRARIES = {"mfusepy": ("libfuse3.so.4", "libfuse3.so.3"), "fusepy": ("libfuse.so.2",)}
TIMEOUT = 60.0

# Every process that a test starts inherits it, daemons too: no other run's mounts and processes are ever touched.
MARK = "VMCOREFS_TEST_RUN"

Finished = subprocess.CompletedProcess[bytes]
Path_ = str | bytes | Path


def skip_or_fail(reason: str) -> NoReturn:
    """CI has what the tests need; a skip there would hide that they never ran."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and {reason}")
    pytest.skip(reason)


@functools.cache
def why_no_mount() -> str | None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    return None


@functools.cache
def why_no_backend(backend: str) -> str | None:
    for name in LIBRARIES[backend]:
        with suppress(OSError):
            ctypes.CDLL(name)
            return None
    return f"none of {', '.join(LIBRARIES[backend])} is installed"


def need_mounts(backend: str | None = None) -> None:
    reason = why_no_mount() or (backend and why_no_backend(backend))
    if reason:
        skip_or_fail(reason)


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def run(command: str, *arguments: Path_, stdin: int = subprocess.DEVNULL, cwd: Path | None = None,
        env: dict[str, str] | None = None, pass_fds: tuple[int, ...] = (), timeout: float = TIMEOUT) -> Finished:
    """``vmcorefs COMMAND ARGUMENTS``, to its end."""
    return subprocess.run([*PROGRAM, command, *arguments], stdin=stdin, capture_output=True, timeout=timeout, check=False,
                          cwd=cwd, env=os.environ | (env or {}), pass_fds=pass_fds)


def words(done: Finished) -> str:
    return done.stderr.decode("utf-8", "surrogateescape")


def assert_refused(done: Finished, status: int, *parts: str) -> None:
    """The exit status, and one error line that contains *parts*; nothing on stdout, no traceback."""
    text = words(done)
    assert done.returncode == status, text
    assert done.stdout == b""
    errors = [line for line in text.splitlines() if line.startswith("vmcorefs: error: ")]
    assert len(errors) == 1, text
    assert all(line.startswith("vmcorefs: ") for line in text.splitlines()), text
    for part in parts:
        assert part in errors[0], errors[0]


class Row:
    """A row of /proc/self/mountinfo, parsed anew here."""

    def __init__(self, line: bytes):
        fields = line.split(b" ")
        dash = fields.index(b"-", 6)
        self.device = fields[2].decode()
        self.where = _unescape(fields[4])
        self.options = set(fields[5].decode().split(","))
        self.type = fields[dash + 1].decode()
        self.source = _unescape(fields[dash + 2])


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def mount_rows() -> list[Row]:
    return [Row(line) for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n") if line]


def row_of(where: Path_) -> Row | None:
    """What is mounted at exactly this path."""
    found = [row for row in mount_rows() if row.where == os.fsencode(where)]
    return found[-1] if found else None


def marked_processes() -> list[int]:
    """The living processes that carry this run's mark; not this one."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


def command_line(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    return []


def daemons_of(where: Path_) -> list[int]:
    return [pid for pid in marked_processes() if os.fsencode(where) in command_line(pid)]


def wait_until(condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.01)


def stat_errno(path: Path_) -> int:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno or -1
    return 0


def read_errno(path: Path_) -> int:
    """Of a first byte read through a new open; the kernel answers a stat of a dead mount from its cache."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.read(1)
    except OSError as error:
        return error.errno or -1
    return 0


@dataclass(frozen=True)
class Mounted:
    """A mount that answers."""

    image: Path
    where: Path
    backend: str
    said: str

    @property
    def vmcore(self) -> Path:
        return self.where / "vmcore"

    @property
    def daemon(self) -> int:
        (pid,) = daemons_of(self.where)
        return pid

    def lives(self) -> bool:
        return read_errno(self.vmcore) == 0


@contextmanager
def mounted(image: Path, where: Path, *options: str, backend: str = "auto") -> Iterator[Mounted]:
    """Mounts *image* at *where* (made if it is not there). At the end nothing of it is left, whatever the test did; if the
    test succeeded and did not unmount itself, umount(8) must do it: nobody may have it open, and its daemon ends with it.
    """
    need_mounts(None if backend == "auto" else backend)
    where.mkdir(exist_ok=True)
    try:
        done = run("mount", "--backend", backend, *options, image, where)
        assert done.returncode == 0, words(done)
        assert done.stdout == b""
        yield Mounted(image, where, backend, words(done))
        if row_of(where) is not None:
            done = unmount(where)
            assert done.returncode == 0, words(done)
        wait_until(lambda: not daemons_of(where), "the daemon's end")
    finally:
        clear(where)


@contextmanager
def in_foreground(image: Path, where: Path, *options: str, backend: str = "auto") -> Iterator[subprocess.Popen[bytes]]:
    """``vmcorefs mount -f``, answering; ended and unmounted at the end, whatever the test did."""
    need_mounts(None if backend == "auto" else backend)
    where.mkdir(exist_ok=True)
    process = subprocess.Popen([*PROGRAM, "mount", "-f", "--backend", backend, *options, image, where],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: row_of(where) is not None or process.poll() is not None, "mount -f")
        assert process.poll() is None, process.communicate()[1].decode("utf-8", "replace")
        wait_until(lambda: stat_errno(where / "vmcore") == 0, "an answer of mount -f")
        # its own first look is over, too, which would make an umount busy: left are the threads that serve and wait for signals
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) == 2, "the end of its start")
        yield process
    finally:
        clear(where)
        process.kill()
        process.communicate()


def unmount(where: Path_, *, lazy: bool = False) -> Finished:
    """The system's own program."""
    program = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    option = [("-l" if os.geteuid() == 0 else "-z")] if lazy else []
    return subprocess.run([*program, *option, "--", where], capture_output=True, check=False, timeout=TIMEOUT)


def clear(where: Path_) -> None:
    """Detach what is mounted there, end its daemons."""
    while row_of(where) is not None and unmount(where, lazy=True).returncode == 0:
        pass
    for pid in daemons_of(where):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Leftovers:
    """What a test left: open descriptors, mounts below *base*, marked processes that started since."""

    def __init__(self, base: Path):
        self._base = os.fsencode(base) + b"/"
        self._last_pid = _last_pid()
        self._clock = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._before = self._look()

    def _look(self) -> set[str]:
        found = {f"mount {row.type} at {os.fsdecode(row.where)}" for row in mount_rows() if row.where.startswith(self._base)}
        if _last_pid() != self._last_pid:  # reading all of /proc costs more than most tests
            found |= {f"process {pid}: {b' '.join(command_line(pid))!r}" for pid in marked_processes()
                      if _started(pid) > self._clock}
        return found | set(_descriptors())

    def check(self) -> list[str]:
        """What is new. Mounts and processes are ended, so that the next test starts clean."""
        if not self._look() <= self._before:
            gc.collect()
        with suppress(AssertionError):  # a process that was killed a moment ago may still be on its way out
            wait_until(lambda: self._look() <= self._before, "", timeout=2.0)
        left = sorted(self._look() - self._before)
        for line in left:
            if line.startswith("mount "):
                clear(line.partition(" at ")[2])
            elif line.startswith("process "):
                with suppress(ProcessLookupError):
                    os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
        return left


def _last_pid() -> str:
    """Of this pid namespace: as long as it stays, no process has started."""
    return Path("/proc/loadavg").read_text(encoding="ascii").split()[4]


def _started(pid: int) -> float:
    """Seconds since boot; 0 where it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed them
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith(("/dev/urandom", "/proc/")):
                yield f"descriptor {name} -> {target}"
