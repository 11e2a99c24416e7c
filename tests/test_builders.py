"""The builder and its model against other opinions: pyelftools, the read rule taken literally, real captures.

VMCOREFS_GOLD=DIRECTORY turns on the comparison with headers that real kernels made.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    Built,
    Cpu,
    CpuState,
    Entry,
    Facts,
    Header,
    KernelImage,
    Layout,
    Machine,
    Registers,
    cksm,
    cpus,
    layout_of,
)
from tests.builders.memory import Places, pattern_page

GOLD = os.environ.get("VMCOREFS_GOLD") or None
CAPTURES = [
    "k61-hot",
    "k61-novx",
    "k61-novx-dump",
    "k61-smp1",
    "k61-smp4-offline",
    "k61-text",
    "k61-zfcpdump",
    "k61-zfcpdump-smp3",
    "k612-smp2",
]
MIB = 1 << 20
PAGE = 4096
HOLES = ((0, 3 * MIB), (8 * MIB, 9 * MIB), (16 * MIB, 17 * MIB))

MACHINES = {
    "defaults": Machine(),
    "5.8": Machine(release="5.8.0", cpus=cpus(3)),
    "6.6": Machine(release="6.6.1", cpus=cpus(2), guarded_storage=True),
    "6.12": Machine(release="6.12.1", cpus=cpus(3), identity_base=0x7000000000, dump_identity_base=0x5000000000),
    "6.12 over 6.1": Machine(release="6.1.0", dump_release="6.12.0"),
    "6.1 over 6.12": Machine(release="6.12.0", dump_release="6.1.0"),
    "no vectors": Machine(vector=False, crashed_vector=False, cpus=cpus(2)),
    "hot": Machine(cpus=(Cpu(0), Cpu(1), Cpu(3), Cpu(2))),
    "offline": Machine(cpus=(Cpu(0), Cpu(1, online=False), Cpu(2))),
    "boot offline": Machine(cpus=(Cpu(0, online=False), Cpu(1))),
    "holes": Machine(memory=HOLES, base=MIB, cpus=(Cpu(prefix=8 * MIB), Cpu(1)), structures=16 * MIB),
    "KASLR": Machine(
        release="6.12.0",
        memory=((0, 64 * MIB),),
        base=32 * MIB,
        size=16 * MIB,
        kernel_offset=0x2E4BA6A0000,
        kernel_offset_phys=48 * MIB,
        image_text=(0x100000, 0x301800),
        cpus=(Cpu(0, prefix=60 * MIB), Cpu(5), Cpu(3)),
        vmcoreinfo_address=16 * MIB - 100,  # across S
    ),
    "range ends inside pages": Machine(memory=((0, 0x345678), (0x600800, 8 * MIB)), base=MIB),
    "stand-alone kdump": Machine(cpus=cpus(3), stored_status=False),
    "64 CPUs": Machine(memory=((0, 16 * MIB),), cpus=cpus(64)),
    "many ranges": Machine(  # Phdrs fill more than a page
        memory=tuple((4 * i * MIB, (4 * i + 3) * MIB) for i in range(80)),
        base=MIB,
        body_pages=[4 * i * MIB for i in range(80)],
    ),
    "os_info": Machine(vmcoreinfo_by="both"),
    "os_info bad": Machine(vmcoreinfo_by="both", os_info="bad_csum", release="6.12.0"),
    "early": Machine(vmcoreinfo_by="early"),
    "zfcpdump": Machine(mode="zfcpdump", cpus=cpus(3)),
    "zfcpdump 6.12": Machine(mode="zfcpdump", release="6.12.0", memory=HOLES, hsa_size=2 * MIB),
    "plain": Machine(mode="plain", cpus=cpus(2)),
    "plain, nothing stored": Machine(mode="plain", stored_status=False),
}


@pytest.fixture(params=MACHINES)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    return MACHINES[request.param].build(tmp_path)


def u32(data: bytes, offset: int = 0) -> int:
    return int.from_bytes(data[offset : offset + 4], "big")


def u64(data: bytes, offset: int = 0) -> int:
    return int.from_bytes(data[offset : offset + 8], "big")


def reader(path: Path) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return read


def old_reader(built: Built) -> Callable[[int, int], bytes]:
    """Read rule of the reference, section 1.2, taken literally; one page at most."""
    raw = reader(built.image)
    mode = built.machine.mode
    base, size = built.machine.crash_area
    if mode == "kdump":
        base, size = u64(raw(0x10418, 8)), u64(raw(0x10420, 8))

    def read(address: int, count: int) -> bytes:
        if mode == "kdump" and base <= address < base + size:
            return raw(address - base, count)
        if mode == "kdump" and address < size:
            return raw(address + base, count)
        if built.hsa is not None and address < built.hsa.stat().st_size:
            return reader(built.hsa)(address, count)
        return raw(address, count)

    return read


def notes_of(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    position = 0
    while position < len(data):
        namesz, descsz, note_type = struct.unpack_from(">III", data, position)
        name = data[position + 12 : position + 12 + namesz]
        desc_at = position + 12 + -(-namesz // 4) * 4
        yield name, note_type, data[desc_at : desc_at + descsz]
        position = desc_at + -(-descsz // 4) * 4


def test_pyelftools_reads_the_header(built: Built, tmp_path: Path) -> None:
    model = built.model
    (tmp_path / "vmcore").write_bytes(model.header)
    with (tmp_path / "vmcore").open("rb") as file:
        elf = ELFFile(file)
        assert (elf["e_type"], elf["e_machine"], elf.little_endian) == ("ET_CORE", "EM_S390", False)
        pt_note, *loads = elf.iter_segments()
        assert isinstance(pt_note, NoteSegment)
        assert pt_note["p_align"] == built.machine.layout_used.note_align
        assert [load["p_type"] for load in loads] == ["PT_LOAD"] * len(model.loads)
        assert loads[0]["p_offset"] == len(model.header)
        assert loads[-1]["p_offset"] + loads[-1]["p_filesz"] == model.size
        notes = list(pt_note.iter_notes())
    noted = [cpu for cpu in model.facts.cpus if cpu.prefix]
    assert notes[0]["n_type"] == "NT_PRPSINFO"
    per_cpu = 9 if model.facts.vector else 7
    assert len(notes) == 1 + per_cpu * len(noted) + (model.facts.vmcoreinfo is not None)
    for number, cpu in enumerate(noted):
        prstatus, fpregset = notes[1 + number * per_cpu : 3 + number * per_cpu]
        assert (prstatus["n_type"], fpregset["n_type"]) == ("NT_PRSTATUS", "NT_FPREGSET")
        assert u32(prstatus["n_descdata"], 32) == number + 1
        assert prstatus["n_descdata"][112:128] == cpu.registers.psw
    if model.facts.vmcoreinfo is not None:
        assert notes[-1]["n_name"] == "VMCOREINFO"
        assert notes[-1]["n_descdata"].startswith(b"OSRELEASE=" + built.machine.release.encode())


def test_files_hold_what_the_model_serves(built: Built) -> None:
    """Every page that is not zero, by the read rule and through the vmcore."""
    old = old_reader(built)
    pages = built.old.pages()
    assert len(pages) > 16
    for page in pages:
        assert old(page, PAGE) == built.model.old_page(page), f"{page:#x}"
        offset = built.model.file_offset(page)
        assert built.model.read(offset, PAGE) == built.old.page(page), f"{page:#x}"


def test_sizes_and_ends(built: Built) -> None:
    model = built.model
    assert model.read(model.size, 1) == b""
    assert len(model.read(model.size - 10, 100)) == 10
    assert model.read(0, len(model.header)) == model.header
    around = len(model.header) - 7
    assert model.read(around, 14) == model.header[-7:] + model.read(around + 7, 7)


def test_dump_kernels_list_gives_the_notes(built: Built) -> None:
    """Reference, section 3.4 no. 1, with nothing but the files."""
    machine, raw = built.machine, reader(built.image)
    if machine.mode == "plain":
        return
    end = machine.dump_kernel_end
    memory = raw(0, end)
    status = old_reader(built)(0x1200, 512)
    hit = memory.index(status[0x100:0x110] + status[0x180:0x200] + status[0x80:0x100])
    assert memory.count(status[0x100:0x110] + status[0x180:0x200] + status[0x80:0x100]) == 1

    has_vm = layout_of(machine.dump_release or machine.release).has_vm
    note = u64(memory, 0xE0C)
    text = memory[note + 24 : note + 24 + u32(memory, note + 4)].decode()
    line = dict(item.split("=", 1) for item in text.splitlines())

    def to_raw(pointer: int) -> int:
        if not has_vm:
            return pointer
        if pointer < int(line["KERNELOFFSET"], 16):
            return pointer - int(line["IDENTITYBASE"], 16)
        return pointer - int(line["KERNELOFFSET"], 16) + int(line["KERNELOFFPHYS"], 16)

    first = hit - 16
    head = to_raw(u64(memory, first + 8))
    assert to_raw(u64(memory, head)) == first
    found = []
    area = first
    while area != head:
        assert to_raw(u64(memory, to_raw(u64(memory, area)) + 8)) == area
        found.append((u32(memory, area + 0x1E4), memory[area + 0x120 : area + 0x160]))
        area = to_raw(u64(memory, area))
    assert found == [(cpu.prefix, cpu.registers.acrs) for cpu in built.model.facts.cpus]
    assert memory.count(built.model.header[:PAGE]) == 1
    assert line["OSRELEASE"] == (machine.dump_release or machine.release)
    assert bool(u64(memory, 0x1380) & 0x20000) == machine.vector


def test_crashed_side(built: Built) -> None:
    machine = built.machine
    old = old_reader(built)
    stored = machine.mode != "zfcpdump" and machine.stored_status
    os_info = u64(old(0xE18, 8))
    page = old(os_info, PAGE)
    assert (u32(page, 8) == cksm(page[12:])) == (machine.os_info != "bad_csum")
    assert page[:8] == b"OSINFOSZ"
    assert (u64(page, 16), u64(page, 24)) == machine.crash_area
    noted = zip(built.model.facts.cpus, machine.in_note_order(range(len(machine.cpus))), strict=False)
    for cpu, number in noted:
        if cpu.prefix == 0:
            continue
        low = old(cpu.prefix, PAGE) + old(cpu.prefix + PAGE, PAGE)
        assert u64(old(built.places["lowcore_ptr"] + 8 * number, 8)) == cpu.prefix + machine.identity_base
        assert u32(low, 0x3A0) == number
        assert u32(low, 0x1318) == (cpu.prefix if stored else 0)
        assert number or old(0x1200, 512) == cpu.store_status()
        if stored:
            assert low[0x1200:0x1400] == cpu.store_status()
        mcesa = u64(low, 0x11B0) & ~0x3FF
        assert (mcesa != 0) == machine.crashed_vector
        if mcesa:
            assert (old(mcesa, 512) == cpu.registers.vxrs) == stored
        if machine.release.startswith("6.12"):
            assert (
                int.from_bytes(old(u64(low, 0x288) - machine.identity_base + 0x22, 2), "big")
                == machine.cpus[number].address
            )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(["kdump", "zfcpdump", "plain"]),
    size=st.integers(1, 2),
    above=st.integers(0, 3),
    rest=st.integers(0, 3),
    hole=st.integers(0, 3),
    release=st.sampled_from(["5.8.0", "6.1.9", "6.6.0", "6.12.3"]),
    count=st.integers(1, 5),
)
def test_any_shape(
    tmp_path: Path, mode: str, size: int, above: int, rest: int, hole: int, release: str, count: int
) -> None:
    base = size + above
    end = base + size + rest + 1
    memory = ((0, end * MIB), ((end + 1) * MIB, (end + 1 + hole) * MIB))[: 2 if hole else 1]
    machine = Machine(mode=mode, memory=memory, release=release, cpus=cpus(count))  # type: ignore[arg-type]
    if mode == "kdump":
        machine = replace(machine, base=base * MIB, size=size * MIB)
    test_files_hold_what_the_model_serves(machine.build(tmp_path))


def test_swap_is_visible(tmp_path: Path) -> None:
    built = Machine(body_pages="all").build(tmp_path)
    raw = reader(built.image)
    assert raw(2 * MIB + 0x3000, 8).hex() == "b0d1000000003000"
    assert raw(2 * MIB - PAGE, 8).hex() == "b0d10000001ff000"
    assert raw(3 * MIB, 8).hex() == "b0d1000000300000"
    assert raw(MIB - PAGE, 8).hex() == "dead0000000ff000"


def test_model_and_files_are_damaged_together(tmp_path: Path) -> None:
    built = Machine(memory=HOLES, base=MIB).build(tmp_path)
    before = built.model.header
    built.poke_old(MIB - 3, b"across")  # the first three below S, the others in [B, B+S)
    assert reader(built.image)(2 * MIB - 3, 3) == b"acr"
    assert reader(built.image)(0, 3) == b"oss"
    assert built.model.read(built.model.file_offset(MIB - 3), 3) == b"acr"
    built.poke_raw(MIB + 0x5000, b"raw")
    assert built.model.read(built.model.file_offset(0x5000), 3) == b"raw"
    assert built.model.header == before
    test_files_hold_what_the_model_serves(built)


def test_wiped_dump_kernel(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    lowcore = reader(built.image)(0, 0x2000)
    built.wipe_dump_kernel()
    memory = reader(built.image)(0, MIB)
    assert memory[:0x2000] == lowcore
    assert u64(memory, 0x10418) == 2 * MIB
    assert not any(memory[0x2000:0x10000]) and not any(memory[0x12000:])
    test_files_hold_what_the_model_serves(built)


def test_facts_that_differ_from_the_machine(tmp_path: Path) -> None:
    by_os_info = Machine(vmcoreinfo_by="both").build(tmp_path).model.facts.vmcoreinfo
    by_lowcore = Machine(vmcoreinfo_by="both", os_info="bad_entry_csum").build(tmp_path).model.facts.vmcoreinfo
    assert by_os_info is not None and b"FOUND_BY=os_info" in by_os_info
    assert by_lowcore is not None and b"FOUND_BY=lowcore" in by_lowcore
    zfcpdump = Machine(mode="zfcpdump", vmcoreinfo_by="os_info").build(tmp_path).model.facts
    assert zfcpdump.vmcoreinfo is None  # 6.1 reads os_info in kdump mode only
    no_image = Machine(release="6.12.0", os_info_entries={5: Entry(0)}).build(tmp_path).model
    assert len(no_image.loads) == 2
    assert [cpu.prefix != 0 for cpu in MACHINES["hot"].build(tmp_path).model.facts.cpus] == [True] * 4


def test_impossible_machines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no kernel reserves"):
        Machine(base=MIB, size=2 * MIB)
    with pytest.raises(ValueError, match="lowcore does not fit"):
        Machine(cpus=(Cpu(prefix=2 * MIB),)).build(tmp_path)
    places = Places([(0, 0x3000), (0x8000, 0xA000)], 0)
    assert [places.allocate(0x2000, 0x1000, "x") for _ in range(2)] == [0, 0x8000]
    with pytest.raises(ValueError, match="no room"):
        places.allocate(0x1000, 0x1000, "x")


def test_seeds_make_every_register_differ() -> None:
    first, second = Registers.from_seed(0), Registers.from_seed(1)
    assert first.gprs != second.gprs and first == Registers.from_seed(0)
    assert first.vxrs[:8] == first.fprs[:8] and first.vxrs[240:248] == first.fprs[120:128]
    words = {value[i : i + 4] for value in (first.gprs, first.acrs, first.fprs, first.vxrs_low, first.vxrs_high)
             for i in range(0, len(value), 4)}  # fmt: skip
    assert len(words) == (128 + 64 + 128 + 128 + 256) // 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"\1", 0x01000000),
        (b"abcde", 0xC6626364),
        (bytes(range(16)), 0x181C2024),
        (b"\xff" * 8, 0xFFFFFFFF),
        (b"\xff\xff\xff\xff\0\0\0\1", 1),
        (b"The quick brown fox jumps over the lazy dog", 0x783C151F),
        (bytes(range(256)) * 16, 0xFE0205F9),
    ],
)
def test_cksm(data: bytes, expected: int) -> None:
    assert cksm(data) == expected


@pytest.mark.parametrize(
    ("release", "layout"),
    [
        ("5.8.0", Layout(8, 0, False)),
        ("5.15.80", Layout(8, 0, False)),
        ("5.15.81-x", Layout(4, 0, False)),
        ("6.0.10", Layout(8, 0, False)),
        ("6.1.0-rc6", Layout(8, 0, False)),
        ("6.1.192-gold", Layout(4, 0, False)),
        ("6.5.0", Layout(4, 4, False)),
        ("6.12.117-gold", Layout(4, 4, True)),
    ],
)
def test_layout_of(release: str, layout: Layout) -> None:
    assert layout_of(release) == layout


def test_body_pattern() -> None:
    assert pattern_page(0xB0D1, 0x123000)[8:16].hex() == "b0d1000000123008"


def cpu_from_notes(notes: dict[int, bytes]) -> CpuState:
    """One CPU's notes of a real header back into registers; v0..v15 left halves are the FPRs."""
    prstatus, fpregset = notes[1], notes[2]
    fprs = fpregset[8:136]
    low, high = notes.get(0x309, bytes(128)), notes.get(0x30A, bytes(256))
    registers = Registers(
        psw=prstatus[112:128],
        gprs=prstatus[128:256],
        acrs=prstatus[256:320],
        fprs=fprs,
        fpc=fpregset[:4],
        todpreg=notes[0x303],
        timer=notes[0x301],
        todcmp=notes[0x302],
        ctrs=notes[0x304],
        vxrs=b"".join(fprs[i : i + 8] + low[i : i + 8] for i in range(0, 128, 8)) + high,
    )
    return CpuState(u32(notes[0x305]), registers)


def facts_of_capture(folder: Path) -> Facts:
    header = (folder / "header.bin").read_bytes()
    capture = json.loads((folder / "capture.json").read_text())
    groups: list[dict[int, bytes]] = []
    for name, note_type, desc in notes_of(header[PAGE : PAGE + u64(header, 64 + 32)]):
        if (name, note_type) == (b"CORE\0", 1):
            groups.append({})
        if groups and name != b"VMCOREINFO\0":
            groups[-1][note_type] = desc
    loads = [{k: int(v, 16) for k, v in load.items() if k != "type"} for load in capture["vmcore"]["loads"]]
    layout = layout_of(capture["kernel"])
    image = None
    if layout.has_vm:
        first = loads.pop(0)
        image = KernelImage(first["vaddr"], first["vaddr"] + first["memsz"], first["paddr"])
    return Facts(
        layout=layout,
        ranges=tuple((load["paddr"], load["paddr"] + load["memsz"]) for load in loads),
        cpus=tuple(cpu_from_notes(group) for group in groups),
        vector=0x309 in groups[0],
        vmcoreinfo=(folder / "vmcoreinfo.txt").read_bytes(),
        kernel_image=image,
    )


@pytest.mark.skipif(GOLD is None, reason="VMCOREFS_GOLD does not name the folder of the real captures")
@pytest.mark.parametrize("name", CAPTURES)
def test_header_of_a_real_capture(name: str) -> None:
    folder = Path(GOLD or "") / name
    header = Header(facts_of_capture(folder))
    expected = (folder / "header.bin").read_bytes()
    made = header.to_bytes()
    differing = next((i for i, (a, b) in enumerate(zip(made, expected, strict=False)) if a != b), None)
    assert differing is None, f"first difference at {differing:#x}"
    assert len(made) == len(expected)
    assert header.file_size == json.loads((folder / "capture.json").read_text())["vmcore"]["size"]
