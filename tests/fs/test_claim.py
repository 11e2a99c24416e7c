"""Claim: of two who mount at one place at the same time one is second."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from vmcorefs.fs import mountpoint
from vmcorefs.fs.mountpoint import Claim


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    first = Claim(str(tmp_path))
    threading.Timer(0.3, first.release).start()
    start = time.monotonic()
    second = Claim(str(tmp_path))
    assert 0.2 < time.monotonic() - start < 5
    second.release()
    second.release()
    first.release()
    (tmp_path / "other").mkdir()
    third, fourth = Claim(str(tmp_path)), Claim(str(tmp_path / "other"))
    third.release()
    fourth.release()


def test_somebody_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody who may read a directory can lock it; nobody must be able to keep others from mounting."""
    monkeypatch.setattr(mountpoint, "_CLAIM_TIMEOUT", 0.3)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        start = time.monotonic()
        Claim(str(tmp_path)).release()
        assert 0.2 < time.monotonic() - start < 5
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_cannot_be_locked(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    Claim(str(tmp_path / name)).release()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    Claim(str(tmp_path)).release()
