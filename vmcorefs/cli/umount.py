"""vmcorefs umount MOUNTPOINT..."""

from __future__ import annotations

import argparse

from vmcorefs.cli.options import add_common_options
from vmcorefs.fs.umount import umount

HELP = "unmount; returns when the image is released, says who holds it otherwise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("mountpoints", metavar="MOUNTPOINT", nargs="+", help="where a vmcore is mounted (dead mounts, too)")
    parser.add_argument("--lazy", action="store_true", help="detach it even if it is in use")
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    for mountpoint in arguments.mountpoints:
        umount(mountpoint, lazy=arguments.lazy)
    return 0
