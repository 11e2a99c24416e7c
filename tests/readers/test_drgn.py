"""drgn with the crashed kernel's vmlinux: VMCOREINFO, symbols, tasks, stacks, log and the page cache."""

from __future__ import annotations

import gc
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .gold import ALL, PLAIN, WITH_VMCORE, Gold
from .installed import missing

try:
    import drgn
    from drgn.helpers.linux.fs import inode_for_each_page, path_lookup
    from drgn.helpers.linux.mm import page_to_phys
    from drgn.helpers.linux.pid import for_each_task
    from drgn.helpers.linux.printk import get_dmesg, get_printk_records
    from drgn.helpers.linux.sched import cpu_curr
except ImportError as error:
    LACKS: str | None = f"drgn cannot be imported: {error}"
else:
    LACKS = None

PAGE = 4096
STACKS = {
    "kdump": ["__do_machine_kdump", "__machine_kdump", "__machine_kexec"],
    "zfcpdump": ["disabled_wait", "stop_run", "do_panic"],
}
PANIC = "Kernel panic - not syncing: sysrq triggered crash"


class Opened:
    """A drgn.Program that can be let go: it has no close(), and keeps files open until nobody refers to it."""

    def __init__(self, gold: Gold):
        self.prog: Any = drgn.Program()
        self.prog.set_core_dump(str(gold.vmcore))
        self.prog.load_debug_info([str(gold.vmlinux)])


@pytest.fixture
def opened(gold: Gold) -> Iterator[Opened]:
    """For each test anew: it takes 0.2 s."""
    if LACKS:
        missing(LACKS)
    found = Opened(gold)
    yield found
    del found.prog
    gc.collect()


def escaped(text: bytes) -> bytes:
    """As makedumpfile --dump-dmesg writes it."""
    return re.sub(rb"[^ -~\t-\r]", lambda found: b"\\x%02x" % found[0][0], text)


def ps_comms(text: str) -> dict[int, str]:
    """pid -> comm as busybox's ps shows it: [kernel thread], {comm} script, or a path. ps itself is left out."""
    found = {}
    for line in text.splitlines()[1:]:
        pid, _, command = line.split(None, 2)
        script = re.match(r"\[(.*)\]$|\{(.*?)\}", command)
        comm = (script[1] or script[2]) if script else command.split()[0].rpartition("/")[2]
        if comm != "ps":
            found[int(pid)] = comm
    return found


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_vmcoreinfo(gold: Gold, opened: Opened) -> None:
    assert opened.prog["VMCOREINFO"].string_() == gold.vmcoreinfo
    assert opened.prog["UTS_RELEASE"].string_().decode() == gold.release
    assert f"OSRELEASE={gold.release}\n".encode() in gold.vmcoreinfo
    assert opened.prog.platform.arch == drgn.Architecture.S390X


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_symbols(gold: Gold, opened: Opened) -> None:
    assert opened.prog.symbol("linux_banner").address == gold.banner_address
    assert opened.prog["linux_banner"].string_().startswith(gold.banner)
    assert opened.prog["init_task"].comm.string_() == b"swapper/0"
    assert opened.prog["init_uts_ns"].name.release.string_().decode() == gold.release


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_tasks(gold: Gold, opened: Opened) -> None:
    """All that ps listed a moment before the crash, and since then nothing but the shell that crashed it and a kworker or two."""
    tasks = {task.pid.value_(): task.comm.string_().decode() for task in for_each_task(opened.prog)}
    listed = ps_comms(gold.text("ps.txt"))
    assert len(listed) > 20
    for pid, comm in listed.items():
        # ps shows a worker's work behind its comm: kworker/0:0-events
        assert tasks[pid] == (comm.partition("-")[0] if re.match(r"kworker/u?\d", comm) else comm)
    assert {comm for pid, comm in tasks.items() if pid not in listed and not comm.startswith("kworker/")} <= {"sh"}


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_log(gold: Gold, opened: Opened) -> None:
    got = escaped(get_dmesg(opened.prog)).splitlines()
    assert any(PANIC in record.text.decode(errors="replace") for record in get_printk_records(opened.prog))
    if gold.name == PLAIN:  # no vmcore-dmesg.txt: the log a moment before the crash, and what came then
        before = [re.sub(rb"^<\d+>", b"", line) for line in gold.text("dmesg-raw.txt").encode().splitlines()]
        assert got[:len(before)] == [escaped(line) for line in before]
        assert PANIC in got[len(before) + 1].decode() + got[len(before)].decode()
        return
    wanted = gold.text("vmcore-dmesg.txt").encode().splitlines()
    assert len(got) == len(wanted)
    different = [(one, other) for one, other in zip(got, wanted, strict=True) if one != other]
    if gold.name == "k61-text" and different:
        # drgn 0.3.0 (printk.py: lpos_begin -= lpos_begin) takes the record that wraps round the ring's end 8 bytes too early
        assert len(different) == 1
        one, other = different[0]
        stamp, _, text = other.partition(b"] ")
        assert re.fullmatch(re.escape(stamp) + rb"\] .{8,32}" + re.escape(text[:-8]), one)
        return
    assert different == []


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_files_in_tmpfs(gold: Gold, opened: Opened) -> None:
    """Through mount, dentry, inode, page cache and struct page: the files that the machine had the sha256 of."""
    for path, digest in gold.tmpfs_sums.items():
        inode = path_lookup(opened.prog, path).dentry.d_inode
        content = b"".join(opened.prog.read(page_to_phys(page).value_(), PAGE, True) for _, page in inode_for_each_page(inode))
        assert hashlib.sha256(content[:inode.i_size.value_()]).hexdigest() == digest


@pytest.mark.parametrize("gold", WITH_VMCORE, indirect=True)
def test_stack_of_the_boot_cpu(gold: Gold, opened: Opened) -> None:
    """Registers from its notes, stack from memory."""
    names = [frame.name for frame in opened.prog.stack_trace(cpu_curr(opened.prog, 0))]
    assert names[:3] == STACKS[gold.about["mode"]]


@pytest.mark.parametrize("gold", [PLAIN], indirect=True)
def test_plain_has_no_registers(gold: Gold, opened: Opened) -> None:
    with pytest.raises(LookupError, match="registers for CPU 0 were not saved"):
        opened.prog.stack_trace(cpu_curr(opened.prog, 0))
    names = [frame.name for frame in opened.prog.stack_trace(2)]  # kthreadd sleeps: its registers lie on its stack
    assert "kthreadd" in names
