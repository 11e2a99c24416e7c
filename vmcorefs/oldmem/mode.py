"""Which mode an image is in: evidence in, mode and reasons out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from vmcorefs.errors import ImageError, UsageError
from vmcorefs.image.source import Source
from vmcorefs.oldmem.kdump import kdump_memory
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.oldmem.plain import plain_memory
from vmcorefs.oldmem.zfcpdump import zfcpdump_memory
from vmcorefs.quantities import PAGE_SIZE, human_size
from vmcorefs.ranges import Range
from vmcorefs.s390 import Absent, Read, Scan
from vmcorefs.s390.elfcorebuf import FinishedHeader, find_finished_headers
from vmcorefs.s390.lowcore import OS_INFO, AbsoluteLowcore, read_absolute_lowcore
from vmcorefs.s390.lowcore import SIZE as LOWCORE_SIZE
from vmcorefs.s390.os_info import MAGIC, OsInfo, read_os_info
from vmcorefs.s390.parmarea import Crashkernel, has_kernel_image, read_crashkernel
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo, read_vmcoreinfo_note

MODES = ("auto", "kdump", "zfcpdump", "plain")
SELECTS = ("prod", "kdump", "all")  # zgetdump's words
_ZFCPDUMP_HEADER_LIMIT = 512 << 20  # a zfcpdump kernel's own memory is the HSA size, 32 MiB to 512 MiB
_SCAN_LIMITS = (0, 256 << 20, 2 << 30, 1 << 64)


@dataclass(frozen=True)
class Mode:
    """The mode, how it was chosen, and the map that follows from it.

    *origin*: "option", "image"; *reason*: the evidence in words; *dump_kernel_limit*: raw [0, limit) is the dump kernel's
    memory (S, hsa_size, or 0); *warning*: what is doubtful about the choice; *selected_end*: where the memory that was selected
    ends, if it is a part; *other*: words that name the other system in the image.
    """

    name: str
    origin: str
    reason: str
    memory: OldMemory = field(repr=False)
    crashkernel: Crashkernel | None = None
    hsa_size: int = 0
    dump_kernel_limit: int = 0
    warning: str | None = None
    selected_end: int | None = None
    other: str = ""


def raw_scan(image: Source) -> Scan:
    """The image as s390/ wants to search it."""
    def scan(start: int, end: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        return image.scan(start, end, overlap=overlap)
    return scan


def raw_reader(image: Source) -> Read:
    """The image as it lies, read by offset."""
    def read(offset: int, size: int) -> bytes:
        return image.pread(size, offset)
    return read


def refuse_contradictions(wanted: str, *, oldmem: bool, hsa: bool, hsa_size: bool, select: str = "prod") -> None:
    """Raise UsageError for options that do not go together; the flags say which were given. Looks at no file."""
    if select != "prod" and (hsa or wanted == "zfcpdump" or (wanted, select) in {("plain", "kdump"), ("kdump", "all")}):
        other = "an HSA file" if hsa else f"mode {wanted}"
        raise UsageError(f"--select {select} cannot be combined with {other}; leave one of them out")
    if wanted not in MODES:
        raise UsageError(f"unknown mode {wanted!r}; one of {', '.join(MODES)}")
    if oldmem and (hsa or wanted in {"zfcpdump", "plain"}):
        other = "an HSA file" if hsa else f"mode {wanted}"
        raise UsageError(f"--oldmem belongs to kdump mode and cannot be combined with {other}; leave one of them out")
    if hsa and wanted in {"kdump", "plain"}:
        raise UsageError(f"--hsa belongs to zfcpdump mode and cannot be combined with mode {wanted}; leave one of them out")
    if hsa_size and not hsa:
        raise UsageError("--hsa-size says how much of the HSA file counts; give the file with --hsa")
    if wanted == "zfcpdump" and not hsa:
        raise UsageError("zfcpdump mode needs the HSA image, the first bytes of the crashed system's memory; "
                         "give it with --hsa FILE")


def choose_mode(image: Source, wanted: str, oldmem: tuple[int, int] | None, hsa: Source | None,
                hsa_size: int | None, select: str = "prod") -> Mode:
    """The mode of *image* under the given options, which do not contradict each other (refuse_contradictions).

    Raises UsageError or ImageError with what to do.
    """
    if select != "prod":
        return _selected(image, select, Crashkernel(*oldmem) if oldmem is not None else None)
    if hsa is not None:
        return _zfcpdump(image, hsa, hsa_size, "option")
    if oldmem is not None:
        return _given_oldmem(image, Crashkernel(*oldmem))
    if wanted == "plain":
        return _plain(image, "option", "asked for")
    found = _find_swap(image)
    if found is not None:
        return found
    if wanted == "kdump":
        raise UsageError(f"{image.name}: no B and S (base and size of the crashkernel area) are to be found in the image; "
                         "give them with --oldmem B:S")
    headers = _low_headers(image)
    if headers:  # a dump kernel ran here: a kdump kernel whose parameter area was damaged, or a zfcpdump kernel
        found = _swap_by_os_info(image) or _swap_by_header(image, headers)
        if found is not None:
            return found
    header = next((h for h in headers if h.ranges[-1].end == image.size), None)
    if header is not None and image.container.format == "raw":  # a container was written by somebody who saw the whole memory
        raise ImageError(f"{image.name}: this looks like the memory of a zfcpdump system (a dump kernel's header is at "
                         f"{header.offset:#x}), whose first bytes are in the HSA image; give that file with --hsa FILE, "
                         "or --mode plain if no dump kernel ran")
    if headers:
        return _plain(image, "image", "no B and S are to be found",
                      f"a dump kernel's finished header is at {headers[0].offset:#x}, so a dump kernel may have run in this memory, and "
                      "the wrong system may be served; if it did, give --oldmem B:S (Crash kernel in its /proc/iomem) or --hsa FILE")
    return _plain(image, "image", "nothing shows that a dump kernel ran in this memory")


def _selected(image: Source, select: str, given: Crashkernel | None) -> Mode:
    """The dump kernel's memory [0, S), or everything, as it lies."""
    if select == "all":
        return replace(_plain(image, "option", "all memory as it lies was asked for"),
                       other="; the swap of a kdump image is not undone (--select prod)")
    found = _given_oldmem(image, given) if given is not None else _find_swap(image)
    if found is None or found.crashkernel is None:
        raise UsageError(f"{image.name}: --select kdump: nothing shows that a kdump kernel ran in this memory; leave the option out, "
                         "or give its area with --oldmem B:S")
    size = found.crashkernel.size
    return replace(_plain(image, "option", f"the dump kernel's memory [0, {size:#x}) was asked for"), selected_end=size,
                   other="; the crashed (production) system is in the image, too (--select prod)")


def _plain(image: Source, origin: str, reason: str, warning: str | None = None) -> Mode:
    return Mode("plain", origin, reason, plain_memory(image), warning=warning)


def _zfcpdump(image: Source, hsa: Source, hsa_size: int | None, origin: str) -> Mode:
    if hsa.size == 0:
        raise ImageError(f"{hsa.name}: the HSA image is empty; copy it again "
                         "from the zfcpdump kernel's /proc/vmcore, where the memory from physical address 0 on is")
    if hsa_size is not None and hsa_size > hsa.size:
        raise UsageError(f"{hsa.name}: --hsa-size {hsa_size:#x} is larger than the file, which has {hsa.size:#x} bytes")
    size = hsa.size if hsa_size is None else hsa_size
    if size == 0 or size % PAGE_SIZE:
        raise ImageError(f"{hsa.name}: the HSA size {size:#x} is no multiple of 4096; "
                         "the file is cut or not an HSA image, or give the right size with --hsa-size")
    if size > image.size:
        raise ImageError(f"{hsa.name}: the HSA image ({size:#x} bytes) is longer than the memory image {image.name} "
                         f"({image.size:#x} bytes); check which file is which")
    area = read_crashkernel(raw_reader(image))
    warning = None
    if not isinstance(area, Absent) and area.sane() and area.end <= image.size:
        warning = (f"the image's parameter area says that a kdump kernel ran in it ({area}), the HSA image given says zfcpdump; "
                   "leave --hsa out if it is a kdump image")
    return Mode("zfcpdump", origin, f"an HSA image of {human_size(size)} was given", zfcpdump_memory(image, hsa, size),
                hsa_size=size, dump_kernel_limit=size, warning=warning)


def _kdump(image: Source, area: Crashkernel, origin: str, reason: str, warning: str | None = None) -> Mode:
    return Mode("kdump", origin, reason, kdump_memory(image, area), crashkernel=area, dump_kernel_limit=area.size,
                warning=warning, other="; the dump kernel is in the image, too (--select kdump)")


def _given_oldmem(image: Source, area: Crashkernel) -> Mode:
    wrong = area.why_not()
    if wrong is not None:
        raise UsageError(f"--oldmem: {wrong}")
    if area.end > image.size:
        raise UsageError(f"--oldmem: [{area.base:#x}, {area.end:#x}) leaves the image {image.name}, "
                         f"which ends at {image.size:#x}")
    found = read_crashkernel(raw_reader(image))
    warning = None
    if not isinstance(found, Absent) and found.sane() and found != area:
        warning = f"--oldmem says {area}, but the dump kernel's parameter area at {0x10418:#x} says {found}"
    return _kdump(image, area, "option", f"{area} were given", warning)


def _old_os_info(image: Source, area: Crashkernel) -> OsInfo | Absent:
    memory = kdump_memory(image, area)
    lowcore = read_absolute_lowcore(memory.read)
    return lowcore if isinstance(lowcore, Absent) else read_os_info(memory.read, lowcore.os_info)


def _find_swap(image: Source) -> Mode | None:
    """Kdump mode by the image's own evidence: the parameter area, confirmed by the crashed system's os_info."""
    read = raw_reader(image)
    area = read_crashkernel(read)
    kernel_image = has_kernel_image(read)
    if not isinstance(area, Absent) and area.sane():
        if area.base + LOWCORE_SIZE > image.size:
            found = _swap_by_os_info(image)
            if found is not None or not kernel_image:
                return found
            raise ImageError(f"{image.name}: the image is cut off: it ends at {image.size:#x}, but the crashed system's first "
                             f"pages are at {area.base:#x} ({area} in the dump kernel's parameter area at 0x10418); "
                             "take the image again")
        info = _old_os_info(image, area)
        if isinstance(info, OsInfo) and info.crashkernel == area:
            return _kdump(image, area, "image",
                          f"the dump kernel's parameter area and the crashed system's os_info agree on {area}")
        found = _swap_by_os_info(image, everywhere=False) if isinstance(info, Absent) else None
        if found is not None:
            return found
        if isinstance(info, OsInfo) and kernel_image:
            return _kdump(image, area, "image", f"the dump kernel's parameter area says {area}",
                          f"the crashed system's os_info says {info.crashkernel}, the dump kernel's parameter area {area}; "
                          "the latter was used")
        if kernel_image:
            return _kdump(image, area, "image", f"the dump kernel's parameter area says {area}")
    if kernel_image and isinstance(area, Absent):
        return None  # an intact parameter area of a kernel that is no kdump kernel
    return _swap_by_os_info(image)


def _swap_by_os_info(image: Source, *, everywhere: bool = True) -> Mode | None:
    """The parameter area is lost: B and S from an os_info page, if the swap they describe leads to a valid os_info.

    A terabyte that is not a kernel's memory is not searched to its end: beyond 2 GiB only if a lowcore is at 0, and
    *everywhere* is asked for.
    """
    tried: set[Crashkernel] = set()
    lowcore = read_absolute_lowcore(raw_reader(image))
    far = everywhere and isinstance(lowcore, AbsoluteLowcore) and lowcore.new_psws_valid
    for start, end in pairwise(_SCAN_LIMITS if far else _SCAN_LIMITS[:-1]):
        for offset, data in image.scan(start, min(end, image.size), overlap=PAGE_SIZE - 1):
            at = data.find(MAGIC)
            while at >= 0:
                if (offset + at) % PAGE_SIZE == 0 and at + 32 <= len(data):
                    area = Crashkernel(int.from_bytes(data[at + 16:at + 24], "big"), int.from_bytes(data[at + 24:at + 32], "big"))
                    if area not in tried and area.sane() and area.end <= image.size:
                        tried.add(area)
                        info = _old_os_info(image, area)
                        if isinstance(info, OsInfo) and info.crashkernel == area:
                            return _kdump(image, area, "image",
                                          f"the crashed system's os_info, found at {info.address:#x}, says {area}",
                                          "the dump kernel's parameter area at 0x10400 is damaged or was overwritten; "
                                          f"{area} were taken from the crashed system's os_info")
                at = data.find(MAGIC, at + 1)
    return None


def _swap_by_header(image: Source, headers: Sequence[FinishedHeader]) -> Mode | None:
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
                return _kdump(image, area, "image", f"a dump kernel's finished header leaves {area} out of memory",
                              f"the dump kernel's parameter area and the crashed system's os_info are damaged; {area} are what the dump "
                              f"kernel's finished header at {header.offset:#x} leaves out of memory")
    return None


def _low_headers(image: Source) -> list[FinishedHeader]:
    """Finished headers of a dump kernel in low memory, over memory from 0 on."""
    headers = find_finished_headers(raw_reader(image), raw_scan(image), min(_ZFCPDUMP_HEADER_LIMIT, image.size))
    return [h for h in headers if h.ranges[0].start == 0]


def linux_evidence(image: Source, mode: Mode) -> str | None:
    """Where a sign of an s390x Linux system is: "crashed system", "image" (only in the image as it lies), or None."""
    for read, who in ((mode.memory.read, "crashed system"), (raw_reader(image), "image")):
        lowcore = read_absolute_lowcore(read)
        if isinstance(lowcore, AbsoluteLowcore) and (
                lowcore.new_psws_valid
                or isinstance(read_os_info(read, lowcore.os_info), OsInfo)
                or isinstance(read_vmcoreinfo_note(read, lowcore.vmcore_info), Vmcoreinfo)):
            return who
    return None


def not_linux(image: Source, mode: Mode) -> ImageError:
    """The refusal of an image without any evidence."""
    where = f"{image.name}" if not mode.hsa_size else f"{image.name} with this HSA image"
    also = "".join(f"; {text}" for text in image.container.problems)
    lowcore = read_absolute_lowcore(mode.memory.read)
    if isinstance(lowcore, Absent) and image.size >= PAGE_SIZE:
        return ImageError(f"{where}: not the memory of an s390x Linux system, as far as it can be read: {lowcore.reason}; check that "
                          f"the file is a whole raw memory image that begins at absolute address 0, and can be read{also}")
    return ImageError(f"{where}: not the memory of an s390x Linux system: neither os_info (pointer at {OS_INFO:#x}), VMCOREINFO "
                      "(pointer at 0xe0c) nor a lowcore (new PSWs at 0x1a0) is in it; check that the file is a raw memory image "
                      f"that begins at absolute address 0{also}")


