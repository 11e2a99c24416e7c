"""The files of makedumpfile --split: which belong together, where the others of a file are, what is missing of them.

Each has all headers and both whole bitmaps; only the status and the pages [start, end) that are in it differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from heapq import nsmallest
from itertools import islice, takewhile

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.bad_map import WithoutBadAreas
from vmcorefs.image.file import ImageFile
from vmcorefs.image.kdump_header import MAGIC, KdumpHeader, parse_header
from vmcorefs.image.source import Source
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range

Part = tuple[KdumpHeader, Source]

_NAMES_LIMIT = 100_000  # names of a folder that are read
_FILES_LIMIT = 1000  # files of them that are looked into
# what differs between the parts of a split dump: status, start_pfn and end_pfn, start_pfn_64 and end_pfn_64
_OWN = ((0x1a8, 0x1ac), (PAGE_SIZE + 0x10, PAGE_SIZE + 0x20), (PAGE_SIZE + 0x50, PAGE_SIZE + 0x60))


def find_siblings(header: KdumpHeader, file: Source, stack: ExitStack) -> list[Part]:
    """The other parts of the dump that *file* is a part of, from its folder, opened on *stack*.

    Whatever their names: makedumpfile takes any. Those whose names are most like its own are looked into first. A file whose pages
    are in another one already (a copy of it) is left out.
    """
    parts: list[Part] = [(header, file)]
    for path in _likely_paths(file.path) if isinstance(file, (ImageFile, WithoutBadAreas)) else ():
        sibling = _sibling(path, header, file)
        if sibling is None:
            continue
        if any(_same_place(sibling, part) for part in parts):
            sibling[1].close()
            continue
        stack.callback(sibling[1].close)
        parts.append(sibling)
    return parts[1:]


def _same_place(a: Part, b: Part) -> bool:
    """Whether two parts have a page in common, or are one file, or both empty at one place."""
    (one, one_file), (other, other_file) = a, b
    return one_file.identity == other_file.identity or max(one.start, other.start) < min(one.end, other.end)


def _likely_paths(path: str) -> Iterator[str]:
    """The regular files beside *path*, those with the longest common beginning first, then in the order of their names."""
    folder, name = os.path.split(path)

    def rank(other: str) -> tuple[int, int, str]:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(name, other, strict=False)))
        return -same, abs(len(other) - len(name)), other

    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _NAMES_LIMIT) if entry.name != name]
    except OSError:
        return
    for other in nsmallest(_FILES_LIMIT, names, key=rank):
        found = os.path.join(folder, other)
        if os.path.isfile(found):
            yield found


def _sibling(path: str, header: KdumpHeader, file: Source) -> Part | None:
    """The file at *path*, opened, if it is another part of the dump that *file* is a part of."""
    try:
        sibling = ImageFile(path)
    except ImageError:
        return None
    try:
        if sibling.identity != file.identity and sibling.head(len(MAGIC)) == MAGIC:
            found = parse_header(sibling)
            if same_dump(header, file, found, sibling):
                return found, sibling
    except ImageError:
        pass
    sibling.close()
    return None


def same_dump(header: KdumpHeader, file: Source, other: KdumpHeader, other_file: Source) -> bool:
    """Whether all of the first two blocks is equal but for the status and what pages a part has."""
    try:
        return other.split and header.max_pfn == other.max_pfn and _common(file) == _common(other_file)
    except OldmemReadError:
        return False


def _common(file: Source) -> bytes:
    data = bytearray(file.pread(2 * PAGE_SIZE, 0))
    for start, end in _OWN:
        data[start:end] = bytes(end - start)
    return bytes(data)


def missing_parts(header: KdumpHeader, parts: Sequence[KdumpHeader], memory: Sequence[Range], *, found: bool) -> list[str]:
    """What memory is in none of *parts*, in words; *found*: they were looked for, not given."""
    missing, position = [], 0
    for part in [*parts, header._replace(start=header.max_pfn, end=header.max_pfn)]:
        hole = Range(position * PAGE_SIZE, part.start * PAGE_SIZE)
        if any(max(r.start, hole.start) < min(r.end, hole.end) for r in memory):
            missing.append(f"of a split dump, the file with memory {hole} is not {'beside the others' if found else 'given'}")
        position = max(position, part.end)
    return missing
