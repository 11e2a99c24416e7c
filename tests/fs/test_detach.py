"""detach(): which programs are called, in which order, and what their answers mean. They are scripts here that write down how
they were called, in front of the system's own; the mounts are real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.builders import Machine
from tests.conftest import Mounting
from tests.mounts.mounting import TIMEOUT, Mounted, assert_refused, need_mounts, need_root, row_of, run, words
from vmcorefs.fs import detach as module
from vmcorefs.fs.detach import detach, is_mounted
from vmcorefs.fs.mounts import MountEntry, find_mount

PROGRAMS = ("fusermount3", "fusermount", "umount")
THROUGH = 'exec {real} "$@"'
FAIL = "echo {name} says no >&2; exit 1"


@pytest.fixture
def backend() -> str:
    need_mounts()
    return "auto"


@pytest.fixture
def mount(mounted: Mounting, tmp_path: Path) -> Mounted:
    return mounted(Machine().build(tmp_path).image)


class Programs:
    """Scripts in front of the system's programs, and how they were called."""

    def __init__(self, folder: Path, **bodies: str):
        folder.mkdir()
        self._log = folder / "log"
        self._log.touch()
        self.path = f"{folder}:{os.environ['PATH']}"
        for name in PROGRAMS:
            body = bodies.get(name, THROUGH).format(real=shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") or "false", name=name)
            script = folder / name
            script.write_text(f'#!/bin/sh\necho {name} "$@" >>"{self._log}"\n{body}\n', encoding="utf-8")
            script.chmod(0o755)

    def calls(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()


def entry_of(mount: Mounted) -> MountEntry:
    entry = find_mount(str(mount.where))
    assert entry is not None
    return entry


@pytest.mark.parametrize("lazy", [False, True])
def test_the_first_that_works_is_enough(mount: Mounted, tmp_path: Path, lazy: bool) -> None:
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    programs = Programs(tmp_path / "bin")
    done = run("umount", *(["--lazy"] if lazy else []), mount.where, env={"PATH": programs.path})
    assert done.returncode == 0, words(done)
    assert programs.calls() == [f"fusermount3 -u {'-z ' if lazy else ''}-- {mount.where}"]
    assert row_of(mount.where) is None


@pytest.mark.parametrize("lazy", [False, True])
def test_each_is_tried_in_turn(mount: Mounted, tmp_path: Path, lazy: bool) -> None:
    need_root()
    programs = Programs(tmp_path / "bin", fusermount3=FAIL, fusermount=FAIL)
    done = run("umount", *(["--lazy"] if lazy else []), mount.where, env={"PATH": programs.path})
    assert (done.returncode, done.stderr) == (0, b""), words(done)
    options = ["-u -z --", "-u -z --", "-l --"] if lazy else ["-u --", "-u --", "--"]
    assert programs.calls() == [f"{name} {option} {mount.where}" for name, option in zip(PROGRAMS, options, strict=True)]
    assert row_of(mount.where) is None


def test_none_works(mount: Mounted, tmp_path: Path) -> None:
    programs = Programs(tmp_path / "bin", fusermount3=FAIL, fusermount=FAIL, umount=FAIL)
    assert_refused(run("umount", mount.where, env={"PATH": programs.path}), 1, str(mount.where), "umount says no")
    assert mount.lives()


def test_busy_is_an_answer_of_the_kernel(mount: Mounted, tmp_path: Path) -> None:
    """Another program would get the same."""
    programs = Programs(tmp_path / "bin")
    with mount.vmcore.open("rb"):
        assert_refused(run("umount", mount.where, env={"PATH": programs.path}), 1, "in use")
    assert len(programs.calls()) == 1
    assert mount.lives()


def test_the_mount_counts_not_the_program_s_word(mount: Mounted, tmp_path: Path) -> None:
    """It unmounts, and fails all the same."""
    need_root()
    programs = Programs(tmp_path / "bin", fusermount3='umount "$3"; exit 1')
    done = run("umount", mount.where, env={"PATH": programs.path})
    assert done.returncode == 0, words(done)


@pytest.mark.parametrize("body", ["sleep 100", "exec 2>&1 1>/dev/null; kill -9 $$"])
def test_one_that_hangs_or_dies(mount: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    programs = Programs(tmp_path / "bin", fusermount3=f"exec {body}" if "sleep" in body else body, fusermount=FAIL, umount=FAIL)
    monkeypatch.setenv("PATH", programs.path)
    start = time.monotonic()
    assert detach(entry_of(mount), lazy=True, timeout=0.5) == "umount says no"
    assert time.monotonic() - start < 5
    assert [call.split()[0] for call in programs.calls()] == list(PROGRAMS)
    assert mount.lives()


def test_one_that_cannot_be_run(mount: Mounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here: no interpreter; in life: no more processes. The next one may work."""
    programs = Programs(tmp_path / "bin", fusermount=FAIL, umount=FAIL)
    (tmp_path / "bin" / "fusermount3").write_text("#!/nonexistent/sh\n", encoding="ascii")
    monkeypatch.setenv("PATH", programs.path)
    assert detach(entry_of(mount), lazy=False) == "umount says no"


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_path(mount: Mounted, tmp_path: Path, path: str | None) -> None:
    """Then the system's directories, and never the working directory."""
    Programs(tmp_path / "bin", fusermount3=FAIL, fusermount=FAIL, umount=FAIL)
    command = ["env", "-u", "PATH"] if path is None else ["env", f"PATH={path}"]
    run_it = "import sys; from vmcorefs.cli.main import main; sys.exit(main())"
    done = subprocess.run([*command, os.path.realpath("/proc/self/exe"), "-c", run_it, "umount", mount.where], check=False,
                          capture_output=True, timeout=TIMEOUT, cwd=tmp_path / "bin", env=os.environ | {"PYTHONPATH": _python_path()})
    assert (done.returncode, done.stderr) == (0, b""), words(done)
    assert (tmp_path / "bin" / "log").read_bytes() == b""


def _python_path() -> str:
    import psutil

    import vmcorefs

    return ":".join(str(Path(str(package.__file__)).parents[1]) for package in (vmcorefs, psutil))


def test_nothing_is_installed(mount: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(module, "_SYSTEM_PATH", "/nonexistent")
    words_ = detach(entry_of(mount), lazy=True)
    assert words_ == "no program to unmount with is installed (fusermount3, fusermount or umount)"
    assert is_mounted(entry_of(mount))


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_on_top_is_not_touched(mount: Mounted, lazy: bool) -> None:
    """It was mounted since: nobody asked to take that away."""
    need_root()
    entry = entry_of(mount)
    subprocess.run(["mount", "-t", "tmpfs", "top", mount.where], check=True, timeout=TIMEOUT)
    try:
        assert detach(entry, lazy=lazy) == "another mount is on top of it"
        top = row_of(mount.where)
        assert top is not None
        assert top.type == "tmpfs"
    finally:
        subprocess.run(["umount", mount.where], check=True, timeout=TIMEOUT)
    assert mount.lives()


def test_it_is_gone_already(mount: Mounted) -> None:
    entry = entry_of(mount)
    assert run("umount", mount.where).returncode == 0
    assert detach(entry, lazy=False) is None


def test_a_place_with_a_dash_and_newline(mounted: Mounting, tmp_path: Path) -> None:
    image = Machine().build(tmp_path).image
    where = tmp_path / "-l\n x"
    mounted(image, where=where)
    assert run("umount", "./-l\n x", cwd=tmp_path).returncode == 0
    assert row_of(where) is None
