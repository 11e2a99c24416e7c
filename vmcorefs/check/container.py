"""The container: what its own headers say, what is not in it and why, and whether its notes say what memory says."""

from __future__ import annotations

from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.errors import ReadErrorKind
from vmcorefs.image.source import Absence
from vmcorefs.quantities import human_size
from vmcorefs.ranges import total

_SHOWN = 4
_RAW = "a raw image says nothing about itself"


def _absence(dump: Dump, kind: ReadErrorKind) -> Absence | None:
    return next((absence for absence in dump.image.absences() if absence.kind == kind), None)


def _words(dump: Dump, absence: Absence) -> str:
    memory = total(dump.image.container.memory)
    return (f"{human_size(absence.size)}{f' of {human_size(memory)} memory' if memory else ''}"
            + ("" if absence.first is None else f", the first at {absence.first:#x} of the image"))


def _read_as(dump: Dump, kind: ReadErrorKind) -> str:
    if dump.capture.missing == "zeros":
        return "reads there give zeros, as --missing zeros asks for; nothing tells them from zeros that were in memory"
    return f"reads there fail (EIO, {kind!r}); --missing zeros gives zeros instead"


def check_container(dump: Dump) -> Finding:
    """The format, and who wrote it. What its reader worked around is in Dump.problems."""
    container = dump.image.container
    if container.format == "raw":
        text = f"no container: {container.detail or 'a raw memory image'} of {dump.image.size:#x} bytes"
        return Finding("none", text, means="byte 0 of the image is absolute address 0; there is no header that could be wrong", advice="")
    has = [f"{len(container.memory)} memory range(s)" if container.memory else "no memory ranges",
           f"{len(container.cpu_notes) or len(container.prefixes) or 'no'} CPU(s)",
           "VMCOREINFO" if container.vmcoreinfo is not None else "no VMCOREINFO"]
    writer = f", written by {container.writer}" if container.writer and container.writer not in container.detail else ""
    return Finding("ok", f"{container.detail or container.format}{writer}; it has {', '.join(has)}")


def check_missing(dump: Dump) -> Finding:
    """Memory that the container names, or that was cut off with it."""
    container = dump.image.container
    absence = _absence(dump, "missing")
    if absence is not None:
        return Finding("failed", f"missing: {_words(dump, absence)}", means=_read_as(dump, "missing"))
    if container.format == "raw":
        return Finding("none", f"{_RAW}: see the check memory", means="whether it is whole is told by what the kernels knew", advice="")
    return Finding("ok", "nothing that the container names is missing from its end or its parts"
                   + (f" ({human_size(total(container.memory))} of memory)" if container.memory else ""))


def check_filtered(dump: Dump) -> Finding:
    """What the writer left out on purpose: no failure, but people must know."""
    container = dump.image.container
    level = "" if container.dump_level is None else f" (dump level {container.dump_level})"
    absence = _absence(dump, "filtered")
    if absence is not None:
        return Finding("ok", f"left out on purpose{level}: {_words(dump, absence)}",
                       means=f"it was never saved; {_read_as(dump, 'filtered')}")
    if container.format == "raw":
        return Finding("none", f"{_RAW}, and leaves nothing out", means="there is nothing to check", advice="")
    return Finding("ok", f"nothing was left out on purpose{level}, but for what is known to be zeros")


def check_broken(dump: Dump) -> Finding:
    """What is known to be unreadable; only reading all of the image would tell more."""
    absence = _absence(dump, "broken")
    if absence is not None:
        return Finding("failed", f"could not be read when the image was taken ({dump.capture.bad_map}): {_words(dump, absence)}",
                       means="reads there fail (EIO, 'broken'), whatever bytes the image has in their place")
    return Finding("none", "no map of unreadable areas was given (--bad-map)", advice="",
                   means="only reading all of it tells what cannot be read; vmcorefs copy does, and names the first bad place")


def check_container_notes(dump: Dump) -> Finding:
    """The container's registers against the save areas in memory."""
    container, found = dump.image.container, dump.container_cpus
    if found is None:
        has = container.cpu_notes or container.prefixes
        if has and dump.mode.crashkernel is not None:
            return Finding("none", f"the container's {len(has)} CPU(s) are the dump kernel's; those of the crashed system are in memory",
                           means="a container written while a dump kernel ran says nothing of the crashed system's CPUs", advice="")
        return Finding("none", "no container, or one without CPUs", means="registers come from memory alone", advice="")
    served = dump.found_cpus.origin in {cpu.origin for cpu in found.cpus.cpus}
    if not served:
        return Finding("none", "the container's CPUs are not used", means="none of them has a prefix of this system", advice="")
    count = len(found.cpus.cpus)
    if found.cpus.origin == "dump header":
        return Finding("ok", f"the header lists the lowcores of {count} CPU(s), and their registers are there",
                       means="the dump tool stored the registers into memory; nothing is known twice")
    if found.in_memory:
        differ = ", ".join(f"{prefix:#x}" for prefix in list(found.in_memory)[:_SHOWN])
        return Finding("ok", f"{len(found.in_memory)} of {count} CPU(s) have other registers in their save areas in memory: {differ}",
                       means="the container's are served; those in memory were stored earlier, for instance when the CPU was started")
    offline = f"; {len(found.offline)} more were offline, and have no notes in a vmcore" if found.offline else ""
    return Finding("ok", f"registers of {count} CPU(s), and no save area in memory says anything else{offline}")
