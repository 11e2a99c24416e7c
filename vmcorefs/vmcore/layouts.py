"""LAYOUTS: what a kernel release changes in the bytes of its vmcore, as data. It is the dump kernel that decides.

Three switches, not one:

todpreg_size  NT_S390_TODPREG has 8 bytes, the upper half of the CPU timer in them, before f44e07a8afdd (6.1-rc7, and stable
              releases of that time), 4 since
note_align    p_align of PT_NOTE is 0 before 60592fb6b67c (6.5), 4 since
image_load    since 6.10 the kernel image has a PT_LOAD of its own, first, and PT_LOADs of memory have
              p_vaddr = identity base + address; both only if the crashed kernel's os_info has a KASLR offset (entry 5)

os_info_in_zfcpdump is no byte by itself: whether the kernel looks at os_info in a dump IPL (6.10+; seen in 6.12).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vmcorefs.errors import UsageError


class Switches(NamedTuple):
    """What a release means. *reason*: the row of the table in words; *assumed*: the release string does not tell for sure."""

    todpreg_size: int
    note_align: int
    image_load: bool
    os_info_in_zfcpdump: bool
    reason: str
    assumed: bool = False


LAYOUTS: dict[str, Switches] = {
    "5.8": Switches(8, 0, False, False, "layout 5.8"),
    "6.1": Switches(4, 0, False, False, "layout 6.1"),
    "6.10": Switches(4, 4, True, True, "layout 6.10"),
}

# Stable releases with f44e07a8afdd: (major, minor) -> first sublevel
_TODPREG_STABLE = {(6, 0): 11, (5, 15): 81, (5, 10): 157, (5, 4): 226, (4, 19): 268, (4, 14): 301}
_TODPREG_MAINLINE = (6, 1)
_TODPREG_MAINLINE_RC = 7
_NOTE_ALIGN_4 = (6, 5)
_IMAGE_LOAD = (6, 10)
_OLDEST_KNOWN = (4, 9)  # up to about 4.8 the register notes had the name CORE; those bytes are not reproduced

_RELEASE = re.compile(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,5}))?(.*)", re.DOTALL)
_RC = re.compile(r"-rc(\d+)")
_VENDOR_SUFFIX = re.compile(r"-\d")  # a build number: nobody but the vendor knows what was backported


class Vendor(NamedTuple):
    """A vendor's kernels, whose base version hides what was backported: releases in which *pattern* is found.

    Its group 1, a number, is compared with *todpreg_4_from* and *note_align_4_from*, the first numbers with the fixes (None:
    as the base version says). *assumed*: the number of the first fixed build is not proven. Evidence: docs/architecture.md.
    """

    name: str
    pattern: re.Pattern[str]
    todpreg_4_from: int | None
    note_align_4_from: int | None = None
    assumed: bool = False


VENDORS: tuple[Vendor, ...] = (
    Vendor("RHEL 8", re.compile(r"^4\.18\.0-(\d+).*\.el8"), None),
    Vendor("RHEL 9", re.compile(r"^5\.14\.0-(\d+).*\.el9"), 513, 455),
    Vendor("SLES 12 SP5", re.compile(r"^4\.12\.14-122\.(\d+)"), 186),
    Vendor("SLES 15 SP4", re.compile(r"^5\.14\.21-150400\.24\.(\d+)"), 100, assumed=True),
    Vendor("SLES 15 SP5", re.compile(r"^5\.14\.21-150500\.55\.(\d+)"), 39),
    Vendor("Ubuntu 20.04", re.compile(r"^5\.4\.0-(\d+)-generic"), 143),
    Vendor("Ubuntu 22.04", re.compile(r"^5\.15\.0-(\d+)-generic"), 65),
    Vendor("Ubuntu", re.compile(r"^(?:4\.15|5\.19)\.0-(\d+)-generic"), None, assumed=True),
    Vendor("Debian 10", re.compile(r"^4\.19\.0-(?:0\.deb\d+\.)?(\d+)-s390x"), 23, assumed=True),
    Vendor("Debian 11", re.compile(r"^5\.10\.0-(?:0\.deb\d+\.)?(\d+)-s390x"), 20),
    Vendor("Debian", re.compile(r"^6\.0\.0-(?:0\.deb\d+\.)?(\d+)-s390x"), 6, assumed=True),
)


def switches_for_release(release: str) -> Switches | None:
    """The switches of a release string (uname -r), None if it is none."""
    release = release.strip()
    match = _RELEASE.fullmatch(release)
    if match is None:
        return None
    version, sublevel = (int(match[1]), int(match[2])), int(match[3] or 0)
    todpreg_size = 4 if _todpreg_fixed(version, sublevel, match[4]) else 8
    note_align = 4 if version >= _NOTE_ALIGN_4 else 0
    unknown_vendor = version < _TODPREG_MAINLINE and _VENDOR_SUFFIX.match(match[4]) is not None
    reason, assumed = f"release {release}", version < _OLDEST_KNOWN or unknown_vendor
    for vendor in VENDORS:
        if found := vendor.pattern.search(release):
            number = int(found[1])
            if vendor.todpreg_4_from is not None:
                todpreg_size = 4 if number >= vendor.todpreg_4_from else 8
            if vendor.note_align_4_from is not None:
                note_align = 4 if number >= vendor.note_align_4_from else 0
            reason, assumed = f"release {release} ({vendor.name})", vendor.assumed
            break
    new = version >= _IMAGE_LOAD
    return Switches(todpreg_size, note_align, new, new, reason, assumed)


def _todpreg_fixed(version: tuple[int, int], sublevel: int, rest: str) -> bool:
    if version == _TODPREG_MAINLINE and not sublevel and (rc := _RC.search(rest)):
        return int(rc[1]) >= _TODPREG_MAINLINE_RC
    fixed = _TODPREG_STABLE.get(version)
    return version >= _TODPREG_MAINLINE or (fixed is not None and sublevel >= fixed)


def parse_layout(text: str) -> str:
    """Check an option's value: auto, a layout's name or a kernel release. Raises UsageError."""
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is no layout; give it as text, auto, {', '.join(LAYOUTS)} or a kernel release")
    if text == "auto" or text in LAYOUTS or switches_for_release(text) is not None:
        return text
    raise UsageError(f"unknown layout {text!r}; give auto, {', '.join(LAYOUTS)} or a kernel release such as 6.4.0")


def switches_for_layout(text: str) -> Switches:
    """The switches that an option's value (not "auto") asks for."""
    named = LAYOUTS.get(text) or switches_for_release(text)
    if named is None:
        raise UsageError(f"unknown layout {text!r}")
    return named
