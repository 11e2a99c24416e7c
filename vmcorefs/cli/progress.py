"""The line on a terminal while something is copied; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmcorefs.quantities import human_size

_INTERVAL = 0.2


@contextmanager
def terminal_progress() -> Iterator[Callable[[int, int], None] | None]:
    """progress(done, size) for a terminal, else None."""
    if not sys.stderr.isatty():
        yield None
        return
    begun = time.monotonic()
    last = 0.0

    def progress(done: int, size: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _INTERVAL and done < size:
            return
        last = now
        rate = done / max(now - begun, 1e-3)
        sys.stderr.write(f"\r\033[K{done * 100 // size:3}% of {human_size(size)}, {human_size(int(rate))}/s, "
                         f"{(size - done) / max(rate, 1):.0f} s left")
        sys.stderr.flush()

    try:
        yield progress
    finally:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
