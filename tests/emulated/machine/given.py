"""What the machine that starts the s390x machine tells it: what the product gives over there, of the same captures."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.captures import sparse

CAPTURES = ("k61-smp1", "k61-zfcpdump-smp3", "k612-smp2")
COMMANDS = ("info --json", "check")
START = 4 << 20
MTIME_NS = 1_234_567_890_123_456_789
USER = 70001  # its group is the next number


@dataclass(frozen=True)
class Given:
    """By capture: size and sha256 of what `vmcorefs copy` wrote on *machine*, sha256 of the first START bytes of it, and what
    COMMANDS printed with the files in *folder*/CAPTURE. *bindings*: their names and versions.
    """

    machine: str
    bindings: str
    folder: str
    size: dict[str, int]
    sha256: dict[str, str]
    start_sha256: dict[str, str]
    output: dict[str, dict[str, str]]

    def write(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()


def read_given(path: Path) -> Given:
    """The opposite of write."""
    return Given(**json.loads(path.read_bytes()))


def expand(name: str, folder: Path) -> sparse.Expanded:
    """A capture whose files have a time of last change that is known."""
    files = sparse.expand(name, folder)
    for path in (files.image, files.hsa):
        if path is not None:
            os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return files


def arguments(files: sparse.Expanded) -> list[str | Path]:
    """The image and, where there is one, the HSA image."""
    return [*(("--hsa", files.hsa) if files.hsa else ()), files.image]
