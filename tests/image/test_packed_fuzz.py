"""Damage of all kinds in packed containers: an ImageError when opened or an OldmemReadError when read, nothing else; never a hang."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.builders.containers import elf
from tests.builders.containers.avml import avml
from tests.builders.containers.flattened import flattened, pieces
from tests.builders.containers.kdump import Kdump
from tests.builders.containers.s390_ext import MIB, s390_ext
from tests.builders.containers.seekable import bgzip, xz, zstd
from tests.image.model import PAGE, page_of
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.source import Source

TRIES = int(os.environ.get("VMCOREFS_EXAMPLES", "60"))
PAGES = {n: page_of(n) for n in range(60) if n % 5}
KDUMP = {name: Kdump(PAGES, frozenset({5, 10}), name, notes=elf.cpu(0), vmcoreinfo=b"OSRELEASE=6\n").build()
         for name in ("zlib", "lzo", "snappy", "zstd")}
MEMORY = b"".join(page_of(n) for n in range(150))
GOOD = KDUMP | {
    "flattened": flattened(pieces(KDUMP["zlib"], 900)), "avml": avml([(0, MEMORY)], 40 * PAGE),
    "s390_ext": s390_ext(MEMORY[:30 * PAGE].ljust(MIB, b"\0") + bytes(MIB) + MEMORY[:PAGE] * 256, packed=True),
    "seekable zstd": zstd(MEMORY, 70_000), "bgzip": bgzip(MEMORY), "xz": xz(MEMORY, 100_000)}
HEADERS = {"s390_ext": [(0, 0x70), (0x1000, 0x1040), (0x102000, 0x102040)], "avml": [(0, 64)], "xz": [(0, 40), (-80, 0)],
           "seekable zstd": [(0, 40), (-120, 0)], "bgzip": [(0, 40)], "flattened": [(0, 32), (4096, 4096 + 32)]}
KDUMP_HEADERS = [(8, 12), (0x1A8, 0x1C0), (0x1000, 0x1068), (0x1068, 0x1100), (0x2000, 0x2008), (0x3000, 0x3008), (0x4000, 0x4100)]
VALUES = (0, 1, 0x7F, 0x80, 0xFF)


def damaged(good: bytes, name: str, rng: random.Random) -> bytes:
    data = bytearray(good)
    areas = HEADERS.get(name, KDUMP_HEADERS)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if rng.random() < 0.7:
            start, end = rng.choice(areas)
            at = rng.randrange(start % len(data), (end or len(data)) if start >= 0 else len(data))
        else:
            at = rng.randrange(len(data))
        for more in range(rng.choice((1, 1, 4, 8))):
            if at + more < len(data):
                data[at + more] = rng.choice(VALUES) if rng.random() < 0.5 else rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(1, len(data)):]
    if rng.random() < 0.1:
        at = rng.randrange(len(data) + 1)
        data[at:at] = rng.randbytes(rng.choice((1, 8, 100)))
    return bytes(data)


def read_everywhere(source: Source, rng: random.Random) -> None:
    for address in (0, source.size // 2, max(source.size - PAGE, 0), *(rng.randrange(source.size or 1) for _ in range(10))):
        try:
            source.pread(rng.choice((1, PAGE, 5 * PAGE, 40 * PAGE)), address)
        except OldmemReadError as error:
            assert error.good >= 0  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    for _ in source.scan(0, min(source.size, 4 * MIB)):
        pass
    source.absences()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", GOOD)
def test_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / "dump"
    opened = 0
    for seed in range(TRIES):
        rng = random.Random(f"{name} {seed}")
        path.write_bytes(damaged(GOOD[name], name, rng))
        try:
            source = open_image(path)
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        with source:
            opened += 1
            read_everywhere(source, rng)
    assert opened > 0
