"""struct stat of each machine, as libfuse's high-level API takes it. Neither binding knows all of them (s390x!).

Sources: glibc sysdeps/unix/sysv/linux/*/bits/struct_stat.h. A test compares the running machine's row with a C program.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Mapping
from typing import NamedTuple


class StatLayout(NamedTuple):
    """Offsets of the fields that are filled, and the formats of the two whose width differs. *size* of the whole."""

    size: int
    st_mode: int
    st_nlink: int
    nlink_format: str
    st_uid: int
    st_gid: int
    st_size: int
    st_blksize: int
    blksize_format: str
    st_blocks: int
    st_atim: int
    st_mtim: int
    st_ctim: int


#                          size mode nlink     uid gid size blksize  blocks atim mtim ctim
_X86_64 = StatLayout(       144, 24, 16, "Q",  28, 32, 48,  56, "q",  64,   72,  88, 104)
_PPC64 = StatLayout(        144, 24, 16, "Q",  28, 32, 48,  56, "q",  64,   72,  88, 104)
_S390X = StatLayout(        144, 24, 16, "Q",  28, 32, 48, 104, "q", 112,   56,  72,  88)
_GENERIC = StatLayout(      128, 16, 20, "I",  24, 28, 48,  56, "i",  64,   72,  88, 104)

STAT_LAYOUTS: Mapping[str, StatLayout] = {
    "x86_64": _X86_64,
    "s390x": _S390X,
    "ppc64": _PPC64,
    "ppc64le": _PPC64,
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}


def stat_layout(machine: str | None = None) -> StatLayout:
    """The row of *machine* (default: this one). Raises OSError for a machine that is not in the table."""
    machine = machine or platform.machine()
    layout = STAT_LAYOUTS.get(machine)
    if layout is None:
        raise OSError(f"struct stat of machine {machine} is not known")
    return layout


def pack_stat(layout: StatLayout, attributes: Mapping[str, int]) -> bytes:
    """A struct stat in this machine's byte order; fields that are not given are 0."""
    data = bytearray(layout.size)
    seconds, nanoseconds = divmod(attributes["st_mtime_ns"], 10**9)
    for offset, form, value in (
        (layout.st_mode, "I", attributes["st_mode"]),
        (layout.st_nlink, layout.nlink_format, attributes["st_nlink"]),
        (layout.st_uid, "I", attributes["st_uid"]),
        (layout.st_gid, "I", attributes["st_gid"]),
        (layout.st_size, "q", attributes["st_size"]),
        (layout.st_blksize, layout.blksize_format, attributes["st_blksize"]),
        (layout.st_blocks, "q", attributes["st_blocks"]),
        *((at, "q", seconds) for at in (layout.st_atim, layout.st_mtim, layout.st_ctim)),
        *((at + 8, "q", nanoseconds) for at in (layout.st_atim, layout.st_mtim, layout.st_ctim)),
    ):
        struct.pack_into("=" + form, data, offset, value)
    return bytes(data)


def write_stat(address: int, packed: bytes) -> None:
    """Write a struct stat where libfuse wants it."""
    ctypes.memmove(address, packed, len(packed))
