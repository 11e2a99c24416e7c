"""The harness by itself: is what it runs the 5.8 kernel's header code, and do its bytes stand where s390x puts them?

The expected values are written down here from the architecture and the kernel's structures; the last test is the strong
one: a real 6.1 kernel's header, put in as registers, comes out again with nothing changed but the 8-byte TODPREG of
5.8.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from . import kernel58
from .kernel58 import ELFCOREHDR_ADDRESS, SeedCpu, SeedError, elfcorehdr, merged, seed_header

MIB = 1 << 20
B, S = 96 * MIB, 64 * MIB
RANGES = [(0, 160 * MIB)]
HSA_SIZE = 32 * MIB

PRPSINFO_SIZE = 156
KDUMP_CAPTURES = ["k61-hot", "k61-novx", "k61-novx-dump", "k61-smp1", "k61-smp4-offline", "k61-text"]
ZFCPDUMP_CAPTURES = ["k61-zfcpdump", "k61-zfcpdump-smp3"]


class Note(NamedTuple):
    name: bytes
    type: int
    desc: bytes


class Header(NamedTuple):
    """A header region taken apart by fixed offsets."""

    phdrs: list[tuple[int, ...]]
    notes: list[Note]


def take_apart(header: bytes) -> Header:
    count = int.from_bytes(header[56:58], "big")
    phdrs = [struct.unpack_from(">IIQQQQQQ", header, 64 + 56 * i) for i in range(count)]
    offset, size = phdrs[0][2], phdrs[0][5]
    return Header(phdrs, list(split_notes(header[offset : offset + size])))


def split_notes(data: bytes) -> Iterator[Note]:
    while data:
        namesz, descsz, kind = struct.unpack_from(">III", data)
        name_end = 12 + namesz
        desc = (name_end + 3) // 4 * 4
        yield Note(data[12 : name_end - 1], kind, data[desc : desc + descsz])
        data = data[(desc + descsz + 3) // 4 * 4 :]


def a_cpu(number: int, prefix: int | None = None) -> SeedCpu:
    """A CPU in which no two bytes near each other are equal, so that a shifted copy shows."""
    status = bytearray((number * 37 + i * 7 + (i >> 8) * 3) & 0xFF for i in range(512))
    status[0x118:0x11C] = (0x8000 * number if prefix is None else prefix).to_bytes(4, "big")
    return SeedCpu(bytes(status), bytes((number * 53 + i * 5 + (i >> 8)) & 0xFF for i in range(512)))


def cpu_types(header: bytes) -> list[int]:
    return [note.type for note in take_apart(header).notes if note.name != b"VMCOREINFO"][1:]


# --- where the text comes from --------------------------------------------------------------------------------------


def test_unavailable_without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VMCOREFS_SEED", raising=False)
    monkeypatch.delenv("VMCOREFS_GOLD", raising=False)
    reason = kernel58.available()
    assert reason is not None
    assert "VMCOREFS_SEED" in reason
    assert "VMCOREFS_GOLD" in reason


def test_seed_directory_beside_gold_and_own_variable_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VMCOREFS_SEED", raising=False)
    (tmp_path / "gold").mkdir()
    (tmp_path / "seed").mkdir()
    monkeypatch.setenv("VMCOREFS_GOLD", str(tmp_path / "gold"))
    reason = kernel58.available()
    assert reason is not None
    assert kernel58.SEED_FILE in reason
    (tmp_path / "seed" / kernel58.SEED_FILE).write_bytes(b"commit message\n\n// SPDX-License-Identifier: x\nint c;")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert kernel58.available() is None
    assert kernel58.seed_text() == b"// SPDX-License-Identifier: x\nint c;\n"
    monkeypatch.setenv("VMCOREFS_SEED", str(tmp_path / "nowhere"))
    reason = kernel58.available()
    assert reason is not None
    assert "VMCOREFS_SEED" in reason


def test_a_text_that_does_not_compile_shows_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    (tmp_path / kernel58.SEED_FILE).write_bytes(b"// SPDX-License-Identifier: x\nint broken(void) { return oops; }\n")
    monkeypatch.setenv("VMCOREFS_SEED", str(tmp_path))
    with pytest.raises(SeedError, match=r"(?s)does not compile.*gcc.*oops"):
        kernel58.build(tmp_path / "build")


def test_build_is_reused(seed_program: Path) -> None:
    made = seed_program.stat().st_mtime_ns
    assert kernel58.build(seed_program.parent.parent) == seed_program
    assert seed_program.stat().st_mtime_ns == made


def test_save_area_without_the_8_byte_todpreg_does_not_compile(
    seed_program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A later crash_dump.c in the seed's place must not pass as 5.8."""
    later = kernel58.seed_text().replace(b"u64 todpreg;", b"u32 todpreg;")
    monkeypatch.setattr(kernel58, "seed_text", lambda: later)
    with pytest.raises(SeedError, match=r"not the save area of 5\.8"):
        kernel58.build(tmp_path)


# --- CPUs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vx", "per_cpu"), [(False, 768), (True, 1192)])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
def test_note_size_per_cpu(seed_program: Path, vx: bool, per_cpu: int, count: int) -> None:
    cpus = [a_cpu(number) for number in range(1, count + 1)]
    raw = elfcorehdr(seed_program, cpus=cpus, ranges=RANGES, oldmem=(B, S), vx=vx)
    notes = PRPSINFO_SIZE + count * per_cpu
    kind, flags, offset, vaddr, paddr, filesz, memsz, align = struct.unpack_from(">IIQQQQQQ", raw, 64)
    # The kernel's own buffer ends with an empty note of 12 bytes; vmcore.c stops there and does not count it.
    assert (kind, flags, vaddr, paddr, filesz, memsz, align) == (4, 0, 0, 0, notes + 12, notes + 12, 0)
    assert offset == ELFCOREHDR_ADDRESS + 64 + 2 * 56
    assert len(raw) == 64 + 2 * 56 + notes + 12
    assert raw[-12:] == bytes(12)
    assert take_apart(merged(raw)).phdrs[0] == (4, 0, 0x1000, 0, 0, notes, notes, 0)


def test_registers_of_one_cpu(seed_program: Path) -> None:
    cpu = a_cpu(1)
    status, vectors = cpu.status, cpu.vectors
    header = seed_header(seed_program, cpus=[cpu], ranges=RANGES, oldmem=(B, S), vx=True)
    prstatus = bytearray(336)
    prstatus[32:36] = (1).to_bytes(4, "big")
    prstatus[112:128] = status[0x100:0x110]
    prstatus[128:256] = status[0x80:0x100]
    prstatus[256:320] = status[0x140:0x180]
    assert take_apart(header).notes == [
        Note(b"CORE", 3, b"\0R" + bytes(38) + b"vmlinux" + bytes(89)),
        Note(b"CORE", 1, bytes(prstatus)),
        Note(b"CORE", 2, status[0x11C:0x120] + bytes(4) + status[:0x80]),
        Note(b"LINUX", 0x301, status[0x128:0x130]),
        Note(b"LINUX", 0x302, status[0x130:0x138]),
        Note(b"LINUX", 0x303, status[0x124:0x12C]),
        Note(b"LINUX", 0x304, status[0x180:0x200]),
        Note(b"LINUX", 0x305, status[0x118:0x11C]),
        Note(b"LINUX", 0x30A, vectors[256:]),
        Note(b"LINUX", 0x309, b"".join(vectors[16 * i + 8 : 16 * i + 16] for i in range(16))),
    ]


def test_todpreg_is_8_bytes_and_ends_with_half_the_cpu_timer(seed_program: Path) -> None:
    """What the kernel copies behind its 4-byte field is the upper half of the next one."""
    status = bytearray(a_cpu(1).status)
    status[0x124:0x128] = b"TODP"
    status[0x128:0x130] = b"timerCPU"
    header = seed_header(seed_program, cpus=[SeedCpu(bytes(status))], ranges=RANGES, oldmem=(B, S), vx=False)
    notes = {note.type: note.desc for note in take_apart(header).notes}
    assert notes[0x303] == b"TODPtime"
    assert notes[0x301] == b"timerCPU"


def test_cpus_with_prefix_0_are_dropped_and_numbers_have_no_gap(seed_program: Path) -> None:
    cpus = [a_cpu(1), a_cpu(2, prefix=0), a_cpu(3), a_cpu(4, prefix=0), a_cpu(5, prefix=1)]
    header = seed_header(seed_program, cpus=cpus, ranges=RANGES, oldmem=(B, S), vx=True)
    prstatus = [note.desc for note in take_apart(header).notes if note.type == 1]
    assert [int.from_bytes(desc[32:36], "big") for desc in prstatus] == [1, 2, 3]
    assert [desc[112:128] for desc in prstatus] == [cpus[i].status[0x100:0x110] for i in (0, 2, 4)]


def test_even_the_boot_cpu_is_dropped_with_prefix_0(seed_program: Path) -> None:
    gone, kept = a_cpu(1, prefix=0), a_cpu(2)
    both = seed_header(seed_program, cpus=[gone, kept], ranges=RANGES, oldmem=(B, S), vx=True)
    alone = seed_header(seed_program, cpus=[kept], ranges=RANGES, oldmem=(B, S), vx=True)
    assert both == alone
    none = seed_header(seed_program, cpus=[gone], ranges=RANGES, oldmem=(B, S), vx=True)
    assert [note.type for note in take_apart(none).notes] == [3]


def test_vector_notes_for_all_cpus_or_none(seed_program: Path) -> None:
    cpus = [a_cpu(1), a_cpu(2)]
    basic = [1, 2, 0x301, 0x302, 0x303, 0x304, 0x305]
    without = seed_header(seed_program, cpus=cpus, ranges=RANGES, oldmem=(B, S), vx=False)
    assert cpu_types(without) == basic * 2
    with_vx = seed_header(seed_program, cpus=cpus, ranges=RANGES, oldmem=(B, S), vx=True)
    assert cpu_types(with_vx) == [*basic, 0x30A, 0x309] * 2


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        pytest.param([(0, B + S)], [(0, B)], id="at the end"),
        pytest.param([(0, B + S + MIB)], [(0, B), (B + S, B + S + MIB)], id="in the middle"),
        pytest.param([(0, MIB), (B, B + S)], [(0, MIB)], id="a whole range"),
        pytest.param([(0, B + MIB), (B + 2 * MIB, B + S + MIB)], [(0, B), (B + S, B + S + MIB)], id="across a gap"),
        pytest.param(
            [(0, MIB), (2 * MIB, B), (B + S, B + 2 * S)], [(0, MIB), (2 * MIB, B), (B + S, B + 2 * S)], id="in a gap"
        ),
        pytest.param([(0, MIB), (MIB, 2 * MIB)], [(0, 2 * MIB)], id="neighbours are merged"),
        pytest.param([(0x1800, 0x2800), (1 << 40, 1 << 44)], [(0x1800, 0x2800), (1 << 40, 1 << 44)], id="odd, huge"),
    ],
)
def test_oldmem_is_cut_out(seed_program: Path, ranges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    raw = elfcorehdr(seed_program, cpus=[a_cpu(1)], ranges=ranges, oldmem=(B, S), vx=True)
    loads = [struct.unpack_from(">IIQQQQQQ", raw, 120 + 56 * i) for i in range(len(expected))]
    assert loads == [(1, 7, start, start, start, end - start, end - start, 4096) for start, end in expected]
    merged_loads = take_apart(merged(raw)).phdrs[1:]
    at = 0x1000 + 0x1000
    for load, (start, end) in zip(merged_loads, expected, strict=True):
        assert load == (1, 7, at + start % 4096, start, start, end - start, end - start, 4096)
        at += (end + 4095) // 4096 * 4096 - start // 4096 * 4096


def test_zfcpdump_cuts_nothing(seed_program: Path) -> None:
    ranges = [(0, 64 * MIB), (96 * MIB, 128 * MIB)]
    header = seed_header(seed_program, cpus=[a_cpu(1)], ranges=ranges, hsa_size=HSA_SIZE, vx=True)
    assert [(phdr[4], phdr[4] + phdr[6]) for phdr in take_apart(header).phdrs[1:]] == ranges


def test_more_program_headers_than_a_page_holds(seed_program: Path) -> None:
    ranges = [(i * 2 * MIB, i * 2 * MIB + MIB) for i in range(200)]
    header = seed_header(seed_program, cpus=[a_cpu(1)], ranges=ranges, hsa_size=HSA_SIZE, vx=False)
    phdrs = take_apart(header).phdrs
    assert len(phdrs) == 201
    assert phdrs[0][2] == 0x3000  # 64 + 56 * 201 = 11320 bytes
    assert phdrs[1][2] == len(header) == 0x4000


# --- VMCOREINFO -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 2991, 20000])
@pytest.mark.parametrize("mode", [{"oldmem": (B, S)}, {"hsa_size": HSA_SIZE}], ids=["kdump", "zfcpdump"])
def test_vmcoreinfo_by_lowcore_and_by_os_info(seed_program: Path, mode: dict[str, object], length: int) -> None:
    text = (b"OSRELEASE=5.8.0\n" * 2000)[:length]
    oldmem = (B, S) if "oldmem" in mode else None
    hsa_size = 0 if oldmem else HSA_SIZE
    by_lowcore, by_os_info = (
        elfcorehdr(
            seed_program,
            cpus=[a_cpu(1)],
            ranges=RANGES,
            oldmem=oldmem,
            hsa_size=hsa_size,
            vx=True,
            vmcoreinfo=text,
            vmcoreinfo_from=source,
        )
        for source in ("lowcore", "os_info")
    )
    assert by_lowcore == by_os_info
    assert take_apart(merged(by_lowcore)).notes[-1] == Note(b"VMCOREINFO", 0, text)
    assert len(by_lowcore) == 64 + 2 * 56 + PRPSINFO_SIZE + 1192 + 24 + (length + 3) // 4 * 4 + 12


@pytest.mark.parametrize("place", [S - 100, S, B - 100, B + S - 100, HSA_SIZE - 100], ids=hex)
@pytest.mark.parametrize("kdump", [True, False], ids=["kdump", "zfcpdump"])
def test_vmcoreinfo_note_across_a_boundary(seed_program: Path, place: int, kdump: bool) -> None:
    """The kernel's copy_oldmem_kernel against this folder's own map: both must mean the same bytes.

    Not across B itself: there the kernel reads on in one piece where the map turns back to the image's start. vmcore
    reads by pages and never meets that, so nobody has to imitate it; the note at B - 100 is short and ends before.
    """
    text = b"x" * (60 if place == B - 100 else 1000)
    raw = elfcorehdr(
        seed_program,
        cpus=[a_cpu(1)],
        ranges=[(0, 256 * MIB)],
        oldmem=(B, S) if kdump else None,
        hsa_size=0 if kdump else HSA_SIZE,
        vx=True,
        vmcoreinfo=text,
        note_address=place,
    )
    assert take_apart(merged(raw)).notes[-1] == Note(b"VMCOREINFO", 0, text)


@pytest.mark.parametrize(
    "old_memory",
    [
        pytest.param({}, id="pointer 0"),
        pytest.param({0xE0C: (1 << 40).to_bytes(8, "big")}, id="no memory there"),
        pytest.param({0xE0C: (0x2001).to_bytes(8, "big"), 0x2000: b"\0\0\0\x0b\0\0\0\x04\0\0\0\0VMCOREINFO"}, id="odd"),
        pytest.param(
            {0xE0C: (0x2000).to_bytes(8, "big"), 0x2000: b"\0\0\0\x0b\0\0\0\x04\0\0\0\0VMCOREINFX"}, id="name"
        ),
        pytest.param(
            {0xE0C: (0x2000).to_bytes(8, "big"), 0x2000: b"\0\0\0\x0b\xff\0\0\x04\0\0\0\0VMCOREINFO"}, id="size"
        ),
    ],
)
def test_no_vmcoreinfo_is_no_note_and_no_error(seed_program: Path, old_memory: dict[int, bytes]) -> None:
    raw = elfcorehdr(seed_program, cpus=[a_cpu(1)], ranges=RANGES, oldmem=(B, S), vx=True, old_memory=old_memory)
    assert raw == elfcorehdr(seed_program, cpus=[a_cpu(1)], ranges=RANGES, oldmem=(B, S), vx=True)
    assert take_apart(merged(raw)).notes[-1].type == 0x309


def test_vmcoreinfo_text_lies_24_bytes_in_whatever_the_name_size_says(seed_program: Path) -> None:
    note = (99).to_bytes(4, "big") + (4).to_bytes(4, "big") + bytes(4) + b"VMCOREINFO\0\0ABCD"
    memory = {0xE0C: (0x2000).to_bytes(8, "big"), 0x2000: note}
    raw = elfcorehdr(seed_program, cpus=[a_cpu(1)], ranges=RANGES, oldmem=(B, S), vx=True, old_memory=memory)
    assert take_apart(merged(raw)).notes[-1] == Note(b"VMCOREINFO", 0, b"ABCD")


# --- modes and the merged header ------------------------------------------------------------------------------------


def test_no_header_outside_kdump_and_zfcpdump(seed_program: Path) -> None:
    assert elfcorehdr(seed_program, cpus=[a_cpu(1)], ranges=RANGES, vx=True) == b""
    with pytest.raises(SeedError, match="only with oldmem"):
        seed_header(seed_program, cpus=[a_cpu(1)], ranges=RANGES, vx=True)


def test_zfcpdump_without_hsa_size_is_refused(seed_program: Path) -> None:
    with pytest.raises(SeedError, match="elfcorehdr_alloc: -19"):
        elfcorehdr(seed_program, cpus=[a_cpu(1)], ranges=RANGES, vx=True, fcp_dump=True)


def test_ehdr(seed_program: Path) -> None:
    header = seed_header(seed_program, cpus=[a_cpu(1)], ranges=RANGES, oldmem=(B, S), vx=True)
    assert header[:64] == (
        b"\x7fELF\x02\x02\x01" + bytes(9) + bytes.fromhex("0004 0016 00000001") + bytes(8)
        + (64).to_bytes(8, "big") + bytes(12) + bytes.fromhex("0040 0038 0002") + bytes(6)
    )  # fmt: skip
    assert header[64 + 2 * 56 : 0x1000] == bytes(0x1000 - 64 - 2 * 56)
    assert len(header) == 0x2000


def test_readelf_accepts_the_merged_header(seed_program: Path, tmp_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    file = tmp_path / "header"
    cpus = [a_cpu(1), a_cpu(2)]
    ranges = [(0, 256 * MIB)]
    file.write_bytes(
        seed_header(seed_program, cpus=cpus, ranges=ranges, oldmem=(B, S), vx=True, vmcoreinfo=b"OSRELEASE=5.8.0\n")
    )
    done = subprocess.run(
        ["readelf", "-hlnW", file], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning" not in done.stdout.lower()
    assert "error" not in done.stdout.lower()
    for line, count in {
        "IBM S/390": 1,
        "CORE (Core file)": 1,
        "NT_PRPSINFO": 1,
        "NT_PRSTATUS": 2,
        "NT_FPREGSET": 2,
        "NT_S390_TODPREG": 2,
        "NT_S390_VXRS_LOW": 2,
        "NT_S390_VXRS_HIGH": 2,
        "VMCOREINFO": 1,
        "  LOAD  ": 2,
    }.items():
        assert done.stdout.count(line) == count, f"{line!r} in\n{done.stdout}"


# Note type → (place in the status block, place in the desc, size).
STATUS_OF_NOTE: dict[int, list[tuple[int, int, int]]] = {
    1: [(0x100, 112, 16), (0x80, 128, 128), (0x140, 256, 64)],
    2: [(0x11C, 0, 4), (0, 8, 128)],
    0x301: [(0x128, 0, 8)],
    0x302: [(0x130, 0, 8)],
    0x303: [(0x124, 0, 4)],
    0x304: [(0x180, 0, 128)],
    0x305: [(0x118, 0, 4)],
}


def cpus_of(notes: list[Note]) -> list[SeedCpu]:
    """The status and vector blocks from which a kernel made these notes; bytes that no note shows are 0xee."""
    blocks: list[tuple[bytearray, bytearray]] = []
    for note in notes:
        if note.name == b"VMCOREINFO" or note.type == 3:
            continue
        if note.type == 1:
            blocks.append((bytearray(b"\xee" * 512), bytearray(b"\xee" * 512)))
        status, vectors = blocks[-1]
        for place, start, size in STATUS_OF_NOTE.get(note.type, []):
            status[place : place + size] = note.desc[start : start + size]
        if note.type == 0x30A:
            vectors[256:] = note.desc
        elif note.type == 0x309:
            for register in range(16):
                vectors[16 * register + 8 : 16 * register + 16] = note.desc[8 * register : 8 * register + 8]
    return [SeedCpu(bytes(status), bytes(vectors)) for status, vectors in blocks]


@pytest.mark.parametrize("name", KDUMP_CAPTURES + ZFCPDUMP_CAPTURES)
def test_only_todpreg_differs_from_what_a_6_1_kernel_wrote(seed_program: Path, name: str) -> None:
    """6.1 and 5.8 differ in nothing else, so captures of 6.1 prove byte order, stubs and merge."""
    gold = os.environ.get("VMCOREFS_GOLD")
    if not gold:
        pytest.skip("VMCOREFS_GOLD is not set: no captures of a 6.1 kernel")
    folder = Path(gold) / name
    if not (folder / "header.bin").is_file():
        pytest.skip(f"no header.bin in {folder}")
    capture = json.loads((folder / "capture.json").read_text())
    real = (folder / "header.bin").read_bytes()
    theirs = take_apart(real)
    oldmem = (capture["oldmem_base"], capture["oldmem_size"]) if capture["mode"] == "kdump" else None
    cpus = cpus_of(theirs.notes)
    header = seed_header(
        seed_program,
        cpus=cpus,
        ranges=[(0, capture["ram_size"])],
        oldmem=oldmem,
        hsa_size=capture.get("hsa_size", 0),
        vx=any(note.type == 0x309 for note in theirs.notes),
        vmcoreinfo=next(note.desc for note in theirs.notes if note.name == b"VMCOREINFO"),
    )
    ours = take_apart(header)
    timers = iter(cpu.status[0x128:0x12C] for cpu in cpus)
    assert ours.notes == [
        note._replace(desc=note.desc + next(timers)) if note.type == 0x303 else note for note in theirs.notes
    ]
    size = theirs.phdrs[0][5] + 4 * len(cpus)
    assert ours.phdrs[0] == (*theirs.phdrs[0][:5], size, size, 0)
    assert len(header) == len(real), "no capture's notes end so close to a page that 4 bytes a CPU move the body"
    assert ours.phdrs[1:] == theirs.phdrs[1:]
    assert header[:64] == real[:64]
