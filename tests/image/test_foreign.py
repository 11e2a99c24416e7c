"""Files that are no raw memory image: refused by name, with words that help."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
from vmcorefs.image.foreign import FOREIGN, refuse_foreign

# (first bytes at offset, word in the message, word of the advice); written from the formats' documentation
ROWS = [
    (0, b"KDUMP   ", "makedumpfile", "drgn or crash"),
    (0, b"DISKDUMP", "diskdump", "drgn or crash"),
    (0, b"makedumpfile\0\0\0\0\0", "flattened", "makedumpfile -R"),
    (0, bytes.fromhex("a8190173618f23fd"), "stand-alone", "zgetdump"),
    (0, bytes.fromhex("a8190173618f23fe"), "extended stand-alone", "zgetdump"),
    (0, bytes.fromhex("a8190173618f23ed"), "LKCD", "zgetdump"),
    (0, b"EMiL\1\0\0\0", "LiME", "raw"),
    (0, b"LiME", "LiME", "raw"),
    (0, b"AVML\1\0\0\0", "AVML", "raw"),
    (0, b"LMVA", "AVML", "raw"),
    (0, b"PAGEDU64", "Windows", "no s390x"),
    (0, b"PAGEDUMP", "Windows", "no s390x"),
    (0, bytes.fromhex("1f8b0800"), "gzip", "gunzip"),
    (0, bytes.fromhex("fd377a585a00"), "xz", "xz -d"),
    (0, bytes.fromhex("28b52ffd"), "zstd", "zstd -d"),
    (0, b"BZh9", "bzip2", "bunzip2"),
    (0, bytes.fromhex("04224d18"), "lz4", "lz4 -d"),
    (0, b"PK\3\4", "zip", "unzip"),
    (257, b"ustar\x0000", "tar", "tar -xf"),
    (257, b"ustar  \0", "tar", "tar -xf"),
    (0, b"QFI\xfb\0\0\0\3", "QCOW2", "pmemsave"),
    (0, b"KDMV", "VMware", "disk"),
    (0, b"LUKS\xba\xbe\0\2", "LUKS", "cryptsetup"),
]


def head(offset: int, magic: bytes) -> bytes:
    return (bytes(offset) + magic).ljust(4096, b"\0")


@pytest.mark.parametrize(("offset", "magic", "name", "advice"), ROWS)
def test_each_foreign_format_is_named_with_advice(tmp_path: Path, offset: int, magic: bytes, name: str, advice: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(head(offset, magic))
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a raw memory image but")
    assert name in message
    assert advice in message
    assert f"offset {offset:#x}" in message
    assert "\n" not in message


def test_every_row_of_the_table_is_tested() -> None:
    assert {(row.offset, row.magic) for row in FOREIGN} == {
        (row.offset, row.magic) for row in FOREIGN for offset, magic, *_ in ROWS
        if offset == row.offset and magic.startswith(row.magic)}


@pytest.mark.parametrize("row", FOREIGN)
def test_a_file_that_ends_inside_the_magic_is_not_that_format(row: tuple[int, bytes, str, str]) -> None:
    offset, magic, *_ = row
    refuse_foreign("file", head(offset, magic)[:offset + len(magic) - 1])


def elf(data: int, kind: int, machine: int) -> bytes:
    order = ">" if data == 2 else "<"
    return (b"\x7fELF" + bytes([2, data, 1]) + bytes(9) + struct.pack(order + "HHI", kind, machine, 1)).ljust(64, b"\0")


@pytest.mark.parametrize(("data", "kind", "machine", "words"), [
    (1, 4, 62, "an ELF core for x86-64"),
    (1, 2, 62, "an ELF file for x86-64"),
    (1, 4, 183, "AArch64"),
    (2, 4, 21, "PowerPC64"),
    (1, 4, 243, "RISC-V"),
    (1, 4, 4711, "unknown machine 4711"),
    (2, 4, 22, "an s390 ELF core, which is not read yet"),
    (2, 2, 22, "an s390 ELF file (a program or kernel)"),
])
def test_an_elf_file_is_named_by_machine_and_kind(tmp_path: Path, data: int, kind: int, machine: int, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(elf(data, kind, machine))
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("data", [b"\x7fELF", b"\x7fELF\2\2", b"\x7fELF\2\7" + bytes(58)])
def test_a_damaged_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="a damaged ELF file"):
        refuse_foreign("file", data)


def test_an_empty_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(ImageError, match=r"empty: the image is empty; take the memory image again"):
        open_image(path)


@pytest.mark.parametrize("data", [bytes(4096), b"0", b"text\n" * 1000, bytes(256) + b"ustar"])
def test_anything_else_may_be_a_raw_image(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "raw"
    path.write_bytes(data)
    with open_image(path) as image:
        assert image.size == len(data)
