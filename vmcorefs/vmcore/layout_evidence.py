"""Which layout an image's vmcore has: the dump kernel's own header where it lies in the image, else the table of releases."""

from __future__ import annotations

from dataclasses import dataclass

from vmcorefs.facts import Fact
from vmcorefs.s390.elfcorebuf import FinishedHeader
from vmcorefs.vmcore.layouts import LAYOUTS, Switches, switches_for_layout, switches_for_release
from vmcorefs.vmcore.notes import notes_size_per_cpu, notes_size_without_cpus

HEADER_ORIGIN = "dump kernel's own header"
_FALLBACK = "6.1"


@dataclass(frozen=True)
class Layout:
    """The switches that decide bytes, each with its origin."""

    todpreg_size: Fact[int]
    note_align: Fact[int]
    image_load: Fact[bool]
    vector: Fact[bool]

    @property
    def name(self) -> str:
        """The nearest name in LAYOUTS, or the switches where no row fits."""
        for name, row in LAYOUTS.items():
            if (row.todpreg_size, row.note_align, row.image_load) == (
                    self.todpreg_size.value, self.note_align.value, self.image_load.value):
                return name
        image = "image" if self.image_load.value else "no image"
        return f"todpreg {self.todpreg_size.value}, align {self.note_align.value}, {image}"


@dataclass(frozen=True)
class ReleaseEvidence:
    """The switches of the table, and whose release it was looked up for."""

    switches: Switches
    origin: str
    assumed: bool


def release_evidence(dump_release: str | None, crashed_release: str | None, *, dump_kernel_ran: bool) -> ReleaseEvidence:
    """The dump kernel's release decides; the crashed kernel's is only a guess at it. In plain mode it is the crashed one's."""
    if dump_kernel_ran and dump_release and (row := switches_for_release(dump_release)):
        return ReleaseEvidence(row, f"table, dump kernel's {row.reason}", row.assumed)
    if crashed_release and (row := switches_for_release(crashed_release)):
        return ReleaseEvidence(row, f"table, crashed kernel's {row.reason}", row.assumed or dump_kernel_ran)
    return ReleaseEvidence(LAYOUTS[_FALLBACK], f"no kernel release is known, layout {_FALLBACK}", True)


def notes_per_cpu(header: FinishedHeader, cpus: int, vmcoreinfo: bytes | None) -> tuple[int, bool] | None:
    """(todpreg_size, vector) that make *cpus* CPUs and this VMCOREINFO fill the header's PT_NOTE; None if nothing does.

    A CPU's notes have 764, 768, 1188 or 1192 bytes, so the size tells both.
    """
    if not cpus:
        return None
    rest = header.notes_size - notes_size_without_cpus(vmcoreinfo)
    for todpreg_size in (4, 8):
        for vector in (False, True):
            if rest == cpus * notes_size_per_cpu(todpreg_size=todpreg_size, vector=vector):
                return todpreg_size, vector
    return None


def determine_layout(wanted: str, header: FinishedHeader | None, per_cpu: tuple[int, bool] | None,
                     release: ReleaseEvidence, vector: Fact[bool], origin: str = "option --layout") -> Layout:
    """*wanted* is the option's value; *vector* is what control register 0 says, unless the header knows better."""
    if per_cpu is not None:
        vector = Fact(per_cpu[1], f"{HEADER_ORIGIN} (size of the notes)")
    if wanted != "auto":
        row = switches_for_layout(wanted)
        origin = f"{origin} {wanted}"
        return Layout(Fact(row.todpreg_size, origin), Fact(row.note_align, origin), Fact(row.image_load, origin), vector)
    row = release.switches
    todpreg = Fact(row.todpreg_size, release.origin, release.assumed)
    align = Fact(row.note_align, release.origin, release.assumed)
    image = Fact(row.image_load, release.origin, release.assumed)
    if header is not None:
        align = Fact(header.note_align, HEADER_ORIGIN)
        image = Fact(header.image_load is not None, HEADER_ORIGIN)
    if per_cpu is not None:
        todpreg = Fact(per_cpu[0], f"{HEADER_ORIGIN} (size of the notes)")
    return Layout(todpreg, align, image, vector)
