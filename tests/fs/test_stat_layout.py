"""struct stat: this machine's row against the C compiler and against the C library; s390x against the reference."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path

import pytest

from tests.fs.compiled import c_numbers
from vmcorefs.fs.backends.stat_layout import STAT_LAYOUTS, pack_stat, stat_layout, write_stat

FIELDS = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blksize", "st_blocks", "st_atim", "st_mtim", "st_ctim")
WIDTHS = {"I": 4, "i": 4, "Q": 8, "q": 8}
ATTRIBUTES = {
    "st_mode": stat.S_IFREG | 0o400, "st_nlink": 3, "st_uid": 70001, "st_gid": 70002, "st_size": 0x123456789ABCD,
    "st_blksize": 1 << 20, "st_blocks": 0x91A2B3C4D6, "st_mtime_ns": 1_234_567_890_123_456_789,
}


def test_this_machines_row_is_the_compilers(tmp_path: Path) -> None:
    layout = stat_layout()
    expressions = {name: f"offsetof(struct stat, {name})" for name in FIELDS} | {
        "size": "sizeof(struct stat)", "nlink": "sizeof(((struct stat *)0)->st_nlink)",
        "blksize": "sizeof(((struct stat *)0)->st_blksize)", "tv_sec": "sizeof(((struct stat *)0)->st_mtim.tv_sec)",
        "tv_nsec": "offsetof(struct timespec, tv_nsec)",
    }
    found = c_numbers(tmp_path, "#define _GNU_SOURCE\n#include <sys/stat.h>\n#include <time.h>", expressions)
    assert {name: getattr(layout, name) for name in FIELDS} == {name: found[name] for name in FIELDS}
    assert layout.size == found["size"]
    assert WIDTHS[layout.nlink_format] == found["nlink"]
    assert WIDTHS[layout.blksize_format] == found["blksize"]
    assert (found["tv_sec"], found["tv_nsec"]) == (8, 8)


def test_this_machines_row_is_the_c_librarys() -> None:
    """A real file's struct stat, as stat(2) fills it, is what pack_stat makes of its attributes."""
    path = Path(__file__)
    status = path.stat()
    layout = stat_layout()
    buffer = ctypes.create_string_buffer(layout.size)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.stat(os.fsencode(path), buffer) == 0
    names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blksize", "st_blocks", "st_mtime_ns")
    packed = pack_stat(layout, {name: int(getattr(status, name)) for name in names})
    for name in (*FIELDS[:7], "st_mtim"):
        width = {"st_mode": 4, "st_uid": 4, "st_gid": 4, "st_nlink": WIDTHS[layout.nlink_format],
                 "st_blksize": WIDTHS[layout.blksize_format], "st_mtim": 16}.get(name, 8)
        at = getattr(layout, name)
        assert packed[at:at + width] == buffer.raw[at:at + width], name


# reference/fuse.md, section 7
S390X = {"size": 144, "st_mode": 24, "st_nlink": 16, "st_uid": 28, "st_gid": 32, "st_size": 48, "st_atim": 56, "st_mtim": 72,
         "st_ctim": 88, "st_blksize": 104, "st_blocks": 112}
AARCH64 = {"size": 128, "st_mode": 16, "st_nlink": 20, "st_size": 48, "st_blksize": 56, "st_blocks": 64}


@pytest.mark.parametrize(("machine", "offsets"), [("s390x", S390X), ("aarch64", AARCH64), ("riscv64", AARCH64)])
def test_other_machines(machine: str, offsets: dict[str, int]) -> None:
    layout = stat_layout(machine)
    assert {name: getattr(layout, name) for name in offsets} == offsets


@pytest.mark.parametrize("machine", STAT_LAYOUTS)
def test_no_field_covers_another(machine: str) -> None:
    layout = stat_layout(machine)
    places = []
    for name in FIELDS:
        width = 16 if name.endswith("tim") else 4 if name in {"st_mode", "st_uid", "st_gid"} else 8
        width = WIDTHS[{"st_nlink": layout.nlink_format, "st_blksize": layout.blksize_format}[name]] \
            if name in {"st_nlink", "st_blksize"} else width
        places += list(range(getattr(layout, name), getattr(layout, name) + width))
    assert len(set(places)) == len(places)
    assert max(places) < layout.size


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(OSError, match="vax"):
        stat_layout("vax")


@pytest.mark.parametrize("machine", STAT_LAYOUTS)
@pytest.mark.parametrize("mtime_ns", [0, 1_234_567_890_123_456_789, -1, 2**62])
def test_pack_and_write(machine: str, mtime_ns: int) -> None:
    layout = stat_layout(machine)
    packed = pack_stat(layout, ATTRIBUTES | {"st_mtime_ns": mtime_ns})
    assert len(packed) == layout.size
    around = ctypes.create_string_buffer(b"\xaa" * (layout.size + 16), layout.size + 16)
    write_stat(ctypes.addressof(around) + 8, packed)
    assert around.raw == b"\xaa" * 8 + packed + b"\xaa" * 8
    seconds = ctypes.c_int64.from_buffer_copy(packed, layout.st_mtim).value
    nanoseconds = ctypes.c_int64.from_buffer_copy(packed, layout.st_mtim + 8).value
    assert seconds * 10**9 + nanoseconds == mtime_ns
    assert 0 <= nanoseconds < 10**9
