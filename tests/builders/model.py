"""The vmcore the dump kernel would have served: slow, page by page, from what the crashed machine's memory held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from .header import PAGE, Facts, Header, Phdr, page_down


@dataclass(frozen=True)
class Model:
    """`old_page` gives the 4096 bytes at an absolute page address of the crashed machine, as copy_oldmem_* would.

    Another opinion about the header (a CPU left out, say) is `Model(replace(model.facts, cpus=...), model.old_page)`.
    """

    facts: Facts
    old_page: Callable[[int], bytes]

    @cached_property
    def _header(self) -> Header:
        return Header(self.facts)

    @cached_property
    def header(self) -> bytes:
        """All bytes before the first PT_LOAD's data."""
        return self._header.to_bytes()

    @property
    def loads(self) -> tuple[Phdr, ...]:
        return self._header.loads

    @property
    def size(self) -> int:
        return self._header.file_size

    def page(self, number: int) -> bytes:
        """Page `number` of the file (vmcore.c: read_vmcore)."""
        offset = number * PAGE
        header = self.header
        if offset < len(header):
            return header[offset : offset + PAGE]
        for load in self.loads:
            index = (offset - page_down(load.offset)) // PAGE
            if 0 <= index < len(load.pages):
                return self.old_page(load.pages[index])
        raise ValueError(f"page {number} is behind the end")

    def read(self, offset: int, size: int) -> bytes:
        """pread: cut at the end of the file, nothing behind it."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        first = offset // PAGE
        data = b"".join(self.page(number) for number in range(first, (end - 1) // PAGE + 1))
        return data[offset - first * PAGE : end - first * PAGE]

    def file_offset(self, address: int) -> int:
        """File offset of an old address in the pages of the memory PT_LOADs (not of the kernel image's)."""
        for load in self.loads[1 if self.facts.kernel_image else 0 :]:
            if page_down(address) in load.pages:
                return load.offset + address - load.paddr
        raise ValueError(f"{address:#x} is in no memory PT_LOAD")
