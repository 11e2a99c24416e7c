"""Files that hold no memory that is read: refused by name, with words that help."""

from __future__ import annotations

import bz2
import gzip
import random
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.containers import lime
from tests.builders.containers.seekable import bgzip, xz, zstd
from tests.image.opening import refusal
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.foreign import FOREIGN, refuse_foreign

CONVERT, SHELL_DISK = "zgetdump -f elf", "virsh dump --memory-only"
EBCDIC = {"VMDUMP": "e5d4c4e4d4d74040", "VOL1": "e5d6d3f1", "LNX1": "d3d5e7f1"}

# (first bytes at offset, word in the message, word of the advice); written from the formats' documentation
ROWS = [
    (0, b"DISKDUMP", "diskdump", "crash VMLINUX "),
    (0, bytes.fromhex("a8190173618f23ed"), "LKCD", CONVERT),
    (0, bytes.fromhex("ed238f61730119a8"), "LKCD dump of a little-endian", "crash VMLINUX "),
    (0x38, bytes.fromhex(EBCDIC["VMDUMP"]), "VMDUMP", CONVERT),
    (0x200, bytes.fromhex("a8190173618f23fe"), "on several volumes", "zgetdump -f elf /dev/dasdX > "),
    (0, b"zfcpdump busy\0", "never finished", "take the dump again"),
    (0, b"AVML\3\0\0\0", "AVML file of an unknown version", "avml-convert"),
    (0, b"LibvirtQemudSave\2\0\0\0", "that libvirt saved", SHELL_DISK),
    (0, b"LibvirtQemudPart", "saved in part", SHELL_DISK),
    (0, b"QEVM\0\0\0\3", "QEMU migration stream", SHELL_DISK),
    (0, b"PAGEDU64", "Windows", "WinDbg"),
    (0, b"PAGEDUMP", "Windows", "WinDbg"),
    (0, b"MDMP\x93\xa7\0\0", "Windows minidump", "WinDbg"),
    (0, struct.pack("<I", 0xBED0BED0), "VMware state", "volatility3"),
    (0, struct.pack("<I", 0xBED2BED0), "VMware state", "volatility3"),
    (0, struct.pack("<I", 0xBED2BED2), "VMware state", "vmss2core"),
    (0, struct.pack("<I", 0xBED3BED3), "VMware state", "crash for x86"),
    (0, struct.pack("<I", 0xBAD1BAD1), "VMware state", "volatility3"),
    (0, struct.pack("<I", 0xBAD2BAD2), "VMware state", "volatility3"),
    (0x3000, b"XECKD64\1", "stand-alone dump tool", "give the partition"),
    (0x3000, b"XMULT64\1", "stand-alone dump tool", "give the partition"),
    (0x3000, b"ZECKD64\5", "stand-alone dump tool", "give the partition"),
    (0x3000, b"ZMULT64\5", "stand-alone dump tool", "give the partition"),
    (0x3000, b"ZECKD31\5", "stand-alone dump tool", "give the partition"),
    (0x2000, bytes.fromhex(EBCDIC["VOL1"]), "DASD (CDL)", "give the partition"),
    (0x2000, bytes.fromhex(EBCDIC["LNX1"]), "DASD (LDL)", "give the partition"),
    (0, b"zIPL\0\0\0\3", "SCSI disk", "give the partition"),
    (0x200, b"EFI PART\0\0\1\0", "GPT", "partition"),
    (0x200, b"LABELONE", "LVM", "vgchange"),
    (0, b"XFSB\0\0\x10\0", "XFS", "mount it"),
    (0, b"QFI\xfb\0\0\0\3", "QCOW2", "dump-guest-memory"),
    (0, b"KDMV\1\0\0\0", "VMware disk", SHELL_DISK),
    (0, b"COWD", "VMware disk", SHELL_DISK),
    (0, b"# Disk DescriptorFile\n", "VMware disk", SHELL_DISK),
    (0, b"vhdxfile", "VHDX", SHELL_DISK),
    (0, b"conectix", "VHD", SHELL_DISK),
    (0x40, struct.pack("<I", 0xBEDA107F), "VDI", SHELL_DISK),
    (0, b"LUKS\xba\xbe\0\2", "LUKS", "cryptsetup open"),
    (0, bytes.fromhex("1f8b0800"), "gzip", "gzip -dc"),
    (0, bytes.fromhex("fd377a585a00"), "xz", "xz -dc"),
    (0, bytes.fromhex("28b52ffd"), "zstd", "zstd -dc"),
    (0, b"BZh9", "bzip2", "bzip2 -dc"),
    (0, bytes.fromhex("04224d18"), "lz4", "lz4 -dc"),
    (0, bytes.fromhex("02214c18"), "lz4-compressed (old", "lz4 -dc"),
    (0, bytes.fromhex("894c5a4f000d0a1a0a"), "lzop", "lzop -dc"),
    (0, b"LZIP\1", "lzip", "lzip -dc"),
    (0, bytes.fromhex("5d00008000"), "lzma", "xz --format=lzma -dc"),
    (0, bytes.fromhex("1f9d90"), "compress", "gzip -dc"),
    (0, b"\xff\6\0\0sNaPpY", "snappy", "snzip -dc"),
    (0, b"PK\3\4", "zip", "unzip"),
    (0, bytes.fromhex("377abcaf271c"), "7z", "7z x"),
    (0, b"Rar!\x1a\7\1\0", "RAR", "unrar"),
    (257, b"ustar\x0000", "tar", "tar -xkf"),
    (257, b"ustar  \0", "tar", "tar -xkf"),
    (0, b"07070100", "cpio", "cpio -i"),
    (0, b"!<arch>\ndebian-binary", "ar archive", "ar x"),
    (0, bytes.fromhex("edabeedb"), "RPM", "give the image"),
]


def head(offset: int, magic: bytes) -> bytes:
    return (bytes(offset) + magic).ljust(0x4000, b"\0")


@pytest.mark.parametrize(("offset", "magic", "name", "advice"), ROWS)
def test_each_foreign_format_is_named_with_advice(tmp_path: Path, offset: int, magic: bytes, name: str, advice: str) -> None:
    message = refusal(tmp_path / "file", head(offset, magic))
    assert name in message
    assert advice in message
    assert f"(magic at offset {offset:#x}), which is not read; " in message


def test_every_row_of_the_table_is_tested() -> None:
    assert {(row.offset, row.magic) for row in FOREIGN} == {
        (row.offset, row.magic) for row in FOREIGN for offset, magic, *_ in ROWS
        if offset == row.offset and magic.startswith(row.magic)}


@pytest.mark.parametrize("row", FOREIGN)
def test_a_file_that_ends_inside_the_magic_is_not_that_format(row: tuple[int, bytes, str, str]) -> None:
    offset, magic, *_ = row
    refuse_foreign("file", head(offset, magic)[:offset + len(magic) - 1])


@pytest.mark.parametrize(("name", "made"), [("old mem.img.gz", "'old mem.img'"), ("dump", "dump.raw"), (".gz", ".gz.raw")])
def test_the_advice_can_be_pasted_into_a_shell(tmp_path: Path, name: str, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = b"memory" * 1000
    packed = subprocess.run(["gzip", "-c"], input=content, capture_output=True, check=True).stdout
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(ImageError) as caught:
        open_image(name)
    _, _, command = str(caught.value).partition("unpack it first: ")
    assert command.endswith(f"> {made}")
    subprocess.run(["sh", "-c", command], check=True)
    assert (tmp_path / made.strip("'")).read_bytes() == content


def advice(path: Path | str) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    return str(caught.value)


def test_no_advice_writes_over_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mem.gz").write_bytes(gzip.compress(b"memory" * 1000))
    others = {"mem": b"another dump", "dump.elf": b"a third", "mem.new": b"", "-x": b""}
    for name, data in others.items():
        Path(name).write_bytes(data)
    Path("-x.gz").write_bytes(Path("mem.gz").read_bytes())
    Path("dump.lkcd").write_bytes(bytes.fromhex("a8190173618f23ed").ljust(0x4000, b"\0"))
    assert advice("dump.lkcd").endswith("zgetdump -f elf dump.lkcd > dump.elf.new")
    for name, made in (("mem.gz", "mem.new2"), ("-x.gz", "./-x.new")):
        command = advice(name).partition("unpack it first: ")[2]
        assert command.endswith(f"> {made}")
        subprocess.run(["sh", "-c", command], check=True)
        assert Path(made).read_bytes() == b"memory" * 1000
    assert {name: Path(name).read_bytes() for name in others} == others
    Path("dump.elf").rename("lkcd.elf")
    Path("lkcd.elf").write_bytes(Path("dump.lkcd").read_bytes())
    assert advice("lkcd.elf").endswith("zgetdump -f elf lkcd.elf > lkcd.elf.new")


@pytest.mark.parametrize(("name", "pack", "unpacker"), [
    ("image.tar", "tar -cf image.tar memory", "tar"), ("image.cpio", "echo memory | cpio -o -H newc > image.cpio", "cpio"),
    ("image.a", "ar rc image.a memory", "ar"), ("image.zip", "python3 -m zipfile -c image.zip memory", "unzip"),
    ("image.7z", "7z a image.7z memory", "7z")])
def test_what_extracts_an_archive_keeps_the_files_that_are_there(tmp_path: Path, name: str, pack: str, unpacker: str,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(unpacker) is None:
        pytest.skip(f"{unpacker} is not installed")
    monkeypatch.chdir(tmp_path)
    content = b"in the archive" * 100
    Path("memory").write_bytes(content)
    subprocess.run(["sh", "-c", pack], check=True, capture_output=True)
    Path("memory").write_bytes(b"here")
    Path("image").mkdir()
    command = advice(name).partition("extract the image first: ")[2]
    subprocess.run(["sh", "-c", command], check=False, stdin=subprocess.DEVNULL, capture_output=True)
    assert Path("memory").read_bytes() == b"here"
    if "&&" not in command:  # into this folder
        Path("memory").unlink()
        subprocess.run(["sh", "-c", command], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    assert content in [path.read_bytes() for path in Path().rglob("memory")]


# -- in something else -------------------------------------------------------------------------------------------------------

PACKERS: dict[str, Callable[[bytes], bytes]] = {"xz": lambda data: xz(data, 9000), "zst": lambda data: zstd(data, 9000), "gz": bgzip}


@pytest.mark.parametrize("kind", PACKERS)
def test_a_foreign_file_in_a_packed_one_is_refused_with_what_unpacks_both(tmp_path: Path, kind: str,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = random.Random(1).randbytes(40_000)
    name = f"my dump.{kind}"
    Path(name).write_bytes(PACKERS[kind](bz2.compress(content)))
    message = advice(name)
    assert message.startswith(f"{name}: what is in it is bzip2-compressed (magic at offset 0x0)")
    command = message.partition("unpack it first: ")[2]
    assert command == f"{ {'zst': 'zstd', 'gz': 'gzip'}.get(kind, kind)} -dc 'my dump.{kind}' | bzip2 -dc > 'my dump.raw'"
    subprocess.run(["sh", "-c", command], check=True)
    assert Path("my dump.raw").read_bytes() == content
    Path(name).write_bytes(PACKERS[kind](elf(1, 4, 62).ljust(40_000, b"x")))
    message = advice(name)
    assert "what is in it is an ELF core for x86-64" in message
    first, _, then = message.partition("make one file of it first: ")[2].partition("; then: ")
    subprocess.run(["sh", "-c", first], check=True)
    assert Path("my dump").read_bytes()[:4] == b"\x7fELF"
    assert then == "crash or drgn for that machine reads it: drgn -c 'my dump'"


def test_in_a_packed_file_in_a_packed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = random.Random(1).randbytes(40_000)
    Path("a.xz.gz").write_bytes(bgzip(xz(gzip.compress(content), 9000)))
    command = advice("a.xz.gz").partition("unpack it first: ")[2]
    assert command == "gzip -dc a.xz.gz | xz -dc | gzip -dc > a.raw"
    subprocess.run(["sh", "-c", command], check=True)
    assert Path("a.raw").read_bytes() == content


def test_a_zlib_stream_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib-flate takes no name, only what comes in."""
    monkeypatch.chdir(tmp_path)
    packed = zlib.compress(random.Random(1).randbytes(40_000))
    Path("a.000").write_bytes(packed[:30_000])
    Path("a.001").write_bytes(packed[30_000:])
    assert advice("a.000").endswith("cat a.000 a.001 | zlib-flate -uncompress > a.raw")
    Path("b.z").write_bytes(packed)
    assert advice("b.z").endswith("zlib-flate -uncompress < b.z > b")


def elf(data: int, kind: int, machine: int, *, size: int = 2) -> bytes:
    order = ">" if data == 2 else "<"
    return (b"\x7fELF" + bytes([size, data, 1]) + bytes(9) + struct.pack(order + "HHI", kind, machine, 1)).ljust(64, b"\0")


@pytest.mark.parametrize(("data", "words"), [
    (elf(1, 4, 62), "an ELF core for x86-64 (e_machine 62 at offset 0x12), no s390x system; crash or drgn for that machine reads it: drgn"),
    (elf(1, 2, 62), "an ELF file for x86-64"),
    (elf(1, 4, 3, size=1), "x86 (i386)"),
    (elf(1, 4, 183), "AArch64"),
    (elf(2, 4, 21), "PowerPC64"),
    (elf(1, 4, 243), "RISC-V"),
    (elf(1, 4, 4711), "unknown machine 4711"),
    (elf(2, 4, 22, size=1), "a core of a 31-bit s390 system (EI_CLASS at offset 4)"),
    (elf(2, 4, 22, size=1), "a crash or gdb that was built for s390 reads it: crash VMLINUX "),
    (elf(1, 4, 22), "a little-endian ELF core for s390"),
    (elf(2, 2, 22), "an s390 ELF file (e_type 2 at offset 0x10: a program, a kernel or a module), not memory"),
    (elf(2, 4, 22)[:6] + b"\0" + elf(2, 4, 22)[7:], "an s390 ELF core of version 0 (at offset 6)"),
])
def test_an_elf_file_is_named_by_machine_and_kind(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in refusal(tmp_path / "file", data)


@pytest.mark.parametrize("data", [b"\x7fELF", b"\x7fELF\2\2", b"\x7fELF\2\7" + bytes(58), b"\x7fELF\3\2" + bytes(58)])
def test_a_damaged_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="a damaged ELF file"):
        refuse_foreign("file", data)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_a_zlib_stream_is_known_by_unpacking_it(tmp_path: Path, level: int) -> None:
    message = refusal(tmp_path / "file", zlib.compress(b"memory " * 10_000, level))
    assert "zlib-compressed (magic at offset 0x0)" in message


@pytest.mark.parametrize("window", [11, 15])
def test_a_lime_file_that_was_compressed_whole_is_named(tmp_path: Path, window: int) -> None:
    packer = zlib.compressobj(6, zlib.DEFLATED, window)
    data = packer.compress(lime.lime([(0, bytes(range(256)) * 4000)])) + packer.flush()
    assert data[0] == (0x38 if window == 11 else 0x78)
    assert "a LiME file that was compressed whole" in refusal(tmp_path / "file", data)


def ext4(**values: int) -> bytes:
    block = bytearray(0x4000)
    for name, offset, size, value in (("inodes", 0x400, 4, 1000), ("blocks", 0x404, 4, 1000), ("log", 0x418, 4, 2),
                                      ("magic", 0x438, 2, 0xEF53), ("state", 0x43A, 2, 1), ("revision", 0x44C, 4, 1)):
        block[offset:offset + size] = values.get(name, value).to_bytes(size, "little")
    return bytes(block)


def test_an_ext4_file_system_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path / "file", ext4())
    assert "ext4 file system" in message
    assert "/dump.elf" in message


@pytest.mark.parametrize("wrong", [{"inodes": 0}, {"blocks": 0}, {"log": 7}, {"state": 0}, {"state": 9}, {"revision": 2}])
def test_two_bytes_of_memory_are_no_ext4_file_system(wrong: dict[str, int]) -> None:
    refuse_foreign("file", ext4(**wrong))


def test_an_empty_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(ImageError, match=r"empty: the image is empty; take the memory image again"):
        open_image(path)


@pytest.mark.parametrize("data", [bytes(0x4000), b"0", b"text\n" * 1000, bytes(256) + b"ustar", b"\x78\x01" + bytes(0x4000),
                                  b"\x78\x9c" * 9])
def test_anything_else_may_be_a_raw_image(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "raw"
    path.write_bytes(data)
    with open_image(path) as image:
        assert image.size == len(data)
        assert image.container.format == "raw"
        assert image.pread(len(data), 0) == data
