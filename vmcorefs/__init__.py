"""vmcorefs: the /proc/vmcore of a crashed s390x machine's dump kernel, made from an image of its memory.

with vmcorefs.open("oldmem.img") as dump:
ELFFile(dump.vmcore)
"""

from __future__ import annotations

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
from vmcorefs.version import __version__

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
