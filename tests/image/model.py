"""The slow, obvious model of a dump: a page is its bytes, or the kind of error that reading it must give."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.source import Source

PAGE = 4096
Pages = Mapping[int, bytes | str]


def opened(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return open_image(path)


def refusal(path: Path, data: bytes | None = None) -> str:
    """The one line of the error that opening must give."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(str(path.parent))
    assert "\n" not in message
    return message


def error_at(source: Source, address: int, size: int = 1) -> OldmemReadError:
    with pytest.raises(OldmemReadError) as caught:
        source.pread(size, address)
    return caught.value


def expected(pages: Pages, start: int, size: int) -> tuple[bytes, str | None]:
    """(the good bytes, the kind of the error behind them); a page that is not in *pages* is missing."""
    good = bytearray()
    while len(good) < size:
        number, skip = divmod(start + len(good), PAGE)
        page = pages.get(number, "missing")
        if isinstance(page, str):
            return bytes(good), page
        good += page[skip:skip + size - len(good)]
    return bytes(good), None


def check_read(source: Source, pages: Pages, start: int, size: int) -> None:
    """One read must give what the model says: bytes, number of good bytes, kind of error."""
    good, kind = expected(pages, start, size)
    for salvage in (True, False):
        buffer = bytearray(b"\xA5" * size)
        error = _read(source, buffer, start, salvage=salvage)
        count = size if error is None else error.good
        assert (None if error is None else error.kind) == kind or (kind and not salvage), (hex(start), hex(size), str(error))
        assert count == len(good) or (count < len(good) and not salvage), (hex(start), hex(size), count, str(error))
        assert bytes(buffer[:count]) == good[:count]


def _read(source: Source, buffer: bytearray, start: int, *, salvage: bool) -> OldmemReadError | None:
    try:
        source.preadinto(memoryview(buffer), start, salvage=salvage)
    except OldmemReadError as error:
        return error
    return None


def check_all(source: Source, pages: Pages, end: int, *, seed: int = 0, reads: int = 60) -> None:
    """Every page one by one, random reads, and a scan, against the model; *end*: number of pages."""
    for number in range(end):
        check_read(source, pages, number * PAGE, PAGE)
    rng = random.Random(seed)
    for _ in range(reads):
        start = rng.randrange(end * PAGE)
        check_read(source, pages, start, rng.choice((1, 7, PAGE, 3 * PAGE, 20 * PAGE, 300 * PAGE, end * PAGE)))
        check_read(source, pages, start // PAGE * PAGE, PAGE * rng.randrange(1, end + 2))
    check_read(source, pages, 0, end * PAGE)
    check_scan(source, pages, end)


def check_scan(source: Source, pages: Pages, end: int) -> None:
    """A scan finds every page that is not all zero and can be read, once, and its bytes."""
    found: dict[int, bytes] = {}
    for at, data in source.scan(0, end * PAGE):
        assert at % PAGE == 0
        for number in range(at // PAGE, (at + len(data)) // PAGE):
            assert number not in found
            found[number] = data[number * PAGE - at:(number + 1) * PAGE - at]
    for number in range(end):
        page = pages.get(number)
        if isinstance(page, bytes):
            assert found.get(number, bytes(PAGE)) == page
        else:
            assert number not in found


def never_wrong(source: Source, pages: Pages, end: int) -> int:
    """How many pages give an error; all others must be right. For damaged dumps."""
    errors = 0
    for number in range(end):
        try:
            data = source.pread(PAGE, number * PAGE)
        except OldmemReadError:
            errors += 1
        else:
            assert data == pages.get(number), hex(number)
    return errors


@functools.cache
def page_of(number: int, seed: int = 1) -> bytes:
    """A page that can be compressed, and is no other page."""
    rng = random.Random(seed << 32 | number)
    return (rng.randbytes(rng.randrange(8, 1500)) + bytes(rng.randrange(50, 900))).ljust(PAGE, bytes([number & 0xFF]))
