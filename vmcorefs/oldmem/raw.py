"""The image as it lies, as s390/ wants to read and search it: raw(a) is the byte at offset a."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.image.source import Source
from vmcorefs.s390 import Read, Scan


def raw_scan(image: Source) -> Scan:
    """The image as s390/ wants to search it."""
    def scan(start: int, end: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        return image.scan(start, end, overlap=overlap)
    return scan


def raw_reader(image: Source) -> Read:
    """The image as it lies, read by offset."""
    def read(offset: int, size: int) -> bytes:
        return image.pread(size, offset)
    return read
