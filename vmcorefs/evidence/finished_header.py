"""The dump kernel's own finished header of /proc/vmcore, where it still lies in its memory: which of them is this image's."""

from __future__ import annotations

from vmcorefs.evidence import Ground
from vmcorefs.oldmem.raw import raw_scan
from vmcorefs.quantities import round_up
from vmcorefs.s390.cpus import Cpu
from vmcorefs.s390.elfcorebuf import FinishedHeader, find_finished_headers, read_finished_header
from vmcorefs.vmcore.layout_evidence import notes_per_cpu
from vmcorefs.vmcore.notes import notes_size_without_cpus


def find_candidates(ground: Ground) -> tuple[FinishedHeader, ...]:
    """Those in the dump kernel's memory; where the image is a kernel's /proc/vmcore itself, the one it begins with."""
    own = ground.image.container.vmcore_header
    if own is not None and ground.mode.name == "plain":
        header = read_finished_header(lambda offset, size: own[offset:offset + size].ljust(size, b"\0"), 0)
        return (header,) if header is not None else ()
    limit = min(ground.mode.dump_kernel_limit, ground.image.size)
    area = ground.mode.crashkernel
    return tuple(h for h in find_finished_headers(ground.raw, raw_scan(ground.image), limit)
                 if h.ranges[0].start == 0 and not (area and any(r.start < area.end and area.base < r.end for r in h.ranges)))


def choose(ground: Ground, candidates: tuple[FinishedHeader, ...], cpus: tuple[Cpu, ...], desc: bytes | None) -> FinishedHeader | None:
    """The header that fits this image best; None if none does, or several say different things.

    It must end where the image ends, or be this dump's beyond doubt: the size of its notes is that of our CPUs' notes with *desc*,
    the image's own VMCOREINFO.
    """
    area = ground.mode.crashkernel

    def end_of(header: FinishedHeader) -> int:
        return max(header.ranges[-1].end, area.end if area else 0)

    def notes_fit(header: FinishedHeader) -> bool:
        if not cpus:
            return header.notes_size == notes_size_without_cpus(desc)
        return notes_per_cpu(header, len(cpus), desc) is not None

    def key(header: FinishedHeader) -> tuple[int, bool]:
        end, size = end_of(header), round_up(ground.image.size)
        return (0 if end == size else 1 if end > size else 2, not notes_fit(header))

    best = sorted(candidates, key=key)
    if not best:
        return None
    if key(best[0]) in {(1, True), (2, True)}:
        ground.problem("finished-header", f"the finished header of a dump kernel at image offset {best[0].offset:#x} was not used: "
                       f"its memory ends at {end_of(best[0]):#x}, the image at {ground.image.size:#x}, and its notes are not those "
                       "of this system")
        return None
    if key(best[0])[0] == 2:
        ground.problem("finished-header", f"the image has {ground.image.size:#x} bytes, but the dump kernel knew of memory up to "
                       f"{end_of(best[0]):#x} only; what is behind is not served")
    said = {(h.ranges, h.note_align, h.image_load, h.notes_size) for h in best if key(h) == key(best[0])}
    if len(said) > 1:
        ground.problem("finished-header", f"{len(said)} different finished headers of a dump kernel are in the image (at "
                       f"{', '.join(hex(h.offset) for h in best[:4])}); none of them was used")
        return None
    return best[0]
