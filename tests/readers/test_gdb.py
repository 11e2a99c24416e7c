"""GDB's `target core`: threads, registers and memory. Of physical memory it knows only that p_vaddr is the address."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from .gold import PLAIN, Gold
from .installed import program
from .kernel_notes import cpu_notes

NAMES = ("k61-smp1", "k61-smp4-offline", "k61-text", "k61-zfcpdump-smp3", "k612-smp2")
REGISTER = re.compile(r"^(\w+)\s+0x([0-9a-f]+)\s", re.MULTILINE)


def gdb(gold: Gold, *commands: str) -> str:
    """What GDB says to *commands*, with the kernel's symbols where KASLR put them; stderr too, where its warnings are."""
    first = ("set debuginfod enabled off", "set confirm off", f"symbol-file -o {gold.kernel_offset:#x} {gold.vmlinux}",
             f"target core {gold.vmcore}")
    arguments = [word for command in (*first, *commands) for word in ("-ex", command)]
    answer = subprocess.run([program("gdb-multiarch"), "-nx", "-batch", *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
                            env=os.environ | {"LC_ALL": "C", "DEBUGINFOD_URLS": ""})
    assert answer.returncode == 0, answer.stdout
    return answer.stdout


@pytest.mark.parametrize("gold", NAMES, indirect=True)
def test_a_thread_for_every_cpu(gold: Gold) -> None:
    text = gdb(gold, "info threads")
    assert len(re.findall(r"^\[New LWP \d+\]$", text, re.MULTILINE)) == gold.online
    assert re.findall(r"^[* ] \d+ +LWP (\d+) ", text, re.MULTILINE) == [str(cpu + 1) for cpu in range(gold.online)]
    frame = "disabled_wait" if gold.about["mode"] == "zfcpdump" else "__do_machine_kdump"
    assert re.search(rf"^\* 1 +LWP 1 +(0x\w+ in )?{frame} \(", text, re.MULTILINE)
    assert "warning" not in text


@pytest.mark.parametrize("gold", NAMES, indirect=True)
def test_registers(gold: Gold) -> None:
    """Of every thread, those that the kernel's own header has in NT_PRSTATUS and NT_FPREGSET."""
    blocks = re.split(r"^Thread (\d+) \(LWP \d+\):$", gdb(gold, "thread apply all -ascending info registers"), flags=re.MULTILINE)
    threads = {int(number): {name: int(value, 16) for name, value in REGISTER.findall(text)}
               for number, text in zip(blocks[1::2], blocks[2::2], strict=True)}
    wanted = {cpu.pid: cpu.registers for cpu in cpu_notes(gold.header)}
    assert {number: {name: registers[name] for name in wanted[number]} for number, registers in threads.items()} == wanted


@pytest.mark.parametrize("gold", [*NAMES, PLAIN], indirect=True)
def test_memory(gold: Gold) -> None:
    text = gdb(gold, 'printf "banner %s", linux_banner', f"x/s {gold.banner_address:#x}", "p init_task.comm")
    banner = gold.banner.decode()
    assert f"\nbanner {banner}" in text
    assert f'{gold.banner_address:#x} <linux_banner>:\t"{banner}' in text
    assert '"swapper/0' in text


@pytest.mark.parametrize("gold", ["k61-smp4-offline"], indirect=True)
def test_stacks(gold: Gold) -> None:
    """The boot CPU's stack lies where p_vaddr says. CPU 3, third thread, crashed: its stack is in vmalloc space, so GDB, which
    reads no page tables, knows the first frame only.
    """
    _, first, third = re.split(r"^Thread \d .*$", gdb(gold, "thread apply 1 bt 3", "thread apply 3 bt 1"), flags=re.MULTILINE)
    frames = re.findall(r"^#\d+ +(?:0x\w+ in )?(\w+) \(", first, re.MULTILINE)
    assert frames[:3] == ["__do_machine_kdump", "__machine_kdump", "__machine_kexec"]
    assert re.search(r"^#0 .*pcpu_delegate \(", third, re.MULTILINE)


@pytest.mark.parametrize("gold", [PLAIN], indirect=True)
def test_plain_is_a_process_without_registers(gold: Gold) -> None:
    text = gdb(gold, "info threads", "p $pswa")
    assert "warning: Couldn't find general-purpose registers in core file." in text
    assert re.search(r"^\* 1 +process 1 +<unavailable> in \?\? \(\)$", text, re.MULTILINE)
    assert "$1 = <unavailable>" in text
    assert "[New LWP" not in text
