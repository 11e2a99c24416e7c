"""vmcorefs info IMAGE|MOUNTPOINT"""

from __future__ import annotations

import argparse
import json
import sys

from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options, image_options
from vmcorefs.cli.say import log
from vmcorefs.dump import Dump, open_dump
from vmcorefs.errors import UsageError, printable
from vmcorefs.fs.mounts import TYPE, absolute, find_mount
from vmcorefs.fs.record import find_record

HELP = "what is in the image, every fact with its origin"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser, "IMAGE|MOUNTPOINT", "memory image, or where its vmcore is mounted")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_image_options(parser)
    add_common_options(parser)


def open_image_or_mount(arguments: argparse.Namespace) -> Dump:
    """The image, or what is mounted at a mount point, as it was mounted."""
    options = image_options(arguments)
    where = None if arguments.image is None else absolute(arguments.image)
    entry = None if where is None else find_mount(where)
    if where is None or entry is None or entry.type != TYPE:
        return open_dump(arguments.image, **options)
    record = find_record(entry.device, where, entry.owner)
    if record is None:
        raise UsageError(f"{printable(arguments.image)}: a dead mount, or not yours; give the image "
                         f"{printable(entry.source)} with its options")
    if options:
        raise UsageError(f"{printable(arguments.image)}: a mount has its options already; leave --{next(iter(options))} out")
    return open_dump(**record.capture)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    with open_image_or_mount(arguments) as dump:
        info = dump.info()
        if arguments.json:
            json.dump(info.as_dict(), sys.stdout, indent=1)
            sys.stdout.write("\n")
        else:
            sys.stdout.write(info.as_text())
        log.debug("%s: %s", dump.image.name, dump.notice)
    return 0
