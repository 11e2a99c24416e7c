"""Registers of CPUs from outside the image: a saved lowcore page, JSON, or the text of QEMU's ``info registers``.

A field that the file does not have is not in CpuState.fields; who makes notes of it must say so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmcorefs.errors import ImageError, shown
from vmcorefs.s390.lowcore import SIZE, STATUS, STATUS_SIZE, is_prefix
from vmcorefs.s390.save_area import STATUS_FIELDS, from_status

TEXT_LIMIT = 16 << 20  # of a file
_CPU_LIMIT = 65536

# JSON keys: field -> (number of values, bytes of each)
_JSON_FIELDS: Mapping[str, tuple[int, int]] = {
    "psw": (2, 8), "gprs": (16, 8), "acrs": (16, 4), "fprs": (16, 8), "fpc": (1, 4), "prefix": (1, 4), "todpreg": (1, 4),
    "timer": (1, 8), "todcmp": (1, 8), "ctrs": (16, 8), "vxrs_low": (16, 8), "vxrs_high": (16, 16),
}
_WORDS = {"psw": "PSW", "gprs": "general registers", "acrs": "access registers", "fprs": "floating point registers",
          "fpc": "FPC", "prefix": "prefix", "todpreg": "TOD programmable register", "timer": "CPU timer",
          "todcmp": "clock comparator", "ctrs": "control registers"}


@dataclass(frozen=True)
class CpuState:
    """What a file says of one CPU: *fields* of a SaveArea as bytes, *address* the CPU address if it is told.

    *one_of_all*: the file lists all CPUs of the machine, those that were offline, too.
    """

    source: str
    fields: Mapping[str, bytes]
    address: int | None = None
    one_of_all: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Names (for people) of the registers that the file does not have, vector registers aside."""
        return tuple(_WORDS[name] for name in STATUS_FIELDS if name not in self.fields)


def parse_cpu_state(data: bytes, name: str) -> tuple[CpuState, ...]:
    """The CPUs in a file's bytes; *name* is for messages. Raises ImageError with what is wrong with it."""
    text = data.decode("utf-8", "replace")
    if text.lstrip()[:1] in {"{", "["}:
        return _from_json(text, name)
    if re.search(r"^\s*PSW=", text, re.MULTILINE):
        return _from_info_registers(text, name)
    if len(data) != SIZE:
        raise ImageError(f"{name}: {len(data)} bytes are no lowcore page, which has {SIZE} (and it is neither JSON nor the text "
                         "of QEMU's info registers)")
    area = from_status(data[STATUS:STATUS + STATUS_SIZE])
    if not area.prefix_address:
        raise ImageError(f"{name}: no registers were stored in this lowcore page (its prefix field at 0x1318 is 0)")
    if not is_prefix(area.prefix_address):
        raise ImageError(f"{name}: no lowcore page: its prefix field at 0x1318 is {area.prefix_address:#x}, which is no address of a "
                         "lowcore")
    return (CpuState(name, {field: getattr(area, field) for field in STATUS_FIELDS}),)


def _from_json(text: str, name: str) -> tuple[CpuState, ...]:
    """A CPU, a list of CPUs, {"cpus": [...]}, or what QMP and virsh return of info registers: {"return": "CPU#0 ..."}."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{name}: no JSON ({str(error)[:200]})") from None
    if isinstance(value, dict) and isinstance(value.get("return"), str):
        return _from_info_registers(value["return"], name)
    if isinstance(value, dict) and isinstance(value.get("cpus"), list):
        value = value["cpus"]
    cpus = value if isinstance(value, list) else [value]
    if not cpus or len(cpus) > _CPU_LIMIT:
        raise ImageError(f"{name}: {len(cpus)} CPUs are in it")
    return tuple(_json_cpu(cpu, f"{name}: CPU {number}" if len(cpus) > 1 else name) for number, cpu in enumerate(cpus))


def _json_cpu(cpu: Any, name: str) -> CpuState:
    if not isinstance(cpu, dict) or cpu.get("psw") is None or cpu.get("gprs") is None:
        raise ImageError(f"{name}: this JSON is not a CPU; psw and gprs must be in it (known keys: {', '.join(_JSON_FIELDS)}, "
                         "address, clock_comparator)")
    fields = {key: _json_bytes(cpu[key], count, size, f"{name}: {key}")
              for key, (count, size) in _JSON_FIELDS.items() if cpu.get(key) is not None}
    if cpu.get("clock_comparator") is not None:
        # The register itself, as QEMU has it; STORE STATUS keeps bits 0..55 behind a zero byte.
        register = _json_bytes(cpu["clock_comparator"], 1, 8, f"{name}: clock_comparator")
        fields.setdefault("todcmp", b"\0" + register[:7])
    prefix = int.from_bytes(fields.get("prefix", b""), "big")
    if prefix and not is_prefix(prefix):
        raise ImageError(f"{name}: prefix {prefix:#x} is no address of a lowcore (a multiple of 0x2000 below 2 GiB)")
    return CpuState(name, fields, _json_address(cpu.get("address"), name))


def _json_address(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _CPU_LIMIT:
        raise ImageError(f"{name}: address {shown(value)} is no CPU address")
    return value


def _json_bytes(value: Any, count: int, size: int, where: str) -> bytes:
    """One value or a list of *count*, each a number or hex text, *size* bytes wide; or hex text of all of them."""
    if isinstance(value, list) and len(value) == 2 * count and size == 16:  # vector registers in halves
        count, size = 2 * count, 8
    if isinstance(value, str) and count > 1:
        digits = value.replace(" ", "").removeprefix("0x")
        try:
            data = bytes.fromhex(digits)
        except ValueError:
            data = b""
        if len(data) == count * size:
            return data
        raise ImageError(f"{where}: {value[:40]!r} is no {count * size} bytes in hex")
    values = value if isinstance(value, list) else [value]
    if len(values) != count:
        raise ImageError(f"{where}: {len(values)} values, not {count}")
    parts = []
    for one in values:
        try:
            number = int(one, 16) if isinstance(one, str) else int(one)
            if isinstance(one, (bool, float)):
                raise ValueError
            parts.append(number.to_bytes(size, "big"))
        except (ValueError, TypeError, OverflowError):
            raise ImageError(f"{where}: {shown(one)} is no {size}-byte number") from None
    return b"".join(parts)



# QEMU target/s390x/cpu_dump: CPU#N, PSW=mask M addr A, Rnn=, Fnn= or Vnn=, Cnn=
_REGISTER = re.compile(r"\b([RFVCA])(\d\d)=([0-9a-fA-F]+)")
_PSW = re.compile(r"PSW=mask ([0-9a-fA-F]{16}) addr ([0-9a-fA-F]{16})")


def _from_info_registers(text: str, name: str) -> tuple[CpuState, ...]:
    parts = re.split(r"^\s*CPU#(\d+)\s*$", text, flags=re.MULTILINE)
    pairs = list(zip(parts[1::2], parts[2::2], strict=True)) or [("", text)]
    return tuple(_info_registers_cpu(body, int(number) if number else None, f"{name}: CPU#{number}" if number else name)
                 for number, body in pairs)


def _info_registers_cpu(text: str, address: int | None, name: str) -> CpuState:
    psw = _PSW.search(text)
    if psw is None:
        raise ImageError(f"{name}: no line PSW=mask ... addr ... is in it")
    found: dict[str, dict[int, str]] = {}
    for kind, number, digits in _REGISTER.findall(text):
        found.setdefault(kind, {})[int(number)] = digits
    fields = {"psw": bytes.fromhex(psw[1] + psw[2])}
    for kind, key in (("R", "gprs"), ("F", "fprs"), ("C", "ctrs")):
        if kind in found:
            fields[key] = _all_of(found[kind], 16, 16, f"{name}: {kind}nn")
    if "V" in found:
        vectors = _all_of(found["V"], 32, 32, f"{name}: Vnn")
        fields["fprs"] = b"".join(vectors[16 * i:16 * i + 8] for i in range(16))
        fields["vxrs_low"] = b"".join(vectors[16 * i + 8:16 * i + 16] for i in range(16))
        fields["vxrs_high"] = vectors[256:]
    if "gprs" not in fields:
        raise ImageError(f"{name}: no general registers (R00=...) are in it")
    return CpuState(name, fields, address, one_of_all=True)


def _all_of(registers: Mapping[int, str], count: int, digits: int, where: str) -> bytes:
    if sorted(registers) != list(range(count)) or any(len(text) != digits for text in registers.values()):
        raise ImageError(f"{where}: {len(registers)} registers, not {count} of {digits} hex digits; the text is cut")
    return b"".join(bytes.fromhex(registers[i]) for i in range(count))
