"""Memory in the mount: the pages that the machine wrote into its tmpfs, and a plain image as the whole body."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest

from .gold import ALL, PLAIN, Gold

PAGE = 4096
CHUNK = 1 << 20
TMPFS_PAGE = re.compile(rb"GOLD-TMPFS-PAGE (\d{8}) of \S+ ")


def tmpfs_pages(gold: Gold) -> Iterator[tuple[int, bytes]]:
    """(number, page), in the order of the file."""
    with open(gold.vmcore, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            assert len(chunk) == CHUNK or not file.read(1)
            for at in range(0, len(chunk), PAGE):
                if found := TMPFS_PAGE.match(chunk, at):
                    yield int(found[1]), chunk[at:at + PAGE]


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_tmpfs_pages(gold: Gold) -> None:
    """All 256, each whole; together they are the file that the machine had the sha256 of."""
    everything = sorted(tmpfs_pages(gold))
    found = sorted(set(everything))
    # 6.10 has the kernel image twice, and tmpfs took a page that .init had left there
    assert len(everything) == len(found) or gold.about["layout"] == "6.10"
    assert [number for number, _ in found] == list(range(256))
    for _, page in found:
        line = TMPFS_PAGE.match(page)
        assert line
        assert page == (line[0] * PAGE)[:PAGE - 1] + b"\n"
    assert hashlib.sha256(b"".join(page for _, page in found)).hexdigest() == gold.tmpfs_sums["/tmp/pages.txt"]  # noqa: S108


@pytest.mark.parametrize("gold", [PLAIN], indirect=True)
def test_plain_gives_its_image_as_the_body(gold: Gold) -> None:
    size = gold.image.stat().st_size
    offset = gold.vmcore.stat().st_size - size
    assert offset % PAGE == 0
    with open(gold.vmcore, "rb") as vmcore, open(gold.image, "rb") as image:
        assert vmcore.read(4) == b"\x7fELF"
        vmcore.seek(offset)
        while chunk := image.read(CHUNK):
            assert vmcore.read(len(chunk)) == chunk
        assert not vmcore.read(1)
