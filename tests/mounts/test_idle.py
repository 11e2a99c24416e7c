"""--idle-timeout: what counts as use of a mount, and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.life import children, starting, watched
from tests.mounts.mounting import TIMEOUT, clear, daemons_of, in_foreground, need_root, row_of, run, stat_errno, wait_until, words
from tests.mounts.private_system import NOBODY, PrivateSystem, private_system

IDLE = 3
LATE = 5.0
"""Seconds after its time that an idle mount may still be there, on a busy machine."""


def _nothing(where: Path) -> None:
    pass


def _open(where: Path) -> None:
    (where / "vmcore").open("rb").close()


USES: dict[str, Callable[[Path], object]] = {
    "nothing": _nothing, "statvfs": os.statvfs, "opens": _open, "names": os.listdir, "an open file": _nothing, "a shell in it": _nothing}
UNUSED = {"nothing", "statvfs"}  # df asks every mount, and so does vmcorefs list


def _seconds_until_unmounted(image: Path, where: Path, name: str) -> float | None:
    """With this use of it; None if it is still there long after its time. Unmounted at the end, once it is used no more."""
    where.mkdir()
    begin = time.monotonic()
    done = run("mount", "--idle-timeout", str(IDLE), image, where)
    assert done.returncode == 0, words(done)
    start = time.monotonic()
    with ExitStack() as stack:
        if name == "an open file":
            stack.enter_context((where / "vmcore").open("rb"))
        elif name == "a shell in it":
            process = stack.enter_context(subprocess.Popen(["sleep", "300"], cwd=where))
            stack.callback(process.kill)
        while time.monotonic() < start + IDLE + (LATE if name in UNUSED else 1.5):  # those in use are tried again in the meantime
            if row_of(where) is None:
                assert time.monotonic() - begin > IDLE
                return time.monotonic() - start
            USES[name](where)
            time.sleep(0.1)
    wait_until(lambda: row_of(where) is None, f"the unmount, {name}", 2 * IDLE + LATE)
    return None


def test_what_is_use(machine: Built, tmp_path: Path) -> None:
    """A mount each, all at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(USES)) as pool:
        for name in USES:
            stack.callback(clear, tmp_path / name)
        running = {name: pool.submit(_seconds_until_unmounted, machine.image, tmp_path / name, name) for name in USES}
        seconds = {name: done.result() for name, done in running.items()}
        assert {name for name, value in seconds.items() if value is not None} == UNUSED
        assert all(value < IDLE + LATE for value in seconds.values() if value is not None), seconds
        wait_until(lambda: not any(daemons_of(tmp_path / name) for name in USES), "the daemons' end")
    assert [os.listdir(tmp_path / name) for name in USES] == [[]] * len(USES)


def test_it_says_so_and_succeeds(machine: Built, tmp_path: Path) -> None:
    """Not before its time. The pidfile goes, too."""
    where = tmp_path / "mnt"
    with in_foreground(machine.image, where, "--idle-timeout", "2s", "--pidfile", str(tmp_path / "pid")) as process, \
            watched(process.pid) as end:
        stat_errno(where / "absent")
        seconds = end.seconds_to_end()
        assert 1.8 < seconds < 2 + LATE
        assert process.wait() == 0
        _, said = process.communicate()
        assert said.decode().splitlines()[-1] == f"vmcorefs: {where}: not used for 2 s, unmounted"
    assert row_of(where) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnt"]


def test_a_long_time_does_not_delay_a_signal(machine: Built, tmp_path: Path) -> None:
    with in_foreground(machine.image, tmp_path / "mnt", "--idle-timeout", "366d") as process, watched(process.pid) as end:
        assert end.seconds_from(signal.SIGTERM) < 2
        assert process.wait() == 0


def test_a_copy_in_another_mount_namespace(machine: Built, tmp_path: Path) -> None:
    """It is unmounted here, once, and said once; the daemon goes on serving whoever has the copy, and ends with that."""
    need_root()
    where = tmp_path / "mnt"
    with in_foreground(machine.image, where, "--idle-timeout", "1") as process:
        with subprocess.Popen(["unshare", "--mount", "sh", "-c", 'echo; read line; wc -c <"$1/vmcore"; read line', "sh", where],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
            assert container.stdin is not None and container.stdout is not None
            container.stdout.readline()
            wait_until(lambda: row_of(where) is None, "the unmount", 1 + LATE)
            time.sleep(1.5)
            assert process.poll() is None
            container.stdin.write(b"\n")
            container.stdin.flush()
            assert int(container.stdout.readline()) == machine.model.size
            container.communicate(b"\n", timeout=TIMEOUT)
        assert process.wait(5) == 0
        _, said = process.communicate()
        assert said.count(b"not used for 1 s, unmounted") == 1


def test_the_time_counts_from_the_answer(machine: Built, tmp_path: Path) -> None:
    """A start that takes longer than that is no idleness."""
    (tmp_path / "mnt").mkdir()
    with starting(machine.image, tmp_path / "mnt", "--idle-timeout", "1") as (process, daemon):
        os.kill(daemon, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(daemon, signal.SIGCONT)
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said.decode()
        wait_until(lambda: row_of(tmp_path / "mnt") is None, "the unmount", 1 + LATE)
    assert children(os.getpid()) == []


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystem]:
    folder = tmp_path_factory.mktemp("system")
    Machine(body_pages="all").build(folder).image.chmod(0o644)
    (folder / "mnt").mkdir()
    os.chown(folder / "mnt", NOBODY, NOBODY)
    with private_system(folder) as running:
        yield running


def test_as_a_plain_user(system: PrivateSystem) -> None:
    """By fusermount3; in use at first."""
    script = "vmcorefs mount --idle-timeout 1 oldmem.img mnt && exec 3<mnt/vmcore && sleep 2.5 && wc -c <&3"
    done = system.run("sh", "-c", script, user=NOBODY)
    assert done.returncode == 0, words(done)
    assert int(done.stdout) > 0
    wait_until(lambda: system.rows() == [], "the unmount", 2 + LATE)
    wait_until(lambda: run_in(system, "pgrep", "-f", "oldmem.img") == "", "the daemon's end")
    assert os.listdir(system.path(f"/tmp/vmcorefs-{NOBODY}")) == []  # noqa: S108


def run_in(system: PrivateSystem, *words_: str) -> str:
    return system.run(*words_).stdout.decode()
