"""The pairs, one after the other: a capture is expanded, mounted, and gone again before the next one comes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.readers.gold import Gold, gold_folder, mount_gold
from tests.readers.installed import program

from .emulator import Pair, s390x

# One CPU; several CPUs and one offline; KASLR, two PT_LOADs and a wrapped log; HSA; the layout of 6.12
CAPTURES = ("k61-smp1", "k61-smp4-offline", "k61-text", "k61-zfcpdump-smp3", "k612-smp2")


@pytest.fixture(scope="package")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vmcorefs-emulated-") as path:
        yield Path(path).resolve()


def _kernels_own(gold: Gold) -> Path:
    """The kernel's vmcore, made next to the image and checked against the kernel's own sum."""
    target = gold.image.parent
    subprocess.run([sys.executable, gold.folder.parent / "expand.py", gold.folder, target, "--vmcore", "--only", "vmcore"],
                   check=True, capture_output=True, timeout=120)
    return target / "vmcore"


@pytest.fixture(scope="package", params=CAPTURES)
def pair(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Pair]:
    """A capture of CAPTURES, or the one that parametrize(..., indirect=True) names."""
    gold_folder()
    for name in ("makedumpfile", "crash", "zgetdump"):
        s390x(name)
    with ExitStack() as stack:
        name = str(request.param)
        stack.callback(shutil.rmtree, scratch / name, ignore_errors=True)
        gold = mount_gold(name, scratch, stack)
        found = Pair(gold, scratch / name / "ours", scratch / name / "theirs")
        for folder, vmcore in ((found.ours, gold.vmcore), (found.theirs, _kernels_own(gold))):
            folder.mkdir()
            (folder / "vmcore").symlink_to(vmcore)
        yield found


@pytest.fixture
def vmlinux(pair: Pair, scratch: Path) -> Path:
    """The crashed kernel's vmlinux with a .gdb_index. crash would make as much of it without, but needs thrice the time for it."""
    plain = pair.gold.vmlinux
    indexed = plain.with_name(f"{plain.name}.indexed")
    if not indexed.exists():
        subprocess.run([program("gdb-multiarch"), "-batch", "-nx", "-ex", f"save gdb-index {scratch}", plain], check=True,
                       capture_output=True, timeout=120)
        subprocess.run([program("objcopy"), "-I", "elf64-big", "-O", "elf64-big",
                        "--add-section", f".gdb_index={scratch / plain.name}.gdb-index",
                        "--set-section-flags", ".gdb_index=readonly", plain, indexed],
                       check=True, capture_output=True, timeout=120)
        with open(plain, "rb") as source, open(indexed, "r+b") as target:
            source.seek(18)
            target.seek(18)
            target.write(source.read(2))  # e_machine: for this machine's objcopy s390x is none
    return indexed
