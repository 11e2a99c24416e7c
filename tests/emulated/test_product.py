"""vmcorefs itself on s390x: the same bytes and the same words as here, and the bytes are those of the capture's kernel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.captures import sparse

from .emulated_python import ROOT, EmulatedPython


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> EmulatedPython:
    return EmulatedPython("s390x", tmp_path_factory.mktemp("site"))


def here(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vmcorefs", *words], capture_output=True, text=True, check=False, cwd=ROOT,
                          env=os.environ | {"LC_ALL": "C.UTF-8", "TZ": "UTC"}, timeout=120)


def test_copy(emulated: EmulatedPython, tmp_path: Path) -> None:
    image = sparse.expand("k61-smp1", tmp_path).image
    ours, theirs = tmp_path / "here", tmp_path / "there"
    done, there = here("copy", image, ours), emulated.run("-m", "vmcorefs", "copy", image, theirs)
    assert (there.returncode, there.stderr) == (done.returncode, done.stderr) == (0, done.stderr)
    with open(theirs, "rb") as file:
        assert sparse.compare("k61-smp1", file) == []
    assert hashlib.sha256(theirs.read_bytes()).digest() == hashlib.sha256(ours.read_bytes()).digest()


@pytest.mark.parametrize("command", ["info --json", "check"])
def test_words(emulated: EmulatedPython, tmp_path: Path, command: str) -> None:
    """Of the capture with the most CPUs in unusual places: registers in the HSA, in the save area list of the dump kernel."""
    files = sparse.expand("k61-zfcpdump-smp3", tmp_path)
    assert files.hsa is not None
    words: tuple[str | Path, ...] = (*command.split(), "--hsa", files.hsa, files.image)
    done, there = here(*words), emulated.run("-m", "vmcorefs", *words)
    assert len(done.stdout) > 1000
    assert (there.returncode, there.stdout, there.stderr) == (done.returncode, done.stdout, done.stderr)
