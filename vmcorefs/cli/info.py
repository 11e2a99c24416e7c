"""vmcorefs info IMAGE|MOUNTPOINT"""

from __future__ import annotations

import argparse
import json
import os
import sys

from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options, image_options
from vmcorefs.cli.say import log
from vmcorefs.dump import Dump, open_dump
from vmcorefs.errors import UsageError, printable
from vmcorefs.fs.mounts import TYPE, absolute, answers, find_mount
from vmcorefs.fs.record import find_record
from vmcorefs.report.info import Info, make_info
from vmcorefs.report.map import make_map, map_text
from vmcorefs.report.map_svg import map_svg
from vmcorefs.report.text import for_stdout, info_text

_ANSWER_TIMEOUT = 3.0

HELP = "what machine this was, why it died, how to open it; every fact with its origin"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser, "IMAGE|MOUNTPOINT", "memory image, or where its vmcore is mounted")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs; docs/info.schema.json describes it")
    form.add_argument("--map", dest="map", action="store_const", const="text",
                      help="draw which bytes of vmcore are which memory, and where it stands in the image")
    form.add_argument("--map=svg", dest="map", action="store_const", const="svg", help="the same as a picture (SVG)")
    add_image_options(parser)
    add_common_options(parser)


def open_image_or_mount(arguments: argparse.Namespace) -> Dump:
    """The image, or what is mounted at a mount point, as it was mounted."""
    return _open(arguments)[0]


def _open(arguments: argparse.Namespace) -> tuple[Dump, str | None]:
    """The dump, and its mount point if it was named by that."""
    options = image_options(arguments)
    where = None if arguments.image is None else absolute(arguments.image)
    entry = None if where is None else find_mount(where)
    if where is None or entry is None or entry.type != TYPE:
        return open_dump(arguments.image, **options), None
    record = find_record(entry.device, where)
    if record is None:
        state = "its mount lives, but there is no record of it" if answers(where, _ANSWER_TIMEOUT) == 0 else "a dead mount, or not yours"
        raise UsageError(f"{printable(arguments.image)}: {state}; give the image {printable(entry.source)} with its options")
    if options:
        raise UsageError(f"{printable(arguments.image)}: a mount has its options already; leave --{next(iter(options))} out")
    return open_dump(**record.capture), where


def say(text: str) -> None:
    """Text to stdout, whatever its encoding can take."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    dump, where = _open(arguments)
    with dump:
        if arguments.map == "text":
            say(map_text(make_map(dump), encoding=sys.stdout.encoding or "ascii"))
        elif arguments.map == "svg":
            say(map_svg(make_map(dump), _title(make_info(dump))))
        else:
            info = make_info(dump, mountpoint=where)
            say(json.dumps(info.as_dict(), indent=1) + "\n" if arguments.json else info_text(info, for_stdout()))
        log.debug("%s: %s", dump.image.name, dump.notice)
    return 0


def _title(info: Info) -> str:
    """Which dump this is, in one line."""
    words = [f"{os.path.basename(info.image.path)}: {info.mode.value} mode"]
    words += [f"kernel {info.crashed_release.value}"] if info.crashed_release else []
    words += [str(info.crash.reason.value)] if info.crash.reason else []
    return ", ".join(words)
