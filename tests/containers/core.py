"""A vmcore as a debugger sees it: program headers, notes by CPU, memory; by what elf.h says, and with the system's pread."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

PAGE, MIB = 4096, 1 << 20
# note type: (name, offset and size in the descriptor), in the names of samples' synth-registers.json
FIELDS = {
    1: (("psw", 112, 16), ("gprs", 128, 128), ("acrs", 256, 64)), 2: (("fpc", 0, 4), ("fprs", 8, 128)), 0x301: (("timer", 0, 8),),
    0x302: (("todcmp", 0, 8),), 0x303: (("todpreg", 0, 4),), 0x304: (("ctrs", 0, 128),), 0x305: (("prefix", 0, 4),),
    0x309: (("vxrs_low", 0, 128),), 0x30A: (("vxrs_high", 0, 256),),
}


class Core:
    """An open one."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY)
        head = os.pread(self.descriptor, MIB, 0)
        assert head[:7] == b"\x7fELF\2\2\1"
        phoff, phnum = struct.unpack_from(">Q", head, 32)[0], struct.unpack_from(">H", head, 56)[0]
        rows = [struct.unpack_from(">IIQQQQQQ", head, phoff + 56 * number) for number in range(phnum)]
        self.notes = list(_notes(next(head[row[2]:row[2] + row[5]] for row in rows if row[0] == 4)))
        self.loads = [(row[4], row[5], row[2]) for row in rows if row[0] == 1]  # address, size, offset

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Core:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    @property
    def memory(self) -> list[list[str]]:
        """Ranges as samples.json has them."""
        return [[f"{paddr:#x}", f"{paddr + size:#x}"] for paddr, size, _ in self.loads]

    @property
    def vmcoreinfo(self) -> bytes | None:
        return next((desc for name, _, desc in self.notes if name == b"VMCOREINFO"), None)

    @property
    def cpus(self) -> list[dict[str, bytes]]:
        """The registers of each CPU, those whose notes it has."""
        found: list[dict[str, bytes]] = []
        for name, kind, desc in self.notes:
            if name == b"CORE" and kind == 1:
                found.append({})
            for field, at, size in FIELDS.get(kind, ()) if name in {b"CORE", b"LINUX"} else ():
                found[-1][field] = desc[at:at + size]
        return found

    def read(self, offset: int, size: int) -> bytes:
        """All of it, by offset in the file."""
        data = os.pread(self.descriptor, size, offset)
        assert len(data) == size
        return data

    def page(self, address: int) -> bytes | None:
        """None: it cannot be read."""
        for paddr, size, offset in self.loads:
            if paddr <= address < paddr + size:
                try:
                    data = os.pread(self.descriptor, PAGE, offset + address - paddr)
                except OSError:
                    return None
                return data if len(data) == PAGE else None
        return None

    def hash(self, size: int) -> str:
        """sha256 of [0, size), with zeros where there is no memory, or none that can be read."""
        digest, position = hashlib.sha256(), 0
        for paddr, memsz, offset in sorted(self.loads):
            _zeros(digest, paddr - position)
            done = 0
            while done < memsz:
                try:
                    data = os.pread(self.descriptor, min(MIB, memsz - done), offset + done)
                except OSError:
                    data = bytes(min(PAGE - (paddr + done) % PAGE, memsz - done))
                digest.update(data)
                done += len(data)
            position = paddr + memsz
        _zeros(digest, size - position)
        return digest.hexdigest()


def _zeros(digest: hashlib._Hash, count: int) -> None:
    assert count >= 0
    for at in range(0, count, MIB):
        digest.update(bytes(min(MIB, count - at)))


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + 12 <= len(data):
        name, desc, kind = struct.unpack_from(">III", data, at)
        begin = at + 12 + -(-name // 4) * 4
        yield data[at + 12:at + 12 + name].rstrip(b"\0"), kind, data[begin:begin + desc]
        at = begin + -(-desc // 4) * 4
