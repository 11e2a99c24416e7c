"""Our outputs before readers that share nothing with us, on any host: libkdumpfile, drgn, gdb's own reader is in tests/readers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Machine, cpus
from tests.captures import sparse
from tests.containers.core import PAGE, Core
from tests.containers.wrapping import EVERY, of_image
from tests.image.samples import sample
from tests.mounts.mounting import mounted
from tests.readers.installed import missing

PYTHON = "/usr/bin/python3"
READER = Path(__file__).resolve().parents[1] / "readers" / "kdumpfile_memory.py"


def kdumpfile(path: Path) -> dict[str, Any]:
    """What libkdumpfile says of a dump: its format, a hash for each page, NT_PRSTATUS of each CPU."""
    if not os.path.exists(PYTHON) or subprocess.run([PYTHON, "-I", "-c", "import kdumpfile"], capture_output=True, check=False).returncode:
        missing("python3-libkdumpfile is not installed")
    done = subprocess.run([PYTHON, "-I", READER, path], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def short_hash(page: bytes) -> str:
    return hashlib.sha256(page).hexdigest()[:32]


@pytest.mark.parametrize("name", ["elf, QEMU", "kdump zlib", "s390_ext zlib"])
def test_libkdumpfile_on_our_vmcore_and_dump_s390(name: str, tmp_path: Path) -> None:
    built = Machine(mode="plain", memory=((0, 0x280000),), cpus=cpus(2), body_pages="all").build(tmp_path)
    (tmp_path / "dump").mkdir()
    path = EVERY[name](of_image(built), tmp_path / "dump")
    expected = {str(page): short_hash(built.model.old_page(page)) for page in range(0, 0x280000, PAGE)}
    with mounted(path, tmp_path / "mnt", "--also", "dump.s390") as mount, Core(mount.vmcore) as core:
        vmcore, dump = kdumpfile(mount.vmcore), kdumpfile(mount.where / "dump.s390")
        assert (vmcore["format"], dump["format"]) == ("elf", "s390dump")
        assert vmcore["pages"] == expected
        assert dump["pages"] == expected
        assert vmcore["prstatus"] == [desc.hex() for name, kind, desc in core.notes if (name, kind) == (b"CORE", 1)]
        assert len(vmcore["prstatus"]) == 2


def test_libkdumpfile_on_the_dump_s390_of_a_real_kdump_image(tmp_path: Path) -> None:
    image = sparse.expand("k61-smp1", tmp_path).image
    with mounted(image, tmp_path / "mnt", "--also", "dump.s390") as mount:
        pages = kdumpfile(mount.where / "dump.s390")["pages"]
    kept = dict(sparse.expected_memory("k61-smp1"))
    assert len(kept) > 15
    assert {address: pages[str(address)] for address in kept} == {address: short_hash(page) for address, page in kept.items()}


def test_drgn_takes_our_vmcore_of_a_dump_of_qemu_for_a_kernels(tmp_path: Path) -> None:
    """The dump itself has no VMCOREINFO, so that drgn takes it for the core of a process."""
    import drgn

    direct = drgn.Program()
    direct.set_core_dump(str(sample("r32.qemu.elf")))
    assert not direct.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    with mounted(sample("r32.qemu.elf"), tmp_path / "mnt") as mount, Core(mount.vmcore) as core:
        program = drgn.Program()
        program.set_core_dump(str(mount.vmcore))
        assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
        for address in range(0, 0x2000000, 0x111000):
            assert program.read(address, PAGE, True) == core.page(address)
        del program
