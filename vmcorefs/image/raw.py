"""A raw image: file offset = absolute address, as QMP pmemsave writes it."""

from __future__ import annotations

from vmcorefs.errors import ImageError
from vmcorefs.image.source import Source


def from_file(file: Source) -> Source:
    """The file itself; an empty one is refused."""
    if file.size == 0:
        raise ImageError(f"{file.name}: the image is empty; take the memory image again")
    return file
