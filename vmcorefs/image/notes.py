"""ELF notes as a container carries them: a PT_NOTE segment, or a part of kdump-compressed's sub header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmcorefs.elf import NHDR_SIZE, parse_nhdr
from vmcorefs.image.source import Note

NOTES_LIMIT = 8 << 20  # bytes of all notes together; 512 CPUs, the most that an s390x kernel knows, have 2 MiB at most
_COUNT_LIMIT = 1 << 16
VMCOREINFO_LIMIT = 64 << 10
NT_PRSTATUS = 1
VMCOREINFO = b"VMCOREINFO"


def parse_notes(data: bytes) -> Iterator[Note]:
    """The notes in *data*, up to its end, an empty one (padding) or one that does not fit: then ValueError names its offset."""
    offset = count = 0
    while offset + NHDR_SIZE <= len(data):
        namesz, descsz, kind = parse_nhdr(data, offset)
        if not namesz and not descsz and not kind:
            return
        count += 1
        if count > _COUNT_LIMIT:
            raise ValueError(f"there are more than {_COUNT_LIMIT} of them")
        start = offset + NHDR_SIZE + -(-namesz // 4) * 4
        if start + descsz > len(data):
            raise ValueError(f"the note at {offset:#x} of the notes' {len(data):#x} bytes does not fit (name {namesz:#x}, "
                             f"contents {descsz:#x} bytes)")
        yield Note(data[offset + NHDR_SIZE:offset + NHDR_SIZE + namesz].partition(b"\0")[0], kind, data[start:start + descsz])
        offset = start + -(-descsz // 4) * 4


class Sorted(NamedTuple):
    """Notes by what they belong to: each CPU's (a CPU's first is its NT_PRSTATUS), VMCOREINFO's text, all others."""

    cpus: tuple[tuple[Note, ...], ...]
    vmcoreinfo: bytes | None
    others: tuple[Note, ...]


def sort_notes(notes: Iterable[Note]) -> Sorted:
    """Group *notes*, in their order."""
    cpus: list[list[Note]] = []
    vmcoreinfo = None
    others = []
    for note in notes:
        if note.name == VMCOREINFO:
            vmcoreinfo = note.desc if vmcoreinfo is None else vmcoreinfo
        elif note.type == NT_PRSTATUS and note.name == b"CORE":
            cpus.append([note])
        elif cpus and note.name in {b"LINUX", b"CORE"}:
            cpus[-1].append(note)
        else:
            others.append(note)
    return Sorted(tuple(map(tuple, cpus)), vmcoreinfo, tuple(others))
