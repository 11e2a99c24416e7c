"""A sparse capture as a dump of another format, for the walk-throughs: what makedumpfile -c -d 31 makes of the kernel's vmcore.

    python -m tests.captures.dumps kdump NAME FILE

The pages that the capture keeps are stored; the others are left out, as makedumpfile leaves out what nobody needs. Needs nothing but
the standard library, and nothing of the product.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

from tests.captures.sparse import expected_memory, load, loads

PAGE = 4096


def kdump(name: str) -> bytes:
    """A kdump-compressed dump, version 6, zlib, dump level 31 (makedumpfile: diskdump_mod.h)."""
    capture = load(name)
    if capture.header is None:
        raise KeyError(f"{name}: no dump kernel ran in it, so there is no vmcore")
    header = capture.header
    note_offset, note_size = struct.unpack_from(">8xQ16xQ", header, struct.unpack_from(">Q", header, 32)[0])
    notes = header[note_offset:note_offset + note_size]
    text_at = notes.index(b"VMCOREINFO\0") + 12
    ranges = [(load.start // PAGE, load.end // PAGE) for load in loads(header)]
    kept = {address // PAGE: page for address, page in expected_memory(name)}
    end = max(last for _, last in ranges)
    sub_blocks = -(-(104 + len(notes)) // PAGE)
    bitmap_blocks = -(-end // (8 * PAGE))

    out = bytearray((1 + sub_blocks + 2 * bitmap_blocks) * PAGE)
    names = [b"Linux", b"(none)", capture.release.encode(), b"#1 SMP", b"s390x", b"(none)"]
    struct.pack_into(">8sI390s6x16xIIIIII", out, 0, b"KDUMP   ", 6, b"".join(name.ljust(65, b"\0") for name in names), 1, PAGE, sub_blocks,
                     2 * bitmap_blocks, end, 0)
    at = PAGE + 104
    struct.pack_into(">QIIQQQQQQQQQQQ", out, PAGE, 0, 31, 0, 0, 0, at + text_at, len(notes) - text_at, at, len(notes), 0, 0, 0, 0, end)
    out[at:at + len(notes)] = notes
    bitmap = (1 + sub_blocks) * PAGE
    for first, last in ranges:
        for pfn in range(first, last):
            out[bitmap + (pfn >> 3)] |= 1 << (pfn & 7)
    for pfn in kept:
        out[bitmap + bitmap_blocks * PAGE + (pfn >> 3)] |= 1 << (pfn & 7)
    place, rows, data = len(out) + 24 * len(kept), b"", b""
    for pfn in sorted(kept):
        packed = zlib.compress(kept[pfn])
        packed, flags = (packed, 1) if len(packed) < PAGE else (kept[pfn], 0)
        rows += struct.pack(">QIIQ", place + len(data), len(packed), flags, 0)
        data += packed
    return bytes(out) + rows + data


def main() -> None:
    """The command line."""
    if len(sys.argv) != 4 or sys.argv[1] != "kdump":
        sys.exit("usage: python -m tests.captures.dumps kdump NAME FILE")
    Path(sys.argv[3]).write_bytes(kdump(sys.argv[2]))


if __name__ == "__main__":
    main()
