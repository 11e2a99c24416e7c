"""vmcorefs umount [MOUNTPOINT...]"""

from __future__ import annotations

import argparse

from vmcorefs.capture import read_mount_table
from vmcorefs.cli.mount_options import MountWords
from vmcorefs.cli.options import add_common_options
from vmcorefs.cli.say import log
from vmcorefs.errors import UsageError, VmcorefsError, printable
from vmcorefs.fs.umount import umount

HELP = "unmount; returns when the image is released, says who holds it otherwise"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("mountpoints", metavar="MOUNTPOINT", nargs="*", help="where a vmcore is mounted (dead mounts, too)")
    parser.add_argument("--lazy", action="store_true", help="detach it even if it is in use")
    parser.add_argument("--if-mounted", action="store_true", help="a place where nothing is mounted is no error")
    parser.add_argument("--capture", metavar="FILE.toml", help="the mount point that the [mount] table of this file names")
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    mountpoints = list(arguments.mountpoints)
    if arguments.capture is not None:
        named = MountWords().take_table(read_mount_table(arguments.capture), printable(arguments.capture))
        if named is None:
            raise UsageError(f'{printable(arguments.capture)}: names no mount point; add [mount] with mountpoint = "/mnt/dump"')
        mountpoints.append(named)
    if not mountpoints:
        arguments.parser.error("the following arguments are required: MOUNTPOINT")
    status = 0
    for mountpoint in mountpoints:
        try:
            umount(mountpoint, lazy=arguments.lazy, if_mounted=arguments.if_mounted)
        except VmcorefsError as error:  # the others are unmounted all the same, as umount(8) does
            log.error("%s", error)
            status = max(status, error.exit_status)
    return status
