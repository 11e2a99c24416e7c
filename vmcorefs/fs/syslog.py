"""Syslog: where a daemon logs that has no stderr any more."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress

_SOCKET = "/dev/log"
_DAEMON = 3 << 3  # facility; syslog(3)
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}


class Syslog(logging.Handler):
    """A datagram a message. What is not taken at once is lost (logging.handlers.SysLogHandler would wait): a syslog daemon that
    hangs must hold up neither a read nor the unmount.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        text = f"<{_DAEMON + _PRIORITIES.get(record.levelno, 7)}>vmcorefs[{os.getpid()}]: {self.format(record)}"
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as end:
            end.sendto(text.encode("utf-8", "backslashreplace"), _SOCKET)
