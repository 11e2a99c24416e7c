"""Distil sparse captures from a gold folder of whole ones.

usage: python -m tests.captures.distil [--gold FOLDER] [--expanded FOLDER] [--check] [NAME ...]

The gold folder (or $VMCOREFS_GOLD) holds captures of real crashed machines and `expand.py`, which expands them and
makes the kernel's own vmcore of each again. With --expanded the expanded files are taken from FOLDER/NAME instead.
Results go to folders next to this file, in the format that sparse.py describes. --check writes nothing and says whether
the stored ones are the same.

Kept are the pages on which the header of the vmcore depends, found by following pointers from the image itself, and
some body pages. Rules: arch/s390/kernel/{crash_dump,os_info,smp}.c, asm/lowcore.h, kernel/kallsyms.c, fs/proc/vmcore.c.
The code here is on purpose its own and shares nothing with the product. What the kernel served is taken from its
vmcore, never computed.
"""
from __future__ import annotations

import argparse
import json
import lzma
import mmap
import os
import struct
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .sparse import HEAD, HERE, HSA, IMAGE, NOWHERE, PAGE, WANT, Load, Record, loads, pack, unpack

NAMES = ("k61-hot", "k61-novx", "k61-novx-dump", "k61-plain", "k61-smp1", "k61-smp4-offline", "k61-text",
         "k61-zfcpdump", "k61-zfcpdump-smp3", "k612-smp2")
WITH_KALLSYMS = ("k61-hot",)
"""Where the whole of kallsyms is kept. It is large, and only here does the order of the CPUs hang on a symbol."""

EHDR = bytes.fromhex("7f454c46020201000000000000000000" "00040016" "00000001")
OS_INFO_MAGIC = b"OSINFOSZ"
TMPFS = b"GOLD-TMPFS-PAGE "
ZERO = bytes(PAGE)


class CaptureError(Exception):
    """The capture is not what the rules say."""


def pages(start: int, length: int) -> range:
    """The pages that a piece of memory touches."""
    return range(start // PAGE * PAGE, start + max(length, 1), PAGE)


@dataclass
class Machine:
    """A whole capture: the image, the HSA, and what old memory is (crash_dump.c: copy_oldmem_iter)."""

    image: mmap.mmap
    hsa: mmap.mmap | None
    base: int
    size: int
    kept: dict[str, set[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(set))
    wanted: set[int] = field(default_factory=set)
    """Old addresses of pages whose contents in the vmcore are kept as well."""

    @property
    def dump_kernel(self) -> int:
        """Where the dump kernel's memory ends in the image; 0 if none ran."""
        return self.size if self.base else len(self.hsa) if self.hsa else 0

    def source(self, address: int) -> tuple[bytes, int]:
        """Where an old page lies."""
        if self.hsa and address < len(self.hsa):
            return HSA, address
        if self.base <= address < self.base + self.size:
            return IMAGE, address - self.base
        return IMAGE, address + self.base if address < self.size else address

    def page(self, where: tuple[bytes, int]) -> bytes:
        side, offset = where
        memory = self.hsa if side == HSA else self.image
        if memory is None or not 0 <= offset <= len(memory) - PAGE:
            raise CaptureError(f"no page at 0x{offset:x}")
        return memory[offset:offset + PAGE]

    def raw(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= len(self.image) - length:
            raise CaptureError(f"image has no {length} bytes at 0x{offset:x}")
        return self.image[offset:offset + length]

    def old(self, address: int, length: int) -> bytes:
        data = b"".join(self.page(self.source(page)) for page in pages(address, length))
        return data[address % PAGE:address % PAGE + length]

    def raw_u64(self, offset: int) -> int:
        return int.from_bytes(self.raw(offset, 8), "big")

    def old_u64(self, address: int) -> int:
        return int.from_bytes(self.old(address, 8), "big")

    def keep_raw(self, why: str, offset: int, length: int = PAGE) -> None:
        """Keep pages of the image."""
        self.raw(offset, length)
        self.kept[why].update((IMAGE, page) for page in pages(offset, length))

    def keep_old(self, why: str, address: int, length: int = PAGE) -> None:
        """Keep pages of the crashed system."""
        self.old(address, length)
        self.kept[why].update(self.source(page) for page in pages(address, length))
        self.wanted.update(pages(address, length))


@dataclass(frozen=True)
class Info:
    """A VMCOREINFO text and the addresses it explains (crash_core.c; asm/page.h: __pa)."""

    values: dict[str, str]

    @classmethod
    def parse(cls, text: bytes) -> Info:
        return cls(dict(line.partition("=")[::2] for line in text.decode("ascii").splitlines()))

    def hex(self, key: str) -> int:
        return int(self.values.get(key, "0"), 16)

    def symbol(self, name: str) -> int:
        return self.absolute(self.hex(f"SYMBOL({name})"))

    def absolute(self, pointer: int) -> int:
        """Up to 6.9 memory is mapped at its absolute address, from 6.10 the image and the rest each at its own."""
        if "KERNELOFFPHYS" not in self.values:
            return pointer
        if pointer < self.hex("KERNELOFFSET"):
            return pointer - self.hex("IDENTITYBASE")
        return pointer - self.hex("KERNELOFFSET") + self.hex("KERNELOFFPHYS")


def note_length(header: bytes) -> int:
    """Length of a VMCOREINFO note from its first 24 bytes (crash_dump.c: get_vmcoreinfo_old)."""
    name, desc, _ = struct.unpack_from(">III", header)
    if name != 11 or header[12:22] != b"VMCOREINFO" or desc > PAGE:
        raise CaptureError("no VMCOREINFO note")
    return 24 + int(desc)


def keep_dump_kernel(machine: Machine, header: bytes, info: Info) -> None:
    """Pages of the dump kernel's own memory, raw."""
    end = machine.dump_kernel
    machine.keep_raw("dump kernel: lowcore", 0, 2 * PAGE)
    machine.keep_raw("dump kernel: S390EP, parameter area", 0x10000, 2 * PAGE)
    note = machine.raw_u64(0xe0c)
    machine.keep_raw("dump kernel: VMCOREINFO", note, note_length(machine.raw(note, 24)))
    machine.keep_raw("dump kernel: os_info", machine.raw_u64(0xe18))
    for at in find(machine.image, OS_INFO_MAGIC, end, PAGE):
        machine.keep_raw("dump kernel: every page with the os_info magic", at)
    # fs/proc/vmcore.c: elfcorebuf, elfnotes_buf. Other copies of an ELF header are kept to be rejected.
    finished = 0
    for at in find(machine.image, EHDR, end, 8):
        match = at % PAGE == 0 and machine.raw(at, PAGE) == header[:PAGE]
        finished += match
        machine.keep_raw(f"dump kernel: {'finished' if match else 'other'} ELF core headers", at, 64 + 56 * 4)
    if not finished:
        raise CaptureError("the finished ELF header is nowhere in the dump kernel's memory")
    for part in range(PAGE, len(header), PAGE):
        for at in find(machine.image, header[part:part + PAGE], end, PAGE):
            machine.keep_raw("dump kernel: finished notes", at)
    for at in walk_save_areas(machine, info):
        machine.keep_raw("dump kernel: save areas and head of their list", at, 0x480)


def find(memory: mmap.mmap, pattern: bytes, end: int, align: int) -> Iterator[int]:
    """Aligned places of a pattern below end."""
    at = memory.find(pattern, 0, end)
    while at >= 0:
        if at % align == 0:
            yield at
        at = memory.find(pattern, at + 1, end)


def walk_save_areas(machine: Machine, info: Info) -> Iterator[int]:
    """The dump kernel's list of struct save_area (crash_dump.c: dump_save_areas), and its head.

    The boot CPU's is found by psw, ctrs and gprs, which the kernel copied from old 0x1200; the others by the list.
    """
    area = machine.old(0x1200, 512)
    pattern = area[0x100:0x110] + area[0x180:0x200] + area[0x80:0x100]
    chains = 0
    for hit in find(machine.image, pattern, machine.dump_kernel, 8):
        chain = [hit - 16]
        try:
            while (after := info.absolute(machine.raw_u64(chain[-1]))) != chain[0] and len(chain) < 1000:
                if info.absolute(machine.raw_u64(after + 8)) != chain[-1]:
                    raise CaptureError(f"list is broken at 0x{after:x}")
                chain.append(after)
        except CaptureError:
            yield hit - 16  # kept, as something to be rejected
            continue
        chains += 1
        yield from chain
    if chains != 1:
        raise CaptureError(f"{chains} lists of save areas")


def keep_crashed(machine: Machine) -> Info:
    """Pages of the crashed system on which the header depends, through the map."""
    machine.keep_old("crashed: absolute lowcore", 0, 2 * PAGE)
    machine.keep_old("crashed: S390EP, parameter area", 0x10000, 2 * PAGE)
    os_info = machine.old_u64(0xe18)
    machine.keep_old("crashed: os_info", os_info)
    if machine.old(os_info, 8) != OS_INFO_MAGIC:
        raise CaptureError(f"no os_info at 0x{os_info:x}")
    for index in range(3):  # VMCOREINFO, re-IPL block, flags: the entries that point to data
        address, length = struct.unpack(">QQ", machine.old(os_info + 32 + 20 * index, 16))
        if address and length:
            machine.keep_old("crashed: os_info's data", address, length)
    note = machine.old_u64(0xe0c)
    length = note_length(machine.old(note, 24))
    machine.keep_old("crashed: VMCOREINFO", note, length)
    info = Info.parse(machine.old(note + 24, length - 24))
    keep_cpus(machine, info)
    return info


def keep_cpus(machine: Machine, info: Info) -> None:
    """lowcore_ptr, each CPU's lowcore, its vector registers' page, and what says its address (setup.c, smp.c)."""
    array, count = info.symbol("lowcore_ptr"), int(info.values["LENGTH(lowcore_ptr)"])
    machine.keep_old("crashed: lowcore_ptr", array, 8 * count)
    lowcores = [p for index in range(count) if (p := info.absolute(machine.old_u64(array + 8 * index)))]
    for lowcore in lowcores:
        machine.keep_old("crashed: lowcores", lowcore, 2 * PAGE)
        if "KERNELOFFPHYS" in info.values:  # 6.12: struct pcpu, CPU address at 0x22
            machine.keep_old("crashed: struct pcpu", info.absolute(machine.old_u64(lowcore + 0x288)), 0x24)
    for lowcore in [0, *lowcores]:  # absolute lowcore: the early area, stale in 6.1
        if origin := machine.old_u64(lowcore + 0x11b0) & ~0x3ff:
            machine.keep_old("crashed: machine check extended save areas", origin, 0x420)


def kallsyms(machine: Machine, info: Info) -> tuple[dict[str, int], list[tuple[int, int]]]:
    """Symbols by name, and the pieces of memory they were read from (kernel/kallsyms.c)."""
    count = int.from_bytes(machine.old(info.symbol("kallsyms_num_syms"), 4), "big")
    base = machine.old_u64(info.symbol("kallsyms_relative_base"))
    offsets = struct.unpack(f">{count}I", machine.old(info.symbol("kallsyms_offsets"), 4 * count))
    index = struct.unpack(">256H", machine.old(info.symbol("kallsyms_token_index"), 512))
    table = machine.old(info.symbol("kallsyms_token_table"), index[255] + 64)
    tokens = [table[at:table.index(0, at)] for at in index]
    start = info.symbol("kallsyms_names")
    data = machine.old(start, min(64 * count, len(machine.image) - start - PAGE))
    symbols: dict[str, int] = {}
    at = 0
    for offset in offsets:
        length = data[at]
        at += 1
        if length & 0x80:
            length, at = length & 0x7f | data[at] << 7, at + 1
        name = b"".join(tokens[byte] for byte in data[at:at + length]).decode("ascii")
        at += length
        symbols.setdefault(name[1:], info.absolute(base + offset))
    spans = [(info.symbol("kallsyms_num_syms"), 4), (info.symbol("kallsyms_relative_base"), 8),
             (info.symbol("kallsyms_offsets"), 4 * count), (info.symbol("kallsyms_token_index"), 512),
             (info.symbol("kallsyms_token_table"), index[255] + len(tokens[255]) + 1), (start, at)]
    return symbols, spans


def wrong_sources(machine: Machine, address: int) -> Iterator[tuple[bytes, int]]:
    """Where a mistaken map would take a page from, if that has contents that would show it."""
    right = machine.source(address)
    for offset in (address, address + machine.base, address - machine.base):
        if (IMAGE, offset) != right and 0 <= offset <= len(machine.image) - PAGE:
            yield IMAGE, offset


def segments(machine: Machine) -> list[tuple[int, int]]:
    """The served addresses, split where the map changes."""
    end = len(machine.image)
    if machine.base:
        borders = ((0, machine.size), (machine.size, machine.base), (machine.base + machine.size, end))
        return [(first, last) for first, last in borders if first < last]
    return [(0, len(machine.hsa)), (len(machine.hsa), end)] if machine.hsa else [(0, end)]


def keep_border(machine: Machine, candidates: Iterable[int]) -> None:
    """The first of the candidates, and the first that shows a mistake: neither zeros nor what a mistake would give."""
    for index, address in enumerate(candidates):
        data = machine.page(machine.source(address))
        others = [(where, machine.page(where)) for where in wrong_sources(machine, address)]
        telling = data != ZERO and all(data != other for _, other in others)
        if index == 0 or telling:
            machine.keep_old("body: first and last pages of a stretch with one map", address)
            decoys = machine.kept["body: what a mistaken map would show there"]
            decoys.update(where for where, other in others if other != ZERO)
        if telling:
            return


def keep_body(machine: Machine, symbols: dict[str, int], found: Sequence[Load]) -> None:
    """Pages of the crashed system that show the map."""
    machine.keep_old("body: linux_banner", symbols["linux_banner"], 1)
    for start, end in segments(machine):
        keep_border(machine, range(start, end, PAGE))
        keep_border(machine, range(end - PAGE, start - PAGE, -PAGE))
        texts = [a for a in range(start, end, PAGE) if machine.page(machine.source(a)).startswith(TMPFS)]
        for address in {*texts[:1], *texts[-1:]}:
            machine.keep_old("body: first and last tmpfs pages of a stretch with one map", address)
    if len(found) > 1 and found[0].start > found[1].start:  # 6.10 and later: the kernel image first
        for address in (found[0].start, found[0].end - PAGE):
            machine.keep_old("body: first and last pages of the kernel image", address)


def runs(offsets: Iterable[int]) -> list[str]:
    """Pages as runs of text."""
    found: list[list[int]] = []
    for offset in sorted(offsets):
        if found and found[-1][1] == offset:
            found[-1][1] += PAGE
        else:
            found.append([offset, offset + PAGE])
    return [f"0x{start:x}" if end == start + PAGE else f"0x{start:x}-0x{end:x}" for start, end in found]


def wanted_records(machine: Machine, vmcore: mmap.mmap, found: Sequence[Load], plain: bool) -> Iterator[Record]:
    """Each wanted page as it stands in the kernel's vmcore, at each place it has there."""
    for one in found:
        for address in sorted(machine.wanted):
            if one.start <= address < one.end:
                offset = one.offset + address - one.start
                data = vmcore[offset:offset + PAGE]
                if data != machine.page(machine.source(address)):
                    raise CaptureError(f"absolute 0x{address:x}: the vmcore has another page there than the image")
                yield Record(WANT, NOWHERE if plain else offset, address, data)


def distil(name: str, about: dict[str, Any], folder: Path, header: bytes | None) -> tuple[dict[str, Any], list[Record]]:
    """capture.json and the records of one capture; folder holds the expanded files."""
    image = map_file(folder / about["image"]["file"])
    hsa = map_file(folder / about["hsa"]["file"]) if "hsa" in about else None
    machine = Machine(image, hsa, about.get("oldmem_base", 0), about.get("oldmem_size", 0))
    vmcore = map_file(folder / ("vmcore" if header else about["others"][0]["file"]))
    found = loads(header or vmcore[:1 << 20])
    info = keep_crashed(machine)
    symbols, spans = kallsyms(machine, info)
    if "pcpu_devices" in symbols and "KERNELOFFPHYS" not in info.values:  # 6.1: 0x18 bytes each, CPU address at 0x12
        count = int(info.values["LENGTH(lowcore_ptr)"])
        machine.keep_old("crashed: pcpu_devices", symbols["pcpu_devices"], 0x18 * count)
    if name in WITH_KALLSYMS:
        for start, length in spans:
            machine.keep_old("crashed: kallsyms", start, length)
    if header:
        note = machine.raw_u64(0xe0c)
        own = Info.parse(machine.raw(note + 24, note_length(machine.raw(note, 24)) - 24))
        keep_dump_kernel(machine, header, own)
    keep_body(machine, symbols, found)
    kept = {where for group in machine.kept.values() for where in group}
    records = [Record(HEAD, 0, 0, header)] if header else []
    records += [Record(side, offset, 0, data) for side, offset in sorted(kept, key=lambda w: (w[0] == HSA, w[1]))
                if (data := machine.page((side, offset))) != ZERO]
    records += sorted(wanted_records(machine, vmcore, found, header is None), key=lambda r: (r.offset, r.address))
    tags, sides = [record.tag for record in records], ((IMAGE, "image"), (HSA, "hsa"))
    result = {
        "name": name,
        "mode": about["mode"],
        "release": info.values["OSRELEASE"],
        "layout": about["layout"],
        "base": machine.base,
        "size": machine.size,
        "hsa_size": len(hsa) if hsa else 0,
        "image_size": len(image),
        "vmcore_size": len(vmcore) if header else None,
        "header_size": len(header) if header else None,
        "records": {tag.decode("ascii").strip(): tags.count(tag) for tag in (HEAD, IMAGE, HSA, WANT) if tag in tags},
        "made_from": {
            "capture": name,
            "image_sha256": about["image"]["sha256"],
            "hsa_sha256": about["hsa"]["sha256"] if hsa else None,
            "pages_as_in": "the kernel's vmcore" if header else "QEMU's ELF dump of the stopped machine",
            "pages_as_in_sha256": about["vmcore"]["sha256"] if header else about["others"][0]["sha256"],
        },
        "kept": {why: {word: runs(offsets) for side, word in sides if (offsets := [o for s, o in group if s == side])}
                 for why, group in sorted(machine.kept.items())},
    }
    return result, records


def map_file(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def expanded_folder(gold: Path, name: str, scratch: Path) -> Path:
    """Expand a capture with the gold folder's own program, which checks every file's sha256."""
    about = json.loads((gold / name / "capture.json").read_text())
    command = [sys.executable, str(gold / "expand.py"), str(gold / name), str(scratch)]
    subprocess.run([*command, "--vmcore"] if "vmcore" in about else command, check=True, stdout=subprocess.DEVNULL)
    return scratch


def one(name: str, gold: Path, expanded: Path | None, check: bool) -> bool:
    """Distil one capture; with check, say whether the stored one is the same."""
    about = json.loads((gold / name / "capture.json").read_text())
    header = (gold / name / about["vmcore"]["header_file"]).read_bytes() if "vmcore" in about else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = expanded / name if expanded else expanded_folder(gold, name, Path(scratch))
        result, records = distil(name, about, folder, header)
    text = json.dumps(result, indent=1) + "\n"
    target = HERE / name
    if check:
        same = ((target / "capture.json").read_text(encoding="ascii") == text
                and unpack(lzma.decompress((target / "pages.xz").read_bytes())) == tuple(records))
        print(f"{name}: {'the same' if same else 'DIFFERENT'}")
        return same
    target.mkdir(exist_ok=True)
    packed = lzma.compress(pack(records), check=lzma.CHECK_CRC64, preset=9 | lzma.PRESET_EXTREME)
    (target / "pages.xz").write_bytes(packed)
    (target / "capture.json").write_text(text, encoding="ascii")
    counts = ", ".join(f"{tag} {count}" for tag, count in result["records"].items())
    print(f"{name}: {len(packed)} bytes; {counts}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.captures.distil", description="Distil sparse captures.")
    parser.add_argument("--gold", type=Path, default=os.environ.get("VMCOREFS_GOLD"), help="default: $VMCOREFS_GOLD")
    parser.add_argument("--expanded", type=Path, help="folder with captures that are expanded already")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is stored")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMES)}")
    options = parser.parse_args()
    if options.gold is None:
        parser.error("say where the captures are with --gold or VMCOREFS_GOLD")
    try:
        good = [one(name, options.gold, options.expanded, options.check) for name in options.names or NAMES]
        return 0 if all(good) else 1
    except (OSError, CaptureError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
