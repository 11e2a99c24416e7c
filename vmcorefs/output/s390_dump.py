"""dump.s390: the crashed system in the format of the s390 stand-alone dump tools, for zgetdump and crash.

One page of header, all memory from 0 on, an end marker. The registers of the CPUs stand in their lowcores, where the tools put
them; what is known of them from elsewhere (the dump kernel's list, a container's notes, --cpu-state) is put there, too.
Source: s390-tools include/dump/s390_dump.h, zdump/df_s390.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.s390 import tod_clock
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.output.memory_view import MemoryView
from vmcorefs.quantities import PAGE_SIZE, round_up
from vmcorefs.ranges import Range
from vmcorefs.s390.lowcore import MCESA_ORIGIN, MCESAD
from vmcorefs.s390.save_area import STATUS_FIELDS, SaveArea

_MAGIC = 0xA8190173618F23FD
_VERSION = 5
_CPUS_LIMIT = 512
_LEVEL_ALL = 4
_ARCH_64 = 2

# offset size field          offset size field                offset size field
#  0x00   8   magic           0x30   4   num_pages, pad 4      0x54   8   mem_size_real
#  0x08   4   version         0x38   8   tod                   0x5c   1   mvdump
#  0x0c   4   hdr_size        0x40   8   cpu_id                0x5d   2   cpu_cnt
#  0x10   4   dump_level      0x48   4   arch                  0x5f   2   real_cpu_cnt
#  0x14   4   page_size       0x4c   4   volnr                 0x800  2048 lc_vec, u32 each
#  0x18   8   mem_size        0x50   4   build_arch
#  0x20   8+8 mem_start, mem_end
_HEADER = struct.Struct(">Q4I3Q2I2Q3IQB2H")
_LC_VEC = 0x800
_END_MARKER = struct.Struct(">8sQ")  # "DUMP_END", a TOD, which must not be older than the header's


class S390Dump:
    """The bytes of the dump; *size* of all. *time*: when the memory was dumped, in Unix seconds, if the image says so. Thread safe."""

    def __init__(self, memory: OldMemory, memory_map: Sequence[Range], areas: Sequence[SaveArea], time: float | None = None):
        known = list(areas[:_CPUS_LIMIT])
        self._memory = MemoryView(memory, memory_map, dict(_overlays(memory, known)))
        self._memory_size = round_up(self._memory.size)
        tod = tod_clock(time) if time is not None else 0
        self._header = _header(self._memory_size, [area.prefix_address for area in known], tod)
        self._end_marker = _END_MARKER.pack(b"DUMP_END", tod)  # dfo_s390.c, too, gives the time twice where only one is known
        self.size = PAGE_SIZE + self._memory_size + len(self._end_marker)

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> int:
        """Fill *view* from *offset*; the count is smaller than its length only at the end. Raises OldmemReadError."""
        want = max(0, min(len(view), self.size - offset))
        done = 0
        while done < want:
            at = offset + done
            part = view[done:want]
            if at < PAGE_SIZE:
                done += _put(part, self._header, at)
            elif at < PAGE_SIZE + self._memory_size:
                part = part[:PAGE_SIZE + self._memory_size - at]
                try:
                    count = self._memory.preadinto(part, at - PAGE_SIZE, salvage=salvage)
                except OldmemReadError as error:
                    raise error.moved(good=done + error.good) from error.__cause__
                part[count:] = bytes(len(part) - count)  # the rest of a last page that memory does not fill
                done += len(part)
            else:
                done += _put(part, self._end_marker, at - PAGE_SIZE - self._memory_size)
        return want


def _put(view: memoryview, data: bytes, offset: int) -> int:
    part = data[offset:offset + len(view)]
    view[:len(part)] = part
    return len(part)


def _header(memory_size: int, prefixes: Sequence[int], tod: int) -> bytes:
    page = bytearray(PAGE_SIZE)
    _HEADER.pack_into(page, 0, _MAGIC, _VERSION, PAGE_SIZE, _LEVEL_ALL, PAGE_SIZE, memory_size, 0, memory_size,
                      memory_size // PAGE_SIZE % (1 << 32), 0, tod, 0, _ARCH_64, 0, _ARCH_64, memory_size, 0, len(prefixes), len(prefixes))
    struct.pack_into(f">{len(prefixes)}I", page, _LC_VEC, *prefixes)
    return bytes(page)


def _overlays(memory: OldMemory, areas: Iterable[SaveArea]) -> Iterable[tuple[int, bytes]]:
    """The registers of each CPU at their places in its lowcore, and its vector registers where the lowcore says they are."""
    for area in areas:
        prefix = area.prefix_address
        for name, (at, _) in STATUS_FIELDS.items():
            yield prefix + at, getattr(area, name)
        if area.vxrs_low is None or area.vxrs_high is None:
            continue
        try:
            origin = int.from_bytes(memory.read(prefix + MCESAD, 8), "big") & MCESA_ORIGIN
        except OldmemReadError:
            continue
        if origin:
            low = b"".join(area.fprs[8 * i:8 * i + 8] + area.vxrs_low[8 * i:8 * i + 8] for i in range(16))
            yield origin, low + area.vxrs_high
