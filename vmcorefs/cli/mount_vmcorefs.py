"""mount.vmcorefs SOURCE DIR [-sfnvrw] [-N NAMESPACE] [-t TYPE] [-o WORDS]: what mount(8) calls for ``-t vmcorefs`` and fstab.

The calling convention is that of mount(8), "External helpers"; so are the exit codes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vmcorefs.cli.main import INTERRUPTED, make_parser, parse, run_program
from vmcorefs.cli.options import Parser, split_option_words
from vmcorefs.errors import SystemLacksError, UsageError, VmcorefsError, printable
from vmcorefs.version import __version__

EXIT_USAGE, EXIT_SYSTEM, EXIT_INTERRUPTED, EXIT_FAILURE = 1, 2, 8, 32

_EPILOG = """exit status, as mount(8) has it: 0 mounted; 1 wrong usage; 2 the system lacks something, and the message says what to do;
8 interrupted; 32 not mounted (bad input, a mount point that cannot be used)"""


def make_helper_parser() -> Parser:
    """The parser of mount(8)'s calling convention."""
    parser = Parser(prog="mount.vmcorefs", description="Mount the memory image of a crashed s390x machine; called by mount(8).",
                    epilog=_EPILOG, usage="mount.vmcorefs SOURCE DIR [-sfnvrw] [-t TYPE] [-o WORDS]")
    parser.add_argument("source", metavar="SOURCE", help="memory image, a directory that holds a capture, or a capture file (.toml)")
    parser.add_argument("mountpoint", metavar="DIR", help="the mount point")
    parser.add_argument("-o", metavar="WORDS", action="append", default=[], dest="o",
                        help="options by name, as vmcorefs mount -o has them; mount(8)'s own words are ignored")
    parser.add_argument("-f", "--fake", action="store_true", help="make all checks, but do not mount")
    parser.add_argument("-s", "--sloppy", action="store_true", help="words of -o that are not known are no error")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    parser.add_argument("-n", "--no-mtab", action="store_true", help="ignored: there is no mtab to write")
    parser.add_argument("-r", "--read-only", action="store_true", help="ignored: the mount is always read only")
    parser.add_argument("-w", "--read-write", action="store_true", help="ignored: the mount is always read only")
    parser.add_argument("-t", metavar="TYPE", dest="type", help="ignored: vmcorefs or fuse.vmcorefs")
    parser.add_argument("-N", metavar="NAMESPACE", dest="namespace", help="refused; use nsenter(1)")
    parser.add_argument("--version", action="version", version=f"mount.vmcorefs {__version__}")
    return parser


def _mount_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The words of the helper as those of vmcorefs mount. Raises UsageError."""
    helper = make_helper_parser()
    given, rest = helper.parse_known_args(list(argv))
    if rest:
        helper.error(f"unknown word {printable(rest[0])}")
    if given.namespace is not None:
        raise UsageError("-N is not supported: a FUSE mount belongs to the namespace of its daemon; "
                         "use nsenter -m -t PID mount -t vmcorefs ...")
    if any(name == "remount" for options in given.o for name, _ in split_option_words(options)):
        raise UsageError("remount: the options of a mount cannot be changed; unmount it and mount it again: "
                         f"umount {printable(given.mountpoint)} && mount -t vmcorefs {printable(given.source)} "
                         f"{printable(given.mountpoint)} -o ...")
    words = ["mount", *(word for options in given.o for word in ("-o", options)), *(["--log-level", "debug"] if given.verbose else []),
             "--", given.source, given.mountpoint]
    arguments = parse(make_parser(words), words)
    arguments.fake, arguments.sloppy = given.fake, given.sloppy
    return arguments


def _exit_code(error: VmcorefsError) -> int:
    if isinstance(error, UsageError):
        return EXIT_USAGE
    return EXIT_SYSTEM if isinstance(error, SystemLacksError) else EXIT_FAILURE


def main(argv: Sequence[str] | None = None) -> int:
    """The helper. Returns an exit code of mount(8)."""
    words = sys.argv[1:] if argv is None else argv
    status = run_program(lambda: _mount_arguments(words), exit_status=_exit_code)
    return {INTERRUPTED: EXIT_INTERRUPTED}.get(status, status)
