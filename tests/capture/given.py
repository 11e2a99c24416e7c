"""Registers as the files of --cpu-state have them, written here from the builders' CPUs; and the vmcore that must come of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.builders import Built, CpuState, Model, Registers
from tests.builders.lowcore import SAVE_AREA, SIZE

Json = dict[str, Any]
TEXT_LACKS = {"fpc": 4, "todpreg": 4, "timer": 8, "todcmp": 8, "acrs": 64}  # what QEMU's info registers does not print


def states_of(built: Built) -> list[CpuState]:
    """The CPUs of a machine that are online, by logical number."""
    return [CpuState(built.places[f"lowcore[{number}]"], Registers.from_seed(cpu.address).with_vector_enabled(True))
            for number, cpu in enumerate(built.machine.cpus) if cpu.online]


def model_with(built: Built, cpus: Iterable[CpuState], *, vector: bool = True) -> Model:
    """What the kernel would have served, had it known these CPUs."""
    return Model(replace(built.model.facts, cpus=tuple(cpus), vector=vector), built.model.old_page)


def numbers(data: bytes, width: int) -> list[str]:
    return [f"0x{data[at:at + width].hex()}" for at in range(0, len(data), width)]


def as_json(state: CpuState, *, vectors: bool = True, **more: object) -> Json:
    """One CPU, the todcmp as STORE STATUS has it."""
    r = state.registers
    found: Json = {
        "prefix": f"{state.prefix:#010x}", "psw": numbers(r.psw, 8), "gprs": numbers(r.gprs, 8), "acrs": numbers(r.acrs, 4),
        "fprs": numbers(r.fprs, 8), "fpc": "0x" + r.fpc.hex(), "todpreg": "0x" + r.todpreg.hex(), "timer": "0x" + r.timer.hex(),
        "todcmp": "0x" + r.todcmp.hex(), "ctrs": numbers(r.ctrs, 8)}
    if vectors:
        found |= {"vxrs_low": numbers(r.vxrs_low, 8), "vxrs_high": numbers(r.vxrs_high, 16)}
    return found | more


def without(table: Mapping[str, Any], *keys: str) -> Json:
    return {key: value for key, value in table.items() if key not in keys}


def lowcore_page(state: CpuState) -> bytes:
    """A prefix page with nothing but the save area in it."""
    page = bytearray(SIZE)
    status = state.store_status()
    page[SAVE_AREA:SAVE_AREA + len(status)] = status
    return bytes(page)


def info_registers(cpus: Mapping[int, CpuState] | Sequence[CpuState], *, end: str = "\n", vectors: bool = True) -> str:
    """The text of QEMU's ``info registers -a`` (target/s390x/cpu-dump.c), by CPU address."""
    lines: list[str] = []
    for address, state in cpus.items() if isinstance(cpus, Mapping) else enumerate(cpus):
        r = state.registers
        lines += ["", f"CPU#{address}", f"PSW=mask {r.psw[:8].hex()} addr {r.psw[8:].hex()} cc 00"]
        lines += _rows("R", r.gprs, 8, 4)
        lines += _rows("V", r.vxrs, 16, 2) if vectors else _rows("F", r.fprs, 8, 4)
        lines += [*_rows("C", r.ctrs, 8, 4), ""]
    return "".join(line + end for line in lines)


def _rows(kind: str, data: bytes, width: int, a_line: int) -> list[str]:
    words = [f"{kind}{at // width:02}={data[at:at + width].hex()}" for at in range(0, len(data), width)]
    return [" ".join(words[at:at + a_line]) for at in range(0, len(words), a_line)]


def as_in_text(state: CpuState) -> CpuState:
    """What a CPU is after it went through that text."""
    return replace(state, registers=replace(state.registers, **{name: bytes(size) for name, size in TEXT_LACKS.items()}))


def written(path: Path, content: object) -> Path:
    """bytes and text as they are, everything else as JSON."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
