"""vmcorefs.drgn.program on the full captures, not mounted: what drgn finds is what the machine said before it crashed."""

from __future__ import annotations

import gc
import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

import vmcorefs.drgn
from tests.readers.gold import PLAIN, Gold
from tests.readers.test_drgn import PAGE, PANIC, STACKS, escaped, ps_comms

CRASHED = ("k61-smp4-offline", "k61-zfcpdump-smp3", "k612-smp2")
ALL = (*CRASHED, PLAIN)


class Opened:
    """A program that can be let go: it has no close()."""

    def __init__(self, gold: Gold):
        self.prog: Any = vmcorefs.drgn.program(gold.image, hsa=gold.hsa, vmlinux=gold.vmlinux)


@pytest.fixture
def opened(gold: Gold) -> Iterator[Opened]:
    """For each test anew."""
    found = Opened(gold)
    yield found
    del found.prog
    gc.collect()


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_vmcoreinfo(gold: Gold, opened: Opened) -> None:
    import drgn

    assert opened.prog["VMCOREINFO"].string_() == gold.vmcoreinfo
    assert opened.prog["UTS_RELEASE"].string_().decode() == gold.release
    assert opened.prog.platform.arch == drgn.Architecture.S390X
    assert opened.prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_symbols(gold: Gold, opened: Opened) -> None:
    assert opened.prog.symbol("linux_banner").address == gold.banner_address
    assert opened.prog["linux_banner"].string_().startswith(gold.banner)
    assert opened.prog["init_task"].comm.string_() == b"swapper/0"
    assert opened.prog["init_uts_ns"].name.release.string_().decode() == gold.release


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_tasks(gold: Gold, opened: Opened) -> None:
    from drgn.helpers.linux.pid import for_each_task

    tasks = {task.pid.value_(): task.comm.string_().decode() for task in for_each_task(opened.prog)}
    listed = ps_comms(gold.text("ps.txt"))
    assert len(listed) > 20
    for pid, comm in listed.items():
        assert tasks[pid] == (comm.partition("-")[0] if re.match(r"kworker/u?\d", comm) else comm)
    assert {comm for pid, comm in tasks.items() if pid not in listed and not comm.startswith("kworker/")} <= {"sh"}


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_log(gold: Gold, opened: Opened) -> None:
    from drgn.helpers.linux.printk import get_dmesg

    got = escaped(get_dmesg(opened.prog)).splitlines()
    if gold.name == PLAIN:  # no vmcore-dmesg.txt: the log a moment before the crash, and what came then
        before = [escaped(re.sub(rb"^<\d+>", b"", line)) for line in gold.text("dmesg-raw.txt").encode().splitlines()]
        assert got[:len(before)] == before
        assert any(PANIC.encode() in line for line in got[len(before):])
    else:
        assert got == gold.text("vmcore-dmesg.txt").encode().splitlines()


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_files_in_tmpfs(gold: Gold, opened: Opened) -> None:
    from drgn.helpers.linux.fs import inode_for_each_page, path_lookup
    from drgn.helpers.linux.mm import page_to_phys

    assert gold.tmpfs_sums
    for path, digest in gold.tmpfs_sums.items():
        inode = path_lookup(opened.prog, path).dentry.d_inode
        content = b"".join(opened.prog.read(page_to_phys(page).value_(), PAGE, True) for _, page in inode_for_each_page(inode))
        assert hashlib.sha256(content[:inode.i_size.value_()]).hexdigest() == digest


@pytest.mark.parametrize("gold", CRASHED, indirect=True)
def test_stack_of_the_boot_cpu(gold: Gold, opened: Opened) -> None:
    from drgn.helpers.linux.sched import cpu_curr

    assert [frame.name for frame in opened.prog.stack_trace(cpu_curr(opened.prog, 0))][:3] == STACKS[gold.about["mode"]]


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_stack_of_a_sleeping_task(gold: Gold, opened: Opened) -> None:
    """Its registers lie on its stack."""
    assert "kthreadd" in [frame.name for frame in opened.prog.stack_trace(2)]


@pytest.mark.parametrize("gold", [PLAIN], indirect=True)
def test_plain_has_no_registers(gold: Gold, opened: Opened) -> None:
    from drgn.helpers.linux.sched import cpu_curr

    with pytest.raises(LookupError, match="registers for CPU 0 were not saved"):
        opened.prog.stack_trace(cpu_curr(opened.prog, 0))


@pytest.mark.parametrize("gold", ["k61-smp4-offline", "k612-smp2"], indirect=True)
def test_every_byte_that_drgn_reads_is_vmcore(gold: Gold, opened: Opened) -> None:
    """By physical and by virtual address, at both ends of each PT_LOAD."""
    with vmcorefs.open(gold.image) as dump:
        for load in gold.loads:
            for at in (0, load.size - PAGE):
                want = dump.vmcore.pread(PAGE, load.offset + at)
                assert opened.prog.read(load.paddr + at, PAGE, True) == want
                assert opened.prog.read(load.vaddr + at, PAGE) == want


@pytest.mark.parametrize("gold", ["k612-smp2"], indirect=True)
def test_a_vmlinux_of_another_kernel_is_refused(gold: Gold, expanded: dict[str, Gold]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    message = r"not the vmlinux .* of the crashed kernel 6\.1\.192-gold \(build ID [0-9a-f]{40}\)"
    with pytest.raises(vmcorefs.ImageError, match=message):
        vmcorefs.drgn.program(expanded["k61-smp4-offline"].image, vmlinux=[gold.vmlinux])
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
