"""Which memory the machine had: options, the dump kernel's header, the container, else the extent of the image."""

from __future__ import annotations

from vmcorefs.errors import UsageError
from vmcorefs.evidence import Ground
from vmcorefs.facts import Fact
from vmcorefs.image.file import read_small_file
from vmcorefs.oldmem.mapping import ADDRESS_END
from vmcorefs.oldmem.memory_map import TEXT_LIMIT, given_ranges, parse_memory_map
from vmcorefs.ranges import Range, subtract
from vmcorefs.s390.elfcorebuf import FinishedHeader
from vmcorefs.vmcore.layout_evidence import HEADER_ORIGIN


def find_physmem(ground: Ground, header: FinishedHeader | None) -> Fact[tuple[Range, ...]]:
    """The ranges, sorted, without device memory. UsageError, ImageError: an option says something that cannot be."""
    physmem = _find(ground, header)
    given = ground.capture.device_memory
    if not given:
        return physmem
    left = physmem.value
    for start, end in given_ranges(given, ADDRESS_END, ground.image.name, "--device-memory: "):
        left = subtract(left, (start, end))
    if not left:
        raise UsageError("--device-memory: no memory is left of the machine's; give the device ranges alone")
    return Fact(left, f"{physmem.origin}, without {ground.capture.origin('device_memory')}", physmem.assumed)


def _find(ground: Ground, header: FinishedHeader | None) -> Fact[tuple[Range, ...]]:
    capture, image, extent = ground.capture, ground.image, ground.extent
    if capture.memory_range:
        return Fact(given_ranges(capture.memory_range, extent, image.name), capture.origin("memory_range"))
    if capture.memory_map is not None:
        data, name = read_small_file(capture.memory_map, "memory map", TEXT_LIMIT)
        ranges = parse_memory_map(data.decode("utf-8", "replace"), name)
        return Fact(given_ranges(ranges, extent, image.name, f"{name}: "), f"{capture.origin('memory_map')} ({name})")
    if header is not None:
        return Fact(header.ranges, HEADER_ORIGIN)
    if ground.mode.selected_end is not None:
        return Fact((Range(0, ground.mode.selected_end),), f"S, the dump kernel's memory ({capture.origin('select')})")
    if image.container.memory:
        return Fact(image.container.memory, "container's memory ranges")
    return Fact((Range(0, extent),), "extent of the image", assumed=True)
