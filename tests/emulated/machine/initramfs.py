"""A cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst) that a kernel takes as its first root.

Written here rather than by cpio(1): everything belongs to root without being root, and a mode can be set on the way.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

_TRAILER = "TRAILER!!!"


class Initramfs:
    """Files, folders and links by their path in the archive; folders above them are made."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._known = {PurePosixPath(".")}

    def add_bytes(self, where: str, data: bytes, mode: int = 0o644) -> None:
        """A file."""
        self._add(where, stat.S_IFREG | mode, data)

    def add_folder(self, where: str, mode: int = 0o755) -> None:
        """A folder, if it is not there yet."""
        path = PurePosixPath(where.strip("/") or ".")
        if path not in self._known:
            self._add(str(path), stat.S_IFDIR | mode, b"")
            self._known.add(path)

    def add_link(self, where: str, target: str) -> None:
        """A symbolic link."""
        self._add(where, stat.S_IFLNK | 0o777, target.encode())

    def add(self, source: Path, where: str, *, leave: frozenset[str] = frozenset()) -> None:
        """A file, link or folder of this machine, with what is below it but for files and folders named in *leave*."""
        status = source.lstat()
        if stat.S_ISLNK(status.st_mode):
            self.add_link(where, os.readlink(source))
        elif stat.S_ISDIR(status.st_mode):
            self.add_folder(where)
            for entry in sorted(source.iterdir()):
                if entry.name not in leave:
                    self.add(entry, f"{where}/{entry.name}", leave=leave)
        else:
            self.add_bytes(where, source.read_bytes(), stat.S_IMODE(status.st_mode))

    def data(self) -> bytes:
        """The archive."""
        return b"".join([*self._parts, self._record(_TRAILER, 0, b"", 0)])

    def _add(self, where: str, mode: int, data: bytes) -> None:
        path = PurePosixPath(where.strip("/"))
        for parent in reversed(path.parents):
            self.add_folder(str(parent))
        self._parts.append(self._record(str(path), mode, data, len(self._parts) + 1))

    @staticmethod
    def _record(name: str, mode: int, data: bytes, inode: int) -> bytes:
        """ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check."""
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
