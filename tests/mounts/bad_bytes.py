"""What a pread must give where bytes are bad: a slow and obvious model."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tests.builders import Built

PAGE = 4096

Ranges = tuple[tuple[int, int], ...]


def in_vmcore(built: Built, bad: Iterable[tuple[int, int]], file: Literal["image", "hsa"] = "image") -> Ranges:
    """Where in vmcore the bytes lie that are bad [start, end) in *file*; in order."""
    bad = list(bad)
    found: list[tuple[int, int]] = []
    for load in built.model.loads:
        first = load.offset - load.offset % PAGE
        for index, address in enumerate(load.pages):
            name, raw = built.machine.placement.store_old(address)
            for start, end in bad if name == file else ():
                low, high = max(start, raw), min(end, raw + PAGE)
                if low < high:
                    page = first + index * PAGE
                    found.append((page + low - raw, page + high - raw))
    return joined(found)


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """In order; those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return tuple(found)


def whole_pages(bad: Ranges) -> Ranges:
    return joined((start // PAGE * PAGE, -(-end // PAGE) * PAGE) for start, end in bad)


@dataclass(frozen=True)
class BadVmcore:
    """*data* with *bad* ranges (offsets in vmcore). Through the page cache a bad byte takes its page with it."""

    data: bytes
    bad: Ranges
    io: str

    @property
    def seen(self) -> Ranges:
        """What looks bad through the mount."""
        return self.bad if self.io == "direct" else whole_pages(self.bad)

    def pread(self, size: int, offset: int) -> bytes | int:
        """The bytes, or the errno."""
        end = min(offset + size, len(self.data))
        first_bad = min((max(start, offset) for start, stop in self.seen if start < end and offset < stop), default=end)
        if first_bad == offset < end:
            return errno.EIO
        return self.data[offset:first_bad]


def try_pread(descriptor: int, size: int, offset: int) -> bytes | int:
    """What the system gives: the bytes, or the errno."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        return error.errno or -1
