"""Which evidence decides each switch: option, the dump kernel's own header, the table of releases, a fallback."""

from __future__ import annotations

import pytest

from vmcorefs.elf import Phdr
from vmcorefs.facts import Fact
from vmcorefs.ranges import Range
from vmcorefs.s390.elfcorebuf import FinishedHeader
from vmcorefs.vmcore.layout_evidence import HEADER_ORIGIN, Layout, determine_layout, notes_per_cpu, release_evidence

VECTOR = Fact(True, "control register 0")
IMAGE = Phdr(1, 7, 0x3000, 0x3FFE0000000, 0x40000, 0x8000, 0x8000, 4096)


def header(notes_size: int = 1000, note_align: int = 0, image: Phdr | None = None) -> FinishedHeader:
    return FinishedHeader(0x7000, b"", notes_size, note_align, image, (Range(0, 0x100000),), 0)


def values(layout: Layout) -> tuple[int, int, bool, bool]:
    return layout.todpreg_size.value, layout.note_align.value, layout.image_load.value, layout.vector.value


def test_the_dump_kernels_release_decides() -> None:
    evidence = release_evidence("6.12.0", "5.8.0", dump_kernel_ran=True)
    assert (evidence.switches.todpreg_size, evidence.switches.note_align, evidence.switches.image_load) == (4, 4, True)
    assert not evidence.assumed
    assert "dump kernel's release 6.12.0" in evidence.origin


@pytest.mark.parametrize("dump", [None, "", "gibberish"])
def test_the_crashed_kernels_release_is_only_a_guess_at_it(dump: str | None) -> None:
    evidence = release_evidence(dump, "5.8.0", dump_kernel_ran=True)
    assert evidence.switches.todpreg_size == 8
    assert evidence.assumed
    assert "crashed kernel's release 5.8.0" in evidence.origin


def test_without_a_dump_kernel_it_is_the_crashed_kernels_release_for_sure() -> None:
    evidence = release_evidence("6.12.0", "5.8.0", dump_kernel_ran=False)
    assert evidence.switches.todpreg_size == 8
    assert not evidence.assumed


def test_without_any_release_6_1_is_assumed() -> None:
    evidence = release_evidence(None, None, dump_kernel_ran=True)
    assert (evidence.switches.todpreg_size, evidence.switches.note_align, evidence.switches.image_load) == (4, 0, False)
    assert evidence.assumed


def test_a_row_that_is_not_proven_stays_assumed() -> None:
    assert release_evidence("4.15.0-213-generic", None, dump_kernel_ran=True).assumed


RELEASE = release_evidence("5.14.0-427.el9.s390x", None, dump_kernel_ran=True)


def test_the_table_where_there_is_no_header() -> None:
    layout = determine_layout("auto", None, None, RELEASE, VECTOR)
    assert values(layout) == (8, 0, False, True)
    assert "RHEL 9" in layout.todpreg_size.origin
    assert layout.vector is VECTOR


def test_the_header_beats_the_table() -> None:
    layout = determine_layout("auto", header(note_align=4, image=IMAGE), (4, False), RELEASE, VECTOR)
    assert values(layout) == (4, 4, True, False)
    for fact in (layout.todpreg_size, layout.note_align, layout.image_load, layout.vector):
        assert fact.origin.startswith(HEADER_ORIGIN)
        assert not fact.assumed


def test_a_header_whose_notes_do_not_fit_tells_align_and_image_only() -> None:
    layout = determine_layout("auto", header(note_align=4), None, RELEASE, VECTOR)
    assert values(layout) == (8, 4, False, True)
    assert "RHEL 9" in layout.todpreg_size.origin


def test_an_option_beats_the_header_but_not_what_it_says_about_vector_registers() -> None:
    layout = determine_layout("5.8", header(note_align=4, image=IMAGE), (4, False), RELEASE, VECTOR)
    assert values(layout) == (8, 0, False, False)
    assert layout.note_align.origin == "option --layout 5.8"


@pytest.mark.parametrize(("wanted", "name"), [("5.8", "5.8"), ("6.1", "6.1"), ("6.4.0", "6.1"), ("6.10", "6.10"), ("6.12", "6.10"),
                                              ("6.6", "todpreg 4, align 4, no image"),
                                              ("5.14.0-503.el9.s390x", "todpreg 8, align 4, no image")])
def test_a_layout_has_the_name_of_its_row_or_says_its_switches(wanted: str, name: str) -> None:
    assert determine_layout(wanted, None, None, RELEASE, VECTOR).name == name


TEXT = b"x" * 101


@pytest.mark.parametrize("cpus", [1, 2, 17, 256])
@pytest.mark.parametrize(("todpreg", "vector", "size"), [(4, False, 764), (8, False, 768), (4, True, 1188), (8, True, 1192)])
@pytest.mark.parametrize("text", [None, TEXT])
def test_the_size_of_the_notes_tells_todpreg_and_vector(cpus: int, todpreg: int, vector: bool, size: int,
                                                       text: bytes | None) -> None:
    total = 156 + cpus * size + (0 if text is None else 24 + 104)
    assert notes_per_cpu(header(total), cpus, text) == (todpreg, vector)


@pytest.mark.parametrize("total", [156, 156 + 763, 156 + 764 * 3, 156 + 1188 + 764])
def test_a_size_that_fits_nothing_tells_nothing(total: int) -> None:
    assert notes_per_cpu(header(total), 2, None) is None


def test_without_cpus_the_size_tells_nothing() -> None:
    assert notes_per_cpu(header(156), 0, None) is None
