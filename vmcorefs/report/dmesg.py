"""The crashed kernel's log as text: byte for byte what ``makedumpfile --dump-dmesg`` prints of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmcorefs.s390 import Absent
from vmcorefs.s390.printk import Damage, Log, Record, read_log

if TYPE_CHECKING:
    from vmcorefs.dump import Dump

# makedumpfile's printk.c (dump_record) and makedumpfile.c (dump_log_entry): isprint and isspace of the C locale go out as they
# are. Its char is unsigned, since it runs on s390x: \xc3, not \xffffffc3.
_SPECIAL = re.compile(rb"[^\x20-\x7e\t\v\f\r]")
_CALLER_CPU = 1 << 31

# kernel/panic.c: panic; drivers/tty/sysrq.c: sysrq_handle_crash
_PANIC = b"Kernel panic - not syncing"
_SYSRQ = b"sysrq: Trigger a crash"


def find_dmesg(dump: Dump) -> Log | Absent:
    """The log of the crashed system in *dump*."""
    if dump.vmcoreinfo is None:
        found = dump.metadata.found_vmcoreinfo
        reason = found.reason if isinstance(found, Absent) else "no VMCOREINFO"
        return Absent(f"no log: VMCOREINFO alone leads to it, and there is {reason}; "
                      "give its text with --vmcoreinfo FILE if you have it")
    return read_log(dump.oldmem.read, dump.vmcoreinfo)


def lines(log: Log, damage: Damage, *, callers: bool = False) -> Iterator[bytes]:
    """The log, a record at a time; *damage* tells afterwards what is missing. An empty log is damage, too: no kernel has one."""
    empty = True
    for record in log.records(damage):
        empty = False
        yield format_record(record, callers=callers)
    if empty:
        damage.add("there is no record in it", "the log is empty")


def format_record(record: Record, *, callers: bool = False) -> bytes:
    r"""One record with its prefix; further lines are indented, bytes that are not printable become ``\xNN``.

    *callers*: with the task or CPU that logged it, as makedumpfile prints from 1.7.5 on (commit 48bb1e089056 "add
    PRINTK_CALLER id support to --dump-dmesg option").
    """
    seconds, rest = divmod(record.ts_nsec, 1_000_000_000)
    prefix = b"[%5d.%06d] " % (seconds, rest // 1000)
    if callers and record.caller_id is not None:
        kind = b"C" if record.caller_id & _CALLER_CPU else b"T"
        prefix += b"[%8b] " % (kind + b"%d" % (record.caller_id & ~_CALLER_CPU))
    return prefix + _escape(record.text, b"\n" + b" " * len(prefix)) + b"\n"


def _escape(text: bytes, newline: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: newline if found[0] == b"\n" else b"\\x%02x" % found[0][0], text)


@dataclass(frozen=True)
class Summary:
    """What a log says about the end. *last_timestamp* in nanoseconds since boot; None if there is no record."""

    records: int
    panic_line: bytes | None
    last_timestamp: int | None
    damage: Damage = field(compare=False)


def summarize(log: Log) -> Summary:
    """One pass over the log.

    The panic line is the last one that begins as the kernel's does: whoever writes to /dev/kmsg can imitate it, but not
    behind the real one.
    """
    damage, count, panic, sysrq, last = Damage(), 0, None, None, None
    for record in log.records(damage):
        count += 1
        last = record.ts_nsec
        if record.text.startswith(_PANIC):
            panic = record.text
        elif record.text.startswith(_SYSRQ):
            sysrq = record.text
    why = panic or sysrq
    return Summary(count, None if why is None else _escape(why.split(b"\n", 1)[0], b"").rstrip(), last, damage)


def panic_line(log: Log) -> bytes | None:
    """``Kernel panic - not syncing: ...``, else ``sysrq: Trigger a crash``, else None."""
    return summarize(log).panic_line


def last_timestamp(log: Log) -> int | None:
    """When the last record was logged, in nanoseconds since boot: the uptime at the crash, nearly."""
    return summarize(log).last_timestamp


def dmesg_text(dump: Dump) -> bytes | None:
    """The whole log for a file; None where there is none. What is missing in it only ``vmcorefs dmesg`` tells."""
    found = find_dmesg(dump)
    return None if isinstance(found, Absent) else b"".join(lines(found, Damage()))
