"""Command lines that open a dump in drgn, crash, gdb and makedumpfile, with its names and offsets filled in."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from vmcorefs.capture import FIELDS, Capture

_BUILD_ID = re.compile(r"[0-9a-f]{8,128}")


@dataclass(frozen=True)
class Command:
    """*command* is for a shell; *note*: what else is to be known, or ""."""

    tool: str
    command: str
    note: str


@dataclass(frozen=True)
class Vmlinux:
    """The file with debug information that a debugger needs: of exactly this kernel. *sources*: where to get it."""

    release: str | None
    build_id: str | None
    sources: list[str]


class _Source(NamedTuple):
    """*pattern*: releases of a distribution; *words*: where its vmlinux is, with the release in place of {0}."""

    pattern: re.Pattern[str]
    words: str


_SOURCES = (
    _Source(re.compile(r"\.(el|fc)\d"), "package kernel-debuginfo-{0}: /usr/lib/debug/lib/modules/{0}/vmlinux"),
    _Source(re.compile(r"-default$"), "package kernel-default-debuginfo of this version: /usr/lib/debug/boot/vmlinux-{0}.debug"),
    _Source(re.compile(r"-generic$"), "package linux-image-{0}-dbgsym: /usr/lib/debug/boot/vmlinux-{0}"),
    _Source(re.compile(r"-(s390x|rt-s390x|cloud-s390x)$"), "package linux-image-{0}-dbg: /usr/lib/debug/boot/vmlinux-{0}"),
)


def find_vmlinux(release: str | None, build_id: str | None) -> Vmlinux:
    """Which vmlinux, and where it may come from. *build_id* is used if it is one."""
    good = build_id if build_id is not None and _BUILD_ID.fullmatch(build_id) else None
    sources = []
    if release is not None and re.fullmatch(r"[\w.+~-]+", release):
        sources += [row.words.format(release) for row in _SOURCES if row.pattern.search(release)]
    if good is not None:
        sources.append(f"debuginfod-find debuginfo {good}")
    return Vmlinux(release, good, sources or ["the build directory of that kernel"])


def make_commands(vmcore: str, kernel_offset: int | None, capture: Capture, *, mounted: bool) -> Iterator[Command]:
    """The lines in the order in which they are needed; *vmcore* is the path where it is, or will be when it is mounted."""
    core, folder = shlex.quote(vmcore), shlex.quote(os.path.dirname(vmcore) or ".")
    image = " ".join(_image_words(capture))
    if not mounted:
        yield Command("mount", f"mkdir -p {folder} && vmcorefs mount {image} {folder}",
                      f"vmcore is then {vmcore}; without a mount: vmcorefs copy {image} vmcore")
    yield Command("drgn", f"drgn -c {core} -s vmlinux", f"on any host; without a mount: vmcorefs drgn {image} --vmlinux vmlinux")
    if kernel_offset:
        opened = f"-ex 'core {core}'" if core == vmcore else f"-c {core}"
        yield Command("gdb", f"gdb-multiarch -ex 'symbol-file -o {kernel_offset:#x} vmlinux' {opened}",
                      f"on any host; {kernel_offset:#x} is the KASLR offset, by which this kernel is off from vmlinux")
    else:
        yield Command("gdb", f"gdb-multiarch vmlinux {core}", "on any host")
    yield Command("crash", f"crash vmlinux {core}",
                  "an s390x program; elsewhere with qemu-s390x-static -L ROOT before it; it finds the KASLR offset itself")
    yield Command("makedumpfile", f"makedumpfile --non-mmap -c -d 31 {core} dump.kdump",
                  "an s390x program, too; writes a small copy without free and user pages")
    yield Command("log", f"vmcorefs dmesg {image}", "the whole log of the crashed kernel")
    if mounted:
        yield Command("umount", f"vmcorefs umount {folder}", "when you are done")


def _image_words(capture: Capture) -> Iterator[str]:
    """The image and the options that were given, as absolute paths, as they are written in a shell."""
    options = capture.as_options()
    yield shlex.quote(options["image"])
    for row in FIELDS:
        if row.name not in options:
            continue
        value = options[row.name]
        for one in value if row.repeatable else [value]:
            yield f"{row.option} {shlex.quote(_spelled(row.name, one))}"


def _spelled(name: str, value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"{value[0]:#x}{':' if name == 'oldmem' else '-'}{value[1]:#x}"
    return f"{value:#x}" if isinstance(value, int) else str(value)
