"""Memory of the running dump kernel: raw [0, S) of a kdump image, raw [0, hsa_size) of a zfcpdump image."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import lowcore, os_info
from .crashed import CrashedSystem, parmarea
from .header import PAGE, Header
from .lowcore import Lowcore
from .memory import Memory, Places
from .notes import vmcoreinfo_note
from .registers import CR0_VECTOR, CpuState
from .release import version
from .vmcoreinfo import vmcoreinfo_text

if TYPE_CHECKING:
    from .machine import Machine

SAVE_AREA_SIZE = 0x480
_CR0 = 0x14146200  # capture k61-novx-dump, absolute lowcore of the dump kernel


def save_area(state: CpuState, todpreg_size: int, vector: bool) -> bytes:
    """struct save_area without its list_head (crash_dump.c: save_area_add_regs, save_area_add_vxrs)."""
    area = bytearray(SAVE_AREA_SIZE - 16)
    r = state.registers
    struct.pack_into(">16s128s128s64s128s4sI", area, 0, r.psw, r.ctrs, r.gprs, r.acrs, r.fprs, r.fpc, state.prefix)
    area[0x1D8 : 0x1D8 + todpreg_size] = state.todpreg_bytes(todpreg_size)
    struct.pack_into(">8s8s", area, 0x1E0, r.timer, r.todcmp)
    if vector:
        struct.pack_into(">128s256s", area, 0x1F0, r.vxrs_low, r.vxrs_high)
    return bytes(area)


def write_dump_kernel(
    machine: Machine,
    crashed: CrashedSystem,
    old: Memory,
    header: Header,
    memory: Memory,
) -> Mapping[str, int]:
    """Writes all to `memory`, returns the raw offsets of what lies where."""
    release = machine.dump_release or machine.release
    has_vm = version(release) >= (6, 10)
    limit = machine.dump_kernel_end
    free = Places([(0, limit)], 0x20000)
    places: dict[str, int] = {}

    def put(name: str, data: bytes, align: int) -> int:
        places[name] = free.allocate(len(data), align, f"dump kernel's {name}")
        memory.write(places[name], data)
        return places[name]

    def identity(address: int) -> int:
        return address + machine.dump_identity_base if has_vm else address

    def image(address: int) -> int:
        """Virtual address of a static variable."""
        return address - machine.dump_kernel_offset_phys + machine.dump_kernel_offset if has_vm else address

    free.claim(0, lowcore.SIZE, "dump kernel's absolute lowcore")
    free.claim(0x10000, PAGE, "dump kernel's parmarea")
    memory.write(0x10000, parmarea(*machine.crash_area) if machine.mode == "kdump" else parmarea(0, 0))

    # its own CPU: never stored status, so no prefix in the save area
    own_lowcore = put("lowcore", Lowcore(kernel_offset=image(0) if has_vm else 0).to_bytes(), lowcore.SIZE)
    own_pointers = put("lowcore_ptr", struct.pack(">512Q", identity(own_lowcore), *[0] * 511), 8)
    text = vmcoreinfo_text(
        release,
        kernel_offset=machine.dump_kernel_offset if has_vm else 0,
        kernel_offset_phys=machine.dump_kernel_offset_phys,
        identity_base=machine.dump_identity_base,
        lowcore_ptr=image(own_pointers),
    )
    note_address = put("vmcoreinfo", vmcoreinfo_note(text), PAGE)
    own_image = {
        os_info.KASLR_OFFSET: os_info.Entry(machine.dump_kernel_offset),
        os_info.KASLR_OFF_PHYS: os_info.Entry(machine.dump_kernel_offset_phys),
        os_info.IMAGE_START: os_info.Entry(machine.dump_kernel_offset + 0x100000),
        os_info.IMAGE_END: os_info.Entry(machine.dump_kernel_offset + 0x56B000),
        os_info.IMAGE_PHYS: os_info.Entry(machine.dump_kernel_offset_phys + 0x100000),
    }
    own_os_info = os_info.OsInfo(entries=own_image if has_vm else {})  # crashkernel address and size are 0
    os_info_address = put("os_info", own_os_info.to_bytes(), PAGE)
    _write_lowcore(machine, crashed.cpus[0], memory, note_address, os_info_address)
    if crashed.os_info_used:
        # os_info.c: os_info_old_init keeps a copy of the crashed kernel's page, os_info_old_alloc rewrites entry 0
        page = bytearray(old.read(crashed.places["os_info"], PAGE))
        if crashed.entry0 is not None:
            struct.pack_into(">Q", page, 32, identity(put("os_info_vmcoreinfo", crashed.entry0, 8)))
        else:
            struct.pack_into(">QQI", page, 32, 0, 0, 0)
        put("os_info_old", bytes(page), PAGE)

    if machine.with_save_area_list:
        head = free.allocate(16, 8, "dump_save_areas")
        places["dump_save_areas"] = head
        cpus = machine.in_note_order(crashed.cpus)
        size = machine.layout_used.todpreg_size
        areas = []
        for i, cpu in enumerate(cpus):
            areas.append(put(f"save_area[{i}]", bytes(16) + save_area(cpu, size, machine.vector), 0x80))
        nodes = [image(head), *(identity(area) for area in areas)]
        for i, address in enumerate((head, *areas)):
            links = struct.pack(">QQ", nodes[(i + 1) % len(nodes)], nodes[i - 1])
            memory.write(address, links)

    if machine.with_elfcorebuf:
        region = header.to_bytes()
        put("elfcorebuf", region[: header.note_offset], PAGE)
        for start in range(header.data_offset - PAGE, header.note_offset - PAGE, -PAGE):  # vmalloc: any order
            number = (start - header.note_offset) // PAGE
            put(f"elfnotes_buf[{number}]", region[start : start + PAGE], PAGE)
        unmerged = free.allocate(len(header.before_merge(0)), PAGE, "elfcorehdr")
        memory.write(unmerged, header.before_merge(unmerged))
        places["elfcorehdr"] = unmerged
    return places


def _write_lowcore(machine: Machine, boot: CpuState, memory: Memory, vmcore_info: int, os_info_at: int) -> None:
    """In kdump mode smp.c: smp_save_dump_ipl_cpu puts the boot CPU's status there, cregs are the kernel's own again."""
    cr0 = _CR0 | CR0_VECTOR if machine.vector else _CR0
    page = Lowcore(
        kernel_offset=0,
        mcesad=0x504800 if machine.vector else 0,
        cregs=cr0.to_bytes(8, "big") + bytes(120),
        status=boot.store_status() if machine.mode == "kdump" else None,
        absolute=True,
        vmcore_info=vmcore_info,
        os_info=os_info_at,
    )
    memory.write(0, page.to_bytes())
