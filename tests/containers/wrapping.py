"""The memory of a synthetic machine in every container, as the program would write it that writes this one."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tests.builders import Built, CpuState, KernelImage, Registers, all_notes, cpu_notes
from tests.builders.containers import avml, elf, flattened, kdump, lime, s390, s390_ext, seekable
from tests.builders.notes import NT_PRSTATUS, note

PAGE, MIB = 4096, 1 << 20
ZEROS = bytes(PAGE)
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Content:
    """What a program that dumps has to write: all memory by absolute address, which of it the machine had, its CPUs' registers.

    *clock*: the whole clock comparator of each CPU; STORE STATUS, and so everything but QEMU, has its first seven bytes only.
    """

    memory: bytes
    ranges: Ranges
    cpus: tuple[CpuState, ...]
    vector: bool
    todpreg_size: int
    vmcoreinfo: bytes | None
    release: str = "6.1.0-test"
    note_align: int = 0
    image: KernelImage | None = None

    @cached_property
    def pages(self) -> Mapping[int, bytes]:
        return {at // PAGE: self.memory[at:at + PAGE].ljust(PAGE, b"\0") for start, end in self.ranges for at in range(start, end, PAGE)}

    @property
    def loads(self) -> list[elf.Load]:
        return [elf.Load(start, self.memory[start:end]) for start, end in self.ranges]

    @property
    def kernels_loads(self) -> list[elf.Load]:
        """From 6.10 on a kernel puts its image before them."""
        if self.image is None:
            return self.loads
        data = self.memory[self.image.phys:self.image.phys + self.image.end - self.image.start]
        return [elf.Load(self.image.phys, data, vaddr=self.image.start), *self.loads]

    @property
    def prefixes(self) -> list[int]:
        return [cpu.prefix for cpu in self.cpus if cpu.prefix]

    @property
    def notes(self) -> bytes:
        """As the kernel has them, and everything that takes them over from it."""
        return all_notes(self.cpus, self.vector, self.todpreg_size, self.vmcoreinfo)

    @property
    def qemu_notes(self) -> bytes:
        """As QEMU 7.2 has them on a little endian host: another order, no VMCOREINFO, the whole clock comparator, pr_pid swapped."""
        return b"".join(_qemu_cpu(cpu, number, self.todpreg_size) for number, cpu in enumerate(self.cpus, 1))


def of_image(built: Built, ranges: Ranges | None = None) -> Content:
    """All memory of *built* as it lay when the image was taken, and the CPUs that ran then: of a machine in which a dump kernel
    ran, this kernel's own.
    """
    facts = built.model.facts
    cpus, image = facts.cpus, facts.kernel_image
    if built.machine.mode != "plain":
        image = None
        cpus = tuple(CpuState(0x4000 * number, Registers.from_seed(f"dump kernel {number}")) for number in (1, 2))
    memory = built.image.read_bytes()
    return Content(memory, ranges or built.machine.memory, cpus, facts.vector, facts.layout.todpreg_size, facts.vmcoreinfo,
                   built.machine.release, facts.layout.note_align, image)


def _qemu_cpu(cpu: CpuState, number: int, todpreg_size: int) -> bytes:
    """QEMU target/s390x/arch_dump.c: note_func[]; CPU timer and clock comparator are those of the CPU."""
    by_kind = dict(_split(cpu_notes(cpu, number, vector=True, todpreg_size=4)))
    prstatus = bytearray(by_kind[NT_PRSTATUS])
    header = len(prstatus) - 336
    prstatus[header + 32:header + 36] = struct.pack("<I", number)
    by_kind[NT_PRSTATUS] = bytes(prstatus)
    by_kind[0x302] = note(b"LINUX", 0x302, cpu.registers.todcmp[1:] + b"\x5a")  # its last byte never gets into a save area
    by_kind[0x30B] = note(b"LINUX", 0x30B, bytes(32))
    return b"".join(by_kind[kind] for kind in (1, 2, 0x305, 0x304, 0x301, 0x302, 0x303, 0x309, 0x30A, 0x30B))


def _split(notes: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(notes):
        name, desc, kind = struct.unpack_from(">III", notes, at)
        end = at + 12 + -(-name // 4) * 4 + -(-desc // 4) * 4
        found.append((kind, notes[at:end]))
        at = end
    return found


# -- containers: each writes its files into a folder, and returns the one that is given to vmcorefs ------------------------

Writer = Callable[[Content, Path], Path]


def _one(name: str, make: Callable[[Content], bytes]) -> Writer:
    def write(content: Content, folder: Path) -> Path:
        path = folder / name
        path.write_bytes(make(content))
        return path
    return write


def _several(names: Sequence[str], make: Callable[[Content], Sequence[bytes]], given: int = 0) -> Writer:
    def write(content: Content, folder: Path) -> Path:
        for name, data in zip(names, make(content), strict=True):
            (folder / name).write_bytes(data)
        return folder / names[given]
    return write


def _unsorted(content: Content) -> bytes:
    """PT_LOADs in any order, cut anywhere, two of them twice: a part of another one, first, as a 6.10+ kernel has its image."""
    rng = random.Random(5)
    pieces = [elf.Load(at, content.memory[at:min(at + MIB // 2, end)]) for start, end in content.ranges
              for at in range(start, end, MIB // 2)]
    rng.shuffle(pieces)
    start = content.ranges[0][0]
    image = elf.Load(start + 0x40000, content.memory[start + 0x40000:start + 0x48000], vaddr=0x3FFE0040000)
    return elf.core([image, *pieces, replace(pieces[-1], data=pieces[-1].data[:0x3000])], content.notes)


def _zgetdump(content: Content) -> bytes:
    """MiBs of zeros are PT_LOADs without data."""
    loads = []
    for start, end in content.ranges:
        for at in range(start, end, MIB):
            data = content.memory[at:min(at + MIB, end)]
            loads.append(elf.Load(at, data if data.strip(b"\0") or at + MIB > end else b"", len(data)))
    return elf.zgetdump(loads, content.notes)


def kdump_of(content: Content, compression: str = "zlib", level: int = 1, **values: object) -> kdump.Kdump:
    pages = content.pages if level == 0 else {pfn: page for pfn, page in content.pages.items() if page != ZEROS}
    return replace(kdump.Kdump(
        pages, frozenset(content.pages) - set(pages), compression, level, release=content.release.encode(), notes=content.notes,
        vmcoreinfo=content.vmcoreinfo or b"", max_pfn=-(-content.ranges[-1][1] // PAGE)), **values)  # type: ignore[arg-type]


def _split_dump(content: Content) -> list[bytes]:
    dump = kdump_of(content, "zlib")
    return dump.split(dump.end // 3, dump.end // 2)


def _qemu_kdump(content: Content) -> bytes:
    """Flattened, every page has a descriptor, machine S390X, no VMCOREINFO."""
    dump = kdump_of(content, level=0, share_zeros=True, machine=b"S390X", release=b"", notes=content.qemu_notes, vmcoreinfo=b"")
    return flattened.flattened(flattened.pieces(replace(dump, level=1).build(), 16384))


def _flattened(data: bytes) -> bytes:
    """Records of odd sizes, the first of them rewritten at the end, as makedumpfile does with its header."""
    records = flattened.pieces(data, 50_001)
    return flattened.flattened([(0, bytes(len(records[0][1]))), *records[1:], records[0]])


def _lime(content: Content) -> list[tuple[int, bytes]]:
    return [(start, content.memory[start:end]) for start, end in content.ranges]


def _cut(data: bytes, count: int) -> list[bytes]:
    size = -(-len(data) // count // PAGE) * PAGE
    return [data[at:at + size] for at in range(0, len(data), size)]


# These say which memory the machine had
RANGES: Mapping[str, Writer] = {
    "elf": _one("core", lambda c: elf.core(c.loads, c.notes)),
    "elf of a kernel": _one("vmcore", lambda c: elf.kernel(c.kernels_loads, c.notes, c.note_align)),
    "elf, unsorted and overlapping": _one("core", _unsorted),
    "elf, makedumpfile": _one("core", lambda c: elf.core(c.loads, c.notes)),
    "elf, zgetdump": _one("core", _zgetdump),
    "elf, 65535 program headers": _one("core", lambda c: elf.many(c.loads, c.notes)),
    "elf, QEMU": _one("core", lambda c: elf.qemu(c.loads, c.qemu_notes)),
    "elf, QEMU on s390x": _one("core", lambda c: elf.qemu(c.loads, c.qemu_notes, little_endian_host=False)),
    "kdump plain": _one("dump", lambda c: kdump_of(c, "plain", 0).build()),
    "kdump zlib": _one("dump", lambda c: kdump_of(c, "zlib").build()),
    "kdump lzo": _one("dump", lambda c: kdump_of(c, "lzo").build()),
    "kdump snappy": _one("dump", lambda c: kdump_of(c, "snappy", mixed=True).build()),
    "kdump zstd": _one("dump", lambda c: kdump_of(c, "zstd").build()),
    "kdump, version 3": _one("dump", lambda c: kdump_of(c, "zlib", version=3, notes=b"").build()),
    "kdump, QEMU": _one("dump", _qemu_kdump),
    "kdump, split": _several(("dump.1", "dump.2", "dump.3"), _split_dump),
    "kdump, split, the last one given": _several(("dump1", "dump2", "dump3"), _split_dump, 2),
    "flattened kdump": _one("dump", lambda c: _flattened(kdump_of(c, "lzo").build())),
    "flattened elf": _one("dump", lambda c: _flattened(elf.core(c.loads, c.notes))),
    "LiME": _one("dump.lime", lambda c: lime.lime(_lime(c))),
    "LiME, unsorted": _one("dump.lime", lambda c: lime.lime(_lime(c)[::-1])),
    "zstd of an elf": _one("core.zst", lambda c: seekable.zstd(elf.core(c.loads, c.notes), 70_000)),
    "parts of an elf": _several(("core.00", "core.01", "core.02"), lambda c: _cut(elf.core(c.loads, c.notes), 3)),
}
# These do not: all memory up to the end of the file
WHOLE: Mapping[str, Writer] = {
    "raw": _one("oldmem.img", lambda c: c.memory),
    "parts of raw": _several(("oldmem.img.000", "oldmem.img.001", "oldmem.img.002", "oldmem.img.003"), lambda c: _cut(c.memory, 4)),
    "parts of raw (split)": _several(("xaa.aa", "xaa.ab", "xaa.ac"), lambda c: _cut(c.memory, 3)),
    "s390": _one("dump.s390", lambda c: s390.s390(c.memory, c.prefixes)),
    "s390, version 1": _one("dump.s390", lambda c: s390.s390(c.memory, version=1)),
    "s390_ext": _one("dump.s390", lambda c: s390_ext.s390_ext(c.memory, c.prefixes)),
    "s390_ext zlib": _one("dump.s390", lambda c: s390_ext.s390_ext(c.memory, c.prefixes, packed=True)),
    "s390_ext zlib, in part plain": _one("dump.s390", lambda c: s390_ext.s390_ext(c.memory, c.prefixes, packed=True, plain=[1])),
    "s390_ext in a partition": _one("dasda1", lambda c: s390_ext.s390_ext(c.memory, c.prefixes) + random.Random(6).randbytes(MIB)),
    "AVML": _one("mem.lime", lambda c: avml.avml([(0, c.memory)], MIB)),
    "AVML, not compressed": _one("mem.lime", lambda c: lime.avml(c.memory, MIB)),
    "zstd of raw": _one("oldmem.img.zst", lambda c: seekable.zstd(c.memory, 300_000)),
    "bgzip of raw": _one("oldmem.img.gz", lambda c: seekable.bgzip(c.memory)),
    "xz of raw": _one("oldmem.img.xz", lambda c: seekable.xz(c.memory, 500_000)),
    "xz of s390": _one("dump.s390.xz", lambda c: seekable.xz(s390.s390(c.memory, c.prefixes), 500_000)),
}
EVERY = {**RANGES, **WHOLE}
# Registers that the container has, not the memory in it
NOTES = tuple(name for name in RANGES if not name.startswith(("LiME", "kdump, version 3")))
