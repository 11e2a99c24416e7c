"""s390x programs on mounts of dumps that they could not read themselves, or read as well: the same machine, the same dump again."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.core import Core
from tests.image.samples import facts, sample
from tests.mounts.mounting import Mounted, mounted
from tests.readers.gold import gold_folder

from .emulator import TIMEOUT, Pair, s390x
from .test_crash import COMMANDS, RUNNING


def ran(*words: str | Path, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program's words are in stdout, stderr among them."""
    environment = {"HOME": str(folder), "LC_ALL": "C", "TERM": "dumb", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
    return subprocess.run([*s390x(str(words[0])), *words[1:]], input=stdin, text=True, errors="backslashreplace", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, cwd=folder, env=environment, timeout=TIMEOUT, check=False)


@pytest.fixture
def filtered() -> Path:
    """What makedumpfile -c -d 31 made of k61-smp1's own vmcore when it was captured."""
    return gold_folder() / "k61-smp1-conversions" / "dump.c31"


@pytest.fixture
def mount(filtered: Path, tmp_path: Path) -> Iterator[Mounted]:
    s390x("zgetdump")
    with mounted(filtered, tmp_path / "mnt") as found:
        yield found


def test_makedumpfile_makes_the_same_dump_again(mount: Mounted, filtered: Path, tmp_path: Path) -> None:
    """Pages that it left out cannot be read, and it does not ask for them a second time."""
    for way in ([], ["--non-mmap"]):
        done = ran("makedumpfile", *way, "-c", "-d", "31", mount.vmcore, tmp_path / "again", folder=tmp_path)
        assert done.returncode == 0, done.stdout
        assert (tmp_path / "again").read_bytes() == filtered.read_bytes()
        (tmp_path / "again").unlink()


@pytest.mark.parametrize("pair", ["k61-smp1"], indirect=True)
def test_crash_reads_a_filtered_dump(pair: Pair, vmlinux: Path, mount: Mounted, tmp_path: Path) -> None:
    done = ran("crash", "-s", vmlinux, mount.vmcore, folder=tmp_path, stdin=COMMANDS)
    assert done.returncode == 0, done.stdout
    tasks = re.findall(r"^> +([1-9]\d*) +-?\d+ +(\d+) +[0-9a-f]+ +RU .* (\S+)$", done.stdout, re.MULTILINE)
    assert {(int(process), int(cpu), command) for process, cpu, command in tasks} == RUNNING["k61-smp1"]
    assert re.search(r"^ *#\d+ \[[0-9a-f]+\] panic at ", done.stdout, re.MULTILINE)
    assert "Kernel panic - not syncing: sysrq triggered crash" in done.stdout


def test_zgetdump_gives_up_where_bytes_are_missing_unless_they_are_zeros(mount: Mounted, filtered: Path, tmp_path: Path) -> None:
    done = ran("zgetdump", "-f", "elf", mount.vmcore, folder=tmp_path)
    assert done.returncode != 0
    assert "Input/output error" in done.stdout
    with mounted(filtered, tmp_path / "zeros", "--missing", "zeros") as zeros, open(tmp_path / "core", "wb") as output:
        made = subprocess.run([*s390x("zgetdump"), "-f", "elf", zeros.vmcore], stdout=output, stderr=subprocess.PIPE, check=False,
                              timeout=TIMEOUT)
        assert b"Success" in made.stderr
        with Core(tmp_path / "core") as theirs, Core(zeros.vmcore) as ours:
            (paddr, size, begin), = theirs.loads
            (_, _, offset), = ours.loads
            assert paddr == 0
            for at in range(0, size, 1 << 20):
                assert theirs.read(begin + at, 1 << 20) == ours.read(offset + at, 1 << 20)
            assert theirs.cpus == ours.cpus


def test_zgetdump_reads_a_dump_of_qemu_through_us(tmp_path: Path) -> None:
    """The file itself ends zgetdump 2.16: QEMU has section headers where it expects program headers."""
    path = sample("r32.qemu.elf")
    assert ran("zgetdump", "-i", path, folder=tmp_path).returncode != 0
    with mounted(path, tmp_path / "mnt") as mount, open(tmp_path / "core", "wb") as output:
        done = ran("zgetdump", "-i", mount.vmcore, folder=tmp_path)
        assert done.returncode == 0, done.stdout
        assert re.search(r"UTS kernel release\.: 6\.1\.192-gold$", done.stdout, re.MULTILINE)
        assert re.search(r"CPU count \(online\)\.: 2$", done.stdout, re.MULTILINE)
        made = subprocess.run([*s390x("zgetdump"), "-f", "elf", mount.vmcore], stdout=output, stderr=subprocess.PIPE, check=False,
                              timeout=TIMEOUT)
        assert b"Success" in made.stderr
        with Core(tmp_path / "core") as theirs, Core(mount.vmcore) as ours:
            assert theirs.hash(facts("r32.qemu.elf")["memory_size"]) == facts("r32.qemu.elf")["memory_sha256"]
            assert theirs.cpus == ours.cpus
            assert len(theirs.cpus) == 2
