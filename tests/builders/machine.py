"""A synthetic crashed machine: say its shape, get the files a dump leaves and the model of its vmcore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from .crashed import write_crashed_system
from .dump_kernel import write_dump_kernel
from .header import PAGE, Facts, Header, page_down, page_up
from .memory import DUMP_TAG, OLD_TAG, Memory
from .model import Model
from .os_info import Entry
from .placement import Mode, Placement
from .registers import Registers
from .release import Layout, layout_of, version

MIB = 1 << 20
BODY_SAMPLES = 32

T = TypeVar("T")


@dataclass(frozen=True)
class Cpu:
    """One CPU of the crashed machine. Its place in Machine.cpus is its logical number.

    prefix None: the builder finds a place. seed None: the address. Explicit registers are taken as they are.
    An offline CPU (never started, or offlined) has prefix 0.
    """

    address: int = 0
    prefix: int | None = None
    seed: int | str | None = None
    registers: Registers | None = None
    online: bool = True


def cpus(count: int) -> tuple[Cpu, ...]:
    return tuple(Cpu(address) for address in range(count))


@dataclass(frozen=True)
class Machine:
    """Defaults: 4 MiB that crashed with a 1 MiB crash kernel at 2 MiB, everything in place."""

    mode: Mode = "kdump"
    release: str = "6.1.0"  # of the crashed kernel
    dump_release: str | None = None  # None: the same
    layout: Layout | None = None  # of a vendor's dump kernel; None: by release

    memory: tuple[tuple[int, int], ...] = ((0, 4 * MIB),)  # physmem; between the ranges are holes
    image_size: int | None = None  # None: end of memory
    base: int | None = None  # crashkernel area; None: 2 MiB in kdump mode, else none reserved
    size: int | None = None
    hsa_size: int | None = None  # None: 1 MiB in zfcpdump mode

    cpus: tuple[Cpu, ...] = (Cpu(),)  # the first is the boot CPU of the dump
    vector: bool = True  # the dump kernel uses vector registers
    crashed_vector: bool = True
    guarded_storage: bool = False
    # False, plain: nobody stored status, no CPU is known; kdump: stand-alone kdump, only the boot CPU's is in old memory.
    # In zfcpdump mode that is always so.
    stored_status: bool = True

    vmcoreinfo: str = ""  # further lines
    vmcoreinfo_by: Literal["lowcore", "os_info", "both", "early"] | None = "lowcore"
    vmcoreinfo_address: int | None = None
    os_info: Literal["valid", "absent", "bad_csum", "bad_magic", "bad_version", "bad_entry_csum"] = "valid"
    os_info_entries: Mapping[int, Entry] = field(default_factory=dict)  # instead of the builder's
    with_lowcore_ptr: bool = True

    kernel_offset: int | None = None  # KASLR; None: 0, from 6.10 on 0x3ffe0000000 as with nokaslr
    kernel_offset_phys: int = 0
    image_text: tuple[int, int] = (0x40000, 0x48000)  # _stext and _end, relative to the kernel offset
    identity_base: int = 0

    dump_kernel_offset: int = 0x3FFE0000000  # these three from 6.10 on
    dump_kernel_offset_phys: int = 0
    dump_identity_base: int = 0
    with_save_area_list: bool = True
    with_elfcorebuf: bool = True

    structures: int = 0x80000  # old address from which on the builder places what has no address of its own
    body_pages: Literal["edges", "all", "none"] | Sequence[int] = "edges"  # old pages that hold the pattern

    def __post_init__(self) -> None:
        base, size = self.crash_area
        if self.mode == "kdump" and (base < size or base % MIB or size % MIB or size == 0):
            raise ValueError(f"no kernel reserves B={base:#x} S={size:#x} (setup.c: reserve_crashkernel)")
        if self.memory[-1][1] % PAGE:
            raise ValueError("the end of memory must be a multiple of the page size")

    @property
    def crash_area(self) -> tuple[int, int]:
        base, size = (2 * MIB, MIB) if self.mode == "kdump" else (0, 0)
        return base if self.base is None else self.base, size if self.size is None else self.size

    @property
    def placement(self) -> Placement:
        hsa_size = MIB if self.hsa_size is None else self.hsa_size
        return Placement(self.mode, *self.crash_area, hsa_size if self.mode == "zfcpdump" else 0)

    @property
    def dump_kernel_end(self) -> int:
        return self.placement.dump_kernel_end

    @property
    def kaslr_offset(self) -> int:
        if self.kernel_offset is not None:
            return self.kernel_offset
        return 0x3FFE0000000 if version(self.release) >= (6, 10) else 0

    @property
    def layout_used(self) -> Layout:
        """The dump kernel decides; without one the crashed kernel."""
        if self.layout is not None:
            return self.layout
        return layout_of(self.release if self.mode == "plain" else self.dump_release or self.release)

    @property
    def os_info_is_read(self) -> bool:
        """os_info.c: os_info_old_init. Plain mode has no kernel counterpart; the project reads it."""
        if self.mode == "zfcpdump":
            return self.layout_used.has_vm
        return True

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """for_each_physmem_range(physmem - oldmem)."""
        if self.mode != "kdump":
            return self.memory
        base, size = self.crash_area
        cut = []
        for start, end in self.memory:
            cut += [(start, min(end, base)), (max(start, base + size), end)]
        return tuple((start, end) for start, end in cut if start < end)

    def in_note_order(self, by_logical_number: Sequence[T]) -> list[T]:
        """Boot CPU, the others by rising CPU address (smp.c: smp_save_dump_secondary_cpus)."""
        order = sorted(range(1, len(self.cpus)), key=lambda number: self.cpus[number].address)
        return [by_logical_number[number] for number in (0, *order)]

    def build(self, directory: Path) -> Built:
        """Writes oldmem.img (and hsa.img) there, sparse."""
        placement = self.placement
        old = Memory(OLD_TAG, (page for page in self._body() if not placement.is_gone(page)))
        crashed = write_crashed_system(self, old)
        noted = self.in_note_order(crashed.cpus)
        if self.mode == "plain" and not self.stored_status:
            noted = []
        facts = Facts(
            layout=self.layout_used,
            ranges=self.ranges,
            cpus=tuple(noted),
            vector=self.crashed_vector if self.mode == "plain" else self.vector,
            vmcoreinfo=crashed.vmcoreinfo,
            kernel_image=crashed.kernel_image,
            identity_base=crashed.identity_base,
        )
        end = placement.dump_kernel_end
        dump_body = () if self.body_pages == "none" else _near((0, end), [(0, end)])
        dump = Memory(DUMP_TAG, dump_body if self.mode != "plain" else ())
        dump_places: Mapping[str, int] = {}
        if self.mode != "plain":
            dump_places = write_dump_kernel(self, crashed, old, Header(facts), dump)

        def old_page(address: int) -> bytes:
            if placement.is_gone(address):
                return dump.page(address - placement.base)
            return old.page(address)

        hsa = directory / "hsa.img" if self.mode == "zfcpdump" else None
        built = Built(
            machine=self,
            image=directory / "oldmem.img",
            hsa=hsa,
            model=Model(facts, old_page),
            places=crashed.places,
            dump_places=dump_places,
            old=old,
            dump=dump,
        )
        built.write_files()
        return built

    def _body(self) -> Iterable[int]:
        if self.body_pages == "none":
            return ()
        if self.body_pages == "all":
            return {page for start, end in self.memory for page in range(page_down(start), page_up(end), PAGE)}
        if self.body_pages == "edges":
            base, size = self.crash_area
            edges = [size, base, base + size, self.placement.hsa_size]
            return _near([*edges, *(edge for pair in self.memory for edge in pair)], self.memory)
        return self.body_pages


def _near(edges: Iterable[int], ranges: Sequence[tuple[int, int]]) -> set[int]:
    """Two pages on each side of each edge, and some in between."""
    pages = {page_down(edge) + i * PAGE for edge in edges for i in (-2, -1, 0, 1)}
    for start, end in ranges:
        pages |= {page_down(start + (end - start) * i // BODY_SAMPLES) for i in range(BODY_SAMPLES)}
    return {page for page in pages if any(page_down(start) <= page < end for start, end in ranges)}


@dataclass(frozen=True)
class Built:
    """The files, the model, and what lies where (places: absolute old address, dump_places: raw offset)."""

    machine: Machine
    image: Path
    hsa: Path | None
    model: Model
    places: Mapping[str, int]
    dump_places: Mapping[str, int]
    old: Memory
    dump: Memory

    def write_files(self) -> None:
        placement = self.machine.placement
        with self.image.open("wb") as file:
            file.truncate(self.machine.image_size or self.machine.memory[-1][1])
        if self.hsa is not None:
            with self.hsa.open("wb") as file:
                file.truncate(placement.hsa_size)
        self._write_pages(("old", page) for page in self.old.pages())
        self._write_pages(("dump", page) for page in self.dump.pages())

    def poke_old(self, address: int, data: bytes) -> None:
        """Damages memory at an old address, in the file and in the model's body. The model's header stays."""
        for page, part in _by_page(address, data):
            gone = self.machine.placement.is_gone(page)
            self._poke("dump" if gone else "old", part[0] - (self.machine.placement.base if gone else 0), part[1])

    def poke_raw(self, offset: int, data: bytes) -> None:
        """The same by offset in the image file."""
        for page, part in _by_page(offset, data):
            owner, address = self.machine.placement.owner(page)
            self._poke(owner, address + part[0] - page, part[1])

    def wipe_dump_kernel(self, keep: Iterable[tuple[int, int]] = ((0, 0x2000), (0x10000, 0x12000))) -> None:
        """Zeros in the dump kernel's memory but for lowcore and parameter area."""
        kept = list(keep)
        for page in self.dump.pages():
            if not any(start <= page < end for start, end in kept):
                self._poke("dump", page, bytes(PAGE))

    def _poke(self, owner: Literal["old", "dump"], address: int, data: bytes) -> None:
        (self.old if owner == "old" else self.dump).write(address, data)
        self._write_pages([(owner, page_down(address))])

    def _write_pages(self, pages: Iterable[tuple[Literal["old", "dump"], int]]) -> None:
        """Only what lies inside the files; a smaller image_size cuts the rest off."""
        placement = self.machine.placement
        files = {"image": self.image.open("r+b")}
        if self.hsa is not None:
            files["hsa"] = self.hsa.open("r+b")
        ends = {name: file.seek(0, 2) for name, file in files.items()}
        for owner, page in pages:
            name, offset = placement.store_old(page) if owner == "old" else ("image", page)
            memory = self.old if owner == "old" else self.dump
            files[name].seek(offset)
            files[name].write(memory.page(page)[: max(0, ends[name] - offset)])
        for file in files.values():
            file.close()


def _by_page(address: int, data: bytes) -> Iterable[tuple[int, tuple[int, bytes]]]:
    """(page, (address, bytes)) for each page that data touches."""
    for page in range(page_down(address), address + len(data), PAGE):
        start, end = max(page, address), min(page + PAGE, address + len(data))
        yield page, (start, data[start - address : end - address])
