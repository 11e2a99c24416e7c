"""The callbacks as libfuse calls them: through the C function pointers that the binding and our run_mount put into struct
fuse_operations, with C structures of this machine. Only libfuse's own main loop is not there: it needs a kernel of this machine
(`make s390x` has one).
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import stat
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.mounts.mounting import skip_or_fail
from vmcorefs.errors import OldmemReadError
from vmcorefs.fs.access import Access
from vmcorefs.fs.backends.libfuse import PATH_VARIABLE, find_library
from vmcorefs.fs.backends.stat_layout import pack_stat, stat_layout
from vmcorefs.fs.operations import Operations
from vmcorefs.fs.tree import File, Tree, bytes_file

SIZE = 0x123456789AB
GOOD = 100
MTIME_NS = 1_234_567_890_123_456_789
FILL = b"\xaa"


class Served(NamedTuple):
    """A binding with its libfuse, and a function that hands struct fuse_operations to a test as fuse_main would get it."""

    binding: Any
    major: int
    with_operations: Callable[[Operations, Callable[[Any], None]], None]


@pytest.fixture(params=[("mfusepy", 3), ("mfusepy", 2), ("fusepy", 2)], ids=lambda pair: f"{pair[0]} with libfuse {pair[1]}")
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Served:
    backend, major = request.param
    monkeypatch.setenv(PATH_VARIABLE, "")  # to have it restored: load sets it
    monkeypatch.delenv(PATH_VARIABLE)
    library = find_library(major)
    if library is None:
        skip_or_fail(f"libfuse {major} is not installed")
    monkeypatch.delitem(sys.modules, {"mfusepy": "mfusepy", "fusepy": "fuse"}[backend], raising=False)  # it keeps its first libfuse
    adapter = importlib.import_module(f"vmcorefs.fs.backends.with_{backend}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        binding = adapter.load.__wrapped__(library)
    assert binding._libfuse._name == library.path

    def with_operations(operations: Operations, test: Callable[[Any], None]) -> None:
        called = 0

        def fuse_main(argc: int, argv: Any, pointer: Any, size: int, context: None) -> int:
            assert [argv[i] for i in range(argc)][-1] == b"/mountpoint"
            assert size == ctypes.sizeof(binding.fuse_operations)
            nonlocal called
            test(pointer.contents)
            called += 1
            return 0

        monkeypatch.setattr(binding if backend == "mfusepy" else binding._libfuse, "fuse_main_real", fuse_main)
        adapter.run_mount(binding, operations, "/mountpoint", {"ro": True}, lambda: None)
        assert called == 1

    return Served(binding, major, with_operations)


def _preadinto(view: memoryview, offset: int, salvage: bool) -> int:
    data = bytes((offset + i) % 251 for i in range(min(len(view), GOOD)))
    view[:len(data)] = data
    if len(view) > GOOD:
        raise OldmemReadError("image", offset + GOOD, "bad sector", good=GOOD, address=offset + GOOD)
    return len(view)


def make(*, direct_io: bool = True) -> Operations:
    tree = Tree({"first": bytes_file(b"12345"), "vmcore": File(SIZE, _preadinto), "cpus/7/lowcore.bin": bytes_file(b"7")},
                mtime_ns=MTIME_NS, access=Access(allow_other=True, uid=70001, gid=70002, mode=0o440))
    return Operations(tree, direct_io=direct_io)


VMCORE = {"st_mode": stat.S_IFREG | 0o440, "st_nlink": 1, "st_uid": 70001, "st_gid": 70002, "st_size": SIZE, "st_blksize": 1 << 20,
          "st_blocks": -(-SIZE // 512), "st_mtime_ns": MTIME_NS}


def _guarded(binding: Any) -> tuple[ctypes.Array[ctypes.c_char], Any]:
    """A struct stat of this machine with something before and behind that must stay, and a pointer as the callback's type wants it."""
    size = stat_layout().size
    around = ctypes.create_string_buffer(FILL * (size + 16), size + 16)
    return around, ctypes.cast(ctypes.addressof(around) + 8, ctypes.POINTER(binding.c_stat))


def test_getattr(served: Served) -> None:
    def test(operations: Any) -> None:
        more = (None,) if served.major == 3 else ()
        around, pointer = _guarded(served.binding)
        assert operations.getattr(b"/vmcore", pointer, *more) == 0
        assert around.raw == FILL * 8 + pack_stat(stat_layout(), VMCORE) + FILL * 8
        assert operations.getattr(b"/cpus", pointer, *more) == 0
        folder = VMCORE | {"st_mode": stat.S_IFDIR | 0o550, "st_nlink": 3, "st_size": 0, "st_blocks": 0}
        assert around.raw == FILL * 8 + pack_stat(stat_layout(), folder) + FILL * 8
        assert operations.getattr(b"/absent", pointer, *more) == -errno.ENOENT

    served.with_operations(make(), test)


def test_getattr_by_handle(served: Served) -> None:
    def test(operations: Any) -> None:
        info = served.binding.fuse_file_info()
        info.fh = 1
        around, pointer = _guarded(served.binding)
        call = operations.getattr if served.major == 3 else operations.fgetattr
        assert call(None, pointer, ctypes.pointer(info)) == 0
        assert around.raw == FILL * 8 + pack_stat(stat_layout(), VMCORE) + FILL * 8
        info.fh = 1 << 32 | 1
        assert call(None, pointer, ctypes.pointer(info)) == -errno.ENOENT

    served.with_operations(make(), test)


def _file_info(major: int, flags: int, bits: dict[str, int], handle: int, lock_owner: int) -> bytes:
    """struct fuse_file_info. The compiler lays bit fields from the lowest bit on on little endian machines, from the highest on
    big endian ones (s390x ELF ABI supplement, "Bit-fields").
    """
    order = {3: ("writepage", "direct_io", "keep_cache"), 2: ("direct_io", "keep_cache")}[major]
    places = {name: 1 << (at if sys.byteorder == "little" else 31 - at) for at, name in enumerate(order)}
    word = sum(places[name] for name, value in bits.items() if value)
    if major == 3:
        return struct.pack("=iIIxxxxQQIxxxx", flags, word, 0, handle, lock_owner, 0)
    return struct.pack("=ixxxxQiIQQ", flags, 0, 0, word, handle, lock_owner)


@pytest.mark.parametrize("direct_io", [True, False])
def test_open(served: Served, direct_io: bool) -> None:
    def test(operations: Any) -> None:
        data = bytearray(_file_info(served.major, os.O_RDONLY | os.O_CLOEXEC, {}, 0, 0))
        info = served.binding.fuse_file_info.from_buffer(data)
        assert operations.open(b"/vmcore", ctypes.pointer(info)) == 0
        assert data == _file_info(served.major, os.O_RDONLY | os.O_CLOEXEC, {"direct_io": direct_io, "keep_cache": not direct_io}, 1, 0)
        info.flags = os.O_RDWR
        assert operations.open(b"/vmcore", ctypes.pointer(info)) == -errno.EROFS

    served.with_operations(make(direct_io=direct_io), test)


@pytest.mark.parametrize("lock_owner", [0, 1, 1 << 63])
def test_read(served: Served, lock_owner: int) -> None:
    """With a lock owner it is a direct read, which may be short."""
    def test(operations: Any) -> None:
        info = served.binding.fuse_file_info.from_buffer(bytearray(_file_info(served.major, 0, {}, 1, lock_owner)))
        buffer = ctypes.create_string_buffer(FILL * 300, 300)
        pointer = ctypes.cast(buffer, operations.read._argtypes_[1])
        offset = SIZE - 1000
        data = bytes((offset + i) % 251 for i in range(GOOD))
        assert operations.read(b"/vmcore", pointer, GOOD, offset, ctypes.pointer(info)) == GOOD
        assert buffer.raw == data + FILL * 200
        assert operations.read(b"/vmcore", pointer, GOOD + 1, offset, ctypes.pointer(info)) == (GOOD if lock_owner else -errno.EIO)

    served.with_operations(make(), test)


def test_readdir(served: Served) -> None:
    def test(operations: Any) -> None:
        found = []

        def filler(buffer: Any, name: bytes, status: Any, offset: int, *flags: int) -> int:
            found.append((name, bool(status), offset, *flags))
            return 0

        more = (0,) if served.major == 3 else ()
        function = operations.readdir._argtypes_[2](filler)
        info = ctypes.pointer(served.binding.fuse_file_info())
        assert operations.readdir(b"/", None, function, 0, info, *more) == 0
        assert found == [(name, False, 0, *more) for name in (b".", b"..", b"first", b"vmcore", b"cpus")]

    served.with_operations(make(), test)


def test_statfs(served: Served) -> None:
    """The binding's own struct statvfs, read as the C library's: by the offsets at which statvfs(3) fills in a real one."""
    fields = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax")
    libc = ctypes.CDLL(None, use_errno=True)
    real = ctypes.create_string_buffer(256)
    assert libc.statvfs(b"/", real) == 0
    system, ours = os.statvfs("/"), served.binding.c_statvfs.from_buffer(real)
    for name in set(fields) - {"f_bfree", "f_bavail", "f_ffree", "f_favail"}:  # others may write at the same moment
        assert getattr(ours, name) == getattr(system, name), name

    def test(operations: Any) -> None:
        around = ctypes.create_string_buffer(256)
        pointer = ctypes.cast(around, ctypes.POINTER(served.binding.c_statvfs))
        assert operations.statfs(b"/", pointer) == 0
        wanted = make().statfs()
        assert {name: getattr(pointer.contents, name) for name in fields} == {name: wanted[name] for name in fields}
        assert around.raw[112:] == bytes(256 - 112)  # sizeof(struct statvfs) on each 64-bit machine

    served.with_operations(make(), test)


def test_sizes(served: Served) -> None:
    """The same on each 64-bit machine (libfuse 2.9.9 and 3.14)."""
    assert ctypes.sizeof(served.binding.fuse_file_info) == len(_file_info(served.major, 0, {}, 0, 0)) == 40
    assert ctypes.sizeof(served.binding.c_timespec) == 16
