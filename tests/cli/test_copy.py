"""vmcorefs copy: words and exit status; signals, full disks, targets that cannot be, a pipe, a terminal."""

from __future__ import annotations

import os
import pty
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import Built, Machine, cpus
from tests.captures import sparse
from tests.mounts.mounting import PROGRAM, TIMEOUT, assert_refused, run, skip_or_fail, words

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]
PAUSED = (sys.executable, "-m", "tests.cli.paused")
MACHINE = Machine(memory=((0, 8 * MIB),), base=2 * MIB, cpus=cpus(2), body_pages="all")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return MACHINE.build(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def data(machine: Built) -> bytes:
    return machine.model.read(0, machine.model.size)


@dataclass
class Paused:
    """A copy that waits."""

    process: subprocess.Popen[bytes]

    def go_on(self) -> tuple[int, str, bytes]:
        """(exit status, stderr, stdout) at its end."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, err.decode(), out


def as_in_a_shell() -> None:
    """Before exec: no signal is ignored, whatever the tests run under (nohup, a shell's &)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def paused(where: int | str, *arguments: str | Path, ignored: int | None = None) -> Iterator[Paused]:
    """``vmcorefs copy`` that has come to offset *where* of vmcore, or is about to open the image."""
    def before_exec() -> None:
        as_in_a_shell()
        if ignored is not None:
            signal.signal(ignored, signal.SIG_IGN)
        os.dup2(writing, 3)

    reading, writing = os.pipe()
    process = subprocess.Popen([*PAUSED, str(where), "copy", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=ROOT, close_fds=False, preexec_fn=before_exec)  # noqa: PLW1509
    os.close(writing)
    try:
        assert os.read(reading, 6) == b"paused", process.communicate()[1].decode()
        yield Paused(process)
    finally:
        os.close(reading)
        process.kill()
        process.communicate()


def the_error(text: str) -> str:
    """The one error line; the others are not many, and no traceback."""
    errors = [line for line in text.splitlines() if line.startswith("vmcorefs: error: ")]
    assert len(errors) == 1, text
    assert all(line.startswith("vmcorefs: ") for line in text.splitlines()), text
    return errors[0]


# -- the main thing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["k61-smp1", "k61-zfcpdump-smp3"])
def test_a_capture(tmp_path: Path, name: str) -> None:
    capture = sparse.expand(name, tmp_path)
    done = run("copy", *(["--hsa", str(capture.hsa)] if capture.hsa else []), capture.image, tmp_path / "vmcore")
    assert (done.returncode, done.stdout) == (0, b""), words(done)
    assert sparse.compare(name, tmp_path / "vmcore") == []
    status = (tmp_path / "vmcore").stat()
    assert status.st_blocks * 512 < 4 * MIB < status.st_size


def test_quiet_where_stderr_is_no_terminal(machine: Built, data: bytes, tmp_path: Path) -> None:
    done = run("copy", machine.image, tmp_path / "vmcore")
    assert done.returncode == 0
    assert len(words(done).splitlines()) == 1
    assert "kdump mode" in words(done)
    assert (tmp_path / "vmcore").read_bytes() == data
    assert os.listdir(tmp_path) == ["vmcore"]


def test_a_name_without_a_folder(machine: Built, data: bytes, tmp_path: Path) -> None:
    assert run("copy", machine.image, "vmcore", cwd=tmp_path).returncode == 0
    assert (tmp_path / "vmcore").read_bytes() == data


def test_mode_under_an_open_umask(machine: Built, tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", 'umask 0; exec "$@"', "sh", *PROGRAM, "copy", machine.image, tmp_path / "vmcore"], check=True,
                   capture_output=True)
    assert stat.S_IMODE((tmp_path / "vmcore").stat().st_mode) == 0o600


# -- targets that cannot be ------------------------------------------------------------------------------------------------


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _block_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(7, 250))
    except PermissionError:
        skip_or_fail("a block device can be made by root only")


@pytest.mark.parametrize(("make", "name", "parts"), [
    (lambda path: path.write_bytes(b"mine"), "there", ["is there already", "--force"]),
    (lambda path: path.mkdir(), "there", ["is a directory", "there/vmcore"]),
    (lambda path: path.mkdir(), "there/", ["is a directory", "there/vmcore"]),
    (lambda path: None, "", ["file name"]),
    (lambda path: None, "missing/vmcore", ["there is no directory", "missing;"]),
    (lambda path: path.write_bytes(b"mine"), "there/vmcore", ["Not a directory"]),
    (lambda path: path.symlink_to("nowhere"), "there", ["symbolic link to nowhere", "not there"]),
    (lambda path: path.symlink_to("there"), "there", ["symbolic link"]),
    (os.mkfifo, "there", ["is a FIFO", "give - as FILE"]),
    (lambda path: None, "/dev/null", ["is a character device", "give - as FILE"]),
    (_block_device, "there", ["is a block device", "give - as FILE"]),
    (_socket, "there", ["is a socket"]),
    (lambda path: None, "n" * 253, ["File name too long"]),
    (lambda path: path.symlink_to("a\nb"), "there", ["symbolic link to a\\nb"]),
], ids=["file", "directory", "directory/", "empty", "missing directory", "below a file", "dangling link", "link to itself", "FIFO",
        "character device", "block device", "socket", "long name", "newline"])
@pytest.mark.parametrize("force", [False, True])
def test_refused_targets(machine: Built, tmp_path: Path, make: Callable[[Path], object], name: str, parts: list[str], force: bool
                         ) -> None:
    path = tmp_path / "there"
    make(path)
    if force and parts[0] == "is there already":
        return
    before = sorted((entry.name, entry.lstat().st_ino) for entry in tmp_path.iterdir())
    done = run("copy", *(["--force"] if force else []), machine.image, name if name.startswith("/") or not name else
               f"{tmp_path}/{name}")
    assert_refused(done, 1, *parts)
    assert sorted((entry.name, entry.lstat().st_ino) for entry in tmp_path.iterdir()) == before


def test_a_wrong_target_is_said_before_the_image_is_looked_at(tmp_path: Path) -> None:
    done = run("copy", "no-such-image", tmp_path)
    assert_refused(done, 1, "is a directory")


def test_force_does_not_overwrite_the_image(machine: Built, tmp_path: Path) -> None:
    image = tmp_path / "oldmem.img"
    shutil.copyfile(machine.image, image)
    before = image.read_bytes()
    assert_refused(run("copy", "--force", image, image), 2, "is the image itself")
    assert image.read_bytes() == before
    assert os.listdir(tmp_path) == ["oldmem.img"]


# -- disks -----------------------------------------------------------------------------------------------------------------


def _in_namespace(script: str, *arguments: str | Path) -> str:
    """A shell script, with mounts that nobody else sees; what it says."""
    if os.geteuid() != 0:
        skip_or_fail("mounting a small disk needs root")
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, check=False,
                          timeout=TIMEOUT, cwd=ROOT)
    if "unshare" in done.stderr:
        skip_or_fail(f"there are no mount namespaces: {done.stderr}")
    return done.stdout + done.stderr


def test_a_full_disk_and_then_room(machine: Built, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").write_bytes(data)
    said = _in_namespace("""
        cd "$1" && mount -t tmpfs -o size=3500k none disk || exit
        "$2" -m vmcorefs copy "$3" disk/vmcore; echo "status $?"
        ls disk
        cmp -n "$(stat -c %s disk/vmcore.part)" disk/vmcore.part model && echo "the part is right"
        stat -c 'size %s mode %a' disk/vmcore.part
        mount -o remount,size=32m disk
        "$2" -m vmcorefs copy "$3" disk/vmcore; echo "status $?"
        ls disk
        cmp disk/vmcore model && echo "the copy is right"
    """, tmp_path, sys.executable, machine.image)
    out = [line for line in said.splitlines() if not line.startswith("vmcorefs: ")]
    size = out[3].split()[1]
    assert 3 * MIB <= int(size) <= 3500 << 10
    assert out == ["status 1", "vmcore.part", "the part is right", f"size {size} mode 600", "status 0", "vmcore",
                   "the copy is right"]
    error = the_error("\n".join(line for line in said.splitlines() if line.startswith("vmcorefs: ")))
    assert "disk/vmcore.part: cannot write: No space left on device; make room; " in error
    assert f"what was copied is in disk/vmcore.part ({size} bytes" in error
    assert error.endswith("the same command goes on there")


def test_a_disk_without_room_for_anything(machine: Built, tmp_path: Path) -> None:
    """Not even an inode."""
    (tmp_path / "disk").mkdir()
    said = _in_namespace("""
        cd "$1" && mount -t tmpfs -o nr_inodes=1 none disk || exit
        "$2" -m vmcorefs copy "$3" disk/vmcore; echo "vmcorefs: status $?"
    """, tmp_path, sys.executable, machine.image)
    assert "disk/vmcore.part: cannot create or write: No space left on device" in the_error(said)
    assert "status 1" in said


def test_a_read_only_directory(machine: Built, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    said = _in_namespace("""
        cd "$1" && mount -t tmpfs -o ro none disk || exit
        "$2" -m vmcorefs copy "$3" disk/vmcore; echo "vmcorefs: status $?"
    """, tmp_path, sys.executable, machine.image)
    assert "disk/vmcore.part: cannot create or write: Read-only file system; choose another directory" in the_error(said)
    assert "status 1" in said


def test_a_limit_of_the_file_size(machine: Built, data: bytes, tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, "copy", machine.image, tmp_path / "vmcore"], capture_output=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB + 5, 2 * MIB + 5)))
    assert_refused(done, 1, "vmcore.part: cannot write: File too large", f"({2 * MIB + 5} bytes", "the same command goes on there")
    assert (tmp_path / "vmcore.part").read_bytes() == data[:2 * MIB + 5]
    assert run("copy", machine.image, tmp_path / "vmcore").returncode == 0
    assert (tmp_path / "vmcore").read_bytes() == data


# -- bytes that cannot be read ---------------------------------------------------------------------------------------------


def test_a_cut_image_and_then_the_whole(machine: Built, data: bytes, tmp_path: Path) -> None:
    """Everything before the first bad byte is in the part; with the repaired image the same command goes on."""
    image, cut = tmp_path / "oldmem.img", 0x5a1234
    shutil.copyfile(machine.image, image)
    os.truncate(image, cut)
    done = run("copy", image, tmp_path / "vmcore")
    offset = len(data) - (8 * MIB - cut)
    assert_refused(done, 1, f"absolute address {cut:#x}: cannot read at offset {cut:#x}: ", f"vmcore.part ({offset} bytes",
                   "the same command goes on there")
    assert (tmp_path / "vmcore.part").read_bytes() == data[:offset]
    assert not (tmp_path / "vmcore").exists()

    shutil.copyfile(machine.image, image)
    done = run("copy", image, tmp_path / "vmcore")
    assert done.returncode == 0, words(done)
    assert f"vmcore.part: {offset} bytes are there from an earlier copy" in words(done)
    assert "anew" not in words(done)
    assert (tmp_path / "vmcore").read_bytes() == data


def test_a_part_of_another_image(machine: Built, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmcore.part").write_bytes(b"\x7fELF" + data[:3 * MIB])
    done = run("copy", machine.image, tmp_path / "vmcore")
    assert done.returncode == 0
    assert "vmcore.part: is not of this vmcore; starts anew" in words(done)
    assert (tmp_path / "vmcore").read_bytes() == data


# -- signals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_part(machine: Built, data: bytes, tmp_path: Path, number: int) -> None:
    with paused(3 * MIB, machine.image, tmp_path / "vmcore") as copy:
        copy.process.send_signal(number)
        status, said, out = copy.go_on()
    assert (status, out) == (128 + number, b"")
    assert the_error(said) == (f"vmcorefs: error: interrupted; what was copied is in {tmp_path}/vmcore.part ({3 * MIB} bytes, "
                               "3 MiB of 7.0 MiB); the same command goes on there")
    assert os.listdir(tmp_path) == ["vmcore.part"]
    assert (tmp_path / "vmcore.part").read_bytes() == data[:3 * MIB]
    assert run("copy", machine.image, tmp_path / "vmcore").returncode == 0
    assert (tmp_path / "vmcore").read_bytes() == data


def test_killed(machine: Built, data: bytes, tmp_path: Path) -> None:
    with paused(3 * MIB, machine.image, tmp_path / "vmcore") as copy:
        copy.process.kill()
        copy.go_on()
    assert run("copy", machine.image, tmp_path / "vmcore").returncode == 0
    assert (tmp_path / "vmcore").read_bytes() == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(machine: Built, data: bytes, tmp_path: Path, number: int) -> None:
    """nohup vmcorefs copy ... &"""
    with paused(3 * MIB, machine.image, tmp_path / "vmcore", ignored=number) as copy:
        copy.process.send_signal(number)
        status, said, _ = copy.go_on()
    assert (status, len(said.splitlines())) == (0, 1)
    assert (tmp_path / "vmcore").read_bytes() == data


def test_a_signal_while_the_image_is_opened(machine: Built, tmp_path: Path) -> None:
    with paused("open", machine.image, tmp_path / "vmcore") as copy:
        copy.process.send_signal(signal.SIGTERM)
        status, said, _ = copy.go_on()
    assert (status, said) == (143, "vmcorefs: error: interrupted; nothing was copied\n")
    assert os.listdir(tmp_path) == []


def test_sigusr1_says_where_it_is(machine: Built, data: bytes, tmp_path: Path) -> None:
    """While it waits for the image; and it goes on."""
    with paused(3 * MIB, machine.image, tmp_path / "vmcore") as copy:
        assert copy.process.stderr is not None
        assert b"kdump mode" in copy.process.stderr.readline()
        for _ in range(2):
            copy.process.send_signal(signal.SIGUSR1)
            line = copy.process.stderr.readline().decode()
            percent = 3 * MIB * 100 // len(data)
            assert re.fullmatch(rf"vmcorefs: {3 * MIB} of {len(data)} bytes \({percent}%\), \S+ ([KMG]iB|bytes)/s, \d+ .*left\n",
                                line), line
        status, said, _ = copy.go_on()
    assert (status, said) == (0, "")
    assert (tmp_path / "vmcore").read_bytes() == data


def test_sigusr1_while_the_image_is_opened(machine: Built, data: bytes, tmp_path: Path) -> None:
    with paused("open", machine.image, tmp_path / "vmcore") as copy:
        assert copy.process.stderr is not None
        copy.process.send_signal(signal.SIGUSR1)
        assert copy.process.stderr.readline() == b"vmcorefs: the image is being opened, nothing is copied yet\n"
        assert copy.go_on()[0] == 0
    assert (tmp_path / "vmcore").read_bytes() == data


def test_two_copies_to_the_same_file(machine: Built, data: bytes, tmp_path: Path) -> None:
    with paused(3 * MIB, machine.image, tmp_path / "vmcore") as copy:
        for force in ([], ["--force"]):
            assert_refused(run("copy", *force, machine.image, tmp_path / "vmcore"), 1, "vmcore.part: another copy is writing it")
        assert (tmp_path / "vmcore.part").read_bytes() == data[:(tmp_path / "vmcore.part").stat().st_size]
        assert copy.go_on()[0] == 0
    assert (tmp_path / "vmcore").read_bytes() == data


# -- a pipe, a terminal ----------------------------------------------------------------------------------------------------


def test_a_pipe(machine: Built, data: bytes) -> None:
    done = run("copy", machine.image, "-")
    assert done.returncode == 0
    assert done.stdout == data
    assert len(words(done).splitlines()) == 1


def test_the_reader_goes(machine: Built) -> None:
    process = subprocess.Popen([*PROGRAM, "copy", machine.image, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(5)[:4] == b"\x7fELF"
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert re.search(r"error: standard output: cannot write: the reader has gone; \d+ of \d+ bytes were written$", the_error(said))


def test_a_full_device(machine: Built) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "copy", machine.image, "-"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert "standard output: cannot write: No space left on device; 0 of" in the_error(done.stderr.decode())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_reader_does_not_read(machine: Built, number: int) -> None:
    process = subprocess.Popen([*PROGRAM, "copy", machine.image, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=as_in_a_shell)  # noqa: PLW1509
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(5)[:4] == b"\x7fELF"  # now it waits for us
    process.send_signal(number)
    assert process.wait(TIMEOUT) == 128 + number
    assert re.search(r"interrupted; \d+ of \d+ bytes were written to standard output$", the_error(process.stderr.read().decode()))
    process.stdout.close()
    process.stderr.close()


@contextmanager
def terminal(columns: int = 80) -> Iterator[tuple[int, Callable[[], str]]]:
    """(a terminal, what was written there; to be asked once)."""
    outside, inside = pty.openpty()
    subprocess.run(["stty", "cols", str(columns), "-opost"], stdin=inside, check=True)

    def read() -> str:
        os.close(inside)
        found = b""
        with suppress(OSError):  # EIO: nobody has it open any more
            while part := os.read(outside, 4096):
                found += part
        return found.decode()

    try:
        yield inside, read
    finally:
        os.close(outside)
        with suppress(OSError):
            os.close(inside)


def test_stdout_is_a_terminal(machine: Built) -> None:
    with terminal() as (inside, read):
        done = subprocess.run([*PROGRAM, "copy", machine.image, "-"], stdout=inside, stderr=subprocess.PIPE, check=False)
        assert read() == ""
    assert done.returncode == 2
    assert "standard output is a terminal" in the_error(done.stderr.decode())


def test_stdout_is_closed(machine: Built) -> None:
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "copy", machine.image, "-"],
                          capture_output=True, check=False)
    assert_refused(done, 1, "standard output: cannot write: it is closed; 0 of ")


@pytest.mark.parametrize("columns", [80, 20])
def test_stderr_is_a_terminal(machine: Built, data: bytes, tmp_path: Path, columns: int) -> None:
    """A line with percent, rate and time left, written over and over, never longer than the terminal; nothing of it stays."""
    with terminal(columns) as (inside, read):
        done = subprocess.run([*PROGRAM, "copy", machine.image, tmp_path / "vmcore"], stdout=subprocess.PIPE, stderr=inside,
                              check=False)
        said = read()
    assert (done.returncode, done.stdout) == (0, b"")
    assert (tmp_path / "vmcore").read_bytes() == data
    introduction, _, rest = said.partition("\n")
    assert "kdump mode" in introduction
    lines = rest.split("\r")
    assert lines[1].startswith("0% of 7.0 MiB, 0 by")
    assert lines[-3].startswith("100% of 7.0 MiB, ")
    if columns == 80:
        assert re.fullmatch(r"100% of 7\.0 MiB, \S+ [KMG]iB/s, 0 s left *", lines[-3])
    assert lines[-2].strip() == "" == lines[-1]
    assert max(map(len, lines)) < columns


def test_a_terminal_is_left_alone_where_less_is_asked_for(machine: Built, tmp_path: Path) -> None:
    with terminal() as (inside, read):
        subprocess.run([*PROGRAM, "copy", "--log-level", "warning", machine.image, tmp_path / "vmcore"], stderr=inside, check=True)
        assert read() == ""


def test_an_error_begins_on_a_line_of_its_own(machine: Built, tmp_path: Path) -> None:
    image = tmp_path / "oldmem.img"
    shutil.copyfile(machine.image, image)
    os.truncate(image, 0x5a1234)
    with terminal() as (inside, read):
        subprocess.run([*PROGRAM, "copy", image, tmp_path / "vmcore"], stderr=inside, check=False)
        said = read()
    last = said.splitlines()[-1] if said.count("\n") else said
    assert last.startswith("vmcorefs: error: ")
    assert said.count("vmcorefs: error: ") == 1
