"""Operations: the one error rule, and everything else the callbacks ask, on a tree with an invented read function."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable

import pytest

from vmcorefs.errors import OldmemReadError
from vmcorefs.fs.operations import Operations
from vmcorefs.fs.tree import BLOCK_SIZE, File, Tree

SIZE = 10_000
DATA = bytes(i % 251 for i in range(SIZE))


def make(fail: Callable[[memoryview, int, bool], int] | None = None, *, direct_io: bool = True) -> Operations:
    def preadinto(view: memoryview, offset: int, salvage: bool) -> int:
        data = DATA[offset:offset + len(view)]
        view[:len(data)] = data
        return len(data)

    tree = Tree({"first": File(3, preadinto), "vmcore": File(SIZE, fail or preadinto)}, mtime_ns=123)
    return Operations(tree, direct_io=direct_io)


def read(operations: Operations, size: int, offset: int, *, short_allowed: bool) -> tuple[int, bytes]:
    buffer = bytearray(b"\xee" * size)
    return operations.read(1, memoryview(buffer), offset, short_allowed=short_allowed), bytes(buffer)


def broken(good: int) -> Callable[[memoryview, int, bool], int]:
    def fail(view: memoryview, offset: int, salvage: bool) -> int:
        view[:good] = DATA[offset:offset + good]
        raise OldmemReadError("image", offset + good, "bad sector", good=good, address=offset + good)

    return fail


@pytest.mark.parametrize("short_allowed", [True, False])
def test_good_bytes(short_allowed: bool) -> None:
    assert read(make(), 100, 50, short_allowed=short_allowed) == (100, DATA[50:150])
    count, buffer = read(make(), 100, SIZE - 30, short_allowed=short_allowed)
    assert (count, buffer[:30]) == (30, DATA[-30:])  # at the end a short count is the truth
    assert read(make(), 100, SIZE, short_allowed=short_allowed)[0] == 0
    assert read(make(), 100, SIZE + 5000, short_allowed=short_allowed)[0] == 0


@pytest.mark.parametrize(("good", "short_allowed", "wanted"), [
    (40, True, 40), (1, True, 1), (99, True, 99), (0, True, -errno.EIO),
    (40, False, -errno.EIO), (99, False, -errno.EIO), (0, False, -errno.EIO),
])
def test_the_error_rule(good: int, short_allowed: bool, wanted: int) -> None:
    """Short only for a direct read, and only where its first byte is good; a page cache request is full or EIO."""
    count, buffer = read(make(broken(good)), 100, 200, short_allowed=short_allowed)
    assert count == wanted
    assert buffer[:max(count, 0)] == DATA[200:200 + max(count, 0)]


@pytest.mark.parametrize("short_allowed", [True, False])
def test_salvage_is_asked_for_only_where_it_can_be_used(short_allowed: bool) -> None:
    asked = []

    def remember(view: memoryview, offset: int, salvage: bool) -> int:
        asked.append(salvage)
        return len(view)

    read(make(remember), 10, 0, short_allowed=short_allowed)
    assert asked == [short_allowed]


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), OSError("no number"), PermissionError(1, "no")])
@pytest.mark.parametrize("short_allowed", [True, False])
def test_any_system_error_is_eio(error: OSError, short_allowed: bool) -> None:
    def fail(view: memoryview, offset: int, salvage: bool) -> int:
        raise error

    assert read(make(fail), 100, 0, short_allowed=short_allowed)[0] == -errno.EIO


@pytest.mark.parametrize("error", [ValueError("closed"), AssertionError(), ZeroDivisionError(), MemoryError()])
def test_an_internal_error_is_eio(error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never "nothing to read"; and it is logged."""
    monkeypatch.setattr(logging.getLogger("vmcorefs"), "propagate", True)

    def fail(view: memoryview, offset: int, salvage: bool) -> int:
        raise error

    assert read(make(fail), 100, 0, short_allowed=True)[0] == -errno.EIO
    assert "vmcore" in caplog.text


def test_errors_are_logged_once_a_second(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("vmcorefs"), "propagate", True)
    now = [1000.0]
    monkeypatch.setattr("vmcorefs.fs.operations.time.monotonic", lambda: now[0])
    operations = make(broken(4))
    for _ in range(50):
        read(operations, 100, 0x100, short_allowed=True)
    # pytest may hand on a record of this logger twice, by its own handler and by propagation
    assert len({id(record) for record in caplog.records}) == 1
    assert "vmcore at 0x104" in caplog.text
    assert "bad sector" in caplog.text
    now[0] += 1.5
    read(operations, 100, 0x100, short_allowed=True)
    assert len({id(record) for record in caplog.records}) == 2
    assert "49 more" in caplog.records[-1].getMessage()


def test_what_was_left_out_is_told_when_the_errors_stop(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and only where something was left out."""
    monkeypatch.setattr(logging.getLogger("vmcorefs"), "propagate", True)
    monkeypatch.setattr("vmcorefs.fs.operations._QUIET", 0.2)
    operations = make(broken(4))
    for _ in range(5):
        read(operations, 100, 0x100, short_allowed=True)
    time.sleep(0.6)
    assert list({id(record): record.getMessage() for record in caplog.records}.values())[1:] == ["I/O errors: 4 more since the last line"]
    read(make(broken(4)), 100, 0x100, short_allowed=True)
    count = len(caplog.records)
    time.sleep(0.4)
    assert len(caplog.records) == count


def test_internal_errors_are_logged_once_a_second(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("vmcorefs"), "propagate", True)

    def fail(view: memoryview, offset: int, salvage: bool) -> int:
        raise ZeroDivisionError("a bug")

    operations = make(fail)
    for _ in range(10):
        read(operations, 100, 0x100, short_allowed=True)
    (record,) = {id(record): record for record in caplog.records}.values()
    assert record.getMessage() == "vmcore at 0x100: internal error: ZeroDivisionError: a bug"
    assert "in fail" in caplog.text


def test_attributes() -> None:
    operations = make()
    found = operations.attributes("/vmcore")
    assert found is not None
    assert found["st_mode"] == stat.S_IFREG | 0o400
    assert (found["st_size"], found["st_blocks"], found["st_blksize"], found["st_mtime_ns"]) == (SIZE, 20, 1 << 20, 123)
    assert (found["st_uid"], found["st_gid"], found["st_nlink"]) == (os.geteuid(), os.getegid(), 1)
    root = operations.attributes("/")
    assert root is not None
    assert stat.S_ISDIR(root["st_mode"])
    for path in ("/absent", "/vmcore2", "/vmcore/x", "/vm", "/\udcff"):
        assert operations.attributes(path) is None


def test_attributes_of_an_open_file() -> None:
    """libfuse may give no path for one."""
    operations = make()
    for name in ("first", "vmcore"):
        assert operations.attributes_by_handle(operations.open(f"/{name}", os.O_RDONLY)) == operations.attributes(f"/{name}")
    assert operations.attributes_by_handle(-1) is None
    assert operations.attributes_by_handle(2) is None


def test_names() -> None:
    assert make().names() == [".", "..", "first", "vmcore"]


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_ACCMODE])
def test_open_for_writing_is_erofs(flags: int) -> None:
    assert make().open("/vmcore", flags) == -errno.EROFS


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDONLY | os.O_NONBLOCK, os.O_RDONLY | os.O_DIRECT, os.O_RDONLY | os.O_NOATIME])
def test_open_for_reading(flags: int) -> None:
    assert make().open("/vmcore", flags) == 1
    assert make().open("/absent", flags) == -errno.ENOENT


def test_statfs() -> None:
    found = make().statfs()
    assert found["f_bsize"] == BLOCK_SIZE
    assert found["f_blocks"] == -(-(SIZE + 3) // 4096)
    assert found["f_bfree"] == found["f_bavail"] == found["f_ffree"] == 0
