"""vmcorefs umount MOUNTPOINT..."""

from __future__ import annotations

import argparse

from vmcorefs.cli.options import add_common_options
from vmcorefs.cli.say import log
from vmcorefs.errors import VmcorefsError
from vmcorefs.fs.umount import umount

HELP = "unmount; returns when the image is released, says who holds it otherwise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("mountpoints", metavar="MOUNTPOINT", nargs="+", help="where a vmcore is mounted (dead mounts, too)")
    parser.add_argument("--lazy", action="store_true", help="detach it even if it is in use")
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    status = 0
    for mountpoint in arguments.mountpoints:
        try:
            umount(mountpoint, lazy=arguments.lazy)
        except VmcorefsError as error:  # the others are unmounted all the same, as umount(8) does
            log.error("%s", error)
            status = max(status, error.exit_status)
    return status
