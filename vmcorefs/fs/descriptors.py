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
