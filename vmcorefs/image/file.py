"""ImageFile: a regular file or block device, read by pread until full or a clear error; never by mmap.

(An mmap of an image that shrinks or has a bad sector ends the process with SIGBUS.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from vmcorefs.errors import ImageError, OldmemReadError, ReadErrorKind, printable, system_reason
from vmcorefs.image.source import Container, Source

_OFFSET_LIMIT = (1 << 63) - 1  # of off_t; addresses out of an image may be larger


class ImageFile(Source):
    """An open image file or block device: a raw image is its own Source.

    A block device is opened so that nobody can format or mount it meanwhile, where nobody else uses it already.
    """

    fd = -1

    def __init__(self, path: str | os.PathLike[str], *, what: str = "image"):
        self.path = os.path.abspath(os.fspath(path))
        self.name = printable(os.fspath(path))
        self.files = (self,)
        self.container = Container()
        try:
            mode = os.stat(self.path).st_mode
            if stat.S_ISDIR(mode):
                raise ImageError(f"{self.name}: the {what} is a directory; give the file")
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise ImageError(f"{self.name}: the {what} is a {_kind(mode)}, which cannot be read at any offset; "
                                 "copy it into a regular file first")
            self._open(block_device=stat.S_ISBLK(mode))
            status = os.fstat(self.fd)
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            advice = "; ask its owner, or run as a user who may read it" if error.errno in (errno.EACCES, errno.EPERM) else ""
            raise ImageError(f"{self.name}: cannot open the {what}: {system_reason(error)}{advice}") from error
        self.mtime_ns = status.st_mtime_ns
        self.identity = (status.st_dev, status.st_ino)

    def _open(self, *, block_device: bool) -> None:
        # O_NONBLOCK: should the name have become a FIFO since, open must not wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        if block_device:
            try:
                self.fd = os.open(self.path, flags | os.O_EXCL)  # of a block device: mkfs, mount and swapon then get EBUSY
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
        if self.fd < 0:
            self.fd = os.open(self.path, flags)
            if block_device:
                self.container = _used_device(os.fstat(self.fd).st_rdev)

    def close(self) -> None:
        """Close the file; reads then fail."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """Fill *view* (bytes) from *offset*, whole. Raises OldmemReadError otherwise.

        With *salvage* the error's ``good`` is the exact number of readable bytes before the first bad one, and they
        stand in *view*; without, fewer may be counted (no further reads are spent on an area that fails).
        """
        want, done = len(view), 0
        if want and not 0 <= offset <= _OFFSET_LIMIT - want:
            raise self._end_error(offset, 0)
        while done < want:
            try:
                count = os.preadv(self.fd, [view[done:] if done else view], offset + done)
            except OSError as error:
                if salvage:
                    done += self._good_prefix(view[done:], offset + done)
                raise self._error(offset + done, system_reason(error), done) from error
            if count == 0:
                raise self._end_error(offset + done, done)
            done += count

    def _good_prefix(self, view: memoryview, offset: int) -> int:
        """How many bytes from *offset* can be read before the first bad one; they are read into *view*.

        Called after a read of the whole failed: bisects, so that a disk which takes seconds for each bad read is asked
        some twenty times, not once a byte. The first byte is tried first, since most failing requests fail there.
        """
        good, last, step = 0, len(view) - 1, 1  # the first bad byte lies in [good, last]
        while good < last:
            try:
                count = os.preadv(self.fd, [view[good:good + step]], offset + good)
            except OSError:
                count = 0
            if count == 0:
                last = good + step - 1
            else:
                good += count
            step = max(1, (last - good + 1) // 2)
        return good

    def _error(self, offset: int, cause: str, good: int, kind: ReadErrorKind = "broken") -> OldmemReadError:
        return OldmemReadError(self.path, offset, cause, good=good, kind=kind)

    def _end_error(self, offset: int, good: int) -> OldmemReadError:
        """The file ends at or before *offset*."""
        try:
            now = os.fstat(self.fd).st_size
        except OSError as error:
            return self._error(offset, system_reason(error), good)
        if now < self.size and stat.S_ISREG(os.fstat(self.fd).st_mode):
            cause = f"the file ends at {now:#x}; it was {self.size:#x} bytes long when it was opened"
        else:
            cause = f"beyond the end of the file at {self.size:#x}"
        return self._error(offset, cause, good, "missing")

    def _scan_read(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self.fd, size, offset)
        except OSError:
            return b""

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source: holes of a sparse file are left out."""
        try:
            data = os.lseek(self.fd, position, os.SEEK_DATA)
            hole = os.lseek(self.fd, data, os.SEEK_HOLE)
        except OSError as error:
            return (end, end) if error.errno == errno.ENXIO else (position, end)
        return min(data, end), min(max(hole, data + 1), end)


def read_small_file(path: str | os.PathLike[str], what: str, limit: int) -> tuple[bytes, str]:
    """(content, name for messages) of an input file of 1 to *limit* bytes. Raises ImageError."""
    with ImageFile(path, what=what) as file:
        if not 0 < file.size <= limit:
            raise ImageError(f"{file.name}: {file.size} bytes are no {what} (1 to {limit} bytes)")
        try:
            return file.pread(file.size, 0), file.name
        except OldmemReadError as error:
            raise ImageError(str(error)) from error


def _used_device(number: int) -> Container:
    """What to say of a block device that somebody else has claimed."""
    place = None
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            fields = line.split(b" ")
            if len(fields) > 4 and fields[2] == b"%d:%d" % (os.major(number), os.minor(number)):
                place = printable(fields[4])
                break
    if place is None:  # another vmcorefs, say
        return Container(detail="block device that another program uses, too")
    return Container(problems=(f"the device is mounted at {place}, so what is read may change; unmount it",))


def _kind(mode: int) -> str:
    for test, word in ((stat.S_ISFIFO, "FIFO"), (stat.S_ISCHR, "character device"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return word
    return "special file"
