"""Capture: all facts on how to read an image; FIELDS: the one list of them, for open()'s keywords and the command line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vmcorefs.errors import UsageError
from vmcorefs.oldmem.mode import MODES
from vmcorefs.quantities import parse_base_size, parse_range, parse_size
from vmcorefs.vmcore.layouts import parse_layout


@dataclass(frozen=True)
class Capture:
    """How to read an image. Built by :func:`make_capture`, which checks and converts."""

    image: str
    mode: str = "auto"
    oldmem: tuple[int, int] | None = None
    hsa: str | None = None
    hsa_size: int | None = None
    memory_range: tuple[tuple[int, int], ...] = ()
    vmcoreinfo: str | None = None
    layout: str = "auto"


@dataclass(frozen=True)
class Field:
    """One fact of a Capture, and the option of the same name (with - for _)."""

    name: str
    metavar: str
    help: str
    convert: Callable[[Any], Any]
    repeatable: bool = False

    @property
    def option(self) -> str:
        """--name."""
        return "--" + self.name.replace("_", "-")


def _mode(value: Any) -> str:
    if value not in MODES:
        raise UsageError(f"unknown mode {value!r}; one of {', '.join(MODES)}")
    return str(value)


def _pair(parse: Callable[[str], tuple[int, int]]) -> Callable[[Any], tuple[int, int]]:
    def convert(value: Any) -> tuple[int, int]:
        if isinstance(value, str):
            return parse(value)
        first, second = value
        return _number(first), _number(second)
    return convert


def _number(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    raise UsageError(f"{value!r} is no size or address")


def _path(value: Any) -> str:
    return os.fsdecode(value)


FIELDS: tuple[Field, ...] = (
    Field("mode", "|".join(MODES), "what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, "
          "kdump where the image shows the swap, else plain", _mode),
    Field("oldmem", "B:S", "base and size of the crashkernel area (kdump), when the image does not say; "
          "sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same", _pair(parse_base_size)),
    Field("hsa", "FILE", "HSA image (zfcpdump): the first bytes of the crashed system's memory", _path),
    Field("hsa_size", "N", "HSA size, where the HSA file is longer", _number),
    Field("memory_range", "START-END", "memory that the machine had (repeatable; END exclusive); "
          "default: what the image knows, else its extent", _pair(parse_range), repeatable=True),
    Field("vmcoreinfo", "FILE", "text of VMCOREINFO, for an image whose own cannot be found", _path),
    Field("layout", "auto|5.8|6.1|6.10|RELEASE", "which kernel's bytes are produced; auto: the dump kernel's, from the image",
          parse_layout),
)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for a wrong name, or nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def make_capture(image: str | os.PathLike[str], **values: Any) -> Capture:
    """A Capture from values as people or programs give them: text as on the command line, or numbers and pairs.

    Raises UsageError for an unknown name (with the nearest known one) and for values that cannot be meant.
    """
    fields = {field.name: field for field in FIELDS}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        field = fields.get(name)
        if field is None:
            raise UsageError(f"unknown option {name!r}{nearest(name, fields)}")
        if value is None:
            continue
        try:
            if field.repeatable:
                several = [value] if isinstance(value, str) else value
                converted[name] = tuple(field.convert(v) for v in several)
            else:
                converted[name] = field.convert(value)
        except UsageError as error:
            raise UsageError(f"{field.option}: {error}") from None
        except (TypeError, ValueError):
            raise UsageError(f"{field.option}: {value!r} cannot be meant; write {field.metavar}") from None
    return Capture(os.fsdecode(image), **converted)
