"""The crashed kernel's log (printk), found by VMCOREINFO alone (kernel/printk/printk.c: log_buf_vmcoreinfo_setup).

Two kinds. :class:`Ring`, 5.10 and later: descriptors, their infos and a ring of text blocks
(kernel/printk/printk_ringbuffer.h; commit 896fbe20b4e2 "printk: use the lockless ringbuffer").
:class:`RecordBuffer`, 3.5 to 5.9: records one behind the other (printk.c: struct printk_log, before 3.11 struct log;
commit 7ff9554bb578 "printk: convert byte-buffer to variable-length record buffer").

Records are read while one iterates, so that a log of any size costs little memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

# Text ring 2^31 bytes: printk.c: LOG_BUF_LEN_MAX. Descriptors: one for 32 bytes of text (PRB_AVGBITS), so 2^24 belong to
# log_buf_len=512M; more is not believed.
COUNT_BITS_LIMIT = 24
SIZE_BITS_LIMIT = 31
# The largest structure, printk_info, has 88 bytes.
_STRUCTURE_LIMIT = 4096

# printk_ringbuffer.h: struct prb_desc.state_var is state << 62 | id; enum desc_state
_ID_MASK = (1 << 62) - 1
_COMMITTED, _FINALIZED, _REUSABLE = 1, 2, 3
# unsigned long id in front of the text (struct prb_data_block)
_BLOCK_HEADER = 8
_LONG = 1 << 64

_UNREADABLE_DESCRIPTORS = "descriptors that cannot be read"
_BLOCK_ELEMENTS = 256
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """A message. *text*: as the kernel stored it, without prefix, the lines of one printk in one.

    *caller_id*: task number, or CPU number with bit 31 set (printk.c: printk_caller_id); None where the log has none.
    """

    ts_nsec: int
    text: bytes
    caller_id: int | None = None


class Damage:
    """What could not be read of a log, or not believed: kinds with their count and where the first one was."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, kind: str, where: str, number: int = 1) -> None:
        """*number* more of *kind*."""
        self.counts[kind] = self.counts.get(kind, 0) + number
        self._first.setdefault(kind, where)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return "; ".join(f"{kind}: {self._first[kind]}" if count == 1 else f"{kind}: {count}, the first {self._first[kind]}"
                         for kind, count in self.counts.items())


class _UnusableError(Exception):
    """The log cannot be found; the text says why."""


@dataclass(frozen=True)
class _RingOffsets:
    """Offsets and sizes out of VMCOREINFO, all checked: a member lies in its structure."""

    desc_size: int
    state_var: int
    begin: int
    next: int
    info_size: int
    ts_nsec: int
    text_len: int
    caller_id: int | None


@dataclass(frozen=True)
class Ring:
    """printk_ringbuffer.h: struct printk_ringbuffer. Addresses are absolute. *head* and *tail* are descriptor ids."""

    read: Read
    offsets: _RingOffsets
    count: int
    descs: int
    infos: int
    head: int
    tail: int
    data: int
    size: int

    def records(self, damage: Damage) -> Iterator[Record]:
        """From the oldest to the newest; what is damaged goes into *damage*."""
        infos = _Table(self.read, self.infos, self.offsets.info_size, self.count)
        room = self.size
        for number, desc in self._committed(damage):
            block = self._text_block(number, desc, damage)
            if block is None:
                continue
            # Text blocks never overlap; damaged ones could name the same bytes over and over.
            room -= block[1] + _BLOCK_HEADER
            if room < 0:
                damage.add("the text blocks are larger together than the ring they lie in, the rest is left out",
                           f"at record {number:#x}")
                return
            record = self._record(number, block, infos.element(number % self.count), damage)
            if record is not None:
                yield record

    def _committed(self, damage: Damage) -> Iterator[tuple[int, bytes]]:
        """(id, descriptor) of the records with contents (printk_ringbuffer.c: desc_read).

        Committed ones may still be continued by their writer, their text so far is whole. Reserved ones have no text yet,
        reusable ones none any more.
        """
        offset = self.offsets.state_var
        for number, desc in self._descriptors(damage):
            state_var = _number(desc, offset, 8)
            state = state_var >> 62
            if state_var & _ID_MASK != number:
                # desc_reserve: the head moves on first, then the descriptor, reusable so far, gets its new id.
                if state_var and not (state == _REUSABLE and (number - state_var) & _ID_MASK == self.count):
                    damage.add("descriptors that bear another number than their place",
                               f"{state_var & _ID_MASK:#x} instead of {number:#x}")
            elif state in {_COMMITTED, _FINALIZED}:
                yield number, desc

    def _descriptors(self, damage: Damage) -> Iterator[tuple[int, bytes]]:
        """(id, descriptor) from tail to head, as far as they can be read."""
        table = _Table(self.read, self.descs, self.offsets.desc_size, self.count)
        length = ((self.head - self.tail) & _ID_MASK) + 1
        if length > self.count:
            damage.add("the ring's ends are damaged, all descriptors were searched instead",
                       f"from {self.tail:#x} to {self.head:#x} there are more than {self.count}")
            yield from self._search(table, damage)
            return
        for done, desc in self._used(table, self.tail, length, damage):
            yield (self.tail + done) & _ID_MASK, desc

    def _used(self, table: _Table, start: int, length: int, damage: Damage) -> Iterator[tuple[int, bytes]]:
        """(n, descriptor) of those of *length* descriptors from id *start* on that were ever used and can be read.

        Whole blocks at once where there is nothing to see: large rings are mostly zeros, and damaged ones may be mostly not
        there. (Zeros were never used: id 0, reserved.)
        """
        done = 0
        while done < length:
            block, index = table.block((start + done) % self.count)
            run = min(length - done, len(block) - index)
            if block.unreadable:
                damage.add(_UNREADABLE_DESCRIPTORS, f"{(start + done) % self.count} of {self.count}", run)
            elif not block.zero:
                for i in range(run):
                    desc = block.element(index + i)
                    if desc is None:
                        damage.add(_UNREADABLE_DESCRIPTORS, f"{(start + done + i) % self.count} of {self.count}")
                    else:
                        yield done + i, desc
            done += run

    def _search(self, table: _Table, damage: Damage) -> Iterator[tuple[int, bytes]]:
        """Descriptors that stand where their id belongs, by rising id.

        Ids begin at -count (printk_ringbuffer.h: DESC0_ID), hence the half turn.
        """
        half = 1 << 61
        found = array("Q")
        for index, desc in self._used(table, 0, self.count, damage):
            state_var = _number(desc, self.offsets.state_var, 8)
            if state_var and (state_var & _ID_MASK) % self.count == index:
                found.append((state_var + half) & _ID_MASK)
        for turned in sorted(found):
            number = (turned - half) & _ID_MASK
            desc_again = table.element(number % self.count)
            if desc_again is not None:
                yield number, desc_again

    def _text_block(self, number: int, desc: bytes, damage: Damage) -> tuple[int, int] | None:
        """(offset in the ring, length) of a record's text with its padding (printk_ringbuffer.c: get_data).

        Positions count on and on, modulo the ring's size they are places. A block that would go over the end lies at the
        start as a whole. One that ends right at the end does not since commit 67e1b0052f6b "printk_ringbuffer: don't needlessly
        wrap data blocks around" (6.18); before, no block ended there, so that one rule holds for all. (makedumpfile 1.7.9 takes
        such a block for one at the start, and prints other bytes.)
        """
        begin, after = _number(desc, self.offsets.begin, 8), _number(desc, self.offsets.next, 8)
        if begin & after & 1:
            # FAILED_LPOS, NO_LPOS (later EMPTY_LINE_LPOS): lost for want of room, or an empty line; makedumpfile prints neither
            return None
        last = (after - 1) % _LONG
        span = (after - begin) % _LONG
        if begin // self.size == last // self.size:
            start, length = begin % self.size, span
        else:
            start, length = 0, after % self.size
        if not _BLOCK_HEADER <= length <= span <= self.size:
            damage.add("records whose text is nowhere in the ring", f"{number:#x}, from {begin:#x} to {after:#x}")
            return None
        return start + _BLOCK_HEADER, length - _BLOCK_HEADER

    def _record(self, number: int, block: tuple[int, int], info: bytes | None, damage: Damage) -> Record | None:
        if info is None:
            damage.add("records whose time and length cannot be read", f"{number:#x}")
            return None
        offset, room = block
        offsets = self.offsets
        text_len = _number(info, offsets.text_len, 2)
        try:
            raw = self.read(self.data + offset - _BLOCK_HEADER, _BLOCK_HEADER + min(room, text_len))
        except OldmemReadError as error:
            damage.add("records whose text cannot be read", f"{number:#x} at {self.data + offset:#x} ({error.cause})")
            return None
        # Both are given nevertheless: most of a damaged record is better than none of it.
        if text_len > room:
            damage.add("records that are cut, since they say to be longer than their text block",
                       f"{number:#x}, {text_len} instead of at most {room} bytes")
        if _number(raw, 0, _BLOCK_HEADER) != number:
            damage.add("records whose text may be another's, since its block bears another number",
                       f"{number:#x}, at {self.data + offset:#x}")
        caller_id = None if offsets.caller_id is None else _number(info, offsets.caller_id, 4)
        return Record(_number(info, offsets.ts_nsec, 8), raw[_BLOCK_HEADER:], caller_id)


@dataclass(frozen=True)
class RecordBuffer:
    """printk.c of 3.5 to 5.9: log_buf, at absolute *address*; *first* and *next* are log_first_idx and log_next_idx."""

    read: Read
    address: int
    size: int
    first: int
    next: int
    header: int
    ts_nsec: int
    len: int
    text_len: int
    caller_id: int | None

    def records(self, damage: Damage) -> Iterator[Record]:
        """From the oldest to the newest; what is damaged goes into *damage*. Each byte is looked at once at most.

        A wrapped buffer is two chains; if the older one is broken, the newer one is still there.
        """
        if self.first > self.next:
            yield from self._chain(self.first, None, damage)
            yield from self._chain(0, self.next, damage)
        else:
            yield from self._chain(self.first, self.next, damage)

    def _chain(self, at: int, end: int | None, damage: Damage) -> Iterator[Record]:
        """Records from *at* to *end*; None: to the record of length 0 that ends the buffer (printk.c: log_next)."""
        limit = self.size if end is None else end
        while at != end:
            if at + self.header > limit:
                damage.add("the chain of records is broken", f"it leads to {at:#x}, its end is {limit:#x}")
                return
            try:
                header = self.read(self.address + at, self.header)
            except OldmemReadError as error:
                damage.add("the chain of records is lost", f"at {self.address + at:#x} ({error.cause})")
                return
            length = _number(header, self.len, 2)
            if length == 0 and end is None:
                return
            if length < self.header or at + length > limit:
                damage.add("the chain of records is broken", f"the one at {at:#x} has length {length:#x}")
                return
            record = self._record(at, length - self.header, header, damage)
            if record is not None:
                yield record
            at += length

    def _record(self, at: int, room: int, header: bytes, damage: Damage) -> Record | None:
        text_len = _number(header, self.text_len, 2)
        if text_len > room:
            damage.add("records that are cut, since their text is longer than they are",
                       f"at {at:#x}, {text_len} instead of at most {room} bytes")
        try:
            text = self.read(self.address + at + self.header, min(room, text_len))
        except OldmemReadError as error:
            damage.add("records whose text cannot be read", f"at {self.address + at:#x} ({error.cause})")
            return None
        caller_id = None if self.caller_id is None else _number(header, self.caller_id, 4)
        return Record(_number(header, self.ts_nsec, 8), text, caller_id)


Log: TypeAlias = Ring | RecordBuffer


def read_log(read: Read, vmcoreinfo: Vmcoreinfo) -> Log | Absent:
    """The log of the kernel that *vmcoreinfo* describes."""
    try:
        if vmcoreinfo.symbol("prb") is not None:
            return _find_ring(read, vmcoreinfo)
        if vmcoreinfo.symbol("log_buf") is not None:
            return _find_record_buffer(read, vmcoreinfo)
    except _UnusableError as error:
        return Absent(f"no log: {error}")
    except OldmemReadError as error:
        where = "" if error.address is None else f" at {error.address:#x}"
        return Absent(f"no log: what leads to it cannot be read{where} ({error.cause})")
    return Absent("no log: VMCOREINFO has neither SYMBOL(prb) nor SYMBOL(log_buf)")


def _find_ring(read: Read, vmcoreinfo: Vmcoreinfo) -> Ring:
    structures = _Structures(vmcoreinfo)
    ring_size = structures.size("printk_ringbuffer")
    desc_ring = structures.member("printk_ringbuffer", "desc_ring", structures.size("prb_desc_ring"))
    data_ring = structures.member("printk_ringbuffer", "text_data_ring", structures.size("prb_data_ring"))
    counter = vmcoreinfo.number("OFFSET(atomic_long_t.counter)", 10) or 0
    lpos = structures.member("prb_desc", "text_blk_lpos", structures.size("prb_data_blk_lpos"))
    offsets = _RingOffsets(
        desc_size=structures.size("prb_desc"),
        state_var=structures.member("prb_desc", "state_var", counter + 8) + counter,
        begin=lpos + structures.member("prb_data_blk_lpos", "begin", 8),
        next=lpos + structures.member("prb_data_blk_lpos", "next", 8),
        info_size=structures.size("printk_info"),
        ts_nsec=structures.member("printk_info", "ts_nsec", 8),
        text_len=structures.member("printk_info", "text_len", 2),
        caller_id=structures.optional_member("printk_info", "caller_id", 4),
    )
    pointer = _number(read(_symbol(vmcoreinfo, "prb"), 8), 0, 8)
    if pointer == 0:
        raise _UnusableError("the pointer prb is 0; is this the VMCOREINFO of the crashed kernel?")
    ring = read(vmcoreinfo.physical(pointer), ring_size)

    def value(start: int, structure: str, member: str, width: int) -> int:
        return _number(ring, start + structures.member(structure, member, width), width)

    def bits(start: int, structure: str, member: str, limit: int) -> int:
        found = value(start, structure, member, 4)
        if not 0 < found <= limit:
            raise _UnusableError(f"the ring at {pointer:#x} says {member} {found:#x}, at most {limit} is believed")
        return found

    return Ring(
        read=read,
        offsets=offsets,
        count=1 << bits(desc_ring, "prb_desc_ring", "count_bits", COUNT_BITS_LIMIT),
        descs=vmcoreinfo.physical(value(desc_ring, "prb_desc_ring", "descs", 8)),
        infos=vmcoreinfo.physical(value(desc_ring, "prb_desc_ring", "infos", 8)),
        head=value(desc_ring, "prb_desc_ring", "head_id", counter + 8) & _ID_MASK,
        tail=value(desc_ring, "prb_desc_ring", "tail_id", counter + 8) & _ID_MASK,
        data=vmcoreinfo.physical(value(data_ring, "prb_data_ring", "data", 8)),
        size=1 << bits(data_ring, "prb_data_ring", "size_bits", SIZE_BITS_LIMIT),
    )


def _find_record_buffer(read: Read, vmcoreinfo: Vmcoreinfo) -> RecordBuffer:
    structures = _Structures(vmcoreinfo)
    name = "printk_log" if vmcoreinfo.number("SIZE(printk_log)", 10) is not None else "log"
    if name == "log" and vmcoreinfo.number("SIZE(log)", 10) is None:
        raise _UnusableError("VMCOREINFO has no line SIZE(printk_log)=; logs of kernels before 3.5 are not read")
    header = structures.size(name)

    def value(symbol: str, width: int) -> int:
        return _number(read(_symbol(vmcoreinfo, symbol), width), 0, width)

    size, first, after = value("log_buf_len", 4), value("log_first_idx", 4), value("log_next_idx", 4)
    if not header <= size <= 1 << SIZE_BITS_LIMIT:
        raise _UnusableError(f"log_buf_len is {size:#x}, at most {1 << SIZE_BITS_LIMIT:#x} is believed")
    if first > size or after > size:
        raise _UnusableError(f"log_first_idx {first:#x} and log_next_idx {after:#x} must lie in the {size:#x} bytes of log_buf")
    return RecordBuffer(
        read=read,
        address=vmcoreinfo.physical(value("log_buf", 8)),
        size=size,
        first=first,
        next=after,
        header=header,
        ts_nsec=structures.member(name, "ts_nsec", 8),
        len=structures.member(name, "len", 2),
        text_len=structures.member(name, "text_len", 2),
        # only with CONFIG_PRINTK_CALLER, 5.1 and later
        caller_id=structures.optional_member(name, "caller_id", 4),
    )


def _symbol(vmcoreinfo: Vmcoreinfo, name: str) -> int:
    """The absolute address of a variable."""
    virtual = vmcoreinfo.symbol(name)
    if virtual is None:
        raise _UnusableError(f"VMCOREINFO has no line SYMBOL({name})=")
    return vmcoreinfo.physical(virtual)


class _Structures:
    """SIZE and OFFSET lines: decimal numbers; members lie in their structure."""

    def __init__(self, vmcoreinfo: Vmcoreinfo):
        self._vmcoreinfo = vmcoreinfo

    def _line(self, key: str) -> int:
        value = self._vmcoreinfo.number(key, 10)
        if value is None:
            raise _UnusableError(f"VMCOREINFO has no line {key}=")
        return value

    def size(self, structure: str) -> int:
        """SIZE(structure)."""
        size = self._line(f"SIZE({structure})")
        if not 0 < size <= _STRUCTURE_LIMIT:
            raise _UnusableError(f"VMCOREINFO says SIZE({structure})={size}, 1 to {_STRUCTURE_LIMIT} is believed")
        return size

    def member(self, structure: str, member: str, width: int) -> int:
        """OFFSET(structure.member) of a member of *width* bytes."""
        offset, size = self._line(f"OFFSET({structure}.{member})"), self.size(structure)
        if offset + width > size:
            raise _UnusableError(f"VMCOREINFO says OFFSET({structure}.{member})={offset}, but SIZE({structure})={size}")
        return offset

    def optional_member(self, structure: str, member: str, width: int) -> int | None:
        """The same; None if there is no such line."""
        if f"OFFSET({structure}.{member})" not in self._vmcoreinfo.fields:
            return None
        return self.member(structure, member, width)


class _Block:
    """Consecutive elements of a table; what is unreadable stands as zeros in *data* and in *bad*."""

    def __init__(self, data: bytes, bad: list[tuple[int, int]], stride: int):
        self._data = data
        self._bad = bad
        self._stride = stride
        self.zero = not bad and data.count(0) == len(data)
        self.unreadable = sum(b - a for a, b in bad) == len(data)

    def __len__(self) -> int:
        return len(self._data) // self._stride

    def element(self, index: int) -> bytes | None:
        start = index * self._stride
        end = start + self._stride
        if any(a < end and start < b for a, b in self._bad):
            return None
        return self._data[start:end]


class _Table:
    """*count* elements of *stride* bytes from *address* on, read in blocks; one block is kept."""

    def __init__(self, read: Read, address: int, stride: int, count: int):
        self._read = read
        self._address = address
        self._stride = stride
        self._count = count
        self._first = -1
        self._block = _Block(b"", [], stride)

    def block(self, index: int) -> tuple[_Block, int]:
        """The block that holds an element, and the element's index in it."""
        first = index - index % _BLOCK_ELEMENTS
        if first != self._first:
            size = min(_BLOCK_ELEMENTS, self._count - first) * self._stride
            self._block = _Block(*_read_around(self._read, self._address + first * self._stride, size), self._stride)
            self._first = first
        return self._block, index - first

    def element(self, index: int) -> bytes | None:
        """None if it cannot be read."""
        block, at = self.block(index)
        return block.element(at)


def _read_around(read: Read, address: int, size: int) -> tuple[bytes, list[tuple[int, int]]]:
    """(bytes, unreadable parts): page by page where the whole cannot be read."""
    with suppress(OldmemReadError):
        return read(address, size), []
    data, bad, at = bytearray(size), [], 0
    while at < size:
        length = min(size - at, _PAGE - (address + at) % _PAGE)
        try:
            data[at:at + length] = read(address + at, length)
        except OldmemReadError as error:
            good = error.good
            try:
                data[at:at + good] = read(address + at, good)
            except OldmemReadError:
                good = 0
            bad.append((at + good, at + length))
        at += length
    return bytes(data), bad


def _number(data: bytes, offset: int, width: int) -> int:
    return int.from_bytes(data[offset:offset + width], "big")
