"""VMCOREINFO: the text by which a crashed kernel describes itself (kernel/vmcore_info.c, arch/s390/kernel/vmcore_info.c)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from vmcorefs.elf import NHDR_SIZE, parse_nhdr
from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent, Read

NAME = b"VMCOREINFO"
# crash_dump.c: get_vmcoreinfo_old takes the descriptor at +24 whatever n_namesz says (reference D5).
DESC_OFFSET = 24
DESC_LIMIT = 65536
VMCOREINFO_BYTES = 4096  # what a kernel has room for (linux/vmcore_info.h)


@dataclass(frozen=True)
class Vmcoreinfo:
    """The descriptor of a VMCOREINFO note, KEY=VALUE lines.

    *origin*: "os_info", "lowcore" or "option"; *address*: where the descriptor lies in oldmem, None with "option".
    """

    desc: bytes
    origin: str
    address: int | None = None

    @cached_property
    def fields(self) -> dict[str, str]:
        """Values by key; the first occurrence of a key wins."""
        fields: dict[str, str] = {}
        for line in self.desc.split(b"\n"):
            key, equals, value = line.partition(b"=")
            if equals:
                fields.setdefault(key.decode("ascii", "replace"), value.decode("ascii", "replace").rstrip("\0"))
        return fields

    @property
    def osrelease(self) -> str | None:
        """Uname -r of the kernel, None without the line or if it cannot be a release."""
        release = self.fields.get("OSRELEASE")
        return release if release and len(release) <= 64 and release.isprintable() else None

    def number(self, key: str, base: int = 16) -> int | None:
        """The value of *key* as a 64-bit number (s390's own lines are hex without 0x); None if absent or no such number."""
        text = self.fields.get(key)
        if text is None or not text.isascii() or not text.isalnum():
            return None
        try:
            value = int(text, base)
        except ValueError:
            return None
        return value if value < 1 << 64 else None

    def symbol(self, name: str) -> int | None:
        """The virtual address of SYMBOL(name)."""
        return self.number(f"SYMBOL({name})")

    def physical(self, virtual: int) -> int:
        """Virtual to absolute address (asm/page.h: __pa of 6.10+; identity mapping at 0 before).

        With KASLR before 6.10 the SYMBOL values contain the offset already and are absolute addresses.
        """
        offset, phys = self.number("KERNELOFFSET"), self.number("KERNELOFFPHYS")
        if phys is None or offset is None:
            return virtual
        if virtual < offset:
            return (virtual - (self.number("IDENTITYBASE") or 0)) % (1 << 64)
        return virtual - offset + phys


def read_vmcoreinfo_note(read: Read, pointer: int) -> Vmcoreinfo | Absent:
    """The VMCOREINFO note at *pointer* (lowcore's vmcore_info), as crash_dump.c: get_vmcoreinfo_old reads it.

    An odd pointer is what the decompressor left: KASLR offset | 1, the kernel died before its note existed.
    """
    if pointer == 0:
        return Absent("no VMCOREINFO: the pointer at 0xe0c is 0")
    if pointer & 1:
        return Absent(f"no VMCOREINFO: the system crashed early, the field at 0xe0c still holds the KASLR offset "
                      f"{pointer & ~1:#x} | 1, not a pointer")
    try:
        namesz, descsz, _ = parse_nhdr(read(pointer, NHDR_SIZE))
        name = read(pointer + NHDR_SIZE, len(NAME))
    except OldmemReadError as error:
        return Absent(f"VMCOREINFO: the pointer {pointer:#x} at 0xe0c leads outside of what can be read ({error.cause})")
    if name != NAME:
        return Absent(f"VMCOREINFO: no such note at {pointer:#x}, where the pointer at 0xe0c leads "
                      f"(n_namesz {namesz:#x}, name {name.hex()})")
    if descsz > DESC_LIMIT:
        return Absent(f"VMCOREINFO note at {pointer:#x}: size {descsz:#x} is absurd, at most {DESC_LIMIT:#x} is believed")
    try:
        return Vmcoreinfo(read(pointer + DESC_OFFSET, descsz), "lowcore", pointer + DESC_OFFSET)
    except OldmemReadError as error:
        return Absent(f"VMCOREINFO note at {pointer:#x}: {descsz:#x} bytes cannot be read ({error.cause})")
