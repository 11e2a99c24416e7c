"""Registers of one CPU at the crash, and the architected save area STORE STATUS makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import shake_128

# Control register 0 of the real 6.1 and 6.12 kernels (captures k61-smp1, k612-smp2); bit 0x20000 is vector enablement.
CR0 = 0x14166A10
CR0_VECTOR = 0x20000


@dataclass(frozen=True)
class Registers:
    """Raw big endian bytes, never interpreted. vxrs holds v0..v31, 16 bytes each."""

    psw: bytes
    gprs: bytes
    acrs: bytes
    fprs: bytes
    fpc: bytes
    todpreg: bytes
    timer: bytes
    todcmp: bytes
    ctrs: bytes
    vxrs: bytes

    def __post_init__(self) -> None:
        for name, size in SIZES.items():
            if len(getattr(self, name)) != size:
                raise ValueError(f"{name}: {len(getattr(self, name))} bytes, expected {size}")

    @classmethod
    def from_seed(cls, seed: int | str) -> Registers:
        """Bytes that differ from register to register and from seed to seed, with the few fixed bits of a real CPU."""
        values = {name: shake_128(f"{seed} {name}".encode()).digest(size) for name, size in SIZES.items()}
        values["psw"] = bytes.fromhex("0404c00180000000") + values["psw"][8:]
        values["todcmp"] = b"\0" + values["todcmp"][1:]  # STORE STATUS leaves byte 0 zero
        values["ctrs"] = CR0.to_bytes(8, "big") + values["ctrs"][8:]
        # f0..f15 are the left halves of v0..v15
        left = [values["fprs"][i : i + 8] + values["vxrs"][2 * i + 8 : 2 * i + 16] for i in range(0, 128, 8)]
        values["vxrs"] = b"".join(left) + values["vxrs"][256:]
        return cls(**values)

    def with_vector_enabled(self, enabled: bool) -> Registers:
        cr0 = int.from_bytes(self.ctrs[:8], "big")
        cr0 = cr0 | CR0_VECTOR if enabled else cr0 & ~CR0_VECTOR
        return replace(self, ctrs=cr0.to_bytes(8, "big") + self.ctrs[8:])

    @property
    def vxrs_low(self) -> bytes:
        """Right halves of v0..v15 (NT_S390_VXRS_LOW)."""
        return b"".join(self.vxrs[i + 8 : i + 16] for i in range(0, 256, 16))

    @property
    def vxrs_high(self) -> bytes:
        """v16..v31 (NT_S390_VXRS_HIGH)."""
        return self.vxrs[256:]


SIZES = {
    "psw": 16,
    "gprs": 128,
    "acrs": 64,
    "fprs": 128,
    "fpc": 4,
    "todpreg": 4,
    "timer": 8,
    "todcmp": 8,
    "ctrs": 128,
    "vxrs": 512,
}


@dataclass(frozen=True)
class CpuState:
    """One CPU as STORE STATUS sees it."""

    prefix: int
    registers: Registers

    def store_status(self) -> bytes:
        """The 512 bytes at lowcore+0x1200 (asm/lowcore.h: struct lowcore, *_save_area)."""
        area = bytearray(512)
        for offset, value in self._fields():
            area[offset : offset + len(value)] = value
        return bytes(area)

    def _fields(self) -> Iterator[tuple[int, bytes]]:
        r = self.registers
        yield 0x000, r.fprs
        yield 0x080, r.gprs
        yield 0x100, r.psw
        yield 0x118, self.prefix.to_bytes(4, "big")
        yield 0x11C, r.fpc
        yield 0x124, r.todpreg
        yield 0x128, r.timer
        yield 0x130, r.todcmp
        yield 0x140, r.acrs
        yield 0x180, r.ctrs

    def todpreg_bytes(self, size: int) -> bytes:
        """todpreg as the dump kernel copies it: 8 bytes before commit f44e07a8afdd, half of them the CPU timer's."""
        return self.store_status()[0x124 : 0x124 + size]
