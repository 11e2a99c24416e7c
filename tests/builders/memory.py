"""Memory by pages: what was written, a pattern on chosen other pages, zeros elsewhere."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from functools import lru_cache

from .header import PAGE, page_down

# Upper 16 bits of each 8 byte word of a body; the lower 48 are the word's own absolute address.
OLD_TAG = 0xB0D1
DUMP_TAG = 0xDEAD


@lru_cache(maxsize=64)
def pattern_page(tag: int, address: int) -> bytes:
    """Each 8 bytes tell their address, so any mapping error shows where the bytes came from."""
    start = tag << 48 | address
    words = array("Q", range(start, start + PAGE, 8))
    if sys.byteorder == "little":
        words.byteswap()
    return words.tobytes()


class Memory:
    """Written pages win over body pages; everything else is zero."""

    def __init__(self, tag: int, body_pages: Iterable[int]) -> None:
        self._tag = tag
        self._body = frozenset(body_pages)
        self._pages: dict[int, bytes] = {}

    def page(self, address: int) -> bytes:
        if address % PAGE:
            raise ValueError(f"{address:#x} is no page address")
        if address in self._pages:
            return self._pages[address]
        return pattern_page(self._tag, address) if address in self._body else bytes(PAGE)

    def read(self, address: int, size: int) -> bytes:
        first = page_down(address)
        data = b"".join(self.page(page) for page in range(first, address + size, PAGE))
        return data[address - first : address - first + size]

    def write(self, address: int, data: bytes) -> None:
        for page in range(page_down(address), address + len(data), PAGE):
            content = bytearray(self.page(page))
            start, end = max(page, address), min(page + PAGE, address + len(data))
            content[start - page : end - page] = data[start - address : end - address]
            self._pages[page] = bytes(content)

    def pages(self) -> list[int]:
        """Addresses of all pages that may be nonzero."""
        return sorted(self._body | self._pages.keys())


class Places:
    """Hands out addresses inside `ranges`, never the same twice."""

    def __init__(self, ranges: Iterable[tuple[int, int]], start: int) -> None:
        self._ranges = sorted(ranges)
        self._taken: list[tuple[int, int]] = []
        self._next = start

    def claim(self, address: int, size: int, what: str) -> int:
        if not self._free(address, size):
            raise ValueError(f"{what} does not fit at {address:#x}..{address + size:#x}: no memory there, or taken")
        self._taken.append((address, address + size))
        return address

    def allocate(self, size: int, align: int, what: str) -> int:
        address = -(-self._next // align) * align
        while not self._free(address, size):
            blocks = [end for start, end in self._taken if start < address + size and address < end]
            later = [start for start, _ in self._ranges if start > address]
            if blocks:
                address = -(-max(blocks) // align) * align
            elif later:
                address = -(-min(later) // align) * align
            else:
                raise ValueError(f"no room for {what}: {size:#x} bytes from {self._next:#x} on")
        self._next = address + size
        return self.claim(address, size, what)

    def _free(self, address: int, size: int) -> bool:
        inside = any(start <= address and address + size <= end for start, end in self._ranges)
        return inside and not any(start < address + size and address < end for start, end in self._taken)
