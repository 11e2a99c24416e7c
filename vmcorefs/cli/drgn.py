"""vmcorefs drgn IMAGE|MOUNTPOINT [-e CODE] [SCRIPT ARG...]"""

from __future__ import annotations

import argparse
import logging
import os
import pkgutil
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vmcorefs.capture import nearest
from vmcorefs.cli.info import open_image_or_mount
from vmcorefs.cli.options import Parser, add_common_options, add_image_argument, add_image_options
from vmcorefs.cli.say import introduce, log, set_up_logging
from vmcorefs.drgn import attach, import_drgn
from vmcorefs.errors import UsageError, printable

HELP = "drgn on the image, without a mount: its shell, a script, or -e CODE"


def add_arguments(parser: Parser) -> None:
    """The command's arguments."""
    add_image_argument(parser, "IMAGE|MOUNTPOINT", "memory image, or where its vmcore is mounted")
    _add_rest(parser)


def _add_rest(parser: Parser) -> None:
    script = parser.add_argument("script", metavar="SCRIPT ARG...", nargs=argparse.REMAINDER,
                                 help="a drgn script and its arguments; all options of vmcorefs stand before it")
    script.required = False  # argparse would name it where IMAGE is missing
    parser.add_argument("-e", dest="code", metavar="CODE", help="Python code to run instead")
    parser.add_argument("--vmlinux", metavar="FILE", action="append", default=[],
                        help="the crashed kernel's vmlinux with debug information; again for each module's. Without it drgn looks "
                             "for it in this system's directories, not on the network")
    add_image_options(parser)
    add_common_options(parser)


def parse_rest(arguments: argparse.Namespace) -> None:
    """Options may stand behind IMAGE, where argparse takes all words for SCRIPT's: look for ours at their beginning."""
    words: list[str] = arguments.script
    if words and words[0].startswith("-"):
        parser = Parser(prog=arguments.parser.prog, add_help=False)
        _add_rest(parser)
        _, unknown = parser.parse_known_args(words, arguments)
        if {"-h", "--help"} & set(unknown[:1]):
            arguments.parser.print_help()
            raise SystemExit(0)
        if unknown:
            wrong = unknown[0].partition("=")[0]
            parser.error(f"unknown option {printable(wrong)}{nearest(wrong, arguments.parser.option_strings)}")
        set_up_logging(arguments.log_level or "info")
    if arguments.script[:1] == ["--"]:
        del arguments.script[0]


def run(arguments: argparse.Namespace) -> int:
    """The command."""
    parse_rest(arguments)
    drgn = import_drgn()
    from drgn import cli as drgn_cli

    if arguments.code is None and arguments.script and not os.path.exists(arguments.script[0]):
        raise UsageError(f"{printable(arguments.script[0])}: no such script")
    interactive = arguments.code is None and not arguments.script and sys.stdin is not None and sys.stdin.isatty()
    with open_image_or_mount(arguments) as dump, _drgn_says_it_our_way():
        if interactive:
            introduce(dump)
        else:
            log.debug("%s: %s", dump.image.name, dump.notice)
        prog = attach(dump, arguments.vmlinux)
        if not arguments.vmlinux:
            _load_what_is_here(drgn, prog)
        if interactive:
            drgn_cli.run_interactive(prog, banner_func=lambda banner: f"{drgn_cli.version_header()}\n{banner}")
            return 0
        return _run_code(drgn, prog, arguments)


def _load_what_is_here(drgn: Any, prog: Any) -> None:
    """Debug information in the directories of this system. Nothing goes over the network unless somebody asks for it."""
    finders = prog.enabled_debug_info_finders()
    logging.getLogger("drgn").setLevel(logging.ERROR)  # its warning does not say what to do
    prog.set_enabled_debug_info_finders([name for name in finders if name != "debuginfod"])
    try:
        prog.load_default_debug_info()
    except drgn.MissingDebugInfoError:
        log.warning("no vmlinux with debug information of this kernel is in this system's directories, so drgn knows no types; "
                    "give it with --vmlinux FILE")
    finally:
        prog.set_enabled_debug_info_finders(finders)
        logging.getLogger("drgn").setLevel(logging.NOTSET)


def _run_code(drgn: Any, prog: Any, arguments: argparse.Namespace) -> int:
    """As drgn itself runs -e, a script or what stands on stdin. An error in it is a traceback for who wrote it, and status 1."""
    code, script = arguments.code, arguments.script
    if code is None and script:
        folder = None if pkgutil.get_importer(script[0]) else os.path.dirname(os.path.abspath(script[0]))
        return _guarded(drgn, prog, script, folder,
                        lambda: runpy.run_path(script[0], init_globals={"prog": prog}, run_name="__main__"))
    text, name = (sys.stdin.read() if sys.stdin else "", "<stdin>") if code is None else (code, "<string>")
    names = drgn.cli.default_globals(prog)
    return _guarded(drgn, prog, ["" if code is None else "-e", *script], "",
                    lambda: exec(compile(text, name, "exec"), names))  # noqa: S102 - what -e is for


def _guarded(drgn: Any, prog: Any, words: list[str], folder: str | None, call: Callable[[], object]) -> int:
    argv, path = sys.argv, sys.path
    sys.argv, sys.path = words, path if folder is None else [folder, *path]
    drgn.set_default_prog(prog)
    try:
        call()
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the code of somebody else raises
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in {__file__, runpy.__file__, "<frozen runpy>"}:
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace))
        return 1
    finally:
        drgn.set_default_prog(None)
        sys.argv, sys.path = argv, path
    return 0


@contextmanager
def _drgn_says_it_our_way() -> Iterator[None]:
    """What drgn warns of, as lines of ours."""
    drgns = logging.getLogger("drgn")
    before = drgns.handlers[:], drgns.propagate
    drgns.handlers[:], drgns.propagate = log.handlers, False
    try:
        yield
    finally:
        drgns.handlers[:], drgns.propagate = before
