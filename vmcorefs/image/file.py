"""ImageFile: a regular file or block device, read by pread until full or a clear error; never by mmap.

(An mmap of an image that shrinks or has a bad sector ends the process with SIGBUS.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from vmcorefs.errors import ImageError, OldmemReadError, printable, system_reason
from vmcorefs.quantities import PAGE_SIZE

_SCAN_STEP = 1 << 20
_OFFSET_LIMIT = (1 << 63) - 1  # of off_t; addresses out of an image may be larger


class ImageFile:
    """An open image. Thread safe: every read names its offset, there is no shared position."""

    def __init__(self, path: str | os.PathLike[str], *, what: str = "image"):
        self.path = os.path.abspath(os.fspath(path))
        self.name = printable(os.fspath(path))
        self.fd = -1
        try:
            mode = os.stat(self.path).st_mode
            if stat.S_ISDIR(mode):
                raise ImageError(f"{self.name}: the {what} is a directory; give the file")
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise ImageError(f"{self.name}: the {what} is a {_kind(mode)}, which cannot be read at any offset; "
                                 "copy it into a regular file first")
            # O_NONBLOCK: should the name have become a FIFO since, open must not wait for a writer.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self.fd)
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            advice = "; ask its owner, or run as a user who may read it" if error.errno in (errno.EACCES, errno.EPERM) else ""
            raise ImageError(f"{self.name}: cannot open the {what}: {system_reason(error)}{advice}") from error
        self.mtime_ns = status.st_mtime_ns
        self.identity = (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close the file; reads then fail."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def head(self, size: int) -> bytes:
        """The first *size* bytes, or fewer where the file is shorter or has a bad byte. Never raises."""
        buffer = bytearray(min(size, self.size))
        try:
            self.preadinto(memoryview(buffer), 0)
        except OldmemReadError as error:
            return bytes(buffer[:error.good])
        return bytes(buffer)

    def pread(self, size: int, offset: int) -> bytes:
        """Exactly *size* bytes at *offset*. Raises OldmemReadError."""
        buffer = bytearray(size)
        self.preadinto(memoryview(buffer), offset)
        return bytes(buffer)

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """Fill *view* (bytes) from *offset*, whole. Raises OldmemReadError otherwise.

        With *salvage* the error's ``good`` is the exact number of readable bytes before the first bad one, and they
        stand in *view*; without, fewer may be counted (no further reads are spent on an area that fails).
        """
        want, done = len(view), 0
        if want and not 0 <= offset <= _OFFSET_LIMIT - want:
            raise self._error(offset, self._end_words(), 0)
        while done < want:
            try:
                count = os.preadv(self.fd, [view[done:] if done else view], offset + done)
            except OSError as error:
                if salvage:
                    done += self._good_prefix(view[done:], offset + done)
                raise self._error(offset + done, system_reason(error), done) from error
            if count == 0:
                raise self._error(offset + done, self._end_words(), done)
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

    def _error(self, offset: int, cause: str, good: int) -> OldmemReadError:
        return OldmemReadError(self.path, offset, cause, good=good)

    def _end_words(self) -> str:
        try:
            now = os.fstat(self.fd).st_size
        except OSError as error:
            return system_reason(error)
        if now < self.size:
            return f"the file ends at {now:#x}; it was {self.size:#x} bytes long when it was opened"
        return f"beyond the end of the file at {self.size:#x}"

    def scan(self, start: int, end: int, *, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) over [start, end), in order, in pieces of some MiB that begin page aligned where *start* is.

        Each piece carries up to *overlap* bytes of the next one, so that a pattern of overlap + 1 bytes cannot be missed.
        Holes of a sparse file and unreadable pages are left out: what is searched for is never all zeros, and what
        cannot be read cannot match. Never raises for a bad byte.
        """
        end = min(end, self.size)
        position = start
        while position < end:
            position, data_end = self._next_data(position, end, start)
            while position < data_end:
                size = min(_SCAN_STEP, data_end - position)
                yield from self._scan_piece(position, size, min(size + overlap, end - position))
                position += size

    def _scan_piece(self, offset: int, size: int, padded: int) -> Iterator[tuple[int, bytes]]:
        try:
            yield offset, os.pread(self.fd, padded, offset)
        except OSError:
            yield from self._readable_runs(offset, offset + size, offset + padded)

    def _readable_runs(self, start: int, end: int, padded_end: int) -> Iterator[tuple[int, bytes]]:
        """The runs of readable pages in [start, padded_end) that begin before *end*."""
        begin, run = start, bytearray()
        for page in range(start, padded_end, PAGE_SIZE):
            try:
                run += os.pread(self.fd, min(PAGE_SIZE, padded_end - page), page)
                continue
            except OSError:
                pass
            if run and begin < end:
                yield begin, bytes(run)
            begin, run = page + PAGE_SIZE, bytearray()
        if run and begin < end:
            yield begin, bytes(run)

    def _next_data(self, position: int, end: int, start: int) -> tuple[int, int]:
        """The next piece [a, e) at or behind *position* that is no hole; a is start + whole pages."""
        try:
            data = os.lseek(self.fd, position, os.SEEK_DATA)
            hole = os.lseek(self.fd, data, os.SEEK_HOLE)
        except OSError as error:
            return (end, end) if error.errno == errno.ENXIO else (position, end)
        data = max(position, data - (data - start) % PAGE_SIZE)
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


def _kind(mode: int) -> str:
    for test, word in ((stat.S_ISFIFO, "FIFO"), (stat.S_ISCHR, "character device"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return word
    return "special file"
