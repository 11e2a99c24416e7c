"""FOREIGN: files that are no raw memory image, recognised by their magic, each with the words that help.

Sources of the magics: ELF gABI; makedumpfile diskdump_mod.h and makedumpfile.h; zgetdump df_s390.h; LiME lime.h; AVML
image.rs; RFC 1952; xz and zstd format specifications; QEMU docs/interop/qcow2; cryptsetup LUKS on-disk format.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmcorefs.errors import ImageError

_EM_NAMES = {3: "x86 (i386)", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "s390", 40: "ARM", 62: "x86-64",
             183: "AArch64", 243: "RISC-V", 258: "LoongArch"}
_EM_S390 = 22


class Foreign(NamedTuple):
    """*magic* at *offset* means that the file is *name*; *advice* says what to do with it."""

    offset: int
    magic: bytes
    name: str
    advice: str


_UNPACK = "unpack it first, for example: {} FILE"
_RAW = "only raw memory images are read so far; take a raw image"
_CONVERT = "only raw memory images are read so far; take a raw image, or use drgn or crash, which read this format"

FOREIGN: tuple[Foreign, ...] = (
    Foreign(0, b"KDUMP   ", "a kdump-compressed dump (makedumpfile)", _CONVERT),
    Foreign(0, b"DISKDUMP", "a diskdump dump", _CONVERT),
    Foreign(0, b"makedumpfile\0\0\0\0", "a flattened makedumpfile dump", "rebuild it with makedumpfile -R; " + _CONVERT),
    Foreign(0, bytes.fromhex("a8190173618f23fd"), "an s390 stand-alone dump",
            "only raw memory images are read so far; zgetdump on s390x converts it"),
    Foreign(0, bytes.fromhex("a8190173618f23fe"), "an s390 extended stand-alone dump",
            "only raw memory images are read so far; zgetdump on s390x converts it"),
    Foreign(0, bytes.fromhex("a8190173618f23ed"), "an LKCD dump",
            "only raw memory images are read so far; zgetdump on s390x converts it"),
    Foreign(0, b"EMiL", "a LiME dump", _CONVERT),
    Foreign(0, b"LiME", "a LiME dump", _CONVERT),
    Foreign(0, b"AVML", "an AVML dump", _RAW),
    Foreign(0, b"LMVA", "an AVML dump", _RAW),
    Foreign(0, b"PAGEDU64", "a Windows crash dump", "it is no s390x system; use a tool for Windows dumps"),
    Foreign(0, b"PAGEDUMP", "a Windows crash dump", "it is no s390x system; use a tool for Windows dumps"),
    Foreign(0, b"\x1f\x8b\x08", "gzip-compressed", _UNPACK.format("gunzip -k")),
    Foreign(0, b"\xfd7zXZ\0", "xz-compressed", _UNPACK.format("xz -dk")),
    Foreign(0, b"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK.format("zstd -d")),
    Foreign(0, b"BZh", "bzip2-compressed", _UNPACK.format("bunzip2 -k")),
    Foreign(0, b"\x04\x22\x4d\x18", "lz4-compressed", _UNPACK.format("lz4 -d")),
    Foreign(0, b"PK\x03\x04", "a zip archive", _UNPACK.format("unzip")),
    Foreign(257, b"ustar", "a tar archive", _UNPACK.format("tar -xf")),
    Foreign(0, b"QFI\xfb", "a QCOW2 disk image", "it is a disk, not memory; take the memory with QMP pmemsave"),
    Foreign(0, b"KDMV", "a VMware disk image", "it is a disk, not memory, and no s390x system"),
    Foreign(0, b"LUKS\xba\xbe", "a LUKS volume", "open it with cryptsetup and give the file inside it"),
)


def refuse_foreign(file: str, head: bytes) -> None:
    """Raise ImageError if *head*, the file's first bytes, is a known format that is not read. *file* is for the message."""
    if head[:4] == b"\x7fELF":
        raise ImageError(f"{file}: not a raw memory image but {_elf_words(head)}")
    for row in FOREIGN:
        if head[row.offset:row.offset + len(row.magic)] == row.magic:
            raise ImageError(f"{file}: not a raw memory image but {row.name} (magic at offset {row.offset:#x}); {row.advice}")


def _elf_words(head: bytes) -> str:
    if len(head) < 20 or head[5] not in (1, 2):
        return "a damaged ELF file; take a raw memory image"
    kind, machine = struct.unpack_from(">HH" if head[5] == 2 else "<HH", head, 16)
    what = "core" if kind == 4 else "file"
    name = _EM_NAMES.get(machine, f"unknown machine {machine}")
    if machine != _EM_S390:
        return f"an ELF {what} for {name} (e_machine {machine} at offset 0x12), no s390x system; use a tool for that machine"
    if what == "core":
        return ("an s390 ELF core, which is not read yet; a core that a Linux kernel or zgetdump wrote can be opened with drgn "
                "or crash as it is, else take a raw memory image")
    return "an s390 ELF file (a program or kernel), not memory; take a raw memory image"
