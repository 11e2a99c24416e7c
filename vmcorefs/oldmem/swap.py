"""Whether [0, S) and [B, B+S) have changed places in an image: the evidence for B and S, from the best to the last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vmcorefs.errors import ImageError
from vmcorefs.image.source import Source
from vmcorefs.oldmem.kdump import kdump_memory
from vmcorefs.oldmem.raw import raw_reader, raw_scan
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.elfcorebuf import FinishedHeader, find_finished_headers
from vmcorefs.s390.lowcore import SIZE as LOWCORE_SIZE
from vmcorefs.s390.lowcore import AbsoluteLowcore, read_absolute_lowcore
from vmcorefs.s390.os_info import MAGIC, OsInfo, read_os_info
from vmcorefs.s390.pages import pages_with
from vmcorefs.s390.parmarea import Crashkernel, has_kernel_image, read_crashkernel

_ZFCPDUMP_HEADER_LIMIT = 512 << 20  # a zfcpdump kernel's own memory is the HSA size, 32 MiB to 512 MiB
_PAGES_LIMIT = 256  # that look like os_info: more are no accident
_SCAN_LIMITS = (0, 256 << 20, 2 << 30, 1 << 64)


@dataclass(frozen=True)
class Swap:
    """B and S, why they are believed in words, and what is doubtful about them."""

    area: Crashkernel
    reason: str
    warning: str | None = None


def _os_info(read: Read) -> OsInfo | Absent:
    """What the absolute lowcore that *read* sees leads to."""
    lowcore = read_absolute_lowcore(read)
    return lowcore if isinstance(lowcore, Absent) else read_os_info(read, lowcore.os_info)


def _old_os_info(image: Source, area: Crashkernel) -> OsInfo | Absent:
    """What the crashed system says of itself, read through the swap."""
    return _os_info(kdump_memory(image, area).read)


def _own_os_info(image: Source) -> OsInfo | Absent:
    """What the system at 0, as the image lies, says of itself."""
    return _os_info(raw_reader(image))


def _has_lowcore(image: Source, area: Crashkernel) -> bool:
    """Whether a lowcore is where the swap puts the crashed system's."""
    lowcore = read_absolute_lowcore(kdump_memory(image, area).read)
    return isinstance(lowcore, AbsoluteLowcore) and lowcore.new_psws_valid


def find_swap(image: Source) -> Swap | None:
    """By the parameter area, confirmed by the crashed system's os_info; else by os_info alone. Raises ImageError."""
    read = raw_reader(image)
    area = read_crashkernel(read)
    kernel_image = has_kernel_image(read)
    if not isinstance(area, Absent) and area.sane():
        if area.base + LOWCORE_SIZE > image.size:
            found = swap_by_os_info(image)
            if found is not None or not kernel_image:
                return found
            raise ImageError(f"{image.name}: the image is cut off: it ends at {image.size:#x}, but the crashed system's first "
                             f"pages are at {area.base:#x} ({area} in the dump kernel's parameter area at 0x10418); "
                             "take the image again")
        info = _old_os_info(image, area)
        if isinstance(info, OsInfo) and info.crashkernel == area:
            return Swap(area, f"the dump kernel's parameter area and the crashed system's os_info agree on {area}")
        found = _proven_swap(image, _SCAN_LIMITS[:-1], {}) if isinstance(info, Absent) else None
        if found is not None:
            return found
        if isinstance(info, OsInfo) and kernel_image:
            return Swap(area, f"the dump kernel's parameter area says {area}",
                          f"the crashed system's os_info says {info.crashkernel}, the dump kernel's parameter area {area}; "
                          "the latter was used")
        if kernel_image:
            return Swap(area, f"the dump kernel's parameter area says {area}")
    if kernel_image and isinstance(area, Absent):
        return None  # the parameter area of a kernel that is no kdump kernel, if it is not damaged: see refuse_remains
    return swap_by_os_info(image)


def swap_by_os_info(image: Source) -> Swap | None:
    """The parameter area is lost: B and S from an os_info page, if the swap they describe leads to a valid os_info; else from one
    that lies where only a swap puts it.

    A terabyte that is not a kernel's memory is not searched to its end: beyond 2 GiB only if a lowcore is at 0. Raises ImageError
    where several readings of the image are proven, and none better than the other.
    """
    lowcore = read_absolute_lowcore(raw_reader(image))
    limits = _SCAN_LIMITS if isinstance(lowcore, AbsoluteLowcore) and lowcore.new_psws_valid else _SCAN_LIMITS[:-1]
    pages: dict[Crashkernel, list[int]] = {}
    return _proven_swap(image, limits, pages) or _likely_swap(image, pages)


def _proven_swap(image: Source, limits: Sequence[int], pages: dict[Crashkernel, list[int]]) -> Swap | None:
    """*limits*: of the steps of the search; the first one with a proof in it is the last one. What was looked at is put into *pages*."""
    own = _own_os_info(image)
    for start, end in pairwise(limits):
        step = _os_info_pages(image, start, end)
        for area, places in step.items():
            pages.setdefault(area, []).extend(places[:max(_PAGES_LIMIT - sum(map(len, pages.values())), 0)])
        found = _swaps(image, step)
        if found:
            (area, address), *others = found.items()
            if others or (isinstance(own, OsInfo) and own.crashkernel in found):
                raise _equally_proven(image, found, own)
            return Swap(area, f"the crashed system's os_info, found at {address:#x}, says {area}",
                        "the dump kernel's parameter area at 0x10400 is damaged or was overwritten; "
                        f"{area} were taken from the crashed system's os_info")
    return None


def _likely_swap(image: Source, pages: dict[Crashkernel, list[int]]) -> Swap | None:
    """By an os_info to which no pointer leads any more: one in the very area that it reserves, where only a swap puts it, or anywhere
    if the system at 0 has none of its own.
    """
    own = _own_os_info(image)
    no_other = isinstance(own, OsInfo) and own.crashkernel == (0, 0)
    likely = {area: place for area, places in pages.items() for place in places[::-1]
              if (no_other or area.base <= place < area.end) and _is_os_info(image, place) and _has_lowcore(image, area)}
    if len(likely) != 1:
        return None
    ((area, place),) = likely.items()
    return Swap(area, f"an os_info at image offset {place:#x} says {area}, and a lowcore is at B",
                "the dump kernel's parameter area at 0x10400 and the crashed system's pointer to os_info (0xe18) are damaged; "
                f"{area} were taken from an os_info that a search found, whose checksum is right; if they are wrong, the wrong system is "
                "served: give --oldmem B:S, or --mode plain")


def refuse_remains(image: Source) -> None:
    """Raise ImageError where a kernel is in the image that was not told of an old one, by its parameter area, and all the same it is
    proven that two systems have changed places: that area is damaged, or the swap is left from an earlier crash.
    """
    own = _own_os_info(image)
    if not has_kernel_image(raw_reader(image)) or (isinstance(own, OsInfo) and own.crashkernel != (0, 0)):
        return  # it was searched for already, or the system at 0 has an area for a dump kernel: it is none
    pages = _os_info_pages(image, *_SCAN_LIMITS[:2])
    found = _swaps(image, pages) or {area: place - area.base for area, places in pages.items() for place in places
                                     if area.base <= place < area.end and _is_os_info(image, place) and _has_lowcore(image, area)}
    if found:
        raise _equally_proven(image, found, own)


def _swaps(image: Source, pages: Iterable[Crashkernel]) -> dict[Crashkernel, int]:
    """Those of *pages* whose swap leads to a valid os_info that says the same, with its address."""
    found = {}
    for area in pages:
        info = _old_os_info(image, area)
        if isinstance(info, OsInfo) and info.crashkernel == area:
            found[area] = info.address
    return found


def _is_os_info(image: Source, place: int) -> bool:
    """Whether a whole os_info is at image offset *place*."""
    return isinstance(read_os_info(raw_reader(image), place), OsInfo)


def _equally_proven(image: Source, found: dict[Crashkernel, int], own: OsInfo | Absent) -> ImageError:
    """A swap that os_info proves, and another one; or the system at 0 says itself that it reserved this area: it is no dump kernel."""
    readings = [f"a crashed system whose os_info at {address:#x} says {area} (--oldmem {area.base:#x}:{area.size:#x})"
                for area, address in found.items()]
    if isinstance(own, OsInfo) and own.crashkernel in found:
        readings.append(f"a system without dump kernel whose os_info at {own.address:#x} says the same (--mode plain)")
    elif len(readings) == 1:
        readings.append("a system without dump kernel at 0, whose parameter area at 0x10400 names no crashed one (--mode plain)")
    return ImageError(f"{image.name}: several systems are equally proven in this memory: {'; '.join(readings)}; choose one by "
                      "its option")


def _os_info_pages(image: Source, start: int, end: int) -> dict[Crashkernel, list[int]]:
    """Each B and S that a page with os_info's magic in [start, end) says, if they can be, with the offsets of these pages."""
    found: dict[Crashkernel, list[int]] = {}
    count = 0
    for offset, data in image.scan(start, min(end, image.size), overlap=PAGE_SIZE - 1):
        for at in pages_with(data, -offset % PAGE_SIZE, MAGIC):
            area = Crashkernel(int.from_bytes(data[at + 16:at + 24], "big"), int.from_bytes(data[at + 24:at + 32], "big"))
            if at + 32 <= len(data) and area.sane() and area.end <= image.size and count < _PAGES_LIMIT:
                found.setdefault(area, []).append(offset + at)
                count += 1
    return found


def swap_by_header(image: Source, headers: Sequence[FinishedHeader]) -> Swap | None:
    """Parameter area and os_info are lost: B and S are what a dump kernel's finished header leaves out of memory, if a lowcore
    is where that swap would have put the crashed system's.
    """
    for header in headers:
        ends = [*header.ranges, Range(image.size, image.size)]
        for before, after in pairwise(ends):
            area = Crashkernel(before.end, after.start - before.end)
            if not area.sane() or area.end > image.size:
                continue
            if _has_lowcore(image, area):
                return Swap(area, f"a dump kernel's finished header leaves {area} out of memory",
                              f"the dump kernel's parameter area and the crashed system's os_info are damaged; {area} are what the dump "
                              f"kernel's finished header at {header.offset:#x} leaves out of memory")
    return None


def low_headers(image: Source) -> list[FinishedHeader]:
    """Finished headers of a dump kernel in low memory, over memory from 0 on."""
    headers = find_finished_headers(raw_reader(image), raw_scan(image), min(_ZFCPDUMP_HEADER_LIMIT, image.size))
    return [h for h in headers if h.ranges[0].start == 0]
