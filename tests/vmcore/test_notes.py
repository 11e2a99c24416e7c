"""Notes: sizes, names and order for the four combinations of TODPREG size and vector registers."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.builders import CpuState, Registers, all_notes
from vmcorefs.s390.save_area import from_status
from vmcorefs.vmcore.notes import cpu_notes, notes, notes_size_per_cpu, notes_size_without_cpus, prpsinfo

STATE = CpuState(0x1234000, Registers.from_seed(1))
AREA = from_status(STATE.store_status(), STATE.registers.vxrs)
OTHER = CpuState(0x2000, Registers.from_seed(2))

COMBINATIONS = [(4, False), (4, True), (8, False), (8, True)]


def parse(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at < len(data):
        namesz, descsz, kind = struct.unpack_from(">III", data, at)
        name = data[at + 12:at + 12 + namesz]
        desc_at = at + 12 + (namesz + 3) // 4 * 4
        yield name, kind, data[desc_at:desc_at + descsz]
        at = desc_at + (descsz + 3) // 4 * 4
    assert at == len(data)


@pytest.mark.parametrize(("todpreg", "vector", "size"), [(4, False, 764), (8, False, 768), (4, True, 1188), (8, True, 1192)])
def test_size_of_one_cpus_notes(todpreg: int, vector: bool, size: int) -> None:
    assert len(cpu_notes(AREA, 1, todpreg_size=todpreg, vector=vector)) == size
    assert notes_size_per_cpu(todpreg_size=todpreg, vector=vector) == size


@pytest.mark.parametrize(("todpreg", "vector"), COMBINATIONS)
def test_names_types_sizes_and_order(todpreg: int, vector: bool) -> None:
    expected = [
        (b"CORE\0", 1, 336), (b"CORE\0", 2, 136), (b"LINUX\0", 0x301, 8), (b"LINUX\0", 0x302, 8), (b"LINUX\0", 0x303, todpreg),
        (b"LINUX\0", 0x304, 128), (b"LINUX\0", 0x305, 4)]
    if vector:
        expected += [(b"LINUX\0", 0x30A, 256), (b"LINUX\0", 0x309, 128)]  # high before low
    found = parse(cpu_notes(AREA, 1, todpreg_size=todpreg, vector=vector))
    assert [(name, kind, len(desc)) for name, kind, desc in found] == expected


@pytest.mark.parametrize(("todpreg", "vector"), COMBINATIONS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_bytes_against_another_implementation(todpreg: int, vector: bool, count: int) -> None:
    states = [CpuState(0x2000 * (i + 1), Registers.from_seed(i)) for i in range(count)]
    areas = [from_status(s.store_status(), s.registers.vxrs) for s in states]
    for text in (None, b"", b"A=1\n", b"AB=1\n"):
        assert notes(areas, text, todpreg_size=todpreg, vector=vector) == all_notes(states, vector, todpreg, text)


def test_contents_of_one_cpus_notes() -> None:
    r = STATE.registers
    found = {kind: desc for _, kind, desc in parse(cpu_notes(AREA, 7, todpreg_size=4, vector=True))}
    assert found[1] == bytes(32) + (7).to_bytes(4, "big") + bytes(76) + r.psw + r.gprs + r.acrs + bytes(16)
    assert found[2] == r.fpc + bytes(4) + r.fprs
    assert (found[0x301], found[0x302], found[0x303]) == (r.timer, r.todcmp, r.todpreg)
    assert (found[0x304], found[0x305]) == (r.ctrs, b"\x01\x23\x40\x00")
    assert (found[0x30A], found[0x309]) == (r.vxrs_high, r.vxrs_low)


def test_eight_byte_todpreg_has_the_upper_half_of_the_cpu_timer() -> None:
    found = {kind: desc for _, kind, desc in parse(cpu_notes(AREA, 1, todpreg_size=8, vector=False))}
    assert found[0x303] == STATE.registers.todpreg + STATE.registers.timer[:4]


def test_prpsinfo() -> None:
    ((name, kind, desc),) = parse(prpsinfo())
    assert (name, kind, len(desc)) == (b"CORE\0", 3, 136)
    assert desc == b"\0R" + bytes(38) + b"vmlinux" + bytes(89)
    assert len(prpsinfo()) == 156


def test_cpus_are_numbered_from_1_without_gaps() -> None:
    areas = [AREA] * 5
    numbers = [int.from_bytes(desc[32:36], "big") for _, kind, desc in
               parse(notes(areas, None, todpreg_size=4, vector=False)) if kind == 1]
    assert numbers == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("text", "size"), [(None, 156), (b"", 180), (b"A", 184), (b"ABCD", 184), (b"ABCDE", 188)])
def test_vmcoreinfo_is_last_and_padded_to_4(text: bytes | None, size: int) -> None:
    data = notes((), text, todpreg_size=4, vector=False)
    assert len(data) == size == notes_size_without_cpus(text)
    *_, last = parse(data)
    if text is not None:
        assert last == (b"VMCOREINFO\0", 0, text)


def test_no_empty_note_closes_them() -> None:
    assert not notes([AREA], b"A=1\n", todpreg_size=4, vector=True).endswith(bytes(12))


def test_unknown_vector_registers_are_never_zeros() -> None:
    with pytest.raises(ValueError, match="vector registers"):
        cpu_notes(from_status(STATE.store_status()), 1, todpreg_size=4, vector=True)
