"""mounted(): `vmcorefs mount` as a person types it, and an unmount whatever happens."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .installed import missing

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_LACKS_SOMETHING = 3


def _vmcorefs(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vmcorefs", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def mounted(image: Path, mountpoint: Path, *options: str | Path) -> Iterator[Path]:
    """Mount *image* on *mountpoint* (made here), give the path of vmcore in it, unmount."""
    if not os.path.exists("/dev/fuse"):
        missing("there is no /dev/fuse")
    mountpoint.mkdir(parents=True)
    answer = _vmcorefs("mount", image, mountpoint, *options)
    try:
        if answer.returncode == SYSTEM_LACKS_SOMETHING:
            missing(f"cannot mount here: {answer.stderr.strip()}")
        assert answer.returncode == 0, answer.stderr
        yield mountpoint / "vmcore"
    finally:
        gc.collect()  # readers that nobody refers to any more have the file open until then
        gone = _vmcorefs("umount", mountpoint)
        if gone.returncode:
            _vmcorefs("umount", "--lazy", mountpoint)
    assert gone.returncode == 0, gone.stderr
    mountpoint.rmdir()
