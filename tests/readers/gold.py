"""The full gold captures, in the folder that VMCOREFS_GOLD names: expanded and mounted, and what their own
files say about them. Nothing here uses the product but the mount itself.
"""

from __future__ import annotations

import functools
import json
import lzma
import os
import re
import struct
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .installed import program
from .mounting import mounted

WITH_VMCORE = (
    "k61-hot",
    "k61-novx",
    "k61-novx-dump",
    "k61-smp1",
    "k61-smp4-offline",
    "k61-text",
    "k61-zfcpdump",
    "k61-zfcpdump-smp3",
    "k612-smp2",
)
PLAIN = "k61-plain"
ALL = (*WITH_VMCORE, PLAIN)
_NOTE_NAME = b"VMCOREINFO\0"


@dataclass(frozen=True)
class Load:
    """A PT_LOAD as capture.json has it."""

    offset: int
    vaddr: int
    paddr: int
    size: int


@dataclass(frozen=True)
class Gold:
    """A capture, expanded and mounted: *folder* is what the machine said, *vmcore* what is to be read."""

    name: str
    folder: Path
    image: Path
    hsa: Path | None
    vmlinux: Path
    vmcore: Path

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """capture.json."""
        return read_about(self.folder)

    def text(self, name: str) -> str:
        """One of the capture's text files."""
        return (self.folder / name).read_text(encoding="utf-8")

    @property
    def release(self) -> str:
        """uname -r."""
        return str(self.about["kernel"])

    @property
    def header(self) -> bytes:
        """The kernel's vmcore up to the first PT_LOAD's data."""
        return (self.folder / "header.bin").read_bytes()

    @property
    def loads(self) -> list[Load]:
        """The PT_LOADs of the kernel's file; of a plain capture, all of its memory."""
        if "vmcore" not in self.about:
            return [Load(-1, 0, 0, self.about["ram_size"])]
        return [Load(*(int(load[key], 16) for key in ("offset", "vaddr", "paddr", "memsz")))
                for load in self.about["vmcore"]["loads"]]

    @property
    def online(self) -> int:
        """How many CPUs were online before the crash (cpus.txt)."""
        found = re.search(r"^/sys/devices/system/cpu/online (\S+)$", self.text("cpus.txt"), re.MULTILINE)
        assert found
        ends = [part.split("-") for part in found[1].split(",")]
        return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)

    @property
    def groups(self) -> int:
        """How many CPUs have notes. No CPU of the plain machine had stored its registers when memory was saved."""
        return 0 if self.name == PLAIN else self.online

    @property
    def vmcoreinfo_address(self) -> int:
        """Physical address of the VMCOREINFO note (/sys/kernel/vmcoreinfo)."""
        return int(self.text("sys-kernel-vmcoreinfo.txt").split()[0], 16)

    @functools.cached_property
    def vmcoreinfo(self) -> bytes:
        """The VMCOREINFO text: of the kernel's file; of a plain capture, where its own kernel said that the note lies."""
        path = self.folder / "vmcoreinfo.txt"
        if path.exists():
            return path.read_bytes()
        with open(self.image, "rb") as file:
            file.seek(self.vmcoreinfo_address)
            return vmcoreinfo_of_note(file.read(8192))

    @property
    def kernel_offset(self) -> int:
        """How far KASLR moved the kernel from the addresses of its vmlinux."""
        found = re.search(rb"^KERNELOFFSET=([0-9a-f]+)$", self.vmcoreinfo, re.MULTILINE)
        assert found
        return int(found[1], 16)

    @property
    def banner(self) -> bytes:
        """linux_banner without its newline, as the first line of the log has it, or (ring wrapped) its start."""
        line = self.text("dmesg-raw.txt").splitlines()[0]
        at = line.find("Linux version ")
        return line[at:].encode() if at >= 0 else f"Linux version {self.release} ".encode()

    @property
    def banner_address(self) -> int:
        """The virtual address of linux_banner in the crashed kernel."""
        symbols = _system_map(self.folder.parent / "kernels" / self.about["kernel_build"] / "System.map.xz")
        return symbols["linux_banner"] + self.kernel_offset

    @property
    def tmpfs_sums(self) -> dict[str, str]:
        """path -> sha256."""
        return {path: digest for digest, path in (line.split() for line in self.text("tmpfs-sums.txt").splitlines())}


def read_about(folder: Path) -> dict[str, Any]:
    """capture.json of a folder."""
    about: dict[str, Any] = json.loads((folder / "capture.json").read_text(encoding="utf-8"))
    return about


def vmcoreinfo_of_note(note: bytes) -> bytes:
    """The text in the note that /sys/kernel/vmcoreinfo points to."""
    name_size, size, kind = struct.unpack_from(">III", note)
    assert (name_size, kind) == (len(_NOTE_NAME), 0)
    assert note[12:12 + name_size] == _NOTE_NAME
    return note[24:24 + size]


@functools.cache
def _system_map(path: Path) -> dict[str, int]:
    rows = (line.split() for line in lzma.decompress(path.read_bytes()).decode("ascii").splitlines())
    return {name: int(address, 16) for address, _, name in rows}


def _vmlinux(compressed: Path, scratch: Path) -> Path:
    target = scratch / f"vmlinux-{compressed.parent.name}"
    if not target.exists():
        target.write_bytes(lzma.decompress(compressed.read_bytes()))
    return target


def gold_folder() -> Path:
    """VMCOREFS_GOLD, or a skip."""
    where = os.environ.get("VMCOREFS_GOLD")
    if not where:
        pytest.skip("VMCOREFS_GOLD is not set: no full captures")
    return Path(where).resolve()


def mount_gold(name: str, scratch: Path, stack: ExitStack) -> Gold:
    """Expand a capture below *scratch* and mount it until *stack* ends."""
    folder = gold_folder() / name
    about = read_about(folder)
    only = [] if "hsa" in about else ["--only", about["image"]["file"]]  # what is mounted, not what QEMU made of it
    program("zstd")
    target = scratch / name
    subprocess.run([sys.executable, str(folder.parent / "expand.py"), str(folder), str(target), *only], check=True,
                   capture_output=True, timeout=120)
    image = target / about["image"]["file"]
    hsa = target / about["hsa"]["file"] if "hsa" in about else None
    options = ["--hsa", str(hsa)] if hsa else []
    vmlinux = _vmlinux(folder.parent / "kernels" / about["kernel_build"] / "vmlinux.xz", scratch)
    vmcore = stack.enter_context(mounted(image, scratch / "mnt" / name, *options))
    return Gold(name, folder, image, hsa, vmlinux, vmcore)
