"""Where a copy is: a line on a terminal, nothing where stderr is none; and an answer to SIGUSR1."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from vmcorefs.cli.say import log
from vmcorefs.quantities import human_size

_INTERVAL = 0.2
_WINDOW = 10.0
"""Seconds over which the rate is taken: a disk that slows down shows."""


class Progress:
    """progress(done, size); *shown*: as a line that is written over and over."""

    def __init__(self, *, shown: bool):
        self._shown = shown
        self._done = self._size = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._last = 0.0
        self._width = 0

    def __call__(self, done: int, size: int) -> None:
        """So much is done."""
        now = time.monotonic()
        if not self._samples:
            self._samples.append((now, done))
        self._done, self._size = done, size
        if now - self._last < _INTERVAL and done < size:
            return
        self._last = now
        self._samples.append((now, done))
        while now - self._samples[0][0] > _WINDOW and len(self._samples) > 2:
            self._samples.popleft()
        if self._shown:
            self._show(f"{_percent(done, size)} of {human_size(size)}, {self._rate_and_time_left(now)}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        log.info("%s", text)

    def answer(self, _signal: int, _frame: FrameType | None) -> None:
        """SIGUSR1. Written past sys.stderr: the signal may have come while that was writing."""
        text = "the image is being opened, nothing is copied yet"
        if self._size:
            text = (f"{self._done} of {self._size} bytes ({_percent(self._done, self._size)}), "
                    f"{self._rate_and_time_left(time.monotonic())}")
        _write(f"{self._blank()}vmcorefs: {text}\n")

    def clear(self) -> None:
        """Take the line away."""
        _write(self._blank())

    def _blank(self) -> str:
        width, self._width = self._width, 0
        return f"\r{' ' * width}\r" if width else ""

    def _show(self, text: str) -> None:
        with suppress(OSError):
            text = text[:os.get_terminal_size(sys.stderr.fileno()).columns - 1 or None]  # columns 0: not known
        padding = " " * max(0, self._width - len(text))
        self._width = len(text)
        _write(f"\r{text}{padding}")

    def _rate_and_time_left(self, now: float) -> str:
        begun, at = self._samples[0]
        rate = (self._done - at) / max(now - begun, 1e-3)
        left = f"{_duration((self._size - self._done) / rate)} left" if rate else "time left not known"
        return f"{human_size(int(rate))}/s, {left}"


def _percent(done: int, size: int) -> str:
    return f"{done * 100 // size}%"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # a terminal that has gone does not end a copy
        if text:
            os.write(sys.stderr.fileno(), text.encode())


@contextmanager
def copy_progress() -> Iterator[Progress]:
    """A Progress, shown on a terminal unless --log-level asks for less; SIGUSR1 is answered meanwhile."""
    progress = Progress(shown=sys.stderr.isatty() and log.isEnabledFor(logging.INFO))
    before = signal.signal(signal.SIGUSR1, progress.answer)
    try:
        yield progress
    finally:
        progress.clear()
        signal.signal(signal.SIGUSR1, before)
