"""What the child of a fork must begin anew: locks that a thread which is not in it may have held, and what such threads worked on."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that can forget all, while nobody else uses it."""

    def renew(self) -> None:
        """Begin anew."""


_things: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have *thing* renewed in the child of every fork, for as long as it lives."""
    _things.add(thing)


def _renew_all() -> None:
    for thing in list(_things):
        thing.renew()


os.register_at_fork(after_in_child=_renew_all)
