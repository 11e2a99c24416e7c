"""What a kernel release decides about the bytes of a vmcore (reference, section 10)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Stable releases that got commit f44e07a8afdd "s390/crashdump: fix TOD programmable field size".
_TODPREG_FIXED_IN = {(4, 14): 301, (4, 19): 268, (5, 4): 226, (5, 10): 157, (5, 15): 81, (6, 0): 11}


@dataclass(frozen=True)
class Layout:
    """The switches; a vendor kernel with backports can have any combination."""

    todpreg_size: int = 4
    note_align: int = 0
    has_vm: bool = False  # 6.10+: image PT_LOAD, identity base in p_vaddr (crash_dump.c: os_info_has_vm)


def version(release: str) -> tuple[int, int, int]:
    """("6.1.192-gold") -> (6, 1, 192)."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if match is None:
        raise ValueError(f"not a kernel release: {release}")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def layout_of(release: str) -> Layout:
    major, minor, patch = version(release)
    fixed_in = _TODPREG_FIXED_IN.get((major, minor))
    fixed = (major, minor) >= (6, 1) or (fixed_in is not None and patch >= fixed_in)
    early_rc = re.search(r"-rc([1-6])\b", release)
    if (major, minor) == (6, 1) and early_rc is not None:
        fixed = False
    return Layout(
        todpreg_size=4 if fixed else 8,
        note_align=4 if (major, minor) >= (6, 5) else 0,  # commit 60592fb6b67c
        has_vm=(major, minor) >= (6, 10),
    )
