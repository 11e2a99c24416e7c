"""Containers: what kind of file holds the memory image. FORMATS is asked in order; raw is last.

A new input format is one file in this folder and one line in FORMATS; none is imported before it is tried.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import NamedTuple

from vmcorefs.image.file import ImageFile
from vmcorefs.image.foreign import refuse_foreign

HEAD_SIZE = 4096


class Format(NamedTuple):
    """One container format: its name, whether a file's first 4 KiB look like it, and the module that opens it."""

    name: str
    detect: Callable[[bytes], bool]
    module: str


FORMATS: tuple[Format, ...] = (
    Format("raw", lambda head: True, "vmcorefs.image.raw"),
)


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open the image at *path*, whatever its container.

    Raises ImageError where it cannot be opened or is a foreign format (with the name and what to do).
    """
    file = ImageFile(path)
    try:
        head = file.head(HEAD_SIZE)
        refuse_foreign(file.name, head)
        for form in FORMATS:
            if form.detect(head):
                opened = importlib.import_module(form.module).from_file(file)
                assert isinstance(opened, ImageFile)
                return opened
    except BaseException:
        file.close()
        raise
    raise AssertionError("raw takes everything")
