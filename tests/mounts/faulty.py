"""A disk with bad bytes: a FUSE file system that serves one file, with EIO for every read that touches a bad range.

    python faulty.py BACKING MOUNTPOINT RANGES [--cached]

RANGES is a text file, a START-END a line, read again for each request. Direct I/O, so that a read goes bad by the byte;
with --cached through the page cache, as a disk: by the page. A program of its own that shares nothing with vmcorefs.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def bad_ranges(text: str) -> list[tuple[int, int]]:
    return [(int(start), int(end)) for start, _, end in (line.partition("-") for line in text.split())]


class FaultyFile:
    """The slots that mfusepy calls."""

    use_ns = True

    def __init__(self, backing: Path, ranges: Path, *, cached: bool):
        self._descriptor = os.open(backing, os.O_RDONLY)
        self._path = f"/{backing.name}"
        self._ranges = ranges
        self._cached = cached

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        status = os.fstat(self._descriptor)
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), status.st_mtime_ns)
        if path == "/":
            return times | {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path != self._path:
            raise OSError(errno.ENOENT, "no such file")
        return times | {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": status.st_size}

    def readdir(self, path: str, fh: Any) -> Iterator[str]:
        yield from (".", "..", self._path[1:])

    def open(self, path: str, info: Any) -> int:
        info.direct_io = not self._cached
        return 0

    def read(self, path: str, size: int, offset: int, info: Any) -> bytes:
        for start, end in bad_ranges(self._ranges.read_text(encoding="ascii")):
            if offset < end and start < offset + size:
                raise OSError(errno.EIO, "bad bytes")
        return os.pread(self._descriptor, size, offset)


def _load_libfuse() -> None:
    for name in ("libfuse3.so.4", "libfuse3.so.3", "libfuse.so.2"):
        with suppress(OSError):
            ctypes.CDLL(name)
            os.environ["FUSE_LIBRARY_PATH"] = name
            return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backing", type=Path)
    parser.add_argument("mountpoint")
    parser.add_argument("ranges", type=Path)
    parser.add_argument("--cached", action="store_true")
    arguments = parser.parse_args()
    _load_libfuse()
    warnings.simplefilter("ignore")
    import mfusepy
    served = FaultyFile(arguments.backing, arguments.ranges, cached=arguments.cached)
    with suppress(RuntimeError):  # libfuse 3 returns 8 after a signal
        mfusepy.FUSE(served, arguments.mountpoint, raw_fi=True, foreground=True, nothreads=True, ro=True,
                     fsname="faulty", subtype="faulty")


if __name__ == "__main__":
    main()
