"""What the crashed kernel left in its memory: lowcores, save areas, os_info, VMCOREINFO, lowcore_ptr."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import lowcore, os_info
from .header import PAGE, KernelImage
from .lowcore import Lowcore
from .memory import Memory, Places
from .notes import vmcoreinfo_note
from .registers import CpuState, Registers
from .release import version
from .vmcoreinfo import vmcoreinfo_text

if TYPE_CHECKING:
    from .machine import Machine

CRASH_TIME = 1795623349
NR_CPUS = 512
NOTE_PAGES = 2
IMAGE_LIMIT = 4 << 30

# cr0 as a running kernel leaves it in absolute lowcore when nobody stores status (capture k61-plain).
_RUNNING_CR0 = 0x14146200


@dataclass(frozen=True)
class CrashedSystem:
    """What the model needs to know, and where things lie (absolute old addresses)."""

    cpus: tuple[CpuState, ...]  # logical order
    places: Mapping[str, int]
    vmcoreinfo: bytes | None
    kernel_image: KernelImage | None
    identity_base: int
    os_info_used: bool  # the page passed the dump kernel's checks
    entry0: bytes | None  # what a usable entry 0 points to


def write_crashed_system(machine: Machine, old: Memory) -> CrashedSystem:
    return _Writer(machine, old).write()


class _Writer:
    def __init__(self, machine: Machine, old: Memory) -> None:
        self.machine = machine
        self.old = old
        self.free = Places(machine.ranges, machine.structures)
        self.places: dict[str, int] = {}
        self.image_phys = machine.kernel_offset_phys + machine.image_text[0]
        self.image_size = machine.image_text[1] - machine.image_text[0]
        self.has_image = version(machine.release) >= (6, 10)

    def write(self) -> CrashedSystem:
        machine = self.machine
        self.free.claim(0, lowcore.SIZE, "absolute lowcore")
        self._parmarea()
        if self.has_image:
            self.places["image"] = self.free.claim(self.image_phys, self.image_size, "kernel image")
        cpus = self._place_cpus()
        lowcore_ptr = self._lowcore_ptr(cpus)
        vmcore_info, note_text = self._vmcoreinfo_note(lowcore_ptr)
        page, entry0 = self._os_info(lowcore_ptr)
        os_info_address = 0
        if machine.os_info != "absent":
            os_info_address = self._put("os_info", page.to_bytes(), PAGE)
        self._lowcores(cpus, vmcore_info, os_info_address)

        os_info_used = machine.os_info in ("valid", "bad_entry_csum") and machine.os_info_is_read
        if not os_info_used or machine.os_info == "bad_entry_csum":
            entry0 = None
        has_vm = os_info_used and machine.layout_used.has_vm and _value(page, os_info.KASLR_OFFSET) != 0
        return CrashedSystem(
            cpus=cpus,
            places=self.places,
            vmcoreinfo=note_text if entry0 is None else entry0,  # crash_dump.c: nt_vmcoreinfo
            kernel_image=self._kernel_image(page) if has_vm else None,
            identity_base=_value(page, os_info.IDENTITY_BASE) if has_vm else 0,
            os_info_used=os_info_used,
            entry0=entry0,
        )

    def _put(self, name: str, data: bytes, align: int, room: int = 0) -> int:
        address = self.free.allocate(max(len(data), room), align, name)
        self.old.write(address, data)
        self.places[name] = address
        return address

    def _parmarea(self) -> None:
        self.free.claim(0x10000, PAGE, "parmarea")
        self.old.write(0x10000, parmarea(0, 0))

    def _place_cpus(self) -> tuple[CpuState, ...]:
        machine = self.machine
        for cpu in machine.cpus:
            if cpu.online and cpu.prefix:
                self.free.claim(cpu.prefix, lowcore.SIZE, "lowcore")
        states = []
        for number, cpu in enumerate(machine.cpus):
            prefix = 0
            if cpu.online:
                prefix = cpu.prefix or self.free.allocate(lowcore.SIZE, lowcore.SIZE, "lowcore")
                self.places[f"lowcore[{number}]"] = prefix
            registers = cpu.registers
            if registers is None:
                seed = cpu.address if cpu.seed is None else cpu.seed
                registers = Registers.from_seed(seed).with_vector_enabled(machine.crashed_vector)
            states.append(CpuState(prefix, registers))
        return tuple(states)

    def _lowcore_ptr(self, cpus: tuple[CpuState, ...]) -> int | None:
        """The array by logical number; returns the symbol's virtual address."""
        machine = self.machine
        if not machine.with_lowcore_ptr:
            return None
        pointers = [cpu.prefix + machine.identity_base if cpu.prefix else 0 for cpu in cpus]
        pointers += [0] * (NR_CPUS - len(cpus))
        data = struct.pack(f">{len(pointers)}Q", *pointers)
        if not self.has_image:
            return self._put("lowcore_ptr", data, 8)
        address = self.image_phys + 0x208  # a variable of the kernel: lies in its image
        if 0x208 + len(data) > self.image_size:
            raise ValueError(f"image of {self.image_size:#x} bytes is too small for lowcore_ptr")
        self.old.write(address, data)
        self.places["lowcore_ptr"] = address
        return address - machine.kernel_offset_phys + machine.kaslr_offset

    def _text(self, lowcore_ptr: int | None, extra: str = "") -> bytes:
        machine = self.machine
        return vmcoreinfo_text(
            machine.release,
            kernel_offset=machine.kaslr_offset,
            kernel_offset_phys=machine.kernel_offset_phys,
            identity_base=machine.identity_base,
            lowcore_ptr=lowcore_ptr,
            extra=machine.vmcoreinfo + extra,
            # __crash_kexec appends it, so only where a crash kernel was started
            crash_time=CRASH_TIME if machine.mode == "kdump" else None,
        )

    def _vmcoreinfo_note(self, lowcore_ptr: int | None) -> tuple[int, bytes | None]:
        """Lowcore's vmcore_info, and the text by it."""
        machine = self.machine
        if machine.vmcoreinfo_by == "early":
            return 0x1234001, None  # KASLR offset | 1, from the decompressor
        if machine.vmcoreinfo_by not in ("lowcore", "both"):
            return 0, None
        # by "both" the two texts differ, so that the wrong choice shows
        text = self._text(lowcore_ptr, "FOUND_BY=lowcore\n" if machine.vmcoreinfo_by == "both" else "")
        note = vmcoreinfo_note(text)
        if machine.vmcoreinfo_address is None:
            return self._put("vmcoreinfo", note, PAGE, room=NOTE_PAGES * PAGE), text
        address = self.free.claim(machine.vmcoreinfo_address, len(note), "VMCOREINFO note")
        self.old.write(address, note)
        self.places["vmcoreinfo"] = address
        return address, text

    def _os_info(self, lowcore_ptr: int | None) -> tuple[os_info.OsInfo, bytes | None]:
        """The page, and the text entry 0 points to."""
        machine = self.machine
        entries: dict[int, os_info.Entry] = {}
        text = None
        if machine.vmcoreinfo_by in ("os_info", "both"):
            text = self._text(lowcore_ptr, "FOUND_BY=os_info\n" if machine.vmcoreinfo_by == "both" else "")
            csum = os_info.cksm(text) ^ (1 if machine.os_info == "bad_entry_csum" else 0)
            address = self._put("os_info_vmcoreinfo", text, 8)
            entries[os_info.VMCOREINFO] = os_info.Entry(address, len(text), csum)
        if self.has_image:
            start = machine.kaslr_offset + machine.image_text[0]
            values = {
                os_info.IDENTITY_BASE: machine.identity_base,
                os_info.KASLR_OFFSET: machine.kaslr_offset,
                os_info.KASLR_OFF_PHYS: machine.kernel_offset_phys,
                os_info.VMEMMAP: 0x25B00000000,
                os_info.AMODE31_START: 0x50B000,
                os_info.AMODE31_END: 0x50E000,
                os_info.IMAGE_START: start,
                os_info.IMAGE_END: start + self.image_size,
                os_info.IMAGE_PHYS: self.image_phys,
            }
            entries |= {number: os_info.Entry(value) for number, value in values.items()}
        entries |= machine.os_info_entries
        base, size = machine.crash_area
        page = os_info.OsInfo(
            crashkernel_addr=base,
            crashkernel_size=size,
            entries=entries,
            magic=os_info.MAGIC ^ (1 if machine.os_info == "bad_magic" else 0),
            csum=0xBADC5 if machine.os_info == "bad_csum" else None,
            version_major=2 if machine.os_info == "bad_version" else 1,
        )
        return page, text

    def _kernel_image(self, page: os_info.OsInfo) -> KernelImage | None:
        """crash_dump.c: loads_init takes the entries as they are; nonsense is left out (reference, section 12)."""
        start, end = _value(page, os_info.IMAGE_START), _value(page, os_info.IMAGE_END)
        phys = _value(page, os_info.IMAGE_PHYS)
        inside = any(a <= phys and phys + end - start <= e for a, e in self.machine.memory)
        return KernelImage(start, end, phys) if 0 < end - start <= IMAGE_LIMIT and inside else None

    def _lowcores(self, cpus: tuple[CpuState, ...], vmcore_info: int, os_info_address: int) -> None:
        machine = self.machine
        flags = 0x9032 | (machine.guarded_storage << 16)
        if version(machine.release) < (6, 10):
            flags |= machine.crashed_vector << 13
        stored = machine.mode != "zfcpdump" and machine.stored_status
        mcesads = []
        for number, (cpu, state) in enumerate(zip(machine.cpus, cpus, strict=True)):
            mcesads.append(self._mcesa(f"mcesa[{number}]", state.registers.vxrs if stored else None))
            if state.prefix == 0:
                continue
            cpu_flags_or_pcpu = 4
            if version(machine.release) >= (6, 12):
                pcpu = bytearray(0x40)
                struct.pack_into(">H", pcpu, 0x22, cpu.address)
                cpu_flags_or_pcpu = self._put(f"pcpu[{number}]", bytes(pcpu), 8) + machine.identity_base
            page = Lowcore(
                kernel_offset=machine.kaslr_offset,
                cpu_nr=number,
                current_task=0x1499E00 + number * 0xF00,
                cpu_flags_or_pcpu=cpu_flags_or_pcpu,
                machine_flags=flags,
                mcesad=mcesads[number],
                status=state.store_status() if stored else None,
                cregs=state.registers.ctrs,  # filled at CPU start (smp.c: pcpu_prepare_secondary)
            )
            self.old.write(state.prefix, page.to_bytes())

        # setup.c leaves the early static area's address in absolute lowcore; 6.12 moves it along with the rest
        boot_moved = version(machine.release) < (6, 10) and cpus[0].prefix != 0
        mcesad = self._mcesa("mcesa_early", None) if boot_moved else mcesads[0]
        # a dump kernel needs the boot CPU's: __do_machine_kdump or firmware put it there
        boot_status = cpus[0].store_status() if stored or machine.mode != "plain" else None
        running_cr0 = _RUNNING_CR0 | (0x20000 if machine.crashed_vector else 0)
        page = Lowcore(
            kernel_offset=machine.kaslr_offset,
            machine_flags=flags,
            mcesad=mcesad,
            status=boot_status,
            cregs=b"" if boot_status else running_cr0.to_bytes(8, "big"),
            absolute=True,
            vmcore_info=vmcore_info,
            os_info=os_info_address,
        )
        self.old.write(0, page.to_bytes())

    def _mcesa(self, name: str, vxrs: bytes | None) -> int:
        """Extended save area; None: what an earlier store left there. Returns mcesad, 0 without vectors and GS."""
        machine = self.machine
        if not (machine.crashed_vector or machine.guarded_storage):
            return 0
        size = 0x800 if machine.guarded_storage else 0x400
        data = Registers.from_seed(f"stale {name}").vxrs if vxrs is None else vxrs
        # bits 60..63 are the length characteristic: 2**11 bytes with the guarded storage block
        return self._put(name, data, size, room=size) | (11 if machine.guarded_storage else 0)


def _value(page: os_info.OsInfo, number: int) -> int:
    return page.entries[number].addr if number in page.entries else 0


def parmarea(base: int, size: int) -> bytes:
    """Start of every kernel image at absolute 0x10000, and its parameter area at 0x10400 (asm/setup.h)."""
    page = bytearray(PAGE)
    page[:16] = bytes.fromhex("a7f4001000000000") + b"S390EP\0\1"
    # ipl_device, initrd_start, initrd_size, oldmem_base, oldmem_size, kernel_version, max_command_line_size
    struct.pack_into(">7Q", page, 0x400, 0, 0x800000, 0xF5DC6, base, size, 0x157A0, 0x1000)
    return bytes(page)
