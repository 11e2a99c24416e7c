"""The words of the progress line, with a clock that the test moves."""

from __future__ import annotations

import signal

import pytest

from vmcorefs.cli import progress as module
from vmcorefs.cli.progress import Progress, copy_progress

MIB = 1 << 20
GIB = 1 << 30


class Screen:
    """A clock, and what was written."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.written: list[str] = []

    @property
    def last(self) -> str:
        return self.written[-1].strip()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr("vmcorefs.cli.progress.time.monotonic", lambda: screen.now)
    monkeypatch.setattr(module, "_write", lambda text: screen.written.append(text) if text else None)
    return screen


def test_percent_rate_and_time_left(screen: Screen) -> None:
    progress = Progress(shown=True)
    progress(0, GIB)
    assert screen.last == "0% of 1 GiB, 0 bytes/s, time left not known"
    screen.now += 2
    progress(256 * MIB, GIB)
    assert screen.last == "25% of 1 GiB, 128 MiB/s, 6 s left"
    screen.now += 4
    progress(GIB, GIB)
    assert screen.last == "100% of 1 GiB, 170.7 MiB/s, 0 s left"


@pytest.mark.parametrize(("size", "words"), [(10 * 59 * MIB, "1 min 37 s left"), (100000 * MIB, "4 h 37 min left")])
def test_longer_times(screen: Screen, size: int, words: str) -> None:
    progress = Progress(shown=True)
    progress(0, size)
    screen.now += 1
    progress(6 * MIB, size)
    assert screen.last.endswith(f", {words}")


def test_what_was_there_before_does_not_count_for_the_rate(screen: Screen) -> None:
    progress = Progress(shown=True)
    progress(512 * MIB, GIB)
    screen.now += 2
    progress(640 * MIB, GIB)
    assert screen.last == "62% of 1 GiB, 64 MiB/s, 6 s left"


def test_the_rate_is_that_of_the_last_seconds(screen: Screen) -> None:
    progress = Progress(shown=True)
    done = 0
    for rate in (100, 1):
        for _ in range(30):
            progress(done, 100 * GIB)
            screen.now += 1
            done += rate * MIB
    progress(done, 100 * GIB)
    assert ", 1 MiB/s, " in screen.last


def test_not_more_than_a_few_lines_a_second(screen: Screen) -> None:
    progress = Progress(shown=True)
    for step in range(1001):
        progress(step * MIB, 1000 * MIB)
        screen.now += 0.001
    assert 5 <= len(screen.written) <= 8
    assert screen.last.startswith("100%")


def test_a_shorter_line_covers_a_longer_one(screen: Screen) -> None:
    progress = Progress(shown=True)
    progress(0, GIB)
    screen.now += 1
    progress(256 * MIB, GIB)
    assert len(screen.written[1]) >= len(screen.written[0].rstrip())


def test_a_line_that_stays_begins_where_the_other_was(screen: Screen) -> None:
    progress = Progress(shown=True)
    progress(0, GIB)
    width = len(screen.written[0]) - 1
    progress.say("something")
    progress.say("something else")
    assert screen.written[1:] == [f"\r{' ' * width}\r"]


def test_nothing_where_it_is_not_shown_but_an_answer(screen: Screen) -> None:
    progress = Progress(shown=False)
    progress(0, GIB)
    screen.now += 2
    progress(256 * MIB, GIB)
    progress.clear()
    assert screen.written == []
    progress.answer(signal.SIGUSR1, None)
    assert screen.written == ["vmcorefs: 268435456 of 1073741824 bytes (25%), 128 MiB/s, 6 s left\n"]


def test_the_answer_knows_a_stall(screen: Screen) -> None:
    progress = Progress(shown=False)
    progress(0, GIB)
    screen.now += 1
    progress(128 * MIB, GIB)
    screen.now += 3
    progress.answer(signal.SIGUSR1, None)
    assert "12%), 32 MiB/s, 28 s left" in screen.last


def test_the_handler_is_taken_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with copy_progress():
        assert signal.getsignal(signal.SIGUSR1) != before
    assert signal.getsignal(signal.SIGUSR1) == before
