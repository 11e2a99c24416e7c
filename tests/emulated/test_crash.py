"""crash shows the stacks, tasks and log of our mounts as it shows those of the kernel's own files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .emulator import Pair

COMMANDS = "bt\nps\nlog\nquit\n"

# What ran when the machine crashed: (process, CPU, command). crash 8.0.2 finds no others (it looks for a hash of processes that
# this kernel has no more), in the kernel's own files neither.
RUNNING = {
    "k61-smp1": {(1, 0, "init")},
    "k61-smp4-offline": {(77, 0, "regspin-vx"), (78, 1, "regspin-vx"), (136, 3, "sh")},
    "k61-zfcpdump-smp3": {(1, 0, "init"), (71, 1, "regspin-vx"), (73, 2, "regspin-vx")},
}
_TASK = re.compile(r"^> +([1-9]\d*) +-?\d+ +(\d+) +[0-9a-f]+ +RU .* (\S+)$", re.MULTILINE)
_FRAME = re.compile(r"^ *#\d+ \[[0-9a-f]+\] (\w+) at [0-9a-f]+$", re.MULTILINE)
_LOG = re.compile(r"^\[ *\d+\.\d{6}\] .*\n", re.MULTILINE)


@pytest.mark.parametrize("pair", RUNNING, indirect=True)
def test_bt_ps_log(pair: Pair, vmlinux: Path) -> None:
    ours, theirs = pair.both("crash", "-s", vmlinux, "vmcore", stdin=COMMANDS)
    assert ours == theirs
    assert ours.status == 0, ours.text

    tasks = {(int(process), int(cpu), command) for process, cpu, command in _TASK.findall(ours.text)}
    assert tasks == RUNNING[pair.gold.name]
    before = {int(line.split()[0]): line for line in pair.gold.text("ps.txt").splitlines()[1:]}
    assert all(command in before[process] for process, _, command in tasks if process in before)

    frames = _FRAME.findall(ours.text)
    at = frames.index("panic")
    assert frames[at:at + 4] == ["panic", "sysrq_handle_crash", "__handle_sysrq", "write_sysrq_trigger"]
    assert frames[-1] == "system_call"

    log = [line for line in _LOG.findall(pair.gold.text("vmcore-dmesg.txt")) if "\\x" not in line]  # which crash has as dots
    assert any("Kernel panic - not syncing: sysrq triggered crash" in line for line in log)
    assert set(log) <= set(_LOG.findall(ours.text))


@pytest.mark.parametrize("pair", ["k612-smp2"], indirect=True)
def test_stumbles_over_612_as_over_the_kernels_own_file(pair: Pair) -> None:
    """It takes the kernel's addresses for physical ones, which they are no more."""
    ours, theirs = pair.both("crash", "-s", pair.gold.vmlinux, "vmcore", stdin=COMMANDS)
    assert ours == theirs
    assert ours.status == 1
    assert "read error: kernel virtual address" in ours.text
    assert "linux_banner" in ours.text
