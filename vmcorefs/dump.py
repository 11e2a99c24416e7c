"""Dump: opens everything in order, closes it in reverse; what ``vmcorefs.open`` returns.

The order of trust is written down in docs/architecture.md.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from vmcorefs.capture import Capture, make_capture
from vmcorefs.errors import ImageError, OldmemReadError, UsageError, printable
from vmcorefs.facts import Fact, Problem
from vmcorefs.image import open_image
from vmcorefs.image.file import ImageFile, read_small_file
from vmcorefs.image.missing import ZerosForMissing
from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import ADDRESS_END, OldMemory
from vmcorefs.oldmem.memory_map import given_ranges, parse_memory_map, without_crashkernel
from vmcorefs.oldmem.mode import Mode, choose_mode, linux_evidence, not_linux, raw_reader, raw_scan, refuse_contradictions
from vmcorefs.quantities import PAGE_SIZE, round_up
from vmcorefs.ranges import Range, contains, subtract
from vmcorefs.s390 import Absent
from vmcorefs.s390.container_notes import ContainerCpus, from_notes, from_prefixes
from vmcorefs.s390.cpu_state import parse_cpu_state
from vmcorefs.s390.cpus import Cpu, Cpus, boot_only, contradictions, find_prefix, from_list, from_lowcores, read_lowcore_ptr, with_given
from vmcorefs.s390.elfcorebuf import FinishedHeader, find_finished_headers, read_finished_header
from vmcorefs.s390.high_memory import read_high_memory
from vmcorefs.s390.kallsyms import find_symbol
from vmcorefs.s390.lowcore import PREFIXREG, STATUS, STATUS_SIZE, AbsoluteLowcore, is_prefix, read_absolute_lowcore, read_status
from vmcorefs.s390.os_info import (
    IDENTITY_BASE,
    IMAGE_END,
    IMAGE_PHYS,
    IMAGE_START,
    KASLR_OFFSET,
    OsInfo,
    read_data_entry,
    read_os_info,
)
from vmcorefs.s390.os_info import VMCOREINFO as OS_INFO_VMCOREINFO
from vmcorefs.s390.save_area_list import find_save_area_list
from vmcorefs.s390.search import LOW_END, FoundOsInfo, FoundVmcoreinfo, MemorySearch
from vmcorefs.s390.utsname import read_utsname
from vmcorefs.s390.vmcoreinfo import DESC_LIMIT, VMCOREINFO_BYTES, Vmcoreinfo, read_vmcoreinfo_note
from vmcorefs.vmcore.elfcorehdr import IMAGE_SIZE_LIMIT, Load, build_elfcorehdr
from vmcorefs.vmcore.file import VmcoreFile, compose
from vmcorefs.vmcore.layout_evidence import (
    HEADER_ORIGIN,
    Layout,
    ReleaseEvidence,
    determine_layout,
    notes_per_cpu,
    release_evidence,
)
from vmcorefs.vmcore.layouts import switches_for_layout
from vmcorefs.vmcore.merge import Merged, merge
from vmcorefs.vmcore.notes import notes, notes_size_without_cpus

log = logging.getLogger("vmcorefs.dump")

_TEXT_LIMIT = 16 << 20  # of a memory map or CPU state
# Containers that say of themselves that their memory is that of an s390x machine
_OF_S390X = frozenset({"elf", "s390", "s390_ext", "kdump-compressed"})


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
        self.searched_for: dict[str, tuple[str, ...]] = {}  # "os_info", "vmcoreinfo": why it is believed, () where it was not found
        given_vmcoreinfo = _read_vmcoreinfo_option(capture.vmcoreinfo) if capture.vmcoreinfo is not None else None
        self._given_vmcoreinfo = given_vmcoreinfo
        evidence = linux_evidence(image, self.mode)
        if evidence is None and given_vmcoreinfo is None and not self._is_linux_by_search():
            if image.container.format not in _OF_S390X:
                raise not_linux(image, self.mode)
            self._problem("linux", "neither os_info, VMCOREINFO nor a lowcore of Linux is in this memory; it is served as it stands")
        if evidence != "crashed system" and self.hsa is not None:
            self._problem("hsa", f"the HSA image {self.hsa.name} holds neither os_info, VMCOREINFO nor a Linux lowcore; "
                          "check that it is the HSA image of this machine")
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
        self.os_info: OsInfo | Absent = self._find_os_info()
        self.os_info_used: bool = self._uses_os_info()
        self.found_vmcoreinfo: Vmcoreinfo | Absent = self._find_vmcoreinfo()
        self.vmcoreinfo: Vmcoreinfo | None = self._use_vmcoreinfo(given_vmcoreinfo)
        self.release: ReleaseEvidence = self._find_release(self.vmcoreinfo)
        self.found_cpus: Cpus = self._find_cpus()
        self.finished_headers: tuple[FinishedHeader, ...] = self._find_finished_headers()
        self.finished_header: FinishedHeader | None = self._choose_finished_header()
        self.layout: Layout = self._find_layout()
        self.vector: bool = self._use_vector()
        self.physmem: Fact[tuple[Range, ...]] = self._find_ranges()
        self.memory_map: tuple[Range, ...] = without_crashkernel(self.physmem.value, self.mode.crashkernel and self.mode.crashkernel.span)
        if not self.memory_map:
            raise ImageError(f"{image.name}: no memory is left to serve outside of the crashkernel area {self.mode.crashkernel}; "
                             "check --memory-range and --oldmem")
        self.merged: Merged = self._merge()
        self.vmcore = VmcoreFile(self.merged.header, compose(self.merged, self.oldmem))
        self._check_extent()
        self._check_dump_kernel_end()
        self._check_finished_header()

    # -- what is served ------------------------------------------------------------------------------------------------

    @property
    def cpus(self) -> tuple[Cpu, ...]:
        """The CPUs with notes, in the order of their notes."""
        return self.found_cpus.cpus

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
    def notice(self) -> str:
        """One line for people: which system is served, and why."""
        system = "the crashed (production) system" if self.mode.name != "plain" else "the system in this memory as it stands"
        container = self.image.container
        what = f"{container.detail or container.format}; " if container.format != "raw" else ""
        return f"{what}{self.mode.name} mode: served is {system}; {self.mode.reason}{self.mode.other}"

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

    def _is_linux_by_search(self) -> bool:
        """Whether memory whose lowcore is lost is Linux's all the same. A file whose first page holds something else is no such memory."""
        whole = self.image.container.format in _OF_S390X
        found = self.search.vmcoreinfo(ADDRESS_END if whole else LOW_END) if whole or not any(self.image.head(PAGE_SIZE)) else None
        return isinstance(found, FoundVmcoreinfo) and bool(found.proofs)

    @property
    def _lowcore_is_lost(self) -> bool:
        return isinstance(self.lowcore, Absent) or not self.lowcore.new_psws_valid

    @property
    def _search_limit(self) -> int:
        """A system that crashed early has no VMCOREINFO yet, and its field at 0xe0c is 0 or odd: not all of its memory is searched."""
        early = not self._lowcore_is_lost and isinstance(self.lowcore, AbsoluteLowcore) and (
            not self.lowcore.vmcore_info or self.lowcore.vmcore_info & 1)
        return LOW_END if early and self.mode.name != "kdump" else ADDRESS_END

    def _find_os_info(self) -> OsInfo | Absent:
        if isinstance(self.lowcore, Absent):
            info: OsInfo | Absent = Absent(self.lowcore.reason)
        else:
            info = read_os_info(self.oldmem.read, self.lowcore.os_info)
        if isinstance(info, OsInfo):
            return info
        lost = info.suspicious or self.mode.name == "kdump" or self._lowcore_is_lost
        note = self._note if isinstance(self._note, Vmcoreinfo) else self._container_vmcoreinfo() or self._given_vmcoreinfo
        if note is None and not lost:  # it crashed early
            return info
        found = self.search.os_info(note, self._search_limit)
        if isinstance(found, FoundOsInfo):
            self.searched_for["os_info"] = found.words
            self._problem("os_info", f"{info.reason}; the one that a search found at {found.info.address:#x} is used instead: "
                          f"{', '.join(found.words)}")
            return found.info
        info = Absent(f"{info.reason}; {found.reason}", suspicious=info.suspicious)
        self.searched_for["os_info"] = ()
        if lost:
            self._problem("os_info", info.reason)
        return info

    def _find_release(self, crashed: Vmcoreinfo | Absent | None) -> ReleaseEvidence:
        return release_evidence(
            self.dump_vmcoreinfo.osrelease if isinstance(self.dump_vmcoreinfo, Vmcoreinfo) else None,
            crashed.osrelease if isinstance(crashed, Vmcoreinfo) else None, dump_kernel_ran=bool(self.mode.dump_kernel_limit))

    def _uses_os_info(self) -> bool:
        """A dump kernel before 6.10 does not look at os_info in a dump IPL (os_info.c: os_info_old_init)."""
        if self.mode.name != "zfcpdump" or isinstance(self.lowcore, Absent):
            return True
        if self.capture.layout != "auto":
            return switches_for_layout(self.capture.layout).os_info_in_zfcpdump
        note = self._pointed_note() if isinstance(self.dump_vmcoreinfo, Vmcoreinfo) else self._note
        return self._find_release(note).switches.os_info_in_zfcpdump

    def _find_vmcoreinfo(self) -> Vmcoreinfo | Absent:
        """os_info's entry 0, else the note that absolute lowcore points to (crash_dump.c: nt_vmcoreinfo), else what is found."""
        if isinstance(self.os_info, OsInfo) and self.os_info_used:
            entry = self.os_info.entries[OS_INFO_VMCOREINFO]
            desc = read_data_entry(self.oldmem.read, self.os_info, OS_INFO_VMCOREINFO)
            if isinstance(desc, bytes):
                return Vmcoreinfo(desc, "os_info", entry.addr)
            if desc.suspicious:
                self._problem("os_info", desc.reason)
        note, words = self._note, self.searched_for.get("vmcoreinfo")
        if isinstance(note, Vmcoreinfo) and words is not None:
            pointed = self._pointed_note()
            assert isinstance(pointed, Absent)
            copy = ", without the time of the crash" if self.mode.name == "kdump" and b"\nCRASHTIME=" not in note.desc else ""
            self._problem("vmcoreinfo", f"{pointed.reason}; the one that a search found at {note.address:#x} is used instead{copy}: "
                          f"{', '.join(words)}")
        return note

    def _pointed_note(self) -> Vmcoreinfo | Absent:
        if isinstance(self.lowcore, Absent):
            return Absent(self.lowcore.reason)
        return read_vmcoreinfo_note(self.oldmem.read, self.lowcore.vmcore_info)

    @cached_property
    def _note(self) -> Vmcoreinfo | Absent:
        """The note that absolute lowcore points to; else, where nobody else has VMCOREINFO, what a search finds."""
        pointed = self._pointed_note()
        if isinstance(pointed, Vmcoreinfo) or self._container_vmcoreinfo() is not None or self._given_vmcoreinfo is not None:
            return pointed
        found = self.search.vmcoreinfo(self._search_limit)
        if isinstance(found, Absent):
            self.searched_for["vmcoreinfo"] = ()
            return Absent(f"{pointed.reason}; {found.reason}", suspicious=pointed.suspicious)
        self.searched_for["vmcoreinfo"] = found.words
        return found.info

    def _use_vmcoreinfo(self, given: Vmcoreinfo | None) -> Vmcoreinfo | None:
        found = self.found_vmcoreinfo
        if isinstance(found, Vmcoreinfo):
            if given is not None and given.desc != found.desc:
                self._problem("vmcoreinfo", f"--vmcoreinfo is not used: the image has a VMCOREINFO of its own "
                              f"({found.osrelease or 'no release'}), which differs from the file's "
                              f"({given.osrelease or 'no release'})")
            if found.osrelease is None or len(found.desc) > VMCOREINFO_BYTES:
                self._problem("vmcoreinfo", f"VMCOREINFO by {found.origin} ({len(found.desc)} bytes) is not what a kernel writes: "
                              + ("no line OSRELEASE=" if found.osrelease is None else f"more than {VMCOREINFO_BYTES} bytes"))
            return found
        carried = self._container_vmcoreinfo()
        if carried is not None:
            return carried
        if given is not None:
            names = read_utsname(self.oldmem.read, given)
            if isinstance(names, Absent):
                seen = names.reason if names.suspicious else None
            else:
                release = names.release.decode("utf-8", "replace")
                seen = None if release == given.osrelease else f"the kernel in memory calls itself {printable(release)}"
            if seen:
                self._problem("vmcoreinfo", f"--vmcoreinfo is of kernel {given.osrelease} and may be of another system: {seen}")
            return given
        if found.suspicious:
            self._problem("vmcoreinfo", f"{found.reason}; give its text with --vmcoreinfo FILE if you have it")
        return None

    def _container_vmcoreinfo(self) -> Vmcoreinfo | None:
        """The container's own, for memory without one. In kdump mode it is the dump kernel's."""
        desc = self.image.container.vmcoreinfo
        if desc is None or self.mode.name == "kdump" or b"OSRELEASE=" not in desc or len(desc) > DESC_LIMIT:
            return None
        return Vmcoreinfo(desc, "container")

    def _boot_status(self) -> bytes | None:
        """The boot CPU's architected save area at old 0x1200 (kdump: __do_machine_kdump, zfcpdump: firmware); None if nobody
        stored one there.
        """
        status = self.lowcore.status if isinstance(self.lowcore, AbsoluteLowcore) else self._read_boot_status()
        if self.mode.name == "kdump" and not any(status or b""):
            return self._boot_status_of_its_own()
        if status is not None and self.mode.name == "plain":
            prefix = int.from_bytes(status[PREFIXREG - STATUS:PREFIXREG - STATUS + 4], "big")
            known = read_lowcore_ptr(self.oldmem.read, self.vmcoreinfo).values()
            # In a dump kernel's memory it is the crashed system's boot CPU, none of its own (--select kdump, --mode plain)
            return status if is_prefix(prefix) and (not known or prefix in known) else None
        return status

    def _read_boot_status(self) -> bytes | None:
        try:
            return self.oldmem.read(STATUS, STATUS_SIZE)
        except OldmemReadError:
            return None

    def _boot_status_of_its_own(self) -> bytes | None:
        """What the boot CPU, logical CPU 0, stored into its own lowcore before it was copied (kdump: __machine_kdump)."""
        area = self.mode.crashkernel
        prefix = find_prefix(0, self.oldmem.read, self._scan_oldmem, self.vmcoreinfo, area and area.span)
        status = read_status(self.oldmem.read, prefix) if prefix is not None else Absent("")
        if isinstance(status, Absent):
            return None
        self._problem("lowcore", f"the boot CPU's registers at {STATUS:#x} of the absolute lowcore are lost; those in its own lowcore at "
                      f"{prefix:#x} were used instead")
        return status

    def _find_cpus(self) -> Cpus:
        found = self._find_cpus_by_trust()
        if self.capture.cpu_state:
            states = [state for path in self.capture.cpu_state
                      for state in parse_cpu_state(*read_small_file(path, "CPU state", _TEXT_LIMIT))]
            found, incomplete = with_given(found, states, self.oldmem.read, self.vmcoreinfo,
                                           self.capture.origin("cpu_state"))
            for text in incomplete:
                self._problem("cpu-state", text)
        if not found.cpus:
            self._problem("cpus", "no CPU with saved registers was found, so vmcore has no register notes"
                          + (f" ({found.left_out[0]})" if found.left_out else ""))
        elif found.left_out:
            self._problem("cpus", f"{len(found.left_out)} CPU(s) left out, their registers are not in the image: "
                          f"{found.left_out[0]}")
        if found.order_assumed and self.mode.name != "plain":  # no kernel has ever put the CPUs of a plain image in order
            self._problem("cpu-order", found.order_assumed)
        return found

    def _find_container_cpus(self) -> ContainerCpus | None:
        """What the container says of the CPUs. In kdump mode its notes are the dump kernel's, not the crashed system's."""
        container = self.image.container
        if self.mode.name != "plain":
            return None
        if container.cpu_notes:
            found = from_notes(container.cpu_notes, self.image.name, self.oldmem.read, self.vmcoreinfo,
                               whole_todcmp=container.writer == "QEMU")
            for text in found.incomplete:
                self._problem("container-notes", text)
            return found
        return from_prefixes(container.prefixes, self.oldmem.read) if container.prefixes else None

    def _find_cpus_by_trust(self) -> Cpus:
        status = self._boot_status()
        vmcoreinfo = self.vmcoreinfo
        self.container_cpus: ContainerCpus | None = self._find_container_cpus()
        if self.container_cpus is not None and self.container_cpus.cpus.cpus:
            return self.container_cpus.cpus
        if self.mode.dump_kernel_limit and status is not None:
            dump_vmcoreinfo = self.dump_vmcoreinfo if isinstance(self.dump_vmcoreinfo, Vmcoreinfo) else None
            areas = find_save_area_list(self._raw, raw_scan(self.image), min(self.mode.dump_kernel_limit, self.image.size),
                                        status, dump_vmcoreinfo)
            if not isinstance(areas, Absent):
                return self._compared_with_lowcores(from_list(areas))
            if self.mode.name == "zfcpdump":
                return boot_only(status, vmcoreinfo, self.oldmem.read, areas.reason)
        if self.mode.name == "zfcpdump":
            return Cpus((), "none")
        area = self.mode.crashkernel
        return from_lowcores(self.oldmem.read, self._scan_oldmem, status, vmcoreinfo, area and area.span)

    def _compared_with_lowcores(self, found: Cpus) -> Cpus:
        """*found*, from the dump kernel's list; a Problem where the crashed system's own lowcores (kdump) say something else."""
        area = self.mode.crashkernel
        if area is not None:
            vector = isinstance(self.dump_lowcore, AbsoluteLowcore) and bool(self.dump_lowcore.vector_enablement)
            texts = contradictions(found, self.oldmem.read, self.vmcoreinfo, area.span, vector=vector)
            if texts:
                self._problem("save-areas", f"the dump kernel's list of CPUs, whose registers are served, may be damaged: {texts[0]}"
                              + (f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""))
        return found

    def _scan_oldmem(self, start: int, end: int, overlap: int) -> Any:
        return self.oldmem.scan(start, min(end, round_up(self.image.size)), overlap)

    def _find_finished_headers(self) -> tuple[FinishedHeader, ...]:
        """In the dump kernel's memory; where the image is a kernel's /proc/vmcore itself, the one it begins with."""
        own = self.image.container.vmcore_header
        if own is not None and self.mode.name == "plain":
            header = read_finished_header(lambda offset, size: own[offset:offset + size].ljust(size, b"\0"), 0)
            return (header,) if header is not None else ()
        limit = min(self.mode.dump_kernel_limit, self.image.size)
        area = self.mode.crashkernel
        return tuple(h for h in find_finished_headers(self._raw, raw_scan(self.image), limit)
                     if h.ranges[0].start == 0 and not (area and any(r.start < area.end and area.base < r.end for r in h.ranges)))

    def _choose_finished_header(self) -> FinishedHeader | None:
        """The header that fits this image best; None if none does, or several say different things.

        It must end where the image ends, or be this dump's beyond doubt: the size of its notes is that of our CPUs' notes.
        """
        def end_of(header: FinishedHeader) -> int:
            return max(header.ranges[-1].end, self.mode.crashkernel.end if self.mode.crashkernel else 0)

        def key(header: FinishedHeader) -> tuple[int, bool]:
            end, size = end_of(header), round_up(self.image.size)
            return (0 if end == size else 1 if end > size else 2, not self._notes_fit(header))

        best = sorted(self.finished_headers, key=key)
        if not best:
            return None
        if key(best[0]) in {(1, True), (2, True)}:
            self._problem("finished-header", f"the finished header of a dump kernel at image offset {best[0].offset:#x} was not used: "
                          f"its memory ends at {end_of(best[0]):#x}, the image at {self.image.size:#x}, and its notes are not those "
                          "of this system")
            return None
        if key(best[0])[0] == 2:
            self._problem("finished-header", f"the image has {self.image.size:#x} bytes, but the dump kernel knew of memory up to "
                          f"{end_of(best[0]):#x} only; what is behind is not served")
        said = {(h.ranges, h.note_align, h.image_load, h.notes_size) for h in best if key(h) == key(best[0])}
        if len(said) > 1:
            self._problem("finished-header", f"{len(said)} different finished headers of a dump kernel are in the image (at "
                          f"{', '.join(hex(h.offset) for h in best[:4])}); none of them was used")
            return None
        return best[0]

    def _notes_fit(self, header: FinishedHeader) -> bool:
        if not self.cpus:
            return header.notes_size == notes_size_without_cpus(self._found_desc)
        return self._notes_per_cpu(header) is not None

    def _notes_per_cpu(self, header: FinishedHeader) -> tuple[int, bool] | None:
        return notes_per_cpu(header, len(self.cpus), self._found_desc)

    @property
    def _found_desc(self) -> bytes | None:
        """The image's own VMCOREINFO, which the dump kernel put into its notes."""
        return self.found_vmcoreinfo.desc if isinstance(self.found_vmcoreinfo, Vmcoreinfo) else None

    def _find_layout(self) -> Layout:
        header = self.finished_header
        per_cpu = self._notes_per_cpu(header) if header is not None else None
        if isinstance(self.dump_lowcore, AbsoluteLowcore) and self.dump_lowcore.vector_enablement is not None:
            vector = Fact(self.dump_lowcore.vector_enablement, "dump kernel's control register 0")
        elif self.container_cpus is not None and self.container_cpus.vector is not None:
            vector = Fact(self.container_cpus.vector, "container's notes")
        elif isinstance(self.lowcore, AbsoluteLowcore) and self.lowcore.vector_enablement is not None:
            vector = Fact(self.lowcore.vector_enablement, "crashed kernel's control register 0",
                          assumed=bool(self.mode.dump_kernel_limit))
        else:
            vector = Fact(False, "no control register 0 is known", assumed=True)
        return determine_layout(self.capture.layout, header, per_cpu, self.release, vector, self.capture.origin("layout"))

    def _use_vector(self) -> bool:
        """VXRS notes for all CPUs or none; where one CPU's vector registers are not known: none, and a warning."""
        if not self.layout.vector.value or not self.cpus:
            return False
        if all(cpu.save_area.vxrs_high is not None for cpu in self.cpus):
            return True
        self._problem("vector", "no vector registers are served, since they are not known for all CPUs: "
                      f"{self.found_cpus.vector_reason}")
        return False

    def _find_ranges(self) -> Fact[tuple[Range, ...]]:
        physmem = self._find_physmem()
        if self.capture.device_memory:
            left = physmem.value
            for start, end in given_ranges(self.capture.device_memory, ADDRESS_END, self.image.name, "--device-memory: "):
                left = subtract(left, (start, end))
            if not left:
                raise UsageError("--device-memory: no memory is left of the machine's; give the device ranges alone")
            return Fact(left, f"{physmem.origin}, without {self.capture.origin('device_memory')}", physmem.assumed)
        return physmem

    def _find_physmem(self) -> Fact[tuple[Range, ...]]:
        capture = self.capture
        if capture.memory_range:
            return Fact(given_ranges(capture.memory_range, self._extent(), self.image.name), capture.origin("memory_range"))
        if capture.memory_map is not None:
            data, name = read_small_file(capture.memory_map, "memory map", _TEXT_LIMIT)
            ranges = parse_memory_map(data.decode("utf-8", "replace"), name)
            return Fact(given_ranges(ranges, self._extent(), self.image.name, f"{name}: "), f"{capture.origin('memory_map')} ({name})")
        if self.finished_header is not None:
            return Fact(self.finished_header.ranges, HEADER_ORIGIN)
        if self.mode.selected_end is not None:
            return Fact((Range(0, self.mode.selected_end),), f"S, the dump kernel's memory ({capture.origin('select')})")
        if self.image.container.memory:
            return Fact(self.image.container.memory, "container's memory ranges")
        return Fact((Range(0, self._extent()),), "extent of the image", assumed=True)

    def _extent(self) -> int:
        """Where memory ends as far as can be told without a list of ranges."""
        return max(round_up(self.image.size), self.mode.crashkernel.end if self.mode.crashkernel else 0)

    def _image_load(self) -> tuple[Load | None, int]:
        """(PT_LOAD of the kernel image, identity base), from the value entries of os_info (6.10+)."""
        info = self.os_info
        if not self.layout.image_load.value or not self.os_info_used:
            return None, 0
        if isinstance(info, Absent):
            return self._image_load_without_os_info()
        if not info.value(KASLR_OFFSET):
            return None, 0
        start, end, phys = info.value(IMAGE_START), info.value(IMAGE_END), info.value(IMAGE_PHYS)
        base = info.value(IDENTITY_BASE)
        if not start < end <= start + IMAGE_SIZE_LIMIT or not contains(self.memory_map, phys, phys + end - start):
            self._problem("kernel-image", f"os_info at {info.address:#x}: the kernel image {start:#x}..{end:#x} at physical "
                          f"address {phys:#x} is not in memory; its PT_LOAD is left out")
            return None, base
        return Load(start, phys, end - start, "kernel image"), base

    def _image_load_without_os_info(self) -> tuple[Load | None, int]:
        """What os_info would have said is in the dump kernel's own header, too, and in VMCOREINFO with the symbol table (os_info.c,
        setup.c: _stext and _end).
        """
        header, vmcoreinfo = self.finished_header, self.vmcoreinfo
        if header is not None and header.image_load is not None:
            start, phys, size = header.image_load.p_vaddr, header.image_load.p_paddr, header.image_load.p_memsz
            base, origin = header.identity_base, HEADER_ORIGIN
        else:
            if vmcoreinfo is None or vmcoreinfo.number("KERNELOFFPHYS") is None:  # not told by a kernel before 6.10, nor needed
                return None, 0
            stext, end = vmcoreinfo.symbol("_stext"), find_symbol(self.oldmem.read, vmcoreinfo, "_end")
            base, origin = vmcoreinfo.number("IDENTITYBASE") or 0, "VMCOREINFO and the symbol _end"
            start, size = stext or 0, 0 if stext is None or isinstance(end, Absent) else end - stext
            phys = vmcoreinfo.physical(start)
        if not 0 < size <= IMAGE_SIZE_LIMIT or not contains(self.memory_map, phys, phys + size):
            self._problem("kernel-image", "os_info, which tells where the kernel image is, is lost; its PT_LOAD is left out")
            return None, base
        self._problem("os_info", f"the kernel image's addresses, which os_info would have told, were taken from: {origin}")
        return Load(start, phys, size, "kernel image"), base

    def _merge(self) -> Merged:
        desc = self.vmcoreinfo.desc if self.vmcoreinfo else None
        content = notes([cpu.save_area for cpu in self.cpus], desc,
                        todpreg_size=self.layout.todpreg_size.value, vector=self.vector)
        image, identity_base = self._image_load()
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


def _read_vmcoreinfo_option(path: str) -> Vmcoreinfo:
    desc, name = read_small_file(path, "VMCOREINFO text", DESC_LIMIT)
    if b"OSRELEASE=" not in desc:
        raise ImageError(f"{name}: no VMCOREINFO text, there is no line OSRELEASE=; "
                         "give the text as makedumpfile or the note has it")
    return Vmcoreinfo(desc, "option")


def open_dump(image: str | os.PathLike[str] | None = None, **options: Any) -> Dump:
    """Open *image*: a file, a directory that holds a capture, or a capture file (.toml; also as ``capture=``).

    The other keywords are the options of the command line with _ for - (see vmcorefs.capture.FIELDS).
    """
    return Dump(make_capture(image, **options))


