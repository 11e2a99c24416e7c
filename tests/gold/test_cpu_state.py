"""k61-plain: the registers of QEMU's own dump of it, given by --cpu-state, become the notes that the kernel's rules make."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

import vmcorefs
from tests.builders import CpuState, Facts, Header, Registers, layout_of
from tests.capture.given import as_in_text, as_json, lowcore_page, without, written
from tests.gold.conftest import GOLD, Expander, Gold

SIZE = 96 << 20
TODPREG_SIZE = 4


def qemu_notes(data: bytes) -> list[dict[tuple[str, int], bytes]]:
    """The notes of QEMU's dump, by CPU. Its e_ehsize is wrong; only e_phoff, e_phentsize and e_phnum count."""
    e_phoff, e_phentsize, e_phnum = *struct.unpack_from(">Q", data, 32), *struct.unpack_from(">HH", data, 54)
    cpus: list[dict[tuple[str, int], bytes]] = []
    for at in range(e_phoff, e_phoff + e_phentsize * e_phnum, e_phentsize):
        p_type, _, p_offset, _, _, p_filesz = struct.unpack_from(">IIQQQQ", data, at)
        if p_type != 4:
            continue
        position = p_offset
        while position < p_offset + p_filesz:
            namesz, descsz, kind = struct.unpack_from(">III", data, position)
            name = data[position + 12:position + 12 + namesz].rstrip(b"\0").decode()
            desc_at = position + 12 + -(-namesz // 4) * 4
            position = desc_at + -(-descsz // 4) * 4
            if (name, kind) == ("CORE", 1):
                cpus.append({})
            cpus[-1][name, kind] = data[desc_at:desc_at + descsz]
    return cpus


def qemu_cpu(notes: dict[tuple[str, int], bytes]) -> tuple[int, int, CpuState]:
    """(CPU address, clock comparator as the register has it, the CPU with what STORE STATUS would have kept of it)."""
    prstatus, fpregset = notes["CORE", 1], notes["CORE", 2]
    pid = int.from_bytes(prstatus[32:36], "little")  # byte swapped on a little endian host
    register = notes["LINUX", 0x302]
    fprs, low = fpregset[8:136], notes["LINUX", 0x309]
    vxrs = b"".join(fprs[at:at + 8] + low[at:at + 8] for at in range(0, 128, 8)) + notes["LINUX", 0x30A]
    registers = Registers(
        psw=prstatus[112:128], gprs=prstatus[128:256], acrs=prstatus[256:320], fprs=fprs, fpc=fpregset[:4],
        todpreg=notes["LINUX", 0x303], timer=notes["LINUX", 0x301], todcmp=b"\0" + register[:7], ctrs=notes["LINUX", 0x304],
        vxrs=vxrs)
    return pid - 1, int.from_bytes(register, "big"), CpuState(int.from_bytes(notes["LINUX", 0x305], "big"), registers)


@pytest.fixture(scope="module")
def gold(expander: Expander) -> Gold:
    return expander("k61-plain")


@pytest.fixture(scope="module")
def cpus(gold: Gold) -> list[tuple[int, int, CpuState]]:
    return [qemu_cpu(notes) for notes in qemu_notes((gold.folder / "qemu-dump.elf.head").read_bytes())]


def served(gold: Gold, *files: Path) -> tuple[bytes, list[str]]:
    with vmcorefs.open(gold.image, cpu_state=files) as dump:
        return dump.merged.header, [p.code for p in dump.problems]


def expected(gold: Gold, cpus: list[CpuState], *, vector: bool = True) -> bytes:
    """The header region by the kernel's rules (the builders' own writer)."""
    with vmcorefs.open(gold.image) as dump:
        assert dump.vmcoreinfo is not None
        text = dump.vmcoreinfo.desc
    layout = layout_of(gold.facts["kernel"])
    assert layout.todpreg_size == TODPREG_SIZE
    return Header(Facts(layout, ((0, SIZE),), tuple(cpus), vector, text)).to_bytes()


def given(cpus: list[tuple[int, int, CpuState]], *left_out: str) -> list[dict[str, Any]]:
    return [without(as_json(state, clock_comparator=f"{register:#018x}", address=address), "todcmp", *left_out)
            for address, register, state in cpus]


def test_what_qemu_dumped(cpus: list[tuple[int, int, CpuState]]) -> None:
    """The small parser of this file, against what the capture's other files say."""
    assert GOLD is not None
    text = (GOLD / "k61-plain" / "qemu-registers-at-save.txt").read_text()
    assert [address for address, _, _ in cpus] == [0, 1]
    for address, register, state in cpus:
        part = text.split(f"CPU#{address}\n")[1].split("CPU#")[0]
        r = state.registers
        assert f"PSW=mask {r.psw[:8].hex()} addr {r.psw[8:].hex()}" in part
        for number in range(16):
            assert f"R{number:02}={r.gprs[8 * number:8 * number + 8].hex()}" in part
            assert f"C{number:02}={r.ctrs[8 * number:8 * number + 8].hex()}" in part
        for number in range(32):
            assert f"V{number:02}={r.vxrs[16 * number:16 * number + 16].hex()}" in part
        assert register >> 56 == 0xE3  # all eight bytes of it
        assert state.prefix % 0x2000 == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_json_with_the_clock_comparator_of_the_register(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path,
                                                        order: tuple[int, int]) -> None:
    wanted = expected(gold, [state for _, _, state in cpus])
    list_ = given([cpus[n] for n in order])
    assert served(gold, written(tmp_path / "a", {"cpus": list_})) == (wanted, [])
    assert served(gold, written(tmp_path / "b", list_[0]), written(tmp_path / "c", list_[1])) == (wanted, [])


@pytest.mark.parametrize("left_out", ["prefix", "address"])
def test_the_crashed_kernel_knows_which_cpu_has_which_prefix(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path,
                                                             left_out: str) -> None:
    wanted = expected(gold, [state for _, _, state in cpus])
    assert served(gold, written(tmp_path / "a", list(reversed(given(cpus, left_out))))) == (wanted, [])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_lowcore_pages(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path, order: tuple[int, int]) -> None:
    """All registers but the vectors, which are not in a lowcore page."""
    files = [written(tmp_path / f"page{n}", lowcore_page(cpus[n][2])) for n in order]
    assert served(gold, *files) == (expected(gold, [state for _, _, state in cpus], vector=False), ["vector"])


def test_the_notes_by_the_reference(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path) -> None:
    """Without the builders: the rules that this is about, one by one, through pyelftools."""
    file = written(tmp_path / "a", given(cpus))
    with vmcorefs.open(gold.image, cpu_state=[file]) as dump:
        elf = ELFFile(dump.vmcore)
        (segment,) = [s for s in elf.iter_segments() if s["p_type"] == "PT_NOTE"]
        assert sum(note["n_type"] == "NT_PRSTATUS" for note in segment.iter_notes()) == len(cpus) == 2
        dump.vmcore.seek(segment["p_offset"])
        data = dump.vmcore.read(segment["p_filesz"])
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        namesz, descsz, kind = struct.unpack_from(">III", data, position)
        desc_at = position + 12 + -(-namesz // 4) * 4
        found.append((kind, data[desc_at:desc_at + descsz]))
        position = desc_at + -(-descsz // 4) * 4
    per_cpu = [1, 2, 0x301, 0x302, 0x303, 0x304, 0x305, 0x30A, 0x309]
    assert [kind for kind, _ in found] == [3, *per_cpu, *per_cpu, 0]
    notes = qemu_notes((gold.folder / "qemu-dump.elf.head").read_bytes())
    for number, theirs in enumerate(notes):
        ours = dict(found[1 + 9 * number:10 + 9 * number])
        assert int.from_bytes(ours[1][32:36], "big") == number + 1
        assert ours[1][112:320] == theirs["CORE", 1][112:320]
        assert ours[2] == theirs["CORE", 2]
        assert int.from_bytes(ours[0x302], "big") == int.from_bytes(theirs["LINUX", 0x302], "big") >> 8
        assert len(ours[0x303]) == TODPREG_SIZE
        assert all(ours[kind] == theirs["LINUX", kind] for kind in (0x301, 0x303, 0x304, 0x305, 0x309, 0x30A))


def test_the_text_of_info_registers(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path) -> None:
    text = gold.folder / "qemu-registers-at-save.txt"
    wanted = expected(gold, [as_in_text(state) for _, _, state in cpus])
    assert served(gold, text) == (wanted, ["cpu-state", "cpu-state"])
    qmp = written(tmp_path / "qmp", {"return": text.read_text().replace("\n", "\r\n"), "id": "libvirt-42"})
    assert served(gold, qmp) == (wanted, ["cpu-state", "cpu-state"])
    with vmcorefs.open(gold.image, cpu_state=[text]) as dump:
        for problem in dump.problems:
            assert problem.text.endswith(
                "FPC, TOD programmable register, CPU timer, clock comparator, access registers")


def test_a_cut_text_and_a_cpu_twice(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path) -> None:
    text = (gold.folder / "qemu-registers-at-save.txt").read_text()
    cut = written(tmp_path / "cut", text[:text.rindex("C12=")])
    with pytest.raises(vmcorefs.ImageError, match=r"cut: CPU#1: Cnn: 12 registers, not 16"):
        vmcorefs.open(gold.image, cpu_state=[cut])
    page = written(tmp_path / "page", lowcore_page(cpus[0][2]))
    with pytest.raises(vmcorefs.ImageError, match=f"the CPU with prefix {cpus[0][2].prefix:#x} is given twice"):
        vmcorefs.open(gold.image, cpu_state=[gold.folder / "qemu-registers-at-save.txt", page])


def test_other_registers_are_other_notes(gold: Gold, cpus: list[tuple[int, int, CpuState]], tmp_path: Path) -> None:
    """None of the comparisons above passes by itself: one bit more in any register shows."""
    wanted = expected(gold, [state for _, _, state in cpus])
    address, register, state = cpus[0]
    for name in ("psw", "gprs", "acrs", "fpc", "todpreg", "timer", "ctrs", "vxrs"):
        value = getattr(state.registers, name)
        other = replace(state, registers=replace(state.registers, **{name: value[:-1] + bytes([value[-1] ^ 1])}))
        file = written(tmp_path / name, given([(address, register, other), cpus[1]]))
        assert served(gold, file)[0] != wanted, name
    changed = written(tmp_path / "todcmp", json.dumps(given([(address, register ^ 0x100, state), cpus[1]])))
    assert served(gold, changed)[0] != wanted
    unseen = written(tmp_path / "low", json.dumps(given([(address, register ^ 0xFF, state), cpus[1]])))  # not in STORE STATUS
    assert served(gold, unseen)[0] == wanted
