"""What goes to stderr: one line a message, with the program's name."""

from __future__ import annotations

import logging
import os
import sys

from vmcorefs.dump import Dump

log = logging.getLogger("vmcorefs")


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        word = {logging.ERROR: "error: ", logging.CRITICAL: "error: ", logging.WARNING: "warning: "}.get(record.levelno, "")
        return "vmcorefs: " + word + " ".join(record.getMessage().splitlines())


class _ForJournal(logging.Formatter):
    """sd-daemon(3): a line's priority in front of it; the name and the word for the priority are the journal's to show."""

    def format(self, record: logging.LogRecord) -> str:
        priority = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else \
            6 if record.levelno >= logging.INFO else 7
        return f"<{priority}>" + " ".join(record.getMessage().splitlines())


def _is_journal() -> bool:
    """Whether stderr is the stream that systemd names in JOURNAL_STREAM (device:inode), not a file or pipe put in its place."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up_logging(level: str) -> None:
    """Send the log to stderr, from *level* on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ForJournal() if _is_journal() else _OneLine())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def introduce(dump: Dump) -> None:
    """The mode and why, a line for each problem, and one for what was never saved."""
    log.info("%s: %s", dump.image.name, dump.notice)
    for problem in dump.problems:
        log.warning("%s: %s", dump.image.name, problem.text)
    if dump.left_out is not None:
        log.warning("%s: %s", dump.image.name, dump.left_out)
