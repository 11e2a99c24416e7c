"""readelf on the mount."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.captures import sparse

from .gold import PLAIN, WITH_VMCORE, Gold
from .installed import program
from .mounting import mounted


def readelf(path: Path) -> str:
    """What readelf -hlnW prints; it must have nothing to complain about."""
    answer = subprocess.run([program("readelf"), "-hlnW", str(path)], capture_output=True, text=True, check=False,
                            env=os.environ | {"LC_ALL": "C"}, timeout=60)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Warning" not in answer.stdout
    return answer.stdout


@pytest.mark.parametrize("gold", WITH_VMCORE, indirect=True)
def test_readelf_prints_what_it_printed_of_the_kernels_file(gold: Gold) -> None:
    assert readelf(gold.vmcore) == gold.text("readelf.txt")


@pytest.mark.parametrize("gold", WITH_VMCORE, indirect=True)
def test_header_and_size_are_the_kernels(gold: Gold) -> None:
    assert gold.vmcore.stat().st_size == gold.about["vmcore"]["size"]
    with open(gold.vmcore, "rb") as file:
        assert file.read(len(gold.header)) == gold.header


@pytest.mark.parametrize("gold", [PLAIN], indirect=True)
def test_readelf_accepts_plain(gold: Gold) -> None:
    text = readelf(gold.vmcore)
    assert "CORE (Core file)" in text
    assert "IBM S/390" in text
    assert "2's complement, big endian" in text
    assert "NT_PRSTATUS" not in text
    assert f"{len(gold.vmcoreinfo):#010x}" in next(line for line in text.splitlines() if "VMCOREINFO" in line)
    loads = [line.split() for line in text.splitlines() if line.startswith("  LOAD")]
    assert [[int(word, 16) for word in words[2:6]] for words in loads] == [[0, 0, gold.about["ram_size"], gold.about["ram_size"]]]


@pytest.mark.parametrize("name", sparse.names())
def test_sparse_captures(name: str, tmp_path: Path) -> None:
    """Without the full captures, too: header, and readelf's opinion of it beside that of the kernel's own header."""
    capture = sparse.load(name)
    files = sparse.expand(name, tmp_path)
    with ExitStack() as stack:
        options = ["--hsa", str(files.hsa)] if files.hsa else []
        vmcore = stack.enter_context(mounted(files.image, tmp_path / "mnt", *options))
        got = readelf(vmcore)
        if capture.header is None or capture.vmcore_size is None:
            assert "NT_PRSTATUS" not in got
            assert "VMCOREINFO" in got
            return
        with open(vmcore, "rb") as file:
            assert file.read(len(capture.header)) == capture.header
        kernels = tmp_path / "kernel"
        kernels.write_bytes(capture.header)
        os.truncate(kernels, capture.vmcore_size)
        assert got == readelf(kernels)
