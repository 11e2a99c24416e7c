"""s390 stand-alone dumps (magic ...23fd): a header of one page, all memory, an end marker. zgetdump -f s390 writes them, the
stand-alone dump tools did before s390-tools 2.4. Sources: s390-tools include/dump/s390_dump.h, zdump/dfi_s390.c, df_s390.c.
"""

from __future__ import annotations

import struct

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.segments import SegmentSource
from vmcorefs.image.shell import advised
from vmcorefs.image.source import ADDRESS_LIMIT, Container, Source
from vmcorefs.quantities import PAGE_SIZE, human_size
from vmcorefs.ranges import Range

HEADER_SIZE = 0x1000
PREFIXES_LIMIT = 512
_LOWCORE_SIZE = 0x2000
_TOD_1970 = 0x7D91048BCA000000
_END = b"DUMP_END"

# offset size field          offset size field                offset size field
#  0x00   8   magic           0x30   4   num_pages, pad 4      0x54   8   mem_size_real
#  0x08   4   version         0x38   8   tod                   0x5c   1   mvdump
#  0x0c   4   hdr_size        0x40   8   cpu_id                0x5d   2   cpu_cnt
#  0x10   4   dump_level      0x48   4   arch                  0x5f   2   real_cpu_cnt
#  0x14   4   page_size       0x4c   4   volnr                 0x200  8   mvdump_sign
#  0x18   8   mem_size        0x50   4   build_arch            0x800  2048 lc_vec, u32 each
#  0x20   8+8 mem_start, mem_end
_HEADER = struct.Struct(">8s4I3Q2I2Q3IQB2H")


class Header:
    """The header page that all stand-alone dumps have; fields that this layer uses, checked. Raises ImageError."""

    def __init__(self, file: Source, versions: range):
        if file.size < HEADER_SIZE:
            raise ImageError(f"{file.name}: an s390 dump, cut off inside its header: it has {file.size:#x} bytes; copy it again")
        try:
            data = file.pread(HEADER_SIZE, 0)
        except OldmemReadError as error:
            raise ImageError(f"{file.name}: the header of this s390 dump cannot be read: {error.cause} "
                             f"(offset {error.offset:#x})") from error
        (_, self.version, size, _, page, self.mem_size, mem_start, mem_end, num_pages, _, self.tod, self.cpu_id, arch, self.volume, build,
         self.real_size, several, count, self.real_count) = _HEADER.unpack_from(data)
        wrong = f"{file.name}: an s390 dump, but "
        extended = data[7] == 0xFE  # its versions 1 and 2 have all fields
        if self.version not in versions:
            raise ImageError(f"{wrong}of version {self.version} (at offset 0x8), which is not known; "
                             + advised("zgetdump of the newest s390-tools may convert it: zgetdump -f elf {file} > {elf}", file))
        for name, offset, value, right in (("hdr_size", 0x0C, size, HEADER_SIZE), ("page_size", 0x14, page, PAGE_SIZE)):
            if value != right:
                raise ImageError(f"{wrong}{name} at offset {offset:#x} is {value:#x}, not {right:#x}; the header is damaged")
        for name, offset, value in (("arch", 0x48, arch), ("build_arch", 0x50, build if extended or self.version >= 2 else 0)):
            if value == 1:
                raise ImageError(f"{wrong}of a 31-bit system ({name} at offset {offset:#x}); only 64-bit systems are read; "
                                 + advised("a crash that was built for s390 reads it: crash VMLINUX {file}", file))
            if value != 2 and not (name == "build_arch" and value == 0):
                raise ImageError(f"{wrong}{name} at offset {offset:#x} is {value}, not 2; the header is damaged")
        if not 0 < self.mem_size <= ADDRESS_LIMIT or self.mem_size % PAGE_SIZE:
            raise ImageError(f"{wrong}mem_size at offset 0x18 is {self.mem_size:#x}, not a memory size; the header is damaged")
        self.problems = [f"mem_start at offset 0x20 is {mem_start:#x}, not 0; it is not used"] if mem_start else []
        self.mem_size, self.proven, contradiction = agreed_size(self.mem_size, mem_end, num_pages)
        self.problems += [contradiction] if contradiction else []
        if not extended and self.version < 3:
            self.real_size = 0
        self.several = several == 1
        if count > PREFIXES_LIMIT:
            raise ImageError(f"{wrong}cpu_cnt at offset 0x5d is {count}, more than {PREFIXES_LIMIT}; the header is damaged")
        self.prefixes: tuple[int, ...] = struct.unpack_from(f">{count}I", data, 0x800)

    @property
    def time(self) -> float | None:
        """When the dump began, in Unix seconds; None if it is not in the header."""
        return unix_time(self.tod)

    def partial(self) -> list[str]:
        """Why the dump is not all of memory although it was finished: words, or nothing."""
        words = []
        if self.real_size > self.mem_size:
            words.append(f"the dump was limited to {human_size(self.mem_size)} of the machine's {human_size(self.real_size)}; memory from "
                         f"{self.mem_size:#x} on is missing")
        return words

    def prefix_problems(self) -> list[str]:
        """Prefix pages that lie outside of the dump: words, or nothing."""
        outside = [prefix for prefix in self.prefixes if prefix + _LOWCORE_SIZE > self.mem_size]
        if not outside:
            return []
        return [f"{len(outside)} CPU(s) have their registers outside of the dump, which ends at {self.mem_size:#x}; one at {outside[0]:#x}"]

    def check_end(self, file: Source, offset: int) -> tuple[str | None, str | None]:
        """(what is missing, what is doubtful) by the end marker that should be at *offset*."""
        if file.size < offset:
            return f"the file is cut off: it ends at {file.size:#x} instead of {offset + 16:#x}", None
        marker = file.read_some(16, offset)
        if marker[:8] != _END:
            return (f"the end marker is not at {offset:#x}: the dump was not finished, or its end is overwritten; from some address on "
                    "memory may be what was on the disk before"), None
        if len(marker) < 16:
            return f"the file is cut off: it ends at {file.size:#x}, within the end marker at {offset:#x}", None
        if int.from_bytes(marker[8:], "big") < self.tod:
            return None, f"the end marker at {offset:#x} is older than the header: the dump may not have been finished"
        return None, None


def agreed_size(mem_size: int, mem_end: int, num_pages: int) -> tuple[int, int, str | None]:
    """(size of memory, address up to which that is beyond doubt, what contradicts it) by the three fields that say it.

    mem_end is mem_size where the dump tools write it (zipl/boot/stage2dump.c), mem_size - 1 where zgetdump does (zdump/dfo_s390.c);
    num_pages has 32 bits, so it wraps at 16 TiB. Damage does not make two fields agree: two outvote the third, be it mem_size. Where
    there are no two, or two sizes whose difference num_pages cannot show, the smallest is beyond doubt.
    """
    end = mem_end + mem_end % 2  # sizes are whole pages
    end = end if end <= ADDRESS_LIMIT and end % PAGE_SIZE == 0 else 0
    by_pages = [size for size in (mem_size, end) if size and (size // PAGE_SIZE) & 0xFFFFFFFF == num_pages]
    if (end == mem_size and by_pages) or not (mem_end or num_pages):  # agreed, or not filled in
        return mem_size, mem_size, None
    by_pages = by_pages if num_pages else []  # which may also be: not filled in
    if end == mem_size:
        size = proven = mem_size
    elif by_pages:
        size = proven = min(by_pages)
    else:
        others = [other for other in (end, num_pages * PAGE_SIZE) if other]
        size, proven = mem_size, min(mem_size, *others) if others else 0
    return size, proven, (
        f"the header contradicts itself: mem_size at offset 0x18 is {mem_size:#x}, mem_end at 0x28 {mem_end:#x}, num_pages at 0x30 "
        f"{num_pages:#x}; memory is taken to end at {size:#x}")


def unix_time(tod: int) -> float | None:
    """A TOD clock value as Unix seconds; None where it is 0 or before 1970."""
    return ((tod - _TOD_1970) >> 12) / 1e6 if tod > _TOD_1970 else None


def tod_clock(time: float) -> int:
    """Unix seconds as a TOD clock value, of whole microseconds, as dfo_s390.c (timeval2tod) gives it; 0 where it has none."""
    tod = (round(time * 1e6) << 12) + _TOD_1970
    return tod if _TOD_1970 <= tod < 1 << 64 else 0


def from_file(file: Source) -> Source:
    """The memory in an s390 dump. Raises ImageError."""
    header = Header(file, range(1, 6))
    if header.several:
        raise ImageError(f"{file.name}: volume {header.volume} of an s390 dump on several volumes (offset 0x5c), which is not read yet; "
                         + advised("where all its volumes are, zgetdump of s390-tools before 2.38 joins them, given any of them: zgetdump "
                                   "-f elf /dev/dasdX > {elf}", file))
    if header.version < 5:
        header.prefixes = ()
    end = HEADER_SIZE + header.mem_size
    missing, doubtful = header.check_end(file, end)
    if file.size < end:
        missing = f"{missing}; memory from address {max(file.size - HEADER_SIZE, 0):#x} on is missing"
    problems = header.problems + header.prefix_problems() + ([doubtful] if doubtful else [])
    incomplete = "; ".join(([missing] if missing else []) + header.partial()) or None
    return SegmentSource(file, [(0, header.mem_size, file, HEADER_SIZE)], Container(
        format="s390", detail=f"s390 stand-alone dump, version {header.version}", memory=(Range(0, header.mem_size),),
        prefixes=header.prefixes, incomplete=incomplete, problems=tuple(problems), time=header.time))
