"""PT_LOADs that contradict each other: the same bytes of the file as memory of two places, gaps between data, memory that only parts
of two share.

No program writes that: each lays the data of its PT_LOADs one behind the other (fs/proc/vmcore.c, makedumpfile.c: write_elf_pages_cyclic,
zgetdump dfo_elf.c, QEMU dump.c: get_offset_range, where virtual aliases share bytes and address). From 6.10 on the kernel's image is in
its vmcore a second time, with bytes of its own, within the memory of other PT_LOADs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple, Protocol

from vmcorefs.quantities import PAGE_SIZE, round_up
from vmcorefs.ranges import Range, merge

_PAIRS_LIMIT = 1 << 12  # that take the same bytes
_ODD_LIMIT = 32  # PT_LOADs whose p_vaddr is another than that of all others


class Loads(Protocol):
    """Columns of the PT_LOADs; *index*: their numbers among the program headers."""

    index: array[int]
    vaddr: array[int]
    paddr: array[int]
    memsz: array[int]
    offset: array[int]
    filesz: array[int]


class Contradiction(NamedTuple):
    """Two PT_LOADs, by their place in the columns, that both take *shared* of the file; *wrong*: those of which all data is suspect."""

    one: int
    other: int
    shared: Range
    wrong: tuple[int, ...]


def contradictions(loads: Loads, begin: int, file_size: int) -> Iterator[Contradiction]:
    """Each PT_LOAD that takes bytes of another one. *begin*: where the headers and notes end, and data can begin."""
    order = _by_offset(loads)
    widest = -1  # place in order of the one that reaches farthest
    for place, i in enumerate(order):
        if widest >= 0:
            j = order[widest]
            end = loads.offset[j] + loads.filesz[j]
            if loads.offset[i] < end and loads.paddr[i] - loads.offset[i] != loads.paddr[j] - loads.offset[j]:
                yield Contradiction(j, i, Range(loads.offset[i], min(end, loads.offset[i] + loads.filesz[i])),
                                    _wrong(loads, order, (widest, place), (begin, file_size)))
            if loads.offset[i] + loads.filesz[i] <= end:
                continue
        widest = place


def gaps(loads: Loads, begin: int) -> Iterator[tuple[int, Range]]:
    """(PT_LOAD, what lies between the data before it and its own) where no program leaves that: neither nothing nor padding to a page."""
    order = _by_offset(loads)
    if order:
        first = order[0]
        offset = loads.offset[first]
        if begin < offset and (offset - loads.paddr[first]) % PAGE_SIZE:
            yield first, Range(begin, offset)
    for one, other in pairwise(order):
        end, offset = loads.offset[one] + loads.filesz[one], loads.offset[other]
        if end < offset != round_up(end) and not _touch(loads, one, other):
            yield other, Range(end, offset)


def _by_offset(loads: Loads) -> Sequence[int]:
    offset, filesz = loads.offset, loads.filesz
    order = [i for i in range(len(offset)) if filesz[i]]
    if any(offset[a] > offset[b] for a, b in pairwise(order)):
        keys = sorted((offset[i] << 20) | i for i in order)  # one int each, as in _Loads.in_order
        order = [key & ((1 << 20) - 1) for key in keys]
    return array("L", order)


def _wrong(loads: Loads, order: Sequence[int], pair: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, ...]:
    """Which of two that overlap in the file has a wrong p_offset, by their neighbours: data lie one behind the other without gaps.

    That one is wrong as a whole. None: both touch theirs, then it is only too large.
    """
    (first, second), (begin, file_size) = pair, bounds
    one, other = order[first], order[second]
    if first:
        front = _touch(loads, order[first - 1], one)
    else:
        front = loads.offset[one] in {begin, round_up(begin) + loads.paddr[one] % PAGE_SIZE}
    if second + 1 < len(order):
        back = _touch(loads, other, order[second + 1])
    else:
        back = loads.offset[other] + loads.filesz[other] == file_size
    return (() if front else (one,)) + (() if back else (other,))


def _touch(loads: Loads, one: int, other: int) -> bool:
    """Whether the data of *other* begin where those of *one* end: at once, or, as the kernel does it, in whole pages of memory."""
    end = loads.offset[one] + loads.filesz[one]
    padded = end + -(loads.paddr[one] + loads.filesz[one]) % PAGE_SIZE
    return loads.offset[other] in {end, padded + loads.paddr[other] % PAGE_SIZE}


class Broken:
    """What of the file is no memory that could be believed in: parts of it for every PT_LOAD, some PT_LOADs as a whole."""

    def __init__(self, found: Sequence[Contradiction], whole: Sequence[int]):
        parts = merge(contradiction.shared for contradiction in found)
        self._starts, self._ends = array("Q", (part.start for part in parts)), array("Q", (part.end for part in parts))
        self._whole = frozenset((*whole, *(i for contradiction in found for i in contradiction.wrong)))

    def split(self, i: int, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """(start, end, whether it is broken) of the bytes [start, end) of the file, which are data of PT_LOAD *i*."""
        if i in self._whole or not len(self._starts):
            yield start, end, i in self._whole
            return
        index = bisect_right(self._ends, start)
        while start < end and index < len(self._starts) and self._starts[index] < end:
            if start < self._starts[index]:
                yield start, self._starts[index], False
            start, stop = max(start, self._starts[index]), min(end, self._ends[index])
            yield start, stop, True
            start, index = stop, index + 1
        if start < end:
            yield start, end, False


def covered(ranges: Sequence[tuple[int, int]]) -> list[bool]:
    """Of each range whether the others have all of it."""
    steps = sorted([(start, 1) for start, _ in ranges] + [(end, -1) for _, end in ranges])
    singles: list[tuple[int, int]] = []  # what only one has
    depth = 0
    for number, (at, step) in enumerate(steps):
        depth += step
        following = steps[number + 1][0] if number + 1 < len(steps) else at
        if depth == 1 and at < following:
            singles.append((at, following))
    starts, ends = [start for start, _ in singles], [end for _, end in singles]
    return [bisect_left(starts, end) <= bisect_right(ends, start) for start, end in ranges]


class Doubts:
    """What of the PT_LOADs cannot be right, in words in *problems*. *place_of*: where a program header is in the file, by its number."""

    def __init__(self, loads: Loads, place_of: Callable[[int], int]):
        self.loads = loads
        self.place_of = place_of
        self.problems: list[str] = []

    def _name(self, i: int) -> str:
        number = self.loads.index[i]
        return f"PT_LOAD {number} (program header at offset {self.place_of(number):#x})"

    def broken(self, begin: int, file_size: int, notes: Sequence[Range]) -> Broken:
        """What is no memory: bytes that two PT_LOADs take, or that are notes, too. ValueError: there are too many."""
        loads = self.loads
        found = list(islice(contradictions(loads, begin, file_size), _PAIRS_LIMIT))
        if len(found) == _PAIRS_LIMIT:
            raise ValueError(f"{len(found)} of its PT_LOADs and more take bytes of the file that another one has for other addresses")
        if found:
            one, other, shared, wrong = found[0]
            which = " and ".join(f"PT_LOAD {loads.index[i]}" for i in wrong)
            more = f" ({len(found) - 1} more such pairs)" if len(found) > 1 else ""
            self.problems.append(f"{self._name(one)} and {self._name(other)} both take the file's bytes {shared} for memory of their "
                                 f"own{more}; one is damaged: {f'all memory of {which}' if which else 'memory there'} is broken")
        whole = [i for i in range(len(loads.offset)) if loads.filesz[i] and any(
            loads.offset[i] < note.end and note.start < loads.offset[i] + loads.filesz[i] for note in notes)]
        for i in whole[:1]:
            self.problems.append(f"{self._name(i)} takes bytes of the notes for memory, from {loads.offset[i]:#x} on: it is damaged, and "
                                 "all its memory is broken")
        return Broken(found, whole)

    def look_for_gaps(self, begin: int, known: Sequence[Range], is_padding: Callable[[Range], bool]) -> None:
        """Tell of data that do not begin where those before them end; *known*: gaps that are none. Padding is none, either."""
        for i, gap in islice((found for found in gaps(self.loads, begin) if found[1] not in known and not is_padding(found[1])), 1):
            self.problems.append(f"the file's bytes {gap}, before the data of {self._name(i)}, are no data of any, and no program leaves "
                                 "such a gap: its p_offset or a p_filesz is damaged, and memory may be shifted")

    def compare_addresses(self) -> None:
        """Tell of p_vaddr, which says p_paddr a second time: their difference is the same everywhere but of the kernel's own image."""
        loads = self.loads
        shifts = Counter(v - p for v, p in zip(loads.vaddr, loads.paddr, strict=True))
        if len(shifts) == 1 or any(p and not v for v, p in zip(loads.vaddr, loads.paddr, strict=True)):
            return  # p_vaddr need not be given
        usual = max(shifts, key=lambda shift: (shifts[shift], shift == 0))
        odd = [i for i, (v, p) in enumerate(zip(loads.vaddr, loads.paddr, strict=True)) if v - p != usual]
        if len(odd) > _ODD_LIMIT:
            return
        also = covered([(p, p + m) for p, m in zip(loads.paddr, loads.memsz, strict=True)])
        for i in [i for i in odd if not also[i]][:1]:
            self.problems.append(f"{self._name(i)}: its p_paddr {loads.paddr[i]:#x} and its p_vaddr {loads.vaddr[i]:#x} do not belong "
                                 "together; one is damaged, p_paddr is used")
