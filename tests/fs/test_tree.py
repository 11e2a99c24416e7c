"""Tree: attributes without a look at the image."""

from __future__ import annotations

import pytest

from vmcorefs.fs.access import Access
from vmcorefs.fs.tree import BLOCK_SIZE, File, Tree


def no_read(view: memoryview, offset: int, salvage: bool) -> int:
    raise AssertionError("attributes must not read")


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2), ((1 << 44) + 1, (1 << 35) + 1)])
def test_blocks(size: int, blocks: int) -> None:
    found = Tree({"vmcore": File(size, no_read)}, mtime_ns=5).attributes("vmcore")
    assert (found["st_size"], found["st_blocks"], found["st_blksize"], found["st_mtime_ns"]) == (size, blocks, BLOCK_SIZE, 5)


def test_the_directory() -> None:
    found = Tree({}, mtime_ns=5, access=Access(uid=1, gid=2)).attributes("")
    assert (found["st_mode"], found["st_uid"], found["st_gid"], found["st_mtime_ns"]) == (0o40555, 1, 2, 5)


def test_unknown() -> None:
    with pytest.raises(KeyError):
        Tree({}).attributes("vmcore")
