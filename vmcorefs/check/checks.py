"""The table of checks: what each looks at, what it found, what that means, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vmcorefs.check.container import check_broken, check_container, check_container_notes, check_filtered, check_missing
from vmcorefs.check.cpus import check_lowcores, check_save_areas
from vmcorefs.check.dump_kernel import check_dump_kernel_header, check_dump_kernel_notes
from vmcorefs.check.files import check_log, check_small_files
from vmcorefs.check.finding import Finding
from vmcorefs.check.memory import check_crashkernel_size, check_hsa_size, check_memory, check_positions
from vmcorefs.check.search import check_search
from vmcorefs.dump import Dump
from vmcorefs.errors import printable
from vmcorefs.s390 import Absent
from vmcorefs.s390.os_info import OsInfo
from vmcorefs.s390.utsname import read_utsname


class Check(NamedTuple):
    """One row: *name* is stable; *looks_at* says at what; *codes* are the problems (Dump.problems) that make it fail.

    *ok*, *failed*: what these outcomes mean; *advice*: what to do after a failure. *searches*: it reads much of the image, so
    that `info` leaves it out.
    """

    name: str
    looks_at: str
    codes: tuple[str, ...]
    good: Callable[[Dump], Finding]
    ok: str
    failed: str
    advice: str
    searches: bool = False


@dataclass(frozen=True)
class Result:
    """A check's outcome; *status* is ok, failed or none (nothing to look at); *text* is what was found."""

    name: str
    looks_at: str
    status: str
    text: str
    means: str
    advice: str


_NONE = "nothing to compare with, so this is not checked"


def _mode(dump: Dump) -> Finding:
    return Finding("ok", f"{dump.mode.name}: {dump.mode.reason}")


def _lowcore(dump: Dump) -> Finding:
    if isinstance(dump.lowcore, Absent):
        return Finding("failed", dump.lowcore.reason)
    if not dump.lowcore.new_psws_valid:
        return Finding("failed", "the new PSWs at 0x1a0..0x1ff of the crashed system's absolute lowcore are not those of a kernel")
    return Finding("ok", "the new PSWs of the crashed system's absolute lowcore are those of a kernel")


def _os_info(dump: Dump) -> Finding:
    if isinstance(dump.os_info, OsInfo):
        return Finding("ok", f"os_info at {dump.os_info.address:#x}: magic, checksum and version are right")
    return Finding("none", dump.os_info.reason)


def _vmcoreinfo(dump: Dump) -> Finding:
    info = dump.vmcoreinfo
    if info is None:
        assert isinstance(dump.metadata.found_vmcoreinfo, Absent)
        return Finding("none", dump.metadata.found_vmcoreinfo.reason)
    text = f"{len(info.desc)} bytes by {info.origin}, kernel {info.osrelease}"
    names = read_utsname(dump.oldmem.read, info)
    if isinstance(names, Absent):
        return Finding("ok", text)
    if info.osrelease is not None and names.release != info.osrelease.encode():
        return Finding("failed", f"it is of kernel {info.osrelease}, but the kernel in memory calls itself "
                       f"{printable(names.release)}")
    return Finding("ok", f"{text}, as the kernel in memory calls itself")


def _cpus(dump: Dump) -> Finding:
    why = ""
    if dump.found_cpus.origin == "prefix scan":
        why = f", since {'there is no VMCOREINFO' if dump.vmcoreinfo is None else 'VMCOREINFO leads to no lowcore_ptr[]'}"
    return Finding("ok", f"{len(dump.cpus)} CPU(s) by {dump.found_cpus.origin}{why}")


def _vector(dump: Dump) -> Finding:
    return Finding("ok", ("served" if dump.vector else "none") + f" ({dump.layout.vector.origin})")


def _kernel_image(dump: Dump) -> Finding:
    loads = [p.load for p in dump.merged.placed if p.load.kind == "kernel image"]
    if not loads:
        return Finding("none", "this layout has no PT_LOAD of the kernel image, or os_info names no image",
                       means="there is nothing to check, which is normal for dump kernels before 6.10", advice="")
    return Finding("ok", f"at physical address {loads[0].paddr:#x}, {loads[0].size:#x} bytes")


def _layout(dump: Dump) -> Finding:
    assumed = [name for name in ("todpreg_size", "note_align", "image_load", "vector")
               if getattr(dump.layout, name).assumed]
    if assumed:
        origin = getattr(dump.layout, assumed[0]).origin
        return Finding("none", f"assumed: {', '.join(assumed)} ({origin})",
                       means="nothing in the image proves these bytes of the header",
                       advice="give --layout if you know the dump kernel's release")
    return Finding("ok", f"layout {dump.layout.name}: {dump.layout.todpreg_size.origin}")


CHECKS: tuple[Check, ...] = (
    Check("mode", "parameter area, os_info and options", ("mode", "hsa"), _mode,
          "it is known what overwrote memory, and undone",
          "the signs of what overwrote memory are damaged, or contradict each other; the wrong memory may be served",
          "compare B and S with the crashed machine's /proc/iomem (Crash kernel); give --mode or --oldmem B:S"),
    Check("lowcore", "absolute lowcore of the crashed system", ("lowcore", "linux"), _lowcore,
          "address 0 of the crashed system is where it is looked for",
          "the first page of the crashed system is damaged, or the image is not read in the right way",
          "check --mode, --oldmem and --hsa; the other checks tell whether the rest can be trusted"),
    Check("os_info", "os_info page and the checksums of its entries", ("os_info",), _os_info,
          "what the crashed kernel left for its dump kernel is whole",
          "the page is damaged, or its pointer is; what it would have told was taken from elsewhere",
          "see whether the checks mode, vmcoreinfo and kernel-image are ok without it"),
    Check("vmcoreinfo", "VMCOREINFO note, and the release of the kernel in memory", ("vmcoreinfo",), _vmcoreinfo,
          "debuggers learn from it which kernel this was and where it lay",
          "debuggers may not learn which kernel this was and where it lay, or learn it wrongly, unless it was found otherwise",
          "see the check search; give the right text with --vmcoreinfo FILE, if you have it (makedumpfile -x, /sys/kernel/vmcoreinfo)"),
    Check("search", "memory, for os_info and VMCOREINFO that the lowcore does not lead to", (), check_search,
          "what the lowcore has lost was found where it lies, and fits this system",
          "what the lowcore has lost was not found", "see the checks os_info and vmcoreinfo"),
    Check("cpus", "save areas of all CPUs and their order", ("cpus", "cpu-order", "cpu-state"), _cpus,
          "each CPU's registers are served, in the kernel's order",
          "registers are missing, or may be attached to the wrong CPU",
          "give what you have from outside with --cpu-state FILE"),
    Check("vector", "vector registers", ("vector",), _vector,
          "they are served as the dump kernel would have",
          "vmcore has no vector registers, though the kernel's would have had them",
          "nothing: they are not in the image; all else is served"),
    Check("memory", "memory ranges against the image and against the crashed kernel's end of memory",
          ("truncated", "partial-page"), check_memory,
          "all memory that vmcore names is in the image",
          "the end of the image is missing, or holes were left out of it; reads of what is missing fail",
          "take the image again, whole; if holes were left out, see the check positions"),
    Check("kernel-image", "os_info's kernel image addresses", ("kernel-image",), _kernel_image,
          "the kernel image has a PT_LOAD of its own, as since 6.10",
          "vmcore has no PT_LOAD of the kernel image; debuggers may not find the kernel's data",
          "check --memory-range; the memory itself is served"),
    Check("layout", "evidence for the layout switches", ("finished-header",), _layout,
          "the header has the bytes of this dump kernel",
          "the dump kernel's headers in the image contradict each other, so the layout was taken from a table",
          "give --layout with the dump kernel's release"),
    Check("dump-kernel-header", "our program headers against the dump kernel's own", (), check_dump_kernel_header,
          "this is the file that the dump kernel served",
          "this is not the file that the dump kernel served",
          "leave options such as --layout and --memory-range out; without options, report it with this output"),
    Check("dump-kernel-notes", "our notes against the dump kernel's own", (), check_dump_kernel_notes,
          "registers and VMCOREINFO are those that the dump kernel served",
          "registers or VMCOREINFO are not those that the dump kernel served, or its memory is damaged",
          "leave options such as --layout out; without options, report it with this output", searches=True),
    Check("lowcores", "the page at each CPU's prefix", (), check_lowcores,
          "the CPUs' own memory is where their registers say",
          "a lowcore is damaged, or memory stands in the wrong place",
          "see the checks positions and mode"),
    Check("save-areas", "the dump kernel's list of save areas against lowcores and lowcore_ptr[]", ("save-areas",), check_save_areas,
          "two independent places tell the same registers",
          "one of the two places is damaged or stale; the list's registers are served",
          "compare the stacks of these CPUs in the debugger with the log before you believe them"),
    Check("crashkernel-size", "S against the end of the dump kernel's memory", (), check_crashkernel_size,
          "the right bytes are swapped back",
          "too much or too little memory is swapped back",
          "give --oldmem B:S with the crashed machine's values (Crash kernel in /proc/iomem)"),
    Check("hsa-size", "HSA size against the end of the dump kernel's memory", (), check_hsa_size,
          "the HSA image ends where the untouched memory begins",
          "the memory behind the HSA image's end is the dump kernel's, not the crashed system's",
          "copy the HSA image again, whole"),
    Check("log", "every record of the crashed kernel's log", (), check_log,
          "vmcorefs dmesg prints it, whole",
          "a part of the log is missing or damaged",
          "vmcorefs dmesg prints what there is", searches=True),
    Check("small-files", "the files beside vmcore in a mount", (), check_small_files,
          "all of them will be there",
          "", ""),
    Check("positions", "whether memory behind holes stands at its address", (), check_positions,
          "nothing is shifted",
          "memory ranges were written one behind the other, without the holes between them (as raw formats without positions "
          "do): what is behind a hole is served at the wrong address",
          "take the image again with positions (a hole must be as long in the file), or move what is behind each hole up by its "
          "size with dd seek="),
    Check("container", "the headers of the file that holds the memory", ("container",), check_container,
          "its format is known, and its headers do not contradict each other",
          "its headers contradict each other or the file; what could be made of them is served",
          "compare with the program that wrote it; copy the file again if it may be damaged"),
    Check("missing", "what the container names against what is in its files", ("incomplete",), check_missing,
          "the file is as long as it should be, and no part of it lacks",
          "some memory was cut off or never written; reads there fail (EIO, 'missing'), or give zeros with --missing zeros",
          "copy the file again, whole, or give all of its parts"),
    Check("filtered", "what the writer of the container left out on purpose", (), check_filtered,
          "all memory was saved, or what was not is zeros", "memory was left out", "save the memory again with a lower dump level"),
    Check("broken", "areas of the file that are known to be unreadable", (), check_broken,
          "all of it can be read", "some memory is lost", "read the image's medium again (ddrescue), and give its new map"),
    Check("container-notes", "registers in the container against the save areas in memory", ("container-notes",), check_container_notes,
          "the registers served are those of the moment at which the dump was taken",
          "registers are missing in the container, and zero in vmcore",
          "give what you have from outside with --cpu-state FILE"),
)


def run_checks(dump: Dump, checks: Iterable[Check] = CHECKS) -> list[Result]:
    """Every check of the table on an open Dump, in order."""
    return [_run(check, dump) for check in checks]


def quick_checks(dump: Dump) -> tuple[list[Result], list[str]]:
    """(results, names of those that were left out because they search the image)."""
    return run_checks(dump, [c for c in CHECKS if not c.searches]), [c.name for c in CHECKS if c.searches]


def _run(check: Check, dump: Dump) -> Result:
    texts = [p.text for p in dump.problems if p.code in check.codes]
    finding = Finding("failed", "; ".join(texts)) if texts else check.good(dump)
    words = {"ok": (check.ok, ""), "failed": (check.failed, check.advice), "none": (_NONE, "")}[finding.status]
    means = words[0] if finding.means is None else finding.means
    advice = words[1] if finding.advice is None else finding.advice
    return Result(check.name, check.looks_at, finding.status, finding.text, means, advice)
