"""Whole captures whose lowcore leads nowhere any more: the kernel's own vmcore all the same, but for the damaged page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import vmcorefs
from tests.gold.conftest import Expander, Gold, gold_names

PAGE = 4096
B_AT = 0x10418  # in the dump kernel's parameter area

DAMAGES = {
    "os_info pointer": [(0xE18, bytes(8))],
    "vmcore_info pointer": [(0xE0C, bytes(8))],
    "both pointers": [(0xE0C, bytes(20))],
    "first page": [(0, bytes(PAGE))],
}


@contextmanager
def damaged(gold: Gold, places: list[tuple[int, bytes]]) -> Iterator[None]:
    """The old lowcore's page with other bytes; afterwards it is as before."""
    with (gold.hsa or gold.image).open("r+b", buffering=0) as file, gold.image.open("rb") as image:
        image.seek(B_AT)
        base = 0 if gold.hsa else int.from_bytes(image.read(8), "big")
        file.seek(base)
        kept = file.read(PAGE)
        for at, data in places:
            file.seek(base + at)
            file.write(data)
        try:
            yield
        finally:
            file.seek(base)
            file.write(kept)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", gold_names())
def test_the_vmcore_differs_in_the_damaged_page_only(name: str, damage: str, expander: Expander) -> None:
    gold = expander(name)
    with vmcorefs.open(gold.image, **gold.options) as dump:  # test_identical compares it with the kernel's
        assert dump.problems == ()
        good, size = dump.vmcore.header, dump.vmcore.size
    with damaged(gold, DAMAGES[damage]), vmcorefs.open(gold.image, **gold.options) as dump:
        assert (dump.vmcore.header, dump.vmcore.size) == (good, size)
        codes = {problem.code for problem in dump.problems}
        assert codes <= {"os_info", "vmcoreinfo", "hsa"}
        assert "vmcoreinfo" in codes or damage == "os_info pointer"
        # in zfcpdump mode a 6.1 dump kernel does not look at os_info, and a pointer of 0 is nothing that it would miss
        assert "os_info" in codes or damage == "vmcore_info pointer" or dump.mode.name == "zfcpdump"
