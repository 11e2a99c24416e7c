"""os_info and VMCOREINFO found by what they look like, for when the pointers in the lowcore do not lead to them any more.

The crashed system's memory is searched from 0 upwards, and no further than needed. What is found may be anybody's: a guest's,
an earlier boot's, a copy in a file that was cached. So it must fit the system around it, and where several do, none is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from vmcorefs.elf import NHDR_SIZE, parse_nhdr
from vmcorefs.errors import OldmemReadError
from vmcorefs.quantities import MIB, PAGE_SIZE, human_size, round_down
from vmcorefs.ranges import Range, subtract
from vmcorefs.s390 import Absent, Read, Scan
from vmcorefs.s390.cpus import outside, read_lowcore_ptr
from vmcorefs.s390.lowcore import read_absolute_lowcore
from vmcorefs.s390.os_info import (
    IDENTITY_BASE,
    IMAGE_END,
    IMAGE_PHYS,
    IMAGE_START,
    KASLR_OFF_PHYS,
    KASLR_OFFSET,
    MAGIC,
    OsInfo,
    parse_os_info,
)
from vmcorefs.s390.pages import pages_with
from vmcorefs.s390.parmarea import Crashkernel
from vmcorefs.s390.utsname import Utsname, read_utsname
from vmcorefs.s390.vmcoreinfo import DESC_OFFSET, NAME, VMCOREINFO_BYTES, Vmcoreinfo

LOW_END = 2 << 30  # beyond it only pages that begin with a note: the notes before 4.13 are static variables of a kernel in low memory
# A step is searched whole. The first one with something proven in it is the last one.
_STEPS = (0, 256 * MIB, LOW_END, 16 << 30, 128 << 30, 1 << 40, 8 << 40, 1 << 46)
_KERNEL_IMAGE = 256 * MIB  # of addresses around a kernel: os_info is a static variable of it
_TEXT_OFFSET = MIB  # how far behind its beginning _stext lies

_FIRST_LINE = b"OSRELEASE="  # kernel/vmcore_info.c: crash_save_vmcoreinfo_init
_NAME_FIELD = NAME + b"\0\0"
_NOTE = _NAME_FIELD + _FIRST_LINE
_OVERLAP = DESC_OFFSET + len(_FIRST_LINE)
_TEXT = frozenset(b"\n" + bytes(range(0x20, 0x7F)))

# What an image full of fakes may cost
_EXAMINED = 4096  # places of either kind
_COMPARED = 256  # texts that differ
_LOWCORES = 16  # of one lowcore_ptr[]

NOTE, DAMAGED_NOTE, COPY = "its note is whole", "its note is damaged", "it is a copy of the text"
_FORMS = (COPY, DAMAGED_NOTE, NOTE)  # the last one is the best


@dataclass(frozen=True)
class FoundVmcoreinfo:
    """VMCOREINFO that was found; *form*: NOTE, DAMAGED_NOTE or COPY; *proofs*: why it is this system's, () where only nothing
    speaks against it.
    """

    info: Vmcoreinfo
    form: str
    proofs: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Form and proofs."""
        return self.form, *(self.proofs or ("nothing speaks against it",))


@dataclass(frozen=True)
class FoundOsInfo:
    """os_info that was found; *words*: why it is this system's."""

    info: OsInfo
    words: tuple[str, ...]


@dataclass
class _Step:
    """What looks right in a part of memory."""

    os_infos: list[OsInfo] = field(default_factory=list)
    texts: list[tuple[Vmcoreinfo, str]] = field(default_factory=list)  # with the form


@dataclass(frozen=True)
class _Rated:
    info: Vmcoreinfo
    form: str
    proofs: tuple[str, ...]
    against: str | None

    @property
    def rank(self) -> tuple[int, int]:
        return len(self.proofs), _FORMS.index(self.form)

    def __str__(self) -> str:
        return f"{self.info.osrelease} at {self.info.address:#x}"


class MemorySearch:
    """The crashed system's memory, [0, *end*) of *read* and *scan* without *skip* (B, B+S), where other memory is.

    *area*: B and S, where a kdump kernel ran. *say* gets a line before memory beyond 2 GiB is searched. Nothing is searched
    before it is asked for, and nothing twice. *searched*: up to where.
    """

    def __init__(self, read: Read, scan: Scan, end: int, skip: tuple[int, int] | None, area: Crashkernel | None,
                 say: Callable[[str], None]):
        self._read = outside(read, skip)
        self._scan = scan
        self._end = end
        self._skip = skip
        self._area = area
        self._say = say
        self._steps: dict[tuple[int, int], _Step] = {}
        self._examined = 0
        self._said = False
        self.searched = 0

    # -- what is asked ------------------------------------------------------------------------------------------------------

    def vmcoreinfo(self, limit: int = 1 << 64) -> FoundVmcoreinfo | Absent:
        """VMCOREINFO below *limit*."""
        texts: list[tuple[Vmcoreinfo, str]] = []
        rated: list[_Rated] = []
        for step in self._until(limit):
            texts += step.texts
            rated = self._rate(texts)
            if any(r.proofs for r in rated):
                break
        good = [r for r in rated if r.against is None]
        if not good:
            others = f"; of another system: {', '.join(f'{r} ({r.against})' for r in rated[:3])}" if rated else ""
            return Absent(f"no other one is in memory{self._below()}{others}")
        best = self._best(good)
        if len(best) > 1:
            return Absent("several different ones in memory are equally likely, so none is used: " + ", ".join(map(str, best[:4])))
        return FoundVmcoreinfo(best[0].info, best[0].form, best[0].proofs)

    def os_info(self, vmcoreinfo: Vmcoreinfo | None, limit: int = 1 << 64) -> FoundOsInfo | Absent:
        """os_info; in the crashed kernel, where *vmcoreinfo* says where that lies, else below *limit*."""
        found: list[OsInfo] = []
        stext = None if vmcoreinfo is None else vmcoreinfo.symbol("_stext")
        if vmcoreinfo is not None and stext is not None:
            start = max(0, round_down(vmcoreinfo.physical(stext)) - _TEXT_OFFSET)
            found = [o for o in self._part(start, start + _KERNEL_IMAGE).os_infos if self._fits(o, vmcoreinfo)]
            place = "the crashed kernel's image"
        else:
            for step in self._until(limit):
                found += [o for o in step.os_infos if self._fits(o, vmcoreinfo)]
                if found:
                    break
            place = "memory" + self._below()
        if not found:
            return Absent(f"no other one is in {place}")
        proofs = [self._os_info_proofs(info, vmcoreinfo) for info in found]
        most = max(map(len, proofs))
        best = [(info, proof) for info, proof in zip(found, proofs, strict=True) if len(proof) == most]
        if any((info.crashkernel, info.entries) != (best[0][0].crashkernel, best[0][0].entries) for info, _ in best):
            return Absent("several different ones in memory are equally likely, so none is used: "
                          + ", ".join(f"{info.address:#x}" for info, _ in best[:4]))
        return FoundOsInfo(*best[0])

    # -- the search -----------------------------------------------------------------------------------------------------------

    def _below(self) -> str:
        below = f" below {human_size(self.searched)}" if self.searched < self._end else ""
        return below if self._examined <= _EXAMINED else f"{below} as far as it was searched: too much in it looks like one"

    def _until(self, limit: int) -> Iterator[_Step]:
        for start, end in pairwise((*_STEPS, 1 << 64)):
            if start >= min(limit, self._end):
                return
            if start >= LOW_END and not self._said:
                self._said = True
                self._say(f"searching all of memory ({human_size(self._end)}) for what the lowcore no longer leads to; this takes a while")
            end = min(end, self._end)  # noqa: PLW2901
            yield self._part(start, end)

    def _part(self, start: int, end: int) -> _Step:
        end = min(end, self._end)
        step = self._steps.get((start, end))
        if step is None:
            step = self._steps[start, end] = _Step()
            for part in subtract([Range(start, end)], self._skip or (0, 0)):
                for address, data in self._scan(part.start, part.end, _OVERLAP):
                    self._look(step, address, data)
        if start <= self.searched:
            self.searched = max(self.searched, end)
        return step

    def _look(self, step: _Step, address: int, data: bytes) -> None:
        first = -address % PAGE_SIZE
        for at in pages_with(data, first, MAGIC):
            self._look_at_os_info(step, address + at)
        at = data.find(_NOTE) if address < LOW_END else -1
        while at >= 0:
            self._look_at_text(step, address + at + len(_NAME_FIELD))
            at = data.find(_NOTE, at + 1)
        for shift in (0, DESC_OFFSET):
            for at in pages_with(data, first + shift, _FIRST_LINE):
                self._look_at_text(step, address + at)

    def _look_at_os_info(self, step: _Step, address: int) -> None:
        if self._spend():
            try:
                page = self._read(address, PAGE_SIZE)
            except OldmemReadError:
                return
            info = parse_os_info(page, address)
            if isinstance(info, OsInfo) and all(known.address != address for known in step.os_infos):
                step.os_infos.append(info)

    def _look_at_text(self, step: _Step, address: int) -> None:
        if self._spend() and all(known.address != address for known, _ in step.texts):
            found = _read_text(self._read, address)
            if found is not None:
                step.texts.append((Vmcoreinfo(found[0], "search", address), found[1]))

    def _spend(self) -> bool:
        self._examined += 1
        return self._examined <= _EXAMINED

    # -- whose it is ----------------------------------------------------------------------------------------------------------

    def _rate(self, texts: Sequence[tuple[Vmcoreinfo, str]]) -> list[_Rated]:
        """Each different text once, in its best form."""
        different: dict[bytes, tuple[Vmcoreinfo, str]] = {}
        for info, form in texts:
            known = different.get(info.desc)
            if known is None or _FORMS.index(known[1]) < _FORMS.index(form):
                different[info.desc] = info, form
        return [self._rated(info, form) for info, form in islice(different.values(), _COMPARED)]

    def _rated(self, info: Vmcoreinfo, form: str) -> _Rated:
        proofs = []
        against = None if form == NOTE else "nothing proves it, and its note is not whole"
        names = read_utsname(self._read, info)
        lowcores = self._count_lowcores(info)
        if lowcores:
            proofs.append(f"its lowcore_ptr[] leads to {lowcores} lowcore{'s' if lowcores > 1 else ''}")
        elif lowcores == 0:
            against = "its lowcore_ptr[] leads to no lowcore"
        if isinstance(names, Utsname):
            if names.release == (info.osrelease or "").encode():
                proofs.append("the kernel in memory calls itself the same")
            else:
                against = against or "the kernel in memory calls itself something else"
        return _Rated(info, form, tuple(proofs), None if proofs else against)

    def _count_lowcores(self, info: Vmcoreinfo) -> int | None:
        """How many of the first lowcores that *info* leads to are some; None if that cannot be told."""
        virtual = info.symbol("lowcore_ptr")
        if virtual is None:
            return None
        try:
            self._read(info.physical(virtual), 8)
        except OldmemReadError:
            return None
        prefixes = list(islice(read_lowcore_ptr(self._read, info).values(), _LOWCORES))
        found = [read_absolute_lowcore(self._at(prefix)) for prefix in prefixes]
        readable = [lowcore for lowcore in found if not isinstance(lowcore, Absent)]
        return sum(lowcore.new_psws_valid for lowcore in readable) if readable or not prefixes else None

    def _at(self, prefix: int) -> Read:
        """Memory by real addresses of the CPU with this prefix, as far as its lowcore goes."""
        return lambda address, size: self._read(prefix + address, size)

    def _best(self, good: Sequence[_Rated]) -> list[_Rated]:
        """The most likely one; more where that cannot be told."""
        most = max(r.rank for r in good)
        best = [r for r in good if r.rank == most]
        if len({_without_crash_time(r.info) for r in best}) > 1:
            return best
        # one text at different times: a kernel adds CRASHTIME when it starts its kdump kernel; the others are of an earlier boot
        times = [(r.info.number("CRASHTIME", 10) or 0, r) for r in best]
        wanted = max(time for time, _ in times) if self._area is not None else min(time for time, _ in times)
        return [r for time, r in times if time == wanted]

    def _fits(self, info: OsInfo, vmcoreinfo: Vmcoreinfo | None) -> bool:
        """Whether os_info says what is known already."""
        if self._area is not None:
            if info.crashkernel != self._area:
                return False
        elif info.crashkernel != (0, 0) and (not info.crashkernel.sane() or info.crashkernel.end > self._end
                                             or info.crashkernel.base <= info.address < info.crashkernel.end):
            return False  # it cannot be, or it lies in the area that it reserves, as a swapped one does: it is of another system
        if vmcoreinfo is None:
            return True
        said = [vmcoreinfo.number(key) for key in ("KERNELOFFSET", "KERNELOFFPHYS", "IDENTITYBASE")]
        has_vm = info.value(KASLR_OFFSET) != 0
        if said[1] is None or not has_vm:  # a kernel before 6.10 says neither
            return said[1] is None and not has_vm
        return said == [info.value(KASLR_OFFSET), info.value(KASLR_OFF_PHYS), info.value(IDENTITY_BASE)]

    def _os_info_proofs(self, info: OsInfo, vmcoreinfo: Vmcoreinfo | None) -> tuple[str, ...]:
        proofs = ["its checksum is right"]
        if self._area is not None:
            proofs.append("B and S in it are right")
        if info.value(KASLR_OFFSET):
            if vmcoreinfo is not None:
                proofs.append("it has VMCOREINFO's addresses")
            start, size = info.value(IMAGE_PHYS), info.value(IMAGE_END) - info.value(IMAGE_START)
            if 0 <= info.address - start < size:
                proofs.append("it lies in the kernel that it describes")
        return tuple(proofs)


def _read_text(read: Read, address: int) -> tuple[bytes, str] | None:
    """(text, form) of the VMCOREINFO whose text begins at *address*, None if there is none."""
    try:
        header = read(address - DESC_OFFSET, DESC_OFFSET) if address >= DESC_OFFSET else b""
    except OldmemReadError:
        header = b""
    namesz, descsz, kind = parse_nhdr(header) if header else (0, 0, 0)
    shape = (namesz, kind) == (len(NAME) + 1, 0)
    named = header[NHDR_SIZE:] == _NAME_FIELD
    text = _read_lines(read, address)
    if shape and len(_FIRST_LINE) < descsz <= VMCOREINFO_BYTES:
        try:
            desc = read(address, descsz)
        except OldmemReadError:
            desc = b""
        if _is_text(desc):
            return desc, NOTE if named else DAMAGED_NOTE
    if not _is_text(text) or not (shape or named or address % PAGE_SIZE in {0, DESC_OFFSET}):
        return None
    return text, DAMAGED_NOTE if shape or named or address % PAGE_SIZE else COPY


def _read_lines(read: Read, address: int) -> bytes:
    """The bytes up to the first NUL; none where it is not in what a kernel has room for."""
    data = b""
    while len(data) < VMCOREINFO_BYTES and b"\0" not in data:
        try:
            data += read(address + len(data), min(PAGE_SIZE - (address + len(data)) % PAGE_SIZE, VMCOREINFO_BYTES - len(data)))
        except OldmemReadError:
            return b""
    return data.partition(b"\0")[0] if b"\0" in data else b""


def _is_text(desc: bytes) -> bool:
    """Whether these are the lines of a VMCOREINFO, beginning and end included."""
    return (desc.startswith(_FIRST_LINE) and desc.endswith(b"\n") and _TEXT.issuperset(desc)
            and all(b"=" in line for line in desc[:-1].split(b"\n"))
            and (Vmcoreinfo(desc, "search").osrelease or "")[:1].isdigit())


def _without_crash_time(info: Vmcoreinfo) -> bytes:
    return b"\n".join(line for line in info.desc.split(b"\n") if not line.startswith(b"CRASHTIME="))
