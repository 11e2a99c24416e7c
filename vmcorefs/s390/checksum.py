"""The checksum of os_info and the re-IPL block: the CKSM instruction started with 0."""

from __future__ import annotations

import struct


def cksm(data: bytes) -> int:
    """Sum of big endian 32-bit words with end-around carry; the last word is zero-padded on the right.

    Source: os_info.c: os_info_csum (csum_partial before 6.9, cksm since: the same value).
    """
    padded = data + bytes(-len(data) % 4)
    total: int = sum(struct.unpack(f">{len(padded) // 4}I", padded))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
