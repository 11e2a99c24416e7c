"""s390_ext dumps (magic ...23fe): segments, plain or of zlib entries."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from . import s390

MAGIC = 0xA8190173618F23FE
PAGE, MIB = 4096, 1 << 20
SEGMENT = {"start": (0, 8), "len": (8, 8), "stop_marker": (0x10, 8), "size_on_disk": (0x18, 4), "entry_count": (0x30, 4),
           "entry_offset": (0x34, 4)}
STOP = (1 << 64) - 1


def header(mem_size: int, prefixes: Sequence[int] = (), *, version: int = 1, **values: int) -> bytes:
    return s390.header(mem_size, prefixes, version=version, **{"magic": MAGIC} | values)


def segment(start: int, data: bytes, *, stop: bool) -> bytes:
    """Plain."""
    return struct.pack(">QQQ", start, len(data), STOP if stop else 0).ljust(PAGE, b"\0") + data


def packed_segment(start: int, data: bytes, *, stop: bool, plain: Sequence[int] = ()) -> bytes:
    """Of zlib entries; those numbered in *plain* as they are."""
    entries, offsets = b"", []
    for number, at in enumerate(range(0, len(data), MIB)):
        piece = data[at:at + MIB]
        offsets.append(len(entries) // PAGE | (0x80000000 if number in plain else 0))
        entry = piece if number in plain else zlib.compress(piece)
        entries += entry + bytes(-len(entry) % PAGE)
    head = struct.pack(">QQQI20xI", start, len(data), STOP if stop else 0, len(entries) // PAGE, len(offsets))
    return (head + struct.pack(f">{len(offsets)}I", *offsets)).ljust(PAGE, b"\0") + entries


def runs(memory: bytes) -> list[tuple[int, int]]:
    """The runs of MiB that are not all zero."""
    found: list[tuple[int, int]] = []
    for at in range(0, len(memory), MIB):
        piece = memory[at:at + MIB]
        if any(piece):
            if found and found[-1][1] == at:
                found[-1] = (found[-1][0], at + len(piece))
            else:
                found.append((at, at + len(piece)))
    return found


def s390_ext(memory: bytes, prefixes: Sequence[int] = (), *, packed: bool = False, plain: Sequence[int] = (), **values: int) -> bytes:
    """A whole dump. *packed*: what the tools of s390-tools 2.30 write with DFLTCC: the first MiB plain, whatever is in it."""
    out = header(len(memory), prefixes, version=2 if packed else 1, **values)
    found = runs(memory)
    if packed:
        found = [(0, min(MIB, len(memory))), *((max(a, MIB), b) for a, b in found if b > MIB)]
    for start, end in found:
        stop = (start, end) == found[-1]
        data = memory[start:end]
        out += packed_segment(start, data, stop=stop, plain=plain) if packed and start else segment(start, data, stop=stop)
    if not found:
        out += segment(0, b"", stop=True)
    return out + s390.end_marker().ljust(PAGE, b"\0")


def tape(memory: bytes) -> bytes:
    """The records of a tape, joined."""
    return header(len(memory)) + memory + bytes(-len(memory) % 0x8000) + s390.end_marker()
