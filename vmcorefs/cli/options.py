"""The options of the command line: those on how to read an image follow from capture.FIELDS, a row an option."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from vmcorefs.capture import FIELDS, nearest
from vmcorefs.cli.mount_options import KERNEL_VALUES, MOUNT_FIELDS, WORDS, MountWords, is_system_word
from vmcorefs.errors import UsageError, printable

LOG_LEVELS = ("debug", "info", "warning", "error")


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


def add_image_argument(parser: Parser, metavar: str = "IMAGE", words: str = "memory image or dump of the crashed machine") -> None:
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


def add_mount_options(parser: Parser) -> None:
    """Mount's own options; those that are words of -o only stand in its help text."""
    for row in MOUNT_FIELDS:
        if row.option is not None:
            names = [row.short, row.option] if row.short else [row.option]
            kind: dict[str, Any] = {"action": "store_true", "default": None} if row.metavar is None else {"metavar": row.metavar}
            kind |= {"choices": row.choices} if row.choices else {}
            parser.add_argument(*names, dest=row.name, help=row.help, **kind)
    only = ", ".join(row.word + ("" if row.metavar is None else f"={row.metavar}") for row in MOUNT_FIELDS if row.option is None)
    parser.add_argument_group("words of -o that are no option", only)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--log-level."""
    parser.add_argument("--log-level", choices=LOG_LEVELS, default=None, metavar="|".join(LOG_LEVELS),
                        help="what is said on stderr (default: info)")


def image_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The given options by name, as vmcorefs.open takes them; -o counts where the option of that name was not given.

    What of -o is mount's own goes to ``arguments.mount_words``, where the command has that.
    """
    options: dict[str, Any] = {}
    own = getattr(arguments, "mount_words", None)
    for words in arguments.o:
        for name, value in split_option_words(words):
            _take_word(options, arguments, own, name, value)
    options |= {field.name: value for field in FIELDS if (value := getattr(arguments, field.name, None)) is not None}
    if arguments.capture is not None:
        options["capture"] = arguments.capture
    return options


def log_level(arguments: argparse.Namespace) -> str:
    """What --log-level says, or the word of that name in -o."""
    given = [value for words in getattr(arguments, "o", ()) for name, value in split_option_words(words)
             if name.replace("_", "-") == "log-level"]
    for value in given:
        if value is None:
            raise UsageError(f"-o: log-level needs a value, one of {', '.join(LOG_LEVELS)}")
        if value not in LOG_LEVELS:
            raise UsageError(f"-o: log-level={printable(value)}: one of {', '.join(LOG_LEVELS)}")
    return str(arguments.log_level or (given[-1] if given else "info"))


def mount_options(arguments: argparse.Namespace) -> MountWords:
    """What was given of mount's own options; call image_options first."""
    words: MountWords = arguments.mount_words
    for row in MOUNT_FIELDS:
        value = getattr(arguments, row.name, None) if row.option is not None else None
        if value is not None:  # the option of that name wins
            words.set(row, value, str(row.option))
    return words


def split_option_words(words: str) -> list[tuple[str, str | None]]:
    r"""``a=1,b,c=x\,y`` as [("a", "1"), ("b", None), ("c", "x,y")]. A backslash takes the next character as it is.

    Commas in double quotes do not separate, and mount(8) hands such a value on with its quotes: a path loses them here, an SELinux
    context (``context="s0:c1,c2"``) goes to the kernel with them.
    """
    found: list[tuple[str, str | None]] = []
    for part in re.findall(r'(?:\\.|(?<==)"[^"]*"(?=,|$)|[^,\\]|\\$)+', words, re.DOTALL):
        name, equals, value = re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL).partition("=")
        if re.fullmatch(r'[^=]*="[^"]*"', part) and name not in KERNEL_VALUES:
            value = value[1:-1]
        found.append((name, value if equals else None))
    return found


def _take_word(options: dict[str, Any], arguments: argparse.Namespace, own: MountWords | None, name: str, value: str | None) -> None:
    """One name[=value] of -o: an option on how to read the image goes to *options*, one of the command's own to *own*."""
    if not name:
        raise UsageError(f"-o: a word without a name ({printable('=' + (value or ''))})")
    fields = {field.option.removeprefix("--"): field for field in FIELDS}
    dashed = name.replace("_", "-")
    name = dashed if dashed in fields or dashed == "log-level" else name
    if name == "log-level":
        return
    if own is not None and own.take(name, value):
        return
    if name not in fields and name != "capture":
        if is_system_word(name, value):
            return
        if getattr(arguments, "sloppy", False):
            arguments.unknown_words.append(name)
            return
        known = [*fields, "capture", "log-level", "ro", "defaults", *(WORDS if own is not None else ())]
        raise UsageError(f"-o: unknown option {printable(name)}{nearest(name, known)}")
    if value is None:
        raise UsageError(f"-o: {name} needs a value, write {name}=...")
    if name == "capture":
        arguments.capture = arguments.capture or value
    elif fields[name].repeatable:
        options.setdefault(fields[name].name, []).append(value)
    else:
        options[fields[name].name] = value
