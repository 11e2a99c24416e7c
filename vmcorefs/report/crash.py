"""Crash: why the system died, as the newest records of its log tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.printk import Damage, Log, Record, RecordBuffer, Ring

NEWEST = 1024
"""How many of the newest records are looked at: enough for what a kernel prints when it dies, and quick on any log."""
_WALK_LIMIT = 16384  # records of the older buffer, which can be walked from its beginning only
_SEARCH_LIMIT = 8192  # descriptors that are searched where the ring's ends are damaged
_TEXT_LIMIT = 8192  # of a record
_LINE_LIMIT = 256
_TRACE_LIMIT = 32
_CAUSE_LIMIT = 4
_ID_MASK = (1 << 62) - 1  # printk_ringbuffer.h: DESC_ID_MASK

# kernel/panic.c: panic; drivers/tty/sysrq.c: sysrq_handle_crash
_PANIC = b"Kernel panic - not syncing"
_SYSRQ = b"sysrq: Trigger a crash"
_CUT_HERE = b"------------[ cut here ]"
# lib/dump_stack.c: dump_stack_print_info, with "UID: " since 6.12
_CPU = re.compile(rb"CPU: (\d{1,5}) (?:UID: \d+ )?PID: (\d+) Comm: (.{1,16}?) (?:Kdump: |Not tainted|Tainted: )")
_HARDWARE = re.compile(rb"Hardware name: (.+)")
# arch/s390/kernel/dumpstack.c: show_stack, die; mm/fault.c; lib/bug.c; kernel/watchdog.c
_FRAME = re.compile(rb"\s*\(?\[<[0-9a-f]{8,16}>\] ([^\s+]+)")
_KERNEL_PSW = re.compile(rb"Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \((.+)\)")
_CAUSE = re.compile(rb"Unable to handle kernel |kernel BUG at |BUG: |watchdog: BUG: |Internal error|Out of memory and no killable"
                    rb"|[a-z][\w .-]*: [0-9a-f]{4} ilc:\d \[#\d+\]", re.IGNORECASE)


@dataclass(frozen=True)
class Crash:
    """*records*: how many were looked at; *partial*: older ones were not. Bytes are as they are in the log, cut to 256."""

    records: int = 0
    partial: bool = False
    panic: bytes | None = None
    cause: tuple[bytes, ...] = ()
    cpu: int | None = None
    pid: int | None = None
    task: bytes | None = None
    location: bytes | None = None
    call_trace: tuple[bytes, ...] = ()
    hardware: bytes | None = None
    last_timestamp: int | None = None
    last_line: bytes | None = None
    damage: Damage = field(default_factory=Damage, compare=False)


def read_crash(log: Log) -> Crash | Absent:
    """What the newest records of *log* say; bounded work, whatever the size or the damage of the log."""
    newest = _newest(log)
    if isinstance(newest, Absent):
        return newest
    log, partial = newest
    damage, end = Damage(), _End()
    for record in log.records(damage):
        end.see(record)
        if isinstance(log, RecordBuffer) and end.records >= _WALK_LIMIT:
            return Absent(f"the log has more than {_WALK_LIMIT} records, and its newest cannot be reached without all of them; "
                          "vmcorefs dmesg prints it")
    if not end.records:
        return Absent("no record of the log can be read" + (f" ({damage})" if damage else ""))
    return end.told(partial=partial, damage=damage)


def _newest(log: Log) -> tuple[Log, bool] | Absent:
    """The same log, read in larger pieces, from its newest records on; and whether older ones are left out."""
    log = replace(log, read=_Blocks(log.read).read)
    if not isinstance(log, Ring):
        return log, False
    length = ((log.head - log.tail) & _ID_MASK) + 1
    if length > log.count and log.count > _SEARCH_LIMIT:
        return Absent(f"the ends of the log's ring are damaged; vmcorefs dmesg searches all of its {log.count} descriptors")
    if length > log.count or length <= NEWEST:
        return log, False
    return replace(log, tail=(log.head - NEWEST + 1) & _ID_MASK), True


class _Blocks:
    """Reads of neighbours in one: the last few blocks are kept. What cannot be read as a block is read as it was asked for."""

    _SIZE = 1 << 16
    _KEPT = 8

    def __init__(self, read: Read):
        self._read = read
        self._blocks: dict[int, bytes | None] = {}

    def read(self, address: int, size: int) -> bytes:
        first = address - address % self._SIZE
        at = address - first
        block = self._block(first) if at + size <= self._SIZE else None
        return self._read(address, size) if block is None else block[at:at + size]

    def _block(self, first: int) -> bytes | None:
        if first not in self._blocks:
            if len(self._blocks) >= self._KEPT:
                del self._blocks[next(iter(self._blocks))]
            try:
                self._blocks[first] = self._read(first, self._SIZE)
            except OldmemReadError:
                self._blocks[first] = None
        return self._blocks[first]


class _End:
    """One pass over records. What a stack dump says counts if it comes behind the panic line; an oops prints its own before."""

    def __init__(self) -> None:
        self.records = 0
        self._last: Record | None = None
        self._panic: bytes | None = None
        self._sysrq: bytes | None = None
        self._hardware: bytes | None = None
        self._before, self._after = _Dump(), _Dump()

    def see(self, record: Record) -> None:
        self.records += 1
        self._last = record
        for line in record.text[:_TEXT_LIMIT].split(b"\n"):
            self._line(line[:_LINE_LIMIT * 2])

    def _line(self, line: bytes) -> None:
        if line.startswith(_PANIC):
            # The last one counts: whoever writes to /dev/kmsg can imitate it, but not behind the real one.
            if self._panic is not None:
                self._before, self._after = self._before if self._after.cpu is None else self._after, _Dump()
            self._panic = line
            return
        if line.startswith(_SYSRQ):
            self._sysrq = line
        elif found := _HARDWARE.match(line):
            self._hardware = found[1]
        if self._panic is None and line.startswith(_CUT_HERE):
            self._before = _Dump()
        (self._before if self._panic is None else self._after).line(line)

    def told(self, *, partial: bool, damage: Damage) -> Crash:
        last = self._last
        assert last is not None
        own = self._panic is None or self._after.cpu is not None or bool(self._after.frames)
        dump = self._after if self._panic is not None and own else self._before
        if self._panic is None and self._sysrq is None and not dump.cause:
            dump = _Dump()  # an old warning's
        return Crash(
            records=self.records, partial=partial, panic=_cut(self._panic or self._sysrq),
            cause=tuple(_line(c) for c in dump.cause), cpu=dump.cpu, pid=dump.pid, task=_cut(dump.task),
            location=_cut(dump.location), call_trace=tuple(_line(f) for f in dump.frames), hardware=_cut(self._hardware),
            last_timestamp=last.ts_nsec, last_line=_line(last.text.split(b"\n", 1)[0]), damage=damage)


class _Dump:
    """What a stack dump says."""

    def __init__(self) -> None:
        self.cause: list[bytes] = []
        self.cpu: int | None = None
        self.pid: int | None = None
        self.task: bytes | None = None
        self.location: bytes | None = None
        self.frames: list[bytes] = []
        self._in_trace = False

    def line(self, line: bytes) -> None:
        if line.startswith(b"Call Trace:"):
            self.frames, self._in_trace = [], True
        elif self._in_trace and (frame := _FRAME.match(line)):
            if len(self.frames) < _TRACE_LIMIT:
                self.frames.append(frame[1])
        else:
            self._in_trace = False
            self._other(line)

    def _other(self, line: bytes) -> None:
        if found := _CPU.match(line):
            self.cpu, self.pid, self.task = int(found[1]), int(found[2]), found[3]
        elif found := _KERNEL_PSW.match(line):
            self.location = found[1]
        elif _CAUSE.match(line) and len(self.cause) < _CAUSE_LIMIT:
            self.cause.append(line)


def _cut(line: bytes | None) -> bytes | None:
    return None if line is None else _line(line)


def _line(line: bytes) -> bytes:
    return line[:_LINE_LIMIT].rstrip()


def frames_worth_showing(frames: tuple[str, ...] | list[str]) -> Iterator[str]:
    """Without what every panic has on top."""
    worth = False
    for frame in frames:
        worth = worth or frame not in {"dump_stack", "dump_stack_lvl", "panic", "vpanic", "show_stack"}
        if worth:
            yield frame
