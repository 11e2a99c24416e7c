"""Info as text: for somebody who has never seen this tool and wants to know what machine this was, why it died, how to open it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from vmcorefs.errors import printable
from vmcorefs.quantities import human_size
from vmcorefs.ranges import total
from vmcorefs.report.crash import frames_worth_showing

if TYPE_CHECKING:
    from vmcorefs.report.info import CpuInfo, FactInfo, Info

_COLOURS = {"title": "1", "good": "32", "bad": "1;31", "warning": "33", "quiet": "2", "command": "36"}
_NAME = 18  # width of the names in front
_SHOWN = 24  # of long lists; all of them are in --json
_FRAMES = 8

_REGISTERS = {
    "save area list": "dump kernel's list of save areas",
    "lowcore_ptr": "crashed kernel's lowcores, by lowcore_ptr[]",
    "prefix scan": "crashed kernel's lowcores, found by a search",
    "HSA": "boot CPU's save area in the HSA",
    "none": "no registers were stored",
}


@dataclass(frozen=True)
class Style:
    """*colour*: terminal codes; *width*: where lines are broken, None: nowhere."""

    colour: bool = False
    width: int | None = None

    def paint(self, text: str, colour: str) -> str:
        """*text* in a colour of _COLOURS."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour and text else text

    def rows(self, rows: Sequence[tuple[str, str]], *, indent: int, width: int, colour: str | None = None) -> Iterator[str]:
        """Lines NAME TEXT, the text broken under itself."""
        for name, text in rows:
            yield from self.row(name, text, indent=indent, width=width, colour=colour)

    def row(self, name: str, text: str, aside: str = "", *, indent: int = 0, width: int = _NAME, colour: str | None = None,
            name_colour: str | None = None) -> Iterator[str]:
        """One of them; *aside* follows in a quiet colour."""
        words: list[tuple[str, str | None]] = [(word, colour) for word in text.split(" ")]
        words += [(word, "quiet") for word in f" {aside}".split(" ")] if aside else []
        margin = indent + width + 1
        room = None if self.width is None else max(self.width - margin, 24)
        lines: list[list[tuple[str, str | None]]] = [[]]
        used = 0
        for word, paint in words:
            if room is not None and lines[-1] and used + 1 + len(word) > room:
                lines.append([])
                used = 0
            lines[-1].append((word, paint))
            used += len(word) + (used > 0)
        padded = f"{name:{width}}"
        yield f"{' ' * indent}{self.paint(padded, name_colour) if name_colour else padded} {self._painted(lines[0])}".rstrip()
        for line in lines[1:]:
            yield " " * margin + self._painted(line)

    def _painted(self, words: Sequence[tuple[str, str | None]]) -> str:
        """Words in a line, those of one colour in one piece."""
        runs = [(colour, " ".join(word for word, _ in run)) for colour, run in groupby(words, key=lambda word: word[1])]
        return " ".join(text if colour is None else self.paint(text, colour) for colour, text in runs)


def for_stdout() -> Style:
    """Colour and breaks on a terminal only; no colour with NO_COLOR (no-color.org) or a dumb terminal."""
    if not sys.stdout.isatty():
        return Style()
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        width = 80
    return Style(colour, max(width - 1, 60))


def info_text(info: Info, style: Style | None = None) -> str:
    """The whole of it."""
    return "\n".join(_Text(info, style or Style()).lines()) + "\n"


class _Text:
    def __init__(self, info: Info, style: Style):
        self.info = info
        self.style = style

    def lines(self) -> Iterator[str]:
        for title, part in (("What machine this was", self._machine), ("Why it died", self._death), ("How to open it", self._open),
                            ("CPUs", self._cpus), ("Memory", self._memory), ("How this was found out", self._evidence),
                            ("Is it sound?", self._checks)):
            if title != "What machine this was":
                yield ""
            yield self.style.paint(title, "title")
            yield from part()

    def _row(self, name: str, text: str, fact: FactInfo | None = None, origin: str | None = None) -> Iterator[str]:
        if fact is not None:
            origin = f"{fact.origin}{', assumed' if fact.assumed else ''}"
        return self.style.row(f"{name}:", text, f"[{origin}]" if origin else "", indent=2, width=_NAME)

    def _known(self, name: str, fact: FactInfo | None, key: str, text: str | None = None) -> Iterator[str]:
        if fact is None:
            reason = self.info.absent.get(key, "nothing says it")
            if reason == self.info.absent.get("log") and key != "crash.reason":
                reason = "there is no log, see why"
            return self._row(name, f"not known ({reason})")
        return self._row(name, str(fact.value) if text is None else text, fact)

    def _machine(self) -> Iterator[str]:
        info = self.info
        if info.system is not None:
            names = info.system
            yield from self._row("system", f"{names.sysname} {names.nodename} {names.release} {names.version} {names.machine}",
                                 origin=names.origin)
        else:
            yield from self._row("system", f"not known ({info.absent.get('system', 'nothing says it')})")
        yield from self._known("crashed kernel", info.crashed_release, "vmcoreinfo")
        yield from self._known("build id", info.build_id, "vmcoreinfo")
        yield from self._known("KASLR offset", info.kernel_offset, "vmcoreinfo",
                               None if info.kernel_offset is None else
                               f"{info.kernel_offset.value:#x}{' (none)' if not info.kernel_offset.value else ''}")
        yield from self._known("hardware", info.hardware, "hardware")

    def _death(self) -> Iterator[str]:
        info, crash = self.info, self.info.crash
        yield from self._known("when", crash.time, "crash.time", None if crash.time is None else
                               str(crash.time.value).replace("T", " ").replace("Z", " UTC"))
        if crash.time is None:
            yield from self._row("not later than", info.image.modified.replace("T", " ").replace("Z", " UTC"),
                                 origin="when the image file was last written")
        yield from self._known("uptime", crash.uptime, "crash.uptime", None if crash.uptime is None else _time(crash.uptime.value))
        yield from self._known("why", crash.reason, "crash.reason")
        if crash.cause is not None:
            yield from self._row("cause", "; ".join(crash.cause.value), crash.cause)
        if crash.cpu is not None:
            who = "" if crash.task is None or crash.pid is None else f", in task {crash.task.value} (PID {crash.pid.value})"
            yield from self._row("where", f"on CPU {crash.cpu.value}{who}", crash.cpu)
        if crash.location is not None:
            yield from self._row("at", str(crash.location.value), crash.location)
        if crash.call_trace is not None:
            frames = list(frames_worth_showing(crash.call_trace.value))
            more = ["..."] if len(frames) > _FRAMES else []
            yield from self._row("call trace", " <- ".join(frames[:_FRAMES] + more), crash.call_trace)
        if crash.reason is None and crash.last_line is not None:
            yield from self._row("last log line", str(crash.last_line.value), crash.last_line)

    def _open(self) -> Iterator[str]:
        info = self.info
        vmlinux = info.vmlinux
        if vmlinux.release is not None:
            build_id = f", build id {vmlinux.build_id} (readelf -n vmlinux shows it)" if vmlinux.build_id else ""
            yield from self._row("you need", f"vmlinux with debug information of exactly this kernel: {vmlinux.release}{build_id}")
            for number, source in enumerate(vmlinux.sources):
                yield from self._row("from" if not number else "or from", source)
        else:
            yield from self._row("you need", "vmlinux with debug information of the crashed kernel, whose release is not known")
        for command in info.commands:
            yield f"  {command.tool + ':':{_NAME}} {self.style.paint(command.command, 'command')}"
            if command.note:
                yield from self.style.row("", f"({command.note})", indent=2, width=_NAME, colour="quiet")

    def _cpus(self) -> Iterator[str]:
        info = self.info
        words = _REGISTERS.get(info.cpus_origin)
        yield from self._row("registers of", f"{len(info.cpus)} CPU(s)", origin=info.cpus_origin + (f": {words}" if words else ""))
        for cpu in info.cpus[:_SHOWN]:
            other = f"[{cpu.origin}]" if cpu.origin != info.cpus_origin else ""
            yield from self.style.row(f"CPU {cpu.number}:", _cpu(cpu), other, indent=2, width=_NAME)
        if len(info.cpus) > _SHOWN:
            yield from self._row("more", f"{len(info.cpus) - _SHOWN} CPUs, see --json")
        for text in info.cpus_left_out[:_SHOWN]:
            yield from self._row("left out", text)

    def _memory(self) -> Iterator[str]:
        info = self.info
        yield from self._row("memory", f"{human_size(total((a, b) for a, b in info.memory_map))} served", info.physmem)
        for row in info.memory[:_SHOWN]:
            yield from self.style.row("", _memory_row(row, raw=info.container is None or info.container.format == "raw"), indent=2,
                                      width=_NAME)
        if len(info.memory) > _SHOWN:
            yield from self._row("more", f"{len(info.memory) - _SHOWN} ranges, see --json or --map")
        yield from self._row("vmcore", f"{info.vmcore_size} bytes, of which {info.header_size} are header")

    def _evidence(self) -> Iterator[str]:
        info = self.info
        yield from self._row("image", f"{info.image.path} ({human_size(info.image.size)})")
        yield from self._container()
        if info.hsa is not None and info.hsa_size is not None:
            yield from self._row("HSA", f"{info.hsa.path} ({human_size(info.hsa_size.value)} of it are used)", info.hsa_size)
        yield from self._row("mode", f"{info.mode.value}: {info.mode_reason}", info.mode)
        if info.crashkernel is not None:
            base, size = info.crashkernel["base"], info.crashkernel["size"]
            yield from self._row("crashkernel", f"B={base:#x} S={size:#x}: [0, {size:#x}) and [{base:#x}, {base + size:#x}) have "
                                 "changed places", origin=info.crashkernel["origin"])
        yield from self._known("dump kernel", info.dump_kernel_release, "dump_kernel_release")
        if info.os_info is not None:
            yield from self._row("os_info", f"at {info.os_info['address']:#x}, version {info.os_info['version']}, checksum right",
                                 origin=info.os_info["origin"])
        else:
            yield from self._row("os_info", info.absent.get("os_info", "none"))
        if info.vmcoreinfo is not None:
            where = "" if info.vmcoreinfo["address"] is None else f" at {info.vmcoreinfo['address']:#x}"
            yield from self._row("VMCOREINFO", f"{info.vmcoreinfo['size']} bytes{where}", origin=info.vmcoreinfo["origin"])
        else:
            yield from self._row("VMCOREINFO", info.absent.get("vmcoreinfo", "none"))
        yield from self._row("layout", f"{info.layout} (which kernel's bytes the header has)")
        yield from self._row("TODPREG note", f"{info.todpreg_size.value} bytes", info.todpreg_size)
        yield from self._row("PT_NOTE align", str(info.note_align.value), info.note_align)
        yield from self._row("kernel image", "PT_LOAD of its own" if info.image_load.value else "no PT_LOAD of its own",
                             info.image_load)
        yield from self._row("vector notes", "of all CPUs" if info.vector.value else "none", info.vector)

    def _container(self) -> Iterator[str]:
        container = self.info.container
        if container is None:
            return
        if len(container.parts) > 1:
            names = [os.path.basename(part) for part in container.parts]
            yield from self._row("parts", f"{len(names)} files: {names[0]} ... {names[-1]}")
        has = [f"{container.cpus} CPU(s)" if container.cpus else "", "VMCOREINFO" if container.vmcoreinfo else "",
               f"{len(container.memory)} memory range(s)" if container.memory else "", f"time {container.time}" if container.time else "",
               f"release {container.release}" if container.release else ""]
        yield from self._row("container", f"{container.detail or container.format}; it states "
                             f"{', '.join(filter(None, has)) or 'nothing else'}")
        for number, cpu in enumerate(container.not_served[:_SHOWN], 1):
            yield from self._row("not served", f"CPU {number} of the container, prefix {cpu['prefix'] or 'unknown'}, PSW {cpu['psw'][:16]} "
                                 f"{cpu['psw'][16:]}", origin="the dump kernel's: the container was written while it ran")
        if container.incomplete:
            yield from self._row("INCOMPLETE", container.incomplete)

    def _checks(self) -> Iterator[str]:
        checks = self.info.checks
        text = f"{checks.ok} checks passed, {len(checks.failed)} failed, {checks.none} had nothing to look at"
        yield from self._row("checks", f"{text}; vmcorefs check says more, and runs {' and '.join(checks.left_out)} as well")
        for row in checks.failed:
            yield from self.style.row("failed:", f"{row['name']}: {row['text']}", indent=2, name_colour="bad")
        texts = {row["text"] for row in checks.failed}
        for problem in self.info.problems:
            if problem["text"] not in texts:
                yield from self.style.row("warning:", printable(problem["text"]), indent=2, width=_NAME, colour="warning")


def _time(seconds: float) -> str:
    """14.28 s, or 3 d 04:05:06.78."""
    if seconds < 60:
        return f"{seconds:.2f} s"
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{f'{days:.0f} d ' if days else ''}{hours:02.0f}:{minutes:02.0f}:{rest:05.2f} h"


def _cpu(cpu: CpuInfo) -> str:
    names = [f"{word} {value}" for word, value in (("logical", cpu.logical), ("address", cpu.address)) if value is not None]
    panicked = "; this one panicked" if cpu.panicked else ""
    other = f"; its save area in memory has other registers, PSW {cpu.in_memory[:16]} {cpu.in_memory[16:]}" if cpu.in_memory else ""
    return f"{', '.join([*names, f'prefix {cpu.prefix:#x}'])} PSW {cpu.psw_mask} {cpu.psw_address}: {cpu.state}{panicked}{other}"


def _memory_row(row: dict[str, object], *, raw: bool) -> str:
    start, end, kind = row["start"], row["end"], row["kind"]
    assert isinstance(start, int) and isinstance(end, int)
    text = f"{start:#x}-{end:#x} ({human_size(end - start)})"
    if kind == "crashkernel":
        return f"{text} not served: crashkernel area, the dump kernel's"
    if kind == "hole":
        return f"{text} hole: no memory"
    if kind == "missing":
        return f"{text} MISSING: beyond the end of the image"
    name = os.path.basename(str(row["source"]))
    if not raw and kind != "HSA":
        return f"{text} {kind}: address {row['source_offset']:#x} of the memory in {name}"
    return f"{text} {kind}: in {name} at {row['source_offset']:#x}"
