"""os_info: the page by which the crashed kernel talks to the dump kernel (asm/os_info.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

MAGIC = 0x4F53494E464F535A  # "OSINFOSZ"

VMCOREINFO = 0
REIPL_BLOCK = 1
IDENTITY_BASE = 4
KASLR_OFFSET = 5
KASLR_OFF_PHYS = 6
VMEMMAP = 7
AMODE31_START = 8
AMODE31_END = 9
IMAGE_START = 10
IMAGE_END = 11
IMAGE_PHYS = 12


def cksm(data: bytes) -> int:
    """CKSM instruction from 0 (csum_partial before 6.9): 32 bit words, end-around carry."""
    data += bytes(-len(data) % 4)
    total = sum(int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


@dataclass(frozen=True)
class Entry:
    """Data entry: address, size, checksum of the data. Value entry: the value in addr, rest 0."""

    addr: int
    size: int = 0
    csum: int = 0


@dataclass(frozen=True)
class OsInfo:
    """csum None is the right one."""

    crashkernel_addr: int = 0
    crashkernel_size: int = 0
    entries: Mapping[int, Entry] = field(default_factory=dict)
    magic: int = MAGIC
    csum: int | None = None
    version_major: int = 1
    version_minor: int = 1

    def to_bytes(self) -> bytes:
        page = bytearray(4096)
        struct.pack_into(
            ">HHQQ",
            page,
            12,
            self.version_major,
            self.version_minor,
            self.crashkernel_addr,
            self.crashkernel_size,
        )
        for number, entry in self.entries.items():
            struct.pack_into(">QQI", page, 32 + 20 * number, entry.addr, entry.size, entry.csum)
        csum = cksm(bytes(page[12:])) if self.csum is None else self.csum
        struct.pack_into(">QI", page, 0, self.magic, csum)
        return bytes(page)
