"""Real dumps, mounted with no option: the recorded memory and registers; a kernel's own vmcore gives itself."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

import vmcorefs
from tests.captures import sparse
from tests.containers.core import Core
from tests.image.samples import facts, sample
from tests.mounts.mounting import mounted
from tests.readers.gold import gold_folder
from tests.readers.installed import program
from vmcorefs.errors import OldmemReadError

# synth.kdump-split: one is given, the other two are found beside it
SYNTH = ("synth.s390", "synth.s390_ext1", "synth.s390_ext2z.part", "synth.elf", "synth.kdump-zlib", "synth.kdump-lzo",
         "synth.kdump-snappy", "synth.kdump-zstd", "synth.kdump-flat", "synth.kdump-split2", "synth.lime", "synth.avml")
QEMU = ("r32.qemu.elf", "r32.qemu-window.elf", "r32.qemu.kdump-zlib", "r32.zgetdump.s390")
FILTERED = ("k61-smp1.mdf-d31.kdump", "k61-smp1.mdf-d31.elf")
NOT_IN_THE_FORMAT = {"synth.s390", "synth.s390_ext1", "synth.s390_ext2z.part", "synth.avml"}  # holes, which are zeros there


def told(value: str | list[str]) -> bytes:
    """A number, or a list of them, in synth-registers.json."""
    words = [value] if isinstance(value, str) else value
    return b"".join(bytes.fromhex(word.removeprefix("0x")) for word in words)


def check_map_and_hash(core: Core, name: str) -> None:
    about = facts(name)
    assert core.hash(about["memory_size"]) == about["memory_sha256"]
    if "memory_map" in about:
        whole = [["0x0", f"{about['memory_size']:#x}"]]
        assert core.memory == (whole if name in NOT_IN_THE_FORMAT else about["memory_map"])


@pytest.mark.parametrize("name", SYNTH)
def test_the_invented_machine(name: str, tmp_path: Path) -> None:
    """One memory, twelve containers; the last mount of each sample is under another binding."""
    for part in ("synth.kdump-split1", "synth.kdump-split3") if "split" in name else ():
        sample(part)
    registers = json.loads(sample("synth-registers.json").read_text())
    backend = ("mfusepy", "fusepy")[SYNTH.index(name) % 2]
    with mounted(sample(name), tmp_path / "mnt", backend=backend) as mount, Core(mount.vmcore) as core:
        check_map_and_hash(core, name)
        assert core.vmcoreinfo == registers["vmcoreinfo"].encode()
        assert len(core.cpus) == 2
        for cpu, recorded in zip(core.cpus, registers["cpus"], strict=True):
            assert {"psw", "gprs", "ctrs", "prefix"} <= set(cpu)
            assert ("vxrs_low" in cpu) is ("elf" in name or "kdump" in name)  # its invented control register 0 does not enable them
            assert cpu == {field: told(recorded[field]) for field in cpu}
        assert "warning" not in mount.said


@pytest.mark.parametrize("name", QEMU)
def test_a_machine_that_qemu_dumped(name: str, tmp_path: Path) -> None:
    text = sample("r32.registers.txt").read_text()
    psw = re.search(r"^PSW=mask (\w+) addr (\w+)", text, re.MULTILINE)
    assert psw is not None
    with mounted(sample(name), tmp_path / "mnt") as mount, Core(mount.vmcore) as core:
        check_map_and_hash(core, name)
        assert [f"{int.from_bytes(cpu['prefix'], 'big'):#x}" for cpu in core.cpus] == facts(name)["prefixes"]
        first = core.cpus[0]
        assert first["psw"].hex() == "".join(psw.groups())
        for field, letter, count in (("gprs", "R", 16), ("ctrs", "C", 16)):
            assert first[field].hex() == "".join(re.findall(rf"\b{letter}\d\d=(\w+)", text)[:count]), field
        vectors = re.findall(r"\bV\d\d=(\w+)", text)[:32]
        assert first["vxrs_high"].hex() == "".join(vectors[16:])
        assert first["vxrs_low"].hex() == "".join(vector[16:] for vector in vectors[:16])
        assert first["fprs"].hex() == "".join(vector[:16] for vector in vectors[:16])
        # As STORE STATUS has it, not as QEMU; but zgetdump copies QEMU's value into the save area as it is
        assert (first["todcmp"][0] == 0) is ("zgetdump" not in name)
        assert core.vmcoreinfo is None if "window" in name else b"OSRELEASE=6.1.192-gold\n" in (core.vmcoreinfo or b"")


@pytest.mark.parametrize("name", FILTERED)
def test_what_makedumpfile_left_out_is_an_error(name: str, tmp_path: Path) -> None:
    about = facts(name)
    digest, kinds = hashlib.sha256(), set()
    with vmcorefs.open(sample(name)) as dump:
        assert dump.problems == ()
        assert [f"{cpu.save_area.prefix_address:#x}" for cpu in dump.cpus] == about["prefixes"]
        for address in range(0, about["memory_size"], 4096):
            try:
                digest.update(dump.oldmem.read(address, 4096))
            except OldmemReadError as error:
                kinds.add(error.kind)
                digest.update(bytes(4096))
        assert (digest.hexdigest(), kinds) == (about["memory_sha256"], {"filtered"})
        with mounted(sample(name), tmp_path / "mnt") as mount, Core(mount.vmcore) as core:
            assert [cpu["psw"] for cpu in core.cpus] == [cpu.save_area.psw for cpu in dump.cpus]
            for address in range(0, 0x40000, 4096):
                try:
                    assert core.page(address) == dump.oldmem.read(address, 4096)
                except OldmemReadError:
                    assert core.page(address) is None


def test_an_incomplete_dump_warns_and_serves_what_is_there(tmp_path: Path) -> None:
    with mounted(sample("synth.s390_ext1.cut"), tmp_path / "mnt") as mount, Core(mount.vmcore) as core, \
            vmcorefs.open(sample("synth.s390")) as whole:
        assert "warning" in mount.said
        assert "the dump is incomplete: the file is cut off" in mount.said
        for address in range(0, 0x300000, 4096):
            assert core.page(address) == (whole.oldmem.read(address, 4096) if address < 0x249000 else None)


# -- a kernel's own vmcore -------------------------------------------------------------------------------------------------

KERNELS = [name for name in sparse.names() if sparse.load(name).header is not None]


@dataclass(frozen=True)
class Vmcore:
    """A capture's vmcore as its dump kernel served it, but with zeros for most of its pages."""

    path: Path
    header: bytes
    size: int


def kernels_vmcore(name: str, folder: Path) -> Vmcore:
    capture = sparse.load(name)
    assert capture.header is not None
    assert capture.vmcore_size is not None
    path = folder / "vmcore"
    with path.open("wb") as file:
        file.truncate(capture.vmcore_size)
        for offset, data in [(0, capture.header), *sparse.expected_pages(name)]:
            file.seek(offset)
            file.write(data)
    return Vmcore(path, capture.header, capture.vmcore_size)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernels_own_vmcore_gives_itself(name: str, tmp_path: Path) -> None:
    """tests/gold does it with all of its bytes."""
    vmcore = kernels_vmcore(name, tmp_path)
    with vmcorefs.open(vmcore.path) as dump:
        assert dump.mode.name == "plain"
        assert dump.image.container.writer == "kernel"
        assert dump.problems == ()
        assert dump.vmcore.header == vmcore.header
        assert dump.vmcore.size == vmcore.size
        for offset, data in sparse.expected_pages(name):
            assert dump.vmcore.pread(len(data), offset) == data


@pytest.mark.parametrize("name", ["k61-smp4-offline", "k612-smp2"])
def test_a_kernels_own_vmcore_mounted(name: str, backend: str, tmp_path: Path) -> None:
    vmcore = kernels_vmcore(name, tmp_path)
    with mounted(vmcore.path, tmp_path / "mnt", backend=backend) as mount:
        subprocess.run(["cmp", vmcore.path, mount.vmcore], check=True, timeout=120)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernels_own_vmcore_that_is_cut_off_keeps_its_header(name: str, tmp_path: Path) -> None:
    """Lowcore and VMCOREINFO in memory are lost, too: the notes and the VMCOREINFO of its own header are all there is."""
    vmcore = kernels_vmcore(name, tmp_path)
    with vmcore.path.open("r+b") as file:
        file.truncate(len(vmcore.header) + 100)
    with vmcorefs.open(vmcore.path) as dump:
        assert "incomplete" in {problem.code for problem in dump.problems}
        assert dump.vmcore.header == vmcore.header


# -- what makedumpfile and zgetdump made of them ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["k61-smp1", "k612-smp2"])
def conversions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The expanded folder, the kernel's vmcore in it."""
    program("zstd")
    folder = tmp_path_factory.mktemp("conversions")
    gold = gold_folder()
    subprocess.run([sys.executable, gold / "expand.py", gold / f"{request.param}-conversions", folder], check=True, capture_output=True,
                   timeout=240)
    yield folder
    for path in folder.iterdir():
        path.unlink()


def differing(dump: vmcorefs.Dump, kernel: IO[bytes], step: int) -> tuple[int, int]:
    """(pages that can be read, where the first of them is not what the kernel served: 0 for nowhere). All others are filtered;
    *step*: how far to go on behind one of those.
    """
    offset, pages, buffer = len(dump.vmcore.header), 0, bytearray(1 << 20)
    while offset < dump.vmcore.size:
        good = min(len(buffer), dump.vmcore.size - offset)
        try:
            dump.vmcore.preadinto(memoryview(buffer)[:good], offset)
        except OldmemReadError as error:
            if error.kind != "filtered":
                raise
            good = error.good
        kernel.seek(offset)
        if kernel.read(good) != buffer[:good]:
            return pages, offset
        pages += good // 4096
        offset += good or step
    return pages, 0


def test_conversions(conversions: Path) -> None:
    """Header and size are the kernel's, and every page that is there."""
    names = {path.name for path in conversions.glob("dump.*")} - {"dump.s31.2", "dump.l31"}  # found beside the other; the same as c31
    assert names >= {"dump.c31", "dump.E31", "dump.zgetdump.elf"}
    with open(conversions / "vmcore", "rb") as kernel:
        size = kernel.seek(0, 2)
        for name in sorted(names):
            with vmcorefs.open(conversions / name) as dump:
                kernel.seek(0)
                assert dump.vmcore.header == kernel.read(len(dump.vmcore.header)), name
                assert dump.vmcore.size == size
                pages, different = differing(dump, kernel, 4096 if name in {"dump.c31", "dump.E31"} else 10 * 4096)
                assert not different, f"{name}: {different:#x}"
                assert pages > 1000
                assert ("zgetdump" in name) is (pages == (size - len(dump.vmcore.header)) // 4096)
                # PT_LOAD of the kernel image, which zgetdump 2.16 puts at its virtual address
                image = name == "dump.zgetdump.elf" and dump.layout.image_load.value
                assert [problem.code for problem in dump.problems] == (["container"] if image else []), name
