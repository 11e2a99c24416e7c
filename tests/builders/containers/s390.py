"""s390 stand-alone dumps (magic ...23fd): header, memory, end marker."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC = 0xA8190173618F23FD
TOD_1970 = 0x7D91048BCA000000
FIELDS = {"magic": (0, 8), "version": (8, 4), "hdr_size": (0xC, 4), "dump_level": (0x10, 4), "page_size": (0x14, 4), "mem_size": (0x18, 8),
          "mem_start": (0x20, 8), "mem_end": (0x28, 8), "num_pages": (0x30, 4), "pad": (0x34, 4), "tod": (0x38, 8), "cpu_id": (0x40, 8),
          "arch": (0x48, 4), "volnr": (0x4C, 4), "build_arch": (0x50, 4), "mem_size_real": (0x54, 8), "mvdump": (0x5C, 1),
          "cpu_cnt": (0x5D, 2), "real_cpu_cnt": (0x5F, 2), "zlib_version": (0x61, 1), "zlib_entry_size": (0x62, 4)}


def tod(seconds: float) -> int:
    return TOD_1970 + (int(seconds * 1_000_000) << 12)


def header(mem_size: int, prefixes: Sequence[int] = (), *, version: int = 5, begin: int = tod(1_700_000_000), **values: int) -> bytes:
    page = bytearray(4096)
    fields = {"magic": MAGIC, "version": version, "hdr_size": 4096, "dump_level": 4, "page_size": 4096, "mem_size": mem_size,
              "mem_end": mem_size, "num_pages": mem_size >> 12 & 0xFFFFFFFF, "tod": begin,
              "cpu_id": 0xFF00000089610000, "arch": 2, "build_arch": 2,
              "mem_size_real": mem_size, "cpu_cnt": len(prefixes), "real_cpu_cnt": len(prefixes)} | values
    for name, value in fields.items():
        offset, size = FIELDS[name]
        page[offset:offset + size] = value.to_bytes(size, "big")
    struct.pack_into(f">{len(prefixes)}I", page, 0x800, *prefixes)
    return bytes(page)


def end_marker(at: int = tod(1_700_000_005)) -> bytes:
    return b"DUMP_END" + at.to_bytes(8, "big")


def s390(memory: bytes, prefixes: Sequence[int] = (), **values: int) -> bytes:
    return header(len(memory), prefixes, **values) + memory + end_marker()
