"""The unit files as systemd reads them, with this tree's program in place of the installed one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tests.mounts.mounting import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "systemd"
SERVICE = FOLDER / "vmcorefs@.service"
PROGRAM = Path(sys.executable).with_name("vmcorefs")


def settings(path: Path) -> list[tuple[str, str]]:
    """(name, value) of each line, in order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith(("#", ";", "["))]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def value(path: Path, name: str) -> str:
    """Of a setting that is there once."""
    (found,) = (value for key, value in settings(path) if key == name)
    return found


def words(name: str, capture: Path) -> list[str]:
    """A command of the service for the instance whose capture file is *capture*, as systemd would run it."""
    words = shlex.split(value(SERVICE, name))
    return [word.replace("/etc/vmcorefs/%i.toml", str(capture)).replace("$$", "$") for word in words]


def command(name: str, capture: Path) -> list[str]:
    """:func:`words`, with our program for the bare name."""
    first, *rest = words(name, capture)
    return [str(program()) if first == "vmcorefs" else first, *rest]


def program() -> Path:
    """The script that pip installed."""
    if not PROGRAM.exists():
        skip_or_fail(f"{PROGRAM} is not installed")
    return PROGRAM
