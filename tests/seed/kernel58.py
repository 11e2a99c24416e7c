"""What the 5.8 kernel itself makes of a machine: arch/s390/kernel/crash_dump.c, compiled for this host and run.

No capture of a crashed machine exists for layout 5.8, so its expected bytes come from the kernel's source text. That
text is not part of this repository. It is looked for as ``crash_dump-5.8.txt`` in the directory ``VMCOREFS_SEED``
names, else in ``seed`` beside the captures of ``VMCOREFS_GOLD``; :func:`available` says why it cannot be used.

:func:`build` cuts the C text out of the file (from its SPDX line on, otherwise unchanged) and compiles it with
``harness.c`` against the headers in ``stubs/``. :func:`elfcorehdr` runs the kernel's elfcorehdr_alloc() on a described
machine. :func:`merged` is the other half, fs/proc/vmcore.c, written here after its rules: nothing in this folder
imports vmcorefs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

SEED_FILE: Final = "crash_dump-5.8.txt"
SEED_START: Final = b"// SPDX-License-Identifier"
STATUS_SIZE: Final = 512
VECTORS_SIZE: Final = 512
PAGE: Final = 4096

# Where harness.c lets the kernel allocate its header (ARENA): PT_NOTE's p_offset is a pointer into it.
ELFCOREHDR_ADDRESS: Final = 0x3000_0000

# Old lowcore and what get_vmcoreinfo_old() reads through it.
LOWCORE_VMCORE_INFO: Final = 0xE0C
NOTE_DESC_OFFSET: Final = 24

_HERE: Final = Path(__file__).resolve().parent
_COMPILER: Final = "gcc"
# The kernel's own two semantics flags: it writes through pointers of other types and takes fields of address 0.
_FLAGS: Final = ("-std=gnu11", "-O1", "-fno-strict-aliasing", "-fno-delete-null-pointer-checks", "-U_FORTIFY_SOURCE")

_EHDR: Final = struct.Struct(">16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct(">IIQQQQQQ")
_NHDR: Final = struct.Struct(">III")
_ET_CORE: Final = 4
_PT_LOAD: Final = 1
_PT_NOTE: Final = 4

Range = tuple[int, int]


class SeedError(Exception):
    """The kernel text could not be compiled, or it stopped (panic, BUG_ON, an error from elfcorehdr_alloc)."""


@dataclass(frozen=True)
class SeedCpu:
    """One CPU as the dump kernel gets it: lowcore 0x1200..0x13ff and v0..v31, 512 bytes each."""

    status: bytes
    vectors: bytes = bytes(VECTORS_SIZE)

    def __post_init__(self) -> None:
        if len(self.status) != STATUS_SIZE or len(self.vectors) != VECTORS_SIZE:
            raise ValueError(f"a CPU is 512 + 512 bytes, got {len(self.status)} + {len(self.vectors)}")


# --- finding and compiling the text ---------------------------------------------------------------------------------


def _seed_file() -> Path | str:
    """The kernel text's file, or why there is none."""
    if seed := os.environ.get("VMCOREFS_SEED"):
        file = Path(seed) / SEED_FILE
        variable = "VMCOREFS_SEED"
    elif gold := os.environ.get("VMCOREFS_GOLD"):
        file = Path(gold) / ".." / "seed" / SEED_FILE
        variable = "VMCOREFS_GOLD/../seed"
    else:
        return f"neither VMCOREFS_SEED nor VMCOREFS_GOLD is set: no {SEED_FILE}, the kernel text of layout 5.8"
    return file if file.is_file() else f"no {SEED_FILE} in {variable} ({file.parent})"


def available() -> str | None:
    """Why the kernel text cannot be run here, None when it can."""
    file = _seed_file()
    if isinstance(file, str):
        return file
    if shutil.which(_COMPILER) is None:
        return f"no {_COMPILER}: it compiles the kernel text of layout 5.8"
    return None


def seed_text() -> bytes:
    """The C text alone. What stands before its SPDX line is the commit it was taken from."""
    file = _seed_file()
    if isinstance(file, str):
        raise SeedError(file)
    text = file.read_bytes()
    start = text.find(SEED_START)
    if start < 0:
        raise SeedError(f"{file}: no line starts with {SEED_START.decode()!r}, so where the C text begins is not known")
    return text[start:].rstrip(b"\n") + b"\n"


def build(directory: Path) -> Path:
    """The compiled program, in ``directory``; compiled once for the same text, harness and headers."""
    text = seed_text()
    sources = [_HERE / "harness.c", *sorted((_HERE / "stubs").rglob("*.h"))]
    digest = hashlib.sha256(text)
    for source in sources:
        digest.update(source.read_bytes())
    place = directory / f"kernel58-{digest.hexdigest()[:16]}"
    program = place / "elfcorehdr"
    if program.exists():
        return program
    place.mkdir(parents=True, exist_ok=True)
    (place / "crash_dump.c").write_bytes(text)
    unfinished = place / f"elfcorehdr.{os.getpid()}"  # renamed when complete: test processes may share the directory
    command = [_COMPILER, *_FLAGS, f"-I{place}", f"-I{_HERE / 'stubs'}", "-o", str(unfinished), str(sources[0])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise SeedError(f"the kernel text does not compile\n{' '.join(command)}\n{done.stderr}")
    unfinished.replace(program)
    return program


# --- describing the machine -----------------------------------------------------------------------------------------


def _pieces(address: int, data: bytes, oldmem: Range | None, hsa_size: int) -> Iterator[tuple[bool, int, bytes]]:
    """Where bytes of the crashed system at ``address`` lie for the dump kernel: (in the HSA?, address there, bytes)."""
    base, size = oldmem or (0, 0)
    bounds = (size, base, base + size) if oldmem else (hsa_size,)
    while data:
        count = min([len(data), *(bound - address for bound in bounds if bound > address)])
        if not oldmem:
            yield address < hsa_size, address, data[:count]
        elif base <= address < base + size:
            yield False, address - base, data[:count]
        else:
            yield False, address + base if address < size else address, data[:count]
        address += count
        data = data[count:]


def _words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def _description(
    *,
    cpus: Sequence[SeedCpu],
    ranges: Sequence[Range],
    oldmem: Range | None,
    hsa_size: int,
    fcp_dump: bool,
    vx: bool,
    os_info: bytes | None,
    pieces: Sequence[tuple[bool, int, bytes]],
) -> bytes:
    """The machine in the form harness.c reads; the layout is in its first comment."""
    end_before = 0
    for start, end in ranges:
        if not end_before <= start < end:
            raise ValueError(f"ranges must be nonempty, rising and disjoint, not {start:#x}-{end:#x}")
        end_before = end
    base, size = oldmem or (0, 0)
    out = [_words(vx, base, size, hsa_size, fcp_dump, len(cpus))]
    out += [cpu.status + cpu.vectors for cpu in cpus]
    out += [_words(len(ranges)), *(_words(*bounds) for bounds in ranges)]
    out += [_words(0) if os_info is None else _words(len(os_info) + 1) + os_info]
    out += [_words(len(pieces))]
    out += [_words(in_hsa, address, len(data)) + data for in_hsa, address, data in pieces]
    return b"".join(out)


def elfcorehdr(
    program: Path,
    *,
    cpus: Sequence[SeedCpu],
    ranges: Sequence[Range],
    oldmem: Range | None = None,
    hsa_size: int = 0,
    vx: bool,
    vmcoreinfo: bytes | None = None,
    vmcoreinfo_from: Literal["lowcore", "os_info"] = "lowcore",
    note_address: int = 0x2000,
    old_memory: Mapping[int, bytes] | None = None,
    fcp_dump: bool | None = None,
) -> bytes:
    """The elfcorehdr that elfcorehdr_alloc() of 5.8 builds, before fs/proc/vmcore.c; empty when it builds none.

    ``cpus``: boot CPU first. ``ranges``: physmem, half open, with [B,B+S) still in it. ``oldmem``: (B, S) for kdump,
    None for zfcpdump. ``vmcoreinfo``: the text, found by the kernel where ``vmcoreinfo_from`` says: through the old
    lowcore and a note at old address ``note_address`` (read with the kernel's own copy_oldmem_kernel), or as os_info
    entry. ``old_memory``: further bytes of the crashed system by absolute address; they win. ``fcp_dump``: the IPL
    type; default: when there is an HSA and no ``oldmem``.
    """
    memory: list[tuple[int, bytes]] = []
    if vmcoreinfo is not None and vmcoreinfo_from == "lowcore":
        note = _NHDR.pack(11, len(vmcoreinfo), 0) + b"VMCOREINFO\0\0" + vmcoreinfo
        memory += [(LOWCORE_VMCORE_INFO, _words(note_address)), (note_address, note)]
    memory += (old_memory or {}).items()
    description = _description(
        cpus=cpus,
        ranges=ranges,
        oldmem=oldmem,
        hsa_size=hsa_size,
        fcp_dump=(hsa_size > 0 and oldmem is None) if fcp_dump is None else fcp_dump,
        vx=vx,
        os_info=vmcoreinfo if vmcoreinfo_from == "os_info" else None,
        pieces=[piece for address, data in memory for piece in _pieces(address, data, oldmem, hsa_size)],
    )
    done = subprocess.run([program], input=description, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise SeedError(done.stderr.decode(errors="replace").strip() or f"the kernel text died: {done.returncode}")
    return done.stdout


# --- fs/proc/vmcore.c -----------------------------------------------------------------------------------------------


def _roundup(value: int) -> int:
    return -(-value // PAGE) * PAGE


def _note_length(notes: bytes) -> int:
    """update_note_header_size_elf64: how far the notes go before the first one without a name."""
    length = 0
    while length + _NHDR.size <= len(notes):
        namesz, descsz, _ = _NHDR.unpack_from(notes, length)
        size = _NHDR.size + (namesz + 3 & ~3) + (descsz + 3 & ~3)
        if namesz == 0 or length + size > len(notes):
            break
        length += size
    return length


def merged(elfcorehdr: bytes) -> bytes:
    """What fs/proc/vmcore.c of 5.8 makes of an elfcorehdr: the file's bytes before the first PT_LOAD's data.

    Pointers in PT_NOTEs count from :data:`ELFCOREHDR_ADDRESS`. PT_LOADs come in with their address in p_offset.
    """
    ehdr = _EHDR.unpack_from(elfcorehdr)
    if ehdr[0][:7] != b"\x7fELF\x02\x02\x01" or ehdr[1] != _ET_CORE or ehdr[9] != _PHDR.size:
        raise ValueError("not a 64-bit big endian ELF core header")
    first, count = ehdr[5], ehdr[10]
    phdrs = [_PHDR.unpack_from(elfcorehdr, first + i * _PHDR.size) for i in range(count)]

    notes = b""
    for kind, _, offset, _, _, _, memsz, _ in phdrs:
        if kind == _PT_NOTE:
            start = offset - ELFCOREHDR_ADDRESS
            if start < 0 or start + memsz > len(elfcorehdr):
                raise ValueError(f"PT_NOTE at {offset:#x} + {memsz:#x} is not in the header")
            section = elfcorehdr[start : start + memsz]
            notes += section[: _note_length(section)]

    loads = [phdr for phdr in phdrs if phdr[0] == _PT_LOAD]
    notes_at = _roundup(_EHDR.size + (1 + len(loads)) * _PHDR.size)
    body = notes_at + _roundup(len(notes))
    # One PT_NOTE in front, with no alignment: that came with 6.5 only.
    out = [_PHDR.pack(_PT_NOTE, 0, notes_at, 0, 0, len(notes), len(notes), 0)]
    for kind, flags, address, vaddr, paddr, filesz, memsz, align in loads:
        page = address // PAGE * PAGE
        out.append(_PHDR.pack(kind, flags, body + address - page, vaddr, paddr, filesz, memsz, align))
        body += _roundup(address + memsz) - page
    head = _EHDR.pack(*ehdr[:10], len(out), *ehdr[11:]) + b"".join(out)
    return head.ljust(notes_at, b"\0") + notes.ljust(_roundup(len(notes)), b"\0")


def seed_header(
    program: Path,
    *,
    cpus: Sequence[SeedCpu],
    ranges: Sequence[Range],
    oldmem: Range | None = None,
    hsa_size: int = 0,
    vx: bool,
    vmcoreinfo: bytes | None = None,
) -> bytes:
    """The header region of /proc/vmcore under a 5.8 dump kernel, to compare with what the product makes.

    The product's input is the same: a 512-byte status block and a 512-byte vector block for each CPU (boot CPU first),
    the machine's memory ranges with [B,B+S) still in them, the VMCOREINFO text.
    """
    header = elfcorehdr(
        program, cpus=cpus, ranges=ranges, oldmem=oldmem, hsa_size=hsa_size, vx=vx, vmcoreinfo=vmcoreinfo
    )
    if not header:
        raise SeedError("no header: the kernel makes one only with oldmem (kdump) or an HSA size (zfcpdump)")
    return merged(header)
