"""Tree: the names, modes and sizes of the mounted files, and a read function for each."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

PreadInto = Callable[[memoryview, int, bool], int]
"""preadinto(view, offset, salvage): fills view, fewer bytes only at the end of the file; OldmemReadError for bad bytes."""

# coreutils sizes its buffers by st_blksize: 1 MiB makes one request of what would be eight
BLOCK_SIZE = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of fixed size; *preadinto* is thread safe."""

    size: int
    preadinto: PreadInto
    mode: int = stat.S_IFREG | 0o400


@dataclass(frozen=True)
class Tree:
    """A flat read-only directory: files by name. mtime_ns is the image's; the owner is whoever mounted."""

    files: Mapping[str, File]
    mtime_ns: int = 0
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)

    def attributes(self, name: str) -> dict[str, int]:
        """Stat of a file, or of the directory itself (name ""). Raises KeyError for an unknown name. Never touches an image.

        st_blocks is ceil(size / 512): with fewer, cp and tar would take the file for sparse and scan it.
        """
        common = {"st_uid": self.uid, "st_gid": self.gid, "st_mtime_ns": self.mtime_ns, "st_blksize": BLOCK_SIZE}
        if not name:
            return common | {"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2, "st_size": 0, "st_blocks": 0}
        file = self.files[name]
        return common | {"st_mode": file.mode, "st_nlink": 1, "st_size": file.size, "st_blocks": -(-file.size // 512)}
