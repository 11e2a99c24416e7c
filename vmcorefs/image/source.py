"""Source: the memory of a machine at dump time by absolute address, whatever file it came out of: a raw image, real or virtual.

Container: what the file that holds it says about itself. An ImageFile is a Source with nothing in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from vmcorefs.errors import OldmemReadError, ReadErrorKind
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range

if TYPE_CHECKING:
    from vmcorefs.image.file import ImageFile

_SCAN_STEP = 1 << 20
ADDRESS_LIMIT = 1 << 46  # no s390x machine has memory beyond it (dump-formats: limits)
RANGES_LIMIT = 1 << 16  # memory ranges of one machine; every one becomes a program header, of which a core has fewer


class Note(NamedTuple):
    """An ELF note as it stands in the file: name without its NUL, type, descriptor."""

    name: bytes
    type: int
    desc: bytes


class Absence(NamedTuple):
    """Memory that is known to be unreadable before it is read: why (as OldmemReadError has it), how many bytes, the first address
    (None: not known).
    """

    kind: ReadErrorKind
    size: int
    first: int | None = None


def sum_up(absences: Iterable[Absence]) -> tuple[Absence, ...]:
    """One for each kind."""
    sums: dict[ReadErrorKind, Absence] = {}
    for absence in absences:
        known = sums.get(absence.kind, Absence(absence.kind, 0))
        firsts = [first for first in (known.first, absence.first) if first is not None]
        sums[absence.kind] = Absence(absence.kind, known.size + absence.size, min(firsts, default=None))
    return tuple(absence for absence in sums.values() if absence.size)


@dataclass(frozen=True)
class Container:
    """What the container itself states; nothing is derived from the memory in it, nothing invented.

    *format*: one word; *writer*: the program that wrote it, as far as the bytes tell; *detail*: the same and more, for people.
    *memory*: what memory the machine had, () where the container does not say; sorted, disjoint, touching ones joined.
    *cpu_notes*: the raw notes of each CPU in the order of the file; *prefixes*: what an s390 dump header has instead.
    *vmcoreinfo*: text of its VMCOREINFO note. *vmcore_header*: the bytes before the first PT_LOAD's data, where the file is
    what a kernel's /proc/vmcore is. *dump_level*: makedumpfile's. *incomplete*: what is missing, from where on.
    *problems*: what is wrong with it and was worked around. *time*: when the dump was taken, in Unix seconds.
    """

    format: str = "raw"
    writer: str = ""
    detail: str = ""
    memory: tuple[Range, ...] = ()
    cpu_notes: tuple[tuple[Note, ...], ...] = ()
    prefixes: tuple[int, ...] = ()
    vmcoreinfo: bytes | None = None
    vmcore_header: bytes | None = None
    dump_level: int | None = None
    incomplete: str | None = None
    problems: tuple[str, ...] = ()
    time: float | None = None
    release: str | None = None
    machine: str | None = None


class Source(ABC):
    """Bytes by absolute address, [0, size). Thread safe: every read names its offset, there is no shared position.

    *path*, *name* (for messages), *mtime_ns*, *identity* and *fd* are those of the (first) file behind it; *files* are all
    of them: descriptors that a daemon must keep, files that no mount point and no output may be.
    """

    path: str
    name: str
    size: int
    mtime_ns: int
    identity: tuple[int, int]
    files: tuple[ImageFile, ...]
    container: Container

    @property
    @abstractmethod
    def fd(self) -> int:
        """The descriptor of the (first) file, -1 when closed."""

    @abstractmethod
    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        """Fill *view* (bytes) from *offset*, whole. Raises OldmemReadError otherwise.

        With *salvage* the error's ``good`` is the exact number of readable bytes before the first bad one, and they
        stand in *view*; without, fewer may be counted (no further reads are spent on an area that fails).
        """

    @abstractmethod
    def close(self) -> None:
        """Close all files; reads then fail. May be called again."""

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        """The first part [a, e) at or behind *position*, within [position, end), that is not known to be zeros or absent.

        (end, end) where there is none. What is returned may still turn out to be zeros or unreadable; what is left out is never broken.
        """
        return position, end

    def absences(self) -> tuple[Absence, ...]:
        """What of its memory is known to be unreadable, one for each kind. Reads no memory; more may turn out when it is read."""
        return ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def head(self, size: int) -> bytes:
        """The first *size* bytes, or fewer where there are fewer or a bad one. Never raises."""
        return self.read_some(min(size, self.size), 0)

    def pread(self, size: int, offset: int) -> bytes:
        """Exactly *size* bytes at *offset*. Raises OldmemReadError."""
        buffer = bytearray(size)
        self.preadinto(memoryview(buffer), offset)
        return bytes(buffer)

    def read_some(self, size: int, offset: int) -> bytes:
        """The good bytes from *offset* on, at most *size*; empty where the first one is bad. Never raises."""
        buffer = bytearray(size)
        try:
            self.preadinto(memoryview(buffer), offset)
        except OldmemReadError as error:
            return bytes(buffer[:error.good])
        return bytes(buffer)

    def scan(self, start: int, end: int, *, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) over [start, end), in order, in pieces of some MiB that begin page aligned where *start* is.

        Each piece carries up to *overlap* bytes of the next one, so that a pattern of overlap + 1 bytes cannot be missed.
        Zeros that need no reading (holes of a sparse file, pages left out), what is absent and unreadable pages are left
        out: what is searched for is never all zeros, and what cannot be read cannot match. Never raises for a bad byte.
        """
        end = min(end, self.size)
        position = start
        while position < end:
            data, data_end = self.next_data(position, end)
            if data_end <= position:
                return
            position, data_end = max(position, data - (data - start) % PAGE_SIZE), min(data_end, end)
            while position < data_end:
                size = min(_SCAN_STEP, data_end - position)
                yield from self._scan_piece(position, size, min(size + overlap, end - position))
                position += size

    def _scan_piece(self, offset: int, size: int, padded: int) -> Iterator[tuple[int, bytes]]:
        data = self._scan_read(padded, offset)
        if len(data) >= size:
            yield offset, data
        else:
            yield from self._readable_runs(offset, offset + size, offset + padded)

    def _scan_read(self, size: int, offset: int) -> bytes:
        """Good bytes from *offset* on; all *size* of them, or, where one is bad, any number of those before it."""
        return self.read_some(size, offset)

    def _readable_runs(self, start: int, end: int, padded_end: int) -> Iterator[tuple[int, bytes]]:
        """The runs of readable pages in [start, padded_end) that begin before *end*."""
        begin, run = start, bytearray()
        for page in range(start, padded_end, PAGE_SIZE):
            want = min(PAGE_SIZE, padded_end - page)
            got = self._scan_read(want, page)
            run += got
            if len(got) == want:
                continue
            if run and begin < end:
                yield begin, bytes(run)
            begin, run = page + PAGE_SIZE, bytearray()
        if run and begin < end:
            yield begin, bytes(run)
