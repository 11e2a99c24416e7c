"""Dumps that do not have all memory: each with the addresses that cannot be read, and why not."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.builders import Built, Machine, cpus
from tests.builders.containers import elf, flattened, kdump, lime, s390, s390_ext, seekable
from tests.containers.wrapping import MIB, PAGE, Content, kdump_of, of_image

SIZE = 0x280000
MACHINE = Machine(mode="plain", memory=((0, SIZE),), cpus=cpus(2), body_pages="all")  # no page is zero
Absent = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Holed:
    """A file: *absent* are [start, end) and the kind of their error; *warns*: a dump that is not whole says so when it is opened."""

    data: bytes
    absent: Absent
    warns: bool = False
    options: Mapping[str, bytes] = field(default_factory=dict)  # option -> content of the file that it names

    def kind_at(self, address: int) -> str | None:
        return next((kind for start, end, kind in self.absent if start <= address < end), None)

    @property
    def pages(self) -> list[int]:
        """Addresses to look at: of the absent ranges the pages at their ends, and some within; all others."""
        return [page for page in range(0, SIZE, PAGE) if page % 0x10000 == 0
                or not any(start + PAGE < page < end - 2 * PAGE for start, end, _ in self.absent)]

    def good(self, address: int, end: int) -> int:
        """How many bytes from *address* on can be read."""
        return min([max(start, address) for start, stop, _ in self.absent if address < stop and start < end] + [end]) - address


@functools.cache
def machine(folder: Path) -> Built:
    return MACHINE.build(folder)


def _filtered(content: Content) -> Holed:
    """-d 31: two runs and a page, one of them at the end."""
    gone = {0x100, *range(0x181, 0x190), SIZE // PAGE - 1}
    dump = kdump_of(content, "zlib", level=31)
    data = replace(dump, pages={pfn: page for pfn, page in dump.pages.items() if pfn not in gone}, absent=frozenset(gone)).build()
    return Holed(data, ((0x100000, 0x101000, "filtered"), (0x181000, 0x190000, "filtered"), (SIZE - PAGE, SIZE, "filtered")))


def _tails(content: Content) -> Holed:
    """makedumpfile -E: runs of pages that were left out have no data in the file."""
    memory = content.memory
    loads = [elf.Load(0, memory[:0x110000], 0x180000), elf.Load(0x180000, memory[0x180000:0x270000], SIZE - 0x180000)]
    return Holed(elf.core(loads, content.notes), ((0x110000, 0x180000, "filtered"), (0x270000, SIZE, "filtered")))


def _cut(data: bytes, at: int, address: int) -> Holed:
    return Holed(data[:at], ((address, SIZE, "missing"),), warns=True)


def _elf_cut(content: Content) -> Holed:
    data = elf.core(content.loads, content.notes)
    return _cut(data, len(data) - SIZE + 0x200123, 0x200123)


def _pages_behind(dump: kdump.Kdump, data: bytes, cut: int) -> Absent:
    """From the first page on whose data end behind *cut*."""
    for pfn in sorted(dump.pages):
        offset, size = struct.unpack_from(">QI", data, dump.descriptor(pfn))
        if offset + size > cut:
            return ((pfn * PAGE, SIZE, "missing"),)
    raise AssertionError("nothing is behind it")


def _kdump_cut(content: Content) -> Holed:
    dump = kdump_of(content, "zlib")
    data = dump.build()
    cut = struct.unpack_from(">Q", data, dump.descriptor(0x1F3))[0] + 5
    return Holed(data[:cut], _pages_behind(dump, data, cut), warns=True)


def _flattened_cut(content: Content) -> Holed:
    """Within a record: what is before it is good."""
    dump = kdump_of(content, "zlib")
    data = dump.build()
    whole = flattened.flattened(flattened.pieces(data, 16384))
    record = struct.unpack_from(">Q", data, dump.descriptor(0x1F3))[0] // 16384
    return Holed(whole[:4096 + record * (16384 + 16) + 7], _pages_behind(dump, data, record * 16384), warns=True)


def _elf_in_flattened_cut(content: Content) -> Holed:
    data = elf.core(content.loads, content.notes)
    begin = len(data) - SIZE
    record = (begin + 0x200000) // 16384
    whole = flattened.flattened(flattened.pieces(data, 16384))
    return _cut(whole, 4096 + record * (16384 + 16), record * 16384 - begin)


def _broken_page(content: Content) -> Holed:
    """Two pages whose compressed data are damaged: the bytes that come out of them have another checksum."""
    dump = kdump_of(content, "zlib")
    data = bytearray(dump.build())
    for pfn in (0x123, 0x1A0):
        offset, size = struct.unpack_from(">QI", data, dump.descriptor(pfn))
        data[offset + size - 2] ^= 0x40
    return Holed(bytes(data), ((0x123000, 0x124000, "broken"), (0x1A0000, 0x1A1000, "broken")))


def _broken_entry(content: Content) -> Holed:
    """s390_ext: a zlib entry of a MiB."""
    data = bytearray(s390_ext.s390_ext(content.memory, content.prefixes, packed=True))
    at = data.index(b"\x78", PAGE + PAGE + MIB + PAGE)  # header, segment header, first MiB plain, segment header
    data[at + 1000:at + 1016] = bytes(16)
    return Holed(bytes(data), ((MIB, 2 * MIB, "broken"),))


def _broken_frame(content: Content) -> Holed:
    frame, number = 0x40000, 5
    before = seekable.zstd(content.memory[:number * frame], frame)
    data = bytearray(seekable.zstd(content.memory, frame))
    at = len(before) - (8 + 9 + 8 * number)  # without its table: where the frame begins
    assert data[at:at + 4] == b"\x28\xb5\x2f\xfd"
    data[at + 200:at + 216] = bytes(16)
    return Holed(bytes(data), ((number * frame, (number + 1) * frame, "broken"),))


def _bad_map(content: Content) -> Holed:
    """What ddrescue could not read is zeros in the file."""
    bad = ((0x123200, 0x123400), (0x1F0000, 0x200000))
    data = bytearray(content.memory)
    text, position = "# Mapfile.\n0x00000000 + 1\n", 0
    for start, end in bad:
        data[start:end] = bytes(end - start)
        text += f"{position:#x} {start - position:#x} +\n{start:#x} {end - start:#x} -\n"
        position = end
    text += f"{position:#x} {SIZE - position:#x} +\n"
    return Holed(bytes(data), tuple((start, end, "broken") for start, end in bad), options={"bad_map": text.encode()})


HOLED: Mapping[str, Callable[[Content], Holed]] = {
    "kdump, filtered": _filtered,
    "elf, filtered": _tails,
    "elf, cut off": _elf_cut,
    "kdump, cut off": _kdump_cut,
    "flattened kdump, cut off": _flattened_cut,
    "flattened elf, cut off": _elf_in_flattened_cut,
    "s390, cut off": lambda c: _cut(s390.s390(c.memory, c.prefixes), PAGE + 0x1FF001, 0x1FF001),
    "s390_ext, cut off": lambda c: _cut(s390_ext.s390_ext(c.memory, c.prefixes), 2 * PAGE + 0x1FF001, 0x1FF001),
    "LiME, cut off": lambda c: _cut(lime.lime([(0, c.memory)]), 32 + 0x1FF001, 0x1FF001),
    "kdump, damaged pages": _broken_page,
    "s390_ext, damaged entry": _broken_entry,
    "zstd, damaged frame": _broken_frame,
    "raw, with ddrescue's map": _bad_map,
}


@dataclass(frozen=True)
class Case:
    """A file on the disk, what is not in it, and the vmcore of the machine whose memory it had."""

    path: Path
    holed: Holed
    built: Built
    options: Mapping[str, Path]

    @property
    def words(self) -> list[str]:
        """The options for the command line."""
        return [word for name, path in self.options.items() for word in (f"--{name.replace('_', '-')}", str(path))]

    def expected(self, offset: int, size: int) -> tuple[bytes, str | None]:
        """(the good bytes of a read in vmcore's body, the kind of the error behind them)."""
        begin = len(self.built.model.header)  # where address 0 is
        good = self.holed.good(offset - begin, offset - begin + size)
        return self.built.model.read(offset, good), self.holed.kind_at(offset - begin + good) if good < size else None


@functools.cache
def _holed(name: str, machine_folder: Path) -> Holed:
    return HOLED[name](of_image(machine(machine_folder)))


def case(name: str, folder: Path, machine_folder: Path) -> Case:
    built, holed = machine(machine_folder), _holed(name, machine_folder)
    (folder / "dump").write_bytes(holed.data)
    options = {}
    for option, data in holed.options.items():
        options[option] = folder / option
        options[option].write_bytes(data)
    return Case(folder / "dump", holed, built, options)
