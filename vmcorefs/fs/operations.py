"""Operations: getattr, readdir, open, read, statfs on a Tree, without a word of any binding. Exceptions become errno here."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time

from vmcorefs.errors import OldmemReadError
from vmcorefs.fs.counters import Counters
from vmcorefs.fs.tree import BLOCK_SIZE, Tree

log = logging.getLogger("vmcorefs.fs")

_LOG_INTERVAL = 1.0
_KINDS = {"broken": "broken", "filtered": "never saved", "missing": "missing"}
_QUIET = 1.5
"""Seconds after which what was left out is told although no further error has come."""


class Operations:
    """What the callbacks of every binding call. Paths are as the kernel gives them ("/vmcore"); errors are negative errno.

    A handle is the index of a file. *used*: when somebody last wanted something (time.monotonic()), statfs not counted: df
    asks every mount.
    """

    def __init__(self, tree: Tree, *, direct_io: bool):
        self.tree = tree
        self.direct_io = direct_io
        self.counters = Counters()
        self.used = time.monotonic()
        self._paths = [*tree.files, *tree.late]
        self._logged = 0.0
        self._suppressed = 0
        self._logging = threading.Lock()
        self._rest: threading.Timer | None = None

    def attributes(self, path: str) -> dict[str, int] | None:
        """Stat by path; None: there is no such file."""
        self.used = time.monotonic()
        try:
            return self.tree.attributes(path.removeprefix("/"))
        except KeyError:
            return None

    def attributes_by_handle(self, handle: int) -> dict[str, int] | None:
        """Stat of an open file."""
        return self.tree.attributes(self._paths[handle]) if 0 <= handle < len(self._paths) else None

    def names(self, path: str = "/") -> list[str]:
        """A folder, with . and .."""
        self.used = time.monotonic()
        return [".", "..", *self.tree.names(path.strip("/"))]

    def open(self, path: str, flags: int) -> int:
        """The handle, or -errno. Anything but reading is EROFS (the mount is read only; crash tries O_RDWR first)."""
        self.used = time.monotonic()
        name = path.removeprefix("/")
        try:
            self.tree.file(name)
        except KeyError:
            return -errno.ENOENT
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            return -errno.EROFS
        return self._paths.index(name)

    def read(self, handle: int, view: memoryview, offset: int, *, short_allowed: bool) -> int:
        """The count, or -errno.

        A page cache request (*short_allowed* false) is full or EIO: the kernel would take a short reply for the end of the
        file and cut its size (fs/fuse/file.c: fuse_short_read). A direct read gives the good bytes before the first bad one.
        """
        self.used = time.monotonic()
        count = self._read(handle, view, offset, short_allowed=short_allowed)
        self.counters.add(count)
        return count

    def _read(self, handle: int, view: memoryview, offset: int, *, short_allowed: bool) -> int:
        try:
            return self.tree.file(self._paths[handle]).preadinto(view, offset, short_allowed)
        except OldmemReadError as error:
            self._log(f"{_KINDS[error.kind]}: {error}", handle, offset + error.good)
            return error.good if short_allowed and error.good else -errno.EIO
        except OSError as error:
            self._log(str(error), handle, offset)
            return -errno.EIO
        except Exception as error:  # noqa: BLE001 - a bug of ours must not pass for the end of the file
            self._log(f"internal error: {type(error).__name__}: {error}", handle, offset, with_trace=True)
            return -errno.EIO

    def statfs(self) -> dict[str, int]:
        """Sizes for df: everything is in use, nothing is free. Never touches an image."""
        total = sum(file.size for file in self.tree.files.values())
        return {"f_bsize": BLOCK_SIZE, "f_frsize": 4096, "f_blocks": -(-total // 4096), "f_bfree": 0, "f_bavail": 0,
                "f_files": len(self._paths) + len(self.tree.folders), "f_ffree": 0, "f_favail": 0, "f_namemax": 255}

    def _log(self, text: str, handle: int, offset: int, *, with_trace: bool = False) -> None:
        """One line for an I/O error, at most one a second; what was left out is counted in the next one, or in one of its own."""
        with self._logging:
            now = time.monotonic()
            if now - self._logged < _LOG_INTERVAL:
                self._suppressed += 1
                if self._rest is None:
                    self._rest = threading.Timer(_QUIET, self._log_rest)
                    self._rest.daemon = True
                    self._rest.start()
                return
            more = f" ({self._suppressed} more since the last line)" if self._suppressed else ""
            self._forget_rest(now)
            log.error("%s at %#x: %s%s", self._paths[handle], offset, text, more, exc_info=with_trace)

    def _log_rest(self) -> None:
        """The errors have stopped: how many were left out."""
        with self._logging:
            if self._suppressed:
                log.error("I/O errors: %d more since the last line", self._suppressed)
            self._forget_rest(time.monotonic())

    def _forget_rest(self, now: float) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._logged, self._suppressed = now, 0
