"""Numbers as people write them: ``0x6000000``, ``96M``, ``B:S``, ``BASE+SIZE``, ``START-END``."""

from __future__ import annotations

import re

from vmcorefs.errors import UsageError

PAGE_SIZE = 4096
MIB = 1 << 20

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER = re.compile(r"(?P<digits>0[xX][0-9a-fA-F]{1,40}|[0-9]{1,40})(?P<unit>[kKmMgGtT]?)(?:[iI]?[bB])?")
ADDRESS_LIMIT = 1 << 64


def parse_size(text: str) -> int:
    """A size or address in bytes: decimal or 0x hex, optionally with K, M, G or T (powers of 1024).

    Raises UsageError for anything else and for numbers that do not fit into 64 bits.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size or address; write 0x6000000, 100663296, 98304K or 96M")
    digits, unit = match["digits"], match["unit"].upper()
    value = (int(digits, 16) if digits[:2].lower() == "0x" else int(digits, 10)) * _UNITS[unit]
    if value >= ADDRESS_LIMIT:
        raise UsageError(f"{text!r} does not fit into 64 bits")
    return value


def parse_base_size(text: str) -> tuple[int, int]:
    """``B:S`` or ``BASE+SIZE`` as (base, size)."""
    for separator in (":", "+"):
        if text.count(separator) == 1:
            base, size = text.split(separator)
            return parse_size(base), parse_size(size)
    raise UsageError(f"{text!r} is no BASE:SIZE; write for example 0x6000000:64M or 96M+64M")


def parse_range(text: str) -> tuple[int, int]:
    """``START-END`` as (start, end); END is exclusive."""
    if text.count("-") != 1:
        raise UsageError(f"{text!r} is no START-END; write for example 0-0x8000000 (END exclusive)")
    start, end = text.split("-")
    return parse_size(start), parse_size(end)


def round_down(value: int, unit: int = PAGE_SIZE) -> int:
    """The multiple of *unit* at or below *value*."""
    return value - value % unit


def round_up(value: int, unit: int = PAGE_SIZE) -> int:
    """The multiple of *unit* at or above *value*."""
    return -(-value // unit) * unit


def human_size(value: int) -> str:
    """A size for people: ``160 MiB``, ``12 KiB``, ``17 bytes``; exact or with one digit."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        size = 1 << (10 * power)
        if value >= size:
            return f"{value // size} {unit}" if value % size == 0 else f"{value / size:.1f} {unit}"
    return f"{value} bytes"
