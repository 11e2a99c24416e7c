"""The watcher, in a process of its own each time: signals that come early, twice, late, and without a mount behind it.

What it does to real mounts: tests/mounts/test_lifecycle.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.mounts.mounting import TIMEOUT

PROLOGUE = """
import logging, os, signal, sys, threading, time
from vmcorefs.fs.operations import Operations
from vmcorefs.fs.tree import Tree
from vmcorefs.fs.watcher import Watcher
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
def send(number): os.kill(os.getpid(), number)
def say(*words): print(*words, flush=True)
operations = Operations(Tree({}), direct_io=True)
w = Watcher(operations, "/mnt/x", None, lambda: say("finished"))
w.start()
"""


def run(script: str) -> tuple[int, list[str], float]:
    """Exit status, lines, and how long it took beyond the interpreter's start."""
    with subprocess.Popen([sys.executable, "-c", PROLOGUE + "say('started')\n" + script], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        start = time.monotonic()
        said = process.stdout.read()
        return process.wait(TIMEOUT), said.splitlines(), time.monotonic() - start


def test_the_end_without_a_signal() -> None:
    assert run("w.mounted(None); w.ended(); say(w.stopping)")[:2] == (0, ["finished", "False"])


def test_after_that_signals_are_the_process_s_own_business_again() -> None:
    assert run("w.mounted(None); w.ended(); send(signal.SIGTERM); time.sleep(9)")[0] == -signal.SIGTERM


def test_no_watcher_is_left_to_take_them() -> None:
    assert run("w.ended(); say(threading.active_count(), len(os.listdir('/proc/self/task')))")[1] == ["finished", "1 1"]


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_in_quick_succession(first: str) -> None:
    """The second comes while the mount is being taken away, others after it has ended: never a failure."""
    script = f"""
w.mounted(None)
send(signal.{first}); send(signal.{first}); send(signal.SIGTERM)
time.sleep(0.1)
w.ended()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    send(number)
say("alive")
"""
    assert run(script)[:2] == (0, ["finished", "alive"])


def test_a_signal_before_the_mount_is_there_waits_for_it() -> None:
    """Ending at once would leave a dead mount, made a moment later."""
    script = """
send(signal.SIGTERM)
time.sleep(1.5)
say("mounted")
w.mounted(None)
time.sleep(9)
"""
    status, said, _ = run(script)
    assert (status, said) == (0, ["mounted", "finished"])


def test_a_signal_before_a_start_that_fails() -> None:
    assert run("send(signal.SIGTERM); time.sleep(0.1); w.ended(); say('message')")[:2] == (0, ["finished", "message"])


def test_a_serving_thread_that_does_not_end_is_not_waited_for() -> None:
    status, said, seconds = run("w.mounted(None); send(signal.SIGHUP); time.sleep(9)")
    assert (status, said) == (0, ["finished"])
    assert seconds < 2


def test_leave() -> None:
    status, said, _ = run("w.mounted(None); threading.Thread(target=w.leave).start(); time.sleep(0.2); say(w.stopping); w.ended()")
    assert (status, said) == (0, ["True", "finished"])


def test_leave_after_the_end_kills_nobody() -> None:
    assert run("w.mounted(None); w.ended(); w.leave(); time.sleep(0.1); say('alive')")[:2] == (0, ["finished", "alive"])


def test_while_mounted() -> None:
    """What tells others that the mount is there does not run after what tells them that it is gone, nor at the same time."""
    script = """
def slow():
    time.sleep(0.3)
    say("told")
threading.Thread(target=w.while_mounted, args=(slow,)).start()
time.sleep(0.1)
w.ended()
w.while_mounted(slow)
"""
    assert run(script)[:2] == (0, ["told", "finished"])


def test_usr1_says_the_counters_at_once() -> None:
    """Also while no request comes: the main thread stands in one call all the time."""
    script = """
operations.counters.add(5); operations.counters.add(-5)
threading.Timer(0.1, send, (signal.SIGUSR1,)).start()
threading.Timer(0.2, send, (signal.SIGUSR1,)).start()
threading.Timer(0.4, send, (signal.SIGTERM,)).start()
w.mounted(None)
time.sleep(9)
"""
    assert run(script)[:2] == (0, ["/mnt/x: 1 reads, 5 bytes, 1 errors"] * 2 + ["finished"])


def test_ignored_signals_count_all_the_same() -> None:
    """A shell's background job has SIGINT ignored."""
    script = "signal.signal(signal.SIGINT, signal.SIG_IGN); w.mounted(None); send(signal.SIGINT); time.sleep(9)"
    assert run(script)[:2] == (0, ["finished"])
