"""sd_notify(3): what arrives at a socket in the place of the service manager's."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from vmcorefs.fs.notify import ServiceManager


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.settimeout(5)
        yield end


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(str(tmp_path / "notify")) as end:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        manager = ServiceManager()
        manager.tell(READY=1, STATUS="serving a b", MAINPID=7)
        assert end.recv(1000) == b"READY=1\nSTATUS=serving a b\nMAINPID=7"
        manager.tell(STOPPING=1)
        assert end.recv(1000) == b"STOPPING=1"


def test_an_abstract_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"vmcorefs-test-{uuid.uuid4().hex}"
    with listening("\0" + name) as end:
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        ServiceManager().tell(READY=1)
        assert end.recv(1000) == b"READY=1"


def test_the_variable_is_not_for_programs_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/x")
    ServiceManager()
    assert "NOTIFY_SOCKET" not in os.environ


def test_no_value_can_add_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(str(tmp_path / "notify")) as end:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        ServiceManager().tell(STATUS="a\nMAINPID=1\rb\udcff")
        assert end.recv(1000) == b"STATUS=a MAINPID=1 b\xff"


@pytest.mark.parametrize("value", [None, "", "/nonexistent/notify", "@vmcorefs-nobody-listens-here", "@", "/" + "x" * 300, "vsock:2:1234"])
def test_nobody_there(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if value is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    ServiceManager().tell(READY=1, STATUS="x")


def test_one_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: a mount's end must not wait for it."""
    with listening(str(tmp_path / "notify")), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(100_000):
                other.sendto(b"x", str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        start = time.monotonic()
        ServiceManager().tell(STOPPING=1)
        assert time.monotonic() - start < 1.5
