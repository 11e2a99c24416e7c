"""The small files beside vmcore in a mount: SMALL_FILES is their one table. What cannot be made is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.report.info import make_info
from vmcorefs.s390.lowcore import SIZE
from vmcorefs.s390.save_area import STATUS_FIELDS

if TYPE_CHECKING:
    from vmcorefs.dump import Dump

Files = Iterator[tuple[str, bytes]]


class SmallFile(NamedTuple):
    """*name*: a file or folder; *make*: (path, bytes) of each file that can be made of a dump."""

    name: str
    make: Callable[[Dump, str | None], Files]


def _vmcoreinfo(dump: Dump, _mountpoint: str | None) -> Files:
    if dump.vmcoreinfo is not None:
        yield "vmcoreinfo.txt", dump.vmcoreinfo.desc


def _info(dump: Dump, mountpoint: str | None) -> Files:
    yield "info.json", (json.dumps(make_info(dump, mountpoint=mountpoint).as_dict(), indent=1) + "\n").encode()


def _cpus(dump: Dump, _mountpoint: str | None) -> Files:
    """cpus/N/, N as in pr_pid of the CPU's NT_PRSTATUS. registers.json can be given to --cpu-state."""
    for number, cpu in enumerate(dump.cpus, 1):
        area = cpu.save_area
        registers: dict[str, object] = {"number": number, "address": cpu.address, "origin": cpu.origin}
        registers |= {name: _values(getattr(area, name), width) for name, width in _WIDTHS.items()}
        if dump.vector and area.vxrs_low is not None and area.vxrs_high is not None:
            registers |= {"vxrs_low": _values(area.vxrs_low, 8), "vxrs_high": _values(area.vxrs_high, 16)}
        yield f"cpus/{number}/registers.json", (json.dumps(registers, indent=1) + "\n").encode()
        try:
            yield f"cpus/{number}/lowcore.bin", dump.oldmem.read(area.prefix_address, SIZE)
        except OldmemReadError:
            continue


_WIDTHS = {"psw": 8, "gprs": 8, "acrs": 4, "fprs": 8, "fpc": 4, "prefix": 4, "todpreg": 4, "timer": 8, "todcmp": 8, "ctrs": 8}
assert set(_WIDTHS) == set(STATUS_FIELDS)


def _values(data: bytes, width: int) -> str | list[str]:
    values = ["0x" + data[at:at + width].hex() for at in range(0, len(data), width)]
    return values[0] if len(values) == 1 else values


SMALL_FILES: tuple[SmallFile, ...] = (
    SmallFile("vmcoreinfo.txt", _vmcoreinfo),
    SmallFile("info.json", _info),
    SmallFile("cpus", _cpus),
)


def small_files(dump: Dump, mountpoint: str | None = None) -> Files:
    """(path, bytes) of all small files that can be made; *mountpoint*: where they will be."""
    for row in SMALL_FILES:
        yield from row.make(dump, mountpoint)
