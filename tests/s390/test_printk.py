"""The log's records, of both kinds of buffers: whole, wrapped, and damaged in every way that the image's owner could."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.builders.printk import COMMITTED, FAILED_LPOS, FINALIZED, ID, LONG, RESERVED, REUSABLE, Placed, RecordLog, Ring
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390.printk import Damage, Record, RecordBuffer, read_log
from vmcorefs.s390.printk import Ring as FoundRing
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

BASE = 0x10000


def memory_of(placed: Placed, size: int = 0x100000) -> FakeMemory:
    memory = FakeMemory(size)
    for address, data in placed.pieces:
        memory.put(address, data)
    return memory


def found(memory: FakeMemory, placed: Placed, more: str = "") -> FoundRing | RecordBuffer:
    log = read_log(memory.read, Vmcoreinfo((placed.lines + more).encode(), "lowcore"))
    assert not isinstance(log, Absent), log.reason
    return log


def records(placed: Placed, memory: FakeMemory | None = None, more: str = "") -> tuple[list[Record], Damage]:
    damage = Damage()
    return list(found(memory or memory_of(placed), placed, more).records(damage)), damage


def texts(placed: Placed, memory: FakeMemory | None = None) -> list[bytes]:
    """Of a log without damage."""
    got, damage = records(placed, memory)
    assert not damage, str(damage)
    return [record.text for record in got]


def damaged(placed: Placed, memory: FakeMemory | None = None) -> tuple[list[bytes], str]:
    got, damage = records(placed, memory)
    assert damage
    assert sum(damage.counts.values()) >= 1
    assert "\n" not in str(damage)
    return [record.text for record in got], str(damage)


def absent(placed: Placed, memory: FakeMemory | None = None) -> str:
    log = read_log((memory or memory_of(placed)).read, Vmcoreinfo(placed.lines.encode(), "lowcore"))
    assert isinstance(log, Absent)
    assert log.suspicious
    return log.reason


def three() -> tuple[Ring, list[int]]:
    ring = Ring()
    return ring, [ring.log(text, 1000 * i, caller=i) for i, text in enumerate((b"one", b"two two two", b"three"), 1)]


# -- the ring ---------------------------------------------------------------------------------------------------------------


def test_ring() -> None:
    ring, _ = three()
    got, damage = records(ring.place(BASE))
    assert got == [Record(1000, b"one", 1), Record(2000, b"two two two", 2), Record(3000, b"three", 3)]
    assert not damage


def test_new_ring_is_empty() -> None:
    assert texts(Ring().place(BASE)) == []


@pytest.mark.parametrize("exact_fit", [False, True])
@pytest.mark.parametrize("size_bits", [8, 9, 12])
def test_ring_wrapped_many_times(size_bits: int, exact_fit: bool) -> None:
    """Descriptors run out first, or text, or both; ids and positions overflow right at the start."""
    rng = random.Random(size_bits)
    ring, written = Ring(4, size_bits, exact_fit), []
    for i in range(300):
        text = bytes(rng.choices(b"abcdefgh \n", k=rng.randrange(1, 60)))
        ring.log(text, i)
        written.append(text)
        got = texts(ring.place(BASE))
        assert got
        assert got == written[-len(got):]
        live = sum(desc.state_var >> 62 == FINALIZED for desc in ring.descs)
        assert len(got) == live


@pytest.mark.parametrize("exact_fit", [False, True])
def test_block_that_ends_where_the_ring_ends(exact_fit: bool) -> None:
    """Before 6.18 it went to the start, since then it stays; twice, since the first end is also where positions overflow."""
    ring = Ring(4, 7, exact_fit)
    written = [bytes([c]) * 24 for c in b"abcdefghijklmno"]
    numbers = [ring.log(text) for text in written]
    places = {ring.desc(n).next % ring.size for n in numbers}
    assert (0 in places) is exact_fit
    got = texts(ring.place(BASE))
    assert got == written[-len(got):]
    assert len(got) == (4 if exact_fit else 3)


def test_offsets_and_sizes_are_those_of_vmcoreinfo() -> None:
    lines = {
        "SIZE(printk_ringbuffer)": 200, "OFFSET(printk_ringbuffer.desc_ring)": 100, "OFFSET(printk_ringbuffer.text_data_ring)": 8,
        "SIZE(prb_desc_ring)": 80, "OFFSET(prb_desc_ring.count_bits)": 4, "OFFSET(prb_desc_ring.descs)": 24,
        "OFFSET(prb_desc_ring.infos)": 16, "OFFSET(prb_desc_ring.head_id)": 56, "OFFSET(prb_desc_ring.tail_id)": 40,
        "SIZE(prb_desc)": 56, "OFFSET(prb_desc.state_var)": 40, "OFFSET(prb_desc.text_blk_lpos)": 4,
        "SIZE(prb_data_blk_lpos)": 32, "OFFSET(prb_data_blk_lpos.begin)": 20, "OFFSET(prb_data_blk_lpos.next)": 2,
        "SIZE(printk_info)": 40, "OFFSET(printk_info.seq)": 32, "OFFSET(printk_info.ts_nsec)": 1,
        "OFFSET(printk_info.text_len)": 11, "OFFSET(printk_info.caller_id)": 20,
        "SIZE(prb_data_ring)": 64, "OFFSET(prb_data_ring.size_bits)": 9, "OFFSET(prb_data_ring.data)": 40,
        "SIZE(atomic_long_t)": 16, "OFFSET(atomic_long_t.counter)": 8,
    }
    ring, _ = three()
    got, damage = records(ring.place(BASE, lines=lines))
    assert got == [Record(1000, b"one", 1), Record(2000, b"two two two", 2), Record(3000, b"three", 3)]
    assert not damage


def test_ring_without_caller_ids() -> None:
    got, _ = records(three()[0].place(BASE, drop=("OFFSET(printk_info.caller_id)",)))
    assert [record.caller_id for record in got] == [None] * 3


def test_virtual_addresses() -> None:
    """6.10 and later: kernel image and identity mapping apart; before: KERNELOFFSET changes nothing."""
    ring, _ = three()
    at = ring.place(BASE).at

    def virtual(address: int) -> int:
        return address - 0x8000 + 0x3FFE0000000 if address < at["descs"] else address + 0x40000000

    placed = ring.place(BASE, virtual)
    got, damage = records(placed, more="IDENTITYBASE=40000000\nKERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=8000\n")
    assert [r.text for r in got] == [b"one", b"two two two", b"three"]
    assert not damage
    got, damage = records(ring.place(BASE), more="KERNELOFFSET=8000\n")
    assert len(got) == 3


def test_states() -> None:
    """Committed and finalized ones have text; reserved and reusable ones do not."""
    ring = Ring()
    for state, text in ((FINALIZED, b"f"), (RESERVED, b"r"), (COMMITTED, b"c"), (REUSABLE, b"u"), (FINALIZED, b"g")):
        ring.log(text, state=state)
    assert texts(ring.place(BASE)) == [b"f", b"c", b"g"]


@pytest.mark.parametrize("before", [3, 16, 40])
def test_a_writer_that_was_stopped_between_head_and_descriptor(before: int) -> None:
    ring = Ring()
    for i in range(before):
        ring.log(b"%d" % i)
    ring.reserve_halfway()
    got = texts(ring.place(BASE))
    assert got == [b"%d" % i for i in range(before)][-len(got):]
    assert len(got) == min(before, ring.count - 1)


def test_records_without_text() -> None:
    """An empty line, and one for which there was no room: neither is printed by makedumpfile, neither is damage."""
    ring = Ring()
    ring.log(b"a")
    ring.log(b"")
    ring.log(b"lost", lost=True)
    ring.log(b"b")
    assert texts(ring.place(BASE)) == [b"a", b"b"]


def test_text_of_length_0_in_a_block_is_a_record() -> None:
    ring, (_, second, _) = three()
    ring.info(second).text_len = 0
    assert texts(ring.place(BASE)) == [b"one", b"", b"three"]


def test_unused_part_of_a_large_ring_costs_little() -> None:
    ring = Ring(count_bits=12, size_bits=9)
    ring.log(b"a")
    ring.log(b"b")
    placed = ring.place(BASE)
    memory = memory_of(placed)
    assert texts(placed, memory) == [b"a", b"b"]
    assert len(memory.reads) < 12


# -- the ring, damaged ------------------------------------------------------------------------------------------------------


def test_ends_of_the_ring_changed_places() -> None:
    """From the newest to the oldest are 2^62 ids. All descriptors are searched instead."""
    ring, _ = three()
    ring.head_id, ring.tail_id = ring.tail_id, ring.head_id
    got, words = damaged(ring.place(BASE))
    assert got == [b"one", b"two two two", b"three"]
    assert "all descriptors were searched" in words


def test_search_gives_records_in_order_even_where_ids_overflow() -> None:
    """Ids begin at -count, 0 is one of them."""
    ring = Ring()
    for i in range(20):
        ring.log(b"%d" % i)
    assert any(desc.id == 0 for desc in ring.descs)
    ring.tail_id ^= 1 << 50
    got, _ = damaged(ring.place(BASE))
    assert got == [b"%d" % i for i in range(4, 20)]


def test_search_leaves_out_what_cannot_be_there() -> None:
    ring, (_, second, third) = three()
    ring.tail_id ^= 1 << 50
    ring.desc(second).state_var ^= 1
    ring.desc(third).state_var = REUSABLE << 62 | third
    got, _ = damaged(ring.place(BASE))
    assert got == [b"one"]


@pytest.mark.parametrize("bits", [0, 25, 31, 0xFFFFFFFF])
def test_absurd_count_of_descriptors(bits: int) -> None:
    ring, _ = three()
    ring.count_bits = bits
    assert f"count_bits {bits:#x}, at most 24" in absent(ring.place(BASE))


@pytest.mark.parametrize("bits", [0, 32, 0xFFFFFFFF])
def test_absurd_size_of_the_text_ring(bits: int) -> None:
    ring, _ = three()
    ring.size_bits = bits
    assert f"size_bits {bits:#x}, at most 31" in absent(ring.place(BASE))


def test_more_descriptors_than_memory_has() -> None:
    """count_bits believed, but wrong: what is beyond memory is counted, in reasonable time."""
    ring, _ = three()
    ring.count_bits, ring.tail_id = 20, (ring.head_id - (1 << 20) + 1) & ID
    started = time.monotonic()
    _, words = damaged(ring.place(BASE))
    assert "descriptors that cannot be read" in words
    ring.tail_id = (ring.tail_id - 100) & ID
    _, words = damaged(ring.place(BASE))
    assert "all descriptors were searched" in words
    assert time.monotonic() - started < 20


def test_descriptor_of_another_record() -> None:
    ring, (_, second, _) = three()
    ring.desc(second).state_var += ring.count
    got, words = damaged(ring.place(BASE))
    assert got == [b"one", b"three"]
    assert "bear another number" in words


def test_length_beyond_the_text_block() -> None:
    """The block is all that may be read: as the kernel and makedumpfile do it."""
    ring, (_, second, _) = three()
    ring.info(second).text_len = 0xFFFF
    got, words = damaged(ring.place(BASE))
    assert got == [b"one", b"two two two\0\0\0\0\0", b"three"]
    assert "65535 instead of at most 16 bytes" in words


@pytest.mark.parametrize(("begin", "after"), [
    (0, 0),  # nothing at all, but not one of the values that mean so
    (0x1000, 0x1000), (0x1000, 0x1007), (0x1000, 0xFF0), (0x1000, 0x1000 + 0x208), (0x11F8, 0x1600), (0x11F8, 0x1204),
    (FAILED_LPOS, 0x1000), (LONG - 8, 0x1000), (0x1000, LONG - 8),
])
def test_impossible_text_position(begin: int, after: int) -> None:
    ring, (_, second, _) = three()
    ring.desc(second).begin, ring.desc(second).next = begin, after
    got, words = damaged(ring.place(BASE))
    assert got == [b"one", b"three"]
    assert "nowhere in the ring" in words


def test_text_block_of_another_record() -> None:
    """Given nevertheless, as makedumpfile does, but said."""
    ring, (first, second, _) = three()
    ring.desc(second).begin, ring.desc(second).next = ring.desc(first).begin, ring.desc(first).next
    got, words = damaged(ring.place(BASE))
    assert got == [b"one", b"one\0\0\0\0\0", b"three"]
    assert "its block bears another number" in words


def test_descriptors_that_all_name_the_same_text() -> None:
    """Each could name the whole ring: 2^24 descriptors times 64 KiB. The ring's size is the bound."""
    ring = Ring(count_bits=8, size_bits=9)
    for _ in range(200):
        number = ring.log(b"x", lost=True)
        ring.desc(number).begin, ring.desc(number).next = 0, ring.size
        ring.info(number).text_len = 0xFFFF
    got, words = damaged(ring.place(BASE))
    assert len(got) == 1
    assert "larger together than the ring" in words


@pytest.mark.parametrize(("what", "size", "expected", "words"), [
    ("descs", 24, [b"two two two", b"three"], "descriptors that cannot be read"),
    ("infos", 88, [b"two two two", b"three"], "time and length cannot be read"),
    ("data", 8, [b"two two two", b"three"], "text cannot be read"),
])
def test_unreadable_parts(what: str, size: int, expected: list[bytes], words: str) -> None:
    """What cannot be read is left out and counted, the rest is given. The element is the first of its table."""
    ring, _ = three()
    placed = ring.place(BASE - placed_offset(ring, what))
    memory = memory_of(placed)
    assert placed.at[what] % 0x1000 == 0x1000 - size
    memory.bad = [(placed.at[what], placed.at[what] + size)]
    got, said = damaged(placed, memory)
    assert got == expected
    assert words in said


def placed_offset(ring: Ring, what: str) -> int:
    """So that the first element of the table ends with a page, and the others lie in the next one."""
    size = {"descs": 24, "infos": 88, "data": 8}[what]
    return (ring.place(BASE).at[what] + size) % 0x1000


def test_readable_bytes_before_the_first_bad_one_are_used() -> None:
    ring, _ = three()
    placed = ring.place(BASE)
    whole = memory_of(placed)
    cut = placed.at["descs"] + 2 * 24

    def read(address: int, size: int) -> bytes:
        if address < cut < address + size and placed.at["descs"] <= address:
            try:
                whole.bad = [(cut, cut + 24)]
                return whole.read(address, size)
            except OSError as error:
                error.good = cut - address  # type: ignore[attr-defined]
                raise
            finally:
                whole.bad = []
        if address == cut:
            whole.bad = [(cut, cut + 24)]
        try:
            return whole.read(address, size)
        finally:
            whole.bad = []

    log = read_log(read, Vmcoreinfo(placed.lines.encode(), "lowcore"))
    assert isinstance(log, FoundRing)
    damage = Damage()
    assert [r.text for r in log.records(damage)] == [b"one", b"two two two"]
    assert damage


def test_counts() -> None:
    ring, (first, second, _) = three()
    ring.desc(first).begin = ring.desc(second).begin = 0x10
    got, damage = records(ring.place(BASE))
    assert [r.text for r in got] == [b"three"]
    assert damage.counts == {"records whose text is nowhere in the ring": 2}
    assert f": 2, the first {first:#x}" in str(damage)


@pytest.mark.parametrize("where", ["prb", "ring"])
def test_ring_itself_cannot_be_read(where: str) -> None:
    placed = three()[0].place(BASE)
    memory = memory_of(placed)
    memory.bad = [(placed.at[where], placed.at[where] + 8)]
    assert f"cannot be read at {placed.at[where]:#x}" in absent(placed, memory)


@pytest.mark.parametrize(("pointer", "words"), [
    (0, "the pointer prb is 0"), (LONG - 8, "cannot be read"), (0xFFFFF0, "cannot be read"),
])
def test_pointer_leads_nowhere(pointer: int, words: str) -> None:
    placed = three()[0].place(BASE)
    memory = memory_of(placed)
    memory.put_u64(BASE, pointer)
    assert words in absent(placed, memory)


@pytest.mark.parametrize("what", ["descs", "infos", "data"])
def test_table_leads_nowhere(what: str) -> None:
    """No record, but no exception either; addresses beyond 64 bits included."""
    ring, _ = three()
    at = {"descs": 8, "infos": 16, "data": 56}[what]
    placed = ring.place(BASE)
    for pointer in (LONG - 8, 0xFFFF00):
        memory = memory_of(placed)
        memory.put_u64(placed.at["ring"] + at, pointer)
        got, _ = damaged(placed, memory)
        assert got == []


REQUIRED = [line.partition("=")[0] for line in Ring().place(BASE).lines.splitlines()
            if not any(word in line for word in ("static", "fail", "seq", "lpos)", "caller_id", "atomic", "SYMBOL(prb)"))]


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_line(key: str) -> None:
    assert f"VMCOREINFO has no line {key}=" in absent(three()[0].place(BASE, drop=(key,)))


@pytest.mark.parametrize(("key", "value", "words"), [
    ("SIZE(prb_desc)", 0, "1 to 4096"), ("SIZE(printk_info)", 5000, "1 to 4096"),
    ("OFFSET(printk_info.text_len)", 87, "SIZE(printk_info)=88"), ("OFFSET(prb_desc.state_var)", 17, "SIZE(prb_desc)=24"),
    ("OFFSET(prb_desc_ring.head_id)", 41, "SIZE(prb_desc_ring)=48"),
    ("OFFSET(printk_ringbuffer.text_data_ring)", 60, "SIZE(printk_ringbuffer)=88"),
    ("OFFSET(atomic_long_t.counter)", 1 << 40, "SIZE(prb_desc)=24"),
])
def test_absurd_line(key: str, value: int, words: str) -> None:
    placed = three()[0].place(BASE, drop=(key,))
    placed.lines += f"{key}={value}\n"
    assert words in absent(placed)


def test_no_log_at_all() -> None:
    reason = absent(Placed([], "OSRELEASE=6.1.0\n", {}))
    assert reason == "no log: VMCOREINFO has neither SYMBOL(prb) nor SYMBOL(log_buf)"


# -- the record buffer ------------------------------------------------------------------------------------------------------


def test_record_buffer() -> None:
    log = RecordLog()
    log.log(b"one", 1000)
    log.log(b"two\nlines", 2000)
    got, damage = records(log.place(BASE))
    assert got == [Record(1000, b"one"), Record(2000, b"two\nlines")]
    assert not damage


def test_record_buffer_with_callers_virtual_addresses_and_its_old_name() -> None:
    log = RecordLog(caller=True)
    log.log(b"one", 1000, 77)
    log.log(b"two", 2000, 0x80000002)
    assert records(log.place(BASE))[0] == [Record(1000, b"one", 77), Record(2000, b"two", 0x80000002)]
    placed = log.place(BASE, lambda a: a + 0x3FFE0000000)
    assert len(records(placed, more="KERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=0\n")[0]) == 2
    old = RecordLog(structure="log")
    old.log(b"3.10")
    assert texts(old.place(BASE)) == [b"3.10"]


def test_record_buffer_wrapped_many_times() -> None:
    rng = random.Random(1)
    log, written, wrapped = RecordLog(512), [], 0
    for i in range(400):
        written.append(bytes(rng.choices(b"abcdefgh", k=rng.randrange(0, 80))))
        log.log(written[-1], i)
        wrapped += log.first > log.next
        assert texts(log.place(BASE)) == written[-log.records:]
    assert wrapped > 100


def test_first_record_is_the_end_marker() -> None:
    """log_first_idx may stand on the record of length 0; the log begins at the buffer's start then."""
    log = RecordLog(256)
    while log.first <= log.next:
        last, at = log.next, log.log(b"0123456789abcdef")
    assert at == 0
    assert log.buffer[last:last + 16] == bytes(16)
    log.first = last
    assert texts(log.place(BASE)) == [b"0123456789abcdef"]


def full() -> tuple[RecordLog, list[bytes], list[int]]:
    """A wrapped buffer, oldest records first: five in the old part, the rest at the buffer's start."""
    log, written = RecordLog(512), []
    places = []
    for i in range(24):
        written.append(b"record %02d" % i)
        places.append(log.log(written[-1]))
    assert log.first > log.next
    return log, written[-log.records:], places[-log.records:]


def test_loop() -> None:
    """A record that leads into the middle of an earlier one cannot be: lengths only go up. Length 0 elsewhere is no end."""
    log, written, places = full()
    log.set_length(places[2], 0)
    got, words = damaged_or_not(log)
    # the marker is believed where it stands in the older part: its successor is the start of the buffer
    newer = written[sum(place >= log.first for place in places):]
    assert got == written[:2] + newer
    assert words == ""
    log, written, places = full()
    log.set_length(places[-2], 0)
    got, words = damaged_or_not(log)
    assert got == written[:-2]
    assert "has length 0x0" in words


def damaged_or_not(log: RecordLog) -> tuple[list[bytes], str]:
    got, damage = records(log.place(BASE))
    return [r.text for r in got], str(damage)


@pytest.mark.parametrize("length", [1, 8, 15, 0x1000, 0xFFF8])
@pytest.mark.parametrize("part", ["older", "newer"])
def test_broken_chain(length: int, part: str) -> None:
    """The older part's break does not cost the newer part, which begins at the buffer's start."""
    log, written, places = full()
    older = sum(place >= log.first for place in places)
    at = 1 if part == "older" else len(places) - 2
    log.set_length(places[at], length)
    got, words = damaged(log.place(BASE))
    assert got == (written[:1] + written[older:] if part == "older" else written[:at])
    assert f"the one at {places[at]:#x} has length {length:#x}" in words


def test_chain_that_jumps_over_its_end() -> None:
    log = RecordLog()
    places = [log.log(b"%d" % i) for i in range(4)]
    log.next -= 8
    got, words = damaged(log.place(BASE))
    assert got == [b"0", b"1", b"2"]
    assert f"the one at {places[3]:#x}" in words
    log.next = places[3] + 8
    got, words = damaged(log.place(BASE))
    assert got == [b"0", b"1", b"2"]
    assert "its end is" in words


def test_text_longer_than_its_record() -> None:
    log = RecordLog()
    log.log(b"one")
    at = log.log(b"two")
    log.log(b"three")
    log.set_text_length(at, 0x300)
    got, words = damaged(log.place(BASE))
    assert got == [b"one", b"two\0\0\0\0\0", b"three"]
    assert "768 instead of at most 8 bytes" in words


def test_unreadable_record_buffer() -> None:
    log = RecordLog()
    log.log(b"one")
    second = log.log(b"x" * 40)
    third = log.log(b"three")
    placed = log.place(BASE)
    memory = memory_of(placed)
    memory.bad = [(placed.at["buffer"] + second + 30, placed.at["buffer"] + second + 31)]
    got, words = damaged(placed, memory)
    assert got == [b"one", b"three"]
    assert "text cannot be read" in words
    memory.bad = [(placed.at["buffer"] + third, placed.at["buffer"] + third + 1)]
    got, words = damaged(placed, memory)
    assert got == [b"one", b"x" * 40]
    assert "chain of records is lost" in words


@pytest.mark.parametrize(("name", "value", "words"), [
    ("log_buf_len", 0, "log_buf_len is 0x0"), ("log_buf_len", 0x80000001, "at most 0x80000000"),
    ("log_first_idx", 513, "must lie in"), ("log_next_idx", 0xFFFFFFFF, "must lie in"),
])
def test_absurd_variables(name: str, value: int, words: str) -> None:
    log = RecordLog()
    log.log(b"one")
    placed = log.place(BASE)
    memory = memory_of(placed)
    memory.put(placed.at[name], value.to_bytes(4, "big"))
    assert words in absent(placed, memory)


@pytest.mark.parametrize("key", ["SYMBOL(log_buf_len)", "SYMBOL(log_first_idx)", "SYMBOL(log_next_idx)", "SIZE(printk_log)",
                                 "OFFSET(printk_log.len)", "OFFSET(printk_log.text_len)", "OFFSET(printk_log.ts_nsec)"])
def test_missing_line_of_the_record_buffer(key: str) -> None:
    assert f"VMCOREINFO has no line {key}=" in absent(RecordLog().place(BASE, drop=(key,)))


def test_empty_record_buffer() -> None:
    assert texts(RecordLog().place(BASE)) == []


# -- anything ---------------------------------------------------------------------------------------------------------------


def make_ring() -> Placed:
    ring = Ring()
    for i in range(30):
        ring.log(b"line %d" % i, i)
    return ring.place(0x1000)


def make_record_log() -> Placed:
    log = RecordLog()
    for i in range(30):
        log.log(b"line %d" % i, i)
    return log.place(0x1000)


@pytest.mark.parametrize("make", [make_ring, make_record_log])
def test_any_damage_ends_and_is_bounded(make: Callable[[], Placed]) -> None:
    """Bytes thrown in anywhere: no exception, no endless loop, never more text than the buffer has."""
    placed = make()
    rng = random.Random(2)
    for _ in range(1500):
        memory = memory_of(placed, 0x2000 if make is make_record_log else 0x3000)
        for _ in range(rng.choice((1, 1, 3, 30))):
            address, data = rng.choice(placed.pieces)
            memory.data[address + rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        log = read_log(memory.read, Vmcoreinfo(placed.lines.encode(), "lowcore"))
        if isinstance(log, Absent):
            continue
        got = list(log.records(Damage()))
        assert sum(len(record.text) for record in got) <= log.size
