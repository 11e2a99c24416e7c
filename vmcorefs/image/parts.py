"""An image that was split over files: parts one behind the other, given by name or found by their numbers.

What ``split`` and most copying tools write: image.000 image.001 ..., image.00 (split -d), image.aa (split), image.001 (7z).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence

from vmcorefs.errors import ImageError, printable
from vmcorefs.image.file import ImageFile
from vmcorefs.image.segments import SegmentSource
from vmcorefs.image.shell import Printed, plain_of, quoted
from vmcorefs.image.source import Container, Source
from vmcorefs.quantities import human_size

_PARTS_LIMIT = 10_000
_HOLE_LIMIT = 8  # parts that may be missing one behind the other
_LISTED = 4  # names in a command; more are a pattern
# Only what nothing else is numbered like: dump.1 and dump.2 may well be two dumps.
_FIRST = re.compile(r"(?s)(?P<stem>.*[._-])(?P<number>000|001|0000|0001|00|aa|aaa)")
_LATER = re.compile(r"(?s)(?P<stem>.*[._-])(?P<number>\d{2,4}|[a-z]{2,3})")
_FIRSTS = ("000", "0000", "00", "001", "0001", "aa", "aaa")


def find_parts(path: str) -> tuple[str, ...]:
    """*path* and the parts that follow it, if it is the first of several; the parts of *path*, if it is no file; else (path,)."""
    if not os.path.lexists(path):
        for first in _FIRSTS:
            if os.path.exists(f"{path}.{first}"):
                return find_parts(f"{path}.{first}")
        return (path,)
    match = _FIRST.fullmatch(path)
    if match is None or (match["number"].endswith("1") and os.path.exists(path[:-1] + "0")):
        return (path,)
    found = [path]
    for number in _following(match["number"]):
        if len(found) == _PARTS_LIMIT or not os.path.isfile(match["stem"] + number):
            break
        found.append(match["stem"] + number)
    else:
        return tuple(found)
    _refuse_a_hole(match["stem"], number)
    return tuple(found)


def _refuse_a_hole(stem: str, number: str) -> None:
    """Raise ImageError if the part *number*, which is none, is there after all, or those behind it are."""
    missing = stem + number
    advice = f"or, if {printable(stem)}* are no parts of one image, rename them"
    try:
        mode = os.stat(missing).st_mode
    except OSError as error:
        if os.path.islink(missing):
            raise ImageError(f"{printable(missing)}: this part of the image is a link that leads nowhere ({error.strerror}); give all "
                             f"parts by name, {advice}") from error
    else:
        if not stat.S_ISREG(mode):
            raise ImageError(f"{printable(missing)}: this part of the image is no regular file; give all parts by name, {advice}")
        return  # there are too many
    behind = [stem + n for n, _ in zip(_following(number), range(_HOLE_LIMIT), strict=False)]
    beyond = next((path for path in behind if os.path.isfile(path) and not _is_a_dump(path)), None)
    if beyond is not None:
        raise ImageError(f"{printable(missing)}: this part of the image is missing, though {printable(beyond)} is there; copy it, too, or "
                         f"give all parts by name, {advice}")


def _is_a_dump(path: str) -> bool:
    """Whether a format begins in the file: it is no part of another one then."""
    try:
        with ImageFile(path) as file:
            return _begins(file) is not None
    except ImageError:
        return False


def first_part(path: str) -> str | None:
    """The first part, if *path* looks like a later part of a split image."""
    match = _LATER.fullmatch(path)
    if match is None:
        return None
    for first in _FIRSTS:
        other = match["stem"] + first
        if len(other) == len(path) and other != path and os.path.isfile(other):
            try:
                return other if path in find_parts(other) else None
            except ImageError:  # a part between them is missing
                return other
    return None


def _following(number: str) -> Iterator[str]:
    """001 002 ... after 000, ab ac ... after aa; until the digits or letters end."""
    if number.isdigit():
        yield from (f"{n:0{len(number)}}" for n in range(int(number) + 1, 10 ** len(number)))
        return
    value = 0
    for letter in number:
        value = value * 26 + ord(letter) - ord("a")
    for n in range(value + 1, 26 ** len(number)):
        letters = ""
        for _ in number:
            n, digit = divmod(n, 26)  # noqa: PLW2901
            letters = chr(ord("a") + digit) + letters
        yield letters


class Parts(SegmentSource, Printed):
    """The bytes of several files one behind the other. *found*: they are all that there are of this name."""

    def __init__(self, files: Sequence[Source], container: Container, *, found: bool):
        segments, position = [], 0
        for file in files:
            if file.size:
                segments.append((position, position + file.size, file, 0))
            position += file.size
        super().__init__(files[0], segments, container, files=files)
        match = _LATER.fullmatch(self.name)
        stem = match["stem"][:-1] if match is not None else ""
        self.plain = stem if os.path.basename(stem) else f"{self.name}.joined"
        names = " ".join(quoted(plain_of(file)) for file in files)
        if found and match is not None and len(files) > _LISTED:
            names = quoted(match["stem"]) + ("[0-9]" if match["number"].isdigit() else "[a-z]") * len(match["number"])
        self.printed_by = f"cat {names}"


def join(files: Sequence[Source], *, found: bool) -> Source:
    """The bytes of *files* one behind the other; *found*: by name, not given, so that they must look like parts.

    Raises ImageError if they do not.
    """
    if not found:
        _refuse_what_is_no_part(files)
    sizes = [file.size for file in files]
    odd = next((i for i, size in enumerate(sizes[1:-1], 1) if size != sizes[0]), None)
    if odd is None and sizes[-1] > sizes[0]:
        odd = len(files) - 1
    problems: tuple[str, ...] = ()
    if odd is not None:
        text = (f"{files[odd].name} has {sizes[odd]:#x} bytes, {files[0].name} {sizes[0]:#x}; parts of an image are of one size, but "
                "for the last, which is not longer")
        if found:
            raise ImageError(f"{files[0].name}: this looks like an image in {len(files)} parts, but {text}: copy it again, or give "
                             "all parts by name, in order; if they are no parts of one image, rename them")
        problems = (f"{text}: if that part was not copied whole, everything behind it stands at wrong addresses",)
    detail = f"{len(files)} parts, {files[0].name} to {files[-1].name} ({human_size(sum(sizes))})"
    return Parts(files, Container(detail=detail, problems=problems), found=found)


def _refuse_what_is_no_part(files: Sequence[Source]) -> None:
    """Raise ImageError for a file that is given twice, and for one in which another dump begins."""
    seen: dict[tuple[int, int], Source] = {}
    for file in files:
        if file.identity in seen:
            raise ImageError(f"{file.name}: the same file as the part {seen[file.identity].name}; give each part once, in order")
        seen[file.identity] = file
    own = _begins(files[0])
    for file in files[1:]:
        form = _begins(file)
        if form not in {None, own}:  # a format may begin anew within a file, as LiME and bgzip do
            raise ImageError(f"{file.name}: a file of its own ({form}), no further part of {files[0].name}; give it alone, or the parts in "
                             "order")


def _begins(file: Source) -> str | None:
    """The format that begins in *file*."""
    from vmcorefs.image import FORMATS, HEAD_SIZE

    head = file.head(HEAD_SIZE)
    return next((form.name for form in FORMATS if form.detect(head, file)), None)


def open_parts(files: Sequence[Source], *, found: bool) -> Source:
    """The memory in what *files* are together. Raises ImageError, also where the first one does not need the others that were given."""
    from vmcorefs.image import recognise

    opened = recognise(join(files, found=found))
    if not found and not isinstance(opened, Parts):
        try:
            alone = recognise(Parts(files[:1], Container(), found=False))
        except ImageError:  # most formats need all of the parts
            return opened
        if (alone.size, alone.container.incomplete, alone.absences()) == (opened.size, opened.container.incomplete, opened.absences()):
            raise ImageError(f"{files[1].name}: no part of {files[0].name}: nothing of the dump that begins there is in it; leave it "
                             "out")
    return opened


__all__ = ["find_parts", "first_part", "join", "open_parts"]
