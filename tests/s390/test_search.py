"""The search for os_info and VMCOREINFO: what is this system's is found, what is anybody else's is not, and nothing costs too much."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.builders import Entry, OsInfo
from tests.builders.lowcore import Lowcore
from tests.builders.notes import vmcoreinfo_note
from tests.builders.vmcoreinfo import vmcoreinfo_text
from tests.s390.fake_memory import FakeMemory
from vmcorefs.s390 import Absent
from vmcorefs.s390.parmarea import Crashkernel
from vmcorefs.s390.search import COPY, DAMAGED_NOTE, LOW_END, NOTE, FoundOsInfo, FoundVmcoreinfo, MemorySearch
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

MIB = 1 << 20
ARRAY, PREFIX, OTHER_ARRAY = 0x6000, 0x20000, 0x7000
NOTE_AT, OS_INFO_AT, NAMES_AT = 0x30000, 0x50000, 0x60000
AREA = Crashkernel(2 * MIB, MIB)
NAMES = "SYMBOL(init_uts_ns)=60000\nOFFSET(uts_namespace.name)=4\n"


def text(release: str = "6.1.0", *, array: int | None = ARRAY, extra: str = "", crash_time: int | None = None) -> bytes:
    return vmcoreinfo_text(release, lowcore_ptr=array, extra=extra, crash_time=crash_time)


def system(size: int = MIB, note: bytes | None = None) -> FakeMemory:
    """One CPU, lowcore_ptr[], and VMCOREINFO at NOTE_AT."""
    memory = FakeMemory(size)
    memory.put(PREFIX, Lowcore().to_bytes())
    memory.put(ARRAY, struct.pack(">Q", PREFIX))
    memory.put(NOTE_AT, vmcoreinfo_note(text()) if note is None else note)
    return memory


def names(memory: FakeMemory, release: bytes) -> None:
    memory.put(NAMES_AT + 4, b"".join(name.ljust(65, b"\0") for name in (b"Linux", b"host", release, b"#1", b"s390x", b"(none)")))


def searching(memory: FakeMemory, *, skip: tuple[int, int] | None = None, area: Crashkernel | None = None,
              said: list[str] | None = None) -> MemorySearch:
    return MemorySearch(memory.read, memory.scan, len(memory.data), skip, area, (said if said is not None else []).append)


def found(memory: FakeMemory, **options: object) -> FoundVmcoreinfo:
    result = searching(memory, **options).vmcoreinfo()  # type: ignore[arg-type]
    assert isinstance(result, FoundVmcoreinfo), result
    return result


def reason(result: object) -> str:
    assert isinstance(result, Absent), result
    return result.reason


# -- VMCOREINFO -------------------------------------------------------------------------------------------------------------


def test_a_note_is_found_with_its_proof() -> None:
    result = found(system())
    assert result.info == Vmcoreinfo(text(), "search", NOTE_AT + 24)
    assert result.form == NOTE
    assert result.proofs == ("its lowcore_ptr[] leads to 1 lowcore",)


def test_the_names_in_memory_prove_it_too() -> None:
    memory = system(note=vmcoreinfo_note(text(extra=NAMES)))
    names(memory, b"6.1.0")
    assert found(memory).proofs == ("its lowcore_ptr[] leads to 1 lowcore", "the kernel in memory calls itself the same")
    memory.put(ARRAY, bytes(8))
    assert found(memory).proofs == ("the kernel in memory calls itself the same",)


@pytest.mark.parametrize("at", [0x30004, 0x31A54, 0x3FFFC - 24, 0x3FFE8, 0x3FFF0])
def test_a_note_of_a_kernel_before_4_13_lies_anywhere(at: int) -> None:
    """Also over the border of two pieces of the scan, which is at 0x40000."""
    memory = system(note=b"")
    memory.put(at, vmcoreinfo_note(text()))
    assert found(memory).info.address == at + 24


@pytest.mark.parametrize("at", [0, 4, 8, 11, 12, 21, 22])
def test_a_damaged_header_of_a_note_with_a_proof(at: int) -> None:
    memory = system()
    memory.put(NOTE_AT + at, b"\xff")
    result = found(memory)
    assert (result.info.desc, result.form) == (text(), DAMAGED_NOTE)


def test_no_header_at_all() -> None:
    memory = system()
    memory.put(NOTE_AT, bytes(24))
    assert found(memory).info.desc == text()


def test_a_copy_of_the_text_on_a_page_of_its_own() -> None:
    """vmcoreinfo_data: what the note is made of, without the time of the crash."""
    memory = system(note=b"")
    memory.put(0x35000, text())
    assert found(memory).form == COPY
    memory.put(NOTE_AT, vmcoreinfo_note(text(crash_time=5)))
    result = found(memory)
    assert (result.form, result.info.address) == (NOTE, NOTE_AT + 24)


def test_a_copy_needs_a_proof_and_a_page_of_its_own() -> None:
    memory = system(note=b"")
    memory.put(0x35010, text())
    assert "no other one is in memory" in reason(searching(memory).vmcoreinfo())
    memory.put(0x35010, bytes(len(text())))
    memory.put(0x35000, text(array=None))
    assert "nothing proves it" in reason(searching(memory).vmcoreinfo())


def test_a_whole_note_that_nothing_speaks_for_or_against() -> None:
    result = found(system(note=vmcoreinfo_note(text(array=None))))
    assert (result.proofs, result.form) == ((), NOTE)
    assert result.words == ("its note is whole", "nothing speaks against it")


def test_what_it_leads_to_cannot_be_read() -> None:
    memory = system()
    memory.bad = [(PREFIX, PREFIX + 0x2000)]
    assert found(memory).proofs == ()
    memory.bad = [(ARRAY, ARRAY + 8)]
    assert found(memory).proofs == ()


WRONG = {
    "bytes that are no text": text() + b"\x80=1\n",
    "a line without =": text() + b"line\n",
    "no end of line": text()[:-1],
    "more than a kernel has room for": text(extra="A=1\n" * 1100),
    "a format string": text().replace(b"6.1.0", b"%s"),
    "no release": text().replace(b"6.1.0", b""),
    "a release that is none": text().replace(b"6.1.0", b"6" * 65),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_not_the_text_of_a_kernel(wrong: bytes) -> None:
    memory = system(note=vmcoreinfo_note(wrong) + b"\xff" * 9000)
    assert reason(searching(memory).vmcoreinfo()) == "no other one is in memory"


def test_another_systems_is_not_taken() -> None:
    """A guest's: its lowcore_ptr[] is an address of the guest, and here something else is there."""
    memory = system(note=vmcoreinfo_note(text("5.14.0-guest", array=OTHER_ARRAY)))
    memory.put(OTHER_ARRAY, b"\x11" * 64)
    result = reason(searching(memory).vmcoreinfo())
    assert "of another system: 5.14.0-guest at 0x30018 (its lowcore_ptr[] leads to no lowcore)" in result
    memory.put(0x38000, vmcoreinfo_note(text()))
    assert found(memory).info.osrelease == "6.1.0"


def test_other_names_in_memory() -> None:
    memory = system(note=vmcoreinfo_note(text("5.14.0-guest", array=None, extra=NAMES)))
    names(memory, b"6.1.0")
    assert "calls itself something else" in reason(searching(memory).vmcoreinfo())


def test_of_several_the_best_proven() -> None:
    memory = system()
    memory.put(0x38000, vmcoreinfo_note(text("6.9.9", array=None)))
    assert found(memory).info.osrelease == "6.1.0"


def test_equally_proven_ones_are_named_and_none_is_taken() -> None:
    memory = system()
    memory.put(0x38000, vmcoreinfo_note(text("6.1.1")))
    assert reason(searching(memory).vmcoreinfo()) == ("several different ones in memory are equally likely, so none is used: "
                                                      "6.1.0 at 0x30018, 6.1.1 at 0x38018")


def test_the_same_text_twice_is_one() -> None:
    memory = system()
    memory.put(0x38000, vmcoreinfo_note(text()))
    assert found(memory).info.address == NOTE_AT + 24


@pytest.mark.parametrize(("area", "wanted"), [(AREA, 9), (None, None)])
def test_one_text_at_different_times(area: Crashkernel | None, wanted: int | None) -> None:
    """CRASHTIME is of the newest crash where a kdump kernel was started, and of an earlier boot where none was."""
    memory = system(note=vmcoreinfo_note(text(crash_time=7)))
    memory.put(0x38000, vmcoreinfo_note(text(crash_time=9)))
    memory.put(0x3C000, vmcoreinfo_note(text()))
    assert found(memory, area=area).info.number("CRASHTIME", 10) == wanted


def test_the_crashkernel_area_is_not_looked_at() -> None:
    memory = system()
    assert "no other one" in reason(searching(memory, skip=(NOTE_AT, NOTE_AT + 0x1000)).vmcoreinfo())
    assert found(memory, skip=(PREFIX, PREFIX + 0x2000)).proofs == ()


def test_unreadable_places_are_no_end() -> None:
    memory = system()
    memory.put(0x2F000, vmcoreinfo_note(text("6.1.5")))
    memory.bad = [(0x2F000, 0x30000)]
    assert found(memory).info.osrelease == "6.1.0"


# -- os_info ----------------------------------------------------------------------------------------------------------------

HAS_VM = {4: Entry(0), 5: Entry(0x3FFE0000000), 6: Entry(0), 10: Entry(0x3FFE0100000), 11: Entry(0x3FFE0180000), 12: Entry(0x40000)}


def hint(release: str = "6.1.0", offset: int = 0, phys: int = 0, identity: int = 0) -> Vmcoreinfo:
    return Vmcoreinfo(vmcoreinfo_text(release, kernel_offset=offset, kernel_offset_phys=phys, identity_base=identity), "lowcore")


def os_info(memory: FakeMemory, vmcoreinfo: Vmcoreinfo | None = None, **options: object) -> FoundOsInfo | Absent:
    return searching(memory, **options).os_info(vmcoreinfo)  # type: ignore[arg-type]


def test_os_info_by_its_checksum() -> None:
    memory = system()
    memory.put(OS_INFO_AT, OsInfo().to_bytes())
    for known in (None, hint()):
        result = os_info(memory, known)
        assert isinstance(result, FoundOsInfo)
        assert (result.info.address, result.words) == (OS_INFO_AT, ("its checksum is right",))


def test_os_info_must_be_a_page_with_its_checksum() -> None:
    memory = system()
    memory.put(OS_INFO_AT + 8, OsInfo().to_bytes())
    assert reason(os_info(memory)) == "no other one is in memory"
    memory.put(OS_INFO_AT, OsInfo(csum=5).to_bytes())
    assert reason(os_info(memory, hint())) == "no other one is in the crashed kernel's image"


@pytest.mark.parametrize(("base", "size", "area", "fits"), [
    (2 * MIB, MIB, AREA, True), (3 * MIB, MIB, AREA, False), (0, 0, AREA, False), (0, 0, None, True), (2 * MIB, MIB, None, True),
    (MIB, 2 * MIB, None, False), (64 * MIB, MIB, None, False), (5, 7, None, False)])
def test_os_info_must_say_b_and_s(base: int, size: int, area: Crashkernel | None, fits: bool) -> None:
    """In kdump mode the known ones; else such as a kernel reserves, in memory, or none."""
    memory = system(4 * MIB)
    memory.put(OS_INFO_AT, OsInfo(base, size).to_bytes())
    result = os_info(memory, hint(), area=area)
    assert isinstance(result, FoundOsInfo) == fits
    if area is not None and fits:
        assert "B and S in it are right" in result.words  # type: ignore[union-attr]


def test_os_info_has_the_addresses_of_vmcoreinfo() -> None:
    memory = system()
    memory.put(OS_INFO_AT, OsInfo(entries=HAS_VM).to_bytes())
    offset = 0x3FFE0000000
    result = os_info(memory, hint("6.12.0", offset))
    assert isinstance(result, FoundOsInfo)
    assert result.words == ("its checksum is right", "it has VMCOREINFO's addresses", "it lies in the kernel that it describes")
    for wrong in ((offset + 0x1000, 0, 0), (offset, 0x1000, 0), (offset, 0, 0x1000)):
        assert isinstance(os_info(memory, hint("6.12.0", *wrong)), Absent)
    assert isinstance(os_info(memory, hint("6.1.0")), Absent)  # a kernel before 6.10 has no such entries
    memory.put(OS_INFO_AT, OsInfo().to_bytes())
    assert isinstance(os_info(memory, hint("6.12.0", offset)), Absent)


def test_of_several_os_infos_the_one_in_its_kernel() -> None:
    memory = system()
    memory.put(0x10000, OsInfo(entries={**HAS_VM, 7: Entry(5)}).to_bytes())
    memory.put(OS_INFO_AT, OsInfo(entries=HAS_VM).to_bytes())
    result = os_info(memory, hint("6.12.0", 0x3FFE0000000))
    assert isinstance(result, FoundOsInfo)
    assert result.info.address == OS_INFO_AT


def test_several_os_infos_that_differ() -> None:
    memory = system(4 * MIB)
    memory.put(OS_INFO_AT, OsInfo().to_bytes())
    memory.put(0x58000, OsInfo(2 * MIB, MIB).to_bytes())
    assert reason(os_info(memory)).endswith("none is used: 0x50000, 0x58000")
    memory.put(0x58000, OsInfo().to_bytes())
    assert isinstance(os_info(memory), FoundOsInfo)


def test_os_info_is_looked_for_in_the_kernel_only() -> None:
    far = Far(system(note=b""), 1 << 30, [(300 * MIB, OsInfo().to_bytes())])
    assert isinstance(far.search([]).os_info(None), FoundOsInfo)
    assert isinstance(far.search([]).os_info(hint()), Absent)


@pytest.mark.parametrize("stext", [0, (1 << 64) - 1, 1 << 62])
def test_an_absurd_place_of_the_kernel(stext: int) -> None:
    memory = system()
    known = Vmcoreinfo(b"SYMBOL(_stext)=%x\nKERNELOFFSET=0\nKERNELOFFPHYS=ffffffffffffffff\n" % stext, "lowcore")
    assert isinstance(os_info(memory, known), Absent)


# -- what it costs ----------------------------------------------------------------------------------------------------------


class Far:
    """A large, mostly empty memory."""

    def __init__(self, memory: FakeMemory, size: int, pieces: Sequence[tuple[int, bytes]] = ()) -> None:
        self.memory, self.size, self.pieces = memory, size, sorted(pieces)
        self.scanned: list[tuple[int, int]] = []

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.pieces:
            if start <= address and address + size <= start + len(data):
                return data[address - start:address - start + size]
        return self.memory.read(address, size)

    def scan(self, start: int, end: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        self.scanned.append((start, end))
        if start < len(self.memory.data):
            yield from self.memory.scan(start, end, overlap)
        yield from ((at, data) for at, data in self.pieces if start <= at < end)

    def search(self, said: list[str]) -> MemorySearch:
        return MemorySearch(self.read, self.scan, self.size, None, None, said.append)


def page(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4096) * 4096, b"\0")


def test_the_search_ends_with_the_step_in_which_something_proven_is() -> None:
    said: list[str] = []
    far = Far(system(), 1 << 42)
    search = far.search(said)
    assert isinstance(search.vmcoreinfo(), FoundVmcoreinfo)
    assert (search.searched, said) == (256 * MIB, [])


def test_all_of_memory_is_searched_and_said() -> None:
    said: list[str] = []
    far = Far(system(note=b""), 1 << 42, [(1 << 41, page(vmcoreinfo_note(text())))])
    search = far.search(said)
    result = search.vmcoreinfo()
    assert isinstance(result, FoundVmcoreinfo)
    assert result.info.address == (1 << 41) + 24
    assert said == ["searching all of memory (4 TiB) for what the lowcore no longer leads to; this takes a while"]
    before = len(far.scanned)
    assert isinstance(search.os_info(None), Absent)
    assert len(far.scanned) == before  # nothing is searched twice
    assert len(said) == 1


def test_a_limit() -> None:
    said: list[str] = []
    far = Far(system(note=b""), 1 << 42, [(LOW_END, page(vmcoreinfo_note(text())))])
    search = far.search(said)
    assert reason(search.vmcoreinfo(LOW_END)) == "no other one is in memory below 2 GiB"
    assert (said, max(end for _, end in far.scanned)) == ([], LOW_END)
    assert isinstance(search.vmcoreinfo(), FoundVmcoreinfo)


FAKES = {
    "notes": vmcoreinfo_note(b"OSRELEASE=1\n"),
    "large notes": vmcoreinfo_note(b"OSRELEASE=1\n")[:4] + struct.pack(">I", 4096) + vmcoreinfo_note(b"OSRELEASE=1\n")[8:],
    "first lines": b"OSRELEASE=1\n",
    "magic": b"OSINFOSZ".ljust(4096, b"\0"),
    "os_info": OsInfo().to_bytes(),
    "texts": page(vmcoreinfo_note(text())),
}


@pytest.mark.parametrize("fake", FAKES.values(), ids=FAKES)
def test_a_memory_full_of_fakes_costs_little(fake: bytes) -> None:
    memory = FakeMemory(16 * MIB)
    memory.put(0, fake * (len(memory.data) // len(fake)))
    begin = time.monotonic()
    search = searching(memory)
    search.vmcoreinfo()
    search.os_info(None)
    search.os_info(hint())
    assert time.monotonic() - begin < 20
    assert sum(size for _, size in memory.reads) < 128 * MIB


def test_texts_that_all_differ_cost_little() -> None:
    memory = FakeMemory(8 * MIB)
    memory.put(PREFIX, Lowcore().to_bytes())
    memory.put(ARRAY, struct.pack(">512Q", *[PREFIX] * 512))
    for number, at in enumerate(range(MIB, 8 * MIB, 4096)):
        memory.put(at, vmcoreinfo_note(text(f"6.1.{number}")))
    begin = time.monotonic()
    assert "several different ones" in reason(searching(memory).vmcoreinfo())
    assert time.monotonic() - begin < 10
