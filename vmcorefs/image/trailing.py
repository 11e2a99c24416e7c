"""What follows a dump whose format has no end mark: on a block device the rest of something else, in a file nothing should."""

from __future__ import annotations

import os
from stat import S_ISBLK

from vmcorefs.image.source import Source


def trailing(file: Source, offset: int, what: str) -> str | None:
    """Words for the bytes of *file* from *offset* on, where no *what* is; None on a block device, which is larger than the dump in it."""
    try:
        if S_ISBLK(os.fstat(file.fd).st_mode):
            return None
    except OSError:
        pass
    return (f"no {what} is at {offset:#x}, and {file.size - offset:#x} bytes follow: they are no part of the dump, or it is damaged there "
            "and the memory behind is not read")
