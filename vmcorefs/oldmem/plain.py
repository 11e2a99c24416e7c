"""Plain mode: nothing was overwritten, the image is oldmem."""

from __future__ import annotations

from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import ADDRESS_END, OldMemory, Segment


def plain_memory(image: Source) -> OldMemory:
    """Address a = raw(a)."""
    return OldMemory([Segment(0, ADDRESS_END, image, 0, "direct")])
