"""What is logged: where, with which prefix, from which level on; and the one line for an I/O error."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.bad_bytes import in_vmcore, try_pread
from tests.mounts.faulty_image import faulty_image
from tests.mounts.mounting import PROGRAM, TIMEOUT, clear, in_foreground, need_mounts, need_root, row_of, run, stat_errno, wait_until
from tests.mounts.private_system import ROOT, PrivateSystem, private_system
from vmcorefs.cli.main import COMMANDS, main

BAD = (0x700000, 0x700100)
HELPER = (sys.executable, "-c", "import sys; from vmcorefs.cli.mount_vmcorefs import main; sys.exit(main())")


def said_to_journal(*command: str | Path, matches: bool = True) -> tuple[int, list[str]]:
    """Exit status and what a program says on a stderr that is, or is not, the stream that JOURNAL_STREAM names."""
    with tempfile.TemporaryFile() as stderr:
        status = os.fstat(stderr.fileno())
        stream = f"{status.st_dev}:{status.st_ino + (not matches)}"
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=TIMEOUT,
                              cwd=ROOT, env=os.environ | {"JOURNAL_STREAM": stream})
        stderr.seek(0)
        return done.returncode, stderr.read().decode().splitlines()


# -- prefixes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [
    [*PROGRAM, "mount", "absent", "mnt"], [*PROGRAM, "umount", "absent"], [*PROGRAM, "list", "absent"], [*PROGRAM, "copy", "absent", "out"],
    [*PROGRAM, "info", "absent"], [*PROGRAM, "check", "absent"], [*PROGRAM, "dmesg", "absent"], [*PROGRAM, "drgn", "absent"],
    [*PROGRAM, "frobnicate"], [*HELPER, "absent", "mnt"], [*HELPER, "absent"]], ids=lambda command: " ".join(command[3:]))
def test_an_error_of_every_command(command: list[str]) -> None:
    status, lines = said_to_journal(*command)
    assert status in {1, 2, 32}
    assert len(lines) == 1
    assert re.match(r"<3>[^<v]", lines[0]), lines  # neither the program's name nor the word error: the journal shows them


def test_another_stream_than_the_journals() -> None:
    """A log file, or a terminal, in a service's environment."""
    status, lines = said_to_journal(*PROGRAM, "info", "absent")
    assert said_to_journal(*PROGRAM, "info", "absent", matches=False) == (status, [f"vmcorefs: error: {lines[0][3:]}"])


def test_every_command_is_in_the_test_above() -> None:
    (mark,) = test_an_error_of_every_command.pytestmark  # type: ignore[attr-defined]
    assert {command[3] for command in mark.args[1] if command[1] == "-m"} - {"frobnicate"} == set(COMMANDS)


def test_other_priorities(tmp_path: Path) -> None:
    """<6> what is served, <4> a problem, <7> with --log-level debug; a line each."""
    built = Machine(os_info="bad_csum").build(tmp_path)
    status, lines = said_to_journal(*PROGRAM, "copy", built.image, tmp_path / "a\nb")
    assert status == 0
    assert [line[:3] for line in lines] == ["<6>", "<4>"], lines
    assert "kdump mode" in lines[0]
    status, lines = said_to_journal(*PROGRAM, "info", "--log-level", "debug", built.image)
    assert status == 0
    assert "<7>" in {line[:3] for line in lines} <= {"<7>", "<4>"}, lines


@pytest.mark.parametrize("stream", ["", "x", ":", "0:0", "1"])
def test_a_journal_stream_that_is_none(stream: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    assert main(["info", "absent"]) == 2
    assert capfd.readouterr().err.startswith("vmcorefs: error: absent")


def test_a_closed_stderr_is_no_journal() -> None:
    script = 'exec "$0" "$@" 2>&-'
    done = subprocess.run(["sh", "-c", script, *PROGRAM, "info", "absent"], capture_output=True, check=False, timeout=TIMEOUT,
                          env=os.environ | {"JOURNAL_STREAM": "1:1"})
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


# -- levels ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An image that is worth a warning."""
    built = Machine(os_info="bad_csum").build(tmp_path_factory.mktemp("doubtful"))
    (built.image.parent / "mnt").mkdir()
    return built


LEVELS = {"error": [], "warning": ["warning"], "info": ["", "warning"], "debug": ["", "warning"]}


@pytest.mark.parametrize("level", LEVELS)
def test_log_level_of_mount(doubtful: Built, level: str) -> None:
    """By the option; by the word of that name, which mount(8) can hand on, too."""
    need_mounts()
    where = doubtful.image.parent / "mnt"
    if level in {"error", "info"}:
        done = run("mount", "--log-level", level, doubtful.image, where)
        clear(where)
    else:
        done = subprocess.run([*HELPER, doubtful.image, where, "-f", "-o", f"ro,log-level={level}"], capture_output=True, check=False,
                              timeout=TIMEOUT, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = [line.removeprefix("vmcorefs: ") for line in done.stderr.decode().splitlines()]
    assert [line.partition(": ")[0] if line.startswith(("warning: ", "error: ")) else "" for line in said] == LEVELS[level]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_log_level(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--log-level", "loud", "a", "b"]) == 2
    said = capfd.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert re.match(r"vmcorefs: error: .*--log-level.*invalid choice: 'loud'", said.err), said.err


# -- I/O errors --------------------------------------------------------------------------------------------------------


def bad_reads(vmcore: Path, start: int, count: int) -> None:
    descriptor = os.open(vmcore, os.O_RDONLY)
    try:
        assert {try_pread(descriptor, 16, start) for _ in range(count)} == {errno.EIO}
    finally:
        os.close(descriptor)


def test_an_io_error_in_the_foreground(machine: Built, tmp_path: Path) -> None:
    """One line with the place in vmcore, the absolute address and the place in the file; the others are counted, and told soon."""
    ((start, _),) = in_vmcore(machine, [BAD])
    with faulty_image(machine.image, tmp_path, BAD) as disk, in_foreground(disk.path, tmp_path / "mnt") as process:
        bad_reads(tmp_path / "mnt/vmcore", start, 20)
        time.sleep(2.0)
        assert run("umount", tmp_path / "mnt").returncode == 0
        _, said = process.communicate(timeout=TIMEOUT)
    served, *errors = said.decode().splitlines()
    assert "kdump mode" in served
    assert errors[0] == (f"vmcorefs: error: vmcore at {start:#x}: broken: {disk.path}: absolute address 0x700000: "
                         "cannot read at offset 0x700000: Input/output error")
    rest = [int(found[1]) for line in errors[1:] if (found := re.search(r"\b([0-9]+) more since the last line", line))]
    assert len(rest) == len(errors) - 1 <= 3
    assert sum(rest) + len([line for line in errors if "vmcore at" in line]) == 20


def test_an_io_error_in_the_journal(machine: Built, tmp_path: Path) -> None:
    """As a service has it: in the foreground, stderr a socket of the journal."""
    ((start, _),) = in_vmcore(machine, [BAD])
    where = tmp_path / "mnt"
    where.mkdir()
    ours, journal = socket.socketpair()
    with ours, journal, faulty_image(machine.image, tmp_path, BAD) as disk:
        status = os.fstat(journal.fileno())
        process = subprocess.Popen([*PROGRAM, "mount", "-f", disk.path, where], stdin=subprocess.DEVNULL,
                                   stderr=journal.fileno(), env=os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        try:
            wait_until(lambda: row_of(where) is not None and stat_errno(where / "vmcore") == 0, "the mount")
            bad_reads(where / "vmcore", start, 1)
            assert run("umount", where).returncode == 0
            assert process.wait(TIMEOUT) == 0
        finally:
            clear(where)
            process.kill()
            process.wait()
        journal.close()
        said = b"".join(iter(lambda: ours.recv(65536), b"")).decode().splitlines()
    assert [line[:3] for line in said] == ["<6>", "<3>"]
    assert said[1].startswith(f"<3>vmcore at {start:#x}: broken: {disk.path}: absolute address 0x700000: cannot read at offset 0x700000: ")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[PrivateSystem]:
    need_root()
    folder = tmp_path / "system"
    (folder / "mnt").mkdir(parents=True)
    with private_system(folder) as running:
        yield running
        for row in running.rows():
            running.run("umount", "-l", row.where)


def test_in_the_background_to_syslog(machine: Built, system: PrivateSystem) -> None:
    """An I/O error with facility daemon, priority error and the pid; SIGUSR1 with priority info. A syslog that goes away and comes
    back is no harm.
    """
    ((start, _),) = in_vmcore(machine, [BAD])
    image, vmcore = system.folder / "oldmem.img", system.path(system.folder / "mnt/vmcore")
    image.write_bytes(machine.image.read_bytes())
    place = system.path("/dev/log")
    with listening(place) as log:
        done = system.run("vmcorefs", "mount", "oldmem.img", "mnt", "-o", "pidfile=pid")
        assert done.returncode == 0, done.stderr
        pid = (system.folder / "pid").read_text(encoding="ascii").strip()
        os.truncate(image, BAD[0])
        bad_reads(vmcore, start, 3)
        assert received(log).startswith(
            f"<27>vmcorefs[{pid}]: vmcore at {start:#x}: missing: {image}: absolute address 0x700000: cannot read at offset 0x700000: ")
        assert received(log) == f"<27>vmcorefs[{pid}]: I/O errors: 2 more since the last line"
        system.run("kill", "-USR1", pid)
        assert received(log) == f"<30>vmcorefs[{pid}]: {system.folder}/mnt: 0 reads, 0 bytes, 3 errors"
    place.unlink()
    time.sleep(1.1)
    bad_reads(vmcore, start, 1)
    with listening(place) as log:
        system.run("kill", "-USR1", pid)
        assert received(log).endswith(": 0 reads, 0 bytes, 4 errors")
    done = system.run("vmcorefs", "umount", "mnt")
    assert done.returncode == 0, done.stderr


def test_a_syslog_that_hangs(machine: Built, system: PrivateSystem) -> None:
    """Its queue is full (net.unix.max_dgram_qlen): what does not fit is lost, and neither reads nor the unmount wait for it."""
    (system.folder / "oldmem.img").write_bytes(machine.image.read_bytes())
    full = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii")) + 5
    with listening(system.path("/dev/log")) as log:
        done = system.run("vmcorefs", "mount", "oldmem.img", "mnt", "-o", "pidfile=pid")
        assert done.returncode == 0, done.stderr
        pid = (system.folder / "pid").read_text(encoding="ascii").strip()
        system.run("sh", "-c", f"for i in $(seq {full}); do kill -USR1 {pid}; sleep 0.05; done")
        assert stat_errno(system.path(system.folder / "mnt/vmcore")) == 0
        system.run("kill", pid)
        wait_until(lambda: not system.rows() and system.run("kill", "-0", pid).returncode != 0, "the daemon's end", timeout=5)
        assert received(log).endswith("0 errors")


@contextmanager
def listening(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(place))
        log.settimeout(TIMEOUT)
        yield log


def received(log: socket.socket) -> str:
    return log.recv(65536).decode().rstrip("\0")
