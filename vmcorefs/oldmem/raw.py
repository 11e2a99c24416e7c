"""The image as it lies, as s390/ wants to read and search it: raw(a) is the byte at offset a."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.image.source import Source
from vmcorefs.s390 import Read, Scan
from vmcorefs.s390.lowcore import AbsoluteLowcore
from vmcorefs.s390.os_info import OsInfo, read_os_info
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo, read_vmcoreinfo_note


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


def leads_to_metadata(read: Read, lowcore: AbsoluteLowcore) -> bool:
    """Whether a pointer of *lowcore* leads to a valid os_info or VMCOREINFO in what *read* sees."""
    return (isinstance(read_os_info(read, lowcore.os_info), OsInfo)
            or isinstance(read_vmcoreinfo_note(read, lowcore.vmcore_info), Vmcoreinfo))
