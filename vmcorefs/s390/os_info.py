"""os_info: one page in which a kernel tells its dump kernel where things are (asm/os_info.h, os_info.c)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.checksum import cksm
from vmcorefs.s390.parmarea import Crashkernel

# offset    size  field
#  0         8    magic             "OSINFOSZ"
#  8         4    csum              cksm over bytes 12..4095
# 12, 14   2, 2   version_major, version_minor
# 16         8    crashkernel_addr  B
# 24         8    crashkernel_size  S
# 32+20i     8    entry[i].addr, or .val of a value entry
# 40+20i     8    entry[i].size
# 48+20i     4    entry[i].csum
MAGIC = b"OSINFOSZ"
_HEAD = struct.Struct(">8sIHHQQ")
_ENTRY = struct.Struct(">QQI")
_ENTRIES = 13
VERSION_MAJOR_SUPPORTED = 1
DATA_LIMIT = 65536

VMCOREINFO = 0  # data; never set by 6.1 and 6.12
IDENTITY_BASE = 4  # values from here on, all since 6.10
KASLR_OFFSET = 5  # nonzero: this kernel image is mapped on its own ("has vm"), nokaslr or not
KASLR_OFF_PHYS = 6
IMAGE_START = 10
IMAGE_END = 11
IMAGE_PHYS = 12


class Entry(NamedTuple):
    """One entry: address (or value), size and checksum of its data."""

    addr: int
    size: int
    csum: int


@dataclass(frozen=True)
class OsInfo:
    """A page that passed the kernel's checks; *address* is where it lies."""

    address: int
    version: tuple[int, int]
    crashkernel: Crashkernel
    entries: tuple[Entry, ...]

    def value(self, index: int) -> int:
        """The value of a value entry (4..12); 0 in kernels that do not know it."""
        return self.entries[index].addr


def parse_os_info(page: bytes, address: int) -> OsInfo | Absent:
    """The page's content if it is valid. Order of the checks as in os_info.c: os_info_old_init."""
    magic, csum, major, minor, base, size = _HEAD.unpack_from(page)
    if magic != MAGIC:
        return Absent(f"os_info at {address:#x}: magic is {magic.hex()}, not {MAGIC.hex()} (OSINFOSZ)")
    if (computed := cksm(page[12:])) != csum:
        return Absent(f"os_info at {address:#x}: checksum is {csum:#010x}, computed {computed:#010x}")
    if major > VERSION_MAJOR_SUPPORTED:
        return Absent(f"os_info at {address:#x}: version {major}.{minor} is not known, {VERSION_MAJOR_SUPPORTED} is")
    entries = tuple(Entry(*_ENTRY.unpack_from(page, 32 + 20 * i)) for i in range(_ENTRIES))
    return OsInfo(address, (major, minor), Crashkernel(base, size), entries)


def read_os_info(read: Read, pointer: int) -> OsInfo | Absent:
    """os_info at *pointer* (lowcore's os_info field) in the memory that *read* sees."""
    if pointer == 0:
        return Absent("no os_info: the pointer at 0xe18 is 0", suspicious=False)
    if pointer % PAGE_SIZE:
        return Absent(f"os_info: the pointer {pointer:#x} at 0xe18 is not page aligned")
    try:
        page = read(pointer, PAGE_SIZE)
    except OldmemReadError as error:
        return Absent(f"os_info: the pointer {pointer:#x} at 0xe18 leads outside of what can be read ({error.cause})")
    return parse_os_info(page, pointer)


def read_data_entry(read: Read, info: OsInfo, index: int) -> bytes | Absent:
    """The bytes of a data entry (os_info.c: os_info_old_alloc): address not 0, size bounded, checksum right."""
    addr, size, csum = info.entries[index]
    where = f"os_info entry {index}"
    if addr == 0:
        return Absent(f"{where} is empty", suspicious=False)
    if not 1 <= size <= DATA_LIMIT:
        return Absent(f"{where}: size {size:#x} is absurd, at most {DATA_LIMIT:#x} is believed")
    try:
        data = read(addr, size)
    except OldmemReadError as error:
        return Absent(f"{where}: {size:#x} bytes at {addr:#x} cannot be read ({error.cause})")
    if (computed := cksm(data)) != csum:
        return Absent(f"{where}: checksum is {csum:#010x}, computed {computed:#010x} over {size:#x} bytes at {addr:#x}")
    return data
