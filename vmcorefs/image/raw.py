"""A raw image: file offset = absolute address, as QMP pmemsave writes it."""

from __future__ import annotations

from vmcorefs.errors import ImageError
from vmcorefs.image.file import ImageFile


def from_file(file: ImageFile) -> ImageFile:
    """The file itself; an empty one is refused."""
    if file.size == 0:
        raise ImageError(f"{file.name}: the image is empty; take the memory image again")
    return file
