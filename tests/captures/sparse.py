"""Sparse captures: real memory images of crashed machines, cut down to the pages that matter.

A capture is a folder next to this file with two files:

- `capture.json`: what the capture is, where it came from, which pages it keeps and why;
- `pages.xz`: LZMA of a row of records, each `>4sIQQ` (tag, length, offset, address) and `length` bytes:

  | tag    | offset                 | address          | bytes |
  | ------ | ---------------------- | ---------------- | ----- |
  | `HEAD` | 0                      | 0                | the kernel's vmcore up to the first PT_LOAD's data |
  | `IMAG` | in the memory image    | 0                | a page of the memory image |
  | `HSA ` | in the HSA image       | 0                | a page of the HSA image |
  | `WANT` | in the kernel's vmcore | absolute address | a page as it stands in the kernel's vmcore |

A capture that no dump kernel saw (mode plain) has no `HEAD`; the offset of its `WANT` records is `NOWHERE` and the
bytes are those of QEMU's own dump of the stopped machine. Pages that are not kept read as zeros after `expand`.

`distil.py` writes captures, nothing here depends on it, and nothing here uses the product. From the command line:

    python -m tests.captures.sparse list
    python -m tests.captures.sparse expand NAME DIRECTORY
    python -m tests.captures.sparse compare NAME FILE
"""
from __future__ import annotations

import argparse
import functools
import json
import lzma
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent
PAGE = 4096
RECORD = struct.Struct(">4sIQQ")
HEAD, IMAGE, HSA, WANT = b"HEAD", b"IMAG", b"HSA ", b"WANT"
NOWHERE = (1 << 64) - 1


class Readable(Protocol):
    """What `compare` needs of an open file."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Record:
    """One record of pages.xz."""

    tag: bytes
    offset: int
    address: int
    data: bytes


@dataclass(frozen=True)
class SparseCapture:
    """A stored capture.

    `base` and `size` are B and S of kdump (0 in other modes). `header` is the kernel's vmcore up to the data of the
    first PT_LOAD, `vmcore_size` that file's size; both are None in plain mode. `kept` says why a page is there: reason
    -> side ("image", "hsa") -> runs of pages, "0xSTART" or "0xSTART-0xEND", end not included.
    """

    name: str
    mode: str
    base: int
    size: int
    hsa_size: int
    image_size: int
    release: str
    layout: str
    header: bytes | None
    vmcore_size: int | None
    folder: Path
    kept: dict[str, dict[str, list[str]]] = field(hash=False)


@dataclass(frozen=True)
class Expanded:
    """The files that `expand` wrote."""

    image: Path
    hsa: Path | None


@dataclass(frozen=True)
class Load:
    """A PT_LOAD, its memory rounded outwards to pages (vmcore.c: process_ptload_program_headers_elf64)."""

    index: int
    offset: int
    start: int
    end: int


def pack(records: Sequence[Record]) -> bytes:
    """The contents of pages.xz before compression."""
    return b"".join(RECORD.pack(r.tag, len(r.data), r.offset, r.address) + r.data for r in records)


def unpack(data: bytes) -> tuple[Record, ...]:
    """The opposite of `pack`."""
    records: list[Record] = []
    at = 0
    while at < len(data):
        tag, length, offset, address = RECORD.unpack_from(data, at)
        at += RECORD.size + length
        if at > len(data):
            raise ValueError(f"record {len(records)} ends {at - len(data)} bytes behind the end")
        records.append(Record(tag, offset, address, data[at - length:at]))
    return tuple(records)


@functools.cache
def _records(name: str) -> tuple[Record, ...]:
    return unpack(lzma.decompress((HERE / name / "pages.xz").read_bytes()))


def names() -> list[str]:
    """The names of all captures, sorted."""
    return sorted(path.parent.name for path in HERE.glob("*/capture.json"))


def load(name: str) -> SparseCapture:
    """A capture by its name; KeyError if there is none."""
    if name not in names():
        raise KeyError(f"there is no capture {name}; there are {', '.join(names())}")
    about = json.loads((HERE / name / "capture.json").read_text(encoding="ascii"))
    header = next((record.data for record in _records(name) if record.tag == HEAD), None)
    return SparseCapture(
        name=about["name"],
        mode=about["mode"],
        base=about["base"],
        size=about["size"],
        hsa_size=about["hsa_size"],
        image_size=about["image_size"],
        release=about["release"],
        layout=about["layout"],
        header=header,
        vmcore_size=about["vmcore_size"],
        folder=HERE / name,
        kept=about["kept"],
    )


def _write(path: Path, size: int, records: Iterator[Record]) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
        for record in records:
            file.seek(record.offset)
            file.write(record.data)
    return path


def expand(name: str, directory: str | Path) -> Expanded:
    """Write the memory image (`oldmem.img`) and, in zfcpdump mode, the HSA image (`hsa.img`) as sparse files."""
    capture, directory = load(name), Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    image = _write(directory / "oldmem.img", capture.image_size, (r for r in _records(name) if r.tag == IMAGE))
    if not capture.hsa_size:
        return Expanded(image, None)
    return Expanded(image, _write(directory / "hsa.img", capture.hsa_size, (r for r in _records(name) if r.tag == HSA)))


def expected_pages(name: str) -> Iterator[tuple[int, bytes]]:
    """(offset in the vmcore, page as the kernel served it), rising; nothing for a capture without a kernel's vmcore."""
    return ((r.offset, r.data) for r in _records(name) if r.tag == WANT and r.offset != NOWHERE)


def expected_memory(name: str) -> Iterator[tuple[int, bytes]]:
    """(absolute address in the crashed system, page). Memory that is in the vmcore twice comes once."""
    seen = {r.address: r.data for r in _records(name) if r.tag == WANT}
    return iter(sorted(seen.items()))


def loads(header: bytes) -> list[Load]:
    """The PT_LOADs of a header region, in file order."""
    phoff, phnum = struct.unpack_from(">Q", header, 32)[0], struct.unpack_from(">H", header, 56)[0]
    found = []
    for index in range(phnum):
        kind, _, offset, _, paddr, _, memsz, _ = struct.unpack_from(">IIQQQQQQ", header, phoff + 56 * index)
        if kind == 1:
            start, end = paddr // PAGE * PAGE, -(-(paddr + memsz) // PAGE) * PAGE
            found.append(Load(index, offset - (paddr - start), start, end))
    return found


def place(header: bytes, offset: int) -> str:
    """What lies at an offset of a vmcore with this header region, in words."""
    if offset < 64:
        return f"ELF header byte {offset}"
    phoff, phnum = struct.unpack_from(">Q", header, 32)[0], struct.unpack_from(">H", header, 56)[0]
    if phoff <= offset < phoff + 56 * phnum:
        fields = ("p_type", "p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
        index, byte = divmod(offset - phoff, 56)
        return f"program header {index}, {fields[byte // 4 if byte < 8 else byte // 8 + 1]}"
    for one in loads(header):
        if one.offset <= offset < one.offset + one.end - one.start:
            return f"PT_LOAD {one.index}, absolute 0x{one.start + offset - one.offset:x}"
    at, size = struct.unpack_from(">Q16xQ", header, phoff + 8)  # PT_NOTE is always the first program header
    end, cpu = min(at + size, len(header)), 0
    while at + 12 <= end:
        name_size, desc_size, kind = struct.unpack_from(">III", header, at)
        desc = at + 12 + (name_size + 3) // 4 * 4
        after = desc + (desc_size + 3) // 4 * 4
        cpu += kind == 1
        if at <= offset < after:
            who = header[at + 12:at + 12 + name_size].rstrip(b"\0").decode("ascii", "replace")
            which = f", CPU group {cpu}" if cpu and who != "VMCOREINFO" else ""
            where = f"descriptor byte {offset - desc}" if offset >= desc else f"note header byte {offset - at}"
            return f"note {who} 0x{kind:x}{which}, {where}"
        at = after
    return "padding"


def _read(file: Readable, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = b""
    while len(data) < length and (part := file.read(length - len(data))):
        data += part
    return data


def _first(got: bytes, wanted: bytes) -> int:
    """The first place where two strings differ."""
    return next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))


def _compare_header(file: Readable, header: bytes) -> Iterator[str]:
    got = _read(file, 0, len(header))
    if got == header:
        return
    if len(got) < len(header):
        yield f"header: only {len(got)} of {len(header)} bytes"
    bad = [i for i, (a, b) in enumerate(zip(got, header, strict=False)) if a != b]
    if bad:
        yield f"header: {len(bad)} of {len(header)} bytes differ, first at 0x{bad[0]:x}: {place(header, bad[0])}"
    seen: set[str] = set()
    for at in bad:
        what = place(header, at)
        item = what.rsplit(" byte ", 1)[0].removesuffix(", descriptor").removesuffix(", note header")
        if item in seen:
            continue
        seen.add(item)
        some = slice(at // 4 * 4, at // 4 * 4 + 16)
        yield (f"header: 0x{at:x}: {what}: from 0x{some.start:x} {got[some].hex(' ', 4)}, "
               f"kernel {header[some].hex(' ', 4)}")


def _whose(name: str, data: bytes) -> str:
    """Which kept page these bytes are, for a hint at a mapping mistake."""
    if not any(data):
        return "all zeros"
    sides = {IMAGE: "image", HSA: "HSA"}
    same = [f"{sides[r.tag]} 0x{r.offset:x}" for r in _records(name) if r.tag in sides and r.data == data]
    return "the bytes of " + " or ".join(same) if same else f"{data[:16].hex(' ', 4)} ..."


def _compare_page(name: str, file: Readable, offset: int, record: Record) -> Iterator[str]:
    got = _read(file, offset, len(record.data))
    if got == record.data:
        return
    what = f"page at 0x{offset:x} (absolute 0x{record.address:x})"
    if len(got) < len(record.data):
        yield f"{what}: only {len(got)} of {len(record.data)} bytes"
        return
    yield (f"{what}: differs from byte {_first(got, record.data)} on; it has {_whose(name, got)}, "
           f"expected {_whose(name, record.data)}")


def _compare(name: str, file: Readable) -> Iterator[str]:
    capture = load(name)
    size = file.seek(0, 2)
    if capture.vmcore_size is not None and size != capture.vmcore_size:
        yield f"size: {size} instead of {capture.vmcore_size} ({size - capture.vmcore_size:+d})"
    if capture.header is not None:
        yield from _compare_header(file, capture.header)
        for record in _records(name):
            if record.tag == WANT:
                yield from _compare_page(name, file, record.offset, record)
        return
    # No kernel's file: look the pages up through the candidate's own program headers.
    start = _read(file, 0, PAGE)
    if len(start) < 64 or start[:6] != b"\x7fELF\x02\x02":
        yield "header: not a 64 bit big endian ELF file"
        return
    phoff, phnum = struct.unpack_from(">Q", start, 32)[0], struct.unpack_from(">H", start, 56)[0]
    found = loads(_read(file, 0, min(phoff + 56 * phnum, size)).ljust(phoff + 56 * phnum, b"\0"))
    for record in _records(name):
        if record.tag != WANT:
            continue
        places = [one.offset + record.address - one.start for one in found if one.start <= record.address < one.end]
        if not places:
            yield f"absolute 0x{record.address:x}: in no PT_LOAD"
        for offset in places:
            yield from _compare_page(name, file, offset, record)


def compare(name: str, vmcore: str | Path | Readable) -> list[str]:
    """Every difference between a vmcore and the kernel's, in words; empty if there is none.

    Compared are the size, the whole header region and every page in `expected_pages`. For a capture in plain mode the
    pages of `expected_memory` are looked for through the file's own PT_LOADs. `vmcore` is an open file, a path, or a
    directory that has a file `vmcore`.
    """
    if not isinstance(vmcore, (str, Path)):
        return list(_compare(name, vmcore))
    path = Path(vmcore)
    with open(path / "vmcore" if path.is_dir() else path, "rb") as file:
        return list(_compare(name, file))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 0 the same, 1 different, 2 could not do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.captures.sparse", description="Sparse captures.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, modes and sizes")
    one = commands.add_parser("expand", help="write memory image and HSA image as sparse files")
    one.add_argument("name")
    one.add_argument("directory", type=Path)
    one = commands.add_parser("compare", help="compare a vmcore with what the kernel served")
    one.add_argument("name")
    one.add_argument("file", type=Path, help="a file, or a directory that has a file vmcore")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            for name in names():
                it = load(name)
                print(f"{name:18} {it.mode:8} {it.release:14} image 0x{it.image_size:x} B 0x{it.base:x} "
                      f"S 0x{it.size:x} HSA 0x{it.hsa_size:x}")
        elif options.command == "expand":
            written = expand(options.name, options.directory)
            print(*(path for path in (written.image, written.hsa) if path), sep="\n")
        elif differences := compare(options.name, options.file):
            print(*differences, sep="\n")
            return 1
        else:
            pages, header = sum(r.tag == WANT for r in _records(options.name)), load(options.name).header
            head = f"size, {len(header)} header bytes and " if header else ""
            print(f"{options.file}: {head}{pages} pages are as in {options.name}")
    except (OSError, KeyError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
