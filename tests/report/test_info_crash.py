"""Why a system died: what the end of its log says, whatever the log's size or damage."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vmcorefs
from tests.builders.printk import RecordLog, Ring
from tests.gold.conftest import Expander, gold_names
from tests.report.infos import PANIC, ring
from tests.s390.fake_memory import FakeMemory
from vmcorefs.errors import OldmemReadError
from vmcorefs.report.crash import NEWEST, Crash, read_crash
from vmcorefs.report.dmesg import find_dmesg, summarize
from vmcorefs.s390 import Absent
from vmcorefs.s390 import printk as product
from vmcorefs.s390.printk import Log, read_log
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

TRACE = (b"Call Trace:", b" [<00000000002f0b92>] oops_here+0x22/0x28 ", b"([<00000000002f1278>] perhaps+0x98/0x198)")
CPU = b"CPU: 2 UID: 0 PID: 77 Comm: my task Tainted: G        W         6.12.0 #3"


def log_of(written: Ring | RecordLog) -> Log:
    placed = written.place(0x10000)
    memory = FakeMemory(4 << 20)
    for address, data in placed.pieces:
        memory.put(address, data)
    log = read_log(memory.read, Vmcoreinfo(placed.lines.encode(), "lowcore"))
    assert not isinstance(log, Absent), log
    return log


def crash_of(*texts: bytes, **options: int) -> Crash:
    crash = read_crash(log_of(ring(*texts, **options)))
    assert isinstance(crash, Crash), crash
    return crash


def test_a_panic_with_its_stack() -> None:
    crash = crash_of(*PANIC)
    assert crash.panic == b"Kernel panic - not syncing: sysrq triggered crash"
    assert (crash.cpu, crash.pid, crash.task, crash.hardware) == (1, 136, b"sh", b"IBM 3931 A01 704 (LPAR)")
    assert crash.call_trace == (b"dump_stack_lvl", b"panic", b"sysrq_handle_crash", b"__handle_sysrq")
    assert (crash.records, crash.partial, crash.last_timestamp) == (len(PANIC), False, len(PANIC) * 10**9)
    assert crash.last_line == PANIC[-1].rstrip()
    assert not crash.cause


def test_an_oops_has_its_stack_before_the_panic() -> None:
    crash = crash_of(
        b"Unable to handle kernel pointer dereference in virtual kernel address space", b"Oops: 0004 ilc:2 [#1] SMP ", CPU,
        b"Krnl PSW : 0704c00180000000 0000000000112746 (oops_here+0x32/0x60)", *TRACE, b"---[ end trace 0000000000000000 ]---",
        b"Kernel panic - not syncing: Fatal exception: panic_on_oops")
    assert crash.panic == b"Kernel panic - not syncing: Fatal exception: panic_on_oops"
    assert crash.cause == (b"Unable to handle kernel pointer dereference in virtual kernel address space",
                           b"Oops: 0004 ilc:2 [#1] SMP")
    assert (crash.cpu, crash.pid, crash.task, crash.location) == (2, 77, b"my task", b"oops_here+0x32/0x60")
    assert crash.call_trace == (b"oops_here", b"perhaps")


def test_an_earlier_oops_is_not_the_reason_of_a_later_panic() -> None:
    crash = crash_of(b"kernel BUG at fs/inode.c:1", CPU, *TRACE, *PANIC)
    assert (crash.cpu, crash.cause, crash.call_trace[0]) == (1, (), b"dump_stack_lvl")


def test_a_warning_before_an_oops_is_forgotten() -> None:
    crash = crash_of(b"BUG: sleeping function called from invalid context", CPU, *TRACE, b"------------[ cut here ]------------",
                     b"kernel BUG at mm/slub.c:42!", b"Kernel panic - not syncing: Fatal exception")
    assert crash.cause == (b"kernel BUG at mm/slub.c:42!",)
    assert crash.cpu is None
    assert crash.call_trace == ()


def test_without_a_panic_there_is_no_reason_but_a_last_line() -> None:
    crash = crash_of(b"WARNING: something", CPU, *TRACE, b"the last words")
    assert (crash.panic, crash.cpu, crash.call_trace, crash.last_line) == (None, None, (), b"the last words")


def test_the_last_panic_line_counts() -> None:
    """Whoever may write to /dev/kmsg can imitate one, but not behind the real one."""
    crash = crash_of(b"Kernel panic - not syncing: a joke", b"CPU: 7 PID: 1 Comm: joker Not tainted 6", *PANIC)
    assert crash.panic == PANIC[2]
    assert crash.cpu == 1


def test_sysrq_alone() -> None:
    assert crash_of(b"sysrq: Trigger a crash").panic == b"sysrq: Trigger a crash"


def test_lines_are_cut() -> None:
    crash = crash_of(b"Kernel panic - not syncing: " + b"x" * 600, *[b"Call Trace:", *[b" [<000000000036baf6>] f+0x1/0x2"] * 100])
    assert crash.panic is not None
    assert len(crash.panic) == 256
    assert len(crash.call_trace) == 32


def test_all_lines_of_one_record_are_looked_at() -> None:
    assert crash_of(b"Kernel panic - not syncing: x\nCPU: 3 PID: 4 Comm: many lines Not tainted 6\nmore").task == b"many lines"


@pytest.mark.parametrize("count", [NEWEST - 1, NEWEST + 1, NEWEST * 3])
def test_of_a_long_ring_only_the_newest_are_read(count: int) -> None:
    log = log_of(ring(*[b"x"] * (count - len(PANIC)), *PANIC, size_bits=17, count_bits=12))
    crash = read_crash(log)
    assert isinstance(crash, Crash)
    assert (crash.records, crash.partial) == (min(count, NEWEST), count > NEWEST)
    assert (crash.panic, crash.cpu) == (PANIC[2], 1)


def test_an_old_log() -> None:
    log = RecordLog(size=1 << 14)
    for text in PANIC:
        log.log(text, 5)
    crash = read_crash(log_of(log))
    assert isinstance(crash, Crash)
    assert (crash.panic, crash.cpu, crash.records) == (PANIC[2], 1, len(PANIC))


def test_an_endless_old_log_is_given_up() -> None:
    log = RecordLog(size=1 << 20)
    for _ in range(20000):
        log.log(b"x")
    crash = read_crash(log_of(log))
    assert isinstance(crash, Absent)
    assert "vmcorefs dmesg" in crash.reason


def counted(log: Log) -> tuple[Log, list[int]]:
    sizes: list[int] = []

    def read(address: int, size: int) -> bytes:
        sizes.append(size)
        return log.read(address, size)
    return replace(log, read=read), sizes


def test_damaged_ends_of_a_huge_ring_are_not_searched() -> None:
    log = log_of(ring(*PANIC))
    assert isinstance(log, product.Ring)
    huge, sizes = counted(replace(log, count=1 << 24, tail=(log.head + 5) & ((1 << 62) - 1)))
    crash = read_crash(huge)
    assert isinstance(crash, Absent)
    assert "damaged" in crash.reason
    assert sizes == []


def test_damaged_ends_of_a_small_ring_are_searched() -> None:
    log = log_of(ring(*PANIC))
    assert isinstance(log, product.Ring)
    crash = read_crash(replace(log, tail=(log.head + 5) & ((1 << 62) - 1)))
    assert isinstance(crash, Crash)
    assert crash.panic == PANIC[2]


def test_reads_are_few() -> None:
    log, sizes = counted(log_of(ring(*[b"some text"] * 500, count_bits=10)))
    assert isinstance(read_crash(log), Crash)
    assert len(sizes) < 100


def test_nothing_readable_is_a_reason_not_an_error() -> None:
    def read(address: int, size: int) -> bytes:
        raise OldmemReadError("image", address, "bad sector", address=address)
    crash = read_crash(replace(log_of(ring(*PANIC)), read=read))
    assert isinstance(crash, Absent)
    assert "no record" in crash.reason


def test_blocks_at_the_edge_of_what_is_readable() -> None:
    """A block of 64 KiB that reaches into a bad page does not cost the good bytes before it."""
    good = log_of(ring(*PANIC))

    def read(address: int, size: int) -> bytes:
        if size >= 1 << 16:
            raise OldmemReadError("image", address, "bad sector", address=address)
        return good.read(address, size)
    crash = read_crash(replace(good, read=read))
    assert isinstance(crash, Crash)
    assert crash.panic == PANIC[2]


@pytest.mark.parametrize("name", [*gold_names(), "k61-plain"])
def test_it_says_of_real_logs_what_the_whole_log_says(name: str, expander: Expander) -> None:
    gold = expander(name)
    with vmcorefs.open(gold.image, **gold.options) as dump:
        log = find_dmesg(dump)
        assert not isinstance(log, Absent)
        whole, crash = summarize(log), read_crash(log)
    assert isinstance(crash, Crash)
    assert crash.panic == whole.panic_line == b"Kernel panic - not syncing: sysrq triggered crash"
    assert crash.last_timestamp == whole.last_timestamp
    assert not crash.damage
    assert crash.task is not None
    assert crash.call_trace[-1] == b"system_call"


