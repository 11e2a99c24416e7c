"""vmcorefs.pyz: one file, run by the system's bare Python, without any package beside it."""

from __future__ import annotations

import ast
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from tests.captures import sparse
from tests.mounts.mounting import clear, need_mounts, need_root, row_of
from tests.packaging.building import ROOT, TIMEOUT, make, system_python

CAPTURE = "k61-smp4-offline"
LAUNCHER = ROOT / "packaging" / "launcher.py"


@pytest.fixture(scope="module")
def pyz(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pyz")
    make(sources, "pyz", folder)
    return folder / "dist" / "vmcorefs.pyz"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sparse.expand(CAPTURE, tmp_path / "capture").image


def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, cwd=cwd)


def bare(pyz: Path, *words: str | Path, cwd: Path | None = None) -> str:
    """By Python without site-packages: neither psutil nor any other package is there."""
    done = run(system_python(), "-I", "-S", pyz, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_on_the_path_but_the_archive() -> None:
    """The tests below would prove little with psutil there."""
    code = "import importlib.util; print([importlib.util.find_spec(n) for n in ('psutil', 'elftools', 'mfusepy', 'fuse', 'vmcorefs')])"
    assert run(system_python(), "-I", "-S", "-c", code).stdout == "[None, None, None, None, None]\n"


def test_copy_and_info(pyz: Path, image: Path, tmp_path: Path) -> None:
    bare(pyz, "copy", image, tmp_path / "vmcore")
    assert sparse.compare(CAPTURE, tmp_path / "vmcore") == []
    assert "crashed kernel:    6.1.192-gold" in bare(pyz, "info", image)


def test_mount(pyz: Path, image: Path, tmp_path: Path) -> None:
    """Named by a relative path, which must not matter to a daemon whose working directory is /."""
    need_mounts()
    where = tmp_path / "mnt"
    where.mkdir()
    try:
        bare(Path(pyz.name), "mount", os.path.relpath(image, pyz.parent), os.path.relpath(where, pyz.parent), cwd=pyz.parent)
        assert sparse.compare(CAPTURE, where / "vmcore") == []
        assert str(where) in bare(pyz, "list")
        with open(where / "vmcore", "rb"):
            busy = run(system_python(), "-I", "-S", pyz, "umount", where)
            assert busy.returncode == 1
            assert f"(pid {os.getpid()})" in busy.stderr  # without psutil, out of /proc
        bare(pyz, "umount", where)
        assert row_of(where) is None
    finally:
        clear(where)


def test_it_is_executable(pyz: Path) -> None:
    system_python()
    done = run(pyz, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("vmcorefs ")


def test_as_mount_helper(pyz: Path, image: Path, tmp_path: Path) -> None:
    """A link to it in the place where mount(8) looks is all that /etc/fstab needs."""
    need_root()
    need_mounts()
    where = tmp_path / "mnt"
    where.mkdir()
    for name in ("mount.vmcorefs", "mount.fuse.vmcorefs"):
        helper = tmp_path / name
        helper.symlink_to(pyz)
        try:
            done = run(helper, image, where, "-o", "ro,noauto,nofail,x-systemd.automount")
            assert done.returncode == 0, done.stderr
            row = row_of(where)
            assert row is not None
            assert row.type == "fuse.vmcorefs"
            assert sparse.compare(CAPTURE, where / "vmcore") == []
            bare(pyz, "umount", where)
        finally:
            clear(where)
    wrong = run(tmp_path / "mount.vmcorefs", image)
    assert wrong.returncode == 1  # mount(8): usage


def test_the_same_sources_give_the_same_file(sources: Path, pyz: Path, tmp_path: Path) -> None:
    time.sleep(2.1)  # a ZIP archive counts time in steps of 2 seconds
    make(sources, "pyz", tmp_path, umask=0o077)
    assert (tmp_path / "dist" / "vmcorefs.pyz").read_bytes() == pyz.read_bytes()
    make(sources, "pyz", tmp_path, env={"SOURCE_DATE_EPOCH": "1764072000"})
    with zipfile.ZipFile(tmp_path / "dist" / "vmcorefs.pyz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2025, 11, 25, 12, 0, 0)}
    assert pyz.stat().st_mode & 0o777 == 0o755


def test_contents(sources: Path, pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = set(archive.namelist())
        assert archive.read("__main__.py") == (sources / "packaging/launcher.py").read_bytes()
        licences = {name: archive.read(name).decode() for name in names if name.startswith("licences/")}
    assert {"mfusepy.py", "fuse.py", "elftools/elf/elffile.py", "vmcorefs/cli/main.py", "LICENSE"} <= names
    assert {path.relative_to(sources).as_posix() for path in (sources / "vmcorefs").rglob("*.py")} <= names
    assert not [name for name in names if name.startswith("/") or ".." in name or "__pycache__" in name]
    assert set(licences) == {"licences/fusepy.txt", "licences/mfusepy.txt", "licences/pyelftools.txt"}
    assert "Giorgos Verigakis" in licences["licences/fusepy.txt"]
    assert "Permission to use, copy, modify" in licences["licences/mfusepy.txt"]
    assert "Tomer Filiba" in licences["licences/pyelftools.txt"]


# Runs start() of the launcher as an older Python would.
AS_OLD = """
import runpy, sys
sys.version_info = (3, 9, 2, "final", 0)
sys.exit(runpy.run_path(sys.argv[1])["start"](sys.argv[2:3] + sys.argv[4:], folders=sys.argv[3:4]))
"""


@pytest.mark.parametrize(("name", "status"), [("vmcorefs.pyz", 3), ("mount.vmcorefs", 2)])
def test_an_old_python_is_told_in_one_line(name: str, status: int, tmp_path: Path) -> None:
    done = run(system_python(), "-c", AS_OLD, LAUNCHER, f"/opt/{name}", tmp_path, "info")
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr == (f"vmcorefs: error: {system_python()} is Python 3.9, and 3.11 or later is needed; install it (the old one can "
                           f"stay), or run: python3.11 /opt/{name}\n")


def test_beside_an_old_python_the_newest_is_taken(tmp_path: Path) -> None:
    for number in (9, 11, 13):
        (tmp_path / f"python3.{number}").write_text(f'#!/bin/sh\necho 3.{number} "$@"\n')
        (tmp_path / f"python3.{number}").chmod(0o755)
    (tmp_path / "python3.14").write_text("no program")
    done = run(system_python(), "-c", AS_OLD, LAUNCHER, "/opt/vmcorefs.pyz", tmp_path, "info", "a b")
    assert (done.returncode, done.stdout) == (0, "3.13 /opt/vmcorefs.pyz info a b\n")


def test_an_old_python_can_read_the_launcher() -> None:
    """The grammar of Python 3.4, which ast can still check, and no annotation, f-string or keyword of later ones.

    It was run under Python 2.7.18 and 3.9.2 by hand.
    """
    tree = ast.parse(LAUNCHER.read_text(encoding="ascii"), feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.AsyncFunctionDef, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom, ast.Match, ast.Starred)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
            assert not node.args.kwonlyargs
            assert all(argument.annotation is None for argument in node.args.args)
        if isinstance(node, ast.ImportFrom):
            assert node.module == "vmcorefs.__main__"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print"


def test_the_product_can_do_without_psutil() -> None:
    """Each import of psutil is in a try that catches ImportError."""
    seen = 0
    for path in (ROOT / "vmcorefs").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = {id(node) for attempt in ast.walk(tree) if isinstance(attempt, ast.Try) and _catches_import_error(attempt)
                   for part in attempt.body for node in ast.walk(part)}
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "psutil" for name in names):
                seen += 1
                assert id(node) in guarded, f"{path}:{node.lineno}: psutil is optional"  # type: ignore[attr-defined]
    assert seen


def _catches_import_error(attempt: ast.Try) -> bool:
    caught = [name.id for handler in attempt.handlers if handler.type is not None for name in ast.walk(handler.type)
              if isinstance(name, ast.Name)]
    return bool({"ImportError", "ModuleNotFoundError"} & set(caught))
