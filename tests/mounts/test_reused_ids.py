"""Mount ids are given again: a daemon takes its own mount away, and no other that has its old id by now."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Built
from tests.conftest import Mounting
from tests.mounts.mounting import TIMEOUT, need_mounts, need_root, wait_until
from vmcorefs.fs.mounts import find_mount
from vmcorefs.fs.record import start_time


@pytest.fixture
def backend() -> str:
    """The bindings make no difference here."""
    need_mounts()
    need_root()
    return "auto"


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Where a second name of the mount is, and where somebody else's will be; empty again at the end."""
    both = tmp_path / "bound", tmp_path / "other"
    for folder in both:
        folder.mkdir()
    yield both
    for folder in both:
        while os.path.ismount(folder):
            subprocess.run(["umount", "-l", folder], check=True, timeout=TIMEOUT)


def test_somebody_elses_mount_with_our_old_id_stays(machine: Built, mounted: Mounting, folders: tuple[Path, Path]) -> None:
    mount = mounted(machine.image)
    entry = find_mount(str(mount.where))
    assert entry is not None
    daemon, (bound, other) = mount.daemon, folders
    subprocess.run(["mount", "--bind", mount.where, bound], check=True, timeout=TIMEOUT)
    subprocess.run(["umount", mount.where], check=True, timeout=TIMEOUT)
    for _ in range(20):
        subprocess.run(["mount", "-t", "tmpfs", "somebody", other], check=True, timeout=TIMEOUT)
        found = find_mount(str(other))
        assert found is not None
        if found.id == entry.id:
            break
        subprocess.run(["mount", "--bind", other, other], check=True, timeout=TIMEOUT)  # keeps this id in use
    else:
        pytest.skip("the kernel did not give the id again")
    assert found.key != entry.key
    started = start_time(daemon)
    os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: start_time(daemon) != started, "the daemon's end")
    assert find_mount(str(other)) == found
