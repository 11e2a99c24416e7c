"""The dump kernel's list of save areas: found without symbols, and no damaged or forged one is believed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.builders import CpuState, Registers
from tests.builders.dump_kernel import save_area
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390 import save_area_list as product
from vmcorefs.s390.save_area import SaveArea
from vmcorefs.s390.save_area_list import find_save_area_list
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

LIMIT = 0x80000
HEAD = 0x1010
STATES = tuple(CpuState(0x2000 * (i + 8), Registers.from_seed(f"cpu {i}")) for i in range(4))
BOOT = STATES[0].store_status()
PLACES = (0x7F000, 0x20100, 0x40080, 0x10FF8)  # the last one reaches over a page

Change = Callable[[FakeMemory], None]


def identity(address: int) -> int:
    return address


def build(states: tuple[CpuState, ...] = STATES, places: tuple[int, ...] = PLACES, *, head: int = HEAD, size: int = 0x100000,
          virtual: Callable[[int], int] = identity, virtual_head: Callable[[int], int] = identity) -> FakeMemory:
    memory = FakeMemory(size)
    for state, place in zip(states, places, strict=False):
        memory.put(place + 16, save_area(state, 4, vector=True))
    nodes = [(head, virtual_head(head)), *((p, virtual(p)) for p in places[:len(states)])]
    for i, (place, _) in enumerate(nodes):
        memory.put_u64(place, nodes[(i + 1) % len(nodes)][1], nodes[i - 1][1])
    return memory


def find(memory: FakeMemory, *, boot: bytes = BOOT, limit: int = LIMIT,
         info: Vmcoreinfo | None = None) -> tuple[SaveArea, ...] | Absent:
    return find_save_area_list(memory.read, memory.scan, limit, boot, info)


def prefixes(found: tuple[SaveArea, ...] | Absent) -> list[int]:
    assert not isinstance(found, Absent), found
    return [area.prefix_address for area in found]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_list_is_followed_in_its_order(count: int) -> None:
    assert prefixes(find(build(STATES[:count]))) == [s.prefix for s in STATES[:count]]


def test_registers_come_with_vector_registers() -> None:
    found = find(build())
    assert not isinstance(found, Absent)
    for area, state in zip(found, STATES, strict=True):
        assert (area.gprs, area.acrs, area.vxrs_low, area.vxrs_high) == (
            state.registers.gprs, state.registers.acrs, state.registers.vxrs_low, state.registers.vxrs_high)


def test_elements_with_prefix_zero_stay_in_the_list() -> None:
    states = (STATES[0], CpuState(0, STATES[1].registers), STATES[2])
    assert prefixes(find(build(states))) == [STATES[0].prefix, 0, STATES[2].prefix]


def test_a_boot_cpu_with_prefix_zero_is_found() -> None:
    boot = CpuState(0, STATES[0].registers)
    assert prefixes(find(build((boot, STATES[1])), boot=boot.store_status())) == [0, STATES[1].prefix]


def test_pointers_of_6_10_are_translated_by_the_dump_kernels_own_vmcoreinfo() -> None:
    info = Vmcoreinfo(b"IDENTITYBASE=5000000000\nKERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=1000\n", "lowcore")
    memory = build(virtual=lambda a: a + 0x5000000000, virtual_head=lambda a: a - 0x1000 + 0x3FFE0000000)
    assert prefixes(find(memory, info=info)) == [s.prefix for s in STATES]
    assert isinstance(find(memory), Absent)


def test_registers_without_a_pattern_are_not_searched() -> None:
    found = find(build(), boot=bytes(512))
    assert isinstance(found, Absent)
    assert not found.suspicious


def test_a_list_in_no_part_of_the_dump_kernels_memory_is_not_found() -> None:
    memory = build(STATES[:1], (0x90000,))
    assert isinstance(find(memory, limit=0x80000), Absent)
    assert prefixes(find(memory, limit=0x100000)) == [STATES[0].prefix]


def test_a_copy_of_the_registers_without_a_list_around_is_passed_over() -> None:
    memory = build()
    memory.put(0x3010, save_area(STATES[0], 4, vector=True))
    memory.put(0x2000 + 5, save_area(STATES[0], 4, vector=True))  # unaligned
    memory.put(0, save_area(STATES[0], 4, vector=True))  # element would begin at -16
    assert prefixes(find(memory)) == [s.prefix for s in STATES]


@pytest.mark.parametrize("name", ["acrs", "fprs", "fpc", "prefix", "timer", "todcmp", "todpreg"])
def test_the_first_element_must_agree_in_every_register(name: str) -> None:
    offset = {"acrs": 0x120, "fprs": 0x160, "fpc": 0x1E0, "prefix": 0x1E4, "todpreg": 0x1E8, "timer": 0x1F0, "todcmp": 0x1F8}[name]
    memory = build()
    memory.data[PLACES[0] + offset + 1] ^= 0x10
    found = find(memory)
    assert isinstance(found, Absent)
    assert "not the boot CPU's" in found.reason


def test_the_upper_half_of_5_8s_todpreg_does_not_matter() -> None:
    memory = build()
    memory.put(PLACES[0] + 0x1EC, b"\xaa\xbb\xcc\xdd")
    assert len(prefixes(find(memory))) == 4


ATTACKS: dict[str, Change] = {
    "a loop that leaves the head out": lambda m: m.put_u64(PLACES[2], PLACES[1]),
    "an element that is its own successor": lambda m: m.put_u64(PLACES[1], PLACES[1], PLACES[0]),
    "a first element that is its own list": lambda m: m.put_u64(PLACES[0], PLACES[0], PLACES[0]),
    "next 0": lambda m: m.put_u64(PLACES[1], 0),
    "next unaligned": lambda m: m.put_u64(PLACES[1], PLACES[2] + 4),
    "next outside": lambda m: m.put_u64(PLACES[1], LIMIT),
    "next huge": lambda m: m.put_u64(PLACES[1], 0xFFFFFFFFFFFFFFF8),
    "next poisoned": lambda m: m.put_u64(PLACES[1], 0x5EAD000000000122),
    "next behind the end": lambda m: m.put_u64(PLACES[1], LIMIT - 8),
    "prev of the second wrong": lambda m: m.put_u64(PLACES[1] + 8, PLACES[3]),
    "prev of the last 0": lambda m: m.put_u64(PLACES[3] + 8, 0),
    "prev of the first 0": lambda m: m.put_u64(PLACES[0] + 8, 0),
    "prev of the first outside": lambda m: m.put_u64(PLACES[0] + 8, LIMIT + 0x1000),
    "head leads elsewhere first": lambda m: m.put_u64(HEAD, PLACES[1], PLACES[3]),
    "head leads elsewhere last": lambda m: m.put_u64(HEAD, PLACES[0], PLACES[2]),
    "head empty": lambda m: m.put_u64(HEAD, 0, 0),
    "chain that skips an element": lambda m: m.put_u64(PLACES[1], PLACES[3]),
    "chain that ends early": lambda m: m.put_u64(PLACES[1], HEAD),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_list_that_is_not_whole_is_not_believed(attack: str) -> None:
    memory = build()
    ATTACKS[attack](memory)
    found = find(memory)
    assert isinstance(found, Absent)
    assert hex(PLACES[0]) in found.reason


def test_a_chain_of_unaligned_elements_is_not_believed() -> None:
    """It is whole, but memblock aligns to more than 4."""
    assert isinstance(find(build(places=(0x7F000, 0x20104, 0x40080, 0x10FF8))), Absent)
    assert isinstance(find(build(places=(0x7F004, *PLACES[1:]))), Absent)
    assert isinstance(find(build(head=HEAD + 4)), Absent)


def test_an_unreadable_element_ends_it() -> None:
    memory = build()
    memory.bad = [(PLACES[1], PLACES[1] + 8)]
    assert isinstance(find(memory), Absent)


def test_no_more_elements_than_there_can_be_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "CPU_LIMIT", 3)
    found = find(build())
    assert isinstance(found, Absent)
    assert "more than 3 elements" in found.reason
    assert len(prefixes(find(build(STATES[:3])))) == 3


def test_a_chain_of_absurd_length_ends() -> None:
    count, size = 66000, 0x100000 + 66000 * 8
    memory = FakeMemory(size)
    memory.put(0x100010, save_area(STATES[0], 4, vector=True))
    memory.put_u64(0x100000, 0x102000, HEAD)
    for i in range(count - 0x2000):
        place = 0x102000 + 8 * (i % ((size - 0x103000) // 8))
        memory.put_u64(place, place + 8)
    found = find(memory, limit=size)
    assert isinstance(found, Absent)


def test_random_damage_never_raises_and_never_lies() -> None:
    """Whatever single byte of links is changed: the true list, or none."""
    rng = random.Random(17)
    true = [s.prefix for s in STATES]
    links = [p + i for p in (HEAD, *PLACES) for i in range(16)]
    for at in links:
        memory = build()
        memory.data[at] ^= rng.randrange(1, 256)
        found = find(memory)
        assert isinstance(found, Absent) or prefixes(found) == true


def test_the_second_hit_counts_where_the_first_leads_nowhere() -> None:
    memory = build(STATES, (0x7F000, *PLACES[1:]))
    memory.put(0x60010, save_area(STATES[0], 4, vector=True))
    memory.put_u64(0x60000, 0x7FFF8, HEAD)
    assert prefixes(find(memory)) == [s.prefix for s in STATES]
