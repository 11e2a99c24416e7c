"""The full captures, expanded once a session; skipped, saying so, where VMCOREFS_GOLD is not set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GOLD = Path(os.environ["VMCOREFS_GOLD"]) if os.environ.get("VMCOREFS_GOLD") else None


def gold_names(*, mode: str | None = None) -> list[str]:
    """The captures with a vmcore of the kernel's own (of one mode)."""
    if GOLD is None:
        return ["VMCOREFS_GOLD-is-not-set"]
    found = []
    for path in sorted(GOLD.glob("*/capture.json")):
        capture = json.loads(path.read_text())
        if "vmcore" in capture and mode in {None, capture["mode"]}:
            found.append(path.parent.name)
    return found


@dataclass(frozen=True)
class Gold:
    """An expanded capture: *folder* is the stored one."""

    folder: Path
    facts: dict[str, Any]
    image: Path
    hsa: Path | None

    @property
    def options(self) -> dict[str, str]:
        """For vmcorefs.open."""
        return {"hsa": str(self.hsa)} if self.hsa else {}

    @property
    def words(self) -> list[str]:
        """For the command line."""
        return ["--hsa", str(self.hsa)] if self.hsa else []

    def verify(self, candidate: Path) -> None:
        """verify.py of the captures must say that *candidate* (a file or a mount) is the kernel's vmcore."""
        assert GOLD is not None
        done = subprocess.run([sys.executable, GOLD / "verify.py", self.folder, candidate], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class Expander:
    """Expands a capture at first use; only the newest stays on the disk."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._newest: Gold | None = None

    def __call__(self, name: str) -> Gold:
        if GOLD is None:
            pytest.skip("VMCOREFS_GOLD is not set: no full captures")
        if self._newest is not None and self._newest.folder.name == name:
            return self._newest
        if self._newest is not None:
            for path in (self._newest.image, self._newest.hsa):
                if path is not None:
                    path.unlink()
        target = self._directory / name
        subprocess.run([sys.executable, GOLD / "expand.py", GOLD / name, target], check=True, stdout=subprocess.DEVNULL)
        facts = json.loads((GOLD / name / "capture.json").read_text())
        hsa = target / facts["hsa"]["file"] if "hsa" in facts else None
        self._newest = Gold(GOLD / name, facts, target / facts["image"]["file"], hsa)
        return self._newest


@pytest.fixture(scope="session")
def expander(tmp_path_factory: pytest.TempPathFactory) -> Expander:
    """gold(name)."""
    return Expander(tmp_path_factory.mktemp("gold"))
