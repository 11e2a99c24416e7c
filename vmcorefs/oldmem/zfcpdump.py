"""zfcpdump mode: the first hsa_size bytes of oldmem were saved in the hardware system area before the dump kernel came."""

from __future__ import annotations

from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import ADDRESS_END, OldMemory, Segment


def zfcpdump_memory(image: Source, hsa: Source, hsa_size: int) -> OldMemory:
    """crash_dump.c: copy_oldmem_kernel, zcore.c: memcpy_hsa_iter. raw(0..hsa_size) is the dump kernel's and never served."""
    return OldMemory([
        Segment(0, hsa_size, hsa, 0, "HSA"),
        Segment(hsa_size, ADDRESS_END, image, hsa_size, "direct"),
    ])
