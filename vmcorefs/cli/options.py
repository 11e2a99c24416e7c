"""The options of the command line: those on how to read an image follow from capture.FIELDS, a row an option."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from vmcorefs.capture import FIELDS, nearest
from vmcorefs.errors import UsageError, printable
from vmcorefs.fs.backends import BACKEND_NAMES
from vmcorefs.fs.mount import IO_MODES

LOG_LEVELS = ("debug", "info", "warning", "error")
# Options of mount itself that -o takes as well, with their values
MOUNT_DEFAULTS = {"io": "auto", "backend": "auto", "log_level": "info"}
MOUNT_WORDS = {"io": IO_MODES, "backend": BACKEND_NAMES, "log_level": LOG_LEVELS}


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong word is a UsageError, one line, mapped where all errors are."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    capture_given = False
    """Set by make_parser where --capture is among the words: the image may then be named in that file."""

    @property
    def option_strings(self) -> list[str]:
        """All options, as they are written."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """One line, and where to find help."""
        raise UsageError(f"{' '.join(message.split())}; see {self.prog} --help")


def add_image_argument(parser: Parser, metavar: str = "IMAGE", words: str = "raw memory image of the crashed machine") -> None:
    """The positional IMAGE, which --capture makes optional."""
    parser.add_argument("image", metavar=metavar, help=f"{words}, a directory that holds a capture, or a capture file (.toml)",
                        nargs="?" if parser.capture_given else None)


def add_image_options(parser: Parser) -> None:
    """How to read the image: the same for all commands that take one."""
    group = parser.add_argument_group("how to read the image")
    group.add_argument("--capture", metavar="FILE.toml", help="all of these, and the image, in a file; options here win")
    group.add_argument("-o", metavar="NAME=VALUE,...", dest="o", action="append", default=[],
                       help="the same options by name, as mount(8) has them; \\, stands for a comma")
    for field in FIELDS:
        group.add_argument(field.option, metavar=field.metavar, help=field.help, dest=field.name,
                           action="append" if field.repeatable else "store")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--log-level."""
    parser.add_argument("--log-level", choices=LOG_LEVELS, default=None, metavar="|".join(LOG_LEVELS),
                        help="what is said on stderr (default: info)")


def image_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The given options by name, as vmcorefs.open takes them; -o counts where the option of that name was not given."""
    options: dict[str, Any] = {}
    for words in arguments.o:
        for name, value in split_option_words(words):
            _take_word(options, arguments, name, value)
    for name, default in MOUNT_DEFAULTS.items():
        if getattr(arguments, name, "") is None:
            setattr(arguments, name, default)
    options |= {field.name: value for field in FIELDS if (value := getattr(arguments, field.name, None)) is not None}
    if arguments.capture is not None:
        options["capture"] = arguments.capture
    return options


def split_option_words(words: str) -> list[tuple[str, str | None]]:
    r"""``a=1,b,c=x\,y`` as [("a", "1"), ("b", None), ("c", "x,y")]. A backslash takes the next character as it is."""
    parts = [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in re.findall(r"(?:\\.|[^,\\]|\\$)+", words, re.DOTALL)]
    return [(name, value if equals else None) for name, equals, value in (part.partition("=") for part in parts)]


_IGNORED_WORDS = frozenset({"ro", "defaults"})


def _take_word(options: dict[str, Any], arguments: argparse.Namespace, name: str, value: str | None) -> None:
    """One name[=value] of -o: an option on how to read the image goes to *options*, one of the command's own to *arguments*."""
    fields = {field.option.removeprefix("--"): field for field in FIELDS}
    own = {key.replace("_", "-"): key for key in MOUNT_WORDS if hasattr(arguments, key)}
    if name in _IGNORED_WORDS:
        return
    if name not in fields and name not in own and name != "capture":
        raise UsageError(f"-o: unknown option {printable(name)}{nearest(name, [*fields, *own, 'capture', *_IGNORED_WORDS])}")
    if value is None:
        raise UsageError(f"-o: {name} needs a value, write {name}=...")
    if name == "capture":
        arguments.capture = arguments.capture or value
    elif name in own:
        known = MOUNT_WORDS[own[name]]
        if value not in known:
            raise UsageError(f"-o: {name}={printable(value)}: one of {', '.join(known)}")
        if getattr(arguments, own[name]) is None:  # the option of that name wins
            setattr(arguments, own[name], value)
    elif fields[name].repeatable:
        options.setdefault(fields[name].name, []).append(value)
    else:
        options[fields[name].name] = value


def choices(names: Sequence[str]) -> dict[str, Any]:
    """Argparse's words for an option with a few values."""
    return {"choices": tuple(names), "metavar": "|".join(names)}
