"""vmcorefs check IMAGE|MOUNTPOINT"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from vmcorefs.check import Result, run_checks
from vmcorefs.cli.info import open_image_or_mount, say
from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options
from vmcorefs.report.text import Style, for_stdout

HELP = "every consistency check: what it looked at, found, means, and what to do; exit 1 where one fails"

_MARKS = {"ok": ("ok", "good"), "failed": ("FAILED", "bad"), "none": ("-", "quiet")}


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser, "IMAGE|MOUNTPOINT", "memory image, or where its vmcore is mounted")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_image_options(parser)
    add_common_options(parser)


def check_lines(results: Sequence[Result], style: Style) -> Iterator[str]:
    """A block a check, and a line that sums them up."""
    for result in results:
        mark, colour = _MARKS[result.status]
        yield f"{style.paint(f'{mark:6}', colour)} {result.name:20} {result.text}"
        rows = [("looked at", result.looks_at), ("means", result.means), ("do", result.advice)]
        yield from style.rows([(name, text) for name, text in rows if text], indent=9, width=18, colour="quiet")
    count = Counter(result.status for result in results)
    failed = [result.name for result in results if result.status == "failed"]
    yield (f"{len(results)} checks: {count['ok']} ok, {count['failed']} failed{' (' + ', '.join(failed) + ')' if failed else ''}, "
           f"{count['none']} with nothing to look at")


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    with open_image_or_mount(arguments) as dump:
        results = run_checks(dump)
    if arguments.json:
        say(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    else:
        say("\n".join(check_lines(results, for_stdout())) + "\n")
    return 1 if any(result.status == "failed" for result in results) else 0
