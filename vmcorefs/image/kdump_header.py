"""The headers of a kdump-compressed file, checked: main header, sub header, and where bitmaps, descriptors and notes lie.

Big endian, 64 bit (s390x). Sources: makedumpfile diskdump_mod.h, QEMU include/sysemu/dump.h. Offsets in hex:

    main header, block 0                        sub header, block 1                     since version
    000  8  "KDUMP   "                          00  8  phys_base
    008  4  header_version, 1 to 6              08  4  dump_level                       1
    00c 390 utsname, 6 x 65                     0c  4  split                            2
    198  8  time, seconds                       10  8  start_pfn, 18 8 end_pfn          2, until 5
    1a0  8  microseconds                        20  8  offset of VMCOREINFO, 28 8 size  3
    1a8  4  status: 8 = incomplete              30  8  offset of notes, 38 8 size       4
    1ac  4  block_size                          40  8  offset of eraseinfo, 48 8 size   5
    1b0  4  sub_hdr_size, blocks                50  8  start_pfn_64, 58 8 end_pfn_64    6
    1b4  4  bitmap_blocks, of both bitmaps      60  8  max_mapnr_64                     6
    1b8  4  max_mapnr
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmcorefs.errors import ImageError, OldmemReadError, printable
from vmcorefs.image.kdump_codecs import COMPRESSIONS
from vmcorefs.image.notes import NOTES_LIMIT, VMCOREINFO_LIMIT
from vmcorefs.image.shell import advised
from vmcorefs.image.source import ADDRESS_LIMIT, Source
from vmcorefs.quantities import PAGE_SIZE

MAGIC = b"KDUMP   "
INCOMPLETE, EXCLUDED_VMEMMAP = 8, 0x10  # of the status
BITS = 8 * PAGE_SIZE  # pages of which one block of a bitmap tells
DESCRIPTOR_SIZE = 24

_MAIN = struct.Struct(">8sI390s6xQQIIIIII")
_SUB = struct.Struct(">QII10QQ")
_SUB_HEADER_LIMIT = (NOTES_LIMIT // PAGE_SIZE) + 64
_FIELD = 65  # of utsname
_MAPNR_LIMIT = (1 << 32) - 1  # max_mapnr is MIN(max_mapnr, UINT_MAX) (makedumpfile.c, write_kdump_header; QEMU dump/dump.c)


class KdumpHeader(NamedTuple):
    """What the headers of one file say. Page frames (pfn) are page numbers; a file holds those in [start, end)."""

    version: int
    release: str | None
    machine: str | None
    time: float | None
    status: int
    max_pfn: int
    split: bool
    start: int
    end: int
    dump_level: int
    bitmap1: int
    bitmap2: int
    descriptors: int
    vmcoreinfo: tuple[int, int]
    notes: tuple[int, int]
    erased: bool
    problems: tuple[str, ...]

    @property
    def by_qemu(self) -> bool:
        """QEMU writes only the machine, in capitals."""
        return self.machine == "S390X" and self.release is None

    @property
    def compression(self) -> str | None:
        """The first that the status names; what counts is each page's own flag."""
        return next((word for flag, word in COMPRESSIONS.items() if self.status & flag), None)


def parse_header(file: Source) -> KdumpHeader:
    """The headers of *file*. Raises ImageError that names the wrong field and its offset."""
    try:
        main = file.pread(_MAIN.size, 0)
    except OldmemReadError as error:
        raise _cut(file, "header", error) from error
    _, version, utsname, seconds, microseconds, status, block_size, sub_size, bitmap_blocks, max_pfn, _ = _MAIN.unpack(main)
    words = [utsname[at:at + _FIELD].partition(b"\0")[0] for at in range(0, 6 * _FIELD, _FIELD)]
    release, machine = _text(words[2]), _text(words[4])
    _check_machine(file, version, machine, block_size, main)
    if not 1 <= sub_size <= _SUB_HEADER_LIMIT:
        _wrong(file, "sub_hdr_size", 0x1b0, sub_size, f"1 to {_SUB_HEADER_LIMIT} blocks are possible")
    try:
        sub = file.pread(_SUB.size, PAGE_SIZE)
    except OldmemReadError as error:
        raise _cut(file, "sub header", error) from error
    (_, dump_level, split, start32, end32, vmcoreinfo, vmcoreinfo_size, notes, notes_size, _, eraseinfo_size, start, end,
     max_pfn_64) = _SUB.unpack(sub)
    problems: tuple[str, ...] = ()
    if version >= 6:
        if max_pfn != min(max_pfn_64, _MAPNR_LIMIT):
            values = f"max_mapnr at offset 0x1b8 is {max_pfn:#x}, max_mapnr_64 at offset {PAGE_SIZE + 0x60:#x} is {max_pfn_64:#x}"
            problems = (f"damaged header: {values}; the second one is used: if that is the wrong one, memory at the end is lost",)
        max_pfn, field, offset = max_pfn_64, "max_mapnr_64", PAGE_SIZE + 0x60
    else:
        start, end, field, offset = start32, end32, "max_mapnr", 0x1b8
    if not 1 <= max_pfn <= ADDRESS_LIMIT // PAGE_SIZE:
        _wrong(file, field, offset, max_pfn, f"1 to {ADDRESS_LIMIT // PAGE_SIZE:#x} pages are possible")
    if version < 2 or not split:
        split, start, end = 0, 0, max_pfn
    elif split != 1:
        _wrong(file, "split", PAGE_SIZE + 0xc, split, "0 or 1 is possible")
    elif not start <= end <= max_pfn:
        _wrong(file, "start_pfn and end_pfn", PAGE_SIZE + (0x50 if version >= 6 else 0x10), start,
               f"the file's pages [{start:#x}, {end:#x}) must lie in [0, {max_pfn:#x})")
    bitmap = (1 + sub_size) * PAGE_SIZE
    needed = -(-max_pfn // BITS)
    # two halves, if each of them has room for all pages (makedumpfile.c: initialize_bitmap_memory; libkdumpfile, crash diskdump.c)
    two = bitmap_blocks >= 2 * needed and bitmap_blocks % 2 == 0
    if not two and bitmap_blocks != needed:
        _wrong(file, "bitmap_blocks", 0x1b4, bitmap_blocks,
               f"{max_pfn:#x} pages need {needed:#x} blocks for each of two bitmaps, or for one")
    second = bitmap + bitmap_blocks // 2 * PAGE_SIZE if two else bitmap
    return KdumpHeader(
        version, release, machine, seconds + microseconds % 1_000_000 / 1e6 if 0 < seconds < 1 << 33 else None, status,
        max_pfn, bool(split), start, end, dump_level, bitmap, second, bitmap + bitmap_blocks * PAGE_SIZE,
        _place(file, "VMCOREINFO", 0x20, vmcoreinfo, vmcoreinfo_size, VMCOREINFO_LIMIT) if version >= 3 else (0, 0),
        _place(file, "notes", 0x30, notes, notes_size, NOTES_LIMIT) if version >= 4 else (0, 0),
        bool(eraseinfo_size) and version >= 5, problems)


def _cut(file: Source, what: str, error: OldmemReadError) -> ImageError:
    if error.kind == "missing":
        return ImageError(f"{file.name}: the dump is cut off at {file.size:#x}, within its {what}; copy it again")
    return ImageError(f"{file.name}: the dump's {what} cannot be read: {error.cause} (at {error.offset:#x})")


def _check_machine(file: Source, version: int, machine: str | None, block_size: int, main: bytes) -> None:
    """Refuse other machines' dumps by name: their headers have another byte order or layout."""
    if not 1 <= version <= 6 and 1 <= int.from_bytes(main[8:12], "little") <= 6:
        words = f" of {machine}" if machine else ""
        raise ImageError(f"{file.name}: a kdump-compressed dump{words} with little-endian headers (header_version at offset 0x8), no "
                         "s390x system; use crash or drgn")
    if not 1 <= version <= 6:
        _wrong(file, "header_version", 8, version, "1 to 6 are known")
    if machine and machine.lower() != "s390x":
        advice = "no s390x system; use crash or drgn"
        if machine.lower() == "s390":
            advice = "31-bit systems are not read; " + advised("a crash that was built for s390 reads it: crash VMLINUX {file}", file)
        raise ImageError(f"{file.name}: a kdump-compressed dump of a {machine} machine (utsname at offset 0x110), {advice}")
    if block_size != PAGE_SIZE:
        _wrong(file, "block_size", 0x1ac, block_size, "only 4096 is possible on s390x")


def _place(file: Source, what: str, field: int, offset: int, size: int, limit: int) -> tuple[int, int]:
    if size == 0 or offset == 0:
        return 0, 0
    if size > limit:
        _wrong(file, f"the size of the {what}", PAGE_SIZE + field + 8, size, f"at most {limit:#x} bytes are possible")
    if offset < PAGE_SIZE or offset + size > file.size:
        _wrong(file, f"the offset of the {what}", PAGE_SIZE + field, offset,
               f"{size:#x} bytes there do not lie in the file of {file.size:#x} bytes")
    return offset, size


def _wrong(file: Source, field: str, offset: int, value: int, why: str) -> None:
    raise ImageError(f"{file.name}: damaged header of a kdump-compressed dump: {field} at offset {offset:#x} is {value:#x}; {why}")


def _text(data: bytes) -> str | None:
    """A field of utsname for people."""
    return printable(data) or None if data else None
