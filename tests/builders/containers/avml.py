"""AVML files, version 2: blocks of memory in snappy's framing format, the length of each behind it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import cramjam

BLOCK = 16 << 20
FIELDS = {"magic": (0, 4), "version": (4, 4), "first": (8, 8), "last": (16, 8)}
IDENTIFIER = b"\xff\x06\0\0sNaPpY"


def header(first: int, size: int, version: int = 2) -> bytes:
    return b"AVML" + struct.pack("<IQQ8x", version, first, first + size - 1)


def stream(data: bytes) -> bytes:
    """Framed, in chunks of 64 KiB, as the snap crate does it."""
    return bytes(cramjam.snappy.compress(data))


def block(first: int, data: bytes) -> bytes:
    packed = stream(data)
    return header(first, len(data)) + packed + struct.pack("<Q", len(packed))


def avml(ranges: Sequence[tuple[int, bytes]], size: int = BLOCK) -> bytes:
    """Every range cut into blocks, without those that are all zero."""
    return b"".join(block(first + at, data[at:at + size]) for first, data in ranges for at in range(0, len(data), size)
                    if any(data[at:at + size]))
