"""The family of errors: one base class; exit status and errno are attributes of the class.

Only :func:`vmcorefs.cli.main.main` turns one of these into a message and an exit status, only the file system turns one
into an errno. A traceback that reaches a person is a bug.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import ClassVar, Literal

_SHOWN = 60
ReadErrorKind = Literal["broken", "filtered", "missing"]


class VmcorefsError(Exception):
    """Base of everything that vmcorefs raises on purpose; ``str()`` is one line: what, where, what to do."""

    exit_status: ClassVar[int] = 2


class UsageError(VmcorefsError):
    """An option or argument that cannot be meant: exit status 2."""


class ImageError(VmcorefsError):
    """The image (or the HSA file, or another input file) cannot be used: exit status 2."""


class MountpointError(VmcorefsError):
    """The mount point cannot be used: exit status 2."""


class BusyError(VmcorefsError):
    """The answer is no: a mount is in use, a file is there already: exit status 1."""

    exit_status = 1


class OutputError(VmcorefsError):
    """The output could not be written: exit status 1."""

    exit_status = 1


class SystemLacksError(VmcorefsError):
    """The system lacks something (no /dev/fuse, no libfuse, no permission to mount): exit status 3."""

    exit_status = 3


class OldmemReadError(VmcorefsError, OSError):
    """Bytes of the crashed system that cannot be read. Also an OSError with errno EIO, so that errno travels.

    ``address`` is the absolute address of the first bad byte in the crashed system (None in a place that has none),
    ``file`` and ``offset`` say which file was read where (where the file holds nothing to be read: the address in the memory
    that it holds), ``cause`` says why in words, ``good`` is how many bytes of the request before the first bad one are good
    (and stand in the caller's buffer already).

    ``kind``: "broken" (I/O error, damaged data, a wrong size), "filtered" (never saved: who wrote the dump left it out on
    purpose) or "missing" (the dump is cut off before it, or knows of no memory there).
    """

    exit_status = 1

    def __init__(self, file: str | os.PathLike[str], offset: int, cause: str, *, address: int | None = None, good: int = 0,
                 kind: ReadErrorKind = "broken"):
        self.file = os.fspath(file)
        self.offset = offset
        self.cause = cause
        self.address = address
        self.good = good
        self.kind: ReadErrorKind = kind
        OSError.__init__(self, _errno.EIO, "")  # its words are made when somebody wants them: thousands are raised and caught

    @property
    def strerror(self) -> str:  # type: ignore[override]
        """The whole message, as an OSError's."""
        return str(self)

    def __str__(self) -> str:
        where = "" if self.address is None else f"absolute address {self.address:#x}: "
        what = f"not saved, at {self.offset:#x}" if self.kind == "filtered" else f"cannot read at offset {self.offset:#x}"
        return f"{printable(self.file)}: {where}{what}: {self.cause}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_oldmem_read_error, (self.file, self.offset, self.cause, self.address, self.good, self.kind))

    def moved(self, *, good: int, address: int | None = None) -> OldmemReadError:
        """The same error as seen by a caller that had *good* good bytes, and knows the absolute *address*."""
        return OldmemReadError(
            self.file, self.offset, self.cause, address=self.address if address is None else address, good=good, kind=self.kind
        )


def _rebuild_oldmem_read_error(file: str, offset: int, cause: str, address: int | None, good: int,
                               kind: ReadErrorKind) -> OldmemReadError:
    return OldmemReadError(file, offset, cause, address=address, good=good, kind=kind)


def printable(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """A path for a one-line message: control characters and bytes that are not UTF-8 are escaped."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    try:
        return character.encode("utf-8", "surrogateescape").decode("latin-1").encode("unicode_escape").decode("ascii")
    except UnicodeEncodeError:  # half of a pair, which no file name gives
        return character.encode("ascii", "backslashreplace").decode("ascii")


def system_reason(error: OSError) -> str:
    """Why the system refused, in its own words, without path and number."""
    return error.strerror or str(error)


def shown(value: object) -> str:
    """A wrong value for a message, whatever its size: its repr, cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        return "the value"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
