"""Fixtures: a cut-down capture of the repository, and the full captures that the selected tests ask for, expanded once."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.captures import sparse
from tests.readers.gold import Gold, gold_folder, read_about
from tests.readers.installed import missing, program


@pytest.fixture
def _drgn() -> None:
    try:
        import drgn  # noqa: F401
    except ImportError as error:
        missing(f"drgn cannot be imported: {error}")


@pytest.fixture(scope="package")
def scratch() -> Iterator[Path]:
    """A folder that lives as long as this folder's tests."""
    with tempfile.TemporaryDirectory(prefix="vmcorefs-drgn-") as folder:
        yield Path(folder).resolve()


@pytest.fixture(scope="package")
def cut_down(scratch: Path) -> sparse.Expanded:
    """k61-smp1: a kdump image of which only the pages that matter were kept."""
    return sparse.expand("k61-smp1", scratch / "k61-smp1-sparse")


def _vmlinux(folder: Path, build: str, scratch: Path) -> Path:
    target = scratch / f"vmlinux-{build}"
    if not target.exists():
        target.write_bytes(lzma.decompress((folder / "kernels" / build / "vmlinux.xz").read_bytes()))
    return target


@pytest.fixture(scope="package")
def expanded(request: pytest.FixtureRequest, scratch: Path) -> dict[str, Gold]:
    """name -> the capture; nothing is mounted."""
    folder = gold_folder()
    program("zstd")
    calls = [item.callspec for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")
             and item.path.parent == Path(__file__).parent]
    found = {}
    for name in sorted({str(call.params["gold"]) for call in calls if "gold" in call.params}):
        about = read_about(folder / name)
        only = [] if "hsa" in about else ["--only", about["image"]["file"]]
        subprocess.run([sys.executable, folder / "expand.py", folder / name, scratch / name, *only], check=True,
                       capture_output=True, timeout=120)
        hsa = scratch / name / about["hsa"]["file"] if "hsa" in about else None
        found[name] = Gold(name, folder / name, scratch / name / about["image"]["file"], hsa,
                           _vmlinux(folder, about["kernel_build"], scratch), Path(os.devnull))
    return found


@pytest.fixture
def gold(request: pytest.FixtureRequest, expanded: dict[str, Gold], _drgn: None) -> Gold:
    """The capture that parametrize(..., indirect=True) names."""
    return expanded[request.param]
