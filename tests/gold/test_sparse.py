"""The sparse captures in the repository: the header is the kernel's, and so is every page they keep."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmcorefs
from tests.captures import sparse


@pytest.mark.parametrize("name", sparse.names())
def test_identical_to_the_kernels_own_bytes(name: str, tmp_path: Path) -> None:
    expanded = sparse.expand(name, tmp_path)
    options = {"hsa": str(expanded.hsa)} if expanded.hsa else {}
    with vmcorefs.open(expanded.image, **options) as dump:
        assert dump.mode.name == sparse.load(name).mode
        assert sparse.compare(name, dump.vmcore) == []


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).header is not None])
def test_compare_finds_a_wrong_byte(name: str, tmp_path: Path) -> None:
    """The comparison itself can fail: one bit of the header, one of a kept page."""
    expanded = sparse.expand(name, tmp_path)
    options = {"hsa": str(expanded.hsa)} if expanded.hsa else {}
    with vmcorefs.open(expanded.image, **options) as dump:
        good = bytearray(dump.vmcore.pread(dump.vmcore.size, 0))
    offset = next(iter(sparse.expected_pages(name)))[0]
    for at in (len(sparse.load(name).header or b"") - 4096 - 100, offset + 77):
        bad = bytearray(good)
        bad[at] ^= 1
        (tmp_path / "bad").write_bytes(bad)
        assert sparse.compare(name, tmp_path / "bad") != []
