"""pyelftools on the mount, and on the file object that vmcorefs.open() gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

import pytest
from elftools.elf.elffile import ELFFile

import vmcorefs

from .gold import ALL, PLAIN, Gold, vmcoreinfo_of_note
from .kernel_notes import cpu_notes, pid_of

Opened = tuple[Any, BinaryIO]


def _mount(gold: Gold, stack: ExitStack) -> BinaryIO:
    return stack.enter_context(open(gold.vmcore, "rb", buffering=65536))


def _python(gold: Gold, stack: ExitStack) -> BinaryIO:
    dump = stack.enter_context(vmcorefs.open(gold.image, hsa=gold.hsa))
    return cast(BinaryIO, dump.vmcore)


@pytest.fixture(params=[_mount, _python], ids=["mount", "python"])
def opened(request: pytest.FixtureRequest, gold: Gold) -> Iterator[Opened]:
    """(ELFFile, the file under it)."""
    way: Callable[[Gold, ExitStack], BinaryIO] = request.param
    with ExitStack() as stack:
        file = way(gold, stack)
        yield ELFFile(file), file


def notes(elf: Any) -> list[Any]:
    """The notes of PT_NOTE."""
    segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_NOTE"]
    assert len(segments) == 1
    return list(segments[0].iter_notes())


def read(opened: Opened, address: int, size: int, kind: str) -> list[bytes]:
    """The bytes at an address (kind p_vaddr or p_paddr), once for every PT_LOAD that has them."""
    elf, file = opened
    found = []
    for segment in elf.iter_segments():
        start = segment[kind]
        if segment["p_type"] == "PT_LOAD" and start <= address and address + size <= start + segment["p_filesz"]:
            file.seek(segment["p_offset"] + address - start)
            found.append(file.read(size))
    return found


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_segments(gold: Gold, opened: Opened) -> None:
    elf, file = opened
    assert (elf.header["e_type"], elf.header["e_machine"], elf.little_endian, elf.elfclass) == ("ET_CORE", "EM_S390", False, 64)
    note, *loads = list(elf.iter_segments())
    assert note["p_type"] == "PT_NOTE"
    assert note["p_align"] == (4 if gold.about["layout"] == "6.10" else 0)
    assert {load["p_type"] for load in loads} == {"PT_LOAD"}
    assert [(load["p_vaddr"], load["p_paddr"], load["p_filesz"], load["p_memsz"]) for load in loads] == [
        (load.vaddr, load.paddr, load.size, load.size) for load in gold.loads]
    if gold.name != PLAIN:
        assert [load["p_offset"] for load in loads] == [load.offset for load in gold.loads]
    assert file.seek(0, 2) == loads[-1]["p_offset"] + loads[-1]["p_filesz"]


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_notes(gold: Gold, opened: Opened) -> None:
    found = notes(opened[0])
    assert (found[0]["n_name"], found[0]["n_type"]) == ("CORE", "NT_PRPSINFO")
    assert (found[-1]["n_name"], found[-1]["n_type"], found[-1]["n_desc"]) == ("VMCOREINFO", 0, gold.vmcoreinfo)
    pids = [pid_of(note["n_desc"]) for note in found if note["n_type"] == "NT_PRSTATUS"]
    assert pids == list(range(1, gold.groups + 1))
    if gold.name != PLAIN:
        assert pids == [cpu.pid for cpu in cpu_notes(gold.header)]


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_memory_at_addresses_that_the_crashed_kernel_gave(gold: Gold, opened: Opened) -> None:
    (note,) = read(opened, gold.vmcoreinfo_address, 4096, "p_paddr")
    assert vmcoreinfo_of_note(note) == gold.vmcoreinfo
    (banner,) = read(opened, gold.banner_address, 256, "p_vaddr")
    assert banner.partition(b"\n")[0].startswith(gold.banner)


@pytest.mark.parametrize("gold", ["k612-smp2"], indirect=True)
def test_kernel_image_is_there_twice(gold: Gold, opened: Opened) -> None:
    image = gold.loads[0]
    at = gold.banner_address - image.vaddr + image.paddr
    first, second = read(opened, at, 256, "p_paddr")
    assert first == second
    assert first.startswith(gold.banner)
