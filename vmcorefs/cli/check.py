"""vmcorefs check IMAGE"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from vmcorefs.check import run_checks
from vmcorefs.cli.info import open_image_or_mount
from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options

HELP = "every consistency check, a line each; exit 1 where one fails"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser, "IMAGE|MOUNTPOINT", "memory image, or where its vmcore is mounted")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_image_options(parser)
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    with open_image_or_mount(arguments) as dump:
        results = run_checks(dump)
    if arguments.json:
        json.dump([asdict(result) for result in results], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        for result in results:
            mark = {"ok": "ok", "failed": "FAILED", "none": "-"}[result.status]
            sys.stdout.write(f"{mark:6} {result.name:20} {result.text}\n")
    return 1 if any(result.status == "failed" for result in results) else 0
