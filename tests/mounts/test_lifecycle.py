"""A mount's life: background, pidfile, every way to end it, in every state, and that nothing of it is left."""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.conftest import Mounting
from tests.mounts.faulty_image import faulty_image
from tests.mounts.life import SOON, children, files_of, records_of, starting, state, stopped, watched
from tests.mounts.mounting import (
    BACKENDS,
    PROGRAM,
    TIMEOUT,
    Mounted,
    assert_refused,
    clear,
    command_line,
    daemons_of,
    in_foreground,
    marked_processes,
    need_mounts,
    need_root,
    read_errno,
    row_of,
    run,
    stat_errno,
    wait_until,
    words,
)
from tests.mounts.private_system import PrivateSystem, private_system

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
CUT_OFF = {errno.ENOTCONN, errno.ECONNABORTED}


@pytest.fixture
def backend() -> str:
    """The bindings make no difference to most of this; where they may, it is asked for."""
    need_mounts()
    return "auto"


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    need_mounts()
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    clear(path)


def assert_nothing_left(where: Path, names: set[str]) -> None:
    """No mount, no process, no record, no counters."""
    assert row_of(where) is None
    assert list(where.iterdir()) == []
    wait_until(lambda: not daemons_of(where), "the daemon's end")
    assert not records_of(where, names)


# -- start -------------------------------------------------------------------------------------------------------------


def test_it_returns_when_the_mount_answers_and_not_before(machine: Built, where: Path, tmp_path: Path) -> None:
    """The daemon is stopped right after the fork; the pidfile appears with the answer, too."""
    pidfile = tmp_path / "pid"
    with starting(machine.image, where, "--pidfile", pidfile) as (process, daemon):
        with stopped(daemon):
            time.sleep(0.5)
            assert process.poll() is None
            assert not pidfile.exists()
        assert process.wait(TIMEOUT) == 0
        assert stat_errno(where / "vmcore") == 0
        assert pidfile.read_bytes() == b"%d\n" % daemon
    assert run("umount", where).returncode == 0
    assert not pidfile.exists()


def test_a_daemon_that_dies_during_the_start(machine: Built, where: Path, tmp_path: Path) -> None:
    with starting(machine.image, where, "--pidfile", tmp_path / "pid") as (process, daemon):
        os.kill(daemon, signal.SIGKILL)
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 3
        assert said.decode().splitlines()[-1] == f"vmcorefs: error: {where}: the daemon ended before the mount was ready"
    clear(where)
    assert [path.name for path in tmp_path.iterdir()] == ["mnt"]


@pytest.mark.parametrize("number", [INT, TERM, HUP, signal.SIGKILL])
def test_whoever_asked_for_it_has_gone_before_it_answers(machine: Built, where: Path, tmp_path: Path, number: signal.Signals) -> None:
    """timeout(1), Ctrl-C, a closed terminal: no mount may come up behind his back."""
    with starting(machine.image, where, "--pidfile", tmp_path / "pid") as (process, daemon), watched(daemon) as end:
        with stopped(daemon):
            process.send_signal(number)
            wait_until(lambda: state(process.pid) in {"Z", ""}, "the end of vmcorefs mount")
        end.seconds_to_end()
    assert process.returncode == (130 if number == INT else -number)
    assert row_of(where) is None
    assert [path.name for path in tmp_path.iterdir()] == ["mnt"]


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])
def test_a_signal_during_the_start(machine: Built, where: Path, tmp_path: Path, *, foreground: bool) -> None:
    """At several moments from the fork on, where libfuse is about to mount, has mounted, is being asked for a first answer: there
    is never a mount afterwards, dead or alive.
    """
    pidfile = tmp_path / "pid"
    for delay, number in ((0.0, TERM), (0.002, INT), (0.005, HUP), (0.01, TERM), (0.02, TERM), (0.04, INT)):
        if foreground:
            process = subprocess.Popen([*PROGRAM, "mount", "-f", "--pidfile", pidfile, machine.image, where], stderr=subprocess.PIPE)
            wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) > 1, "its second thread", TIMEOUT)  # noqa: B023
            time.sleep(delay)
            with watched(process.pid) as end:
                assert end.seconds_from(number) < SOON
            _, said = process.communicate()
            assert process.returncode == 0, said.decode()
            assert b"error" not in said and b"Traceback" not in said
        else:
            with starting(machine.image, where, "--pidfile", pidfile) as (process, daemon):
                time.sleep(delay)
                with watched(daemon) as end:
                    assert end.seconds_from(number) < SOON
                _, said = process.communicate(timeout=TIMEOUT)
                assert process.returncode in {0, 3}, said.decode()
                assert b"Traceback" not in said
        assert row_of(where) is None, f"{delay} s after the start"
        assert [path.name for path in tmp_path.iterdir()] == ["mnt"]


def test_several_mount_at_one_place_at_the_same_time(machine: Built, where: Path) -> None:
    """One gets it, the others see that; never a mount on top of the other."""
    processes = [subprocess.Popen([*PROGRAM, "mount", machine.image, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                 for _ in range(4)]
    said = [process.communicate(timeout=TIMEOUT)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2, 2, 2], said
    assert sum(b"is mounted there already; unmount it first" in text for text in said) == 3
    assert len(daemons_of(where)) == 1
    assert run("umount", where).returncode == 0
    assert row_of(where) is None


# -- the pidfile -------------------------------------------------------------------------------------------------------


def test_the_pidfile_of_a_foreground_mount(machine: Built, where: Path, tmp_path: Path) -> None:
    """Whoever sees the file may use the mount; it is never seen half written; no descriptor of it stays open."""
    pidfile = tmp_path / "pid"
    process = subprocess.Popen([*PROGRAM, "mount", "-f", "--pidfile", "pid", machine.image, where], cwd=tmp_path,
                               stderr=subprocess.DEVNULL)
    end = time.monotonic() + TIMEOUT
    while not pidfile.exists():
        assert time.monotonic() < end and process.poll() is None
    assert pidfile.read_bytes() == b"%d\n" % process.pid
    assert (row_of(where) is not None, stat_errno(where / "vmcore")) == (True, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnt", "pid"]
    targets = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    assert not [target for target in targets if "pid" in Path(target).name.split(".")]
    process.send_signal(TERM)
    assert process.wait(SOON) == 0
    assert not pidfile.exists()


def test_the_pidfile_of_somebody_else_stays(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """While its daemon lives nobody else takes the file; who has replaced it by force keeps it."""
    pidfile = tmp_path / "pid"
    first = mounted(machine.image, "--pidfile", str(pidfile), where=tmp_path / "a")
    (tmp_path / "b").mkdir()
    assert_refused(run("mount", "--pidfile", pidfile, machine.image, tmp_path / "b"), 2, f"--pidfile {pidfile}",
                   f"another vmcorefs daemon, which lives (pid {first.daemon})")
    assert pidfile.read_bytes() == b"%d\n" % first.daemon
    pidfile.write_bytes(b"%d\n" % os.getpid())
    assert run("umount", first.where).returncode == 0
    assert pidfile.read_bytes() == b"%d\n" % os.getpid()


def test_a_pidfile_that_cannot_be_made(machine: Built, where: Path, tmp_path: Path) -> None:
    """Found out before anything is mounted, and before the image is opened."""
    before = machine.image.stat()
    for pidfile, parts in (("/nonexistent/pid", ["cannot be written", "No such file"]), (tmp_path, ["is a directory"]),
                           ("/dev/null", ["holds no pid"]), (machine.image, ["holds no pid"]),
                           ("/proc/pid", ["cannot be written"])):
        done = run("mount", "--pidfile", pidfile, "/nonexistent/image", where)
        assert_refused(done, 2, f"--pidfile {pidfile}", *parts)
    assert_refused(run("mount", "--pidfile", where / "pid", machine.image, where), 2, str(where), f"contains {where / 'pid'}")
    assert row_of(where) is None
    assert (machine.image.stat().st_ino, machine.image.stat().st_size) == (before.st_ino, before.st_size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnt"]


def test_no_space_for_the_pidfile(machine: Built, where: Path, tmp_path: Path) -> None:
    need_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", disk], check=True, timeout=TIMEOUT)
    try:
        (disk / "all").write_bytes(bytes(4096))
        assert_refused(run("mount", "--pidfile", disk / "pid", machine.image, where), 2, "No space left")
        assert os.listdir(disk) == ["all"]
    finally:
        subprocess.run(["umount", disk], check=True, timeout=TIMEOUT)


def test_no_pidfile_where_the_mount_is_refused(where: Path, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    assert_refused(run("mount", "--pidfile", tmp_path / "pid", tmp_path / "zeros", where), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mnt", "zeros"]


# -- signals -----------------------------------------------------------------------------------------------------------


@contextmanager
def _holding(kind: str, mount: Mounted) -> Iterator[Callable[[], None]]:
    """Uses the mount; gives what must hold after it has gone."""
    with ExitStack() as stack:
        if kind == "idle":
            yield lambda: None
        elif kind == "an open file":
            descriptor = os.open(mount.vmcore, os.O_RDONLY)
            stack.callback(_close, descriptor)
            yield lambda: _assert_cut_off(lambda: os.pread(descriptor, 10, 0))
        elif kind == "a mapping":
            with open(mount.vmcore, "rb", buffering=0) as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                first = mapped[:4]
            yield lambda: None if first == mapped[:4] == b"\x7fELF" else pytest.fail("a page that was there is lost")
            with suppress(OSError):
                mapped.close()
        elif kind == "a shell in it":
            process = stack.enter_context(subprocess.Popen(["sh", "-c", 'cd "$1" && echo && read line', "sh", mount.where],
                                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert process.stdout is not None
            process.stdout.readline()
            yield lambda: None
            process.communicate(b"\n", timeout=TIMEOUT)
        else:
            script = 'while dd if="$1/vmcore" of=/dev/null bs=64k; do :; done'
            process = stack.enter_context(subprocess.Popen(["sh", "-c", script, "sh", mount.where], stderr=subprocess.PIPE))
            assert process.stderr is not None
            process.stderr.readline()  # a pass is done
            yield lambda: _assert_reader_failed(process)


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def _assert_cut_off(read: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r"[Tt]ransport|abort") as caught:
        read()
    assert caught.value.errno in CUT_OFF


def _assert_reader_failed(process: subprocess.Popen[bytes]) -> None:
    """It ends, by an error: neither does it hang, nor does it take the end of the mount for that of the file."""
    _, said = process.communicate(timeout=5)
    assert re.search(rb"endpoint is not connected|connection abort|No such file", said), said[-300:]


@pytest.mark.parametrize(("kind", "number", "io"), [
    ("idle", TERM, "direct"), ("idle", INT, "direct"), ("idle", HUP, "cached"), ("an open file", TERM, "cached"),
    ("an open file", HUP, "direct"), ("a mapping", TERM, "direct"), ("a mapping", HUP, "cached"), ("a shell in it", INT, "direct"),
    ("a transfer", TERM, "direct"), ("a transfer", INT, "cached")])
def test_a_signal_ends_it_within_two_seconds(machine: Built, where: Path, tmp_path: Path, kind: str, number: signal.Signals,
                                             io: str) -> None:
    """In the background, measured to the daemon's end."""
    pidfile = tmp_path / "pid"
    assert run("mount", "--io", io, "--pidfile", pidfile, machine.image, where).returncode == 0
    mount = Mounted(machine.image, where, "auto", "")
    daemon = mount.daemon
    names = files_of(where)
    assert os.geteuid() != 0 or records_of(where, names) == names
    with _holding(kind, mount) as check, watched(daemon) as end:
        seconds = end.seconds_from(number)
        assert seconds < SOON, f"{seconds:.2f} s"
        if kind == "idle":
            assert seconds < SOON / 2
        assert not pidfile.exists()
        assert row_of(where) is None
        check()
    assert_nothing_left(where, names)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_transfer_with_either_binding(machine: Built, where: Path, backend: str) -> None:
    need_mounts(backend)
    with in_foreground(machine.image, where, backend=backend) as process, \
            _holding("a transfer", Mounted(machine.image, where, backend, "")) as check, watched(process.pid) as end:
        assert end.seconds_from(TERM) < SOON
        assert process.wait() == 0
        check()


@pytest.mark.parametrize(("kind", "first", "second"), [("idle", TERM, TERM), ("idle", INT, INT), ("an open file", INT, TERM),
                                                       ("an open file", HUP, INT)])
def test_two_signals_in_quick_succession(machine: Built, where: Path, kind: str, first: signal.Signals,
                                        second: signal.Signals) -> None:
    """Ctrl-C twice, or a service manager in a hurry: still a clean end."""
    with in_foreground(machine.image, where) as process, _holding(kind, Mounted(machine.image, where, "auto", "")), \
            watched(process.pid) as end:
        assert end.seconds_from(first, second) < SOON
        assert process.wait() == 0
        _, said = process.communicate()
        assert b"error" not in said and b"Traceback" not in said and b"interrupted" not in said


def test_a_signal_under_a_copy_of_the_mount(machine: Built, where: Path) -> None:
    """A mount namespace that was made since (a container, a service with PrivateTmp=) has a copy, which dies with the daemon."""
    need_root()
    with in_foreground(machine.image, where) as process, watched(process.pid) as end, \
            subprocess.Popen(["unshare", "--mount", "sh", "-c", 'echo; read line; cat "$1/vmcore" >/dev/null', "sh", where],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as container:
        assert container.stdout is not None
        container.stdout.readline()
        assert end.seconds_from(TERM) < SOON
        assert process.wait() == 0
        _, said = container.communicate(b"\n", timeout=TIMEOUT)
        assert b"not connected" in said


def test_a_signal_after_the_mount_was_moved(machine: Built, where: Path, tmp_path: Path) -> None:
    """mount --move, or a folder above it that was renamed."""
    need_root()
    other = tmp_path / "other"
    where.rename(other)  # the mount point's folder before the mount is of no matter
    (tmp_path / "above" / "mnt").mkdir(parents=True)
    with in_foreground(machine.image, tmp_path / "above" / "mnt") as process, watched(process.pid) as end:
        (tmp_path / "above").rename(tmp_path / "renamed")
        assert row_of(tmp_path / "renamed" / "mnt") is not None
        assert end.seconds_from(TERM) < SOON
        assert process.wait() == 0
    assert row_of(tmp_path / "renamed" / "mnt") is None
    where.mkdir()


def test_a_signal_under_another_mount_on_top(machine: Built, where: Path) -> None:
    """That one is somebody else's and stays; so the dead mount stays below it, and the end is no success."""
    need_root()
    with in_foreground(machine.image, where) as process, watched(process.pid) as end:
        subprocess.run(["mount", "-t", "tmpfs", "top", where], check=True, timeout=TIMEOUT)
        assert end.seconds_from(TERM) < SOON
        assert process.wait() == 1
        _, said = process.communicate()
        assert f"vmcorefs: error: {where}: cannot unmount: another mount is on top of it; a dead mount stays" in said.decode()
        top = row_of(where)
        assert top is not None
        assert top.type == "tmpfs"
        subprocess.run(["umount", where], check=True, timeout=TIMEOUT)
        assert stat_errno(where / "cpus") == errno.ENOTCONN
        assert run("umount", where).returncode == 0


def test_the_kernel_cuts_the_connection(machine: Built, where: Path, tmp_path: Path) -> None:
    """An administrator's echo 1 >/sys/fs/fuse/connections/N/abort: a dead mount, and no success."""
    need_root()
    control = tmp_path / "connections"
    control.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "none", control], check=True, timeout=TIMEOUT)
    try:
        with in_foreground(machine.image, where) as process:
            row = row_of(where)
            assert row is not None
            (control / row.device.partition(":")[2] / "abort").write_text("1", encoding="ascii")
            _, said = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 3
            assert f"error: {where}: the kernel has cut the connection; a dead mount is left" in said.decode()
            assert read_errno(where / "vmcore") in CUT_OFF
            assert run("umount", where).returncode == 0
    finally:
        subprocess.run(["umount", control], check=True, timeout=TIMEOUT)


# -- a disk that hangs -------------------------------------------------------------------------------------------------


@pytest.fixture
def disk_daemon(tmp_path: Path) -> Callable[[], int]:
    def find() -> int:
        (pid,) = [pid for pid in marked_processes() if os.fsencode(tmp_path / "disk") in command_line(pid)]
        return pid

    return find


@pytest.mark.parametrize("reading", [False, True])
def test_a_signal_while_the_image_s_disk_does_not_answer(machine: Built, where: Path, tmp_path: Path, disk_daemon: Callable[[], int],
                                                         *, reading: bool) -> None:
    """A network that is down: the kernel lets go of a request that nobody has taken up."""
    with faulty_image(machine.image, tmp_path) as disk, in_foreground(disk.path, where) as process, watched(process.pid) as end, \
            ExitStack() as stack:
        wait_until(lambda: not children(process.pid), "the end of the process that makes dmesg.txt")
        stack.enter_context(stopped(disk_daemon()))
        if reading:
            reader = stack.enter_context(subprocess.Popen(["dd", f"if={where}/vmcore", "of=/dev/null", "skip=4096"],
                                                          stderr=subprocess.PIPE))
            wait_until(lambda: _hangs(process.pid), "the hang")
        assert end.seconds_from(TERM) < SOON
        assert process.wait() == 0
        assert row_of(where) is None
        if reading:
            _assert_reader_failed(reader)


def test_a_signal_while_the_image_s_disk_is_at_work_for_ever(machine: Built, where: Path, tmp_path: Path,
                                                             disk_daemon: Callable[[], int]) -> None:
    """The kernel waits for a request that a disk has taken up, and no signal ends a process that waits so (state D). What can be
    done is done within two seconds: no mount, no record, no pidfile, readers get an error. The process ends with the disk's answer.
    """
    ranges = tmp_path / "bad-ranges"
    pidfile = tmp_path / "pid"
    with faulty_image(machine.image, tmp_path) as disk, in_foreground(disk.path, where, "--pidfile", str(pidfile)) as process, \
            watched(process.pid) as end:
        wait_until(lambda: not children(process.pid), "the end of the process that makes dmesg.txt")
        names = files_of(where)
        good = ranges.read_bytes()
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "fifo").replace(ranges)  # the disk's daemon waits for a writer
        with subprocess.Popen(["dd", f"if={where}/vmcore", "of=/dev/null", "skip=4096"], stderr=subprocess.PIPE) as reader:
            wait_until(lambda: _hangs(process.pid), "the hang")
            start = time.monotonic()
            process.send_signal(TERM)
            _assert_reader_failed(reader)
            assert time.monotonic() - start < SOON
        assert row_of(where) is None
        assert not pidfile.exists()
        assert not records_of(where, names)
        assert process.poll() is None, "the kernel can end such a process now: say so in the documents"
        assert state(process.pid) in {"D", "Z"}
        descriptor = os.open(ranges, os.O_WRONLY | os.O_NONBLOCK)
        (tmp_path / "new").write_bytes(good)
        (tmp_path / "new").replace(ranges)
        os.close(descriptor)
        end.seconds_to_end()
        assert process.wait() == 0


def _hangs(pid: int) -> bool:
    return Path(f"/proc/{pid}/wchan").read_bytes() == b"request_wait_answer"


SLOW = """
import sys, time
from vmcorefs.fs.late import Late
from vmcorefs.fs.mount import mount
from vmcorefs.fs.session import MountOptions
from vmcorefs.fs.tree import Tree, bytes_file
tree = Tree({"vmcore": bytes_file(b"text")}, late={"dmesg.txt": Late(lambda: time.sleep(300))})
mount(tree, sys.argv[1], MountOptions(source="/nowhere", probe="vmcore"))
"""


@pytest.mark.parametrize("number", [TERM, signal.SIGKILL])
def test_what_makes_dmesg_txt_hangs(where: Path, number: signal.Signals) -> None:
    """It holds up neither whoever reads the output of vmcorefs mount, nor the end; and kill -9 of the daemon ends it, too."""
    done = subprocess.run([sys.executable, "-c", SLOW, where], capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (daemon,) = [pid for pid in daemons_of(where) if children(pid)]
    (late,) = children(daemon)
    assert os.listdir(where) == ["vmcore"]
    with watched(daemon) as end, watched(late) as end_of_late:
        assert end.seconds_from(number) < SOON
        assert end_of_late.seconds_to_end() < SOON


# -- SIGUSR1 -----------------------------------------------------------------------------------------------------------


def test_usr1_writes_the_counters_into_the_log(machine: Built, where: Path, tmp_path: Path) -> None:
    """Also while no request comes, and under load."""
    log = tmp_path / "log"
    with log.open("wb") as written:
        process = subprocess.Popen([*PROGRAM, "mount", "-f", machine.image, where], stderr=written)

    def lines() -> list[tuple[int, int, int]]:
        found = re.findall(rb"^vmcorefs: %b: (\d+) reads, (\d+) bytes, (\d+) errors$" % os.fsencode(where), log.read_bytes(), re.MULTILINE)
        return [(int(reads), int(count), int(errors)) for reads, count, errors in found]

    def report() -> tuple[int, int, int]:
        count = len(lines())
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(lines()) == count + 1, "the line", timeout=2)
        return lines()[-1]

    try:
        wait_until(lambda: row_of(where) is not None and stat_errno(where / "vmcore") == 0, "the mount", TIMEOUT)
        assert report() == report() == (0, 0, 0)
        with open(where / "vmcore", "rb", buffering=0) as file:
            assert len(os.pread(file.fileno(), 1000, 0)) == 1000
        assert report() == (1, 1000, 0)
        with _holding("a transfer", Mounted(machine.image, where, "auto", "")) as check:
            first, second = report(), report()
            assert (1, 1000, 0) < first <= second
            wait_until(lambda: report() > second, "progress")
            listed = [mount for mount in json.loads(run("list", "--json").stdout) if mount["mountpoint"] == str(where)]
            assert second[0] < listed[0]["reads"]
            process.send_signal(TERM)
            assert process.wait(SOON) == 0
            check()
    finally:
        clear(where)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystem]:
    folder = tmp_path_factory.mktemp("system")
    Machine(body_pages="all").build(folder).image.chmod(0o644)
    (folder / "mnt").mkdir()
    with private_system(folder) as running:
        yield running


def test_in_the_background_the_log_is_syslog(system: PrivateSystem) -> None:
    """Of the private system: this test listens at its /dev/log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(system.path("/dev/log")))
        end.settimeout(5)
        try:
            assert system.run("vmcorefs", "mount", "oldmem.img", "mnt", "--pidfile", "/run/pid").returncode == 0
            pid = system.path("/run/pid").read_text(encoding="ascii").strip()
            mnt = str(system.folder / "mnt")
            assert system.run("sh", "-c", f"exec 3<mnt/vmcore; kill -USR1 {pid}").returncode == 0
            assert end.recv(1000).rstrip(b"\0") == f"<30>vmcorefs[{pid}]: {mnt}: 0 reads, 0 bytes, 0 errors".encode()
            assert system.run("sh", "-c", f"exec 3<mnt/vmcore; kill {pid}; while [ -d /proc/{pid} ]; do sleep .05; done").returncode == 0
            assert f"<28>vmcorefs[{pid}]: {mnt}: was in use when it was unmounted".encode() in end.recv(1000)
        finally:
            system.path("/dev/log").unlink()
            for row in system.rows():
                system.run("umount", "-l", row.where)
    assert system.rows() == []
    assert not system.path("/run/pid").exists()


# -- umount ------------------------------------------------------------------------------------------------------------


def test_lazy_of_a_dead_mount_in_use(machine: Built, mounted: Mounting) -> None:
    mount = mounted(machine.image)
    descriptor = os.open(mount.vmcore, os.O_RDONLY)
    try:
        os.kill(mount.daemon, signal.SIGKILL)
        wait_until(lambda: not daemons_of(mount.where), "the daemon's end")
        assert_refused(run("umount", mount.where), 1, "in use", f"(pid {os.getpid()})", "--lazy")
        assert run("umount", "--lazy", mount.where).returncode == 0
        assert row_of(mount.where) is None
        _assert_cut_off(lambda: os.pread(descriptor, 1, 0))
    finally:
        _close(descriptor)


def test_lazy_of_a_stopped_daemon_with_a_reader_that_waits(machine: Built, mounted: Mounting) -> None:
    mount = mounted(machine.image)
    with stopped(mount.daemon), subprocess.Popen(["cat", mount.vmcore], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        wait_until(lambda: _hangs(reader.pid), "the hang")
        done = run("umount", "--lazy", mount.where, timeout=10)
        assert (done.returncode, done.stderr) == (0, b"")
        assert row_of(mount.where) is None
        reader.kill()


def test_if_mounted(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    assert run("umount", "--if-mounted", tmp_path / "mnt", tmp_path / "absent", "/absent/x").returncode == 0
    assert_refused(run("umount", "--if-mounted", "/proc"), 2, "not a vmcorefs mount (a proc is mounted there)")
    mount = mounted(machine.image)
    with mount.vmcore.open("rb"):
        assert_refused(run("umount", "--if-mounted", mount.where), 1, "in use")
    assert run("umount", "--if-mounted", mount.where, mount.where).returncode == 0
    assert row_of(mount.where) is None


def test_by_the_capture_file(machine: Built, where: Path, tmp_path: Path) -> None:
    """Mounted and unmounted by what it says; relative paths are by its folder, not by the working directory."""
    folder = tmp_path / "captures"
    folder.mkdir()
    capture = folder / "db7.toml"
    image = os.path.relpath(machine.image, folder)
    capture.write_text(f'image = "{image}"\n[mount]\nmountpoint = "../mnt"\npidfile = "pid"\nio = "cached"\nidle-timeout = "10min"\n',
                       encoding="utf-8")
    for words_ in (["--capture", capture], [capture]):
        done = run("mount", *words_, cwd=Path("/"))
        assert done.returncode == 0, words(done)
        assert (row_of(where) is not None, (folder / "pid").exists()) == (True, True)
        with open(where / "vmcore", "rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ) as mapped:
            assert mapped[:4] == b"\x7fELF"  # MAP_SHARED: by io = "cached"
        assert run("umount", "--capture", capture, cwd=Path("/")).returncode == 0
        assert row_of(where) is None
    assert_refused(run("umount", "--capture", capture), 2, f"{folder}/../mnt", "nothing is mounted there")
    assert run("umount", "--capture", capture, "--if-mounted").returncode == 0
    capture.write_text(f'image = "{image}"\n', encoding="utf-8")
    assert_refused(run("umount", "--capture", capture), 2, f"{capture}: names no mount point", '[mount] with mountpoint = "')
    assert_refused(run("mount", "--capture", capture), 2, "MOUNTPOINT is missing", f"name it in {capture} under [mount]")


def test_nothing_is_written_where_the_records_cannot_be(machine: Built, where: Path) -> None:
    """A read-only /run costs list its figures, and nothing else."""
    need_root()
    script = 'mount -t tmpfs -o ro none /run && "$@" && cat "$MNT/vmcore" | wc -c && umount "$MNT"'
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *PROGRAM, "mount", machine.image,
                           where], capture_output=True, check=False, timeout=TIMEOUT, env=os.environ | {"MNT": str(where)})
    assert done.returncode == 0, words(done)
    assert int(done.stdout) == machine.model.size


@pytest.mark.parametrize("backend", BACKENDS)
def test_nonempty(machine: Built, where: Path, backend: str) -> None:
    need_mounts(backend)
    (where / "file").write_text("mine", encoding="ascii")
    assert_refused(run("mount", machine.image, where), 2, "not empty (file is in it)", "-o nonempty")
    done = run("mount", "--backend", backend, "-o", "nonempty", machine.image, where)
    assert done.returncode == 0, words(done)
    assert not (where / "file").exists()
    assert run("umount", where).returncode == 0
    assert (where / "file").read_text(encoding="ascii") == "mine"


