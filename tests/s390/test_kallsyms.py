"""Symbols out of a crashed kernel's own compressed table: a small one made by hand, and a real one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.captures import sparse
from tests.s390.fake_memory import FakeMemory
from vmcorefs import open as open_dump
from vmcorefs.s390 import Absent
from vmcorefs.s390.kallsyms import find_symbol
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

NAMES, COUNT, TOKENS, INDEX, OFFSETS, BASE = 0x10000, 0x1000, 0x20000, 0x28000, 0x30000, 0x1008
START = 0x100000

PARTS = {"names": NAMES, "num_syms": COUNT, "token_table": TOKENS, "token_index": INDEX, "offsets": OFFSETS,
         "relative_base": BASE}


def info(**changes: int | None) -> Vmcoreinfo:
    parts = {**PARTS, **changes}
    return Vmcoreinfo("".join(f"SYMBOL(kallsyms_{k})={v:x}\n" for k, v in parts.items() if v is not None).encode(), "lowcore")


def build(symbols: dict[str, int], tokens: dict[int, bytes] | None = None, long: bool = False) -> FakeMemory:
    """scripts/kallsyms.c without compression: token n is the character n, but for the given ones."""
    memory = FakeMemory()
    table, index = b"", b""
    for n in range(256):
        index += struct.pack(">H", len(table))
        table += (tokens or {}).get(n, bytes([n]) if n else b"") + b"\0"
    memory.put(TOKENS, table)
    memory.put(INDEX, index)
    names = b""
    for name in symbols:
        encoded = b"D" + name.encode("latin-1")
        names += bytes([len(encoded) & 0x7F | 0x80, len(encoded) >> 7]) if long or len(encoded) > 127 else bytes([len(encoded)])
        names += encoded
    memory.put(NAMES, names)
    memory.put(COUNT, struct.pack(">I", len(symbols)))
    memory.put_u64(BASE, START)
    memory.put(OFFSETS, struct.pack(f">{len(symbols)}I", *symbols.values()))
    return memory


SYMBOLS = {"_stext": 0, "init_task": 0x4000, "pcpu_devices": 0x12345, "pcpu_devices_2": 0x5, "z": 7}


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_symbol_is_base_plus_offset(name: str) -> None:
    assert find_symbol(build(SYMBOLS).read, info(), name) == START + SYMBOLS[name]


@pytest.mark.parametrize("name", ["pcpu_device", "cpu_devices", "", "nothing"])
def test_a_symbol_that_is_not_there(name: str) -> None:
    found = find_symbol(build(SYMBOLS).read, info(), name)
    assert isinstance(found, Absent)
    assert not found.suspicious


def test_tokens_are_expanded() -> None:
    memory = build({"_stext": 0, "\x01_\x02": 9}, {1: b"pcpu", 2: b"devices"})
    assert find_symbol(memory.read, info(), "pcpu_devices") == START + 9


def test_names_with_a_two_byte_length() -> None:
    assert find_symbol(build(SYMBOLS, long=True).read, info(), "z") == START + 7
    assert find_symbol(build({"a" * 300: 1, "z": 2}).read, info(), "z") == START + 2


@pytest.mark.parametrize("part", PARTS)
def test_without_one_of_the_parts_nothing_is_found(part: str) -> None:
    found = find_symbol(build(SYMBOLS).read, info(**{part: None}), "z")
    assert isinstance(found, Absent)
    assert f"kallsyms_{part}" in found.reason


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("address", [0x100000, (1 << 64) - 1, 1 << 63])
def test_a_part_outside_of_memory_finds_nothing(part: str, address: int) -> None:
    assert isinstance(find_symbol(build(SYMBOLS).read, info(**{part: address}), "nothing"
                                  if part in ("offsets", "relative_base") else "z"), Absent)
    assert isinstance(find_symbol(build(SYMBOLS).read, info(**{part: address}), "z"), Absent)


@pytest.mark.parametrize("count", [0, 4_000_001, 0xFFFFFFFF])
def test_an_absurd_number_of_symbols(count: int) -> None:
    memory = build(SYMBOLS)
    memory.put(COUNT, struct.pack(">I", count))
    found = find_symbol(memory.read, info(), "z")
    assert isinstance(found, Absent)
    assert "absurd" in found.reason


def test_more_symbols_than_names_end_with_memory() -> None:
    memory = build(SYMBOLS)
    memory.put(COUNT, struct.pack(">I", 50_000))
    assert isinstance(find_symbol(memory.read, info(), "nothing"), Absent)


def test_names_that_end_right_before_unreadable_memory_are_all_read() -> None:
    memory = build(SYMBOLS)
    memory.bad = [(NAMES + sum(len(n) + 2 for n in SYMBOLS), 0x1F000)]
    assert find_symbol(memory.read, info(), "z") == START + 7


def test_garbage_instead_of_names_ends() -> None:
    memory = build(SYMBOLS)
    memory.put(NAMES, b"\xff" * 0x8000)
    memory.put(COUNT, struct.pack(">I", 1000))
    assert isinstance(find_symbol(memory.read, info(), "z"), Absent)


def test_negative_offsets_wrap_to_64_bits() -> None:
    found = find_symbol(build({"z": 0xFFFFFFFF}).read, info(), "z")
    assert isinstance(found, int)
    assert 0 <= found < 1 << 64


def test_pcpu_devices_of_a_real_kernel(tmp_path: Path) -> None:
    """k61-hot keeps all of kallsyms; capture.json says where pcpu_devices is."""
    expanded = sparse.expand("k61-hot", tmp_path)
    with open_dump(expanded.image) as dump:
        assert dump.vmcoreinfo is not None
        address = find_symbol(dump.oldmem.read, dump.vmcoreinfo, "pcpu_devices")
        assert isinstance(address, int)
        (kept,) = sparse.load("k61-hot").kept["crashed: pcpu_devices"]["image"]
        page = int(kept, 16)
        assert page <= sparse.load("k61-hot").base + address < page + 4096
        for name in ("_stext", "swapper_pg_dir", "lowcore_ptr"):
            assert find_symbol(dump.oldmem.read, dump.vmcoreinfo, name) == dump.vmcoreinfo.symbol(name) is not None
