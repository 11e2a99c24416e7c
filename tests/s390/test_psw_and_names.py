"""PSWs in words; the system's names and the end of its memory, found by VMCOREINFO."""

from __future__ import annotations

import struct

import pytest

from vmcorefs.s390 import Absent
from vmcorefs.s390.high_memory import read_high_memory
from vmcorefs.s390.psw import describe_psw
from vmcorefs.s390.utsname import read_utsname
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

from .fake_memory import FakeMemory


@pytest.mark.parametrize(("mask", "words"), [
    ("0002000180000000", "disabled wait: stopped for good"),  # captures k61-zfcpdump
    ("0006000180000000", "disabled wait: stopped for good"),  # machine checks still enabled
    ("0706c00180000000", "enabled wait: idle"),
    ("0302000180000000", "enabled wait: idle"),
    ("0404c00180000000", "running the kernel, interrupts off"),
    ("0704c00180000000", "running the kernel"),
    ("0604c00180000000", "running the kernel"),
    ("0705200180000000", "running a user program"),
    ("0000000000000001", "running the kernel, interrupts off"),
])
def test_psw(mask: str, words: str) -> None:
    assert describe_psw(bytes.fromhex(mask) + struct.pack(">Q", 0x110078)) == words


def test_psw_that_nobody_stored() -> None:
    assert describe_psw(bytes(16)) == "all zeros: not stored"


def info(text: str) -> Vmcoreinfo:
    return Vmcoreinfo(text.encode(), "lowcore")


NAMES = [b"Linux", b"node", b"6.12.0", b"#1", b"s390x", b"(none)"]


def memory_with(names: list[bytes], address: int = 0x2004) -> FakeMemory:
    memory = FakeMemory(0x4000)
    memory.put(address, b"".join(name.ljust(65, b"\0") for name in names))
    return memory


def test_names() -> None:
    found = read_utsname(memory_with(NAMES).read, info("SYMBOL(init_uts_ns)=2000\nOFFSET(uts_namespace.name)=4\n"))
    assert found == tuple(NAMES)


def test_names_of_a_kernel_that_is_mapped_elsewhere() -> None:
    text = "SYMBOL(init_uts_ns)=3ffe0002000\nOFFSET(uts_namespace.name)=4\nKERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=1000\n"
    assert read_utsname(memory_with(NAMES, 0x3004).read, info(text)) == tuple(NAMES)


def test_names_fill_their_fields() -> None:
    found = read_utsname(memory_with([b"Linux", b"x" * 65, *NAMES[2:]]).read,
                         info("SYMBOL(init_uts_ns)=2000\nOFFSET(uts_namespace.name)=4\n"))
    assert not isinstance(found, Absent)
    assert found.nodename == b"x" * 65


@pytest.mark.parametrize(("text", "reason"), [
    ("", "does not say where"), ("SYMBOL(init_uts_ns)=2000\n", "does not say where"),
    ("SYMBOL(init_uts_ns)=2000\nOFFSET(uts_namespace.name)=99999\n", "does not say where"),
    ("SYMBOL(init_uts_ns)=2005\nOFFSET(uts_namespace.name)=0\n", "no system's names are at 0x2005"),
    ("SYMBOL(init_uts_ns)=100\nOFFSET(uts_namespace.name)=0\n", "all zeros"),
    ("SYMBOL(init_uts_ns)=3fff\nOFFSET(uts_namespace.name)=0\n", "cannot be read"),
    ("SYMBOL(init_uts_ns)=ffffffffffffffff\nOFFSET(uts_namespace.name)=4\n", "cannot be read"),
])
def test_names_that_are_not_there(text: str, reason: str) -> None:
    found = read_utsname(memory_with(NAMES).read, info(text))
    assert isinstance(found, Absent)
    assert reason in found.reason


@pytest.mark.parametrize(("value", "end"), [(0x100000, 0x100000), (0, None), (0x1001, None), (1 << 60, None)])
def test_high_memory(value: int, end: int | None) -> None:
    memory = FakeMemory(0x4000)
    memory.put_u64(0x3008, value)
    found = read_high_memory(memory.read, info("SYMBOL(high_memory)=3008\n"))
    assert found == end if end is not None else isinstance(found, Absent)


def test_high_memory_is_a_virtual_address() -> None:
    memory = FakeMemory(0x4000)
    memory.put_u64(0x3008, 1 << 55)
    text = "SYMBOL(high_memory)=3ffe0002008\nKERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=1000\nIDENTITYBASE=0\n"
    assert isinstance(read_high_memory(memory.read, info(text)), Absent)
    memory.put_u64(0x3008, 0x240000000)
    assert read_high_memory(memory.read, info(text.replace("IDENTITYBASE=0", "IDENTITYBASE=200000000"))) == 0x40000000


def test_high_memory_that_nothing_names_or_nobody_can_read() -> None:
    assert isinstance(read_high_memory(FakeMemory(0x4000).read, info("")), Absent)
    assert isinstance(read_high_memory(FakeMemory(0x4000).read, info("SYMBOL(high_memory)=3ffc\n")), Absent)
