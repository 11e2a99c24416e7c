"""Mounted and unmounted again and again, with readers active, in every way that a mount can end: nothing of it is ever left.

VMCOREFS_SOAK=200 for the long run (a few minutes).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.builders import Built, Machine, cpus
from tests.mounts.life import SOON, files_of, records_of, watched
from tests.mounts.mounting import (
    PROGRAM,
    TIMEOUT,
    clear,
    daemons_of,
    mount_rows,
    mounted,
    need_mounts,
    need_root,
    row_of,
    run,
    stat_errno,
    unmount,
    wait_until,
    words,
)

COUNT = int(os.environ.get("VMCOREFS_SOAK", "40"))
MIB = 1 << 20
MACHINES = {
    "kdump": Machine(memory=((0, 0x345000), (0x503000, 8 * MIB)), base=MIB, cpus=cpus(2), body_pages="all"),
    "zfcpdump": Machine(mode="zfcpdump", body_pages="all"),
    "plain": Machine(mode="plain", body_pages="all"),
}


class Lane:
    """One image and one mount point, used again and again; lanes run at the same time."""

    def __init__(self, name: str, folder: Path, temporary: Path):
        folder.mkdir()
        self._built: Built = MACHINES[name].build(folder)
        self._data = self._built.model.read(0, self._built.model.size)
        self._where = folder / "mnt"
        self._where.mkdir()
        self._pidfile = folder / "pid"
        self._hsa = [] if self._built.hsa is None else ["--hsa", str(self._built.hsa)]
        self._env = {"TMPDIR": str(temporary)}
        self._random = random.Random(name)
        self._io = "direct"
        self.mounts = 0
        self.bytes = 0
        self.records: set[str] = set()
        self.names = set(os.listdir(folder))
        self.folder = folder

    def cycle(self, n: int) -> None:
        """Mount, read, end it in the way that is *n*'s turn; nothing may be left."""
        self._io = ("direct", "cached")[n % 2]
        way = self.WAYS[n // 2 % len(self.WAYS)]
        way(self)
        assert row_of(self._where) is None, way.__name__
        assert os.listdir(self._where) == []
        wait_until(lambda: not daemons_of(self._where), f"the daemon's end, {way.__name__}")
        assert set(os.listdir(self.folder)) == self.names, way.__name__

    def _mount(self, *options: str) -> int:
        """Pid of the daemon."""
        done = run("mount", "--io", self._io, "--pidfile", self._pidfile, *self._hsa, *options, self._built.image, self._where,
                   env=self._env)
        assert done.returncode == 0, words(done)
        return self._mounted()

    def _mounted(self) -> int:
        self.mounts += 1
        self.records |= files_of(self._where)
        return int(self._pidfile.read_text(encoding="ascii"))

    # Ways to end it. Readers are at work, and get errors, or are done first.

    def _ordinary(self) -> None:
        self._mount()
        with Readers(self):
            pass
        done = run("umount", self._where, env=self._env)
        assert done.returncode == 0, words(done)

    def _busy(self) -> None:
        self._mount()
        with Readers(self), (self._where / "vmcore").open("rb"):
            assert run("umount", self._where, env=self._env).returncode == 1
        done = unmount(self._where)
        assert done.returncode == 0, words(done)

    def _lazily(self) -> None:
        """Whoever has a file open reads on."""
        self._mount()
        with Readers(self), (self._where / "vmcore").open("rb", buffering=0) as file:
            done = run("umount", "--lazy", self._where, env=self._env)
            assert done.returncode == 0, words(done)
            assert os.pread(file.fileno(), 100, len(self._data) - 50) == self._data[-50:]

    def _by_signal(self, number: signal.Signals) -> None:
        with watched(self._mount()) as end, Readers(self):
            assert end.seconds_from(number) < SOON

    def _by_term(self) -> None:
        self._by_signal(signal.SIGTERM)

    def _by_int(self) -> None:
        self._by_signal(signal.SIGINT)

    def _by_hup(self) -> None:
        self._by_signal(signal.SIGHUP)

    def _foreground(self) -> None:
        process = subprocess.Popen([*PROGRAM, "mount", "-f", "--io", self._io, "--pidfile", self._pidfile, *self._hsa, self._built.image,
                                    self._where], stderr=subprocess.PIPE, env=os.environ | self._env)
        wait_until(self._pidfile.exists, "the mount", TIMEOUT)
        assert self._mounted() == process.pid
        with Readers(self):
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=SOON)
        assert process.returncode == 0, said.decode()

    def _killed_and_replaced(self) -> None:
        daemon = self._mount()
        with Readers(self), watched(daemon) as end:
            end.seconds_from(signal.SIGKILL)
            self._mount("--replace-stale")
            self._by_system_lazily()

    def _killed(self) -> None:
        with watched(self._mount()) as end, Readers(self):
            end.seconds_from(signal.SIGKILL)
        done = run("umount", self._where, env=self._env)
        assert done.returncode == 0, words(done)
        self._pidfile.unlink()

    def _by_system_lazily(self) -> None:
        done = unmount(self._where, lazy=True)
        assert done.returncode == 0, words(done)

    WAYS: tuple[Callable[[Lane], None], ...] = (
        _by_term, _ordinary, _lazily, _killed_and_replaced, _by_hup, _foreground, _busy, _killed, _by_int, _by_term)

    def read(self) -> bool:
        """Random size and place; False where the mount has gone. What is read is right, and its end is not taken for the file's."""
        offset = self._random.randrange(len(self._data))
        wanted = self._data[offset:offset + self._random.choice((1, 100, 4096, 65536, MIB))]
        try:
            with (self._where / "vmcore").open("rb", buffering=0) as file:
                while wanted:  # the read in which the daemon is killed may be short
                    found = os.pread(file.fileno(), len(wanted), offset)
                    assert found and found == wanted[:len(found)]
                    wanted, offset = wanted[len(found):], offset + len(found)
                    self.bytes += len(found)
        except OSError:
            return False
        return True

    @property
    def vmcore(self) -> Path:
        return self._where / "vmcore"


READER = """
import sys
while True:
    with open(sys.argv[1], "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""


class Readers:
    """A thread and a process that read all the time; at work when entered, ended when left."""

    def __init__(self, lane: Lane):
        self._lane = lane
        self._leave = threading.Event()
        self._working = threading.Event()
        self._failure: AssertionError | None = None
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-S", "-c", READER, self._lane.vmcore], stderr=subprocess.DEVNULL)
        self._thread.start()
        assert self._working.wait(TIMEOUT), self._failure

    def _read(self) -> None:
        try:
            while not self._leave.is_set():
                if self._lane.read():
                    self._working.set()
                elif self._working.is_set():
                    return
        except AssertionError as error:
            self._failure = error

    def __exit__(self, *unused: object) -> None:
        self._leave.set()
        self._process.kill()
        self._process.wait(TIMEOUT)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "a reader hangs"
        assert self._failure is None, self._failure


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def state_of(daemon: int) -> tuple[int, int, int]:
    """(descriptors, threads, resident pages)"""
    resident = int(Path(f"/proc/{daemon}/statm").read_text(encoding="ascii").split()[1])
    return len(os.listdir(f"/proc/{daemon}/fd")), len(os.listdir(f"/proc/{daemon}/task")), resident


@pytest.mark.timeout(60 + 15 * COUNT)
def test_again_and_again(tmp_path: Path) -> None:
    need_mounts()
    need_root()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    lanes = [Lane(name, tmp_path / name, temporary) for name in MACHINES]
    image = MACHINES["kdump"].build(tmp_path / "tmp").image.rename(tmp_path / "lasting.img")
    for path in temporary.iterdir():
        path.unlink()
    before = descriptors()
    start = time.monotonic()
    with mounted(image, tmp_path / "lasting") as lasting:
        daemon = lasting.daemon
        lasting.vmcore.read_bytes()
        wait_until(lambda: state_of(daemon)[1] == 2, "the end of its start")
        first = state_of(daemon)

        def work(lane: Lane, turns: range) -> None:
            try:
                for n in turns:
                    lane.cycle(n)
                    assert len(lasting.vmcore.read_bytes()) > MIB  # another mount lives on through all this
            except BaseException:
                clear(lane.vmcore.parent)
                raise

        with ThreadPoolExecutor(len(lanes)) as pool:
            for done in [pool.submit(work, lane, range(k, COUNT, len(lanes))) for k, lane in enumerate(lanes)]:
                done.result()
        last = state_of(daemon)
        assert last[:2] == first[:2], "descriptors and threads of a mount that lasts"
        assert last[2] - first[2] < 2 * MIB // os.sysconf("SC_PAGE_SIZE")
    seconds = time.monotonic() - start
    mounts = sum(lane.mounts for lane in lanes)
    print(f"{mounts} mounts in {seconds:.0f} s, {sum(lane.bytes for lane in lanes) >> 20} MiB compared")
    assert mounts >= COUNT
    assert all(lane.bytes > 0 for lane in lanes)
    assert [row.where for row in mount_rows() if row.where.startswith(os.fsencode(tmp_path) + b"/")] == []
    assert os.listdir(temporary) == []
    assert descriptors() == before
    assert [records_of(lane.vmcore.parent, lane.records) for lane in lanes] == [set()] * len(lanes)
    assert stat_errno(lanes[0].vmcore) != 0
