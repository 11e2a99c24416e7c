"""dump.s390 and mem.raw: the same memory in another form, and the registers where the dump tools put them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Machine, cpus
from vmcorefs.errors import OldmemReadError
from vmcorefs.output.memory_view import MemoryView
from vmcorefs.output.s390_dump import S390Dump

MIB = 1 << 20
MACHINES = {
    "kdump": Machine(memory=((0, 5 * MIB), (6 * MIB, 8 * MIB)), cpus=cpus(3), body_pages="all"),
    "zfcpdump": Machine(mode="zfcpdump", cpus=cpus(2)),
    "plain": Machine(mode="plain", cpus=cpus(2)),
    "6.12": Machine(release="6.12.0", cpus=cpus(2)),
}


def opened(dump: vmcorefs.Dump) -> S390Dump:
    return S390Dump(dump.oldmem, dump.memory_map, [cpu.save_area for cpu in dump.cpus])


def all_of(content: S390Dump | MemoryView) -> bytes:
    buffer = bytearray(content.size)
    assert content.preadinto(memoryview(buffer), 0) == content.size
    return bytes(buffer)


@pytest.mark.parametrize("name", [name for name in MACHINES if name != "zfcpdump"])
def test_vmcore_of_the_dump_is_the_same(tmp_path: Path, name: str) -> None:
    """Through the stand-alone format and back: memory, registers, vector registers, ranges given again (the format has none)."""
    built = MACHINES[name].build(tmp_path)
    with vmcorefs.open(built.image, hsa=built.hsa) as dump:
        (tmp_path / "dump.s390").write_bytes(all_of(opened(dump)))
        options = {"layout": dump.layout.name, "memory_range": [tuple(r) for r in dump.memory_map]}
        wanted = dump.vmcore.read()
    with vmcorefs.open(tmp_path / "dump.s390", **options) as again:
        assert again.image.container.format == "s390"
        assert again.mode.name == "plain"
        assert again.vmcore.read() == wanted


def test_registers_that_were_in_the_dump_kernels_memory_only(tmp_path: Path) -> None:
    """zfcpdump: nobody stored them into the crashed system's lowcores."""
    built = MACHINES["zfcpdump"].build(tmp_path)
    with vmcorefs.open(built.image, hsa=built.hsa) as dump:
        (tmp_path / "dump.s390").write_bytes(all_of(opened(dump)))
        areas = [cpu.save_area for cpu in dump.cpus]
        header = dump.merged.header
    with vmcorefs.open(tmp_path / "dump.s390") as again:
        assert len(areas) == 2
        assert [cpu.save_area for cpu in again.cpus] == areas
        assert again.merged.header == header


@pytest.mark.parametrize("time", [1700000000.0, 1700000000.123457, 0.0, 5e9])
def test_the_time_of_the_dump_is_kept(tmp_path: Path, time: float) -> None:
    """As zgetdump keeps it: to the microsecond, in header and end marker. 2038 is no end, 2042 is: the TOD clock has 64 bits."""
    built = MACHINES["plain"].build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        data = all_of(S390Dump(dump.oldmem, dump.memory_map, [cpu.save_area for cpu in dump.cpus], time))
    assert data[0x38:0x40] == data[-8:]
    assert (data[0x38:0x40] == bytes(8)) is (time > 4e9)
    (tmp_path / "dump.s390").write_bytes(data)
    with vmcorefs.open(tmp_path / "dump.s390") as again:
        assert again.image.container.time == (time if 0 < time < 4e9 else None)
        assert again.problems == ()


def test_registers_from_outside_are_in_it(tmp_path: Path) -> None:
    built = Machine(mode="plain", stored_status=False, cpus=cpus(2)).build(tmp_path)
    (tmp_path / "known").mkdir()
    with vmcorefs.open(MACHINES["plain"].build(tmp_path / "known").image) as known:
        areas = [cpu.save_area for cpu in known.cpus]
    with vmcorefs.open(built.image) as dump:
        assert dump.cpus == ()
        (tmp_path / "dump.s390").write_bytes(all_of(S390Dump(dump.oldmem, dump.memory_map, areas)))
    with vmcorefs.open(tmp_path / "dump.s390") as again:
        assert [cpu.save_area for cpu in again.cpus] == areas


def test_mem_raw_has_memory_at_its_address_and_zeros_in_holes(tmp_path: Path) -> None:
    built = MACHINES["kdump"].build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        view = MemoryView(dump.oldmem, dump.memory_map)
        data = all_of(view)
        assert len(data) == 8 * MIB
        for start, end in dump.memory_map:
            assert data[start:end] == dump.oldmem.read(start, end - start)
        area = dump.mode.crashkernel
        assert area is not None
        for start, end in ((5 * MIB, 6 * MIB), (area.base, area.end)):
            assert not any(data[start:end])


@pytest.mark.parametrize("kind", [S390Dump, MemoryView])
def test_any_read_is_a_part_of_the_whole(tmp_path: Path, kind: type) -> None:
    built = MACHINES["kdump"].build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        content = opened(dump) if kind is S390Dump else MemoryView(dump.oldmem, dump.memory_map)
        whole = all_of(content)
        rng = random.Random(7)
        for _ in range(300):
            offset = rng.choice([0, 4095, 4096, 4097, len(whole) - 20, len(whole) - 1, len(whole), len(whole) + 5,
                                 rng.randrange(len(whole))])
            size = rng.choice([0, 1, 15, 17, 4096, 100_000])
            buffer = bytearray(size)
            count = content.preadinto(memoryview(buffer), offset)
            assert count == len(whole[offset:offset + size])
            assert bytes(buffer[:count]) == whole[offset:offset + size]


def test_bytes_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    built = Machine(mode="plain", cpus=cpus(1)).build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        content = opened(dump)
        end = dump.image.size
        with built.image.open("r+b") as file:
            file.truncate(end - MIB + 100)
        buffer = bytearray(8192)
        with pytest.raises(OldmemReadError) as caught:
            content.preadinto(memoryview(buffer), 4096 + end - MIB - 4096)
        assert (caught.value.good, caught.value.address) == (4096 + 100, end - MIB + 100)
