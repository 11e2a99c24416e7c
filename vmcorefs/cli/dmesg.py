"""vmcorefs dmesg IMAGE|MOUNTPOINT"""

from __future__ import annotations

import argparse
import sys

from vmcorefs.cli.info import open_image_or_mount
from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options
from vmcorefs.cli.say import log
from vmcorefs.report.dmesg import find_dmesg, lines
from vmcorefs.s390 import Absent
from vmcorefs.s390.printk import Damage

HELP = "the crashed kernel's log, as makedumpfile --dump-dmesg prints it; exit 1 where a part of it is missing"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser, "IMAGE|MOUNTPOINT", "memory image, or where its vmcore is mounted")
    parser.add_argument("--callers", action="store_true",
                        help="with the task [T1] or CPU [C0] that logged each record, as makedumpfile from 1.7.5 on")
    add_image_options(parser)
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    with open_image_or_mount(arguments) as dump:
        log.debug("%s: %s", dump.image.name, dump.notice)
        found = find_dmesg(dump)
        if isinstance(found, Absent):
            log.error("%s: %s", dump.image.name, found.reason)
            return 1
        damage = Damage()
        sys.stdout.buffer.writelines(lines(found, damage, callers=arguments.callers))
        sys.stdout.flush()
        if damage:
            log.error("%s: a part of the log is missing or damaged: %s", dump.image.name, damage)
    return 1 if damage else 0
