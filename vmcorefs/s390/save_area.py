"""The registers of one CPU: struct save_area, and the two places they come from (crash_dump.c: save_area_add_regs, _vxrs)."""

from __future__ import annotations

from dataclasses import dataclass

from vmcorefs.s390.lowcore import STATUS

# Architected save area: field of struct save_area -> (offset in lowcore, size)
STATUS_FIELDS = {
    "fprs": (0x1200, 128),
    "gprs": (0x1280, 128),
    "psw": (0x1300, 16),
    "prefix": (0x1318, 4),
    "fpc": (0x131C, 4),
    "todpreg": (0x1324, 4),
    "timer": (0x1328, 8),
    "todcmp": (0x1330, 8),
    "acrs": (0x1340, 64),
    "ctrs": (0x1380, 128),
}

# struct save_area in the dump kernel's memory: list.next 0x000, list.prev 0x008, then
_SAVE_AREA_FIELDS = {
    "psw": (0x010, 16),
    "ctrs": (0x020, 128),
    "gprs": (0x0A0, 128),
    "acrs": (0x120, 64),
    "fprs": (0x160, 128),
    "fpc": (0x1E0, 4),
    "prefix": (0x1E4, 4),
    "todpreg": (0x1E8, 4),  # 5.8: 8 bytes, of which 4 are the upper half of timer; the slot is 8 wide in both
    "timer": (0x1F0, 8),
    "todcmp": (0x1F8, 8),
}
_VXRS_LOW = (0x200, 128)
_VXRS_HIGH = (0x280, 256)
SAVE_AREA_SIZE = 0x380


@dataclass(frozen=True)
class SaveArea:
    """The registers of one CPU as bytes, big endian, never interpreted.

    vxrs_low: bytes 8..15 of v0..v15; vxrs_high: v16..v31; both None where the vector registers are not known.
    """

    psw: bytes
    gprs: bytes
    acrs: bytes
    fprs: bytes
    fpc: bytes
    prefix: bytes
    todpreg: bytes
    timer: bytes
    todcmp: bytes
    ctrs: bytes
    vxrs_low: bytes | None = None
    vxrs_high: bytes | None = None

    @property
    def prefix_address(self) -> int:
        """Absolute address of the CPU's lowcore; 0 for a CPU that was never started or was set offline."""
        return int.from_bytes(self.prefix, "big")

    @property
    def todpreg_5_8(self) -> bytes:
        """The 8 bytes that kernels before the fix copied: the register and the upper half of the CPU timer (D1)."""
        return self.todpreg + self.timer[:4]

    def same_status(self, other: SaveArea) -> bool:
        """Whether all registers but the vector registers agree."""
        return all(getattr(self, name) == getattr(other, name) for name in STATUS_FIELDS)


def from_status(status: bytes, vector_registers: bytes | None = None) -> SaveArea:
    """From the 512 bytes at lowcore + 0x1200 and, if known, the 512 bytes of v0..v31."""
    fields = {name: status[at - STATUS:at - STATUS + size] for name, (at, size) in STATUS_FIELDS.items()}
    if vector_registers is None:
        return SaveArea(**fields)
    low = b"".join(vector_registers[16 * i + 8:16 * i + 16] for i in range(16))
    return SaveArea(**fields, vxrs_low=low, vxrs_high=vector_registers[256:512])


def from_save_area(data: bytes) -> SaveArea:
    """From SAVE_AREA_SIZE bytes of a struct save_area."""
    fields = {name: data[at:at + size] for name, (at, size) in (_SAVE_AREA_FIELDS | {
        "vxrs_low": _VXRS_LOW, "vxrs_high": _VXRS_HIGH}).items()}
    return SaveArea(**fields)


def pattern(status: bytes) -> bytes:
    """What the boot CPU's struct save_area holds at 0x010: psw, ctrs, gprs, 272 bytes, made of its architected save area."""
    area = from_status(status)
    return area.psw + area.ctrs + area.gprs
