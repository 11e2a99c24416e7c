"""Mounting at an automount point, on the kernel's real autofs; make systemd-vm does it with systemd's automounter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import Machine
from tests.mounts.mounting import clear, mount_rows, need_mounts, need_root, skip_or_fail, unmount, wait_until
from tests.systemd import automounter
from tests.systemd.units import program


@contextmanager
def automount(where: Path, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """autofs at *where*, its automounter in a process group of its own; nothing of both at the end."""
    need_mounts()
    need_root()
    where.mkdir()
    process = subprocess.Popen([sys.executable, automounter.__file__, where, *command], stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    assert process.stdout is not None
    try:
        if (line := process.stdout.readline()) != "waiting\n":
            skip_or_fail(line.strip())
        yield process
    finally:
        process.kill()  # whoever waits in the directory gets ENOENT
        process.communicate()
        clear(where)
        subprocess.run(["umount", "-l", where], check=False, capture_output=True)


def types_at(where: Path) -> list[str]:
    return [row.type for row in mount_rows() if row.where == bytes(where)]


@pytest.mark.parametrize("name", ["mount.vmcorefs", "vmcorefs"])
def test_the_first_look_mounts(name: str, tmp_path: Path) -> None:
    """The mount command must not wait for an answer in a process that autofs keeps waiting for the mount command."""
    built = Machine().build(tmp_path)
    where = tmp_path / "mnt"
    helper = program().with_name(name)
    command = [helper, built.image, where] if name == "mount.vmcorefs" else [helper, "mount", built.image, where]
    with automount(where, *command) as process:
        assert types_at(where) == ["autofs"]
        look = subprocess.run(["ls", where], capture_output=True, text=True, check=False, timeout=30)
        assert look.returncode == 0, look.stderr
        assert "vmcore" in look.stdout.split()
        assert types_at(where) == ["autofs", "fuse.vmcorefs"]
        assert unmount(where).returncode == 0
        wait_until(lambda: types_at(where) == ["autofs"], "the unmount")
        process.kill()
        assert process.stdout is not None
        assert "status 0" in process.stdout.read()


def test_a_mount_that_fails_is_an_error_for_who_looks(tmp_path: Path) -> None:
    where = tmp_path / "mnt"
    with automount(where, program(), "mount", tmp_path / "no.img", where) as process:
        look = subprocess.run(["ls", where], capture_output=True, text=True, check=False, timeout=30)
        assert look.returncode != 0
        assert types_at(where) == ["autofs"]
        process.kill()
        assert process.stdout is not None
        assert "status 2" in process.stdout.read()
