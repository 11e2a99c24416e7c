"""The unit's own command under a service manager that is a socket of ours: what it is told, when, and what the journal gets."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.mounting import clear, need_mounts, need_root, read_errno, row_of, stat_errno, wait_until
from tests.systemd.units import command, program

LIMIT = 30.0


class Manager:
    """A datagram socket as systemd opens one, at a path or in the abstract namespace (@)."""

    def __init__(self, name: str):
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.senders: list[int] = []

    def receive(self, timeout: float = LIMIT) -> dict[str, str] | None:
        """The next message; None if none comes."""
        if not select.select([self._socket], [], [], timeout)[0]:
            return None
        data, extra, _, _ = self._socket.recvmsg(65536, 256)
        self.senders += [int.from_bytes(bytes(body)[:4], "little") for _, kind, body in extra if kind == socket.SCM_CREDENTIALS]
        lines = data.decode().split("\n")
        assert all("=" in line for line in lines), data
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """At a path, or where the test asks for it in the abstract namespace."""
    kind = getattr(request, "param", "path")
    opened = Manager(str(tmp_path / "notify") if kind == "path" else f"@vmcorefs-test-{os.getpid()}-{time.monotonic_ns()}")
    yield opened
    opened.close()


class Service:
    """The process of ExecStart, and its journal: all that it wrote to standard error."""

    def __init__(self, capture: Path, where: Path, environment: dict[str, str]):
        self.where = where
        self._read, write = os.pipe()
        status = os.fstat(write)
        names = {"PATH": f"{program().parent}:/usr/bin:/bin:/usr/sbin:/sbin", "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        mark = {name: value for name, value in os.environ.items() if name.startswith("VMCOREFS_TEST")}
        self.process = subprocess.Popen(command("ExecStart", capture), stdin=subprocess.DEVNULL, stdout=write, stderr=write,
                                        env=names | mark | environment)
        os.close(write)

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal and wait; how long it took."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(LIMIT)
        return time.monotonic() - start

    def journal(self) -> list[str]:
        """All lines; the process has ended."""
        self.process.wait(LIMIT)
        data = b""
        while piece := os.read(self._read, 65536):
            data += piece
        return data.decode().splitlines()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        clear(self.where)
        os.close(self._read)


Starting = Callable[..., Service]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Machine().build(tmp_path)


@pytest.fixture
def capture(tmp_path: Path, built: Built) -> Path:
    path = tmp_path / "db7.toml"
    path.write_text(f'image = "{built.image}"\n\n[mount]\nmountpoint = "mnt"\n', encoding="utf-8")
    (tmp_path / "mnt").mkdir()
    return path


@pytest.fixture
def start(capture: Path, tmp_path: Path) -> Iterator[Starting]:
    need_mounts()
    need_root()
    services: list[Service] = []

    def starting(manager: Manager | None = None, **environment: str) -> Service:
        names = {"NOTIFY_SOCKET": manager.name} if manager else {}
        services.append(Service(capture, tmp_path / "mnt", names | environment))
        return services[-1]

    yield starting
    for service in services:
        service.close()


@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_ready_says_what_is_served_and_is_sent_by_the_main_process(start: Starting, manager: Manager, built: Built) -> None:
    service = start(manager)
    message = manager.receive()
    assert stat_errno(service.where / "vmcore") == 0
    assert read_errno(service.where / "vmcore") == 0
    assert message is not None
    assert set(message) == {"READY", "STATUS", "MAINPID"}
    assert message["READY"] == "1"
    assert re.fullmatch(rf"serving {re.escape(str(built.image))} \([\d.]+ [KMGT]?i?B, \w+ mode\) at {service.where}", message["STATUS"])
    assert message["MAINPID"] == str(service.pid)
    assert set(manager.senders) == {service.pid}  # NotifyAccess=main
    assert manager.receive(0.2) is None


def test_stopping_is_said_and_nothing_is_left(start: Starting, manager: Manager) -> None:
    service = start(manager)
    assert manager.receive()
    took = service.end()
    assert took < 2
    assert service.process.returncode == 0
    assert manager.receive(1) == {"STOPPING": "1"}
    assert row_of(service.where) is None
    assert list(service.where.iterdir()) == []


@contextmanager
def stopped_at_its_mount(service: Service) -> Iterator[None]:
    """The process stands still from the moment at which its mount appears."""
    with open("/proc/self/mountinfo", "rb") as table:
        changes = select.poll()
        changes.register(table, select.POLLPRI | select.POLLERR)
        end = time.monotonic() + LIMIT
        while row_of(service.where) is None:
            assert service.process.poll() is None
            assert time.monotonic() < end
            changes.poll(50)
    os.kill(service.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(service.pid, signal.SIGCONT)


def test_not_ready_before_the_mount_answers(start: Starting, manager: Manager) -> None:
    """A mount that is in the mount table need not answer yet: the first reader waits until INIT was dealt with."""
    for _ in range(30):
        service = start(manager)
        with stopped_at_its_mount(service):
            message = manager.receive(0.5)
        if message is None:
            break
        service.end()
        assert manager.receive() == {"STOPPING": "1"}
    else:
        pytest.fail("READY came before the process could be stopped, 30 times")
    message = manager.receive()
    assert message is not None
    assert message["READY"] == "1"


@pytest.mark.parametrize("wrong", ["image", "key", "mountpoint", "mounted"])
def test_a_start_that_fails_says_nothing_to_the_manager(wrong: str, start: Starting, manager: Manager, capture: Path, tmp_path: Path
                                                        ) -> None:
    other = None
    if wrong == "mounted":
        other = start()
        wait_until(lambda: stat_errno(tmp_path / "mnt" / "vmcore") == 0, "the other mount")
    text = capture.read_text(encoding="utf-8")
    changed = {"image": text.replace("image =", 'image = "/nowhere.img" #'), "key": "mod = 'plain'\n" + text,
               "mountpoint": text.replace('"mnt"', '"nowhere"'), "mounted": text}
    capture.write_text(changed[wrong], encoding="utf-8")
    service = start(manager)
    lines = service.journal()
    assert service.process.returncode == 2, lines
    assert manager.receive(0.1) is None
    assert [line[:3] for line in lines].count("<3>") == 1, lines
    if other is not None:
        assert read_errno(tmp_path / "mnt" / "vmcore") == 0


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "@nobody-listens-here", "relative"])
def test_a_manager_that_is_not_there_is_no_reason_not_to_serve(name: str, start: Starting) -> None:
    service = start(NOTIFY_SOCKET=name)
    wait_until(lambda: stat_errno(service.where / "vmcore") == 0, "an answer", LIMIT)
    assert read_errno(service.where / "vmcore") == 0
    service.end()
    assert service.process.returncode == 0


def test_a_killed_service_leaves_a_dead_mount_that_the_next_start_replaces(start: Starting, manager: Manager) -> None:
    first = start(manager)
    assert manager.receive()
    first.end(signal.SIGKILL)
    assert row_of(first.where) is not None
    assert read_errno(first.where / "vmcore") == errno.ENOTCONN
    second = start(manager)
    assert manager.receive()
    assert read_errno(second.where / "vmcore") == 0
    second.end()
    assert row_of(second.where) is None


def test_stopped_while_read_it_ends_well_and_says_so(start: Starting, manager: Manager) -> None:
    service = start(manager)
    assert manager.receive()
    descriptor = os.open(service.where / "vmcore", os.O_RDONLY)
    try:
        assert os.read(descriptor, 4) == b"\x7fELF"
        assert service.end() < 2
        assert service.process.returncode == 0
        assert row_of(service.where) is None
        with pytest.raises(OSError, match=r"\[Errno (107|103)\]"):
            os.read(descriptor, 1)
    finally:
        with suppress(OSError):  # close asks the daemon, too
            os.close(descriptor)
    assert manager.receive(1) == {"STOPPING": "1"}
    assert any(line.startswith("<4>") for line in service.journal())


def test_journal_lines_have_priorities(start: Starting, manager: Manager, built: Built) -> None:
    service = start(manager)
    assert manager.receive()
    os.truncate(built.image, 4096)
    with suppress(OSError), (service.where / "vmcore").open("rb", buffering=0) as file:
        file.seek(file.seek(0, os.SEEK_END) - 4096)
        file.read(4096)
    service.process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    service.end()
    lines = service.journal()
    assert all(re.match(r"<[3467]>\S", line) for line in lines), lines
    assert any(line.startswith("<6>") and " mode" in line for line in lines), lines
    assert any(line.startswith("<6>") and "reads" in line for line in lines), lines
    assert any(line.startswith("<3>") and str(built.image) in line for line in lines), lines


@pytest.mark.parametrize("stream", ["", "1:1", "no numbers", "7"])
def test_no_prefixes_where_standard_error_is_not_the_journal(stream: str, start: Starting, manager: Manager) -> None:
    """A program started from a service's shell has the variable, and its standard error somewhere else."""
    service = start(manager, JOURNAL_STREAM=stream)
    assert manager.receive()
    service.end()
    lines = service.journal()
    assert lines and all(line.startswith("vmcorefs: ") for line in lines), lines
