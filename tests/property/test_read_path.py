"""The read path against a slow and obvious model, over random machines, offsets and sizes.

The model (tests/builders) shares no code with the product: it maps one page at a time.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import vmcorefs
from tests.builders import Built, Machine, cpus

MIB = 1 << 20
PAGE = 4096
EXAMPLES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))  # more for a longer search
RELEASES = ("5.8.0", "5.15.80", "5.15.81", "6.1.0", "6.4.0", "6.6.0", "6.9.12", "6.10.0", "6.12.0")
OS_INFO: list[Any] = ["valid"] * 4 + ["absent", "bad_csum", "bad_magic", "bad_version", "bad_entry_csum"]


@st.composite
def machines(draw: st.DrawFn, modes: tuple[Any, ...] = ("kdump", "zfcpdump", "plain"), *, mixed: bool = True) -> Machine:
    """Machines with holes, any place of the crashkernel area, some CPUs; *mixed*: another dump kernel than the crashed one."""
    mode = draw(st.sampled_from(modes))
    release = draw(st.sampled_from(RELEASES))
    dump_release = draw(st.sampled_from([None, *RELEASES])) if mixed and mode != "plain" else None
    low = draw(st.integers(4, 8)) * MIB
    ranges, end = [(0, low)], low
    for _ in range(draw(st.integers(0, 3))):
        start = end + draw(st.integers(1, 300)) * PAGE
        end = start + draw(st.integers(1, 500)) * PAGE
        ranges.append((start, end))
    end = -(-end // MIB) * MIB
    ranges[-1] = (ranges[-1][0], end)
    machine = Machine(mode=mode, release=release, dump_release=dump_release, memory=tuple(ranges),
                      cpus=cpus(draw(st.integers(1, 5))), vector=draw(st.booleans()), body_pages="all",
                      vmcoreinfo_by=draw(st.sampled_from(["lowcore", "os_info", "both", None])),
                      os_info=draw(st.sampled_from(OS_INFO)),
                      guarded_storage=draw(st.booleans()))
    if machine.vmcoreinfo_by == "os_info" and machine.os_info != "valid":
        # The kernel would have served no VMCOREINFO; a search finds it all the same (tests/vmcore/test_doctor.py)
        machine = replace(machine, vmcoreinfo_by="lowcore")
    if mode == "kdump":
        size = draw(st.integers(1, 2)) * MIB
        base = draw(st.integers(size // MIB, low // MIB - size // MIB)) * MIB
        machine = replace(machine, base=base, size=size)
    if mode == "zfcpdump":
        machine = replace(machine, hsa_size=draw(st.integers(256, 512)) * PAGE)
    return machine


def _build(machine: Machine, directory: Path) -> Built | None:
    try:
        return machine.build(directory)
    except ValueError:  # the builder's structures do not fit into such a small machine
        return None


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_read_equals_the_model(data: st.DataObject) -> None:
    machine = data.draw(machines())
    with tempfile.TemporaryDirectory() as folder:
        built = _build(machine, Path(folder))
        if built is None:
            event("does not fit")
            return
        event(machine.mode)
        options: dict[str, Any] = {"hsa": str(built.hsa)} if built.hsa else {}
        if machine.mode == "plain":  # nothing in a plain image tells its holes, and its release only VMCOREINFO
            options |= {"memory_range": machine.memory, "layout": machine.release}
        with vmcorefs.open(built.image, **options) as dump:
            model = built.model
            assert dump.merged.header == model.header
            assert dump.vmcore.size == model.size
            borders = sorted({r.start for r in dump.vmcore.regions} | {model.size})
            for _ in range(15):
                near = data.draw(st.sampled_from(borders)) + data.draw(st.integers(-5000, 5000))
                anywhere = data.draw(st.integers(0, model.size + 10))
                offset = min(max(0, data.draw(st.sampled_from([near, anywhere]))), model.size + 10)
                size = data.draw(st.integers(0, 3 * PAGE))
                assert dump.vmcore.pread(size, offset) == model.read(offset, size), (hex(offset), size)


@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_rules_alone_equal_the_model(data: st.DataObject) -> None:
    """Without the dump kernel's list and header; ranges given by option, since only they knew of holes."""
    machine = data.draw(machines(("kdump",), mixed=False))
    with tempfile.TemporaryDirectory() as folder:
        built = _build(machine, Path(folder))
        if built is None:
            return
        built.wipe_dump_kernel()
        with vmcorefs.open(built.image, memory_range=machine.memory, layout=machine.release) as dump:
            assert dump.merged.header == built.model.header
            offset = data.draw(st.integers(0, built.model.size))
            assert dump.vmcore.pread(5 * PAGE, offset) == built.model.read(offset, 5 * PAGE)
