"""Zeros in place of memory that a dump does not have: only on request (--missing zeros), for tools that give up on errors."""

from __future__ import annotations

from vmcorefs.errors import OldmemReadError
from vmcorefs.image.layer import Layer
from vmcorefs.image.source import Absence, Source
from vmcorefs.quantities import PAGE_SIZE


class ZerosForMissing(Layer):
    """*below*, but pages that were never saved ("filtered") or are cut off ("missing") read as zeros.

    What is there and cannot be read ("broken") stays an error: nothing says that it was zero.
    """

    def __init__(self, below: Source):
        super().__init__((below,), below.size, below.container)
        self._below = below

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """See Source."""
        done = 0
        while done < len(view):
            try:
                self._below.preadinto(view[done:], offset + done)  # with salvage: what is good must be known to the byte
                return
            except OldmemReadError as error:
                done += error.good
                if error.kind == "broken":
                    raise error.moved(good=done) from error.__cause__
            position, limit = offset + done, offset + len(view)
            data, _ = self._below.next_data(position, limit)  # none of what is before it is there: one error for all of it
            end = min(limit, max(data, position + PAGE_SIZE - position % PAGE_SIZE)) - offset
            view[done:end] = bytes(end - done)
            done = end

    def absences(self) -> tuple[Absence, ...]:
        """See Source."""
        return self._below.absences()

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """See Source."""
        return self._below.next_data(position, end)
