"""os_info and VMCOREINFO: where the lowcore's pointers lead, else what others carry, else what a search of memory finds."""

from __future__ import annotations

from functools import cached_property

from vmcorefs.errors import ImageError, printable
from vmcorefs.evidence import Ground
from vmcorefs.image.file import read_small_file
from vmcorefs.image.source import Source
from vmcorefs.oldmem.mapping import ADDRESS_END
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.s390 import Absent
from vmcorefs.s390.os_info import VMCOREINFO, OsInfo, read_data_entry, read_os_info
from vmcorefs.s390.search import LOW_END, FoundOsInfo, FoundVmcoreinfo, MemorySearch
from vmcorefs.s390.utsname import read_utsname
from vmcorefs.s390.vmcoreinfo import DESC_LIMIT, VMCOREINFO_BYTES, Vmcoreinfo, read_vmcoreinfo_note
from vmcorefs.vmcore.layout_evidence import ReleaseEvidence, release_evidence
from vmcorefs.vmcore.layouts import switches_for_layout

# Containers that say of themselves that their memory is that of an s390x machine
OF_S390X = frozenset({"elf", "s390", "s390_ext", "kdump-compressed"})


def read_vmcoreinfo_option(path: str) -> Vmcoreinfo:
    """The text in the file that ``--vmcoreinfo`` names. ImageError where it is none."""
    desc, name = read_small_file(path, "VMCOREINFO text", DESC_LIMIT)
    if b"OSRELEASE=" not in desc:
        raise ImageError(f"{name}: no VMCOREINFO text, there is no line OSRELEASE=; "
                         "give the text as makedumpfile or the note has it")
    return Vmcoreinfo(desc, "option")


def is_linux_by_search(image: Source, search: MemorySearch) -> bool:
    """Whether memory whose lowcore is lost is Linux's all the same. A file whose first page holds something else is no such memory."""
    whole = image.container.format in OF_S390X
    found = search.vmcoreinfo(ADDRESS_END if whole else LOW_END) if whole or not any(image.head(PAGE_SIZE)) else None
    return isinstance(found, FoundVmcoreinfo) and bool(found.proofs)


class Metadata:
    """os_info and VMCOREINFO of the crashed system, and the kernel releases that they lead to.

    *searched_for*: "os_info", "vmcoreinfo" where the lowcore did not lead to it: why what a search found is believed, () where it
    found nothing. *found_vmcoreinfo*: memory's own; *vmcoreinfo*: the one that is served.
    """

    def __init__(self, ground: Ground, search: MemorySearch, given: Vmcoreinfo | None):
        self._ground = ground
        self._search = search
        self._given = given
        self.searched_for: dict[str, tuple[str, ...]] = {}
        self.os_info: OsInfo | Absent = self._find_os_info()
        self.os_info_used: bool = self._uses_os_info()
        self.found_vmcoreinfo: Vmcoreinfo | Absent = self._find_vmcoreinfo()
        self.vmcoreinfo: Vmcoreinfo | None = self._use_vmcoreinfo()
        self.release: ReleaseEvidence = self._find_release(self.vmcoreinfo)

    @property
    def _lowcore_is_lost(self) -> bool:
        lowcore = self._ground.lowcore
        return isinstance(lowcore, Absent) or not lowcore.new_psws_valid

    @property
    def _search_limit(self) -> int:
        """A system that crashed early has no VMCOREINFO yet, and its field at 0xe0c is 0 or odd: not all of its memory is searched."""
        lowcore = self._ground.lowcore
        early = not self._lowcore_is_lost and not isinstance(lowcore, Absent) and (not lowcore.vmcore_info or lowcore.vmcore_info & 1)
        return LOW_END if early and self._ground.mode.name != "kdump" else ADDRESS_END

    def _find_os_info(self) -> OsInfo | Absent:
        ground = self._ground
        if isinstance(ground.lowcore, Absent):
            info: OsInfo | Absent = Absent("no os_info: the absolute lowcore, which points to it, is not known")
        else:
            info = read_os_info(ground.oldmem.read, ground.lowcore.os_info)
        if isinstance(info, OsInfo):
            return info
        lost = info.suspicious or ground.mode.name == "kdump" or self._lowcore_is_lost
        note = self._note if isinstance(self._note, Vmcoreinfo) else self._container_vmcoreinfo() or self._given
        if note is None and not lost:  # it crashed early
            return info
        found = self._search.os_info(note, self._search_limit)
        if isinstance(found, FoundOsInfo):
            self.searched_for["os_info"] = found.words
            ground.problem("os_info", f"{info.reason}; the one that a search found at {found.info.address:#x} is used instead: "
                           f"{', '.join(found.words)}")
            return found.info
        info = Absent(f"{info.reason}; {found.reason}", suspicious=info.suspicious)
        self.searched_for["os_info"] = ()
        if lost:
            ground.problem("os_info", info.reason)
        return info

    def _find_release(self, crashed: Vmcoreinfo | Absent | None) -> ReleaseEvidence:
        dump_kernel = self._ground.dump_vmcoreinfo
        return release_evidence(
            dump_kernel.osrelease if isinstance(dump_kernel, Vmcoreinfo) else None,
            crashed.osrelease if isinstance(crashed, Vmcoreinfo) else None, dump_kernel_ran=bool(self._ground.mode.dump_kernel_limit))

    def _uses_os_info(self) -> bool:
        """A dump kernel before 6.10 does not look at os_info in a dump IPL (os_info.c: os_info_old_init)."""
        ground = self._ground
        if ground.mode.name != "zfcpdump" or isinstance(ground.lowcore, Absent):
            return True
        if ground.capture.layout != "auto":
            return switches_for_layout(ground.capture.layout).os_info_in_zfcpdump
        note = self._pointed_note() if isinstance(ground.dump_vmcoreinfo, Vmcoreinfo) else self._note
        return self._find_release(note).switches.os_info_in_zfcpdump

    def _find_vmcoreinfo(self) -> Vmcoreinfo | Absent:
        """os_info's entry 0, else the note that absolute lowcore points to (crash_dump.c: nt_vmcoreinfo), else what is found."""
        ground = self._ground
        if isinstance(self.os_info, OsInfo) and self.os_info_used:
            entry = self.os_info.entries[VMCOREINFO]
            desc = read_data_entry(ground.oldmem.read, self.os_info, VMCOREINFO)
            if isinstance(desc, bytes):
                return Vmcoreinfo(desc, "os_info", entry.addr)
            if desc.suspicious:
                ground.problem("os_info", desc.reason)
        note, words = self._note, self.searched_for.get("vmcoreinfo")
        if isinstance(note, Vmcoreinfo) and words is not None:
            pointed = self._pointed_note()
            assert isinstance(pointed, Absent)
            copy = ", without the time of the crash" if ground.mode.name == "kdump" and b"\nCRASHTIME=" not in note.desc else ""
            ground.problem("vmcoreinfo", f"{pointed.reason}; the one that a search found at {note.address:#x} is used instead{copy}: "
                           f"{', '.join(words)}")
        return note

    def _pointed_note(self) -> Vmcoreinfo | Absent:
        lowcore = self._ground.lowcore
        if isinstance(lowcore, Absent):
            return Absent("no VMCOREINFO: the absolute lowcore, which points to its note, is not known")
        return read_vmcoreinfo_note(self._ground.oldmem.read, lowcore.vmcore_info)

    @cached_property
    def _note(self) -> Vmcoreinfo | Absent:
        """The note that absolute lowcore points to; else, where nobody else has VMCOREINFO, what a search finds."""
        pointed = self._pointed_note()
        if isinstance(pointed, Vmcoreinfo) or self._container_vmcoreinfo() is not None or self._given is not None:
            return pointed
        found = self._search.vmcoreinfo(self._search_limit)
        if isinstance(found, Absent):
            self.searched_for["vmcoreinfo"] = ()
            return Absent(f"{pointed.reason}; {found.reason}", suspicious=pointed.suspicious)
        self.searched_for["vmcoreinfo"] = found.words
        return found.info

    def _use_vmcoreinfo(self) -> Vmcoreinfo | None:
        found, given, problem = self.found_vmcoreinfo, self._given, self._ground.problem
        if isinstance(found, Vmcoreinfo):
            if given is not None and given.desc != found.desc:
                problem("vmcoreinfo", f"--vmcoreinfo is not used: the image has a VMCOREINFO of its own "
                        f"({found.osrelease or 'no release'}), which differs from the file's ({given.osrelease or 'no release'})")
            if found.osrelease is None or len(found.desc) > VMCOREINFO_BYTES:
                problem("vmcoreinfo", f"VMCOREINFO by {found.origin} ({len(found.desc)} bytes) is not what a kernel writes: "
                        + ("no line OSRELEASE=" if found.osrelease is None else f"more than {VMCOREINFO_BYTES} bytes"))
            return found
        carried = self._container_vmcoreinfo()
        if carried is not None:
            return carried
        if given is not None:
            seen = self._of_another_system(given)
            if seen:
                problem("vmcoreinfo", f"--vmcoreinfo is of kernel {given.osrelease} and may be of another system: {seen}")
            return given
        if found.suspicious:
            problem("vmcoreinfo", f"{found.reason}; give its text with --vmcoreinfo FILE if you have it")
        return None

    def _of_another_system(self, given: Vmcoreinfo) -> str | None:
        """What in memory speaks against the text of ``--vmcoreinfo``."""
        names = read_utsname(self._ground.oldmem.read, given)
        if isinstance(names, Absent):
            return names.reason if names.suspicious else None
        release = names.release.decode("utf-8", "replace")
        return None if release == given.osrelease else f"the kernel in memory calls itself {printable(release)}"

    def _container_vmcoreinfo(self) -> Vmcoreinfo | None:
        """The container's own, for memory without one. In kdump mode it is the dump kernel's."""
        desc = self._ground.image.container.vmcoreinfo
        if desc is None or self._ground.mode.name == "kdump" or b"OSRELEASE=" not in desc or len(desc) > DESC_LIMIT:
            return None
        return Vmcoreinfo(desc, "container")
