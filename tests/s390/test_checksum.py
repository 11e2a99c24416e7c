"""CKSM from 0: the vectors of reference 5.2."""

from __future__ import annotations

import random

import pytest

from tests.builders import OsInfo
from tests.builders import cksm as other_opinion
from vmcorefs.s390.checksum import cksm


@pytest.mark.parametrize(("data", "expected"), [
    (b"", 0),
    (b"\1", 0x01000000),
    (b"abcde", 0xC6626364),
    (bytes(range(16)), 0x181C2024),
    (b"\xff" * 8, 0xFFFFFFFF),
    (b"\xff\xff\xff\xff\0\0\0\1", 1),
    (b"The quick brown fox jumps over the lazy dog", 0x783C151F),
    (bytes(range(256)) * 16, 0xFE0205F9),
])
def test_vectors(data: bytes, expected: int) -> None:
    assert cksm(data) == expected


def test_the_page_of_the_reference() -> None:
    page = OsInfo(crashkernel_addr=0x6000000, crashkernel_size=0x4000000).to_bytes()
    assert cksm(page[12:]) == 0x0A010001


def test_random_data_of_every_length_against_a_word_by_word_sum() -> None:
    rng = random.Random(5)
    for length in range(70):
        data = rng.randbytes(length)
        assert cksm(data) == other_opinion(data)


def test_a_carry_that_carries_again() -> None:
    assert cksm(b"\xff" * 4 * 70000) == 0xFFFFFFFF
