"""Damage anywhere in an image: it is served or refused in words, and a bad page fails those reads only that touch it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.image.bad_disk import BadDisk
from vmcorefs import OldmemReadError, VmcorefsError

PAGE = 4096
MIB = 1 << 20

MACHINES = {
    "kdump": Machine(cpus=cpus(3)),
    "kdump 6.12": Machine(release="6.12.0", cpus=cpus(3), vmcoreinfo_by="both"),
    "zfcpdump": Machine(mode="zfcpdump", release="6.12.0", cpus=cpus(2)),
    "plain": Machine(mode="plain", cpus=cpus(2)),
}
EXTREMES = [0, 1, 2, 0x1000, 0x2000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - PAGE,
            (1 << 64) - 8, (1 << 64) - 1]


def opened(built: Built) -> str | None:
    """Open it and look at everything; the words of a refusal, None where it was served."""
    try:
        with vmcorefs.open(built.image, hsa=built.hsa) as dump:
            assert dump.vmcore.pread(4, 0) == b"\x7fELF"
            dump.info()
    except VmcorefsError as error:
        return str(error)
    return None


def content_pages(path: Path) -> list[int]:
    data = path.read_bytes()
    return [at for at in range(0, len(data), PAGE) if any(data[at:at + PAGE])]


def body(built: Built) -> list[tuple[int, int]]:
    """(offset in vmcore, raw offset) of the page at each place in the image that is in vmcore."""
    found = []
    for page in built.old.pages():
        if any(start <= page < end for start, end in built.machine.ranges):
            name, raw = built.machine.placement.store_old(page)
            if name == "image":
                found.append((built.model.file_offset(page), raw))
    return found


@contextmanager
def bad_page(path: Path, page: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        BadDisk(patch, path, [(page, page + PAGE)])
        yield


@pytest.mark.parametrize("name", MACHINES)
def test_any_one_bad_page_is_eio_for_itself_and_no_other(tmp_path: Path, name: str) -> None:
    """Bad before the image is opened, so that evidence is lost as well."""
    built = MACHINES[name].build(tmp_path)
    places = body(built)
    refused = []
    for page in content_pages(built.image):
        with bad_page(built.image, page):
            try:
                dump = vmcorefs.open(built.image, hsa=built.hsa, memory_range=list(built.machine.memory),
                                     oldmem=built.machine.crash_area if built.machine.mode == "kdump" else None)
            except VmcorefsError as error:
                refused.append((page, str(error)))
                continue
            with dump:
                shift = len(dump.vmcore.header) - len(built.model.header)
                if name.endswith("6.12") or name == "zfcpdump":
                    shift += dump.vmcore.size - built.model.size - shift  # without the kernel image's PT_LOAD, where os_info is bad
                for offset, raw in places:
                    if raw == page:
                        with pytest.raises(OldmemReadError):
                            dump.vmcore.pread(PAGE, offset + shift)
                    elif abs(raw - page) <= 2 * PAGE:
                        assert dump.vmcore.pread(PAGE, offset + shift) == built.model.read(offset, PAGE), (hex(page), hex(raw))
    lowcore = {0, PAGE} if name == "plain" else set()  # without it nothing shows that this is Linux
    assert [r for r in refused if r[0] not in lowcore] == []


@pytest.mark.parametrize("name", MACHINES)
def test_a_bad_page_by_its_own_evidence(tmp_path: Path, name: str) -> None:
    """Without any option: served or refused in words, never another exception."""
    built = MACHINES[name].build(tmp_path)
    for page in content_pages(built.image):
        with bad_page(built.image, page):
            assert "\n" not in (opened(built) or "")


@pytest.mark.parametrize("page", [0, 0x1000, 0x10000])
def test_the_dump_kernels_first_pages_are_not_needed(tmp_path: Path, page: int) -> None:
    """They are no part of vmcore: what they tell stands elsewhere, too."""
    built = Machine(cpus=cpus(2)).build(tmp_path)
    with bad_page(built.image, page), vmcorefs.open(built.image) as dump:
        assert dump.vmcore.header == built.model.header
        assert dump.vmcore.size == built.model.size


def words(built: Built) -> list[int]:
    """Raw offsets of all 8-byte words that are looked at when an image is opened, more or less."""
    base = built.machine.crash_area[0] if built.machine.mode == "kdump" else 0
    starts = [0xE0C, 0xE18, 0x11B0, 0x1318, 0x1380, 0x10418, 0x10420, 0x10008]
    places = [base + s for s in starts] + starts
    for name, at in built.places.items():
        raw = base + at if at < MIB and built.machine.mode == "kdump" else at
        places += [raw + d for d in ((0xE0C, 0x11B0, 0x288, 0x3A0, 0x1318, 0x340) if name.startswith("lowcore[") else
                                     (0, 4, 8, 16, 24, 32, 40, 48, 112, 132, 152, 232, 252, 272))]
    for at in built.dump_places.values():
        places += [at + d for d in (0, 8, 16, 24, 32, 54, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152)]
    return sorted({p for p in places if p + 8 <= built.machine.memory[-1][1]})


@pytest.mark.parametrize("name", MACHINES)
def test_extreme_numbers_in_every_structure(tmp_path: Path, name: str) -> None:
    """Served or refused in words: no other exception, no endless loop, no huge memory."""
    built = MACHINES[name].build(tmp_path)
    target = built.hsa if built.hsa is not None else built.image
    original = {path: path.read_bytes() for path in (built.image, target)}
    rng = random.Random(name)
    for at in words(built):
        for path, data in original.items():
            if at + 8 > len(data):
                continue
            with path.open("r+b") as file:
                file.seek(at)
                file.write(struct.pack(">Q", rng.choice(EXTREMES)))
            print(f"{path.name} at {at:#x}")  # the last one is the culprit
            assert "\n" not in (opened(built) or "")
            with path.open("r+b") as file:
                file.seek(at)
                file.write(data[at:at + 8])


@pytest.mark.parametrize("name", MACHINES)
def test_random_damage(tmp_path: Path, name: str) -> None:
    built = MACHINES[name].build(tmp_path)
    pages = content_pages(built.image)
    data = built.image.read_bytes()
    rng = random.Random(23)
    for _ in range(150):
        page = rng.choice(pages)
        with built.image.open("r+b") as file:
            file.seek(page + rng.randrange(PAGE - 64))
            file.write(rng.choice((rng.randbytes(64), b"\xff" * 64, bytes(64), b"\x7fELF\x02\x02\x01", b"OSINFOSZ")))
        assert "\n" not in (opened(built) or "")
        if rng.random() < 0.3:
            built.image.write_bytes(data)


def test_an_image_cut_at_any_page_is_served_or_refused_in_words(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    data = built.image.read_bytes()
    for size in [1, 100, 4095, *range(PAGE, len(data), 13 * PAGE), len(data) - 1]:
        built.image.write_bytes(data[:size])
        refusal = opened(built)
        assert refusal is None or str(built.image) in refusal
        assert refusal is None or size < 3 * MIB
