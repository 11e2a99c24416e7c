"""Where the system's libfuse is. Looked for by soname: ctypes.util.find_library would start ldconfig or a compiler."""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

# soname by major version; libfuse 3.17 raised it to 4
_SONAMES = {3: ("libfuse3.so.4", "libfuse3.so.3"), 2: ("libfuse.so.2",)}
PATH_VARIABLE = "FUSE_LIBRARY_PATH"  # both bindings obey it; a person who sets it wants just this library


class Library(NamedTuple):
    """A libfuse: major version, and what dlopen takes."""

    major: int
    path: str


def find_library(major: int) -> Library | None:
    """Libfuse of that major version, None if it is not here."""
    given = os.environ.get(PATH_VARIABLE)
    for path in (given,) if given else _SONAMES[major]:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        version = int(library.fuse_version()) if hasattr(library, "fuse_version") else 0
        # libfuse 2.9 says 29, libfuse 3.14 says 314
        if (version // 100 if version >= 100 else version // 10) == major:
            return Library(major, path)
    return None


def use_library(library: Library) -> None:
    """Make the binding that is imported next load *library*."""
    os.environ[PATH_VARIABLE] = library.path
