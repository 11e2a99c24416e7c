"""struct stat: what pack_stat makes of a file's attributes is, byte for byte, what this machine's C library fills in."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from vmcorefs.fs.backends.stat_layout import pack_stat, stat_layout

LAYOUT = stat_layout()
LIBC = ctypes.CDLL(None, use_errno=True)
FILL = b"\xaa"
ROOM = 512
DEV_AND_INO = 16  # both come first, with 8 bytes each, on every machine of the table
GIVEN = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blksize", "st_blocks", "st_mtime_ns")


def _by_descriptor(path: Path, buffer: ctypes.Array[ctypes.c_char]) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return int(LIBC.fstat(descriptor, buffer))
    finally:
        os.close(descriptor)


CALLS: dict[str, Callable[[Path, ctypes.Array[ctypes.c_char]], int]] = {
    "stat": lambda path, buffer: int(LIBC.stat(os.fsencode(path), buffer)),
    "lstat": lambda path, buffer: int(LIBC.lstat(os.fsencode(path), buffer)),
    "fstat": _by_descriptor,
}


@contextmanager
def telling(folder: Path, mtime_ns: int) -> Iterator[Path]:
    """A file no two of whose fields are the same, most of them wider than half of their bytes."""
    path = folder / "file"
    path.write_bytes(bytes(5 * 4096))
    os.truncate(path, 0x1234567891)
    path.chmod(0o640)
    for name in ("second", "third"):
        os.link(path, folder / name)
    with suppress(PermissionError):  # root only
        os.chown(path, 70001, 70002)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    yield path
    for entry in folder.iterdir():
        entry.unlink()


def _compare(path: Path, call: str) -> None:
    buffer = ctypes.create_string_buffer(FILL * ROOM, ROOM)
    assert CALLS[call](path, buffer) == 0
    status = path.stat()
    wanted = bytearray(pack_stat(LAYOUT, {name: int(getattr(status, name)) for name in GIVEN}))
    # what the adapter leaves at 0, or gives the same time as the rest
    for start, end in ((0, DEV_AND_INO), (LAYOUT.st_ctim, LAYOUT.st_ctim + 16)):
        wanted[start:end] = buffer.raw[start:end]
    fields = {getattr(LAYOUT, name): name for name in LAYOUT._fields if name.startswith("st_")}
    differ = [at for at in range(LAYOUT.size) if wanted[at] != buffer.raw[at]]
    assert not differ, {at: fields[max(start for start in fields if start <= at)] for at in differ}
    assert buffer.raw[LAYOUT.size:] == FILL * (ROOM - LAYOUT.size)
    assert buffer.raw[LAYOUT.size - 8:LAYOUT.size] != FILL * 8, "the C library's struct stat is smaller"
    seconds = ctypes.c_int64.from_buffer_copy(buffer.raw, LAYOUT.st_ctim).value
    nanoseconds = ctypes.c_int64.from_buffer_copy(buffer.raw, LAYOUT.st_ctim + 8).value
    assert seconds * 10**9 + nanoseconds == status.st_ctime_ns


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mtime_ns", [1_234_567_890_123_456_789, -1_500_000_001, 0])
def test_of_a_file(tmp_path: Path, call: str, mtime_ns: int) -> None:
    with telling(tmp_path, mtime_ns) as path:
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_nlink, status.st_size) == (0o640, 3, 0x1234567891)
        assert (status.st_mtime_ns, status.st_atime_ns) == (mtime_ns, mtime_ns)
        if os.geteuid() == 0:
            assert (status.st_uid, status.st_gid) == (70001, 70002)
        _compare(path, call)


@pytest.mark.parametrize("call", CALLS)
def test_of_a_folder(tmp_path: Path, call: str) -> None:
    os.utime(tmp_path, ns=(10**18 + 7, 10**18 + 7))
    _compare(tmp_path, call)
