"""The table of checks: what each looks at, what it found, what that means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vmcorefs.check.dump_kernel import check_dump_kernel_header, check_dump_kernel_notes
from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.s390 import Absent
from vmcorefs.s390.os_info import OsInfo


class Check(NamedTuple):
    """One row: *name* is stable; *looks_at* says at what; *codes* are the problems (Dump.problems) that make it fail."""

    name: str
    looks_at: str
    codes: tuple[str, ...]
    good: Callable[[Dump], Finding]


@dataclass(frozen=True)
class Result:
    """A check's outcome; *status* is ok, failed or none (nothing to look at)."""

    name: str
    looks_at: str
    status: str
    text: str


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
    if dump.vmcoreinfo is None:
        assert isinstance(dump.found_vmcoreinfo, Absent)
        return Finding("none", dump.found_vmcoreinfo.reason)
    return Finding("ok", f"{len(dump.vmcoreinfo.desc)} bytes by {dump.vmcoreinfo.origin}, kernel {dump.vmcoreinfo.osrelease}")


def _cpus(dump: Dump) -> Finding:
    return Finding("ok", f"{len(dump.cpus)} CPU(s) by {dump.found_cpus.origin}")


def _vector(dump: Dump) -> Finding:
    return Finding("ok", ("served" if dump.vector else "none") + f" ({dump.layout.vector.origin})")


def _memory(dump: Dump) -> Finding:
    return Finding("ok", f"{len(dump.memory_map)} range(s) by {dump.physmem.origin}, the image has {dump.image.size:#x} bytes")


def _kernel_image(dump: Dump) -> Finding:
    loads = [p.load for p in dump.merged.placed if p.load.kind == "kernel image"]
    if not loads:
        return Finding("none", "this layout has no PT_LOAD of the kernel image, or os_info names no image")
    return Finding("ok", f"at physical address {loads[0].paddr:#x}, {loads[0].size:#x} bytes")


def _layout(dump: Dump) -> Finding:
    assumed = [name for name in ("todpreg_size", "note_align", "image_load", "vector")
               if getattr(dump.layout, name).assumed]
    if assumed:
        origin = getattr(dump.layout, assumed[0]).origin
        return Finding("none", f"assumed: {', '.join(assumed)} ({origin}); give --layout if you know the dump kernel's release")
    return Finding("ok", f"layout {dump.layout.name}: {dump.layout.todpreg_size.origin}")


CHECKS: tuple[Check, ...] = (
    Check("mode", "parameter area, os_info and options", ("mode", "hsa"), _mode),
    Check("lowcore", "absolute lowcore of the crashed system", ("lowcore",), _lowcore),
    Check("os_info", "os_info page and the checksums of its entries", ("os_info",), _os_info),
    Check("vmcoreinfo", "VMCOREINFO note", ("vmcoreinfo",), _vmcoreinfo),
    Check("cpus", "save areas of all CPUs and their order", ("cpus", "cpu-order", "cpu-state"), _cpus),
    Check("vector", "vector registers", ("vector",), _vector),
    Check("memory", "memory ranges against the image", ("truncated", "partial-page"), _memory),
    Check("kernel-image", "os_info's kernel image addresses", ("kernel-image",), _kernel_image),
    Check("layout", "evidence for the layout switches", ("finished-header",), _layout),
    Check("dump-kernel-header", "our program headers against the dump kernel's own", (), check_dump_kernel_header),
    Check("dump-kernel-notes", "our notes against the dump kernel's own", (), check_dump_kernel_notes),
)


def run_checks(dump: Dump) -> list[Result]:
    """Every check of the table on an open Dump, in order."""
    results = []
    for check in CHECKS:
        texts = [p.text for p in dump.problems if p.code in check.codes]
        finding = Finding("failed", "; ".join(texts)) if texts else check.good(dump)
        results.append(Result(check.name, check.looks_at, finding.status, finding.text))
    return results
