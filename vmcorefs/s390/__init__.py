"""Rules of the machine: pure functions over ``read(address, n) -> bytes``, which raises OldmemReadError.

Everything here comes out of an untrusted image: each pointer, size and count is checked before it is used. What is not
there, or not valid, is an :class:`Absent` that says why, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""read(address, n): exactly n bytes, or OldmemReadError."""

Scan = Callable[[int, int, int], Iterator[tuple[int, bytes]]]
"""scan(start, end, overlap): pieces (offset, bytes) of a file, without holes and unreadable pages."""


@dataclass(frozen=True)
class Absent:
    """Something that is not in the image, or not valid. *suspicious*: it should have been there, worth a warning."""

    reason: str
    suspicious: bool = True

    def __bool__(self) -> bool:
        return False
