"""Lowcores: 8 KiB at a CPU's prefix, and the one at absolute 0 (asm/lowcore.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIZE = 0x2000
SAVE_AREA = 0x1200

# Masks of the captures: EA and BA, DAT off for restart, machine checks on; DAT on for the program check handler.
_RESTART_MASK = 0x0000C00180000000
_WAIT_MASK = 0x0002000180000000
_HANDLER_MASK = 0x0404C00180000000


@dataclass(frozen=True)
class Lowcore:
    """Fields a dump tool can see. `status` is the 512 byte save area, or None where nobody stored status."""

    kernel_offset: int = 0
    cpu_nr: int = 0
    current_task: int = 0x46C500
    cpu_flags_or_pcpu: int = 4  # cpu_flags; struct pcpu * in 6.12
    machine_flags: int = 0x9032
    mcesad: int = 0
    cregs: bytes = b""
    status: bytes | None = None
    absolute: bool = False
    vmcore_info: int = 0
    os_info: int = 0

    def to_bytes(self) -> bytes:
        page = bytearray(SIZE)
        struct.pack_into(">QQ", page, 0x1A0, _RESTART_MASK, self.kernel_offset + 0x37F830)
        for psw in (0x1B0, 0x1C0, 0x1E0, 0x1F0):  # external, svc, machine check, I/O new PSW
            if self.absolute:  # disabled wait with its own address, as the decompressor set them
                struct.pack_into(">QQ", page, psw, _WAIT_MASK, psw)
            else:
                struct.pack_into(">QQ", page, psw, _HANDLER_MASK, self.kernel_offset + 0x37F000 + psw)
        struct.pack_into(">QQ", page, 0x1D0, _HANDLER_MASK, self.kernel_offset + 0x37F4A0)
        if self.absolute:
            struct.pack_into(">I", page, 0x14, 0x6000)  # ipl_parmblock_ptr
            page[0xA3] = 1  # ar_mode_id: z/Architecture
            struct.pack_into(">Q", page, 0xE0C, self.vmcore_info)
            struct.pack_into(">Q", page, 0xE18, self.os_info)
        else:
            struct.pack_into(">Q", page, 0x288, self.cpu_flags_or_pcpu)
        struct.pack_into(">Q", page, 0x340, self.current_task)
        struct.pack_into(">I", page, 0x3A0, self.cpu_nr)
        struct.pack_into(">Q", page, 0x3C8, self.machine_flags)
        struct.pack_into(">Q", page, 0x11B0, self.mcesad)
        if self.status is not None:
            page[SAVE_AREA : SAVE_AREA + 512] = self.status
        if self.cregs:
            page[0x1380 : 0x1380 + len(self.cregs)] = self.cregs
        return bytes(page)
