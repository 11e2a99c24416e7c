"""Which byte of which file holds which memory: the swap of kdump, the HSA of zfcpdump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["kdump", "zfcpdump", "plain"]


@dataclass(frozen=True)
class Placement:
    """Written as the machine does it, from old memory to the files; never used to read."""

    mode: Mode
    base: int
    size: int
    hsa_size: int

    @property
    def dump_kernel_end(self) -> int:
        """The dump kernel's memory is raw [0, this)."""
        return {"kdump": self.size, "zfcpdump": self.hsa_size, "plain": 0}[self.mode]

    def is_gone(self, old: int) -> bool:
        """The crashkernel area itself is overwritten: what is there now is the crashed kernel's [0, S)."""
        return self.mode == "kdump" and self.base <= old < self.base + self.size

    def store_old(self, old: int) -> tuple[Literal["image", "hsa"], int]:
        """Where the page at absolute address `old` of the crashed machine ends up."""
        if self.mode == "kdump" and old < self.size:
            return "image", self.base + old
        if self.mode == "zfcpdump" and old < self.hsa_size:
            return "hsa", old
        return "image", old

    def owner(self, raw: int) -> tuple[Literal["old", "dump"], int]:
        """Whose page lies at this offset of the image, and its address there."""
        if raw < self.dump_kernel_end:
            return "dump", raw
        if self.is_gone(raw):
            return "old", raw - self.base
        return "old", raw
