"""Info: what an image is and what is served of it, every fact with its origin; as dataclasses, as JSON, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vmcorefs.errors import printable
from vmcorefs.quantities import human_size
from vmcorefs.ranges import total
from vmcorefs.s390 import Absent
from vmcorefs.s390.os_info import KASLR_OFFSET, OsInfo
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

if TYPE_CHECKING:
    from vmcorefs.dump import Dump

SCHEMA = 1


@dataclass(frozen=True)
class FileInfo:
    """A source file."""

    path: str
    size: int


@dataclass(frozen=True)
class FactInfo:
    """A fact, where it came from, and whether it was assumed."""

    value: Any
    origin: str
    assumed: bool = False


@dataclass(frozen=True)
class CpuInfo:
    """A CPU with notes: *number* is pr_pid of its NT_PRSTATUS; psw and prefix as hex text."""

    number: int
    address: int | None
    logical: int | None
    prefix: int
    psw_mask: str
    psw_address: str
    origin: str


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
    """Bytes of vmcore and where they come from: *kind* is header, direct, swapped or HSA."""

    offset: int
    length: int
    kind: str
    address: int | None
    source: str | None
    source_offset: int | None


@dataclass(frozen=True)
class Info:
    """Everything; field names are the keys of --json. Absent things are None, with the reason in *absent*."""

    schema: int
    image: FileInfo
    hsa: FileInfo | None
    hsa_size: int
    mode: FactInfo
    mode_reason: str
    crashkernel: dict[str, int] | None
    crashed_release: FactInfo | None
    dump_kernel_release: FactInfo | None
    os_info: dict[str, Any] | None
    vmcoreinfo: dict[str, Any] | None
    layout: str
    todpreg_size: FactInfo
    note_align: FactInfo
    image_load: FactInfo
    vector: FactInfo
    cpus: list[CpuInfo]
    cpus_origin: str
    physmem: FactInfo
    memory_map: list[list[int]]
    vmcore_size: int
    header_size: int
    phdrs: list[PhdrInfo]
    extents: list[ExtentInfo]
    absent: dict[str, str]
    problems: list[dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """For people, a line a fact."""
        return "\n".join(_lines(self)) + "\n"


def make_info(dump: Dump) -> Info:
    """The facts of an open Dump."""
    layout, area = dump.layout, dump.mode.crashkernel
    absent = {name: fact.reason for name, fact in (
        ("os_info", dump.os_info), ("vmcoreinfo", dump.found_vmcoreinfo if dump.vmcoreinfo is None else None),
        ("dump_kernel_release", dump.dump_vmcoreinfo)) if isinstance(fact, Absent)}
    return Info(
        schema=SCHEMA,
        image=FileInfo(printable(dump.image.path), dump.image.size),
        hsa=FileInfo(printable(dump.hsa.path), dump.hsa.size) if dump.hsa is not None else None,
        hsa_size=dump.mode.hsa_size,
        mode=FactInfo(dump.mode.name, dump.mode_origin),
        mode_reason=dump.mode.reason,
        crashkernel={"base": area.base, "size": area.size} if area else None,
        crashed_release=_release(dump.vmcoreinfo, "VMCOREINFO of the crashed kernel"),
        dump_kernel_release=_release(dump.dump_vmcoreinfo, "VMCOREINFO of the dump kernel"),
        os_info=_os_info(dump.os_info),
        vmcoreinfo=_vmcoreinfo(dump.vmcoreinfo),
        layout=layout.name,
        todpreg_size=_fact(layout.todpreg_size),
        note_align=_fact(layout.note_align),
        image_load=_fact(layout.image_load),
        vector=FactInfo(dump.vector, layout.vector.origin, layout.vector.assumed),
        cpus=[CpuInfo(number, cpu.address, cpu.logical, cpu.save_area.prefix_address, cpu.save_area.psw[:8].hex(),
                      cpu.save_area.psw[8:].hex(), cpu.origin) for number, cpu in enumerate(dump.cpus, 1)],
        cpus_origin=dump.found_cpus.origin,
        physmem=FactInfo([list(r) for r in dump.physmem.value], dump.physmem.origin, dump.physmem.assumed),
        memory_map=[list(r) for r in dump.memory_map],
        vmcore_size=dump.merged.size,
        header_size=len(dump.merged.header),
        phdrs=[PhdrInfo("PT_NOTE" if p.p_type == 4 else "PT_LOAD", p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_align)
               for p in dump.merged.phdrs],
        extents=[ExtentInfo(r.start, r.end - r.start, r.kind, r.address, None if r.file is None else printable(r.file.path),
                            None if r.file is None else r.source) for r in dump.vmcore.regions],
        absent=absent,
        problems=[asdict(problem) for problem in dump.problems],
    )


def _fact(fact: Any) -> FactInfo:
    return FactInfo(fact.value, fact.origin, fact.assumed)


def _release(info: Vmcoreinfo | Absent | None, origin: str) -> FactInfo | None:
    if not isinstance(info, Vmcoreinfo) or info.osrelease is None:
        return None
    return FactInfo(info.osrelease, "option --vmcoreinfo" if info.origin == "option" else origin)


def _os_info(info: OsInfo | Absent) -> dict[str, Any] | None:
    if isinstance(info, Absent):
        return None
    return {"address": info.address, "version": f"{info.version[0]}.{info.version[1]}",
            "crashkernel_addr": info.crashkernel.base, "crashkernel_size": info.crashkernel.size,
            "kaslr_offset": info.value(KASLR_OFFSET)}


def _vmcoreinfo(info: Vmcoreinfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {"address": info.address, "size": len(info.desc), "origin": info.origin, "release": info.osrelease,
            "crashtime": info.number("CRASHTIME", 10), "build_id": info.fields.get("BUILD-ID"),
            "kernel_offset": info.number("KERNELOFFSET")}


def _lines(info: Info) -> Iterator[str]:
    def row(name: str, text: str, fact: FactInfo | None = None) -> str:
        origin = "" if fact is None else f"  [{fact.origin}{', assumed' if fact.assumed else ''}]"
        return f"{name + ':':18} {text}{origin}"

    yield row("image", f"{info.image.path} ({human_size(info.image.size)})")
    if info.hsa:
        yield row("HSA", f"{info.hsa.path} ({human_size(info.hsa_size)} of it are used)")
    yield row("mode", f"{info.mode.value}: {info.mode_reason}", info.mode)
    if info.crashkernel:
        base, size = info.crashkernel["base"], info.crashkernel["size"]
        yield row("crashkernel", f"B={base:#x} S={size:#x}: [0, {size:#x}) and [{base:#x}, {base + size:#x}) have changed places")
    for name, key, fact in (("crashed kernel", "crashed_release", info.crashed_release),
                            ("dump kernel", "dump_kernel_release", info.dump_kernel_release)):
        yield row(name, fact.value if fact else f"not known ({info.absent.get(key, 'it does not say')})", fact)
    if info.os_info:
        yield row("os_info", f"at {info.os_info['address']:#x}, version {info.os_info['version']}, checksum right")
    else:
        yield row("os_info", info.absent.get("os_info", "none"))
    if info.vmcoreinfo:
        where = "" if info.vmcoreinfo["address"] is None else f" at {info.vmcoreinfo['address']:#x}"
        yield row("VMCOREINFO", f"{info.vmcoreinfo['size']} bytes{where}  [{info.vmcoreinfo['origin']}]")
        if info.vmcoreinfo["build_id"]:
            yield row("  build id", printable(info.vmcoreinfo["build_id"]))
        if info.vmcoreinfo["kernel_offset"] is not None:
            yield row("  KASLR offset", f"{info.vmcoreinfo['kernel_offset']:#x}")
    else:
        yield row("VMCOREINFO", info.absent.get("vmcoreinfo", "none"))
    yield row("layout", info.layout)
    yield row("  TODPREG note", f"{info.todpreg_size.value} bytes", info.todpreg_size)
    yield row("  PT_NOTE align", str(info.note_align.value), info.note_align)
    yield row("  kernel image", "PT_LOAD of its own" if info.image_load.value else "no PT_LOAD of its own", info.image_load)
    yield row("  vector notes", "of all CPUs" if info.vector.value else "none", info.vector)
    yield row("CPUs", f"{len(info.cpus)}  [{info.cpus_origin}]")
    for cpu in info.cpus:
        where = "" if cpu.address is None else f" address {cpu.address}"
        yield row(f"  CPU {cpu.number}", f"{where} prefix {cpu.prefix:#x} PSW {cpu.psw_mask} {cpu.psw_address}".strip())
    yield row("memory", f"{human_size(total((a, b) for a, b in info.memory_map))} served", info.physmem)
    for start, end in info.memory_map:
        yield f"{'':18} {start:#x}-{end:#x} ({human_size(end - start)})"
    yield row("vmcore", f"{info.vmcore_size} bytes, of which {info.header_size} are header")
    for problem in info.problems:
        yield row("warning", problem["text"])
