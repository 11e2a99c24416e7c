"""Bad input that is refused: exit status 2 and one line that names the file or value and says what to do."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.cli.conftest import Program
from tests.image.bad_disk import BadDisk

MIB = 1 << 20
Refused = Callable[..., str]
COMMANDS = ["info", "check"]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Machine().build(tmp_path)


def elf(machine: int, data: int) -> bytes:
    order = ">" if data == 2 else "<"
    return (b"\x7fELF" + bytes([2, data, 1]) + bytes(9) + struct.pack(order + "HHI", 4, machine, 1)).ljust(MIB, b"\0")


NOT_S390: dict[str, tuple[bytes, str]] = {
    "x86 ELF core": (elf(62, 1), "ELF core for x86-64"),
    "s390 ELF core without anything": (elf(22, 2), "ELF"),
    "text": (b"To whom it may concern\n" * 1000, "neither os_info"),
    "a short text": (b"hello\n", "neither os_info"),
    "zeros": (bytes(4 * MIB), "neither os_info"),
    "random": (random.Random(4).randbytes(4 * MIB), "neither os_info"),
    "ones": (b"\xff" * MIB, "neither os_info"),
    "empty": (b"", "is empty"),
    "gzip": (bytes.fromhex("1f8b0808") + bytes(5000), "gzip"),
    "kdump-compressed": (b"KDUMP   " + bytes(5000), "kdump-compressed"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", NOT_S390)
def test_not_the_memory_of_an_s390_system(tmp_path: Path, refused: Refused, what: str, command: str) -> None:
    data, words = NOT_S390[what]
    path = tmp_path / "some.img"
    path.write_bytes(data)
    line = refused(command, path)
    assert str(path) in line
    assert words in line


@pytest.mark.parametrize("what", ["zeros", "random", "text"])
def test_what_is_no_s390_memory_says_all_that_was_looked_for(tmp_path: Path, refused: Refused, what: str) -> None:
    path = tmp_path / "some.img"
    path.write_bytes(NOT_S390[what][0])
    line = refused("info", path)
    for word in ("os_info", "VMCOREINFO", "lowcore", "check that the file is a raw memory image"):
        assert word in line


@pytest.mark.parametrize("options", [
    ("--mode", "plain"), ("--oldmem", "2M:1M"), ("--mode", "auto", "--layout", "6.1"), ("--memory-range", "0-1M")])
def test_no_option_makes_zeros_an_image(tmp_path: Path, refused: Refused, options: tuple[str, ...]) -> None:
    path = tmp_path / "zeros.img"
    path.write_bytes(bytes(4 * MIB))
    assert "not the memory of an s390x Linux system" in refused("info", path, *options)


def test_copy_refuses_the_same_and_writes_nothing(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "zeros.img"
    path.write_bytes(bytes(4 * MIB))
    refused("copy", path, tmp_path / "vmcore")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["zeros.img"]


# -- the file itself -------------------------------------------------------------------------------------------------------


def test_a_missing_image(tmp_path: Path, refused: Refused) -> None:
    line = refused("info", tmp_path / "none.img")
    assert f"{tmp_path / 'none.img'}: cannot open the image: No such file or directory" in line


def test_a_directory(tmp_path: Path, refused: Refused) -> None:
    line = refused("info", tmp_path)
    assert str(tmp_path) in line
    assert "directory" in line


def test_a_fifo(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "fifo")
    line = refused("info", tmp_path / "fifo")
    assert "FIFO" in line
    assert "copy it into a regular file" in line


def test_an_image_that_may_not_be_read(built: Built, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("vmcorefs.image.file.os.open", refuse)
    line = refused("info", built.image)
    assert f"{built.image}: cannot open the image: Permission denied" in line
    assert "run as a user who may read it" in line


def test_an_image_of_which_nothing_can_be_read(built: Built, vmcorefs: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, built.image, [(0, 4 * MIB)])
    answer = vmcorefs("info", built.image)
    assert answer.status in {1, 2}
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith(f"vmcorefs: error: {built.image}: ")


# -- HSA -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "words"), [
    (0, "empty"), (MIB + 1, "0x100001 is no multiple of 4096"), (4095, "no multiple of 4096"), (5 * MIB, "longer than the memory")])
def test_an_hsa_file_of_a_wrong_size(tmp_path: Path, refused: Refused, size: int, words: str) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    hsa = tmp_path / "other.img"
    with hsa.open("wb") as file:
        file.truncate(size)
    line = refused("info", built.image, "--hsa", hsa)
    assert str(hsa) in line
    assert words in line


@pytest.mark.parametrize(("size", "words"), [
    ("5000", "0x1388"), ("0", "0x0"), ("2M", "larger than the file"), ("x", "'x' is no size")])
def test_a_wrong_hsa_size(tmp_path: Path, refused: Refused, size: str, words: str) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    assert words in refused("info", built.image, "--hsa", built.hsa, "--hsa-size", size)


def test_a_missing_hsa_file(tmp_path: Path, refused: Refused) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    assert f"{tmp_path / 'none'}: cannot open the HSA image" in refused("info", built.image, "--hsa", tmp_path / "none")


def test_a_zfcpdump_image_without_its_hsa_file(tmp_path: Path, refused: Refused) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    line = refused("info", built.image)
    assert str(built.image) in line
    assert "give that file with --hsa FILE" in line


def test_mode_zfcpdump_without_hsa(built: Built, refused: Refused) -> None:
    assert "give it with --hsa FILE" in refused("info", built.image, "--mode", "zfcpdump")


def test_hsa_size_without_hsa(built: Built, refused: Refused) -> None:
    assert "--hsa" in refused("info", built.image, "--hsa-size", "1M")


# -- B and S ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("oldmem", "words"), [
    ("1M:2M", "overlap"), ("2M:4096", "multiples of 1 MiB"), ("0x200800:1M", "multiples of 1 MiB"), ("4M:1M", "leaves the image"),
    ("3M:2M", "leaves the image"), ("0:1M", "greater than 0"), ("2M:0", "greater than 0"), ("2M", "write for example"),
    ("2M:1M:1M", "write for example"), ("2M:lots", "'lots' is no size"), ("99999999T:1M", "64 bits"),
])
def test_wrong_base_and_size(built: Built, refused: Refused, oldmem: str, words: str) -> None:
    line = refused("info", built.image, "--oldmem", oldmem)
    assert "--oldmem" in line
    assert words in line


def test_base_and_size_that_leave_the_image_are_told_with_its_end(built: Built, refused: Refused) -> None:
    line = refused("info", built.image, "--oldmem", "4M:1M")
    assert "[0x400000, 0x500000)" in line
    assert str(built.image) in line
    assert "0x400000" in line


def test_mode_kdump_where_no_base_and_size_are_to_be_found(tmp_path: Path, refused: Refused) -> None:
    built = Machine(mode="plain").build(tmp_path)
    line = refused("info", built.image, "--mode", "kdump")
    assert str(built.image) in line
    assert "give them with --oldmem B:S" in line


@pytest.mark.parametrize("options", [
    ("--oldmem", "2M:1M", "--mode", "plain"), ("--oldmem", "2M:1M", "--mode", "zfcpdump"),
    ("--oldmem", "2M:1M", "--hsa", "/nonexistent"), ("--hsa", "/nonexistent", "--mode", "kdump"),
    ("--hsa", "/nonexistent", "--mode", "plain")])
def test_options_that_contradict_each_other(built: Built, refused: Refused, options: tuple[str, ...]) -> None:
    assert "cannot be combined" in refused("info", built.image, *options)


# -- ranges ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ranges", "words"), [
    (["0-2M", "1M-3M"], "0x0-0x200000 and 0x100000-0x300000 overlap"),
    (["1M-1M"], "0x100000-0x100000 is empty"),
    (["2M-1M"], "0x200000-0x100000 is empty"),
    (["0-5000"], "0x0-0x1388 is not page aligned"),
    (["100-4096"], "0x64-0x1000 is not page aligned"),
    (["0-5M"], "0x0-0x500000 is beyond the image"),
    (["0-1M", "16T-17T"], "is beyond the image"),
    (["0"], "write for example"),
    (["0-x"], "'x' is no size"),
    (["0-99999999T"], "64 bits"),
])
def test_wrong_ranges(built: Built, refused: Refused, ranges: list[str], words: str) -> None:
    options = [word for r in ranges for word in ("--memory-range", r)]
    assert words in refused("info", built.image, *options)


def test_a_range_beyond_the_image_is_told_with_the_images_name_and_end(built: Built, refused: Refused) -> None:
    line = refused("info", built.image, "--memory-range", "0-5M")
    assert str(built.image) in line
    assert "0x400000" in line


def test_ranges_of_which_the_crashkernel_area_leaves_nothing(built: Built, refused: Refused) -> None:
    line = refused("info", built.image, "--memory-range", "2M-3M")
    assert "no memory is left" in line
    assert "--memory-range" in line


def test_more_pt_loads_than_e_phnum_holds(tmp_path: Path, refused: Refused) -> None:
    built = Machine(mode="plain").build(tmp_path)
    os.truncate(built.image, 65535 * 8192)
    iomem = tmp_path / "iomem"
    iomem.write_text("".join(f"{i * 8192:08x}-{i * 8192 + 4095:08x} : System RAM\n" for i in range(65535)), encoding="ascii")
    line = refused("info", built.image, "--memory-map", iomem)
    assert "65535 PT_LOADs" in line
    assert "e_phnum, which holds 65535" in line


# -- other options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["new", "6", "", "v6.1"])
def test_an_unknown_layout(built: Built, refused: Refused, layout: str) -> None:
    line = refused("info", built.image, "--layout", layout)
    assert "--layout" in line
    assert repr(layout) in line
    assert "6.10" in line


def test_an_unknown_mode(built: Built, refused: Refused) -> None:
    line = refused("info", built.image, "--mode", "warp")
    assert "'warp'" in line
    assert "auto, kdump, zfcpdump, plain" in line


@pytest.mark.parametrize(("content", "words"), [
    (None, "cannot open the VMCOREINFO text: No such file"), (b"", "0 bytes"), (b"x" * 70000, "70000 bytes"),
    (b"KEY=1\n", "OSRELEASE=")])
def test_a_vmcoreinfo_file_that_is_none(tmp_path: Path, built: Built, refused: Refused, content: bytes | None, words: str) -> None:
    path = tmp_path / "vmcoreinfo.txt"
    if content is not None:
        path.write_bytes(content)
    line = refused("info", built.image, "--vmcoreinfo", path)
    assert str(path) in line
    assert words in line


@pytest.mark.parametrize(("words", "said"), [
    (("--frobnicate",), "unknown option --frobnicate"),
    (("--memory-rang", "0-1M"), "(did you mean --memory-range?)"),
    (("--oldmem",), "--oldmem: expected one argument"),
    (("--layouts=6.1",), "(did you mean --layout?)"),
    (("another.img",), "one argument too many: another.img"),
    (("--log-level", "loud"), "invalid choice"),
    (("--json=1",), "--json"),
])
def test_a_wrong_command_line(built: Built, refused: Refused, words: tuple[str, ...], said: str) -> None:
    line = refused("info", built.image, *words)
    assert said in line
    assert "see vmcorefs info --help" in line


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("--frobnicate",), ("info",), ("copy", "a"), ("umount",), ("mount", "a")])
def test_a_command_line_without_what_it_needs(refused: Refused, words: tuple[str, ...]) -> None:
    assert "--help" in refused(*words)


def test_abbreviated_options_are_not_taken(built: Built, refused: Refused) -> None:
    assert "--lay" in refused("info", built.image, "--lay", "6.1")


def test_a_name_with_a_newline_stays_one_line(tmp_path: Path, refused: Refused) -> None:
    assert "two\\nlines" in refused("info", tmp_path / "two\nlines")


def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path, refused: Refused) -> None:
    assert "\\xff.img" in refused("info", os.fsdecode(os.fsencode(tmp_path) + b"/\xff.img"))
