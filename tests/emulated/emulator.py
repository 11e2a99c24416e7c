"""s390x programs under qemu-user, out of the folder that VMCOREFS_S390X_ROOT names (scripts/s390x-root makes it), and a pair of
vmcores to run them on: the one that is mounted, and the kernel's own file. And Python of s390x and arm64
(VMCOREFS_ARM64_ROOT, scripts/arm64-root).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.readers.gold import Gold
from tests.readers.installed import missing, program

_FOLDERS = ("usr/bin", "sbin", "usr/sbin")
_EMULATORS = {"s390x": "qemu-s390x-static", "arm64": "qemu-aarch64-static"}
MACHINES = {"s390x": "s390x", "arm64": "aarch64"}
"""What Debian calls them, and what uname does."""
TIMEOUT = 240


def foreign(architecture: str, name: str) -> list[str | Path]:
    """The words that start a program of another architecture."""
    variable, script = f"VMCOREFS_{architecture.upper()}_ROOT", f"scripts/{architecture}-root DIRECTORY"
    where = os.environ.get(variable)
    if not where:
        missing(f"{variable} is not set: no {architecture} programs ({script} fetches them)")
    root = Path(where).resolve()
    found = [root / folder / name for folder in _FOLDERS if (root / folder / name).is_file()]
    if not found:
        missing(f"{variable}={where} has no {name} ({script} fetches it)")
    return [program(_EMULATORS[architecture]), "-L", root, found[0]]


def s390x(name: str) -> list[str | Path]:
    """The words that start an s390x program."""
    return foreign("s390x", name)


def version(name: str) -> str:
    """What a program calls itself, without its name."""
    said = subprocess.run([*s390x(name), "-v"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return said.stdout.partition("\n")[0].removeprefix(f"{name}: ")


@dataclass(frozen=True)
class Said:
    """What a program left: its exit status, its stdout and stderr in one, and the file that it was to write."""

    status: int
    text: str
    file: bytes | None


@dataclass(frozen=True)
class Pair:
    """A capture. Each folder has one entry, *vmcore*: in *ours* it is the mounted one, in *theirs* the kernel's own file; so a
    program that runs in there is told the same words for both, and may write.
    """

    gold: Gold
    ours: Path
    theirs: Path

    def stored(self, name: str, made: str) -> bytes | None:
        """What *name* made of this vmcore when it was captured, if that was kept and *name* is of the same version today."""
        folder = self.gold.folder.with_name(f"{self.gold.name}-conversions")
        if not folder.exists() or version(name) not in (folder / "commands.txt").read_text():
            return None
        return (folder / made).read_bytes()

    def both(self, name: str, *arguments: str | Path, stdin: str = "", makes: str | None = None) -> tuple[Said, Said]:
        """The s390x program *name* on ours and on theirs, at the same time; *makes* is the file that it writes."""
        command = [*s390x(name), *arguments]
        with ThreadPoolExecutor(2) as pool:
            ours, theirs = pool.map(lambda folder: _run(command, folder, stdin, makes), (self.ours, self.theirs))
        return ours, theirs


def _run(command: Sequence[str | Path], folder: Path, stdin: str, makes: str | None) -> Said:
    environment = os.environ | {"HOME": str(folder), "LC_ALL": "C", "TERM": "dumb", "TZ": "UTC"}
    done = subprocess.run(command, input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
                          env=environment, timeout=TIMEOUT, check=False)
    written = None
    if makes is not None and (folder / makes).exists():
        written = (folder / makes).read_bytes()
        (folder / makes).unlink()
    return Said(done.returncode, done.stdout.decode("utf-8", "backslashreplace"), written)
