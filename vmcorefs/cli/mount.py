"""vmcorefs mount [IMAGE] [MOUNTPOINT]."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from typing import Any, Protocol

from vmcorefs.capture import FIELDS, find_capture_file, read_mount_table
from vmcorefs.cli.mount_options import MountWords
from vmcorefs.cli.options import (
    Parser,
    add_common_options,
    add_image_options,
    add_mount_options,
    image_options,
    mount_options,
)
from vmcorefs.cli.say import introduce, log
from vmcorefs.dump import Dump, open_dump
from vmcorefs.errors import UsageError, printable
from vmcorefs.fs.access import Access
from vmcorefs.fs.late import Late
from vmcorefs.fs.mount import mount
from vmcorefs.fs.mountpoint import check_mountpoint
from vmcorefs.fs.pidfile import PidFile
from vmcorefs.fs.session import MountOptions
from vmcorefs.fs.tree import File, Tree, bytes_file
from vmcorefs.ranges import total
from vmcorefs.report.dmesg import dmesg_text
from vmcorefs.report.files import small_files

HELP = "serve the image's vmcore in a directory; returns when the mount answers"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="memory image or dump of the crashed machine, a directory that holds "
                        "a capture, or a capture file (.toml); may be left out with --capture")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?", help="an empty directory; may be left out where the [mount] "
                        "table of the capture file names it")
    add_mount_options(parser)
    add_image_options(parser)
    add_common_options(parser)
    parser.set_defaults(mount_words=MountWords(), fake=False, sloppy=False, unknown_words=[])


def make_tree(dump: Dump, mountpoint: str | None = None, access: Access | None = None, also: Collection[str] = ()) -> Tree:
    """The mounted directory: vmcore, what --also asks for, the small files that can be made, and the log as soon as it is ready."""
    files = {"vmcore": _file(dump.vmcore)}
    if "dump.s390" in also:
        from vmcorefs.output.s390_dump import S390Dump

        files["dump.s390"] = _file(S390Dump(dump.oldmem, dump.memory_map, [cpu.save_area for cpu in dump.cpus],
                                             dump.image.container.time))
    if "mem.raw" in also:
        from vmcorefs.output.memory_view import MemoryView

        files["mem.raw"] = _file(MemoryView(dump.oldmem, dump.memory_map), data=total(dump.memory_map))
    files |= {path: bytes_file(data) for path, data in small_files(dump, mountpoint)}
    return Tree(files, mtime_ns=dump.image.mtime_ns, access=access or Access(), late={"dmesg.txt": Late(lambda: dmesg_text(dump))})


class _Readable(Protocol):
    size: int

    def preadinto(self, buffer: memoryview, offset: int, /, *, salvage: bool = True) -> int:
        """See VmcoreFile."""


def _file(content: _Readable, *, data: int | None = None) -> File:
    return File(content.size, lambda view, offset, salvage: content.preadinto(view, offset, salvage=salvage), data)


def run(arguments: argparse.Namespace) -> int:
    """The command; with ``arguments.fake`` all checks, and no mount."""
    _sort_out(arguments)
    images = image_options(arguments)
    for name in dict.fromkeys(arguments.unknown_words):
        log.warning("-o: unknown option %s is ignored, as -s asks for", printable(name))
    words = mount_options(arguments)
    if arguments.mountpoint and arguments.image and os.path.isdir(arguments.image) and os.path.isfile(arguments.mountpoint):
        check_mountpoint(arguments.mountpoint, [arguments.image])  # swapped, and that is the better message
    capture = find_capture_file(arguments.image, arguments.capture)
    if capture is not None:
        named = words.take_table(read_mount_table(capture), printable(capture))
        arguments.mountpoint = arguments.mountpoint or named
    if arguments.mountpoint is None:
        where = "give a directory" if capture is None else f"give a directory, or name it in {printable(capture)} under [mount]"
        raise UsageError(f"MOUNTPOINT is missing; {where}; see {arguments.parser.prog} --help")
    sources = [path for path in (arguments.image, capture, *_files(images), words.pidfile) if path is not None]
    check_mountpoint(arguments.mountpoint, sources, stale="accept" if words.replace_stale else "refuse", nonempty=words.nonempty)
    words.access.check()
    if words.pidfile is not None:
        PidFile(words.pidfile).give_up()  # found out before the image is opened, which may take its time
    with open_dump(arguments.image, **images) as dump:
        introduce(dump)
        files = [*dump.image.files, *(dump.hsa.files if dump.hsa is not None else ())]
        options = MountOptions(
            source=dump.image.path, probe="vmcore", foreground=words.foreground, io=words.io, backend=words.backend,
            access=words.access, replace_stale=words.replace_stale, nonempty=words.nonempty, pidfile=words.pidfile,
            idle_timeout=words.idle_timeout, kernel_options=words.kernel_options,
            sources=[*(file.path for file in files), *_files(dump.capture.as_options())], keep_fds=[file.fd for file in files],
            capture=dump.capture.as_options(),
            served={"mode": dump.mode.name, "size": dump.vmcore.size})
        tree = make_tree(dump, os.path.abspath(arguments.mountpoint), words.access, words.also)
        mount(tree, arguments.mountpoint, options, fake=arguments.fake)
    return 0


def _files(images: dict[str, Any]) -> list[str]:
    """The files that options on how to read the image name."""
    given = [images[row.name] for row in FIELDS if row.path and row.name in images]
    return [os.fsdecode(path) for value in given for path in ([value] if isinstance(value, str) else value)]


def _sort_out(arguments: argparse.Namespace) -> None:
    """Of two words that may both be left out, a single one is the mount point where --capture names the image."""
    if arguments.image is None and arguments.capture is None and not any("capture=" in words for words in arguments.o):
        arguments.parser.error("the following arguments are required: IMAGE, MOUNTPOINT")
    if arguments.mountpoint is None and arguments.parser.capture_given:
        arguments.image, arguments.mountpoint = None, arguments.image
