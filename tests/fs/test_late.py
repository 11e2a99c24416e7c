"""A file that a process of its own makes: it appears when it is ready, or never, and nothing is left of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.mounts.life import children, state
from tests.mounts.mounting import TIMEOUT, wait_until
from vmcorefs.fs.late import Late


def started(make: Callable[[], bytes | None], keep: tuple[int, ...] = ()) -> Late:
    late = Late(make)
    assert not late.ready()
    late.start(keep)
    return late


def wait_for_its_end() -> None:
    """Nobody has to ask for the file: no defunct process stays until then."""
    wait_until(lambda: not children(os.getpid()), "the end of the process")


def content(late: Late) -> bytes:
    wait_until(late.ready, "the file")
    assert late.size is not None
    view = memoryview(bytearray(late.size + 10))
    count = late.preadinto(view, 0)
    os.close(late._memory)
    return bytes(view[:count])


@pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)) * 20_000])
def test_it_appears(data: bytes) -> None:
    late = started(lambda: data)
    assert content(late) == data
    wait_for_its_end()
    late.stop()


def _raise() -> bytes:
    raise ValueError


def _die() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b"never"


@pytest.mark.parametrize("make", [lambda: None, _raise, _die], ids=["nothing", "an exception", "a crash"])
def test_it_never_appears(make: Callable[[], bytes | None]) -> None:
    late = started(make)
    wait_for_its_end()
    late._waiting.join(TIMEOUT)
    assert not late.ready()
    late.stop()
    os.close(late._memory)


def _sleep() -> bytes:
    time.sleep(TIMEOUT)
    return b"never"


def test_stop() -> None:
    late = started(_sleep)
    assert len(children(os.getpid())) == 1
    start = time.monotonic()
    late.stop()
    assert time.monotonic() - start < 1
    wait_for_its_end()
    assert not late.ready()
    os.close(late._memory)


def test_what_it_holds(tmp_path: Path) -> None:
    """The descriptors that it needs, and none that somebody waits for the end of; its standard ones are nobody's."""
    (tmp_path / "image").touch()
    with (tmp_path / "image").open("rb") as image, (tmp_path / "other").open("wb"):
        late = started(lambda: "\n".join(sorted(_open_files())).encode(), (image.fileno(),))
        targets = content(late).decode().splitlines()
    assert targets == ["/dev/null"] * 3 + ["/memfd:vmcorefs-late (deleted)", str(tmp_path / "image")]
    wait_for_its_end()


def _open_files() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed them
            yield os.readlink(f"/proc/self/fd/{name}")


def test_no_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount goes on without the file."""
    def fail() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fail)
    late = started(lambda: b"never")
    assert not late.ready()
    late.stop()
    os.close(late._memory)


def test_it_dies_with_its_daemon() -> None:
    """One that was killed must not leave somebody behind who holds the image."""
    script = """
import time
from vmcorefs.fs.late import Late
late = Late(lambda: time.sleep(60))
late.start(())
print(late._pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        late = int(process.stdout.readline())
        wait_until(lambda: os.readlink(f"/proc/{late}/fd/0") == "/dev/null" == os.readlink(f"/proc/{late}/fd/1"), "its start")
        process.kill()
    wait_until(lambda: state(late) in {"", "Z"}, "its end")
