"""--idle-timeout: what counts as use of a mount, and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.life import children, starting, watched
from tests.mounts.mounting import PROGRAM, TIMEOUT, clear, daemons_of, in_foreground, need_root, row_of, stat_errno, wait_until, words
from tests.mounts.private_system import NOBODY, PrivateSystem, private_system

IDLE = 2
LATE = 4.0
"""Seconds after its time that an idle mount may still be there, on a busy machine."""


def in_parallel(image: Path, folders: dict[str, Path]) -> None:
    """Mounts with --idle-timeout, all answering."""
    running = []
    for folder in folders.values():
        folder.mkdir()
        running.append(subprocess.Popen([*PROGRAM, "mount", "--idle-timeout", str(IDLE), image, folder], stderr=subprocess.PIPE))
    for process in running:
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said.decode()


def test_what_is_use(machine: Built, tmp_path: Path) -> None:
    """A mount each, all at the same time."""
    names = ("nothing", "statvfs", "reads", "names", "an open file", "a shell in it")
    folders = {name: tmp_path / name for name in names}
    nothing, statvfs, reads, listing, open_file, shell = folders.values()
    with ExitStack() as stack:
        for folder in folders.values():
            stack.callback(clear, folder)
        in_parallel(machine.image, folders)
        start = time.monotonic()
        descriptor = os.open(open_file / "vmcore", os.O_RDONLY)
        process = stack.enter_context(subprocess.Popen(["sleep", "100"], cwd=shell))
        while time.monotonic() < start + IDLE + LATE and (row_of(nothing) or row_of(statvfs)):
            os.statvfs(statvfs)  # df, and vmcorefs list
            (reads / "vmcore").open("rb").close()
            os.listdir(listing)
            time.sleep(0.1)
        assert [name for name, folder in folders.items() if row_of(folder) is None] == ["nothing", "statvfs"]
        time.sleep(max(0.0, start + IDLE + 1.5 - time.monotonic()))  # those in use were tried in the meantime
        (reads / "vmcore").open("rb").close()
        assert stat_errno(open_file / "vmcore") == stat_errno(shell / "vmcore") == 0
        assert len(os.pread(descriptor, 100, 0)) == 100
        os.close(descriptor)
        process.kill()
        process.wait()
        wait_until(lambda: not any(row_of(folder) for folder in folders.values()), "the end of all", 2 * IDLE + LATE)
        wait_until(lambda: not any(daemons_of(folder) for folder in folders.values()), "the daemons' end")
    for folder in folders.values():
        assert os.listdir(folder) == []


def test_it_says_so_and_succeeds(machine: Built, tmp_path: Path) -> None:
    """Not before its time. The pidfile goes, too."""
    where = tmp_path / "mnt"
    with in_foreground(machine.image, where, "--idle-timeout", "2s", "--pidfile", str(tmp_path / "pid")) as process, \
            watched(process.pid) as end:
        stat_errno(where / "absent")
        seconds = end.seconds_to_end()
        assert 1.8 < seconds < IDLE + LATE
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
