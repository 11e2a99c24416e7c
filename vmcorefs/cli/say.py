"""What goes to stderr: one line a message, with the program's name."""

from __future__ import annotations

import logging
import sys

from vmcorefs.dump import Dump

log = logging.getLogger("vmcorefs")


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        word = {logging.ERROR: "error: ", logging.CRITICAL: "error: ", logging.WARNING: "warning: "}.get(record.levelno, "")
        return "vmcorefs: " + word + " ".join(record.getMessage().splitlines())


def set_up_logging(level: str) -> None:
    """Send the log to stderr, from *level* on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def introduce(dump: Dump) -> None:
    """The mode and why, and a line for each problem."""
    log.info("%s: %s", dump.image.name, dump.notice)
    for problem in dump.problems:
        log.warning("%s: %s", dump.image.name, problem.text)
