"""What a person reads: everything at hand without knowing the tool; colour and breaks only where they are asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Machine, cpus
from tests.gold.conftest import Expander
from tests.report.infos import MIB, PANIC, info_of, ring, utsname, with_log
from vmcorefs.report.text import Style, info_text

TITLES = ["What machine this was", "Why it died", "How to open it", "CPUs", "Memory", "How this was found out", "Is it sound?"]


def row(text: str, name: str) -> str:
    found = [line for line in text.splitlines() if line.startswith(f"  {name}:")]
    assert len(found) == 1, text
    return found[0]


def test_titles_in_the_order_of_the_questions(tmp_path: Path) -> None:
    lines = info_of(Machine().build(tmp_path)).as_text().splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == TITLES


def test_machine_reason_and_time(tmp_path: Path) -> None:
    text = info_of(with_log(tmp_path, ring(*PANIC), cpus=cpus(2), vmcoreinfo="BUILD-ID=cafe0123\n")).as_text()
    assert "Linux mainframe7 6.1.0 #1 SMP Wed Nov 25 s390x  [names in memory" in row(text, "system")
    assert "IBM 3931 A01 704 (LPAR)" in row(text, "hardware")
    assert "2026-11-25 16:15:49 UTC" in row(text, "when")
    assert "10.00 s" in row(text, "uptime")
    assert "Kernel panic - not syncing: sysrq triggered crash  [log" in row(text, "why")
    assert "on CPU 1, in task sh (PID 136)" in row(text, "where")
    assert "sysrq_handle_crash <- __handle_sysrq  [" in row(text, "call trace")
    assert "build id cafe0123" in row(text, "you need")


def test_the_cpu_that_panicked_is_marked_by_its_logical_number(tmp_path: Path) -> None:
    info = info_of(with_log(tmp_path, ring(*PANIC), cpus=cpus(3)))
    assert [(cpu.logical, cpu.panicked) for cpu in info.cpus] == [(0, False), (1, True), (2, False)]
    text = info.as_text()
    assert "this one panicked" in row(text, "CPU 2")
    assert text.count("this one panicked") == 1


def test_without_a_log_no_cpu_is_said_not_to_have_panicked(tmp_path: Path) -> None:
    assert [cpu.panicked for cpu in info_of(Machine(cpus=cpus(2)).build(tmp_path)).cpus] == [None, None]


@pytest.mark.parametrize(("mode", "reason"), [("plain", "starts a kdump kernel"), ("zfcpdump", "starts a kdump kernel")])
def test_without_a_crash_time_the_files_age_is_the_limit(tmp_path: Path, mode: str, reason: str) -> None:
    text = info_of(with_log(tmp_path, ring(*PANIC), mode=mode)).as_text()
    assert reason in row(text, "when")
    assert " UTC  [when the image file was last written]" in row(text, "not later than")


@pytest.mark.parametrize("value", ["0", "99999999999999", "-1", "x"])
def test_a_crash_time_that_is_none(tmp_path: Path, value: str) -> None:
    info = info_of(with_log(tmp_path, ring(*PANIC), mode="plain", vmcoreinfo=f"CRASHTIME={value}\n"))
    assert info.crash.time is None
    assert info.absent["crash.time"]


def test_control_characters_from_names_and_log_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = b"\x1b[31m\x07\xff"
    log = ring(b"Hardware name: " + evil, b"Kernel panic - not syncing: " + evil,
               b"CPU: 1 PID: 136 Comm: " + evil + b" Not tainted 6.1.0", b"Call Trace:",
               b" [<0000000000372d6a>] " + evil + b"+0x1/0x2")
    info = info_of(with_log(tmp_path, log, utsname(b"Linux", evil, b"6.1.0", evil, evil, evil)))
    assert info.system is not None
    assert info.crash.task is not None
    for text in (info.as_text(), info_text(info, Style(width=70))):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
        assert "\\x1b[31m" in text


def test_a_damaged_log_is_a_reason(tmp_path: Path) -> None:
    written = ring(*PANIC)
    built = with_log(tmp_path, written)
    built.poke_old(0x300000, b"\xff" * 8)  # the pointer prb
    info = info_of(built)
    assert info.crash.reason is None
    assert "cannot be read" in info.absent["log"]
    assert info.absent["log"] in row(info.as_text(), "why")


def test_memory_says_what_comes_from_where(tmp_path: Path) -> None:
    info = info_of(Machine(memory=((0, 4 * MIB), (6 * MIB, 9 * MIB))).build(tmp_path))
    kinds = [(m["start"] // MIB, m["end"] // MIB, m["kind"], m["source_offset"]) for m in info.memory]
    assert kinds == [(0, 1, "swapped", 2 * MIB), (1, 2, "direct", MIB), (2, 3, "crashkernel", None), (3, 4, "direct", 3 * MIB),
                     (4, 6, "hole", None), (6, 9, "direct", 6 * MIB)]
    text = info.as_text()
    for words in ("0x0-0x100000 (1 MiB) swapped: in oldmem.img at 0x200000", "(1 MiB) not served: crashkernel area",
                  "0x400000-0x600000 (2 MiB) hole: no memory", "0x600000-0x900000 (3 MiB) direct: in oldmem.img at 0x600000"):
        assert words in text
    hsa = info_of(Machine(mode="zfcpdump").build(tmp_path)).as_text()
    assert "0x0-0x100000 (1 MiB) HSA: in hsa.img at 0x0" in hsa


def test_long_lists_are_cut_in_the_text_only(tmp_path: Path) -> None:
    ranges = ((0, 4 * MIB), *((8 * MIB + i * 2 * MIB, 9 * MIB + i * 2 * MIB) for i in range(60)))
    info = info_of(Machine(memory=ranges, body_pages="none").build(tmp_path))
    assert len(info.memory) > 100
    assert len(info.as_text().splitlines()) < 90
    assert "see --json" in info.as_text()


def test_failed_checks_and_warnings_are_told(tmp_path: Path) -> None:
    info = info_of(Machine(os_info="bad_csum", mode="plain", stored_status=False).build(tmp_path))
    assert [row["name"] for row in info.checks.failed] == ["os_info", "cpus"]
    text = info.as_text()
    assert "2 failed" in row(text, "checks")
    assert "  failed:            os_info: os_info at" in text
    assert "warning:" not in text  # each of them is a failed check


def test_colour_is_only_paint(tmp_path: Path) -> None:
    info = info_of(with_log(tmp_path, ring(*PANIC)))
    plain, painted = info_text(info), info_text(info, Style(colour=True))
    assert "\x1b[" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain
    assert painted.count("\x1b[0m") == len(re.findall(r"\x1b\[[1-9]", painted))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_lines_are_broken_except_commands(tmp_path: Path, width: int) -> None:
    info = info_of(with_log(tmp_path, ring(*PANIC), cpus=cpus(2)))
    commands = {command.command for command in info.commands}
    for line in info_text(info, Style(width=width)).splitlines():
        if any(command in line for command in commands):
            continue
        assert len(line) <= width or len(line.split()) <= 2, line
    unbroken = " ".join(info_text(info).split())
    assert " ".join(info_text(info, Style(width=width)).split()) == unbroken


def test_a_real_machine_can_be_told_from_it_alone(expander: Expander) -> None:
    gold = expander("k61-smp4-offline")
    with vmcorefs.open(gold.image) as dump:
        text = dump.info().as_text()
    assert "Linux (none) 6.1.192-gold #1 SMP Wed Nov 25 16:00:56 UTC 2026 s390x" in row(text, "system")
    assert "2026-11-25 16:15:01 UTC" in row(text, "when")
    assert "on CPU 3, in task sh (PID 136)" in row(text, "where")
    assert "this one panicked" in row(text, "CPU 3")
    assert "0 failed" in row(text, "checks")


def test_a_zfcpdump_machine_stopped_in_a_disabled_wait(expander: Expander) -> None:
    gold = expander("k61-zfcpdump")
    with vmcorefs.open(gold.image, **gold.options) as dump:
        text = dump.info().as_text()
    assert "disabled wait: stopped for good; this one panicked" in row(text, "CPU 1")
