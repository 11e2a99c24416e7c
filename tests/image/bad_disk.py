"""A disk with bad sectors: reads that touch one of the ranges of a file fail with EIO, like pread on a real one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

SECTOR = 512


class BadDisk:
    """Patches os.pread and os.preadv. `reads` counts what was asked of the file, `failed` what of it failed.

    A kernel reads the good bytes before a bad sector first and returns a short count. With *strict* the whole read fails
    instead, as O_DIRECT and some drivers do.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, bad: Iterable[tuple[int, int]], *, strict: bool = True):
        status = path.stat()
        self._identity = (status.st_dev, status.st_ino)
        self.bad = list(bad)
        self.strict = strict
        self.reads = self.failed = 0
        self._pread: Callable[[int, int, int], bytes] = os.pread
        self._preadv: Callable[[int, list[memoryview], int], int] = os.preadv
        monkeypatch.setattr("vmcorefs.image.file.os.pread", self.pread)
        monkeypatch.setattr("vmcorefs.image.file.os.preadv", self.preadv)

    def _readable(self, descriptor: int, size: int, offset: int) -> int:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self._identity:
            return size
        self.reads += 1
        hits = [start for start, end in self.bad if start < offset + size and offset < end]
        good = max(0, min(hits) - offset) if hits else size
        if hits and (self.strict or good == 0):
            self.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return good

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return self._pread(descriptor, self._readable(descriptor, size, offset), offset)

    def preadv(self, descriptor: int, buffers: list[memoryview], offset: int) -> int:
        (buffer,) = buffers
        return self._preadv(descriptor, [buffer[:self._readable(descriptor, len(buffer), offset)]], offset)
