"""The adapter to libfuse on s390x and arm64: its own tests, and those of the folder `inside`, in an emulated Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .emulated_python import EmulatedPython
from .emulator import MACHINES

FILES = ("tests/emulated/inside", "tests/fs/test_stat_layout.py", "tests/fs/test_operations.py", "tests/fs/test_tree.py")
# The compiler that can be started there is this machine's
LEAVE = ("tests/fs/test_stat_layout.py::test_this_machines_row_is_the_compilers",)


@pytest.mark.parametrize("architecture", MACHINES)
def test_the_adapters_tests(architecture: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    done = EmulatedPython(architecture, site).tests(tmp_path, FILES, LEAVE)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    closing = re.fullmatch(r"(\d+) passed, 1 deselected in .*", done.stdout.splitlines()[-1])  # nothing else: nothing was skipped
    assert closing and int(closing[1]) > 100, said
