"""An image that was split over files: parts one behind the other, given by name or found by their numbers.

What ``split`` and most copying tools write: image.000 image.001 ..., image.00 (split -d), image.aa (split), image.001 (7z).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from vmcorefs.errors import ImageError, printable
from vmcorefs.image.segments import SegmentSource
from vmcorefs.image.source import Container, Source
from vmcorefs.quantities import human_size

_PARTS_LIMIT = 10_000
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
    beyond = next((n for n, _ in zip(_following(number), range(8), strict=False) if os.path.isfile(match["stem"] + n)), None)
    if beyond is not None and len(found) > 1:
        raise ImageError(f"{printable(match['stem'] + number)}: this part of the image is missing, though "
                         f"{printable(match['stem'] + beyond)} is there; copy it, too, or give all parts by name")
    return tuple(found)


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


def numbered(path: str) -> tuple[str, ...]:
    """All files named as *path* but for the number at the end of the name, in the order of the numbers; at least *path*.

    For containers whose files say themselves what belongs together.
    """
    folder, name = os.path.split(path)
    match = re.fullmatch(r"(?s)(.*?)(\d{1,6})", name)
    if match is None:
        return (path,)
    stem = match[1]
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return (path,)
    rows = sorted((int(n[len(stem):]), n) for n in names
                  if n.startswith(stem) and re.fullmatch(r"[0-9]{1,6}", n[len(stem):]) and os.path.isfile(os.path.join(folder, n)))
    return tuple(os.path.join(folder, n) for _, n in rows[:_PARTS_LIMIT]) or (path,)


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


def join(files: Sequence[Source], *, found: bool) -> Source:
    """The bytes of *files* one behind the other; *found*: by name, not given, so that they must look like parts.

    Raises ImageError if they do not.
    """
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
                             "all parts by name, in order")
        problems = (f"{text}: if that part was not copied whole, everything behind it stands at wrong addresses",)
    segments, position = [], 0
    for file, size in zip(files, sizes, strict=True):
        if size:
            segments.append((position, position + size, file, 0))
        position += size
    detail = f"{len(files)} parts, {files[0].name} to {files[-1].name} ({human_size(position)})"
    return SegmentSource(files[0], segments, Container(detail=detail, problems=problems), files=files)


__all__ = ["find_parts", "first_part", "join", "numbered"]
