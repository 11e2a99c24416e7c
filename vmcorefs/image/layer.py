"""Layer: what a Source made of other Sources takes over from the first of them, and that it closes them."""

from __future__ import annotations

from collections.abc import Sequence

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.segments import NO_MEMORY
from vmcorefs.image.source import Absence, Container, Source, sum_up

DEPTH_LIMIT = 3  # of files in files; there are files that unpack to themselves


class Layer(Source):
    """A Source over *below*, one or more."""

    def __init__(self, below: Sequence[Source], size: int, container: Container):
        first = below[0]
        self.below = tuple(below)
        self.depth: int = 1 + max(depth_of(source) for source in below)
        self.path, self.name, self.mtime_ns, self.identity = first.path, first.name, first.mtime_ns, first.identity
        self.files = tuple(file for source in below for file in source.files)
        self.size = size
        self.container = container

    @property
    def fd(self) -> int:
        """See Source."""
        return self.below[0].fd

    def close(self) -> None:
        """See Source."""
        for source in self.below:
            source.close()

    def absences(self) -> tuple[Absence, ...]:
        """See Source: what the files below have not; addresses are not known."""
        return sum_up(absence._replace(first=None) for source in self.below for absence in source.absences())

    def check_range(self, offset: int, size: int) -> None:
        """Raise OldmemReadError if not even the first byte of [offset, offset + size) is below the end of memory."""
        if size and not 0 <= offset < self.size:
            raise OldmemReadError(self.path, offset, NO_MEMORY, kind="missing")


def depth_of(source: Source) -> int:
    """How many layers *source* has; 0: a file."""
    return source.depth if isinstance(source, Layer) else 0


def check_depth(file: Source) -> None:
    """Raise ImageError if *file* is in a file in a file in a file."""
    if depth_of(file) >= DEPTH_LIMIT:
        raise ImageError(f"{file.name}: something packed is in it {DEPTH_LIMIT} times over; unpack it first")
