"""The console blocks of README.md, run as written in order; "..." stands for anything (on a line of its own: any lines)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.console import check, markdown_blocks, pattern, steps

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory like a clone (its tests/ is ours), and an environment in which vmcorefs and python3 are this project's."""
    folder = tmp_path
    (folder / "tests").symlink_to(ROOT / "tests")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    (programs / "vmcorefs").write_text(f'#!/bin/sh\nexec {sys.executable} -m vmcorefs "$@"\n')
    (programs / "vmcorefs").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    yield folder, environment
    subprocess.run(["umount", "-l", folder / "try" / "mnt"], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(folder / "try", ignore_errors=True)


def test_walk_throughs(workplace: tuple[Path, dict[str, str]]) -> None:
    if not os.path.exists("/dev/fuse") and os.environ.get("CI") != "true":
        pytest.skip("no /dev/fuse")
    folder, environment = workplace
    everything = [step for block in markdown_blocks(ROOT / "README.md") for step in steps(block)]
    assert len(everything) > 20
    for step in everything:
        done = subprocess.run(["bash", "-c", step.command], check=False, text=True, errors="replace", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, cwd=folder, env=environment)
        check(step, done.stdout)


def test_the_comparison_can_fail() -> None:
    assert re.fullmatch(pattern(["a ... c", "..."]), "a b c\nx\ny\n")
    assert not re.fullmatch(pattern(["a ... c"]), "a b d\n")
