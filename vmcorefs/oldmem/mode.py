"""Which mode an image is in: evidence in, mode and reasons out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vmcorefs.errors import ImageError, UsageError
from vmcorefs.image.shell import plain_of, quoted
from vmcorefs.image.source import Source
from vmcorefs.oldmem.kdump import kdump_memory
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.oldmem.plain import plain_memory
from vmcorefs.oldmem.prefixed import find_prefix, prefixed_memory
from vmcorefs.oldmem.raw import leads_to_metadata, raw_reader
from vmcorefs.oldmem.swap import Swap, find_swap, low_headers, refuse_remains, swap_by_header, swap_by_os_info
from vmcorefs.oldmem.zfcpdump import zfcpdump_memory
from vmcorefs.quantities import PAGE_SIZE, human_size
from vmcorefs.s390 import Absent
from vmcorefs.s390.lowcore import OS_INFO, AbsoluteLowcore, read_absolute_lowcore
from vmcorefs.s390.parmarea import Crashkernel, read_crashkernel

MODES = ("auto", "kdump", "zfcpdump", "plain")
SELECTS = ("prod", "kdump", "all")  # zgetdump's words


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
    swap = find_swap(image)
    if swap is not None:
        return _swapped(image, swap)
    if wanted == "kdump":
        raise UsageError(f"{image.name}: no B and S (base and size of the crashkernel area) are to be found in the image; "
                         "give them with --oldmem B:S")
    headers = low_headers(image)
    if headers:  # a dump kernel ran here: a kdump kernel whose parameter area was damaged, or a zfcpdump kernel
        swap = swap_by_os_info(image) or swap_by_header(image, headers)
        if swap is not None:
            return _swapped(image, swap)
    else:
        refuse_remains(image)
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
        return replace(_plain(image, "option", "all memory as it lies was asked for", as_it_lies=True),
                       other="; the swap of a kdump image is not undone (--select prod)")
    swap = find_swap(image) if given is None else None
    found = _given_oldmem(image, given) if given is not None else _swapped(image, swap) if swap is not None else None
    if found is None or found.crashkernel is None:
        raise UsageError(f"{image.name}: --select kdump: nothing shows that a kdump kernel ran in this memory; leave the option out, "
                         "or give its area with --oldmem B:S")
    size = found.crashkernel.size
    return replace(_plain(image, "option", f"the dump kernel's memory [0, {size:#x}) was asked for"), selected_end=size,
                   other="; the crashed (production) system is in the image, too (--select prod)")


def _plain(image: Source, origin: str, reason: str, warning: str | None = None, *, as_it_lies: bool = False) -> Mode:
    prefix = find_prefix(image) if image.container.format == "lime" and not as_it_lies else None
    if prefix is None:
        return Mode("plain", origin, reason, plain_memory(image), warning=warning)
    other = f"; it was copied through a CPU whose lowcore, at {prefix:#x}, stood at address 0: undone"
    return Mode("plain", origin, reason, prefixed_memory(image, prefix), warning=warning, other=other)


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


def _swapped(image: Source, swap: Swap) -> Mode:
    return _kdump(image, swap.area, "image", swap.reason, swap.warning)


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


def linux_evidence(image: Source, mode: Mode) -> str | None:
    """Where a sign of an s390x Linux system is: "crashed system", "image" (only in the image as it lies), or None."""
    for read, who in ((mode.memory.read, "crashed system"), (raw_reader(image), "image")):
        lowcore = read_absolute_lowcore(read)
        if isinstance(lowcore, AbsoluteLowcore) and (lowcore.new_psws_valid or leads_to_metadata(read, lowcore)):
            return who
    return None


def not_linux(image: Source, mode: Mode) -> ImageError:
    """The refusal of an image without any evidence."""
    where = f"{image.name}" if not mode.hsa_size else f"{image.name} with this HSA image"
    also = "".join(f"; {text}" for text in image.container.problems)
    if image.container.format in {"lime", "avml"}:
        kind = "AVML" if image.container.format == "avml" else "LiME"
        return ImageError(f"{where}: no s390x Linux is in the memory of this {kind} file, neither os_info, VMCOREINFO nor a lowcore; "
                          f"is it of another architecture? volatility3 reads those: vol -f {quoted(plain_of(image))} banners.Banners{also}")
    lowcore = read_absolute_lowcore(mode.memory.read)
    if isinstance(lowcore, Absent) and image.size >= PAGE_SIZE:
        return ImageError(f"{where}: not the memory of an s390x Linux system, as far as it can be read: {lowcore.reason}; check that "
                          f"the file is a whole raw memory image that begins at absolute address 0, and can be read{also}")
    return ImageError(f"{where}: not the memory of an s390x Linux system: neither os_info (pointer at {OS_INFO:#x}), VMCOREINFO "
                      "(pointer at 0xe0c) nor a lowcore (new PSWs at 0x1a0) is in it; check that the file is a raw memory image "
                      f"that begins at absolute address 0{also}")


