"""vmcorefs mount IMAGE MOUNTPOINT."""

from __future__ import annotations

import argparse
import os

from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options, choices, image_options
from vmcorefs.cli.say import introduce
from vmcorefs.dump import Dump, open_dump
from vmcorefs.fs.backends import BACKEND_NAMES
from vmcorefs.fs.late import Late
from vmcorefs.fs.mount import IO_MODES, MountOptions, mount
from vmcorefs.fs.mountpoint import check_mountpoint
from vmcorefs.fs.tree import File, Tree, bytes_file
from vmcorefs.report.dmesg import dmesg_text
from vmcorefs.report.files import small_files

HELP = "serve the image's vmcore in a directory; returns when the mount answers"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser)
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground until unmounted")
    parser.add_argument("--io", default=None, **choices(IO_MODES),
                        help="direct: each read goes to the image (auto); cached: through the page cache, allows MAP_SHARED")
    parser.add_argument("--backend", default=None, **choices(BACKEND_NAMES),
                        help="binding to libfuse; auto: mfusepy with libfuse 3, else what there is")
    add_image_options(parser)
    add_common_options(parser)


def make_tree(dump: Dump, mountpoint: str | None = None) -> Tree:
    """The mounted directory: vmcore, the small files that can be made, and the log as soon as it is ready."""
    vmcore = dump.vmcore
    files = {"vmcore": File(vmcore.size, lambda view, offset, salvage: vmcore.preadinto(view, offset, salvage=salvage))}
    files |= {path: bytes_file(data) for path, data in small_files(dump, mountpoint)}
    return Tree(files, mtime_ns=dump.image.mtime_ns, late={"dmesg.txt": Late(lambda: dmesg_text(dump))})


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    check_mountpoint(arguments.mountpoint, [arguments.image] if arguments.image is not None else [])
    with open_dump(arguments.image, **image_options(arguments)) as dump:
        introduce(dump)
        files = [file for file in (dump.image, dump.hsa) if file is not None]
        options = MountOptions(
            source=dump.image.path, foreground=arguments.foreground, io=arguments.io, backend=arguments.backend,
            sources=[file.path for file in files], keep_fds=[file.fd for file in files], capture=dump.capture.as_options())
        mount(make_tree(dump, os.path.abspath(arguments.mountpoint)), arguments.mountpoint, options, "vmcore")
    return 0
