"""The whole vmcore into a file or a pipe."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from vmcorefs.errors import BusyError, OldmemReadError, OutputError, printable, system_reason
from vmcorefs.vmcore.file import VmcoreFile

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
Progress = Callable[[int, int], None]
"""progress(done, size), after each piece."""


def copy_to_file(vmcore: VmcoreFile, path: str, *, force: bool = False, progress: Progress | None = None) -> None:
    """Write vmcore to *path* by way of ``path.part``; pages of zeros become holes. Mode 0600: memory holds secrets.

    Raises BusyError if *path* is there and *force* is not given, OutputError if it cannot be written, OldmemReadError at the
    first byte that cannot be read; what was copied until then stays in ``path.part``.
    """
    name = printable(path)
    if os.path.isdir(path):
        raise OutputError(f"{name}: is a directory; give a file name, for example {printable(os.path.join(path, 'vmcore'))}")
    if os.path.lexists(path) and not force:
        raise BusyError(f"{name}: is there already; choose another name, or overwrite it with --force")
    if os.path.exists(path) and not os.path.isfile(path):
        _copy_to_special(vmcore, path, progress)
        return
    part = path + ".part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(f"{printable(part)}: cannot create: {system_reason(error)}") from error
    try:
        for offset, view in _pieces(vmcore, progress):
            if view != memoryview(_ZEROS)[:len(view)]:
                _write_all(descriptor, view, offset)
        os.ftruncate(descriptor, vmcore.size)
        os.fsync(descriptor)
    except OldmemReadError as error:
        raise _with_place(error, part) from error
    except OSError as error:
        raise OutputError(f"{printable(part)}: cannot write: {system_reason(error)}; "
                          f"what was copied until then is there ({_size(part)} bytes long)") from error
    finally:
        os.close(descriptor)
    try:
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{printable(part)}: complete, but cannot be renamed to {name}: {system_reason(error)}") from error


def copy_to_descriptor(vmcore: VmcoreFile, descriptor: int, *, progress: Progress | None = None) -> None:
    """Write vmcore to a pipe or the like. Raises OutputError (EPIPE: the reader has gone) and OldmemReadError."""
    try:
        for _, view in _pieces(vmcore, progress):
            done = 0
            while done < len(view):
                done += os.write(descriptor, view[done:])
    except OldmemReadError:
        raise
    except OSError as error:
        why = "the reader has gone" if error.errno == errno.EPIPE else system_reason(error)
        raise OutputError(f"standard output: cannot write: {why}") from error


def _copy_to_special(vmcore: VmcoreFile, path: str, progress: Progress | None) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(f"{printable(path)}: cannot open: {system_reason(error)}") from error
    try:
        copy_to_descriptor(vmcore, descriptor, progress=progress)
    finally:
        os.close(descriptor)


def _pieces(vmcore: VmcoreFile, progress: Progress | None) -> Iterator[tuple[int, memoryview]]:
    buffer = bytearray(_CHUNK)
    offset = 0
    while offset < vmcore.size:
        view = memoryview(buffer)[:min(_CHUNK, vmcore.size - offset)]
        try:
            vmcore.preadinto(view, offset)
        except OldmemReadError as error:
            if error.good:
                yield offset, view[:error.good]
            raise
        yield offset, view
        offset += len(view)
        if progress is not None:
            progress(offset, vmcore.size)


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def _with_place(error: OldmemReadError, part: str) -> OldmemReadError:
    cause = f"{error.cause}; what was copied until then is in {printable(part)} ({_size(part)} bytes long)"
    return OldmemReadError(error.file, error.offset, cause, address=error.address, good=error.good)


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return 0
