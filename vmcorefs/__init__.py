"""vmcorefs: the /proc/vmcore of a crashed s390x machine's dump kernel, made from an image of its memory.

with vmcorefs.open("oldmem.img") as dump:
ELFFile(dump.vmcore)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmcorefs.version import __version__

if TYPE_CHECKING:
    from vmcorefs.dump import Dump
    from vmcorefs.dump import open_dump as open
    from vmcorefs.errors import (
        BusyError,
        ImageError,
        MountpointError,
        OldmemReadError,
        OutputError,
        SystemLacksError,
        UsageError,
        VmcorefsError,
    )

__all__ = [
    "BusyError",
    "Dump",
    "ImageError",
    "MountpointError",
    "OldmemReadError",
    "OutputError",
    "SystemLacksError",
    "UsageError",
    "VmcorefsError",
    "__version__",
    "open",
]


def __getattr__(name: str) -> Any:
    """What *__all__* names, imported when it is first asked for: the program must be able to run before all of that is there."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module("vmcorefs.dump" if name in {"Dump", "open"} else "vmcorefs.errors")
    value = getattr(module, "open_dump" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
