"""BACKENDS: the bindings to libfuse. Each is one file that says whether it can work here, and runs a mount."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any, NamedTuple

from vmcorefs.errors import SystemLacksError, printable
from vmcorefs.fs.backends.libfuse import PATH_VARIABLE, Library, find_library


class Backend(NamedTuple):
    """A binding: its name, its module here, and the major versions of libfuse it works with, best first."""

    name: str
    module: str
    majors: tuple[int, ...]


BACKENDS: tuple[Backend, ...] = (
    Backend("mfusepy", "vmcorefs.fs.backends.with_mfusepy", (3, 2)),
    Backend("fusepy", "vmcorefs.fs.backends.with_fusepy", (2,)),
)
BACKEND_NAMES = ("auto", *(backend.name for backend in BACKENDS))


class Chosen(NamedTuple):
    """A backend that can work here: its module here, and the binding that this has loaded."""

    backend: Backend
    library: Library
    module: ModuleType
    binding: Any


def choose_backend(name: str) -> Chosen:
    """The backend *name*, or the first that works for "auto".

    Raises SystemLacksError with what to install. auto takes libfuse 3 before libfuse 2: its requests are 1 MiB, not 128 KiB.
    """
    candidates = [b for b in BACKENDS if name in ("auto", b.name)]
    reasons: list[str] = []
    for major in (3, 2):
        for backend in candidates:
            if major not in backend.majors:
                continue
            library = find_library(major)
            if library is None:
                given = os.environ.get(PATH_VARIABLE)
                reasons.append(f"{PATH_VARIABLE}={printable(given)} is no libfuse {major}" if given
                               else f"libfuse {major} is not installed")
                continue
            try:
                module = importlib.import_module(backend.module)
                binding = module.load(library)
            except (ImportError, OSError, AttributeError) as error:
                reasons.append(f"{backend.name}: {error}")
                continue
            return Chosen(backend, library, module, binding)
    raise SystemLacksError(f"no usable libfuse for backend {name}: {'; '.join(dict.fromkeys(reasons))}; install it, "
                           "for example: apt-get install fuse3 libfuse2 (Debian) or dnf install fuse3-libs fuse3 (RHEL)")
