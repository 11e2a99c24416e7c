"""kdump-compressed dumps, as makedumpfile and QEMU write them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import cramjam
import lzallright
import zstandard

PAGE = 4096
# (offset, size): of the main header, of the sub header
MAIN = {"version": (0x8, 4), "seconds": (0x198, 8), "status": (0x1A8, 4), "block_size": (0x1AC, 4), "sub_hdr_size": (0x1B0, 4),
        "bitmap_blocks": (0x1B4, 4), "max_mapnr": (0x1B8, 4), "nr_cpus": (0x1CC, 4)}
SUB = {"phys_base": (0x0, 8), "dump_level": (0x8, 4), "split": (0xC, 4), "start_pfn": (0x10, 8), "end_pfn": (0x18, 8),
       "offset_vmcoreinfo": (0x20, 8), "size_vmcoreinfo": (0x28, 8), "offset_note": (0x30, 8), "size_note": (0x38, 8),
       "offset_eraseinfo": (0x40, 8), "size_eraseinfo": (0x48, 8), "start_pfn_64": (0x50, 8), "end_pfn_64": (0x58, 8),
       "max_mapnr_64": (0x60, 8)}
FIELDS = MAIN | {name: (PAGE + offset, size) for name, (offset, size) in SUB.items()}
FLAGS = {"plain": 0, "zlib": 1, "lzo": 2, "snappy": 4, "zstd": 0x20}

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda page: page,
    "zlib": zlib.compress,
    "lzo": lambda page: bytes(lzallright.LZOCompressor().compress(page)),
    "snappy": lambda page: bytes(cramjam.snappy.compress_raw(page)),
    "zstd": lambda page: zstandard.ZstdCompressor(level=1).compress(page),
}


def compressed(page: bytes, compression: str) -> tuple[bytes, int]:
    """(data, flags): plain where the compressed page is not smaller."""
    data = _COMPRESS[compression](page)
    return (data, FLAGS[compression]) if len(data) < PAGE else (page, 0)


@dataclass(frozen=True)
class Kdump:
    """A dump of *pages*, by page number. *absent*: pages of memory that are not stored; every other page is a hole."""

    pages: Mapping[int, bytes]
    absent: frozenset[int] = frozenset()
    compression: str = "zlib"
    level: int = 1
    version: int = 6
    machine: bytes = b"s390x"
    release: bytes = b"6.1.0-test"
    notes: bytes = b""
    vmcoreinfo: bytes = b""
    max_pfn: int | None = None
    part: tuple[int, int] | None = None  # pages of this file of a split dump
    one_bitmap: bool = False
    spare: int = 0  # blocks of each bitmap that no page needs
    share_zeros: bool = False  # all zero pages have the data of one
    mixed: bool = False  # one page in four is stored plain
    fields: Mapping[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return max([*self.pages, *self.absent], default=0) + 1 if self.max_pfn is None else self.max_pfn

    @property
    def _stored(self) -> list[int]:
        first, end = self.part or (0, self.end)
        return [pfn for pfn in sorted(self.pages) if first <= pfn < end]

    @property
    def sub_blocks(self) -> int:
        return -(-(104 + len(self.notes) + len(self.vmcoreinfo)) // PAGE)

    @property
    def bitmap(self) -> int:
        """Where the first bitmap begins."""
        return (1 + self.sub_blocks) * PAGE

    @property
    def bitmap_size(self) -> int:
        return (-(-self.end // (8 * PAGE)) + self.spare) * PAGE

    @property
    def descriptors(self) -> int:
        return self.bitmap + self.bitmap_size * (1 if self.one_bitmap else 2)

    @property
    def data(self) -> int:
        """Where the first page's data begin."""
        return self.descriptors + 24 * len(self._stored)

    def descriptor(self, pfn: int) -> int:
        """Where the descriptor of a page is."""
        return self.descriptors + 24 * self._stored.index(pfn)

    def _bits(self, pages: set[int]) -> bytes:
        out = bytearray(self.bitmap_size)
        for pfn in pages:
            out[pfn >> 3] |= 1 << (pfn & 7)
        return bytes(out)

    def _headers(self) -> bytearray:
        out = bytearray(self.bitmap)
        names = [b"Linux", b"host", self.release, b"#1 SMP", self.machine, b"(none)"]
        struct.pack_into(">8sI390s", out, 0, b"KDUMP   ", self.version, b"".join(name.ljust(65, b"\0") for name in names))
        start, end = self.part or (0, 0)
        notes, text = PAGE + 104, PAGE + 104 + len(self.notes)
        values = {"seconds": 1_700_000_000, "status": FLAGS[self.compression], "block_size": PAGE, "sub_hdr_size": self.sub_blocks,
                  "bitmap_blocks": self.bitmap_size * (1 if self.one_bitmap else 2) // PAGE, "max_mapnr": self.end, "nr_cpus": 1,
                  "dump_level": self.level, "split": int(self.part is not None), "start_pfn": start, "end_pfn": end,
                  "offset_vmcoreinfo": text if self.vmcoreinfo else 0, "size_vmcoreinfo": len(self.vmcoreinfo),
                  "offset_note": notes if self.notes else 0, "size_note": len(self.notes),
                  "start_pfn_64": start, "end_pfn_64": end, "max_mapnr_64": self.end} | dict(self.fields)
        for name, value in values.items():
            offset, size = FIELDS[name]
            out[offset:offset + size] = value.to_bytes(size, "big")
        out[notes:text] = self.notes
        out[text:text + len(self.vmcoreinfo)] = self.vmcoreinfo
        return out

    def build(self) -> bytes:
        stored, begin = self._stored, self.data
        out = self._headers()
        bitmaps = [set(self.pages) | self.absent] if not self.one_bitmap else []
        for pages in (*bitmaps, set(self.pages)):
            out += self._bits(pages)
        descriptors, data = bytearray(), bytearray()
        zeros: tuple[int, int, int] | None = None
        for number, pfn in enumerate(stored):
            page = self.pages[pfn]
            if zeros and self.share_zeros and not any(page):
                descriptors += struct.pack(">QIIQ", *zeros, 0)
                continue
            packed, flags = compressed(page, "plain" if self.mixed and number % 4 == 3 else self.compression)
            row = (begin + len(data), len(packed), flags)
            zeros = row if not any(page) else zeros
            descriptors += struct.pack(">QIIQ", *row, 0)
            data += packed
        return bytes(out + descriptors + data)

    def split(self, *borders: int) -> list[bytes]:
        """The files that makedumpfile --split would write."""
        edges = [0, *borders, self.end]
        return [replace(self, part=part).build() for part in pairwise(edges)]
