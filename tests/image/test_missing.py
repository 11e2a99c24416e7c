"""--missing zeros: zeros for what was never saved or is cut off, never for what is broken."""

from __future__ import annotations

import random

import pytest

from vmcorefs.errors import OldmemReadError, ReadErrorKind
from vmcorefs.image.missing import ZerosForMissing
from vmcorefs.image.source import Container, Source

PAGE = 4096


class Patchy(Source):
    """A memory with pages of each kind: the kind's name, or None for one that is there."""

    def __init__(self, kinds: list[ReadErrorKind | None]):
        self.path, self.name, self.mtime_ns, self.identity, self.files, self.container = "p", "p", 0, (0, 0), (), Container()
        self.kinds = kinds
        self.size = PAGE * len(kinds)
        self.data = random.Random(1).randbytes(self.size)

    @property
    def fd(self) -> int:
        return -1

    def close(self) -> None:
        """Nothing is open."""

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        for done in range(len(view)):
            kind = self.kinds[(offset + done) // PAGE]
            if kind is not None:
                raise OldmemReadError("p", offset + done, kind, good=done, kind=kind)
            view[done] = self.data[offset + done]


class Sparse(Patchy):
    """One that knows where its data is, and counts how often it was asked."""

    reads = 0

    def preadinto(self, view: memoryview, offset: int, *, salvage: bool = True) -> None:
        self.reads += 1
        super().preadinto(view, offset, salvage=salvage)

    def next_data(self, position: int, end: int) -> tuple[int, int]:
        pages = [page for page, kind in enumerate(self.kinds)
                 if kind in {None, "broken"} and position < (page + 1) * PAGE and page * PAGE < end]
        return (max(position, pages[0] * PAGE), min(end, (pages[0] + 1) * PAGE)) if pages else (end, end)


KINDS: list[ReadErrorKind | None] = [None, "filtered", "filtered", None, "missing", "broken", None, "missing"]


def test_what_is_known_to_be_absent_costs_one_error_not_one_a_page() -> None:
    kinds: list[ReadErrorKind | None] = [*["filtered"] * 200, None, *["missing"] * 200]  # type: ignore[list-item]
    below = Sparse(kinds)
    buffer = bytearray(b"\xaa" * (below.size - 100))
    ZerosForMissing(below).preadinto(memoryview(buffer), 100)
    assert buffer == bytes(200 * PAGE - 100) + below.data[200 * PAGE:201 * PAGE] + bytes(200 * PAGE)
    assert below.reads == 2


@pytest.mark.parametrize("kind_of_source", [Patchy, Sparse])
def test_against_a_model(kind_of_source: type[Patchy]) -> None:
    below = kind_of_source(KINDS)
    source = ZerosForMissing(below)
    wanted = bytearray(below.data)
    for number, kind in enumerate(KINDS):
        if kind in {"filtered", "missing"}:
            wanted[PAGE * number:PAGE * (number + 1)] = bytes(PAGE)
    bad = range(5 * PAGE, 6 * PAGE)
    rng = random.Random(2)
    for _ in range(150):
        offset = rng.randrange(below.size - 1)
        size = min(rng.choice([1, 100, PAGE, 3 * PAGE]), below.size - offset)
        first_bad = next((at for at in (offset, bad.start) if at in bad and offset <= at < offset + size), None)
        buffer = bytearray(b"\xaa" * size)
        if first_bad is None:
            source.preadinto(memoryview(buffer), offset)
            assert buffer == wanted[offset:offset + size]
        else:
            with pytest.raises(OldmemReadError) as caught:
                source.preadinto(memoryview(buffer), offset)
            assert (caught.value.good, caught.value.kind) == (first_bad - offset, "broken")
            assert buffer[:caught.value.good] == wanted[offset:first_bad]
