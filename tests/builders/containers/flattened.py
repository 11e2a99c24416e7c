"""Flattened dumps: the records of makedumpfile -F and QEMU."""

from __future__ import annotations

import struct
from collections.abc import Iterable

HEADER = struct.pack(">16sQQ", b"makedumpfile", 1, 1).ljust(4096, b"\0")
END = struct.pack(">qq", -1, -1)


def record(offset: int, data: bytes) -> bytes:
    return struct.pack(">qq", offset, len(data)) + data


def flattened(records: Iterable[tuple[int, bytes]], *, end: bool = True) -> bytes:
    return HEADER + b"".join(record(offset, data) for offset, data in records) + (END if end else b"")


def pieces(data: bytes, size: int, start: int = 0) -> list[tuple[int, bytes]]:
    return [(at, data[at:at + size]) for at in range(start, len(data), size)]


def rebuilt(records: Iterable[tuple[int, bytes]]) -> bytes:
    """What makedumpfile -R makes of them."""
    out = bytearray()
    for offset, data in records:
        out.extend(bytes(max(0, offset + len(data) - len(out))))
        out[offset:offset + len(data)] = data
    return bytes(out)
