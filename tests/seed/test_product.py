"""The product's header region in layout 5.8 equals what the compiled kernel text of 5.8 builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmcorefs.oldmem.memory_map import without_crashkernel
from vmcorefs.ranges import Range
from vmcorefs.ranges import merge as merge_ranges
from vmcorefs.s390.save_area import from_status
from vmcorefs.vmcore.elfcorehdr import build_elfcorehdr
from vmcorefs.vmcore.merge import merge
from vmcorefs.vmcore.notes import notes

from . import kernel58

MIB = 1 << 20


def product_header(cpus: list[kernel58.SeedCpu], ranges: tuple[Range, ...], oldmem: tuple[int, int] | None, *, vx: bool,
                   vmcoreinfo: bytes | None) -> bytes:
    areas = [from_status(cpu.status, cpu.vectors) for cpu in cpus]
    content = notes([a for a in areas if a.prefix_address], vmcoreinfo, todpreg_size=8, vector=vx)
    served = without_crashkernel(ranges, (oldmem[0], oldmem[0] + oldmem[1]) if oldmem else None)
    return merge(build_elfcorehdr(content, served, None, 0), 0).header


@pytest.mark.parametrize("vx", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_kdump(seed_program: Path, count: int, *, vx: bool) -> None:
    cpus = [kernel58.SeedCpu(bytes((7 * i + 31 * k + 1) % 256 for i in range(512)), bytes((i + k) % 251 for i in range(512)))
            for k in range(count)]
    ranges, oldmem = (Range(0, 64 * MIB), Range(128 * MIB, 192 * MIB)), (32 * MIB, 16 * MIB)
    text = b"OSRELEASE=5.8.0\nSYMBOL(lowcore_ptr)=1234\n"
    expected = kernel58.seed_header(seed_program, cpus=cpus, ranges=ranges, oldmem=oldmem, vx=vx, vmcoreinfo=text)
    assert product_header(cpus, ranges, oldmem, vx=vx, vmcoreinfo=text) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_machine(seed_program: Path, data: st.DataObject) -> None:
    cpus = [kernel58.SeedCpu(data.draw(st.binary(min_size=512, max_size=512)), data.draw(st.binary(min_size=512, max_size=512)))
            for _ in range(data.draw(st.integers(0, 4)))]
    if data.draw(st.booleans()) and cpus:  # a CPU that was set offline: saved prefix 0
        status = bytearray(cpus[-1].status)
        status[0x118:0x11C] = bytes(4)
        cpus[-1] = kernel58.SeedCpu(bytes(status), cpus[-1].vectors)
    ranges = merge_ranges([(0, 64 * MIB), *data.draw(st.lists(st.tuples(st.integers(64, 200), st.integers(1, 50)).map(
        lambda t: (t[0] * MIB, (t[0] + t[1]) * MIB)), max_size=4))])
    size = data.draw(st.integers(1, 16)) * MIB
    kdump, vx = data.draw(st.tuples(st.booleans(), st.booleans()))
    oldmem = (data.draw(st.integers(size // MIB, 60)) * MIB, size) if kdump else None
    vmcoreinfo = data.draw(st.one_of(st.none(), st.binary(min_size=1, max_size=3000)))
    hsa_size = 0 if oldmem else 32 * MIB
    expected = kernel58.seed_header(seed_program, cpus=cpus, ranges=ranges, oldmem=oldmem, hsa_size=hsa_size, vx=vx,
                                    vmcoreinfo=vmcoreinfo)
    assert product_header(cpus, ranges, oldmem, vx=vx, vmcoreinfo=vmcoreinfo) == expected
