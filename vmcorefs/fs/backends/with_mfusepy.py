"""libfuse 3, or 2, through mfusepy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from vmcorefs.fs.backends.callbacks import Callbacks, Slots
from vmcorefs.fs.backends.libfuse import Library, use_library
from vmcorefs.fs.operations import Operations


@cache
def load(library: Library) -> Any:
    """Import the binding, on *library*. Raises ImportError or OSError with the reason."""
    use_library(library)
    import mfusepy

    return mfusepy


def run_mount(module: Any, operations: Operations, mountpoint: str, options: dict[str, Any], on_ready: Callable[[], None]) -> None:
    """Mount and serve until unmounted; *module* is what load gave. Raises RuntimeError(status) where libfuse's main returns one."""

    class Mount(Callbacks, module.FUSE):  # type: ignore[misc]
        def readdir_fuse_2(self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any) -> int:
            return self.fill(path, lambda name: filler(buf, name, None, 0))

        def readdir_fuse_3(self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any, flags: int) -> int:
            return self.fill(path, lambda name: filler(buf, name, None, 0, 0))

    Mount(Slots(operations, on_ready), mountpoint, raw_fi=True, encoding="latin-1", foreground=True, nothreads=True, **options)
