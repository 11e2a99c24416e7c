"""Dispatch of the subcommands, and the one place where an error becomes a message and an exit status."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from vmcorefs.capture import FIELDS, nearest
from vmcorefs.cli.options import Parser, log_level
from vmcorefs.cli.say import log, set_up_logging
from vmcorefs.errors import VmcorefsError, printable, system_reason
from vmcorefs.version import __version__

COMMANDS = ("mount", "umount", "list", "copy", "info", "check", "dmesg", "drgn")
INTERRUPTED = 130

_EPILOG = """exit status: 0 done; 1 the answer is no (a check failed, a mount is busy, bytes could not be read or written);
2 wrong usage or bad input; 3 the system lacks something, and the message says what to do"""


def make_parser(argv: Sequence[str] = ()) -> Parser:
    """The parser of the whole command line.

    *argv* tells whether --capture makes IMAGE optional, and which command is meant: only that one is imported then.
    """
    capture_given = any(word == "--capture" or word.startswith("--capture=") or "capture=" in word for word in argv)
    parser = Parser(prog="vmcorefs", epilog=_EPILOG,
                    description="The /proc/vmcore of a crashed s390x machine's dump kernel, from an image of its memory.")
    parser.add_argument("--version", action="version", version=f"vmcorefs {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name in argv[:1] if argv and argv[0] in COMMANDS else COMMANDS:
        module = importlib.import_module(f"vmcorefs.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP, epilog=_EPILOG)
        command.capture_given = capture_given
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


_MANY = 1000


def take_many(argv: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Take repeatable options out of a very long command line; argparse needs time by the square of their number."""
    if len(argv) < _MANY:
        return argv, {}
    options = {field.option: field.name for field in FIELDS if field.repeatable}
    many: dict[str, list[str]] = {}
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        option, equals, value = word.partition("=")
        if option not in options or (not equals and (value := next(rest, "")) == ""):
            words.append(word)
        else:
            many.setdefault(options[option], []).append(value)
    return words, many


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """parse_args, but an unknown option is named with the nearest known one and the command's own help."""
    words, many = take_many(list(sys.argv[1:] if argv is None else argv))
    arguments, rest = parser.parse_known_args(words)
    if rest and getattr(arguments, "mountpoint", "") is None and (rest[0] == "--" or not rest[0].startswith("-")):
        # argparse gives an optional positional nothing where an option stands before it
        rest = rest[1:] if rest[0] == "--" else rest
        arguments.mountpoint, rest = (rest[0], rest[1:]) if rest else (None, rest)
    for name, values in many.items():
        setattr(arguments, name, [*(getattr(arguments, name, None) or []), *values])
    if rest:
        command: Parser = arguments.parser
        wrong = next((word for word in rest if word.startswith("-")), rest[0]).partition("=")[0]
        what = "unknown option" if wrong.startswith("-") else "one argument too many:"
        command.error(f"{what} {printable(wrong)}{nearest(wrong, command.option_strings) if wrong.startswith('-') else ''}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """The program. Returns the exit status; a traceback that reaches a person is a bug."""
    argv = as_mount(list(sys.argv[1:] if argv is None else argv))
    return run_program(lambda: parse(make_parser(argv), argv))


def as_mount(argv: list[str]) -> list[str]:
    """The words of the program with a command among them: ``SOURCE DIR -o WORDS`` is what mount.fuse3 calls it with for
    ``mount.fuse3 vmcorefs#SOURCE DIR`` (libfuse util/mount.fuse.c).
    """
    without_command = len(argv) >= 3 and argv[0] not in COMMANDS and not argv[0].startswith("-") and argv[2] == "-o"
    return ["mount", *argv] if without_command else argv


def run_program(make_arguments: Callable[[], argparse.Namespace],
                exit_status: Callable[[VmcorefsError], int] = lambda error: error.exit_status) -> int:
    """Run the command that *make_arguments* gives. Returns the exit status; *exit_status* gives that of an error."""
    _open_standard_descriptors()
    set_up_logging("info")
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        arguments = make_arguments()
        set_up_logging(log_level(arguments))
        return _flushed(int(arguments.run(arguments)))
    except VmcorefsError as error:
        log.error("%s", error)
        return exit_status(error)
    except SystemExit as ended:  # --help and --version
        raise SystemExit(_flushed(int(ended.code or 0))) from None
    except KeyboardInterrupt:
        log.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except OSError as error:
        if not error.filename and not _has_working_directory():
            log.error("the working directory has been deleted; change to another one")
            return 2
        where = error.filename or ("standard output" if error.errno in {errno.ENOSPC, errno.EBADF, errno.EIO} else None)
        log.error("%s%s", f"{printable(where)}: " if where else "", system_reason(error))
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _silence_stdout()
        return 1


def _has_working_directory() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _flushed(status: int) -> int:
    """*status*, once everything that was printed is out; a full disk must not pass for success."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except OSError as error:
        log.error("standard output: cannot write: %s", system_reason(error))
        _silence_stdout()
        return 1
    return status


def _open_standard_descriptors() -> None:
    """Where one is closed, the next file opened would get its number, and the daemon's /dev/null would take its place.

    A closed standard output stays one that cannot be written to: copy must not lose the dump in silence.
    """
    for descriptor, flags in enumerate((os.O_RDWR, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest free number is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _silence_stdout() -> None:
    """The reader of our output has gone; Python must not complain once more at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
