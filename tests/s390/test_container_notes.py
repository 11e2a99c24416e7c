"""CPUs as a container states them: ELF notes, or the prefixes in an s390 dump's header."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.builders.notes import cpu_notes
from tests.builders.registers import CpuState, Registers
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390.container_notes import RawNote, from_notes, from_prefixes
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

PREFIXES = (0x20000, 0x24000)
CPUS = [CpuState(prefix, Registers.from_seed(prefix)) for prefix in PREFIXES]


def split(data: bytes) -> Iterator[RawNote]:
    at = 0
    while at < len(data):
        namesz, descsz, kind = struct.unpack_from(">III", data, at)
        start = at + 12 + -(-namesz // 4) * 4
        yield data[at + 12:at + 12 + namesz - 1], kind, data[start:start + descsz]
        at = start + -(-descsz // 4) * 4


def notes_of(*cpus: CpuState, vector: bool = True, todpreg_size: int = 4) -> list[list[RawNote]]:
    return [list(split(cpu_notes(cpu, number, vector, todpreg_size))) for number, cpu in enumerate(cpus, 1)]


@pytest.mark.parametrize("todpreg_size", [4, 8])
@pytest.mark.parametrize("vector", [True, False])
def test_every_register(vector: bool, todpreg_size: int) -> None:
    found = from_notes(notes_of(*CPUS, vector=vector, todpreg_size=todpreg_size), "dump", FakeMemory().read, None, whole_todcmp=False)
    assert (found.incomplete, found.in_memory, found.cpus.left_out) == ((), {}, ())
    assert found.cpus.origin == "container's notes"
    assert (found.cpus.vector_reason is None) == vector
    for cpu, wanted in zip(found.cpus.cpus, CPUS, strict=True):
        r, area = wanted.registers, cpu.save_area
        assert (area.psw, area.gprs, area.acrs, area.fprs, area.fpc, area.ctrs) == (r.psw, r.gprs, r.acrs, r.fprs, r.fpc, r.ctrs)
        assert (area.todpreg, area.timer, area.todcmp, area.prefix_address) == (r.todpreg, r.timer, r.todcmp, wanted.prefix)
        assert (area.vxrs_low, area.vxrs_high) == ((r.vxrs_low, r.vxrs_high) if vector else (None, None))


def test_qemus_clock_comparator_is_shifted_as_store_status_does() -> None:
    notes = [[(name, kind, bytes.fromhex("e3a2c392effc0806") if kind == 0x302 else desc) for name, kind, desc in own]
             for own in notes_of(CPUS[0])]
    (cpu,) = from_notes(notes, "dump", FakeMemory().read, None, whole_todcmp=True).cpus.cpus
    assert cpu.save_area.todcmp == bytes.fromhex("00e3a2c392effc08")


def test_a_cpu_that_was_never_started_has_no_notes() -> None:
    never = CpuState(0, Registers.from_seed(9))
    found = from_notes(notes_of(CPUS[0], never, CPUS[1]), "dump", FakeMemory().read, None, whole_todcmp=True)
    assert [cpu.save_area.prefix_address for cpu in found.cpus.cpus] == list(PREFIXES)
    assert found.cpus.left_out == ()


def test_a_cpu_without_a_lowcore_was_offline() -> None:
    memory = FakeMemory()
    memory.put_u64(0x5000, PREFIXES[1], 0)
    info = Vmcoreinfo(b"OSRELEASE=6.1.0\nSYMBOL(lowcore_ptr)=5000\nLENGTH(lowcore_ptr)=2\n", "os_info")
    found = from_notes(notes_of(*CPUS), "dump", memory.read, info, whole_todcmp=True)
    assert [cpu.save_area.prefix_address for cpu in found.cpus.cpus] == [PREFIXES[1]]
    assert found.cpus.left_out == ()
    (reason,) = found.offline
    assert "CPU 1" in reason and "0x20000" in reason and "offline" in reason


@pytest.mark.parametrize("prefix", [0x1000, 0x20001, 0x80000000])
def test_a_prefix_that_is_no_lowcore(prefix: int) -> None:
    found = from_notes(notes_of(CpuState(prefix, Registers.from_seed(1)), CPUS[1]), "dump", FakeMemory().read, None, whole_todcmp=False)
    assert [cpu.save_area.prefix_address for cpu in found.cpus.cpus] == [PREFIXES[1]]
    assert hex(prefix) in found.cpus.left_out[0]


def test_the_same_cpu_twice_counts_once() -> None:
    found = from_notes(notes_of(CPUS[0], CPUS[0]), "dump", FakeMemory().read, None, whole_todcmp=False)
    assert len(found.cpus.cpus) == len(found.cpus.left_out) == 1


@pytest.mark.parametrize(("kind", "words"), [(0x305, None), (0x304, "control registers"), (2, "FPC"), (0x303, "TOD programmable")])
def test_what_is_not_in_the_notes_is_named(kind: int, words: str | None) -> None:
    for short in (False, True):  # a note that is not there, and one that is too short
        notes = [[(n, k, desc[:3] if k == kind else desc) for n, k, desc in notes_of(CPUS[0])[0] if short or k != kind]]
        found = from_notes(notes, "dump", FakeMemory().read, None, whole_todcmp=False)
        if words is None:  # without a prefix it is no CPU of the kernel's
            assert found.cpus.cpus == ()
        else:
            (text,) = found.incomplete
            assert words in text and "CPU 1" in text


def test_other_registers_in_memory_are_told() -> None:
    memory = FakeMemory()
    other = CpuState(PREFIXES[0], Registers.from_seed("stale"))
    memory.put(PREFIXES[0] + 0x1200, other.store_status())
    memory.put(PREFIXES[1] + 0x1200, CPUS[1].store_status())
    found = from_notes(notes_of(*CPUS), "dump", memory.read, None, whole_todcmp=False)
    assert set(found.in_memory) == {PREFIXES[0]}
    assert found.in_memory[PREFIXES[0]].psw == other.registers.psw
    assert found.cpus.cpus[0].save_area.psw == CPUS[0].registers.psw


def test_prefixes_of_a_header() -> None:
    memory = FakeMemory()
    for cpu in CPUS:
        memory.put(cpu.prefix + 0x1200, cpu.store_status())
    found = from_prefixes((PREFIXES[1], 0, PREFIXES[0], PREFIXES[0], 0x28000, 0x1234), memory.read).cpus
    assert [cpu.save_area.prefix_address for cpu in found.cpus] == [PREFIXES[1], PREFIXES[0]]
    assert len(found.left_out) == 2
    assert "0x28000" in found.left_out[0] and "0x1234" in found.left_out[1]
    assert found.vector_reason is not None
