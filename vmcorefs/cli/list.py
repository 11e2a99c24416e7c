"""vmcorefs list"""

from __future__ import annotations

import argparse
import json
import sys

from vmcorefs.cli.info import say
from vmcorefs.cli.options import add_common_options
from vmcorefs.errors import printable
from vmcorefs.fs.listing import ListedMount, list_vmcorefs
from vmcorefs.quantities import human_size

HELP = "all vmcorefs mounts of this system, with counters and readers; dead ones are marked"

_HEADINGS = ("MOUNTPOINT", "STATE", "MODE", "SIZE", "READS", "BYTES", "ERRORS", "MEMORY", "SOURCE", "READERS")
_RIGHT = frozenset({"SIZE", "READS", "BYTES", "ERRORS", "MEMORY"})


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
    return (printable(mount.mountpoint), mount.state, mount.mode or "-", _size(mount.size), _number(mount.reads), _size(mount.bytes),
            _number(mount.errors), _size(mount.memory), printable(mount.source), ", ".join(map(str, mount.readers)) or "-")


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _size(value: int | None) -> str:
    return "-" if value is None else human_size(value)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) if heading in _RIGHT else cell.ljust(width)
                 for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)
