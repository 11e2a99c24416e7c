"""What is true of the crashed system, by the order of trust of docs/architecture.md: one question a file.

Evidence says *what* is true; its bytes never get into vmcore. What is wrong and does not keep the image from being served goes
to :attr:`Ground.problem`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmcorefs.capture import Capture
from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.oldmem.mode import Mode
from vmcorefs.quantities import round_up
from vmcorefs.s390 import Absent, Read, Scan
from vmcorefs.s390.lowcore import AbsoluteLowcore
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo


@dataclass(frozen=True)
class Ground:
    """What every question starts from: the options, the image, its mode, the lowcores of both systems.

    *raw* reads the image by offset, *scan* searches the crashed system's memory. *dump_lowcore* and *dump_vmcoreinfo* are the dump
    kernel's, Absent where none ran. *problem*(code, text) takes what is worth a warning.
    """

    capture: Capture
    image: Source
    raw: Read
    scan: Scan
    mode: Mode
    lowcore: AbsoluteLowcore | Absent
    dump_lowcore: AbsoluteLowcore | Absent
    dump_vmcoreinfo: Vmcoreinfo | Absent
    problem: Callable[[str, str], None]

    @property
    def oldmem(self) -> OldMemory:
        """The crashed system's memory."""
        return self.mode.memory

    @property
    def crashkernel(self) -> tuple[int, int] | None:
        """[B, B+S), kdump mode only."""
        return self.mode.crashkernel and self.mode.crashkernel.span

    @property
    def extent(self) -> int:
        """Where memory ends as far as can be told without a list of ranges."""
        return max(round_up(self.image.size), self.mode.crashkernel.end if self.mode.crashkernel else 0)
