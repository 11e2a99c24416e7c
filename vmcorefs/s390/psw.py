"""The program status word in words (Principles of Operation; asm/ptrace.h: PSW_MASK_*)."""

from __future__ import annotations

_IO = 1 << 57  # bit 6
_EXTERNAL = 1 << 56  # bit 7
_WAIT = 1 << 49  # bit 14
_PROBLEM_STATE = 1 << 48  # bit 15


def describe_psw(psw: bytes) -> str:
    """What a CPU with this PSW (16 bytes) was doing.

    A wait that neither an I/O nor an external interrupt can end is how an s390 machine stops for good.
    """
    mask = int.from_bytes(psw[:8], "big")
    if not any(psw):
        return "all zeros: not stored"
    enabled = bool(mask & (_IO | _EXTERNAL))
    if mask & _WAIT:
        return "enabled wait: idle" if enabled else "disabled wait: stopped for good"
    if mask & _PROBLEM_STATE:
        return "running a user program"
    return "running the kernel" if enabled else "running the kernel, interrupts off"
