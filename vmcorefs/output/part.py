"""PartFile: what a copy writes until it is complete, ``FILE.part``: locked, sparse, continued after an interruption.

What is in it already is kept only where it is proven to be as it would be written now:

- as a rule by comparing it, so that a part of another image, a damaged one or one after a power failure does no harm;
- for a long copy by a mark as well, so that the image need not be read again from its beginning. The mark is an extended
  attribute of the part: the bytes before ``done`` are on disk, and were made from image files of exactly these inodes,
  sizes and times of change. Where a file system has no such attributes, or the image was touched since, all is compared.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vmcorefs.errors import BusyError, OutputError, printable, system_reason
from vmcorefs.quantities import PAGE_SIZE, human_size
from vmcorefs.vmcore.file import VmcoreFile

CHUNK = 1 << 20
MODE = 0o600  # memory holds secrets
_ZEROS = bytes(CHUNK)
_ZERO_PAGE = bytes(PAGE_SIZE)
_MARK = "user.vmcorefs.copy"
_MARK_SECONDS = 30.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

Say = Callable[[str], None]


class PartFile:
    """An open and locked part. For one thread. *name*: for messages; *size*: how long it was when it was opened."""

    def __init__(self, path: str, descriptor: int):
        self.path = path
        self.name = printable(path)
        self.size = os.fstat(descriptor).st_size
        self._fd = descriptor
        self._buffer = bytearray(CHUNK)
        self._marked_at = time.monotonic()

    def close(self) -> None:
        """Close it; the lock goes with it."""
        os.close(self._fd)

    def write(self, chunk: bytearray, size: int, offset: int) -> None:
        """The first *size* bytes of *chunk* to *offset*, except pages of zeros: nothing but zeros may be there then."""
        if size == CHUNK and chunk == _ZEROS:
            return
        view = memoryview(chunk)
        start = 0
        first_bytes = chunk[:size:PAGE_SIZE]  # one a page: which pages are worth a look is found out in C
        page = first_bytes.find(0)
        while page >= 0:
            at = page * PAGE_SIZE
            if chunk.startswith(_ZERO_PAGE, at, size):
                self._write_all(view[start:at], offset + start)
                start = at + PAGE_SIZE
            page = first_bytes.find(0, page + 1)
        self._write_all(view[start:size], offset + start)

    def _write_all(self, view: memoryview, offset: int) -> None:
        while view:
            count = os.pwrite(self._fd, view, offset)
            view, offset = view[count:], offset + count

    def holds(self, chunk: bytearray, size: int, offset: int) -> bool:
        """Whether the part's bytes from *offset* on, as far as there are any, are the first *size* of *chunk*."""
        want = min(size, os.fstat(self._fd).st_size - offset)
        done = 0
        while done < want:
            count = os.preadv(self._fd, [memoryview(self._buffer)[done:want]], offset + done)
            if count == 0:
                return False
            done += count
        # not memoryviews: those compare byte by byte, some fifty times slower
        return self._buffer == chunk if want == CHUNK else self._buffer[:want] == chunk[:want]

    def cut(self, size: int) -> None:
        """Drop everything from *size* on, and the mark: else it would still be there when these bytes are others."""
        self._unmark()
        os.ftruncate(self._fd, size)

    def reach(self, size: int) -> None:
        """Make it at least *size* bytes long: a hole at the end is as good as written."""
        if os.fstat(self._fd).st_size < size:
            os.ftruncate(self._fd, size)

    def flush(self) -> None:
        """Everything to the disk."""
        os.fsync(self._fd)

    def mark(self, identity: str | None, done: int) -> None:
        """From time to time: put on disk what is written, and note down that the bytes before *done* are *identity*'s."""
        if identity is None or time.monotonic() - self._marked_at < _MARK_SECONDS:
            return
        self.reach(done)
        self.flush()
        with suppress(OSError):
            os.setxattr(self._fd, _MARK, json.dumps({"vmcore": identity, "done": done}).encode())
        self._marked_at = time.monotonic()

    def _unmark(self) -> None:
        try:
            os.removexattr(self._fd, _MARK)
        except OSError:
            return  # there is none
        self.flush()  # before anything else is written

    def marked(self, identity: str | None) -> int:
        """How many bytes from the beginning on the mark proves to be *identity*'s; whole chunks."""
        try:
            found: Any = json.loads(os.getxattr(self._fd, _MARK))
            done = found["done"] if found["vmcore"] == identity else 0
        except (OSError, ValueError, TypeError, LookupError):
            return 0
        return done - done % CHUNK if isinstance(done, int) and 0 < done <= self.size else 0

    def become(self, path: str) -> None:
        """The part gets its name. The mode is 0600, or less where the file that it replaces had less."""
        mode = MODE
        with suppress(OSError):
            mode &= os.stat(path).st_mode
        os.replace(self.path, path)
        with suppress(PermissionError):  # a file system without modes
            os.fchmod(self._fd, mode)


def identify(vmcore: VmcoreFile) -> str | None:
    """A digest of all that decides the bytes of vmcore; None where a change of the image would not show (a device)."""
    files = list({id(region.file): region.file for region in vmcore.regions if region.file is not None}.values())
    digest = hashlib.sha256(vmcore.header)
    try:
        for file in (one for source in files for one in source.files):
            status = os.fstat(file.fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            digest.update(repr((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)).encode())
    except OSError:
        return None
    # --missing zeros and --bad-map: the same files, but other bytes
    digest.update(repr([(type(source).__name__, source.absences()) for source in files]).encode())
    for region in vmcore.regions:
        which = None if region.file is None else files.index(region.file)
        digest.update(repr((region.start, region.end, which, region.source)).encode())
    return digest.hexdigest()


def open_part(path: str, say: Say) -> PartFile:
    """Open (or make) the part at *path* and lock it.

    Raises BusyError where another copy has it, OutputError where it cannot be made or is no file that a copy makes.
    """
    name = printable(path)
    while True:
        _refuse_special(path, name)
        try:
            descriptor, new = _open(path)
        except FileNotFoundError as error:
            raise OutputError(f"{name}: cannot create: there is no directory {printable(os.path.dirname(path))}; "
                              "make it, or choose another") from error
        except OSError as error:
            raise OutputError(f"{name}: cannot create or write: {system_reason(error)}; choose another directory or name"
                              ) from error
        try:
            if _lock(descriptor, name, say) and _is_ours(path, name, descriptor, say, new=new):
                return PartFile(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it is not the part any more: once more


def _refuse_special(path: str, name: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OutputError(f"{name}: is no regular file, and a copy is written under this name first; remove it, "
                              "or choose another name")


def _lock(descriptor: int, name: str, say: Say) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(f"{name}: another copy is writing it; wait for that one, or choose another name") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OutputError(f"{name}: cannot lock: {system_reason(error)}") from error
        say(f"{name}: this file system has no locks; see to it that no other copy writes there")
    return True


def _open(path: str) -> tuple[int, bool]:
    """(descriptor, whether it is new)."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(path, flags), False
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE), True
    except FileExistsError:  # another copy made it meanwhile
        return os.open(path, flags), False


def _is_ours(path: str, name: str, descriptor: int, say: Say, *, new: bool) -> bool:
    """Whether the locked file is (still) the part, and nobody else's; a stranger's is removed: its owner may have it open."""
    opened = os.fstat(descriptor)
    try:
        now = os.lstat(path)
    except FileNotFoundError:  # the copy that had the lock has just completed it
        return False
    if (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
        return False
    try:
        if new or (opened.st_uid == os.geteuid() and opened.st_nlink == 1):
            if stat.S_IMODE(opened.st_mode) & ~MODE:
                with suppress(PermissionError):
                    os.fchmod(descriptor, MODE)
            return True
        say(f"{name}: belongs to another user or has a second name; it is not continued, the copy starts anew")
        os.unlink(path)
    except OSError as error:
        raise OutputError(f"{name}: cannot remove it: {system_reason(error)}; choose another name") from error
    return False


def describe(part: PartFile, size: int) -> str:
    """What a part holds after the copy ended early, and how to go on."""
    with suppress(OSError):
        length = os.stat(part.path).st_size
        return (f"what was copied is in {part.name} ({length} bytes, {human_size(length)} of {human_size(size)}); "
                "the same command goes on there")
    return f"{part.name} is not there any more"
