"""The descriptors of a process that was forked to live on."""

from __future__ import annotations

import os
from collections.abc import Container
from contextlib import suppress


def close_other_fds(keep: Container[int]) -> None:
    """Close all but *keep*: what was inherited would be held open for as long as this process lives (a pipe whose reader waits
    for its end; /dev/fuse, which keeps a mount alive).
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with suppress(OSError):
                os.close(int(name))


def close_device() -> None:
    """Close /dev/fuse, whoever has it open in this process: all who wait for an answer get an error at once, even where a thread
    that hangs in a bad disk keeps this process from ending.
    """
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                os.close(int(name))
