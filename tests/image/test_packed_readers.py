"""Real and recorded dumps of packed containers (kdump-compressed, flattened, s390_ext, AVML), and what independent readers make of them:
libkdumpfile, drgn, makedumpfile, zgetdump.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.containers import elf
from tests.builders.containers.kdump import FLAGS, Kdump
from tests.builders.containers.s390_ext import s390_ext
from tests.emulated.emulator import s390x
from tests.image.model import page_of
from tests.image.samples import facts, memory_hash, sample
from tests.image.test_independent_readers import Machine, all_memory, compare, convert, kdumpfile, prefixes, registers, same_pages
from tests.readers.installed import program
from vmcorefs.errors import OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.file import ImageFile
from vmcorefs.image.flattened import FlattenedFile

__all__ = ["kdumpfile"]  # a fixture

PAGE = 4096
SYNTH_KDUMP = [f"synth.kdump-{name}" for name in ("zlib", "lzo", "snappy", "zstd")]
SPLIT = [f"synth.kdump-split{number}" for number in (1, 2, 3)]
SAMPLES = [*SYNTH_KDUMP, "synth.kdump-flat", *SPLIT, "r32.qemu.kdump-zlib", "k61-smp1.mdf-d31.kdump", "synth.s390_ext1",
           "synth.s390_ext2z.part", "synth.avml"]
PRSTATUS_REGISTERS = ">18Q"  # PSW and GPRs, at 0x70
Ask = Callable[[Path], dict[str, Any]]


# -- what is recorded of the samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_memory_map_and_cpus_are_those_that_are_recorded(name: str) -> None:
    about = facts(name)
    with open_image(sample(name)) as source:  # of the split one, the others are found
        digest, kinds = memory_hash(source, about["memory_size"])
        assert digest == about["memory_sha256"]
        assert kinds == ({"filtered"} if "d31" in name else set())
        assert [f"{prefix:#x}" for prefix in prefixes(source)] == about.get("prefixes", [])
        memory = [[f"{r.start:#x}", f"{r.end:#x}"] for r in source.container.memory]
        assert memory == ([] if name == "synth.avml" else about.get("memory_map", [["0x0", "0x6000000"]]))
        assert (source.container.incomplete, source.container.problems) == (None, ())


@pytest.mark.parametrize(("name", "writer", "level", "release", "machine"), [
    ("synth.kdump-zlib", "makedumpfile", 1, "6.1.0-synth", "s390x"), ("r32.qemu.kdump-zlib", "QEMU", 1, None, "S390X"),
    ("k61-smp1.mdf-d31.kdump", "makedumpfile", 31, "6.1.192-gold", "s390x")])
def test_what_the_headers_say(name: str, writer: str, level: int, release: str | None, machine: str) -> None:
    with open_image(sample(name)) as source:
        container = source.container
        assert (container.writer, container.dump_level, container.release, container.machine) == (writer, level, release, machine)
        assert (container.vmcoreinfo is None) == (writer == "QEMU")


@pytest.mark.parametrize("name", [*SYNTH_KDUMP, "synth.kdump-flat"])
def test_the_registers_of_the_invented_machine_are_in_its_notes(name: str) -> None:
    told = json.loads(sample("synth-registers.json").read_text())
    with open_image(sample(name)) as source:
        assert source.container.vmcoreinfo == told["vmcoreinfo"].encode()
        for prstatus, cpu in zip(registers(source), told["cpus"], strict=True):
            assert [f"0x{n:016x}" for n in struct.unpack_from(PRSTATUS_REGISTERS, prstatus, 0x70)] == [*cpu["psw"], *cpu["gprs"]]


def test_qemus_two_formats_of_one_machine_agree() -> None:
    with open_image(sample("r32.qemu.kdump-zlib")) as packed, open_image(sample("r32.qemu.elf")) as core:
        assert packed.container.cpu_notes == core.container.cpu_notes
        assert packed.container.memory == core.container.memory


def test_a_real_dump_that_is_cut_off_is_served_up_to_there() -> None:
    with open_image(sample("synth.s390_ext1.cut")) as source, open_image(sample("synth.s390_ext1")) as whole:
        assert "memory from 0x2493e0 on is missing" in str(source.container.incomplete)
        assert source.pread(0x2493E0, 0) == whole.pread(0x2493E0, 0)
        with pytest.raises(OldmemReadError) as caught:
            source.pread(0xC0000, 0x240000)
        assert (caught.value.good, caught.value.kind) == (0x93E0, "missing")


def test_the_records_of_a_tape_are_no_s390_ext() -> None:
    with pytest.raises(Exception, match="off a tape"):
        open_image(sample("synth.tape"))


# -- libkdumpfile ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "pages"), [*((name, 768) for name in SYNTH_KDUMP), ("k61-smp1.mdf-d31.kdump", 3577)])
def test_libkdumpfile_sees_the_same(name: str, pages: int, kdumpfile: Ask) -> None:
    theirs = kdumpfile(sample(name))
    with open_image(sample(name)) as source:
        both, kinds = same_pages(source, theirs["pages"])
        assert both >= pages - 403 * ("synth" in name)
        assert kinds == ({"filtered"} if "d31" in name else set())
        assert [prstatus.hex() for prstatus in registers(source)] == theirs["prstatus"]


@pytest.mark.parametrize("compression", sorted(FLAGS))
@pytest.mark.parametrize("changes", [{}, {"level": 31, "version": 5}, {"share_zeros": True, "mixed": True}], ids=str)
def test_libkdumpfile_reads_what_the_builder_writes(tmp_path: Path, compression: str, changes: dict[str, Any], kdumpfile: Ask) -> None:
    pages = {n: page_of(n) for n in range(300) if n % 7} | {n: bytes(PAGE) for n in range(40, 60)}
    dump = Kdump(pages, frozenset(n for n in range(300) if n not in pages), compression, notes=elf.cpu(0) + elf.cpu(1), **changes)
    path = tmp_path / "dump"
    path.write_bytes(dump.build())
    with open_image(path) as source:
        both, kinds = same_pages(source, kdumpfile(path)["pages"])
        assert both >= len(pages)
        assert kinds == (set() if dump.level == 1 else {"filtered"})


# -- drgn --------------------------------------------------------------------------------------------------------------------


def test_drgn_sees_the_same() -> None:
    import drgn

    theirs = drgn.Program()
    theirs.set_core_dump(str(sample("k61-smp1.mdf-d31.kdump")))
    with open_image(sample("k61-smp1.mdf-d31.kdump")) as source:
        compared = 0
        for address in range(0, source.size, PAGE):
            data = source.read_some(PAGE, address)
            if data:
                assert theirs.read(address, PAGE, True) == data
                compared += 1
        assert compared == 3577


# -- makedumpfile ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["synth.kdump-flat", "r32.qemu.kdump-zlib"])
def test_makedumpfile_rebuilds_the_same_file(name: str, tmp_path: Path) -> None:
    rebuilt = tmp_path / "rebuilt"
    with sample(name).open("rb") as file:
        subprocess.run([*s390x("makedumpfile"), "-R", rebuilt], stdin=file, check=True, capture_output=True, timeout=240)
    with FlattenedFile(ImageFile(sample(name))) as inside:
        theirs = rebuilt.read_bytes()
        assert inside.pread(inside.size, 0) == theirs[:inside.size]
        assert not theirs[inside.size:].strip(b"\0")


def test_makedumpfile_joins_the_same_dump(tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    subprocess.run([*s390x("makedumpfile"), "--reassemble", *map(sample, SPLIT), joined], check=True, capture_output=True, timeout=240)
    with open_image([sample(name) for name in SPLIT]) as ours, open_image(joined) as theirs:
        assert ours.container.memory == theirs.container.memory
        assert ours.pread(ours.size, 0) == theirs.pread(theirs.size, 0)
        assert ours.container.cpu_notes == theirs.container.cpu_notes


# -- zgetdump ----------------------------------------------------------------------------------------------------------------


def test_zgetdump_makes_the_same_elf_core_of_an_s390_ext_dump(tmp_path: Path) -> None:
    """Of version 1: of version 2, that of Debian makes nothing."""
    with open_image(sample("synth.s390_ext1")) as ours, open_image(convert(sample("synth.s390_ext1"), "elf", tmp_path / "core")) as theirs:
        assert all_memory(ours) == all_memory(theirs)
        assert ours.container.memory == theirs.container.memory
        assert prefixes(theirs) == list(ours.container.prefixes)


def test_zgetdump_reads_what_the_builder_writes(tmp_path: Path) -> None:
    rng = random.Random(3)
    memory = bytearray(b"".join(rng.randbytes(1 << 20) if kind == "r" else bytes(1 << 20) for kind in "rzzrrzr"))
    path = tmp_path / "dump"
    path.write_bytes(s390_ext(bytes(memory)))
    with open_image(path) as ours, open_image(convert(path, "elf", tmp_path / "core")) as theirs:
        assert all_memory(ours) == all_memory(theirs) == memory


# -- the full captures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine("k61-smp1", tmp_path_factory.mktemp("machine"))
    yield made
    for path in made.folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("name", ["dump.c31", "dump.l31", "dump.F31", "dump.s31.1", "dump.s31.2"])
def test_what_makedumpfile_made_of_a_kernels_own_vmcore(machine: Machine, name: str) -> None:
    program("zstd")
    if "s31" in name:
        for other in ("dump.s31.1", "dump.s31.2"):
            machine.make(other)
    with open_image(machine.make(name)) as source, open_image(machine.vmcore) as kernels:
        same, kinds = compare(source, machine)
        assert same == 3592
        assert kinds == {"filtered"}
        container = source.container
        assert (container.writer, container.dump_level, container.incomplete, container.problems) == ("makedumpfile", 31, None, ())
        assert container.memory == kernels.container.memory
        assert container.cpu_notes == kernels.container.cpu_notes
        assert container.vmcoreinfo == kernels.container.vmcoreinfo
        assert len(source.files) == (2 if "s31" in name else 1)


def test_makedumpfile_rebuilds_its_own_flattened_dump_as_we_do(machine: Machine, tmp_path: Path) -> None:
    rebuilt = tmp_path / "rebuilt"
    with machine.make("dump.F31").open("rb") as file:
        subprocess.run([*s390x("makedumpfile"), "-R", rebuilt], stdin=file, check=True, capture_output=True, timeout=240)
    with FlattenedFile(ImageFile(machine.folder / "dump.F31")) as inside:
        assert inside.pread(inside.size, 0) == rebuilt.read_bytes()[:inside.size]
        assert inside.incomplete is None


def test_a_second_machine_s_dump(tmp_path_factory: pytest.TempPathFactory) -> None:
    machine = Machine("k612-smp2", tmp_path_factory.mktemp("machine"))
    with open_image(machine.make("dump.c31")) as source, open_image(machine.vmcore) as kernels:
        same, kinds = compare(source, machine)
        assert same > 3000
        assert kinds == {"filtered"}
        assert source.container.cpu_notes == kernels.container.cpu_notes
        assert source.container.memory == kernels.container.memory
    for path in machine.folder.iterdir():
        path.unlink()
