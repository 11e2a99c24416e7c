"""Memory as the rules in s390/ see it: read(address, n) or OldmemReadError, and scan(start, end, overlap)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vmcorefs.errors import OldmemReadError

_STEP = 0x10000


class FakeMemory:
    """Zeros, but for what was put there. Reads over the end, or into one of the `bad` ranges, fail."""

    def __init__(self, size: int = 0x100000) -> None:
        self.data = bytearray(size)
        self.bad: list[tuple[int, int]] = []
        self.reads: list[tuple[int, int]] = []

    def put(self, address: int, data: bytes) -> int:
        assert address + len(data) <= len(self.data)
        self.data[address:address + len(data)] = data
        return address

    def put_u64(self, address: int, *values: int) -> None:
        self.put(address, struct.pack(f">{len(values)}Q", *values))

    def read(self, address: int, size: int) -> bytes:
        self.reads.append((address, size))
        first = next((start for start, end in self.bad if start < address + size and address < end), len(self.data))
        if address < 0 or address + size > min(first, len(self.data)) or any(a <= address < e for a, e in self.bad):
            raise OldmemReadError("memory", address, "not there", address=address)
        return bytes(self.data[address:address + size])

    def scan(self, start: int, end: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        end = min(end, len(self.data))
        for at in range(start, end, _STEP):
            yield at, bytes(self.data[at:min(at + _STEP + overlap, end)])
