"""vmcorefs list"""

from __future__ import annotations

import argparse
import json
import pwd
import sys
import time
from unicodedata import combining, east_asian_width

from vmcorefs.cli.info import say
from vmcorefs.cli.options import add_common_options
from vmcorefs.errors import printable
from vmcorefs.fs.listing import ListedMount, list_vmcorefs
from vmcorefs.quantities import human_size

HELP = "all vmcorefs mounts of this system, with counters and readers; dead ones are marked"

_HEADINGS = ("MOUNTPOINT", "STATE", "MODE", "SIZE", "READS", "BYTES", "ERRORS", "MEMORY", "AGE", "OWNER", "SOURCE", "READERS")
_RIGHT = frozenset({"SIZE", "READS", "BYTES", "ERRORS", "MEMORY", "AGE"})
_READERS = 5  # named in the table; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--json", action="store_true", help="for programs: an array of objects, sizes in bytes")
    add_common_options(parser)


def run(_arguments: argparse.Namespace) -> int:
    """The command."""
    mounts = list_vmcorefs()
    if _arguments.json:
        say(json.dumps([mount.as_dict() for mount in mounts], indent=1) + "\n")
    elif mounts:
        say(_table([_HEADINGS, *(_row(mount) for mount in mounts)]))
    elif sys.stderr.isatty():
        sys.stderr.write("no vmcorefs mounts\n")
    return 0


def _row(mount: ListedMount) -> tuple[str, ...]:
    return (printable(mount.mountpoint), mount.state, printable(mount.mode or "-"), _size(mount.size), _number(mount.reads),
            _size(mount.bytes), _number(mount.errors), _size(mount.memory), _age(mount.since), _user(mount.uid), printable(mount.source),
            _readers(mount))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _size(value: int | None) -> str:
    return "-" if value is None else human_size(value)


def _age(since: float | None) -> str:
    """How long it has been mounted, by its two largest units."""
    if since is None:
        return "-"
    minutes, seconds = divmod(max(0, int(time.time() - since)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{value}{unit}" for value, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))]
    first = next((n for n, part in enumerate(parts) if not part.startswith("0")), 3)
    return "".join(parts[first:first + 2])


def _user(uid: int) -> str:
    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return "-" if uid < 0 else str(uid)


def _readers(mount: ListedMount) -> str:
    more = len(mount.readers) - _READERS
    return ", ".join(map(str, mount.readers[:_READERS])) + (f" and {more} more" if more > 0 else "") or "-"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [" " * (width - _width(cell)) + cell if heading in _RIGHT else cell + " " * (width - _width(cell))
                 for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
