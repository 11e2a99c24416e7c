"""make TARGET, its products in a folder of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.mounts.mounting import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        skip_or_fail(f"missing: {', '.join(missing)}")


def system_python() -> str:
    """The Python of the system, without this project's virtual environment."""
    path = "/usr/bin/python3"
    done = subprocess.run([path, "-ISc", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False, timeout=TIMEOUT) \
        if os.path.exists(path) else None
    if done is None or done.returncode:
        skip_or_fail(f"{path} is not Python 3.11 or later")
    return path


def make(tree: Path, target: str, folder: Path, *settings: str, umask: int = 0o022, env: dict[str, str] | None = None,
         check: bool = True) -> subprocess.CompletedProcess[str]:
    """In *tree*, the products in *folder*/dist. Not by the make that runs these tests; the virtual environment is the one they
    run in, as it is.
    """
    need("make")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "--no-print-directory", "-C", tree, f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.runtime",
                           f"BUILD={folder}/build", f"DIST={folder}/dist", target, *settings], check=False, timeout=TIMEOUT,
                          env=environment | (env or {}), stdin=subprocess.DEVNULL, capture_output=True, text=True, umask=umask)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def freeze(folder: Path) -> Path:
    """A source tree as packages are built from, so that all tests see the same files whoever edits the clone meanwhile."""
    make(ROOT, f"{folder}/build/carried", folder)
    subprocess.run([ROOT / "packaging/source-tree", folder / "build/carried", folder / "tree"], check=True, timeout=TIMEOUT)
    return folder / "tree"
