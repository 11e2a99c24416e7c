"""libfuse 2 through fusepy (module fuse)."""

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
    import fuse

    if not hasattr(fuse, "FUSE") or not hasattr(fuse, "fuse_operations"):
        raise ImportError(f"the module fuse in {fuse.__file__} is another binding (python3-fuse?), not fusepy")
    return fuse


class _FusepySlots(Slots):
    def __call__(self, name: str, *args: Any) -> Any:
        return getattr(self, name)(*args)


def run_mount(module: Any, operations: Operations, mountpoint: str, options: dict[str, Any], on_ready: Callable[[], None]) -> None:
    """Mount and serve until unmounted; *module* is what load gave. Raises RuntimeError(status) where libfuse's main returns one."""

    class Mount(Callbacks, module.FUSE):  # type: ignore[misc]
        def readdir(self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any) -> int:
            return self.fill(path, lambda name: filler(buf, name, None, 0))

    Mount(_FusepySlots(operations, on_ready), mountpoint, raw_fi=True, encoding="latin-1", foreground=True, nothreads=True,
          **options)
