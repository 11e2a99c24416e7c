"""Tree: the names, modes and sizes of the mounted files, and a read function for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from vmcorefs.fs.access import Access
from vmcorefs.fs.late import Late

PreadInto = Callable[[memoryview, int, bool], int]
"""preadinto(view, offset, salvage): fills view, fewer bytes only at the end of the file; OldmemReadError for bad bytes."""

# coreutils sizes its buffers by st_blksize: 1 MiB makes one request of what would be eight
BLOCK_SIZE = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of fixed size; *preadinto* is thread safe. *data*: bytes that are no hole, where it is sparse."""

    size: int
    preadinto: PreadInto
    data: int | None = None


def bytes_file(data: bytes) -> File:
    """A small file that is made already."""
    whole = memoryview(data)

    def preadinto(view: memoryview, offset: int, salvage: bool) -> int:  # noqa: ARG001, FBT001 - PreadInto
        part = whole[offset:offset + len(view)]
        view[:len(part)] = part
        return len(part)

    return File(len(data), preadinto)


def late_file(late: Late) -> File:
    """A file of a Late that is ready."""
    return File(late.size or 0, lambda view, offset, salvage: late.preadinto(view, offset))


@dataclass(frozen=True)
class Tree:
    """A read-only tree: files by path ("vmcore", "cpus/1/lowcore.bin"); folders follow from the paths.

    *late*: files that appear when they are ready. mtime_ns is the image's; the owner is whoever mounted, if *access* names none.
    """

    files: Mapping[str, File]
    mtime_ns: int = 0
    access: Access = field(default_factory=Access)
    late: Mapping[str, Late] = field(default_factory=dict)

    @cached_property
    def folders(self) -> frozenset[str]:
        """All folders, "" among them."""
        found = {""}
        for path in self.files:
            parts = path.split("/")[:-1]
            found |= {"/".join(parts[:n + 1]) for n in range(len(parts))}
        return frozenset(found)

    def file(self, path: str) -> File:
        """The file at *path*. Raises KeyError where there is none (yet)."""
        if path in self.late:
            if not self.late[path].ready():
                raise KeyError(path)
            return late_file(self.late[path])
        return self.files[path]

    def names(self, folder: str = "") -> list[str]:
        """What is in a folder, without . and .. (nothing, where there is no such folder)."""
        prefix = folder + "/" if folder else ""
        found = {path[len(prefix):].split("/", 1)[0]: None for path in self.files if path.startswith(prefix)}
        if not folder:
            found |= {path: None for path, late in self.late.items() if late.ready()}
        return list(found)

    def attributes(self, path: str) -> dict[str, int]:
        """Stat of a file or folder (the top is ""). Raises KeyError for an unknown path. Never touches an image.

        st_blocks is ceil(size / 512): with fewer, cp and tar take the file for sparse and scan it.
        """
        uid, gid = self.access.uid, self.access.gid
        common = {"st_uid": os.geteuid() if uid is None else uid, "st_gid": os.getegid() if gid is None else gid,
                  "st_mtime_ns": self.mtime_ns, "st_blksize": BLOCK_SIZE}
        if path in self.folders:
            below = sum(1 for folder in self.folders if folder and folder.rpartition("/")[0] == path)
            return common | {"st_mode": self.access.folder_mode, "st_nlink": 2 + below, "st_size": 0, "st_blocks": 0}
        file = self.file(path)
        return common | {"st_mode": self.access.file_mode, "st_nlink": 1, "st_size": file.size,
                         "st_blocks": -(-(file.size if file.data is None else file.data) // 512)}
