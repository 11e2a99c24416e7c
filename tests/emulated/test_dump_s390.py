"""Our dump.s390 before Debian's zgetdump and crash: the same machine as in the kernel's own vmcore; and both on one kdump image."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmcorefs
from tests.builders.containers import s390
from tests.containers.core import Core
from tests.mounts.mounting import mounted

from .emulator import TIMEOUT, Pair, s390x
from .test_crash import RUNNING

K61 = ("k61-smp1", "k61-smp4-offline", "k61-zfcpdump-smp3")
PAGE, MIB = 4096, 1 << 20
# In an s390 header: build_arch, mem_size_real, real_cpu_cnt; zgetdump 2.16 does not fill them in when it makes one of an ELF core
UNKNOWN_TO_ZGETDUMP = {*range(0x50, 0x5C), 0x5F, 0x60}


@pytest.fixture
def dump(pair: Pair, scratch: Path) -> Iterator[Path]:
    options = [] if pair.gold.hsa is None else ["--hsa", str(pair.gold.hsa)]
    with mounted(pair.gold.image, scratch / "also", "--also", "dump.s390", *options) as mount:
        yield mount.where / "dump.s390"


def zgetdump(source: Path, target: Path, *words: str) -> Path:
    with target.open("wb") as output:
        done = subprocess.run([*s390x("zgetdump"), *words, source], stdout=output, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT)
    assert b"Success" in done.stderr, done.stderr
    return target


def different(one: Core, other: Core) -> set[int]:
    """The pages of memory that are not equal in the two."""
    found = set()
    assert [(paddr, size) for paddr, size, _ in one.loads] == [(paddr, size) for paddr, size, _ in other.loads]
    for (paddr, size, offset), (_, _, offset2) in zip(one.loads, other.loads, strict=True):
        for at in range(0, size, MIB):
            a, b = (core.read(offset + at, min(MIB, size - at)) for core, offset in ((one, offset), (other, offset2)))
            if a != b:
                found |= {paddr + at + page for page in range(0, len(a), PAGE) if a[page:page + PAGE] != b[page:page + PAGE]}
    return found


@pytest.mark.parametrize("pair", K61, indirect=True)
def test_zgetdump_describes_it(pair: Pair, dump: Path) -> None:
    done = subprocess.run([*s390x("zgetdump"), "-i", dump], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout
    told = {key.strip(" ."): value for key, value in re.findall(r"^  (\S.*?)\.*: (.*)$", done.stdout, re.MULTILINE)}
    end = max(load.paddr + load.size for load in pair.gold.loads)
    assert (told["Dump format"], told["Version"], told["UTS kernel release"]) == ("s390", "5", pair.gold.release)
    assert told["System arch"] == "s390x (64 bit)"
    assert told["CPU count (online)"] == str(pair.gold.groups)
    assert told["Dump memory range"] == f"{end // MIB} MB"
    assert f"  {0:016x} - {end - 1:016x} " in done.stdout


@pytest.mark.parametrize("pair", K61, indirect=True)
def test_zgetdump_makes_an_elf_core_of_it(pair: Pair, dump: Path, scratch: Path) -> None:
    """Memory is the kernel's, but where a register had to be put into a lowcore; all registers are those of the kernel's notes."""
    made = zgetdump(dump, scratch / "core", "-f", "elf")
    try:
        with Core(made) as ours, Core(pair.theirs / "vmcore") as kernels:
            assert ours.cpus == kernels.cpus
            assert len(ours.cpus) == pair.gold.groups
            prefixes = [int.from_bytes(cpu["prefix"], "big") for cpu in kernels.cpus]
            pages = different(ours, kernels)
            areas = {prefix + PAGE for prefix in prefixes}
            vectors = {int.from_bytes((ours.page(prefix + PAGE) or b"")[0x1B0:0x1B8], "big") & ~0xFFF for prefix in prefixes}
            assert pages <= ((areas | vectors) if "zfcpdump" in pair.gold.name else set())
    finally:
        made.unlink()


@pytest.mark.parametrize("pair", ["k61-smp1"], indirect=True)
def test_it_is_the_file_that_zgetdump_makes_of_the_kernels_vmcore(pair: Pair, dump: Path) -> None:
    """Made when the machine was captured, and kept; but for three fields of the header that are not in an ELF core."""
    folder = pair.gold.folder.with_name(f"{pair.gold.name}-conversions")
    theirs = (folder / "dump.zgetdump.s390.head").read_bytes()
    data = dump.read_bytes()
    assert {at for at in range(PAGE) if data[at] != theirs[at]} <= UNKNOWN_TO_ZGETDUMP
    with Core(pair.theirs / "vmcore") as kernels:
        (_, size, offset), = kernels.loads
        assert data[PAGE:-16] == b"".join(kernels.read(offset + at, min(MIB, size - at)) for at in range(0, size, MIB))
    assert data[-16:] == (folder / "dump.zgetdump.s390.tail").read_bytes()


@pytest.mark.parametrize("pair", ["k61-smp4-offline"], indirect=True)
def test_crash_reads_it(pair: Pair, dump: Path, vmlinux: Path, scratch: Path) -> None:
    environment = {"HOME": str(scratch), "LC_ALL": "C", "TERM": "dumb", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*s390x("crash"), "-s", vmlinux, dump], input="bt -a\nps\nlog\nquit\n", text=True, errors="backslashreplace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=scratch, env=environment, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout
    tasks = re.findall(r"^> +([1-9]\d*) +-?\d+ +(\d+) +[0-9a-f]+ +RU .* (\S+)$", done.stdout, re.MULTILINE)
    assert {(int(process), int(cpu), command) for process, cpu, command in tasks} == RUNNING[pair.gold.name]
    assert "sysrq_handle_crash" in done.stdout
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.stdout
    with Core(pair.theirs / "vmcore") as kernels:
        for cpu in kernels.cpus:
            mask, address = struct.unpack(">QQ", cpu["psw"])
            assert re.search(rf"-psw +: 0x0*{mask:x} 0x0*{address:x}$", done.stdout, re.MULTILINE), hex(address)
            assert f"-prefix   : 0x{cpu['prefix'].hex()}" in done.stdout


@pytest.mark.parametrize("pair", ["k61-smp1"], indirect=True)
def test_one_dump_of_two_systems_through_both_readers(pair: Pair, scratch: Path) -> None:
    """A stand-alone dump taken while the dump kernel ran: zgetdump needs --select prod, we need nothing; memory and registers agree."""
    path = scratch / "two.s390"
    memory = pair.gold.image.read_bytes()
    with path.open("wb") as file:
        for piece in (s390.header(len(memory)), memory, s390.end_marker()):
            file.write(piece)
    del memory
    try:
        refused = subprocess.run([*s390x("zgetdump"), "-f", "elf", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
                                 timeout=TIMEOUT)
        assert refused.returncode != 0
        assert b'"-s prod"' in refused.stderr
        made = zgetdump(path, scratch / "core", "-s", "prod", "-f", "elf")
        with vmcorefs.open(path) as dump, Core(made) as theirs:
            assert dump.mode.name == "kdump"
            assert dump.problems == ()
            assert dump.vmcore.header == pair.gold.header
            with Core(pair.theirs / "vmcore") as kernels:
                assert theirs.cpus == kernels.cpus
            for paddr, size, offset in theirs.loads:
                for at in range(0, size, MIB):
                    count = min(MIB, size - at)
                    assert dump.oldmem.read(paddr + at, count) == theirs.read(offset + at, count), hex(paddr + at)
            assert sum(size for _, size, _ in theirs.loads) == sum(r.size for r in dump.memory_map)
    finally:
        path.unlink()
        (scratch / "core").unlink(missing_ok=True)
