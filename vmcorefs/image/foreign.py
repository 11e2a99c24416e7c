"""FOREIGN: files that hold no memory that is read, recognised by their first bytes, each with the words that help.

Sources of the magics: ELF gABI; s390-tools dump/s390_dump.h, zdump/dt_scsi.c; z/VM VMDUMP (HCPDFMBK); libvirt qemu_saveimage.h; QEMU
migration; LiME lime.h; AVML image.rs; crash vmware_vmss.h; RFC 1950, 1952; format specifications of xz, zstd, lz4, QCOW2, LUKS, VHDX,
GPT, ext4; file(1).
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from vmcorefs.errors import ImageError
from vmcorefs.image.shell import Printed, advised
from vmcorefs.image.source import Source

_EM_NAMES = {3: "x86 (i386)", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "s390", 40: "ARM", 62: "x86-64",
             183: "AArch64", 243: "RISC-V", 258: "LoongArch", 0xA390: "s390 (before 2001)"}
_EM_S390 = 22
_ELFCLASS32, _ELFDATA2LSB, _ELFDATA2MSB = 1, 1, 2
_ET_CORE = 4


class Foreign(NamedTuple):
    """*magic* at *offset* means that the file is *name*; *advice* says what to do with it.

    In it are names, as shell.advised has them; *unpack* is the filter that unpacks it (gzip -dc).
    """

    offset: int
    magic: bytes
    name: str
    advice: str
    unpack: str = ""


def _packed(magic: bytes, name: str, unpack: str) -> Foreign:
    return Foreign(0, magic, name, "unpack it first: {unpack} > {out}", unpack)


_EXTRACT = "extract the image first: "
_DISK = "it is a disk, not memory; take the memory of a running guest with QMP dump-guest-memory or virsh dump --memory-only"
_WINDOWS = "it is no s390x Linux system; WinDbg reads it, and volatility3: vol -f {file} windows.info"
_VMWARE = "it is no s390x system (VMware has none); volatility3 and a crash for x86 read it, vmss2core converts it"
_ZGETDUMP = "zgetdump converts it: zgetdump -f elf {file} > {elf}"
_MIGRATION = "it is a saved guest, not a dump; restore it and take a dump with virsh dump --memory-only"
_DASD = "give the partition with the dump (/dev/dasdX1, or its image), not the whole disk"
_DUMP_TOOL = "the whole of a volume with a stand-alone dump tool"
_EBCDIC_VMDUMP = "VMDUMP  ".encode("cp037")

FOREIGN: tuple[Foreign, ...] = (
    # Dumps that are not read
    Foreign(0, b"DISKDUMP", "a diskdump (before kdump)", "the crash utility reads it: crash VMLINUX {file}"),
    Foreign(0, bytes.fromhex("a8190173618f23ed"), "an LKCD dump (zfcpdump before version 3, vmconvert)", _ZGETDUMP),
    Foreign(0, bytes.fromhex("ed238f61730119a8"), "an LKCD dump of a little-endian machine",
            "it is no s390x system; a crash for that machine reads it: crash VMLINUX {file}"),
    Foreign(0x38, _EBCDIC_VMDUMP, "a z/VM VMDUMP", _ZGETDUMP),
    Foreign(0x200, bytes.fromhex("a8190173618f23fe"), "a volume of an s390 dump on several volumes that the dump has not reached",
            "where all its volumes are, zgetdump joins them, given any of them: zgetdump -f elf /dev/dasdX > {elf}"),
    Foreign(0, b"zfcpdump busy", "a SCSI dump partition whose dump was never finished", "take the dump again; nothing of it can be used"),
    Foreign(0, b"AVML", "an AVML file of an unknown version", "take a newer vmcorefs, or convert it with avml-convert --format lime"),
    Foreign(0, b"LibvirtQemudSave", "a guest that libvirt saved (virsh save, virsh managedsave)", _MIGRATION),
    Foreign(0, b"LibvirtQemudPart", "a guest that libvirt saved in part", _MIGRATION),
    Foreign(0, b"QEVM", "a QEMU migration stream", _MIGRATION),
    Foreign(0, b"PAGEDU64", "a Windows crash dump", _WINDOWS),
    Foreign(0, b"PAGEDUMP", "a Windows crash dump", _WINDOWS),
    Foreign(0, b"MDMP\x93\xa7", "a Windows minidump", "it is no s390x Linux system; WinDbg reads it"),
    *(Foreign(0, magic.to_bytes(4, "little"), "a VMware state file (.vmss of a suspended guest, .vmsn of a snapshot)", _VMWARE)
      for magic in (0xBED0BED0, 0xBED2BED0, 0xBED2BED2, 0xBED3BED3, 0xBAD1BAD1, 0xBAD2BAD2)),
    # Whole disks
    Foreign(0x3000, b"XECKD64", _DUMP_TOOL, _DASD),
    Foreign(0x3000, b"XMULT64", _DUMP_TOOL, _DASD),
    Foreign(0x3000, b"ZECKD64", _DUMP_TOOL, _DASD),
    Foreign(0x3000, b"ZMULT64", _DUMP_TOOL, _DASD),
    Foreign(0x3000, b"ZECKD31", _DUMP_TOOL, _DASD),
    Foreign(0x2000, "VOL1".encode("cp037"), "the whole of a DASD (CDL)", _DASD),
    Foreign(0x2000, "LNX1".encode("cp037"), "the whole of a DASD (LDL)", _DASD),
    Foreign(0, b"zIPL", "the whole of a SCSI disk with zipl's boot record", "give the partition with the dump (/dev/sdX1, or its image)"),
    Foreign(0x200, b"EFI PART", "the whole of a disk with partitions (GPT)", "give the file or partition with the dump in it"),
    Foreign(0x200, b"LABELONE", "an LVM volume", "activate it (losetup -r -f {file}, vgchange -ay), mount the file system in it and "
            "give the file with the dump"),
    Foreign(0, b"XFSB", "an XFS file system", "mount it (mount -o ro,loop {file} DIR) and give the file with the dump"),
    Foreign(0, b"QFI\xfb", "a QCOW2 disk image", _DISK),
    Foreign(0, b"KDMV", "a VMware disk image", _DISK),
    Foreign(0, b"COWD", "a VMware disk image", _DISK),
    Foreign(0, b"# Disk DescriptorFile", "the description of a VMware disk image", _DISK),
    Foreign(0, b"vhdxfile", "a Hyper-V disk image (VHDX)", _DISK),
    Foreign(0, b"conectix", "a Virtual PC disk image (VHD)", _DISK),
    Foreign(0x40, b"\x7f\x10\xda\xbe", "a VirtualBox disk image (VDI)", _DISK),
    Foreign(0, b"LUKS\xba\xbe", "a LUKS volume", "open it (cryptsetup open --readonly {file} NAME), mount /dev/mapper/NAME and give the "
            "file with the dump"),
    # Packed
    _packed(b"\x1f\x8b\x08", "gzip-compressed", "gzip -dc"),
    _packed(b"\xfd7zXZ\0", "xz-compressed", "xz -dc"),
    _packed(b"\x28\xb5\x2f\xfd", "zstd-compressed", "zstd -dc"),
    _packed(b"BZh", "bzip2-compressed", "bzip2 -dc"),
    _packed(b"\x04\x22\x4d\x18", "lz4-compressed", "lz4 -dc"),
    _packed(b"\x02\x21\x4c\x18", "lz4-compressed (old format)", "lz4 -dc"),
    _packed(b"\x89LZO\0\r\n\x1a\n", "lzop-compressed", "lzop -dc"),
    _packed(b"LZIP", "lzip-compressed", "lzip -dc"),
    _packed(b"\x5d\0\0", "lzma-compressed", "xz --format=lzma -dc"),
    _packed(b"\x1f\x9d", "compress(1)ed", "gzip -dc"),
    _packed(b"\xff\x06\0\0sNaPpY", "snappy-compressed", "snzip -dc"),
    # None of these writes over a file that is there
    Foreign(0, b"PK\x03\x04", "a zip archive", _EXTRACT + "unzip -n {file}"),
    Foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _EXTRACT + "7z x -aos {file}"),
    Foreign(0, b"Rar!\x1a\x07", "a RAR archive", _EXTRACT + "unrar x -o- {file}"),
    Foreign(257, b"ustar", "a tar archive", _EXTRACT + "tar -xkf {file}"),
    Foreign(0, b"070701", "a cpio archive", _EXTRACT + "mkdir {out} && cpio -i -d -D {out} < {file}"),
    Foreign(0, b"!<arch>\n", "an ar archive (a package?)", _EXTRACT + "mkdir {out} && ar x --output {out} {file}"),
    Foreign(0, b"\xed\xab\xee\xdb", "an RPM package", "give the image"),
)


def refuse_foreign(file: str, head: bytes, source: Source | None = None) -> None:
    """Raise ImageError if *head*, the file's first 16 KiB, is a known format that is not read.

    *file* is for the message; *source* has the same bytes, perhaps in another file that is packed, or in parts.
    """
    if head[:4] == b"\x7fELF":
        words, advice = _elf_words(head)
        raise ImageError(f"{file}: {_inside(source)}{words}{advised(advice, source or file)}")
    for row in FOREIGN:
        if head[row.offset:row.offset + len(row.magic)] == row.magic:
            raise ImageError(_words(file, row, source))
    for test in (_zlib, _ext4):
        found = test(head)
        if found is not None:
            raise ImageError(_words(file, found, source))


def _words(file: str, row: Foreign, source: Source | None) -> str:
    return (f"{file}: {_inside(source)}{row.name} (magic at offset {row.offset:#x}), which is not read; "
            f"{advised(row.advice, source or file, row.unpack)}")


def _inside(source: Source | None) -> str:
    return "what is in it is " if isinstance(source, Printed) else ""


def _elf_words(head: bytes) -> tuple[str, str]:
    """(what it is, advice)."""
    if len(head) < 20 or head[4] not in {1, 2} or head[5] not in {_ELFDATA2LSB, _ELFDATA2MSB}:
        return "a damaged ELF file (its first 20 bytes); ", "copy it again"
    kind, machine = struct.unpack_from(">HH" if head[5] == _ELFDATA2MSB else "<HH", head, 16)
    what = "core" if kind == _ET_CORE else "file"
    name = _EM_NAMES.get(machine, f"unknown machine {machine}")
    where = f"(e_machine {machine} at offset 0x12)"
    if machine != _EM_S390:
        advice = "crash or drgn for that machine reads it: drgn -c {file}" if what == "core" else "give the dump"
        return f"an ELF {what} for {name} {where}, no s390x system; ", advice
    if what != "core":
        return f"an s390 ELF file (e_type {kind} at offset 0x10: a program, a kernel or a module), not memory; ", "give the dump"
    if head[5] == _ELFDATA2LSB:
        return (f"a little-endian ELF core for s390 {where}, though every s390 is big-endian; ",
                "whatever wrote it is broken: see readelf -h -l {file}, and take the dump again with another program")
    if head[4] == _ELFCLASS32:
        return ("a core of a 31-bit s390 system (EI_CLASS at offset 4); only 64-bit systems (s390x) are read; ",
                "a crash or gdb that was built for s390 reads it: crash VMLINUX {file}")
    return f"an s390 ELF core of version {head[6]} (at offset 6), which does not exist; ", "its header is damaged; copy it again"


def _zlib(head: bytes) -> Foreign | None:
    """A zlib stream has no magic worth the name: it must unpack, too."""
    if head[:1] not in {b"\x78", b"\x38"} or len(head) < 64 or int.from_bytes(head[:2], "big") % 31:
        return None
    try:
        inside = zlib.decompressobj().decompress(head, 4096)
    except zlib.error:
        return None
    what = "a LiME file that was compressed whole" if inside[:4] in {b"LiME", b"EMiL"} else "zlib-compressed"
    return Foreign(0, head[:2], what, "unpack it first (zlib-flate is in qpdf): {unpack} > {out}",
                   "zlib-flate -uncompress <")


def _ext4(head: bytes) -> Foreign | None:
    """ext2, ext3, ext4: 0x438 s_magic; memory may have two such bytes there, too, so more of the superblock counts."""
    if head[0x438:0x43A] != b"\x53\xef" or len(head) < 0x800:
        return None
    inodes, blocks, block_size, state, revision = (*struct.unpack_from("<II", head, 0x400), *struct.unpack_from("<I", head, 0x418),
                                                   *struct.unpack_from("<H", head, 0x43A), *struct.unpack_from("<I", head, 0x44C))
    if not inodes or not blocks or block_size > 6 or not 0 < state < 8 or revision > 1:
        return None
    return Foreign(0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system (an NGDump partition, or the disk of zfcpdump before version 3?)",
                   "mount it read-only (mount -o ro,loop {file} DIR) and give the dump file in it (/dump.elf of NGDump)")
