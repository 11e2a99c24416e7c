"""Dumps without an end mark on real block devices, which are larger than the dump on them."""

from __future__ import annotations

import random

import pytest

from tests.builders.containers import avml, lime
from tests.image.test_block_device import Attach, attach
from vmcorefs.image import open_image

__all__ = ["attach"]  # a fixture

PAGE = 4096
MEMORY = random.Random(31).randbytes(50 * PAGE)
LAST = random.Random(32).randbytes(7 * PAGE)
RANGES = [(0, MEMORY), (80 * PAGE, LAST)]


@pytest.mark.parametrize("data", [lime.lime(RANGES), lime.lime(RANGES, "<"), avml.avml(RANGES)], ids=["lime", "avml 1", "avml 2"])
@pytest.mark.parametrize("rest", [bytes(300 * PAGE), random.Random(1).randbytes(300 * PAGE)], ids=["zeros", "garbage"])
def test_whatever_follows_on_the_device_does_not_matter(attach: Attach, data: bytes, rest: bytes) -> None:
    padded = data + rest[:len(rest) - len(data) % PAGE]
    with open_image(attach(padded)) as source:
        assert (source.container.incomplete, source.container.problems) == (None, ())
        assert source.size == 87 * PAGE
        assert source.pread(len(MEMORY), 0) == MEMORY
        assert source.pread(len(LAST), 80 * PAGE) == LAST
