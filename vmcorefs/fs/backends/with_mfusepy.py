"""libfuse 3, or 2, through mfusepy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from vmcorefs.fs.backends.callbacks import Callbacks, Slots
from vmcorefs.fs.backends.libfuse import Library, use_library
from vmcorefs.fs.operations import Operations

_module: Any = None


def prepare(library: Library) -> None:
    """Import the binding. Raises ImportError or OSError with the reason."""
    global _module
    if _module is not None:
        return
    use_library(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mfusepy
    _module = mfusepy


def run_mount(operations: Operations, mountpoint: str, options: dict[str, Any], on_ready: Callable[[], None]) -> None:
    """Mount and serve until unmounted. Raises RuntimeError(status) where libfuse's main returns one."""

    class Mount(Callbacks, _module.FUSE):  # type: ignore[misc]
        def readdir_fuse_2(self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any) -> int:
            for name in self.operations.served.names():
                if filler(buf, name.encode(), None, 0):
                    break
            return 0

        def readdir_fuse_3(self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any, flags: int) -> int:
            for name in self.operations.served.names():
                if filler(buf, name.encode(), None, 0, 0):
                    break
            return 0

    Mount(Slots(operations, on_ready), mountpoint, raw_fi=True, encoding="latin-1", foreground=True, nothreads=True, **options)
