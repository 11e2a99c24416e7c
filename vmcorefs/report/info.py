"""Info: what an image is and what is served of it, every fact with its origin, as dataclasses and JSON (docs/info.schema.json).

Everything in it comes out of an untrusted image: texts are made printable and cut, sizes are bounded, and what cannot be found
is None with a reason in *absent*. The text for people is in report/text.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vmcorefs.check import quick_checks
from vmcorefs.errors import OldmemReadError, printable
from vmcorefs.report.commands import Command, Vmlinux, find_vmlinux, make_commands
from vmcorefs.report.crash import Crash, read_crash
from vmcorefs.report.dmesg import find_dmesg
from vmcorefs.report.map import as_dicts, make_map
from vmcorefs.s390 import Absent
from vmcorefs.s390.container_notes import prefix_and_psw
from vmcorefs.s390.lowcore import CPU_NR
from vmcorefs.s390.os_info import KASLR_OFFSET, OsInfo
from vmcorefs.s390.psw import describe_psw
from vmcorefs.s390.utsname import Utsname, read_utsname
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo
from vmcorefs.version import __version__

if TYPE_CHECKING:
    from vmcorefs.dump import Dump

SCHEMA = 2
_LOG = "log of the crashed kernel"
_CPU_LIMIT = 512  # NR_CPUS of s390 at most
_TEXT_LIMIT = 500
_FOLDER = "mnt"  # where the command lines say that the image is mounted, if it is not


@dataclass(frozen=True)
class FileInfo:
    """A source file; *modified* is when it was last written (UTC)."""

    path: str
    size: int
    modified: str


@dataclass(frozen=True)
class ContainerInfo:
    """What the file that holds the memory says about itself; *parts*: its files; *time*: UTC, ISO 8601, of the dump.

    *not_served*: prefix and PSW, in hexadecimal, of its CPUs where they are the dump kernel's.
    """

    format: str
    writer: str
    detail: str
    parts: list[str]
    memory: list[list[int]]
    cpus: int
    vmcoreinfo: bool
    dump_level: int | None
    incomplete: str | None
    time: str | None
    release: str | None
    machine: str | None
    problems: list[str]
    not_served: list[dict[str, str]]


@dataclass(frozen=True)
class FactInfo:
    """A fact, where it came from, and whether it was assumed."""

    value: Any
    origin: str
    assumed: bool = False


@dataclass(frozen=True)
class SystemInfo:
    """What the crashed kernel called itself (uname)."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str
    domainname: str
    origin: str


@dataclass(frozen=True)
class CrashInfo:
    """When and why. *time*: UTC, ISO 8601; *uptime*: seconds; *reason*: the panic line; *cause*: what an oops said before it;
    *cpu*: logical number of the CPU that panicked; *last_line*: the last of the log.
    """

    time: FactInfo | None
    uptime: FactInfo | None
    reason: FactInfo | None
    cause: FactInfo | None
    cpu: FactInfo | None
    task: FactInfo | None
    pid: FactInfo | None
    location: FactInfo | None
    call_trace: FactInfo | None
    last_line: FactInfo | None


@dataclass(frozen=True)
class CpuInfo:
    """A CPU with notes: *number* is pr_pid of its NT_PRSTATUS; psw as hex text; *panicked*: None if not known; *in_memory*: the
    PSW (hex) that its save area in memory has, where the registers there are not those that are served.
    """

    number: int
    address: int | None
    logical: int | None
    prefix: int
    psw_mask: str
    psw_address: str
    state: str
    panicked: bool | None
    origin: str
    in_memory: str | None


@dataclass(frozen=True)
class PhdrInfo:
    """A program header of vmcore."""

    type: str
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    align: int


@dataclass(frozen=True)
class ExtentInfo:
    """Bytes of vmcore and where they come from: *kind* is header, direct, swapped, prefixed or HSA."""

    offset: int
    length: int
    kind: str
    address: int | None
    source: str | None
    source_offset: int | None


@dataclass(frozen=True)
class ChecksInfo:
    """The quick ones of ``vmcorefs check``: how many passed, what failed, what was left out here."""

    ok: int
    none: int
    failed: list[dict[str, str]]
    left_out: list[str]


@dataclass(frozen=True)
class Info:
    """Everything; field names are the keys of --json. Absent things are None, with the reason in *absent*."""

    schema: int
    version: str
    image: FileInfo
    container: ContainerInfo | None
    hsa: FileInfo | None
    hsa_size: FactInfo | None
    mode: FactInfo
    mode_reason: str
    crashkernel: dict[str, Any] | None
    system: SystemInfo | None
    hardware: FactInfo | None
    crashed_release: FactInfo | None
    build_id: FactInfo | None
    kernel_offset: FactInfo | None
    dump_kernel_release: FactInfo | None
    crash: CrashInfo
    os_info: dict[str, Any] | None
    vmcoreinfo: dict[str, Any] | None
    layout: str
    todpreg_size: FactInfo
    note_align: FactInfo
    image_load: FactInfo
    vector: FactInfo
    cpus: list[CpuInfo]
    cpus_origin: str
    cpus_left_out: list[str]
    physmem: FactInfo
    memory_map: list[list[int]]
    memory: list[dict[str, Any]]
    vmcore_size: int
    header_size: int
    phdrs: list[PhdrInfo]
    extents: list[ExtentInfo]
    vmlinux: Vmlinux
    commands: list[Command]
    checks: ChecksInfo
    absent: dict[str, str]
    problems: list[dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """For people, without colour."""
        from vmcorefs.report.text import info_text

        return info_text(self)


def make_info(dump: Dump, *, mountpoint: str | None = None) -> Info:
    """The facts of an open Dump; *mountpoint*: where it is mounted, for the command lines."""
    layout = dump.layout
    absent: dict[str, str] = {name: fact.reason for name, fact in (
        ("os_info", dump.os_info), ("vmcoreinfo", dump.metadata.found_vmcoreinfo if dump.vmcoreinfo is None else None),
        ("dump_kernel_release", dump.dump_vmcoreinfo)) if isinstance(fact, Absent)}
    crash = _read_crash(dump, absent)
    by_vmcoreinfo = _vmcoreinfo_origin(dump)
    build_id = printable(dump.vmcoreinfo.fields.get("BUILD-ID", ""))[:128] if dump.vmcoreinfo else ""
    offset = dump.vmcoreinfo.number("KERNELOFFSET") if dump.vmcoreinfo else None
    release = _release(dump.vmcoreinfo, by_vmcoreinfo)
    vmcore = f"{mountpoint or _FOLDER}/vmcore"
    checks, left_out = quick_checks(dump)
    return Info(
        schema=SCHEMA,
        version=__version__,
        image=_file(dump.image.files[0]),
        container=_container(dump),
        hsa=_file(dump.hsa) if dump.hsa is not None else None,
        hsa_size=_hsa_size(dump),
        mode=FactInfo(dump.mode.name, dump.mode_origin),
        mode_reason=dump.mode.reason,
        crashkernel=_crashkernel(dump),
        system=_system(dump, absent),
        hardware=_log_text(crash, "hardware", absent, "the log does not name it"),
        crashed_release=release,
        build_id=FactInfo(build_id, by_vmcoreinfo) if build_id else None,
        kernel_offset=None if offset is None else FactInfo(offset, by_vmcoreinfo),
        dump_kernel_release=_release(dump.dump_vmcoreinfo, "VMCOREINFO of the dump kernel"),
        crash=_crash(dump, crash, absent),
        os_info=_os_info(dump),
        vmcoreinfo=_vmcoreinfo(dump.vmcoreinfo),
        layout=layout.name,
        todpreg_size=_fact(layout.todpreg_size),
        note_align=_fact(layout.note_align),
        image_load=_fact(layout.image_load),
        vector=FactInfo(dump.vector, layout.vector.origin, layout.vector.assumed),
        cpus=list(_cpus(dump, crash)),
        cpus_origin=dump.found_cpus.origin,
        cpus_left_out=[printable(text) for text in (*dump.found_cpus.left_out,
                                                    *(dump.container_cpus.offline if dump.container_cpus is not None else ()))],
        physmem=FactInfo([list(r) for r in dump.physmem.value], dump.physmem.origin, dump.physmem.assumed),
        memory_map=[list(r) for r in dump.memory_map],
        memory=as_dicts(make_map(dump)),
        vmcore_size=dump.merged.size,
        header_size=len(dump.merged.header),
        phdrs=[PhdrInfo("PT_NOTE" if p.p_type == 4 else "PT_LOAD", p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_align)
               for p in dump.merged.phdrs],
        extents=[ExtentInfo(r.start, r.end - r.start, r.kind, r.address, None if r.file is None else printable(r.file.path),
                            None if r.file is None else r.source) for r in dump.vmcore.regions],
        vmlinux=find_vmlinux(None if release is None else release.value, build_id or None),
        commands=[Command(c.tool, printable(c.command), printable(c.note))
                  for c in make_commands(vmcore, offset, dump.capture, mounted=mountpoint is not None)],
        checks=ChecksInfo(sum(c.status == "ok" for c in checks), sum(c.status == "none" for c in checks),
                          [{"name": c.name, "text": c.text, "means": c.means, "advice": c.advice}
                           for c in checks if c.status == "failed"], left_out),
        absent=absent,
        problems=[asdict(problem) for problem in dump.problems],
    )


def _file(file: Any) -> FileInfo:
    modified = _utc(file.mtime_ns // 1_000_000_000)
    return FileInfo(printable(file.path), file.size, modified or "")


def _container(dump: Dump) -> ContainerInfo | None:
    """None for a raw image in one file."""
    container, files = dump.image.container, dump.image.files
    if container.format == "raw" and len(files) == 1 and not container.detail:
        return None

    def text(words: str | None) -> str | None:
        return None if words is None else printable(words)[:_TEXT_LIMIT]

    return ContainerInfo(
        container.format, container.writer, printable(container.detail)[:_TEXT_LIMIT], [printable(file.path) for file in files],
        [list(r) for r in container.memory], len(container.cpu_notes) or len(container.prefixes), container.vmcoreinfo is not None,
        container.dump_level, text(container.incomplete), None if container.time is None else _utc(int(container.time)),
        text(container.release), text(container.machine), [printable(problem)[:_TEXT_LIMIT] for problem in container.problems],
        [{"prefix": prefix.hex(), "psw": psw.hex()} for prefix, psw in map(prefix_and_psw, container.cpu_notes)]
        if dump.mode.crashkernel is not None else [])


def _utc(seconds: int) -> str | None:
    """ISO 8601; None for what is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


def _fact(fact: Any) -> FactInfo:
    return FactInfo(fact.value, fact.origin, fact.assumed)


def _hsa_size(dump: Dump) -> FactInfo | None:
    if not dump.mode.hsa_size:
        return None
    given = dump.capture.hsa_size is not None
    return FactInfo(dump.mode.hsa_size, dump.capture.origin("hsa_size") if given else "size of the HSA file")


def _crashkernel(dump: Dump) -> dict[str, Any] | None:
    area = dump.mode.crashkernel
    return {"base": area.base, "size": area.size, "origin": dump.mode_origin} if area else None


def _vmcoreinfo_origin(dump: Dump) -> str:
    origin = dump.vmcoreinfo.origin if dump.vmcoreinfo is not None else ""
    given = {"option": dump.capture.origin("vmcoreinfo"), "container": "VMCOREINFO in the container",
             "search": "VMCOREINFO of the crashed kernel, found by a search of its memory"}
    return given.get(origin, "VMCOREINFO of the crashed kernel")


def _release(info: Vmcoreinfo | Absent | None, origin: str) -> FactInfo | None:
    return FactInfo(info.osrelease, origin) if isinstance(info, Vmcoreinfo) and info.osrelease is not None else None


def _os_info(dump: Dump) -> dict[str, Any] | None:
    info = dump.os_info
    if not isinstance(info, OsInfo):
        return None
    return {"address": info.address, "version": f"{info.version[0]}.{info.version[1]}",
            "crashkernel_addr": info.crashkernel.base, "crashkernel_size": info.crashkernel.size,
            "kaslr_offset": info.value(KASLR_OFFSET), "used": dump.metadata.os_info_used,
            "origin": "search of the crashed system's memory" if "os_info" in dump.metadata.searched_for else
                      "page at the pointer 0xe18 of the crashed system's lowcore"}


def _vmcoreinfo(info: Vmcoreinfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    build_id = info.fields.get("BUILD-ID")
    return {"address": info.address, "size": len(info.desc), "origin": info.origin, "release": info.osrelease,
            "crashtime": info.number("CRASHTIME", 10), "build_id": None if build_id is None else printable(build_id)[:128],
            "kernel_offset": info.number("KERNELOFFSET"), "kernel_offset_phys": info.number("KERNELOFFPHYS"),
            "identity_base": info.number("IDENTITYBASE")}


def _system(dump: Dump, absent: dict[str, str]) -> SystemInfo | None:
    if dump.vmcoreinfo is None:
        names: Utsname | Absent = Absent("VMCOREINFO alone leads to the system's names")
    else:
        names = read_utsname(dump.oldmem.read, dump.vmcoreinfo)
    if isinstance(names, Absent):
        absent["system"] = names.reason
        return None
    return SystemInfo(**{key: printable(name) for key, name in names._asdict().items()}, origin="names in memory (init_uts_ns)")


def _read_crash(dump: Dump, absent: dict[str, str]) -> Crash | None:
    log = find_dmesg(dump)
    crash = log if isinstance(log, Absent) else read_crash(log)
    if isinstance(crash, Absent):
        absent["log"] = crash.reason
        return None
    return crash


def _log_text(crash: Crash | None, name: str, absent: dict[str, str] | None, reason: str,
              key: str | None = None) -> FactInfo | None:
    value = None if crash is None else getattr(crash, name)
    if value is None:
        if absent is not None:
            absent[key or name] = _without(crash, absent, reason)
        return None
    return FactInfo(printable(value), _LOG)


def _without(crash: Crash | None, absent: dict[str, str], reason: str) -> str:
    if crash is None:
        return absent["log"]
    return f"{reason} (its newest {crash.records} records were looked at)" if crash.partial else reason


def _crash(dump: Dump, crash: Crash | None, absent: dict[str, str]) -> CrashInfo:
    time = _crash_time(dump, absent)
    reason = _log_text(crash, "panic", absent, "no panic in the log", "crash.reason")
    uptime = None
    if crash is None or crash.last_timestamp is None:
        absent["crash.uptime"] = absent["log"]
    else:
        uptime = FactInfo(round(crash.last_timestamp / 1e9, 6), f"last line of the {_LOG}")
    if crash is None:
        return CrashInfo(time, uptime, reason, None, None, None, None, None, None, None)
    return CrashInfo(
        time, uptime, reason,
        cause=FactInfo([printable(c) for c in crash.cause], _LOG) if crash.cause else None,
        cpu=None if crash.cpu is None else FactInfo(crash.cpu, _LOG),
        task=_log_text(crash, "task", None, ""),
        pid=None if crash.pid is None else FactInfo(crash.pid, _LOG),
        location=_log_text(crash, "location", None, ""),
        call_trace=FactInfo([printable(f) for f in crash.call_trace], _LOG) if crash.call_trace else None,
        last_line=_log_text(crash, "last_line", None, ""))


def _crash_time(dump: Dump, absent: dict[str, str]) -> FactInfo | None:
    seconds = dump.vmcoreinfo.number("CRASHTIME", 10) if dump.vmcoreinfo else None
    text = _utc(seconds) if seconds else None
    if text is not None:
        return FactInfo(text, f"CRASHTIME in {_vmcoreinfo_origin(dump)}")
    absent["crash.time"] = (
        "no VMCOREINFO" if dump.vmcoreinfo is None else f"CRASHTIME is {seconds}, which is no time" if seconds is not None
        else "VMCOREINFO has no CRASHTIME: a kernel adds it when it starts a kdump kernel")
    return None


def _cpus(dump: Dump, crash: Crash | None) -> Iterator[CpuInfo]:
    for number, cpu in enumerate(dump.cpus, 1):
        psw = cpu.save_area.psw
        logical = _logical(dump, cpu.save_area.prefix_address) if cpu.logical is None else cpu.logical
        panicked = None if crash is None or crash.cpu is None or crash.panic is None or logical is None else crash.cpu == logical
        other = dump.container_cpus.in_memory.get(cpu.save_area.prefix_address) if dump.container_cpus else None
        yield CpuInfo(number, cpu.address, logical, cpu.save_area.prefix_address, psw[:8].hex(), psw[8:].hex(), describe_psw(psw),
                      panicked, cpu.origin, other.psw.hex() if other is not None else None)


def _logical(dump: Dump, prefix: int) -> int | None:
    """The logical number that the CPU's own lowcore bears."""
    try:
        number = int.from_bytes(dump.oldmem.read(prefix + CPU_NR, 4), "big")
    except OldmemReadError:
        return None
    return number if number < _CPU_LIMIT else None
