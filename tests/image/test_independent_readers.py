"""Real dumps, and the same memory through readers that share nothing with us: libkdumpfile, drgn, zgetdump."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulated.emulator import s390x
from tests.image.samples import facts, memory_hash, sample
from tests.readers.gold import gold_folder
from tests.readers.installed import missing, program
from vmcorefs.errors import ImageError, OldmemReadError, ReadErrorKind
from vmcorefs.image import open_image
from vmcorefs.image.source import Source

PAGE = 4096
PYTHON = "/usr/bin/python3"
KDUMPFILE = Path(__file__).resolve().parents[1] / "readers" / "kdumpfile_memory.py"
SAMPLES = ["synth.elf", "synth.lime", "synth.s390", "r32.qemu.elf", "r32.qemu-window.elf", "r32.zgetdump.s390", "k61-smp1.mdf-d31.elf"]
PREFIX_NOTE = 0x305


def registers(source: Source) -> list[bytes]:
    """The first note of each CPU, NT_PRSTATUS."""
    return [notes[0].desc for notes in source.container.cpu_notes]


def prefixes(source: Source) -> list[int]:
    found = [int.from_bytes(note.desc, "big") for notes in source.container.cpu_notes for note in notes if note.type == PREFIX_NOTE]
    return found or list(source.container.prefixes)


# -- what is recorded of the samples ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SAMPLES)
def test_memory_map_and_cpus_are_those_that_are_recorded(name: str) -> None:
    about = facts(name)
    with open_image(sample(name)) as source:
        size = about["memory_size"]
        assert source.size == size
        digest, kinds = memory_hash(source, size)
        assert digest == about["memory_sha256"]
        assert kinds <= {"missing", "filtered"}
        if "memory_map" in about:
            assert [[f"{r.start:#x}", f"{r.end:#x}"] for r in source.container.memory] == about["memory_map"]
        assert [f"{prefix:#x}" for prefix in prefixes(source)] == about.get("prefixes", [])
        assert source.container.incomplete is None
        assert source.container.problems == ()


@pytest.mark.parametrize(("name", "writer"), [
    ("synth.elf", ""), ("r32.qemu.elf", "QEMU"), ("r32.qemu-window.elf", "QEMU"), ("k61-smp1.mdf-d31.elf", "makedumpfile")])
def test_the_writer_of_a_real_core_is_recognised(name: str, writer: str) -> None:
    with open_image(sample(name)) as source:
        assert source.container.writer == writer


def test_the_registers_of_qemu_are_those_that_it_showed() -> None:
    text = (sample("r32.registers.txt")).read_text()
    psw = re.search(r"^PSW=mask (\w+) addr (\w+)", text, re.MULTILINE)
    gprs = re.findall(r"\bR\d\d=(\w+)", text)[:16]
    assert psw is not None
    with open_image(sample("r32.qemu.elf")) as source:
        numbers = struct.unpack_from(">18Q", registers(source)[0], 0x70)
    assert [f"{number:016x}" for number in numbers] == [*psw.groups(), *gprs]


def test_the_registers_of_the_invented_machine_are_in_its_notes() -> None:
    told = json.loads(sample("synth-registers.json").read_text())
    with open_image(sample("synth.elf")) as source:
        for prstatus, cpu in zip(registers(source), told["cpus"], strict=True):
            numbers = struct.unpack_from(">18Q", prstatus, 0x70)
            assert [f"0x{n:016x}" for n in numbers] == [*cpu["psw"], *cpu["gprs"]]


def test_a_real_secure_execution_core_is_refused() -> None:
    with pytest.raises(ImageError, match="secure execution"):
        open_image(sample("synth.pv.elf"))


@pytest.mark.parametrize("name", ["synth.lkcd", "synth.lkcd-dup", "synth.vmdump", "synth.mv0.vol"])
def test_the_rarer_formats_are_refused_by_name(name: str) -> None:
    with pytest.raises(ImageError, match=r"LKCD|VMDUMP|volume"):
        open_image(sample(name))


# -- libkdumpfile ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def kdumpfile() -> Callable[[Path], dict[str, Any]]:
    """What libkdumpfile says of a dump."""
    if not os.path.exists(PYTHON) or subprocess.run([PYTHON, "-I", "-c", "import kdumpfile"], capture_output=True,
                                                    check=False).returncode:
        missing("python3-libkdumpfile is not installed")

    def ask(path: Path) -> dict[str, Any]:
        done = subprocess.run([PYTHON, "-I", KDUMPFILE, path], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return ask


def short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def same_pages(source: Source, theirs: dict[str, str | None]) -> tuple[int, set[ReadErrorKind]]:
    """(pages that both have, all equal; the kinds of those that we have not)."""
    both, kinds = 0, set[ReadErrorKind]()
    for address, digest in theirs.items():
        try:
            data = source.pread(PAGE, int(address))
        except OldmemReadError as error:
            kinds.add(error.kind)
            continue
        if digest is None:  # libkdumpfile takes zero for absent in some formats
            assert not data.strip(b"\0"), address
            continue
        assert short_hash(data) == digest, address
        both += 1
    return both, kinds


def without_sections(path: Path, folder: Path) -> Path:
    """A copy of QEMU's core that libkdumpfile opens: e_shoff, e_ehsize and the three e_sh* fields put right."""
    data = bytearray(path.read_bytes())
    data[40:48] = bytes(8)
    struct.pack_into(">HHHHHH", data, 52, 64, 56, int.from_bytes(data[56:58], "big"), 0, 0, 0)
    copy = folder / "repaired"
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize(("name", "pages"), [
    ("synth.elf", 512), ("synth.s390", 768), ("r32.zgetdump.s390", 8192), ("k61-smp1.mdf-d31.elf", 4707), ("r32.qemu.elf", 8192),
    ("r32.qemu-window.elf", 768)])
def test_libkdumpfile_sees_the_same(name: str, pages: int, kdumpfile: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    path = sample(name)
    theirs = kdumpfile(without_sections(path, tmp_path) if "qemu" in name else path)
    with open_image(path) as source:
        both, kinds = same_pages(source, theirs["pages"])
        assert both == pages
        assert kinds == ({"filtered"} if "mdf" in name else {"missing"} if name in {"synth.elf", "r32.qemu-window.elf"} else set())
        assert [prstatus.hex() for prstatus in registers(source)] == theirs["prstatus"]


# -- drgn ------------------------------------------------------------------------------------------------------------------

def test_drgn_sees_the_same() -> None:
    """It takes a core without VMCOREINFO for that of a process."""
    import drgn

    theirs = drgn.Program()
    theirs.set_core_dump(str(sample("k61-smp1.mdf-d31.elf")))
    with open_image(sample("k61-smp1.mdf-d31.elf")) as source:
        compared = 0
        for area in source.container.memory:
            for address in range(area.start, area.end, PAGE):
                data = source.read_some(PAGE, address)
                if data:
                    assert theirs.read(address, PAGE, True) == data
                    compared += 1
        assert compared == 4707


# -- zgetdump --------------------------------------------------------------------------------------------------------------

def convert(path: Path, form: str, target: Path) -> Path:
    with target.open("wb") as output:
        done = subprocess.run([*s390x("zgetdump"), "-f", form, path], stdout=output, stderr=subprocess.PIPE, check=False, timeout=240)
    assert b"Success" in done.stderr, done.stderr
    return target


def all_memory(source: Source) -> bytes:
    memory = bytearray(source.size)
    for area in source.container.memory:
        memory[area.start:area.end] = source.pread(area.size, area.start)
    return bytes(memory)


@pytest.mark.parametrize("name", ["synth.s390", "r32.zgetdump.s390"])
def test_zgetdump_makes_an_elf_core_of_an_s390_dump(name: str, tmp_path: Path) -> None:
    with open_image(sample(name)) as ours, open_image(convert(sample(name), "elf", tmp_path / "core")) as theirs:
        assert theirs.container.writer == "zgetdump"
        assert all_memory(ours) == all_memory(theirs)
        assert ours.container.memory == theirs.container.memory
        assert prefixes(theirs) == list(ours.container.prefixes)
        assert len(theirs.container.cpu_notes) == 2


def test_zgetdump_makes_an_s390_dump_of_an_elf_core(tmp_path: Path) -> None:
    """It writes the registers into the prefix pages, and zeros into holes."""
    with open_image(sample("synth.elf")) as ours, open_image(convert(sample("synth.elf"), "s390", tmp_path / "dump")) as theirs:
        assert theirs.container.format == "s390"
        assert list(theirs.container.prefixes) == prefixes(ours)
        assert theirs.container.incomplete is None
        one, other = all_memory(ours), all_memory(theirs)
        assert len(one) == len(other)
        different = {at // PAGE * PAGE for at in range(0, len(one), PAGE) if one[at:at + PAGE] != other[at:at + PAGE]}
        assert different <= {prefix + PAGE for prefix in prefixes(ours)}


# -- the full captures: one machine in every container ---------------------------------------------------------------------

class Machine:
    """A gold capture's own vmcore, expanded; its containers are made of it as its conversions' recipe says."""

    def __init__(self, name: str, folder: Path):
        self.conversions = gold_folder() / f"{name}-conversions"
        self.folder = folder
        self.vmcore = folder / "vmcore"
        self.newest = name.startswith("k612")
        subprocess.run([sys.executable, gold_folder() / "expand.py", gold_folder() / name, folder, "--vmcore"],
                       check=True, capture_output=True, timeout=240)
        for path in folder.iterdir():
            if path != self.vmcore:
                path.unlink()

    def make(self, name: str) -> Path:
        recipe = next(row for row in json.loads((self.conversions / "conversions.json").read_text())["files"] if row["file"] == name)
        target = self.folder / name
        if "made_of" in recipe:
            with target.open("wb") as output, self.vmcore.open("rb") as vmcore:
                for piece in recipe["made_of"]:
                    if isinstance(piece, str):
                        output.write((self.conversions / piece).read_bytes())
                    else:
                        vmcore.seek(piece["vmcore_from"])
                        output.write(vmcore.read(piece["length"]))
        elif "patch_from" in recipe:
            base = self.vmcore if recipe["patch_from"] == "vmcore" else self.make(recipe["patch_from"])
            subprocess.run([program("zstd"), "-dqf", "--long=31", f"--patch-from={base}", self.conversions / recipe["stored"],
                            "-o", target], check=True)
        else:
            target.write_bytes((self.conversions / recipe["stored"]).read_bytes())
        assert hashlib.sha256(target.read_bytes()).hexdigest() == recipe["sha256"]
        return target

    def loads(self) -> list[tuple[int, int, int]]:
        """(p_paddr, p_offset, p_filesz) of its own vmcore."""
        with self.vmcore.open("rb") as file:
            head = file.read(1 << 16)
        rows = [struct.unpack_from(">IIQQQQQQ", head, 64 + 56 * n) for n in range(int.from_bytes(head[56:58], "big"))]
        return [(paddr, offset, filesz) for kind, _, offset, _, paddr, filesz, _, _ in rows if kind == 1]


@pytest.fixture(scope="module", params=["k61-smp1", "k612-smp2"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(str(request.param), tmp_path_factory.mktemp("machine"))
    yield made
    for path in made.folder.iterdir():
        path.unlink()


def compare(source: Source, machine: Machine) -> tuple[int, set[ReadErrorKind]]:
    """(pages equal to the vmcore's own, the kinds of those that are not there)."""
    same, kinds = 0, set[ReadErrorKind]()
    with machine.vmcore.open("rb") as vmcore:
        for paddr, offset, filesz in machine.loads():
            for at in range(0, filesz, PAGE):
                size = min(PAGE, filesz - at)
                expected = os.pread(vmcore.fileno(), size, offset + at)
                try:
                    assert source.pread(size, paddr + at) == expected, hex(paddr + at)
                    same += 1
                except OldmemReadError as error:
                    kinds.add(error.kind)
    return same, kinds


def test_a_kernels_own_vmcore(machine: Machine) -> None:
    with open_image(machine.vmcore) as source:
        assert source.container.writer == "kernel"
        assert source.container.problems == ()
        assert source.container.vmcoreinfo is not None
        assert b"OSRELEASE=" in source.container.vmcoreinfo
        same, kinds = compare(source, machine)
        assert same == sum(-(-filesz // PAGE) for _, _, filesz in machine.loads())
        assert not kinds
        header = source.container.vmcore_header
        assert header == machine.vmcore.read_bytes()[:len(header or b"")]


@pytest.mark.parametrize("name", ["dump.zgetdump.elf", "dump.zgetdump.s390", "dump.E31"])
def test_what_was_made_of_it(machine: Machine, name: str) -> None:
    if not any(row["file"] == name for row in json.loads((machine.conversions / "conversions.json").read_text())["files"]):
        pytest.skip(f"{machine.conversions.name} has no {name}: zgetdump 2.16 cannot read such a vmcore")
    with open_image(machine.make(name)) as source, open_image(machine.vmcore) as kernels:
        assert source.container.writer == {"E": "makedumpfile", "z": "zgetdump" if name.endswith("elf") else ""}[name[5]]
        same, kinds = compare(source, machine)
        assert kinds == ({"filtered"} if name == "dump.E31" else set())
        assert same > 2000
        if name != "dump.zgetdump.s390":
            assert [p[112:] for p in registers(source)] == [p[112:] for p in registers(kernels)]
            assert source.container.vmcoreinfo == kernels.container.vmcoreinfo
            assert source.container.memory == kernels.container.memory
            told = "PT_LOAD 1 is the kernel image at its virtual address 0x2e4ba7a0000" if machine.newest and "zgetdump" in name else None
            assert [told is not None and told in problem for problem in source.container.problems] == ([True] if told else [])
        else:
            assert list(source.container.prefixes) == prefixes(kernels)
