"""vmcorefs copy IMAGE FILE|-"""

from __future__ import annotations

import argparse
import sys

from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options, image_options
from vmcorefs.cli.progress import terminal_progress
from vmcorefs.cli.say import introduce
from vmcorefs.dump import open_dump
from vmcorefs.errors import UsageError
from vmcorefs.output.copy import copy_to_descriptor, copy_to_file

HELP = "write the same bytes to a file or a pipe, without a mount"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser)
    parser.add_argument("file", metavar="FILE", help="where to write; - is standard output")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    add_image_options(parser)
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    if arguments.file == "-" and sys.stdout.isatty():
        raise UsageError("standard output is a terminal; send it into a file or a pipe")
    with open_dump(arguments.image, **image_options(arguments)) as dump:
        introduce(dump)
        with terminal_progress() as progress:
            if arguments.file == "-":
                copy_to_descriptor(dump.vmcore, sys.stdout.fileno(), progress=progress)
            else:
                copy_to_file(dump.vmcore, arguments.file, force=arguments.force, progress=progress)
    return 0
