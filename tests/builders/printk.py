"""Both kinds of kernel logs, as bytes in memory: the writers' side of the kernel in small.

    ring = Ring(count_bits=4, size_bits=9)
    ring.log(b"hello", nanoseconds=5_000_000)
    placed = ring.place(0x10000)
    placed.pieces, placed.lines, placed.at["descs"]

Ring does what kernel/printk/printk_ringbuffer.c does (prb_reserve, prb_commit, desc_push_tail, data_push_tail), RecordLog what
kernel/printk/printk.c of 3.5 to 5.9 does (log_store, log_make_free_space). Fields may be changed before place(): that is damage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

ID = (1 << 62) - 1
LONG = 1 << 64
RESERVED, COMMITTED, FINALIZED, REUSABLE = range(4)
FAILED_LPOS, NO_LPOS = 1, 3

# Linux 6.1 on s390x; a test may give others.
RING_LINES = {
    "SIZE(printk_ringbuffer)": 88,
    "OFFSET(printk_ringbuffer.desc_ring)": 0,
    "OFFSET(printk_ringbuffer.text_data_ring)": 48,
    "OFFSET(printk_ringbuffer.fail)": 80,
    "SIZE(prb_desc_ring)": 48,
    "OFFSET(prb_desc_ring.count_bits)": 0,
    "OFFSET(prb_desc_ring.descs)": 8,
    "OFFSET(prb_desc_ring.infos)": 16,
    "OFFSET(prb_desc_ring.head_id)": 24,
    "OFFSET(prb_desc_ring.tail_id)": 32,
    "SIZE(prb_desc)": 24,
    "OFFSET(prb_desc.state_var)": 0,
    "OFFSET(prb_desc.text_blk_lpos)": 8,
    "SIZE(prb_data_blk_lpos)": 16,
    "OFFSET(prb_data_blk_lpos.begin)": 0,
    "OFFSET(prb_data_blk_lpos.next)": 8,
    "SIZE(printk_info)": 88,
    "OFFSET(printk_info.seq)": 0,
    "OFFSET(printk_info.ts_nsec)": 8,
    "OFFSET(printk_info.text_len)": 16,
    "OFFSET(printk_info.caller_id)": 20,
    "SIZE(prb_data_ring)": 32,
    "OFFSET(prb_data_ring.size_bits)": 0,
    "OFFSET(prb_data_ring.data)": 8,
    "OFFSET(prb_data_ring.head_lpos)": 16,
    "OFFSET(prb_data_ring.tail_lpos)": 24,
    "SIZE(atomic_long_t)": 8,
    "OFFSET(atomic_long_t.counter)": 0,
}


@dataclass
class Placed:
    """Bytes by absolute address, VMCOREINFO lines, and what lies where (absolute)."""

    pieces: list[tuple[int, bytes]]
    lines: str
    at: dict[str, int]


@dataclass
class Desc:
    state_var: int = 0
    begin: int = 0
    next: int = 0

    @property
    def id(self) -> int:
        return self.state_var & ID

    def become(self, state: int) -> None:
        self.state_var = state << 62 | self.id


@dataclass
class Info:
    seq: int = 0
    ts_nsec: int = 0
    text_len: int = 0
    caller_id: int = 0


@dataclass
class Ring:
    """*exact_fit*: since 6.18 a block may end where the ring ends; before, it went to the start."""

    count_bits: int = 4
    size_bits: int = 9
    exact_fit: bool = False
    descs: list[Desc] = field(default_factory=list)
    infos: list[Info] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count, self.size = 1 << self.count_bits, 1 << self.size_bits
        self.descs = [Desc() for _ in range(self.count)]
        self.infos = [Info() for _ in range(self.count)]
        # DESC0_ID, BLK0_LPOS: the first wrap around comes soon, and bugs with it
        self.head_id = self.tail_id = -(self.count + 1) & ID
        self.descs[-1] = Desc(REUSABLE << 62 | self.head_id, FAILED_LPOS, FAILED_LPOS)
        self.head_lpos = self.tail_lpos = -self.size % LONG
        self.data = bytearray(self.size)
        self.seq = 0

    def desc(self, number: int) -> Desc:
        return self.descs[number % self.count]

    def info(self, number: int) -> Info:
        return self.infos[number % self.count]

    def log(self, text: bytes, nanoseconds: int = 0, caller: int = 1, state: int = FINALIZED, *, lost: bool = False) -> int:
        """Stores a record, returns its id. *lost*: no room was found for the text. RESERVED: its writer is not done."""
        number = self.reserve_halfway()
        begin = after = FAILED_LPOS if lost else NO_LPOS
        if text and not lost:
            begin, after = self._store(number, text)
        self.descs[number % self.count] = Desc(state << 62 | number, begin, after)
        self.infos[number % self.count] = Info(self.seq, nanoseconds, len(text), caller)
        self.seq += 1
        return number

    def reserve_halfway(self) -> int:
        """The head has moved on, the descriptor is still the old one (desc_reserve, between its two steps)."""
        number = (self.head_id + 1) & ID
        if (number - self.count) & ID == self.tail_id:
            oldest = self.desc(self.tail_id)
            oldest.become(REUSABLE)
            if not oldest.next & 1 and (oldest.next - self.tail_lpos) % LONG <= self.size:
                self.tail_lpos = oldest.next
            self.tail_id = (self.tail_id + 1) & ID
        self.head_id = number
        return number

    def _store(self, number: int, text: bytes) -> tuple[int, int]:
        need = 8 + (len(text) + 7) // 8 * 8
        begin = self.head_lpos
        after = (begin + need) % LONG
        wraps = begin // self.size != (after - (1 if self.exact_fit else 0)) % LONG // self.size
        if wraps:
            after = (after // self.size * self.size + need) % LONG
        while (after - self.tail_lpos) % LONG > self.size:
            at = self.tail_lpos % self.size
            oldest = self.desc(struct.unpack_from(">Q", self.data, at)[0])
            assert oldest.begin == self.tail_lpos
            oldest.become(REUSABLE)
            self.tail_lpos = oldest.next
        struct.pack_into(">Q", self.data, begin % self.size, number)
        start = 0 if wraps else begin % self.size
        struct.pack_into(">Q", self.data, start, number)
        self.data[start + 8:start + 8 + len(text)] = text
        self.head_lpos = after
        return begin, after

    def place(self, address: int, virtual: Callable[[int], int] = lambda a: a, lines: dict[str, int] | None = None,
              drop: tuple[str, ...] = ()) -> Placed:
        """*virtual*: absolute to virtual address; *lines*: other sizes and offsets; *drop*: lines that are not there."""
        known = RING_LINES | (lines or {})

        def offset(name: str) -> int:
            return known[f"OFFSET({name})"]

        def size(name: str) -> int:
            return known[f"SIZE({name})"]

        counter = offset("atomic_long_t.counter")
        at = {"prb": address, "ring": address + 0x40}
        at["descs"] = at["ring"] + 0x400
        at["infos"] = at["descs"] + self.count * size("prb_desc")
        at["data"] = at["infos"] + self.count * size("printk_info")
        ring, data_ring = bytearray(size("printk_ringbuffer")), offset("printk_ringbuffer.text_data_ring")
        desc_ring = offset("printk_ringbuffer.desc_ring")
        struct.pack_into(">I", ring, desc_ring + offset("prb_desc_ring.count_bits"), self.count_bits)
        struct.pack_into(">Q", ring, desc_ring + offset("prb_desc_ring.descs"), virtual(at["descs"]))
        struct.pack_into(">Q", ring, desc_ring + offset("prb_desc_ring.infos"), virtual(at["infos"]))
        struct.pack_into(">Q", ring, desc_ring + offset("prb_desc_ring.head_id") + counter, self.head_id)
        struct.pack_into(">Q", ring, desc_ring + offset("prb_desc_ring.tail_id") + counter, self.tail_id)
        struct.pack_into(">I", ring, data_ring + offset("prb_data_ring.size_bits"), self.size_bits)
        struct.pack_into(">Q", ring, data_ring + offset("prb_data_ring.data"), virtual(at["data"]))
        descs, infos = bytearray(self.count * size("prb_desc")), bytearray(self.count * size("printk_info"))
        lpos = offset("prb_desc.text_blk_lpos")
        for i, (desc, info) in enumerate(zip(self.descs, self.infos, strict=True)):
            base = i * size("prb_desc")
            struct.pack_into(">Q", descs, base + offset("prb_desc.state_var") + counter, desc.state_var)
            struct.pack_into(">Q", descs, base + lpos + offset("prb_data_blk_lpos.begin"), desc.begin)
            struct.pack_into(">Q", descs, base + lpos + offset("prb_data_blk_lpos.next"), desc.next)
            base = i * size("printk_info")
            struct.pack_into(">Q", infos, base + offset("printk_info.seq"), info.seq)
            struct.pack_into(">Q", infos, base + offset("printk_info.ts_nsec"), info.ts_nsec)
            struct.pack_into(">H", infos, base + offset("printk_info.text_len"), info.text_len)
            struct.pack_into(">I", infos, base + offset("printk_info.caller_id"), info.caller_id)
        text = {f"SYMBOL({name})": f"{virtual(at[where]):x}" for name, where in (("prb", "prb"), ("printk_rb_static", "ring"))}
        text |= {key: str(value) for key, value in known.items()}
        return Placed(
            [(at["prb"], struct.pack(">Q", virtual(at["ring"]))), (at["ring"], bytes(ring)), (at["descs"], bytes(descs)),
             (at["infos"], bytes(infos)), (at["data"], bytes(self.data[:1 << min(self.size_bits, 20)]))],
            _lines(text, drop), at)


@dataclass
class RecordLog:
    """The buffer of 3.5 to 5.9. *caller*: CONFIG_PRINTK_CALLER (5.1+). *structure*: "log" before 3.11."""

    size: int = 512
    caller: bool = False
    structure: str = "printk_log"

    def __post_init__(self) -> None:
        self.header = 24 if self.caller else 16
        self.buffer = bytearray(self.size)
        self.first = self.next = 0
        self.records = 0

    def log(self, text: bytes, nanoseconds: int = 0, caller: int = 1) -> int:
        """Stores a record, returns its index."""
        length = (self.header + len(text) + 7) // 8 * 8
        while not self._has_space(length):
            self.first = self._after(self.first)
            self.records -= 1
        if self.next + length + self.header > self.size:
            self.buffer[self.next:self.next + self.header] = bytes(self.header)
            self.next = 0
        at = self.next
        struct.pack_into(">QHHHBB", self.buffer, at, nanoseconds, length, len(text), 0, 0, 6 << 5)
        if self.caller:
            struct.pack_into(">I", self.buffer, at + 16, caller)
        self.buffer[at + self.header:at + self.header + len(text)] = text
        self.next += length
        self.records += 1
        return at

    def set_length(self, at: int, length: int) -> None:
        struct.pack_into(">H", self.buffer, at + 8, length)

    def set_text_length(self, at: int, length: int) -> None:
        struct.pack_into(">H", self.buffer, at + 10, length)

    def _has_space(self, length: int) -> bool:
        if self.next > self.first or self.records == 0:
            free = max(self.size - self.next, self.first)
        else:
            free = self.first - self.next
        return free >= length + self.header

    def _after(self, at: int) -> int:
        length: int = struct.unpack_from(">H", self.buffer, at + 8)[0]
        if length == 0:
            return int(struct.unpack_from(">H", self.buffer, 8)[0])
        return at + length

    def place(self, address: int, virtual: Callable[[int], int] = lambda a: a, drop: tuple[str, ...] = ()) -> Placed:
        names = ("log_buf", "log_buf_len", "log_first_idx", "log_next_idx")
        at = {name: address + 8 * i for i, name in enumerate(names)} | {"buffer": address + 0x40}
        name = self.structure
        text = {f"SYMBOL({symbol})": f"{virtual(at[symbol]):x}" for symbol in names}
        text |= {f"SIZE({name})": str(self.header), f"OFFSET({name}.ts_nsec)": "0", f"OFFSET({name}.len)": "8",
                 f"OFFSET({name}.text_len)": "10", f"OFFSET({name}.dict_len)": "12"}
        if self.caller:
            text[f"OFFSET({name}.caller_id)"] = "16"
        return Placed(
            [(at["log_buf"], struct.pack(">Q", virtual(at["buffer"]))), (at["log_buf_len"], struct.pack(">I", self.size)),
             (at["log_first_idx"], struct.pack(">I", self.first)), (at["log_next_idx"], struct.pack(">I", self.next)),
             (at["buffer"], bytes(self.buffer))],
            _lines(text, drop), at)


def _lines(lines: dict[str, str], drop: tuple[str, ...]) -> str:
    return "".join(f"{key}={value}\n" for key, value in lines.items() if key not in drop)
