"""Counters in a small file that the daemon has mapped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from vmcorefs.fs.counters import Counters, Counts, read_counts


def counted(path: Path) -> Counts | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_counts(descriptor)
    finally:
        os.close(descriptor)


def keep(counters: Counters, path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        counters.keep_in(descriptor)
    finally:
        os.close(descriptor)


def test_counting(tmp_path: Path) -> None:
    counters = Counters()
    counters.add(100)
    assert counters.counts() == Counts(1, 100, 0)
    keep(counters, tmp_path / "counters")
    assert counted(tmp_path / "counters") == Counts(1, 100, 0)  # what came before is not lost
    for count in (0, 1 << 20, -5, 7, -1):
        counters.add(count)
    assert counters.counts() == counted(tmp_path / "counters") == Counts(4, 107 + (1 << 20), 2)
    assert str(counters.counts()) == "4 reads, 1048683 bytes, 2 errors"


def test_more_than_32_bits(tmp_path: Path) -> None:
    counters = Counters()
    keep(counters, tmp_path / "counters")
    for _ in range(5):
        counters.add(1 << 40)
    assert counted(tmp_path / "counters") == Counts(5, 5 << 40, 0)


def test_the_file_is_written_whole_at_the_start(tmp_path: Path) -> None:
    """A full file system must not end the daemon by SIGBUS later."""
    keep(Counters(), tmp_path / "counters")
    status = (tmp_path / "counters").stat()
    assert status.st_size == 4096
    assert status.st_blocks * 512 >= 4096


def test_a_full_file_system_at_the_start() -> None:
    counters = Counters()
    counters.add(3)
    descriptor = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="No space left"):
            counters.keep_in(descriptor)
    finally:
        os.close(descriptor)
    counters.add(4)
    assert counters.counts() == Counts(2, 7, 0)


def test_what_was_counted_outlives_a_killed_daemon(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        counters = Counters()
        keep(counters, tmp_path / "counters")
        for _ in range(10):
            counters.add(5)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert counted(tmp_path / "counters") == Counts(10, 50, 0)


@pytest.mark.parametrize("content", [b"", b"vmcoreN1", b"vmcoreN2" + bytes(24), bytes(4096), b"x" * 4096])
def test_what_is_no_such_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "counters").write_bytes(content)
    assert counted(tmp_path / "counters") is None
