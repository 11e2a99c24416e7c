"""Debian's Python of another architecture under qemu-user, with this project and what it imports. It can start no program."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .emulator import MACHINES, TIMEOUT, foreign

ROOT = Path(__file__).resolve().parents[2]
VERSION = "3.11"
# Pure Python, so that one copy serves every machine; not in here: psutil, which is optional, and what only other tests want
MODULES = ("mfusepy", "fuse", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py")


class EmulatedPython:
    """*site* is an empty folder; links to MODULES are put there."""

    def __init__(self, architecture: str, site: Path):
        self.architecture = architecture
        self._command = foreign(architecture, f"python{VERSION}")
        for name in MODULES:
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None, f"{name} is not installed"
            origin = Path(spec.origin)
            source = origin.parent if origin.name == "__init__.py" else origin
            (site / source.name).symlink_to(source)
        self._environment = {"PYTHONPATH": f"{site}:{ROOT}", "PATH": os.environ["PATH"], "HOME": str(site), "LC_ALL": "C.UTF-8",
                             "TZ": "UTC", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "VMCOREFS_EMULATED_MACHINE": MACHINES[architecture]}

    def run(self, *words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """Python with these words, to its end."""
        return subprocess.run([*self._command, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
                              env=self._environment, cwd=cwd, timeout=TIMEOUT)

    def tests(self, folder: Path, files: Sequence[str], leave: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """pytest over *files*, but for the tests *leave*; *folder* is for what they write."""
        return self.run("-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib", "-W", "error",
                        "--noconftest", "-p", "no:cacheprovider", f"--basetemp={folder / 'tests'}",
                        *(f"--deselect={name}" for name in leave), *files)
