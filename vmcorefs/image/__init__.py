"""Containers: what kind of file holds the memory image. FORMATS is asked in order; what is in none of them is raw, or refused.

A new input format is one file in this folder and one line in FORMATS; none is imported before it is tried.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from vmcorefs.errors import ImageError, printable
from vmcorefs.image.file import ImageFile
from vmcorefs.image.foreign import refuse_foreign
from vmcorefs.image.source import Source

HEAD_SIZE = 0x4000  # the farthest magic: that of a disk's dump tool at 0x3000

StrPath = str | os.PathLike[str]


class Format(NamedTuple):
    """One container format: its name, whether a file (its first HEAD_SIZE bytes, itself) is in it, the module that opens it.

    *module* has ``from_file(file: Source) -> Source``, which raises ImageError, and leaves *file* open then.
    *several*: it also has ``from_files(files: Sequence[Source]) -> Source``, for files that belong together other than by
    lying one behind the other.
    """

    name: str
    detect: Callable[[bytes, Source], bool]
    module: str
    several: bool = False


def _tail(file: Source, size: int) -> bytes:
    return file.read_some(size, max(file.size - size, 0))


FORMATS: tuple[Format, ...] = (
    Format("elf", lambda head, file: head[:7] == b"\x7fELF\x02\x02\x01" and head[16:20] == b"\0\4\0\x16", "vmcorefs.image.elf_core"),
    Format("s390", lambda head, file: head[:8] == b"\xa8\x19\x01\x73\x61\x8f\x23\xfd", "vmcorefs.image.s390"),
    Format("s390_ext", lambda head, file: head[:8] == b"\xa8\x19\x01\x73\x61\x8f\x23\xfe", "vmcorefs.image.s390_ext"),
    Format("kdump-compressed", lambda head, file: head[:8] == b"KDUMP   ", "vmcorefs.image.kdump", several=True),
    Format("flattened", lambda head, file: head[:16] == b"makedumpfile\0\0\0\0", "vmcorefs.image.flattened"),
    Format("lime", lambda head, file: head[:8] in {b"LiME\0\0\0\1", b"EMiL\1\0\0\0"}, "vmcorefs.image.lime"),
    Format("avml", lambda head, file: head[:8] == b"AVML\2\0\0\0", "vmcorefs.image.avml"),
    Format("bgzip", lambda head, file: head[:4] == b"\x1f\x8b\x08\4" and head[10:16] == b"\6\0BC\2\0", "vmcorefs.image.bgzip"),
    Format("seekable zstd", lambda head, file: head[1:4] in {b"\xb5\x2f\xfd", b"\x2a\x4d\x18"} and _tail(file, 4) == b"\xb1\xea\x92\x8f",
           "vmcorefs.image.seekable_zstd"),
    Format("xz", lambda head, file: head[:6] == b"\xfd7zXZ\0" and _tail(file, 4)[-2:] in {b"YZ", b"\0\0"}, "vmcorefs.image.blocked_xz"),
)


def open_image(path: StrPath | Sequence[StrPath], *, bad_map: str | None = None) -> Source:
    """Open the image at *path*, whatever its container; a list: its parts, in order, or the files of one dump. *bad_map*: a
    ddrescue map of the file.

    Raises ImageError where it cannot be opened or is a foreign format (with the name and what to do).
    """
    from vmcorefs.image.bad_map import refuse_several, without_bad_areas
    from vmcorefs.image.parts import find_parts, open_parts

    given = [os.fspath(p) for p in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    if not given:
        raise ImageError("no image is given")
    paths = find_parts(given[0]) if len(given) == 1 else tuple(given)
    with ExitStack() as stack:
        files = [stack.enter_context(ImageFile(p)) for p in paths]
        forms = [_format_of(file) for file in files] if len(files) > 1 else []
        form = forms[0] if forms else None
        if len(files) > 1 and (len(given) > 1 or not any(forms[1:])):
            several = form is not None and form.several and all(other is form for other in forms)
            if bad_map is not None:
                refuse_several(files, split=several)
            if form is not None and several:
                opened = importlib.import_module(form.module).from_files(files)
            else:
                opened = open_parts(files, found=len(given) == 1)
        else:
            for other in files[1:]:  # found beside it, but dumps of their own
                other.close()
            opened = recognise(files[0] if bad_map is None else without_bad_areas(files[0], bad_map))
            if opened.container.format == "raw":
                _warn_of_a_part(opened)
        stack.pop_all()
    assert isinstance(opened, Source)
    return opened


def _warn_of_a_part(opened: Source) -> None:
    from vmcorefs.image.parts import first_part

    first = first_part(opened.path)
    if first is not None:
        text = f"it looks like a part of {printable(first)}; give that one, all parts are read then"
        opened.container = replace(opened.container, problems=(*opened.container.problems, text))


def _format_of(file: Source) -> Format | None:
    head = file.head(HEAD_SIZE)
    return next((form for form in FORMATS if form.detect(head, file)), None)


def recognise(file: Source) -> Source:
    """The memory in *file*, which may itself be joined from parts or unpacked on the way. Raises ImageError.

    *file* is closed with what is returned; where an error is raised, it is not closed.
    """
    form = _format_of(file)
    if form is not None:
        opened = importlib.import_module(form.module).from_file(file)
        assert isinstance(opened, Source)
        container = opened.container
        more = tuple(text for text in file.container.problems if text not in container.problems)
        if more:  # of the device, the map of its bad areas, its parts
            opened.container = replace(container, problems=(*container.problems, *more))
        return opened
    refuse_foreign(file.name, file.head(HEAD_SIZE), file)
    from vmcorefs.image import raw

    return raw.from_file(file)
