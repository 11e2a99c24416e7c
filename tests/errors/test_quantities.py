"""Numbers as people write them."""

from __future__ import annotations

import pytest

from vmcorefs.errors import UsageError
from vmcorefs.quantities import human_size, parse_base_size, parse_range, parse_size, round_down, round_up


@pytest.mark.parametrize(("text", "value"), [
    ("0", 0), ("4096", 4096), ("0x1000", 4096), ("0XfF", 255), ("96M", 96 << 20), ("96m", 96 << 20), ("98304K", 96 << 20),
    ("2G", 2 << 30), ("1T", 1 << 40), ("0x10K", 16 << 10), ("96MiB", 96 << 20), ("96mb", 96 << 20), (" 7 ", 7),
    ("0xffffffffffffffff", (1 << 64) - 1), ("007", 7),
])
def test_a_size(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", [
    "", " ", "M", "0x", "-1", "+1", "1.5G", "1P", "12 K", "0xg", "1_000", "ten", "0b11", "1e3", "\u0661", "1KK", "0x1000:0x2000",
])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="no size or address; write 0x6000000"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0x10000000000000000", "16777216T", "18446744073709551616"])
def test_what_does_not_fit_into_64_bits_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="64 bits"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0x6000000:0x4000000", "96M:64M", "96M+64M", "0x6000000+64M"])
def test_base_and_size(text: str) -> None:
    assert parse_base_size(text) == (0x6000000, 0x4000000)


@pytest.mark.parametrize("text", ["96M", "96M:64M:1M", "", "96M-64M", "1+2+3"])
def test_what_is_no_base_and_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="no BASE:SIZE; write for example"):
        parse_base_size(text)


def test_a_wrong_half_of_base_and_size_is_named() -> None:
    with pytest.raises(UsageError, match="'64X' is no size"):
        parse_base_size("96M:64X")


@pytest.mark.parametrize(("text", "value"), [("0-0x8000000", (0, 0x8000000)), ("1G-2G", (1 << 30, 2 << 30)), ("5-3", (5, 3))])
def test_a_range(text: str, value: tuple[int, int]) -> None:
    assert parse_range(text) == value


@pytest.mark.parametrize("text", ["0x1000", "1-2-3", "", "1+2"])
def test_what_is_no_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="no START-END; write for example"):
        parse_range(text)


@pytest.mark.parametrize(("value", "down", "up"), [
    (0, 0, 0), (1, 0, 4096), (4095, 0, 4096), (4096, 4096, 4096), (4097, 4096, 8192), ((1 << 64) - 1, (1 << 64) - 4096, 1 << 64),
])
def test_rounding_to_pages(value: int, down: int, up: int) -> None:
    assert (round_down(value), round_up(value)) == (down, up)


def test_rounding_to_another_unit() -> None:
    assert (round_down(17, 8), round_up(17, 8)) == (16, 24)


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (160 << 20, "160 MiB"), (3 << 29, "1.5 GiB"),
    (16 << 40, "16 TiB"),
])
def test_size_for_people(value: int, text: str) -> None:
    assert human_size(value) == text
