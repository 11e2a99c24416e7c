"""Callbacks: our own getattr, open, read and readdir, mixed into the class FUSE of either binding.

The bindings' own read makes a bytes object of each megabyte and copies it once more; this one lets preadv fill libfuse's
reply buffer. Their own getattr writes a struct stat that is wrong on s390x.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from ctypes import addressof, c_char
from typing import Any

from vmcorefs.fs.backends.stat_layout import pack_stat, stat_layout, write_stat
from vmcorefs.fs.operations import Operations


class Slots:
    """The object that a binding asks which slots of fuse_operations to fill: those that it has an attribute for."""

    use_ns = True

    def __init__(self, operations: Operations, on_ready: Callable[[], None]):
        self.served = operations
        self._on_ready = on_ready

    def init(self, path: str) -> None:
        """Called when the kernel's INIT was answered."""
        self._on_ready()

    def statfs(self, path: str) -> dict[str, int]:
        """Goes through the binding: struct statvfs is the same on all 64-bit machines."""
        return self.served.statfs()

    # Slots that Callbacks serves itself; only their presence counts.
    getattr = open = read = readdir = staticmethod(lambda *unused: None)


class Callbacks:
    """Mixed in before a binding's FUSE; ``self.operations`` is a Slots."""

    operations: Any
    _layout = stat_layout()

    def fgetattr(self, path: bytes | None, buf: Any, fip: Any) -> int:
        """By path, or by handle where libfuse gives no path."""
        operations: Operations = self.operations.served
        if path is not None:
            attributes = operations.attributes(os.fsdecode(path))
        else:
            attributes = operations.attributes_by_handle(fip.contents.fh) if fip else None
        if attributes is None:
            return -errno.ENOENT
        write_stat(addressof(buf.contents), pack_stat(self._layout, attributes))
        return 0

    def open(self, path: bytes, fip: Any) -> int:
        """Sets the handle and the flags direct_io or keep_cache: the file never changes."""
        operations: Operations = self.operations.served
        info = fip.contents
        handle = operations.open(os.fsdecode(path), info.flags)
        if handle < 0:
            return handle
        info.fh = handle
        info.direct_io = int(operations.direct_io)
        info.keep_cache = int(not operations.direct_io)
        return 0

    def fill(self, path: bytes, filler: Callable[[bytes], int]) -> int:
        """readdir, given libfuse's filler for one name. No struct stat is passed."""
        for name in self.operations.served.names(os.fsdecode(path)):
            if filler(name.encode()):
                break
        return 0

    def read(self, path: bytes | None, buf: Any, size: int, offset: int, fip: Any) -> int:
        """The kernel sets lock_owner on direct reads only (fs/fuse/file.c: fuse_send_read); mmap goes through the page
        cache even where the file was opened with direct_io, so the open flags would not tell.
        """
        info = fip.contents
        view = memoryview((c_char * size).from_address(addressof(buf.contents))).cast("B")
        return self.operations.served.read(info.fh, view, offset, short_allowed=bool(info.lock_owner))  # type: ignore[no-any-return]
