"""kdump mode: the image was taken while the dump kernel ran; [0, S) and [B, B+S) have changed places."""

from __future__ import annotations

from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import ADDRESS_END, OldMemory, Segment
from vmcorefs.s390.parmarea import Crashkernel


def kdump_memory(image: Source, area: Crashkernel) -> OldMemory:
    """crash_dump.c: copy_oldmem_kernel (copy_oldmem_iter since 6.1). One translation holds up to each border.

    [B, B+S) is no part of the dump; it reads as the dump kernel's memory, as a pointer into it would in the kernel.
    *area* must be sane (B >= S).
    """
    base, size, end = area.base, area.size, area.end
    return OldMemory([
        Segment(0, size, image, base, "swapped"),
        Segment(size, base, image, size, "direct"),
        Segment(base, end, image, 0, "swapped"),
        Segment(end, ADDRESS_END, image, end, "direct"),
    ])
