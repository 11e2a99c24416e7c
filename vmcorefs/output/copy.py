"""The whole vmcore into a file or a pipe."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from vmcorefs.errors import BusyError, OldmemReadError, OutputError, UsageError, printable, system_reason
from vmcorefs.output.part import CHUNK, PartFile, Say, describe, identify, open_part
from vmcorefs.vmcore.file import VmcoreFile

Progress = Callable[[int, int], None]
"""progress(done, size), at the beginning and after each piece."""

_ADVICE = {
    errno.ENOSPC: "make room; ",
    errno.EDQUOT: "make room; ",
    errno.EFBIG: "raise the limit, or choose a file system for larger files; ",
}


class CopyInterruptedError(OutputError):
    """A KeyboardInterrupt ended the copy; the message says what is there. Exit status 1."""


def _silent(*_: object) -> None:
    pass


def check_target(path: str, *, force: bool = False) -> str:
    """The path that a copy to *path* replaces: *path*, or what a symbolic link there leads to.

    Raises OutputError where no copy can be, BusyError where a file is and *force* is not given.
    """
    name = printable(path)
    if not path:
        raise OutputError("an empty name is no file name; say where to write")
    if os.path.isdir(path) or not os.path.basename(path):
        raise OutputError(f"{name}: is a directory; give a file name, for example {printable(os.path.join(path, 'vmcore'))}")
    if os.path.islink(path) and not os.path.exists(path):
        raise OutputError(f"{name}: is a symbolic link to {printable(os.readlink(path))}, which is not there; "
                          "remove the link, or give another name")
    if os.path.exists(path) and (kind := _special(os.stat(path).st_mode)):
        raise OutputError(f"{name}: is a {kind}, and a copy is a regular file; to write there, give - as FILE, "
                          f"and send standard output there: > {name}")
    if os.path.lexists(path) and not force:
        raise BusyError(f"{name}: is there already; choose another name, or overwrite it with --force")
    return os.path.realpath(path) if os.path.islink(path) else path


def _special(mode: int) -> str:
    for test, word in ((stat.S_ISBLK, "block device"), (stat.S_ISCHR, "character device"), (stat.S_ISFIFO, "FIFO"),
                       (stat.S_ISSOCK, "socket")):
        if test(mode):
            return word
    return ""


def copy_to_file(vmcore: VmcoreFile, path: str, *, force: bool = False, progress: Progress = _silent, say: Say = _silent) -> None:
    """Write vmcore to *path* by way of ``path.part``; pages of zeros become holes. Mode 0600: memory holds secrets.

    A ``path.part`` is continued as far as it is proven to be of this vmcore; *say* gets a line about that.
    Raises BusyError if *path* is there and *force* is not given, or if another copy is writing ``path.part``; OutputError
    if it cannot be written, OldmemReadError at the first byte that cannot be read, CopyInterruptedError in place of a
    KeyboardInterrupt: what was copied until then stays in ``path.part``.
    """
    target = check_target(path, force=force)
    for file in (target, target + ".part"):
        _refuse_input(vmcore, file)
    part = open_part(target + ".part", say)
    try:
        _fill(vmcore, part, progress, say)
        _complete(part, target, vmcore.size, force=force)
    except OldmemReadError as error:
        raise _advised(error, describe(part, vmcore.size)) from error
    except OSError as error:
        raise OutputError(f"{part.name}: cannot write: {system_reason(error)}; {_ADVICE.get(error.errno or 0, '')}"
                          f"{describe(part, vmcore.size)}") from error
    except KeyboardInterrupt as error:
        raise CopyInterruptedError(f"interrupted; {describe(part, vmcore.size)}") from error
    finally:
        part.close()


def _advised(error: OldmemReadError, done: str) -> OldmemReadError:
    """*error* with what helps where the dump does not have the memory, and with what was *done*."""
    hint = "" if error.kind == "broken" else "; --missing zeros writes zeros in place of what the dump does not have"
    return OldmemReadError(error.file, error.offset, f"{error.cause}{hint}; {done}", address=error.address, good=error.good,
                           kind=error.kind)


def _refuse_input(vmcore: VmcoreFile, path: str) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return
    inputs = {file.identity for region in vmcore.regions if region.file is not None for file in region.file.files}
    if (status.st_dev, status.st_ino) in inputs:
        raise UsageError(f"{printable(path)}: is the image itself, and would be overwritten; choose another name")


def _fill(vmcore: VmcoreFile, part: PartFile, progress: Progress, say: Say) -> None:
    """All of vmcore into the part: what is there is compared, the rest written. An early end leaves what was done."""
    identity = identify(vmcore)
    known = min(part.size, vmcore.size)
    begin = _proven(vmcore, part, identity)
    if part.size:
        say(f"{part.name}: {part.size} bytes are there from an earlier copy; "
            + (f"goes on after {begin} of them, which are of this vmcore" if begin == known else
               f"compares {'them' if not begin else f'what is behind {begin}'} with this vmcore before it goes on"))
    done = begin
    try:
        for offset, chunk, size in _pieces(vmcore, begin, progress):
            if offset < known and not part.holds(chunk, size, offset):
                say(f"{part.name}: {f'is of this vmcore up to {offset:#x} only' if offset else 'is not of this vmcore'}; "
                    f"starts anew{' there' if offset else ''}")
                known = offset
                part.cut(offset)
            if offset + size > known:
                part.write(chunk, size, offset)
            done = offset + size
            part.mark(identity, done)
    finally:
        with suppress(OSError):
            part.reach(done)


def _proven(vmcore: VmcoreFile, part: PartFile, identity: str | None) -> int:
    """Where to begin: behind what the mark proves, if the first and the last of these chunks are right, too."""
    begin = part.marked(identity)
    for offset in {0, begin - CHUNK} if begin else ():
        chunk = bytearray(CHUNK)
        try:
            vmcore.preadinto(chunk, offset)
        except OldmemReadError:
            return 0
        if not part.holds(chunk, CHUNK, offset):
            return 0
    return begin


def _complete(part: PartFile, target: str, size: int, *, force: bool) -> None:
    part.cut(size)
    part.flush()
    if not force and os.path.lexists(target):
        raise BusyError(f"{printable(target)}: has appeared during the copy; the complete copy is {part.name}: "
                        "rename it, or give the same command with --force")
    try:
        part.become(target)
    except OSError as error:
        raise OutputError(f"{part.name}: is complete, but cannot be renamed to {printable(target)}: {system_reason(error)}"
                          ) from error
    try:
        _flush_directory(os.path.dirname(target) or ".")
    except (OSError, KeyboardInterrupt) as error:
        why = system_reason(error) if isinstance(error, OSError) else "interrupted"
        raise OutputError(f"{printable(target)}: is complete, but its directory could not be flushed to the disk: {why}; "
                          "run sync") from error


def _flush_directory(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a directory that may be written, not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system that does not do this
            raise
    finally:
        os.close(descriptor)


def copy_to_descriptor(vmcore: VmcoreFile, descriptor: int, *, progress: Progress = _silent) -> None:
    """Write vmcore to a pipe or the like. Raises OutputError (EPIPE: the reader has gone), OldmemReadError, and
    CopyInterruptedError in place of a KeyboardInterrupt.
    """
    done = 0
    try:
        for _, chunk, size in _pieces(vmcore, 0, progress):
            view = memoryview(chunk)[:size]
            while view:
                count = _write_some(descriptor, view)
                view = view[count:]
                done += count
    except OldmemReadError as error:
        raise _advised(error, f"{done} of {vmcore.size} bytes were written") from error
    except OSError as error:
        why = {errno.EPIPE: "the reader has gone", errno.EBADF: "it is closed"}.get(error.errno or 0) or system_reason(error)
        raise OutputError(f"standard output: cannot write: {why}; {done} of {vmcore.size} bytes were written") from error
    except KeyboardInterrupt as error:
        raise CopyInterruptedError(f"interrupted; {done} of {vmcore.size} bytes were written to standard output") from error


def _write_some(descriptor: int, view: memoryview) -> int:
    while True:
        try:
            return os.write(descriptor, view)
        except BlockingIOError:  # somebody made the pipe non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


def _pieces(vmcore: VmcoreFile, begin: int, progress: Progress) -> Iterator[tuple[int, bytearray, int]]:
    """(offset, chunk, how many bytes of it) from *begin* on; good bytes before a bad one come before OldmemReadError."""
    chunk = bytearray(CHUNK)
    offset = begin
    progress(offset, vmcore.size)
    while offset < vmcore.size:
        try:
            size = vmcore.preadinto(chunk, offset)
        except OldmemReadError as error:
            if error.good:
                yield offset, chunk, error.good
            raise
        yield offset, chunk, size
        offset += size
        progress(offset, vmcore.size)
