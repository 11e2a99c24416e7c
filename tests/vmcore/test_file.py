"""VmcoreFile: a raw file in Python's sense, and reads that name the first bad byte."""

from __future__ import annotations

import array
import io
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.image.bad_disk import BadDisk
from vmcorefs import Dump, OldmemReadError
from vmcorefs.image.file import ImageFile
from vmcorefs.oldmem.kdump import kdump_memory
from vmcorefs.oldmem.plain import plain_memory
from vmcorefs.ranges import Range
from vmcorefs.s390.parmarea import Crashkernel
from vmcorefs.vmcore.elfcorehdr import Load, build_elfcorehdr
from vmcorefs.vmcore.file import VmcoreFile, compose
from vmcorefs.vmcore.merge import merge

MIB = 1 << 20


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Machine(cpus=cpus(2), body_pages="all").build(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def dump(built: Built) -> Iterator[Dump]:
    with vmcorefs.open(built.image) as dump:
        yield dump


@pytest.fixture
def vmcore(dump: Dump) -> VmcoreFile:
    return dump.vmcore


@pytest.fixture(scope="module")
def whole(built: Built) -> bytes:
    return built.model.read(0, built.model.size)


# -- as a file -------------------------------------------------------------------------------------------------------------


def test_it_is_a_raw_file_for_reading(vmcore: VmcoreFile) -> None:
    assert isinstance(vmcore, io.RawIOBase)
    assert (vmcore.readable(), vmcore.seekable(), vmcore.writable(), vmcore.isatty(), vmcore.closed) == (
        True, True, False, False, False)


def test_it_cannot_be_written(vmcore: VmcoreFile) -> None:
    with pytest.raises((OSError, AttributeError, NotImplementedError)):
        vmcore.write(b"x")
    with pytest.raises(io.UnsupportedOperation):
        vmcore.truncate(0)


def test_reads_go_on_where_the_last_one_ended(vmcore: VmcoreFile, whole: bytes) -> None:
    assert vmcore.tell() == 0
    assert vmcore.read(4) == b"\x7fELF"
    assert vmcore.tell() == 4
    assert vmcore.read(100) == whole[4:104]
    assert vmcore.read(0) == b""
    assert vmcore.tell() == 104


def test_seek_from_start_position_and_end(vmcore: VmcoreFile, whole: bytes) -> None:
    assert vmcore.seek(1000) == 1000
    assert vmcore.seek(-10, os.SEEK_CUR) == 990
    assert vmcore.read(5) == whole[990:995]
    assert vmcore.seek(0, os.SEEK_END) == len(whole) == vmcore.size
    assert vmcore.seek(-3, os.SEEK_END) == len(whole) - 3
    assert vmcore.read(100) == whole[-3:]
    assert vmcore.read(1) == b""


def test_seek_behind_the_end_reads_nothing(vmcore: VmcoreFile) -> None:
    assert vmcore.seek(5, os.SEEK_END) == vmcore.size + 5
    assert vmcore.read(10) == b""
    assert vmcore.seek(1 << 62) == 1 << 62
    assert vmcore.read(10) == b""


@pytest.mark.parametrize(("offset", "whence"), [(-1, os.SEEK_SET), (-1, os.SEEK_CUR), (-(1 << 40), os.SEEK_END)])
def test_seek_before_the_start_is_refused_and_moves_nothing(vmcore: VmcoreFile, offset: int, whence: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        vmcore.seek(offset, whence)
    assert vmcore.tell() == 0


def test_an_unknown_whence_is_refused(vmcore: VmcoreFile) -> None:
    with pytest.raises(ValueError, match="whence"):
        vmcore.seek(0, 77)


def test_readinto_fills_any_writable_buffer(vmcore: VmcoreFile, whole: bytes) -> None:
    for buffer in (bytearray(24), memoryview(bytearray(24)), array.array("Q", [0, 0, 0])):
        vmcore.seek(3)
        assert vmcore.readinto(buffer) == 24  # type: ignore[arg-type]
        assert bytes(buffer) == whole[3:27]


def test_readinto_at_the_end_is_short(vmcore: VmcoreFile, whole: bytes) -> None:
    buffer = bytearray(b"x" * 10)
    vmcore.seek(-4, os.SEEK_END)
    assert vmcore.readinto(buffer) == 4
    assert bytes(buffer) == whole[-4:] + b"x" * 6
    assert vmcore.readinto(buffer) == 0


def test_read_without_a_size_and_readall_give_the_rest(vmcore: VmcoreFile, whole: bytes) -> None:
    assert vmcore.read() == whole
    vmcore.seek(len(whole) - 5000)
    assert vmcore.readall() == whole[-5000:]
    assert vmcore.read() == b""


def test_under_a_buffered_reader(vmcore: VmcoreFile, whole: bytes) -> None:
    reader = io.BufferedReader(vmcore, 1000)
    rng = random.Random(2)
    for _ in range(200):
        offset, size = rng.randrange(len(whole) + 100), rng.randrange(5000)
        reader.seek(offset)
        assert reader.read(size) == whole[offset:offset + size]
    reader.detach()


def test_pyelftools_takes_it(vmcore: VmcoreFile) -> None:
    elf = ELFFile(vmcore)
    assert [s["p_type"] for s in elf.iter_segments()] == ["PT_NOTE", "PT_LOAD", "PT_LOAD"]
    assert next(iter(elf.iter_segments()))["p_filesz"] > 156


def test_as_a_context_manager_it_is_closed_behind(built: Built) -> None:
    with vmcorefs.open(built.image) as dump, dump.vmcore as vmcore:
        pass
    assert vmcore.closed


def test_after_close_nothing_can_be_read(built: Built) -> None:
    with vmcorefs.open(built.image) as dump:
        vmcore = dump.vmcore
    for call in (lambda: vmcore.read(1), lambda: vmcore.pread(1, 0), lambda: vmcore.preadinto(bytearray(1), 0),
                 lambda: vmcore.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_after_close_the_position_cannot_be_asked_for(built: Built) -> None:
    """io.IOBase: any operation on a closed file raises ValueError."""
    with vmcorefs.open(built.image) as dump:
        vmcore = dump.vmcore
    with pytest.raises(ValueError, match="closed"):
        vmcore.seek(0)
    with pytest.raises(ValueError, match="closed"):
        vmcore.tell()


# -- pread -----------------------------------------------------------------------------------------------------------------


def test_pread_across_every_border(vmcore: VmcoreFile, built: Built, whole: bytes) -> None:
    borders = [0, 64, len(built.model.header), *(r.start for r in vmcore.regions), *(r.end for r in vmcore.regions)]
    for border in borders:
        for before, size in ((0, 1), (1, 1), (1, 2), (7, 14), (4096, 8192), (4097, 1)):
            offset = max(0, border - before)
            assert vmcore.pread(size, offset) == whole[offset:offset + size], (border, before, size)


def test_pread_does_not_move_the_position(vmcore: VmcoreFile) -> None:
    vmcore.seek(17)
    vmcore.pread(100, 5000)
    assert vmcore.tell() == 17


@pytest.mark.parametrize("behind", [0, 1, 4096, 1 << 40, 1 << 63, 1 << 64])
def test_pread_at_or_behind_the_end_gives_nothing(vmcore: VmcoreFile, behind: int) -> None:
    assert vmcore.pread(100, vmcore.size + behind) == b""
    assert vmcore.preadinto(bytearray(100), vmcore.size + behind) == 0


def test_pread_across_the_end_is_cut(vmcore: VmcoreFile, whole: bytes) -> None:
    assert vmcore.pread(100, vmcore.size - 7) == whole[-7:]


def test_pread_of_nothing(vmcore: VmcoreFile) -> None:
    assert vmcore.pread(0, 0) == b""


def test_an_absurd_size_costs_no_memory_beyond_the_file(vmcore: VmcoreFile, whole: bytes) -> None:
    assert vmcore.pread(1 << 60, vmcore.size - 10) == whole[-10:]


def test_a_negative_offset_is_refused(vmcore: VmcoreFile) -> None:
    with pytest.raises(ValueError, match="negative"):
        vmcore.pread(1, -1)


def test_preadinto_leaves_the_rest_of_the_buffer_alone(vmcore: VmcoreFile, whole: bytes) -> None:
    buffer = bytearray(b"x" * 20)
    assert vmcore.preadinto(buffer, vmcore.size - 3) == 3
    assert bytes(buffer) == whole[-3:] + b"x" * 17


def test_many_threads_read_at_once(vmcore: VmcoreFile, whole: bytes) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            offset, size = rng.randrange(len(whole)), rng.randrange(1, 20000)
            if vmcore.pread(size, offset) != whole[offset:offset + size]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- errors ----------------------------------------------------------------------------------------------------------------


def offset_of(built: Built, old: int) -> int:
    return built.model.file_offset(old)


@pytest.mark.parametrize("old", [0x3000, MIB - 512, MIB, 2 * MIB - 512, 3 * MIB, 4 * MIB - 512])
def test_an_error_names_address_file_offset_and_good_bytes(built: Built, vmcore: VmcoreFile, whole: bytes, old: int,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    raw = old + 2 * MIB if old < MIB else old
    BadDisk(monkeypatch, built.image, [(raw, raw + 512)])
    at = offset_of(built, old)
    start = at - 3000
    buffer = bytearray(5000)
    with pytest.raises(OldmemReadError) as caught:
        vmcore.preadinto(buffer, start)
    error = caught.value
    assert (error.good, error.address, error.offset, error.file) == (3000, old, raw, str(built.image))
    assert bytes(buffer[:3000]) == whole[start:start + 3000]


def test_an_error_right_at_the_first_byte_has_no_good_ones(built: Built, vmcore: VmcoreFile,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, built.image, [(MIB, MIB + 512)])
    with pytest.raises(OldmemReadError) as caught:
        vmcore.pread(10, offset_of(built, MIB) + 5)
    assert (caught.value.good, caught.value.address) == (0, MIB + 5)


def test_reads_around_a_bad_sector_are_whole(built: Built, vmcore: VmcoreFile, whole: bytes,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, built.image, [(MIB, MIB + 512)])
    at = offset_of(built, MIB)
    assert vmcore.pread(4096, at - 4096) == whole[at - 4096:at]
    assert vmcore.pread(4096, at + 512) == whole[at + 512:at + 4608]
    assert vmcore.pread(len(built.model.header), 0) == built.model.header


def test_without_salvage_good_is_a_lower_bound(built: Built, vmcore: VmcoreFile, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = BadDisk(monkeypatch, built.image, [(MIB + 2000, MIB + 2512)])
    with pytest.raises(OldmemReadError) as caught:
        vmcore.preadinto(bytearray(4096), offset_of(built, MIB), salvage=False)
    assert caught.value.good <= 2000
    assert disk.failed == 1


def test_readinto_gives_the_good_bytes_first_then_the_error(built: Built, vmcore: VmcoreFile, whole: bytes,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, built.image, [(MIB + 1000, MIB + 1512)])
    at = offset_of(built, MIB)
    vmcore.seek(at)
    assert vmcore.read(5000) == whole[at:at + 1000]
    assert vmcore.tell() == at + 1000
    for _ in range(2):
        with pytest.raises(OldmemReadError):
            vmcore.read(5000)
        assert vmcore.tell() == at + 1000


def test_an_image_that_ends_before_the_crashed_kernels_memory_did_is_told(tmp_path: Path) -> None:
    """Plain memory says nowhere else how long it was. Who gives the ranges knows; what its dump kernel had is no part of it."""
    built = Machine(mode="plain", cpus=cpus(1)).build(tmp_path)
    kernel_offset_free = 0x5100
    built.poke_old(kernel_offset_free, (built.image.stat().st_size + 0x300000).to_bytes(8, "big"))
    with vmcorefs.open(built.image) as dump:
        assert [problem.code for problem in dump.problems] == ["truncated"]
        assert "the crashed kernel's memory reached to 0x700000 (its high_memory), the image ends at 0x400000" in dump.problems[0].text
    with vmcorefs.open(built.image, memory_range=[(0, 0x400000)]) as dump:
        assert dump.problems == ()
    built.poke_old(kernel_offset_free, built.image.stat().st_size.to_bytes(8, "big"))
    with vmcorefs.open(built.image) as dump:
        assert dump.problems == ()


def test_a_truncated_image_fails_behind_its_new_end_and_reads_before(tmp_path: Path) -> None:
    built = Machine(body_pages="all").build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        size = dump.vmcore.size
        os.truncate(built.image, 4 * MIB - 4096)
        at = built.model.file_offset(4 * MIB - 4096)
        assert dump.vmcore.pread(4096, at - 4096) == built.model.read(at - 4096, 4096)
        with pytest.raises(OldmemReadError, match="the file ends at 0x3ff000; it was 0x400000"):
            dump.vmcore.pread(1, at)
        assert dump.vmcore.size == size


# -- the flat table --------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(built: Built) -> Iterator[ImageFile]:
    with ImageFile(built.image) as image:
        yield image


def test_regions_touch_and_cover_the_file(vmcore: VmcoreFile) -> None:
    assert vmcore.regions[0].start == 0
    assert vmcore.regions[-1].end == vmcore.size
    assert all(a.end == b.start for a, b in zip(vmcore.regions, vmcore.regions[1:], strict=False))


def test_regions_of_kdump_are_header_swapped_direct_direct(vmcore: VmcoreFile) -> None:
    assert [(r.kind, r.address, r.source) for r in vmcore.regions] == [
        ("header", None, 0), ("swapped", 0, 2 * MIB), ("direct", MIB, MIB), ("direct", 3 * MIB, 3 * MIB)]


def test_ranges_that_follow_each_other_in_the_file_are_one_region(image: ImageFile) -> None:
    header = merge(build_elfcorehdr(b"", [Range(0, MIB), Range(MIB, 2 * MIB), Range(3 * MIB, 4 * MIB)], None, 0), 0)
    assert len(compose(header, plain_memory(image))) == 3


def test_the_kernel_image_is_read_from_memory_too(image: ImageFile, built: Built) -> None:
    """Its PT_LOAD reaches from swapped memory over S into direct memory."""
    load = Load(0x3FFE0000000, MIB - 0x1800, 0x3000, "kernel image")
    header = merge(build_elfcorehdr(b"", [Range(0, 2 * MIB)], load, 0), 0)
    vmcore = VmcoreFile(header.header, compose(header, kdump_memory(image, Crashkernel(2 * MIB, MIB))))
    placed = header.placed[0]
    assert vmcore.pread(placed.end - placed.start, placed.offset) == b"".join(
        built.model.old_page(page) for page in range(placed.start, placed.end, 4096))
