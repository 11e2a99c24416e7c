"""Dump: opens everything in order, closes it in reverse; what ``vmcorefs.open`` returns.

The order of trust is written down in docs/architecture.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from vmcorefs.capture import Capture, make_capture
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.evidence import Ground
from vmcorefs.evidence.finished_header import choose, find_candidates
from vmcorefs.evidence.kernel_image import find_kernel_image
from vmcorefs.evidence.layout import find_layout, uses_vector
from vmcorefs.evidence.memory_ranges import find_physmem
from vmcorefs.evidence.metadata import OF_S390X, Metadata, is_linux_by_search, read_vmcoreinfo_option
from vmcorefs.evidence.registers import Registers, find_registers
from vmcorefs.facts import Fact, Problem
from vmcorefs.image import open_image
from vmcorefs.image.file import ImageFile
from vmcorefs.image.missing import ZerosForMissing
from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import OldMemory
from vmcorefs.oldmem.memory_map import without_crashkernel
from vmcorefs.oldmem.mode import Mode, choose_mode, linux_evidence, not_linux, refuse_contradictions
from vmcorefs.oldmem.raw import raw_reader
from vmcorefs.quantities import PAGE_SIZE, human_size, round_up
from vmcorefs.ranges import Range
from vmcorefs.s390 import Absent
from vmcorefs.s390.container_notes import ContainerCpus
from vmcorefs.s390.cpus import Cpu, Cpus
from vmcorefs.s390.elfcorebuf import FinishedHeader
from vmcorefs.s390.high_memory import read_high_memory
from vmcorefs.s390.lowcore import AbsoluteLowcore, read_absolute_lowcore
from vmcorefs.s390.os_info import OsInfo
from vmcorefs.s390.parmarea import Crashkernel
from vmcorefs.s390.search import MemorySearch
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo, read_vmcoreinfo_note
from vmcorefs.vmcore.elfcorehdr import build_elfcorehdr
from vmcorefs.vmcore.file import VmcoreFile, compose
from vmcorefs.vmcore.layout_evidence import Layout
from vmcorefs.vmcore.merge import Merged, merge
from vmcorefs.vmcore.notes import notes

log = logging.getLogger("vmcorefs.dump")


class Dump:
    """An opened image of a crashed system, and the vmcore that its dump kernel would have served.

    Everything is found out when it is opened; afterwards only body bytes are read. Thread safe but for the position of
    ``vmcore``. *problems*: what is wrong with the image and does not keep it from being served.
    """

    def __init__(self, capture: Capture):
        self.capture = capture
        self._problems: list[Problem] = []
        refuse_contradictions(capture.mode, oldmem=capture.oldmem is not None, hsa=capture.hsa is not None,
                              hsa_size=capture.hsa_size is not None, select=capture.select)
        with ExitStack() as stack:
            self.image: Source = stack.enter_context(_open_source(capture))
            self._raw = raw_reader(self.image)
            self.hsa = stack.enter_context(ImageFile(capture.hsa, what="HSA image")) if capture.hsa is not None else None
            self._open()
            self._stack = stack.pop_all()

    def _open(self) -> None:
        capture, image = self.capture, self.image
        self.mode: Mode = choose_mode(image, capture.mode, capture.oldmem, self.hsa, capture.hsa_size, capture.select)
        self.oldmem: OldMemory = self.mode.memory
        self._check_container()
        if self.mode.warning:
            self._problem("mode", self.mode.warning)
        area = self.mode.crashkernel
        self.search = MemorySearch(self.oldmem.read, self._scan_oldmem, self.mode.selected_end or round_up(image.size),
                                   area and area.span, area, lambda text: log.info("%s: %s", image.name, text))
        given = read_vmcoreinfo_option(capture.vmcoreinfo) if capture.vmcoreinfo is not None else None
        self._check_linux(given)
        ground = self._find_ground()
        self.metadata = Metadata(ground, self.search, given)
        self.registers: Registers = find_registers(ground, self.vmcoreinfo)
        found = self.metadata.found_vmcoreinfo
        desc = found.desc if isinstance(found, Vmcoreinfo) else None
        self.finished_headers: tuple[FinishedHeader, ...] = find_candidates(ground)
        self.finished_header: FinishedHeader | None = choose(ground, self.finished_headers, self.cpus, desc)
        self.layout: Layout = find_layout(ground, self.registers, self.finished_header, desc, self.metadata.release)
        self.vector: bool = uses_vector(ground, self.registers, self.layout)
        self.physmem: Fact[tuple[Range, ...]] = find_physmem(ground, self.finished_header)
        self.memory_map: tuple[Range, ...] = without_crashkernel(self.physmem.value, area and area.span)
        if not self.memory_map:
            raise ImageError(f"{image.name}: no memory is left to serve outside of the crashkernel area {area}; "
                             "check --memory-range and --oldmem")
        self.merged: Merged = self._merge(ground)
        self.vmcore = VmcoreFile(self.merged.header, compose(self.merged, self.oldmem))
        self._check_extent()
        self._check_dump_kernel_end()
        self._check_finished_header()

    # -- what is served ------------------------------------------------------------------------------------------------

    @property
    def found_cpus(self) -> Cpus:
        """The CPUs, where they were found and what was left out."""
        return self.registers.cpus

    @property
    def cpus(self) -> tuple[Cpu, ...]:
        """The CPUs with notes, in the order of their notes."""
        return self.registers.cpus.cpus

    @property
    def container_cpus(self) -> ContainerCpus | None:
        """What the container says of the CPUs; None where it says nothing, or in kdump mode, where it means the dump kernel's."""
        return self.registers.of_container

    @property
    def os_info(self) -> OsInfo | Absent:
        """The crashed system's os_info."""
        return self.metadata.os_info

    @property
    def vmcoreinfo(self) -> Vmcoreinfo | None:
        """The VMCOREINFO that is served."""
        return self.metadata.vmcoreinfo

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the image, each worth one warning."""
        return tuple(self._problems)

    @property
    def mode_origin(self) -> str:
        """Where the mode was taken from, in words."""
        if self.mode.origin != "option":
            return self.mode.origin
        given = "hsa" if self.hsa is not None else "oldmem" if self.capture.oldmem is not None else "mode"
        return self.capture.origin(given)

    @cached_property
    def dump_kernel_end(self) -> int | Absent:
        """Where the dump kernel's memory ended, by its own high_memory."""
        if not isinstance(self.dump_vmcoreinfo, Vmcoreinfo):
            return self.dump_vmcoreinfo
        return read_high_memory(self._raw, self.dump_vmcoreinfo)

    @cached_property
    def crashed_kernel_end(self) -> int | Absent:
        """Where the crashed kernel's memory ended, by its own high_memory."""
        if self.vmcoreinfo is None:
            return Absent("no VMCOREINFO", suspicious=False)
        return read_high_memory(self.oldmem.read, self.vmcoreinfo)

    @property
    def ends_with_crashkernel(self) -> Crashkernel | None:
        """The area at the end of a plain image's memory, if that is what its dump kernel had, and a kernel's /proc/vmcore does not."""
        area = self.os_info.crashkernel if isinstance(self.os_info, OsInfo) else None
        if (self.mode.name == "plain" and area is not None and area.sane() and area.end == self.crashed_kernel_end
                and area.base <= self.memory_map[-1].end):
            return area
        return None

    @cached_property
    def notice(self) -> str:
        """One line for people: which system is served, and why."""
        system = "the crashed (production) system" if self.mode.name != "plain" else "the system in this memory as it stands"
        container = self.image.container
        what = f"{container.detail or container.format}; " if container.format != "raw" else ""
        if self._is_live:
            what += "taken by zgetdump while the system ran, so memory is of no one moment; "
        return f"{what}{self.mode.name} mode: served is {system}; {self.mode.reason}{self.mode.other}"

    @property
    def _is_live(self) -> bool:
        """Zgetdump marks what it copies from /dev/mem (zdump/dfi_devmem.c: DFI_LIVE_DUMP_MAGIC)."""
        try:
            return self.oldmem.read(0, 8) == b"LIVEDUMP"
        except OldmemReadError:
            return False

    def info(self) -> Any:
        """All facts with their origins, as dataclasses (vmcorefs.report.info.Info)."""
        from vmcorefs.report.info import make_info  # report/ looks at a Dump; imported when it is asked for

        return make_info(self)

    def close(self) -> None:
        """Close the files; everything read afterwards fails."""
        self.vmcore.close()
        self._stack.close()

    def __enter__(self) -> Dump:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    # -- how it is found out, in this order -----------------------------------------------------------------------------

    def _problem(self, code: str, text: str) -> None:
        self._problems.append(Problem(code, text))

    def _check_container(self) -> None:
        """What is wrong with the container, and what is not in it."""
        container = self.image.container
        if container.incomplete:
            self._problem("incomplete", f"the dump is incomplete: {container.incomplete}")
        for text in container.problems:
            self._problem("container", text)

    @cached_property
    def left_out(self) -> str | None:
        """What the writer of the dump left out on purpose, in words; None where that is nothing. No problem, but people must know."""
        container = self.image.container
        if container.dump_level is None:
            filtered = next((absence for absence in self.image.absences() if absence.kind == "filtered"), None)
            if filtered is None:
                return None
            what = f"{human_size(filtered.size)} of memory were left out on purpose when this dump was written"
        elif container.dump_level > 1:  # 1: zero pages alone
            what = f"pages were left out on purpose when this dump was written (dump level {container.dump_level})"
        else:
            return None
        zeros = self.capture.missing == "zeros"
        return f"{what}; there, reads {'give zeros (--missing zeros)' if zeros else 'fail; --missing zeros is for tools that give up then'}"

    def _check_linux(self, given: Vmcoreinfo | None) -> None:
        """ImageError where nothing in the image is Linux's, and nobody says that it is."""
        image = self.image
        evidence = linux_evidence(image, self.mode)
        if evidence is None and given is None and not is_linux_by_search(image, self.search):
            if image.container.format not in OF_S390X:
                raise not_linux(image, self.mode)
            self._problem("linux", "neither os_info, VMCOREINFO nor a lowcore of Linux is in this memory; it is served as it stands")
        if evidence != "crashed system" and self.hsa is not None:
            self._problem("hsa", f"the HSA image {self.hsa.name} holds neither os_info, VMCOREINFO nor a Linux lowcore; "
                          "check that it is the HSA image of this machine")

    def _find_ground(self) -> Ground:
        self.lowcore: AbsoluteLowcore | Absent = read_absolute_lowcore(self.oldmem.read)
        if isinstance(self.lowcore, Absent):
            self._problem("lowcore", self.lowcore.reason)
        elif self.lowcore.status is None:
            self._problem("lowcore", "the second page of the crashed system's absolute lowcore cannot be read; which CPU was the boot "
                          "CPU, and its registers, are not known from there")
        self.dump_lowcore: AbsoluteLowcore | Absent = Absent("no dump kernel ran", suspicious=False)
        self.dump_vmcoreinfo: Vmcoreinfo | Absent = Absent("no dump kernel ran", suspicious=False)
        if self.mode.dump_kernel_limit:
            self.dump_lowcore = read_absolute_lowcore(self._raw)
            if isinstance(self.dump_lowcore, AbsoluteLowcore):
                self.dump_vmcoreinfo = read_vmcoreinfo_note(self._raw, self.dump_lowcore.vmcore_info)
        return Ground(self.capture, self.image, self._raw, self._scan_oldmem, self.mode, self.lowcore, self.dump_lowcore,
                      self.dump_vmcoreinfo, self._problem)

    def _scan_oldmem(self, start: int, end: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        return self.oldmem.scan(start, min(end, round_up(self.image.size)), overlap)

    def _merge(self, ground: Ground) -> Merged:
        desc = self.vmcoreinfo.desc if self.vmcoreinfo else None
        content = notes([cpu.save_area for cpu in self.cpus], desc, todpreg_size=self.layout.todpreg_size.value, vector=self.vector)
        image, identity_base = (find_kernel_image(ground, self.metadata, self.finished_header, self.memory_map)
                                if self.layout.image_load.value else (None, 0))
        return merge(build_elfcorehdr(content, self.memory_map, image, identity_base), self.layout.note_align.value)

    def _check_extent(self) -> None:
        size, end = self.image.size, self.memory_map[-1].end
        if self.mode.crashkernel:
            end = max(end, self.mode.crashkernel.end)
        if end > round_up(size):
            self._problem("truncated", f"memory reaches to {end:#x} ({self.physmem.origin}), but the image ends at {size:#x}; "
                          "reads beyond fail")
        elif size % PAGE_SIZE:
            self._problem("partial-page", f"the image's size {size:#x} is no multiple of 4096; the rest of its last page "
                          "cannot be read")
        self._check_crashed_end(end)

    def _check_crashed_end(self, end: int) -> None:
        """An image that is cut off where nothing else shows it: the crashed kernel's own high_memory says so."""
        capture, found = self.capture, self.crashed_kernel_end
        asked = capture.memory_range or capture.memory_map is not None or capture.device_memory or capture.select != "prod"
        if asked or isinstance(found, Absent) or found <= max(end, round_up(self.image.size)) or self.ends_with_crashkernel is not None:
            return
        self._problem("truncated", f"the crashed kernel's memory reached to {found:#x} (its high_memory), the image ends at "
                      f"{self.image.size:#x}; what is behind is missing, and not in vmcore")

    def _check_dump_kernel_end(self) -> None:
        """A dump kernel's memory is [0, S) or the HSA size (setup.c); its own high_memory must say so."""
        limit, end = self.mode.dump_kernel_limit, self.dump_kernel_end
        if isinstance(end, Absent) or end == limit:
            return
        if self.mode.crashkernel:
            self._problem("crashkernel-size", f"the dump kernel's memory reached to {end:#x} (its high_memory), but S is {limit:#x}; "
                          "if S is wrong, wrong bytes are swapped")
        else:
            self._problem("hsa-size", f"the dump kernel's memory reached to {end:#x} (its high_memory), but the HSA size is {limit:#x}, so "
                          f"bytes between them are the wrong ones; give the whole HSA image, or --hsa-size {end:#x}")

    def _check_finished_header(self) -> None:
        """Our header against the dump kernel's own. Where a cause is known already (an option, a Problem) it is not said again."""
        header, capture = self.finished_header, self.capture
        asked = (capture.layout != "auto" or capture.memory_range or capture.device_memory or capture.cpu_state
                 or capture.memory_map is not None or (self.vmcoreinfo is not None and self.vmcoreinfo.origin == "option"))
        if header is None or asked or self._problems or self.merged.header.startswith(header.data):
            return
        at = next(i for i, (a, b) in enumerate(zip(self.merged.header, header.data, strict=False)) if a != b)
        self._problem("dump-kernel-header", f"our program headers differ from the dump kernel's own at image offset {header.offset:#x}, "
                      f"first at byte {at:#x}; one of them is damaged, or CPUs or VMCOREINFO are not all found")


def _open_source(capture: Capture) -> Source:
    """The memory in the image, with what the options say about bytes that are not there."""
    image = open_image([capture.image, *capture.part] if capture.part else capture.image, bad_map=capture.bad_map)
    return ZerosForMissing(image) if capture.missing == "zeros" else image


def open_dump(image: str | os.PathLike[str] | None = None, **options: Any) -> Dump:
    """Open *image*: a file, a directory that holds a capture, or a capture file (.toml; also as ``capture=``).

    The other keywords are the options of the command line with _ for - (see vmcorefs.capture.FIELDS).
    """
    return Dump(make_capture(image, **options))


