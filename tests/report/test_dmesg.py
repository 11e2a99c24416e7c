"""The log as text: bytes of makedumpfile 1.7.2 on every full capture, and its rules one by one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vmcorefs
from tests.builders.printk import RecordLog, Ring
from tests.gold.conftest import GOLD, gold_names
from tests.s390.fake_memory import FakeMemory
from vmcorefs.report.dmesg import find_dmesg, format_record, last_timestamp, lines, panic_line, summarize
from vmcorefs.s390 import Absent
from vmcorefs.s390.printk import Damage, Log, Record, read_log
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

PLAIN = "k61-plain"


def log_of(written: Ring | RecordLog) -> Log:
    placed = written.place(0x1000)
    memory = FakeMemory()
    for address, data in placed.pieces:
        memory.put(address, data)
    log = read_log(memory.read, Vmcoreinfo(placed.lines.encode(), "lowcore"))
    assert not isinstance(log, Absent)
    return log


def ring_of(*texts: bytes) -> Log:
    ring = Ring(size_bits=12)
    for i, text in enumerate(texts):
        ring.log(text, i * 1_000_000_000)
    return log_of(ring)


# -- makedumpfile's rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nanoseconds", "prefix"), [
    (0, b"[    0.000000] "), (999, b"[    0.000000] "), (1_999_999, b"[    0.001999] "), (12_345_678_901_234, b"[12345.678901] "),
    (123_456 * 10**9, b"[123456.000000] "), ((1 << 64) - 1, b"[18446744073.709551] "),
])
def test_time(nanoseconds: int, prefix: bytes) -> None:
    assert format_record(Record(nanoseconds, b"x")) == prefix + b"x\n"


@pytest.mark.parametrize(("text", "printed"), [
    (b"", b""),
    (b"a\nb\n\nc", b"a\n               b\n               \n               c"),
    (b"tab\t, \x0b \x0c \r are white space", b"tab\t, \x0b \x0c \r are white space"),
    ("größe".encode(), b"gr\\xc3\\xb6\\xc3\\x9fe"),
    (b"\0\x01\x1b[31m\x7f\x80\xff", b"\\x00\\x01\\x1b[31m\\x7f\\x80\\xff"),
    (b"back\\slash stays \\x41", b"back\\slash stays \\x41"),
])
def test_text(text: bytes, printed: bytes) -> None:
    assert format_record(Record(5_000_000, text)) == b"[    0.005000] " + printed + b"\n"


@pytest.mark.parametrize(("caller", "printed"), [
    (0, b"[      T0] "), (1234567, b"[T1234567] "), (123456789, b"[T123456789] "), (0x80000000, b"[      C0] "),
    (0x800000FF, b"[    C255] "), (None, b""),
])
def test_callers(caller: int | None, printed: bytes) -> None:
    """As makedumpfile 1.7.5; further lines are indented that much more."""
    record = Record(0, b"a\nb", caller)
    indent = b" " * (15 + len(printed))
    assert format_record(record, callers=True) == b"[    0.000000] " + printed + b"a\n" + indent + b"b\n"
    assert format_record(record) == b"[    0.000000] a\n               b\n"


def test_lines_of_both_kinds() -> None:
    ring, buffer = Ring(), RecordLog(caller=True)
    for log in (ring, buffer):
        log.log(b"one", 1_000, 7)
        log.log(b"two", 2_000, 0x80000001)
    for written in (ring, buffer):
        damage = Damage()
        assert b"".join(lines(log_of(written), damage)) == b"[    0.000001] one\n[    0.000002] two\n"
        assert not damage
        assert b"".join(lines(log_of(written), damage, callers=True)) == (
            b"[    0.000001] [      T7] one\n[    0.000002] [      C1] two\n")


@pytest.mark.parametrize("written", [Ring(), RecordLog()])
def test_an_empty_log_is_said_to_be_empty(written: Ring | RecordLog) -> None:
    damage = Damage()
    assert list(lines(log_of(written), damage)) == []
    assert str(damage) == "there is no record in it: the log is empty"


# -- the end of the system --------------------------------------------------------------------------------------------------


def test_panic() -> None:
    log = ring_of(b"boot", b"sysrq: Trigger a crash", b"Kernel panic - not syncing: sysrq triggered crash", b"Call Trace:")
    assert panic_line(log) == b"Kernel panic - not syncing: sysrq triggered crash"
    assert last_timestamp(log) == 3_000_000_000
    summary = summarize(log)
    assert (summary.records, summary.panic_line, summary.last_timestamp) == (4, panic_line(log), last_timestamp(log))
    assert not summary.damage


def test_sysrq_without_panic() -> None:
    assert panic_line(ring_of(b"a", b"sysrq: Trigger a crash", b"b")) == b"sysrq: Trigger a crash"


def test_no_panic() -> None:
    log = ring_of(b"a", b"---[ end Kernel panic - not syncing: x ]---", b"say: Kernel panic - not syncing: no")
    assert panic_line(log) is None
    assert panic_line(ring_of()) is None
    assert last_timestamp(ring_of()) is None


def test_panic_line_is_one_printable_line_and_the_last() -> None:
    log = ring_of(b"Kernel panic - not syncing: imitated", b"Kernel panic - not syncing: \x1b[2Jreal\n second", b"trace")
    assert panic_line(log) == b"Kernel panic - not syncing: \\x1b[2Jreal"


# -- the full captures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All images, expanded at once; gone afterwards."""
    if GOLD is None:
        pytest.skip("VMCOREFS_GOLD is not set: no full captures")
    directory = tmp_path_factory.mktemp("dmesg")

    def expand(name: str) -> None:
        assert GOLD is not None
        subprocess.run([sys.executable, GOLD / "expand.py", GOLD / name, directory / name], check=True, stdout=subprocess.DEVNULL)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(expand, [*gold_names(), PLAIN]))
    yield directory
    shutil.rmtree(directory)


def printed(folder: Path) -> bytes:
    hsa = folder / "hsa.img"
    with vmcorefs.open(folder / "oldmem.img", **({"hsa": str(hsa)} if hsa.exists() else {})) as dump:
        log = find_dmesg(dump)
        assert not isinstance(log, Absent), log.reason
        damage = Damage()
        text = b"".join(lines(log, damage))
        assert not damage, str(damage)
        summary = summarize(log)
        assert summary.panic_line == b"Kernel panic - not syncing: sysrq triggered crash"
        assert summary.records == text.count(b"\n[") + 1
        last = re.match(rb"\[ *(\d+)\.(\d+)\]", text.splitlines()[-1])
        assert last is not None
        assert summary.last_timestamp is not None
        assert summary.last_timestamp // 1000 == int(last[1] + last[2])
        return text


@pytest.mark.parametrize("name", gold_names())
def test_captures_give_what_makedumpfile_gives(captures: Path, name: str) -> None:
    assert GOLD is not None
    text = printed(captures / name)
    assert text == (GOLD / name / "vmcore-dmesg.txt").read_bytes()


def test_callers_of_a_capture(captures: Path) -> None:
    """The call trace comes from init, the boot messages from task 0."""
    with vmcorefs.open(captures / PLAIN / "oldmem.img") as dump:
        log = find_dmesg(dump)
        assert not isinstance(log, Absent)
        got = list(lines(log, Damage(), callers=True))
    assert b"] [      T0] Linux version 6.1.192-gold " in got[0]
    assert b"] [      T1] Kernel panic - not syncing: sysrq triggered crash\n" in next(line for line in got if b"panic" in line)


def test_plain_capture_has_what_the_kernel_itself_said_and_then_the_panic(captures: Path) -> None:
    """dmesg-raw.txt was taken a moment before the crash; it has levels in front, and bytes as they are."""
    assert GOLD is not None
    text = printed(captures / PLAIN)
    before = re.sub(rb"^<\d+>", b"", (GOLD / PLAIN / "dmesg-raw.txt").read_bytes(), flags=re.MULTILINE)
    before = re.sub(rb"[^\x20-\x7e\n\t]", lambda byte: b"\\x%02x" % byte[0][0], before)
    assert text.startswith(before)
    after = text[len(before):].splitlines()
    assert after[0].endswith(b"] sysrq: Trigger a crash")
    assert after[1].endswith(b"] Kernel panic - not syncing: sysrq triggered crash")
    assert b"system_call+" in after[-1]
