"""Whether [0, S) and [B, B+S) have changed places in an image: the evidence for B and S, from the best to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vmcorefs.errors import ImageError
from vmcorefs.image.source import Source
from vmcorefs.oldmem.kdump import kdump_memory
from vmcorefs.oldmem.raw import raw_reader, raw_scan
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.ranges import Range
from vmcorefs.s390 import Absent
from vmcorefs.s390.elfcorebuf import FinishedHeader, find_finished_headers
from vmcorefs.s390.lowcore import SIZE as LOWCORE_SIZE
from vmcorefs.s390.lowcore import AbsoluteLowcore, read_absolute_lowcore
from vmcorefs.s390.os_info import MAGIC, OsInfo, read_os_info
from vmcorefs.s390.parmarea import Crashkernel, has_kernel_image, read_crashkernel

_ZFCPDUMP_HEADER_LIMIT = 512 << 20  # a zfcpdump kernel's own memory is the HSA size, 32 MiB to 512 MiB
_SCAN_LIMITS = (0, 256 << 20, 2 << 30, 1 << 64)


@dataclass(frozen=True)
class Swap:
    """B and S, why they are believed in words, and what is doubtful about them."""

    area: Crashkernel
    reason: str
    warning: str | None = None


def _old_os_info(image: Source, area: Crashkernel) -> OsInfo | Absent:
    memory = kdump_memory(image, area)
    lowcore = read_absolute_lowcore(memory.read)
    return lowcore if isinstance(lowcore, Absent) else read_os_info(memory.read, lowcore.os_info)


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
        found = swap_by_os_info(image, everywhere=False) if isinstance(info, Absent) else None
        if found is not None:
            return found
        if isinstance(info, OsInfo) and kernel_image:
            return Swap(area, f"the dump kernel's parameter area says {area}",
                          f"the crashed system's os_info says {info.crashkernel}, the dump kernel's parameter area {area}; "
                          "the latter was used")
        if kernel_image:
            return Swap(area, f"the dump kernel's parameter area says {area}")
    if kernel_image and isinstance(area, Absent):
        return None  # an intact parameter area of a kernel that is no kdump kernel
    return swap_by_os_info(image)


def swap_by_os_info(image: Source, *, everywhere: bool = True) -> Swap | None:
    """The parameter area is lost: B and S from an os_info page, if the swap they describe leads to a valid os_info.

    A terabyte that is not a kernel's memory is not searched to its end: beyond 2 GiB only if a lowcore is at 0, and
    *everywhere* is asked for. Raises ImageError where several readings of the image are proven, and none better than the other.
    """
    lowcore = read_absolute_lowcore(raw_reader(image))
    far = everywhere and isinstance(lowcore, AbsoluteLowcore) and lowcore.new_psws_valid
    for start, end in pairwise(_SCAN_LIMITS if far else _SCAN_LIMITS[:-1]):
        found = _proven_swaps(image, start, end)
        if found:
            (area, address), *others = found.items()
            own = lowcore if isinstance(lowcore, Absent) else read_os_info(raw_reader(image), lowcore.os_info)
            if others or (isinstance(own, OsInfo) and own.crashkernel in found):
                raise _equally_proven(image, found, own)
            return Swap(area, f"the crashed system's os_info, found at {address:#x}, says {area}",
                        "the dump kernel's parameter area at 0x10400 is damaged or was overwritten; "
                        f"{area} were taken from the crashed system's os_info")
    return None


def _equally_proven(image: Source, found: dict[Crashkernel, int], own: OsInfo | Absent) -> ImageError:
    """A swap that os_info proves, and another one; or the system at 0 says itself that it reserved this area: it is no dump kernel."""
    readings = [f"a crashed system whose os_info at {address:#x} says {area} (--oldmem {area.base:#x}:{area.size:#x})"
                for area, address in found.items()]
    if isinstance(own, OsInfo) and own.crashkernel in found:
        readings.append(f"a system without dump kernel whose os_info at {own.address:#x} says the same (--mode plain)")
    return ImageError(f"{image.name}: several systems are equally proven in this memory: {'; '.join(readings)}; the parameter area "
                      "at 0x10400 does not decide it: choose one by its option")


def _proven_swaps(image: Source, start: int, end: int) -> dict[Crashkernel, int]:
    """Each B and S in an os_info page in [start, end) whose swap leads to a valid os_info that says the same, with its address."""
    tried: set[Crashkernel] = set()
    found: dict[Crashkernel, int] = {}
    for offset, data in image.scan(start, min(end, image.size), overlap=PAGE_SIZE - 1):
        at = data.find(MAGIC)
        while at >= 0:
            if (offset + at) % PAGE_SIZE == 0 and at + 32 <= len(data):
                area = Crashkernel(int.from_bytes(data[at + 16:at + 24], "big"), int.from_bytes(data[at + 24:at + 32], "big"))
                if area not in tried and area.sane() and area.end <= image.size:
                    tried.add(area)
                    info = _old_os_info(image, area)
                    if isinstance(info, OsInfo) and info.crashkernel == area:
                        found[area] = info.address
            at = data.find(MAGIC, at + 1)
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
            lowcore = read_absolute_lowcore(kdump_memory(image, area).read)
            if isinstance(lowcore, AbsoluteLowcore) and lowcore.new_psws_valid:
                return Swap(area, f"a dump kernel's finished header leaves {area} out of memory",
                              f"the dump kernel's parameter area and the crashed system's os_info are damaged; {area} are what the dump "
                              f"kernel's finished header at {header.offset:#x} leaves out of memory")
    return None


def low_headers(image: Source) -> list[FinishedHeader]:
    """Finished headers of a dump kernel in low memory, over memory from 0 on."""
    headers = find_finished_headers(raw_reader(image), raw_scan(image), min(_ZFCPDUMP_HEADER_LIMIT, image.size))
    return [h for h in headers if h.ranges[0].start == 0]
