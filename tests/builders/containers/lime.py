"""LiME files, as the kernel module writes them (big endian on s390x), and AVML's uncompressed ones (little endian)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEADER = 32
FIELDS = {"magic": (0, 4), "version": (4, 4), "first": (8, 8), "last": (16, 8), "reserved": (24, 8)}


def header(first: int, size: int, order: str = ">") -> bytes:
    return struct.pack(order + "IIQQ8x", 0x4C694D45, 1, first, first + size - 1)


def lime(ranges: Sequence[tuple[int, bytes]], order: str = ">") -> bytes:
    return b"".join(header(first, len(data), order) + data for first, data in ranges)


def avml(memory: bytes, block: int = 16 << 20) -> bytes:
    """Version 1: blocks, without those that are all zero."""
    blocks = [(at, memory[at:at + block]) for at in range(0, len(memory), block)]
    return lime([(at, data) for at, data in blocks if data.strip(b"\0")], "<")
