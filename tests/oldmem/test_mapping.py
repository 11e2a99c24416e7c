"""The map of each mode, byte by byte around every border, against the read rule as the kernel's source has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.image.bad_disk import BadDisk
from vmcorefs.errors import OldmemReadError
from vmcorefs.image.file import ImageFile
from vmcorefs.oldmem.kdump import kdump_memory
from vmcorefs.oldmem.mapping import ADDRESS_END, OldMemory
from vmcorefs.oldmem.plain import plain_memory
from vmcorefs.oldmem.zfcpdump import zfcpdump_memory
from vmcorefs.s390.parmarea import Crashkernel

MIB = 1 << 20
BASE, SIZE, END = 3 * MIB, MIB, 5 * MIB
HSA = 2 * MIB


def numbered(path: Path, size: int, tag: int) -> Path:
    """Each 8 bytes say where they are."""
    path.write_bytes(b"".join((tag << 56 | at).to_bytes(8, "big") for at in range(0, size, 8)))
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageFile]:
    with ImageFile(numbered(tmp_path_factory.mktemp("map") / "oldmem.img", END, 0x11)) as file:
        yield file


@pytest.fixture(scope="module")
def hsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageFile]:
    with ImageFile(numbered(tmp_path_factory.mktemp("map") / "hsa.img", HSA + 4096, 0x22)) as file:
        yield file


def kdump_rule(address: int) -> int:
    """crash_dump.c: copy_oldmem_kernel, one byte."""
    if BASE <= address < BASE + SIZE:
        return address - BASE
    if address < SIZE:
        return address + BASE
    return address


def byte(file: ImageFile, offset: int) -> bytes:
    return file.pread(1, offset)


BORDERS = [0, SIZE, BASE, BASE + SIZE, HSA, END]
AROUND = sorted({b + d for b in BORDERS for d in range(-9, 10) if 0 <= b + d < END})


def test_kdump_byte_by_byte(image: ImageFile) -> None:
    memory = kdump_memory(image, Crashkernel(BASE, SIZE))
    for address in AROUND:
        assert memory.read(address, 1) == byte(image, kdump_rule(address)), hex(address)


def test_zfcpdump_byte_by_byte(image: ImageFile, hsa: ImageFile) -> None:
    memory = zfcpdump_memory(image, hsa, HSA)
    for address in AROUND:
        assert memory.read(address, 1) == byte(hsa if address < HSA else image, address), hex(address)


def test_plain_byte_by_byte(image: ImageFile) -> None:
    memory = plain_memory(image)
    for address in AROUND:
        assert memory.read(address, 1) == byte(image, address), hex(address)


@pytest.mark.parametrize("border", [SIZE, BASE, BASE + SIZE, HSA])
@pytest.mark.parametrize("mode", ["kdump", "zfcpdump", "plain"])
def test_reads_across_a_border_are_the_bytes_one_by_one(image: ImageFile, hsa: ImageFile, mode: str, border: int) -> None:
    memory = {"kdump": lambda: kdump_memory(image, Crashkernel(BASE, SIZE)), "zfcpdump": lambda: zfcpdump_memory(image, hsa, HSA),
              "plain": lambda: plain_memory(image)}[mode]()
    for start, size in ((border - 5, 11), (border - 1, 2), (border - 4096, 8192), (border, 3), (border - 3, 3)):
        assert memory.read(start, size) == b"".join(memory.read(a, 1) for a in range(start, start + min(size, 20))) \
            + (memory.read(start + 20, size - 20) if size > 20 else b"")


def test_one_read_over_all_borders(image: ImageFile) -> None:
    raw = image.pread(END, 0)
    expected = raw[BASE:BASE + SIZE] + raw[SIZE:BASE] + raw[:SIZE] + raw[BASE + SIZE:]
    assert kdump_memory(image, Crashkernel(BASE, SIZE)).read(0, END) == expected


def test_the_swap_is_an_involution(image: ImageFile) -> None:
    for address in AROUND:
        assert kdump_rule(kdump_rule(address)) == address
    memory = kdump_memory(image, Crashkernel(BASE, SIZE))
    there = memory.read(0x1000, 8)
    offset = int.from_bytes(there, "big") & 0xFFFFFFFFFF
    assert memory.read(offset, 8) == image.pread(8, 0x1000)


@pytest.mark.parametrize(("base", "size"), [(MIB, MIB), (2 * MIB, 2 * MIB), (4 * MIB, MIB)])
def test_areas_that_touch_their_neighbours(image: ImageFile, base: int, size: int) -> None:
    """B = S leaves no memory between; B + S = end none above."""
    memory = kdump_memory(image, Crashkernel(base, size))
    raw = image.pread(END, 0)
    for address in {b + d for b in (0, size, base, base + size) for d in (-1, 0, 1) if 0 <= b + d < END}:
        wanted = address - base if base <= address < base + size else address + base if address < size else address
        assert memory.read(address, 1) == raw[wanted:wanted + 1], hex(address)


@pytest.mark.parametrize("make", [
    lambda image, hsa: kdump_memory(image, Crashkernel(BASE, SIZE)),
    lambda image, hsa: zfcpdump_memory(image, hsa, HSA),
    lambda image, hsa: plain_memory(image),
])
def test_segments_cover_all_64_bits(image: ImageFile, hsa: ImageFile,
                                    make: Callable[[ImageFile, ImageFile], OldMemory]) -> None:
    memory = make(image, hsa)
    assert memory.segments[0].start == 0
    assert memory.segments[-1].end == ADDRESS_END
    for a, b in zip(memory.segments, memory.segments[1:], strict=False):
        assert a.end == b.start


def test_behind_the_image_is_an_error_with_address_and_good_bytes(image: ImageFile) -> None:
    with pytest.raises(OldmemReadError) as caught:
        kdump_memory(image, Crashkernel(BASE, SIZE)).read(END - 10, 20)
    assert (caught.value.good, caught.value.address, caught.value.offset) == (10, END, END)


@pytest.mark.parametrize("address", [1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096])
def test_far_addresses_are_read_errors(image: ImageFile, address: int) -> None:
    with pytest.raises(OldmemReadError) as caught:
        kdump_memory(image, Crashkernel(BASE, SIZE)).read(address, 4096)
    assert caught.value.address == address


@pytest.mark.parametrize(("address", "size"), [((1 << 64) - 1, 2), (1 << 64, 1), (1 << 65, 8), (-1, 1)])
def test_no_address_wraps(image: ImageFile, address: int, size: int) -> None:
    with pytest.raises(OldmemReadError, match="64 bits") as caught:
        plain_memory(image).read(address, size)
    assert caught.value.address == address


def test_nothing_at_the_last_address_is_nothing(image: ImageFile) -> None:
    assert plain_memory(image).read((1 << 64) - 1, 0) == b""


def test_an_error_behind_a_border_counts_the_good_bytes_before_it(image: ImageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, Path(image.path), [(SIZE + 100, SIZE + 200)])
    with pytest.raises(OldmemReadError) as caught:
        kdump_memory(image, Crashkernel(BASE, SIZE)).read(SIZE - 50, 1000)
    assert (caught.value.good, caught.value.address, caught.value.offset) == (150, SIZE + 100, SIZE + 100)


def test_an_error_in_swapped_memory_names_both_places(image: ImageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, Path(image.path), [(BASE + 0x2000, BASE + 0x2200)])
    with pytest.raises(OldmemReadError) as caught:
        kdump_memory(image, Crashkernel(BASE, SIZE)).read(0x1000, 0x2000)
    assert (caught.value.good, caught.value.address, caught.value.offset) == (0x1000, 0x2000, BASE + 0x2000)
    assert f"absolute address {0x2000:#x}" in str(caught.value)


def test_an_error_in_the_hsa_names_the_hsa_file(image: ImageFile, hsa: ImageFile, monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, Path(hsa.path), [(0, 1)])
    with pytest.raises(OldmemReadError) as caught:
        zfcpdump_memory(image, hsa, HSA).read(0, 1)
    assert caught.value.file == hsa.path


def test_scan_gives_absolute_addresses(image: ImageFile) -> None:
    memory = kdump_memory(image, Crashkernel(BASE, SIZE))
    pieces = list(memory.scan(0, END, 7))
    joined = bytearray(END)
    for address, data in pieces:
        joined[address:address + len(data)] = data
    assert bytes(joined) == memory.read(0, END)


def test_scan_of_a_part(image: ImageFile) -> None:
    memory = kdump_memory(image, Crashkernel(BASE, SIZE))
    pieces = list(memory.scan(SIZE - 4096, SIZE + 4096, 0))
    assert [(a, len(d)) for a, d in pieces] == [(SIZE - 4096, 4096), (SIZE, 4096)]
    assert b"".join(d for _, d in pieces) == memory.read(SIZE - 4096, 8192)
