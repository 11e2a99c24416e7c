"""The options of the command line: those on how to read an image follow from capture.FIELDS, a row an option."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from vmcorefs.capture import FIELDS
from vmcorefs.errors import UsageError

LOG_LEVELS = ("debug", "info", "warning", "error")


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong word is a UsageError, one line, mapped where all errors are."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    @property
    def option_strings(self) -> list[str]:
        """All options, as they are written."""
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """One line, and where to find help."""
        raise UsageError(f"{' '.join(message.split())}; see {self.prog} --help")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """How to read the image: the same for all commands that take one."""
    group = parser.add_argument_group("how to read the image")
    for field in FIELDS:
        group.add_argument(field.option, metavar=field.metavar, help=field.help, dest=field.name,
                           action="append" if field.repeatable else "store")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--log-level."""
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info", metavar="|".join(LOG_LEVELS),
                        help="what is said on stderr (default: info)")


def image_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The given options by name, as vmcorefs.open takes them."""
    return {field.name: value for field in FIELDS if (value := getattr(arguments, field.name, None)) is not None}


def choices(names: Sequence[str]) -> dict[str, Any]:
    """Argparse's words for an option with a few values."""
    return {"choices": tuple(names), "metavar": "|".join(names)}
