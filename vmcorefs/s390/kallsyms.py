"""Addresses of a crashed kernel's symbols from its own compressed symbol table (kernel/kallsyms.c, scripts/kallsyms.c).

VMCOREINFO names the table's parts since 6.0. Only symbols that kallsyms holds are found: variables need
CONFIG_KALLSYMS_ALL, which distributions set.
"""

from __future__ import annotations

from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

# kallsyms_names: per symbol a length (one byte; with bit 7 set a second byte holds bits 7..13), then that many token numbers
# kallsyms_token_table: NUL-terminated strings; kallsyms_token_index: 256 u16, where each token's string begins
# kallsyms_offsets: s32 a symbol, relative to u64 kallsyms_relative_base; the first character of a name is its type
_TOKENS = 256
_SYMBOL_LIMIT = 4_000_000
_TOKEN_TABLE_LIMIT = 65536
_CHUNK = 1 << 16


def find_symbol(read: Read, vmcoreinfo: Vmcoreinfo, name: str) -> int | Absent:
    """Virtual address of *name* in the kernel that *vmcoreinfo* describes."""
    parts: dict[str, int] = {}
    for part in ("names", "num_syms", "token_table", "token_index", "offsets", "relative_base"):
        virtual = vmcoreinfo.symbol(f"kallsyms_{part}")
        if virtual is None:
            return Absent(f"VMCOREINFO has no SYMBOL(kallsyms_{part})", suspicious=False)
        parts[part] = vmcoreinfo.physical(virtual)
    try:
        count = int.from_bytes(read(parts["num_syms"], 4), "big")
        if not 0 < count <= _SYMBOL_LIMIT:
            return Absent(f"kallsyms: {count} symbols are absurd")
        tokens = _read_tokens(read, parts["token_table"], parts["token_index"])
        index = _index_of(read, parts["names"], count, tokens, name.encode("ascii"))
        if index is None:
            return Absent(f"kallsyms: no symbol {name}", suspicious=False)
        base = int.from_bytes(read(parts["relative_base"], 8), "big")
        return (base + int.from_bytes(read(parts["offsets"] + 4 * index, 4), "big")) % (1 << 64)
    except OldmemReadError as error:
        return Absent(f"kallsyms: {error.cause} at {error.offset:#x}")


def _read_tokens(read: Read, table_address: int, index_address: int) -> list[bytes]:
    raw = read(index_address, 2 * _TOKENS)
    starts = [int.from_bytes(raw[2 * i:2 * i + 2], "big") for i in range(_TOKENS)]
    table = read(table_address, min(max(starts) + 64, _TOKEN_TABLE_LIMIT))
    return [table[start:].split(b"\0", 1)[0][:64] for start in starts]


def _index_of(read: Read, address: int, count: int, tokens: list[bytes], name: bytes) -> int | None:
    data, position = b"", 0
    for index in range(count):
        if len(data) - position < 2 + (1 << 14):
            address, data, position = _refill(read, address, data, position)
        length = data[position]
        position += 1
        if length & 0x80:
            length = (length & 0x7F) | data[position] << 7
            position += 1
        encoded = data[position:position + length]
        position += length
        if b"".join([tokens[token] for token in encoded])[1:] == name:
            return index
    return None


def _refill(read: Read, address: int, data: bytes, position: int) -> tuple[int, bytes, int]:
    """More of the names; reads page-wise down to what is there, since the table may end right before unreadable memory."""
    size = _CHUNK
    while True:
        try:
            more = read(address, size)
        except OldmemReadError:
            if size == 1 and position >= len(data):
                raise
            if size == 1:
                return address, data[position:] + bytes(2 + (1 << 14)), 0
            size //= 2
            continue
        return address + size, data[position:] + more, 0
