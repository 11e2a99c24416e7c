"""vmcorefs copy IMAGE FILE|-"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options, image_options
from vmcorefs.cli.progress import Progress, copy_progress
from vmcorefs.cli.say import introduce, log
from vmcorefs.dump import open_dump
from vmcorefs.errors import UsageError
from vmcorefs.output.copy import CopyInterruptedError, check_target, copy_to_descriptor, copy_to_file

HELP = "write the same bytes to a file or a pipe, without a mount"
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser)
    parser.add_argument("file", metavar="FILE", help="where to write, by way of FILE.part, which a further copy continues; "
                                                     "- is standard output")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    add_image_options(parser)
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """The command. INT, TERM and HUP end it with 128 + their number; USR1 asks where it is."""
    if arguments.file != "-":
        check_target(arguments.file, force=arguments.force)
    elif sys.stdout.isatty():
        raise UsageError("standard output is a terminal; send it into a file or a pipe")
    came: list[int] = []
    try:
        with _stop_signals(came), copy_progress() as progress:
            _copy(arguments, progress)
    except (KeyboardInterrupt, CopyInterruptedError) as error:
        log.error("%s", str(error) or "interrupted; nothing was copied")
        return 128 + (came[0] if came else signal.SIGINT)
    return 0


def _copy(arguments: argparse.Namespace, progress: Progress) -> None:
    with open_dump(arguments.image, **image_options(arguments)) as dump:
        introduce(dump)
        if arguments.file == "-":
            copy_to_descriptor(dump.vmcore, sys.stdout.fileno(), progress=progress)
        else:
            copy_to_file(dump.vmcore, arguments.file, force=arguments.force, progress=progress, say=progress.say)


@contextmanager
def _stop_signals(came: list[int]) -> Iterator[None]:
    """A signal that ends us becomes a KeyboardInterrupt; one that is ignored (nohup) stays ignored."""
    def stop(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _STOPS}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
