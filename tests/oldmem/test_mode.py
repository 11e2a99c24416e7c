"""Which mode an image is in: every row of reference 9.1 and 9.2, over synthetic machines that are damaged one way each."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders import Built, Cpu, Machine, OsInfo, cpus
from tests.image.bad_disk import BadDisk
from vmcorefs.errors import ImageError, UsageError, VmcorefsError
from vmcorefs.image.file import ImageFile
from vmcorefs.oldmem.mode import Mode, choose_mode, linux_evidence, refuse_contradictions

MIB = 1 << 20
PARMAREA = 0x10400
OLDMEM = 0x10418


@pytest.fixture
def choose() -> Iterator[Callable[..., Mode]]:
    files: list[ImageFile] = []

    def call(image: Path, wanted: str = "auto", oldmem: tuple[int, int] | None = None, hsa: Path | None = None,
             hsa_size: int | None = None) -> Mode:
        files.append(ImageFile(image))
        opened = files[-1]
        if hsa is not None:
            files.append(ImageFile(hsa, what="HSA image"))
        return choose_mode(opened, wanted, oldmem, files[-1] if hsa is not None else None, hsa_size)

    yield call
    for file in files:
        file.close()


Choose = Callable[..., Mode]


def set_parmarea(built: Built, base: int, size: int) -> None:
    built.poke_raw(OLDMEM, struct.pack(">QQ", base, size))


def refused(choose: Choose, *arguments: object, **options: object) -> str:
    with pytest.raises(VmcorefsError) as caught:
        choose(*arguments, **options)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- kdump, reference 9.1 --------------------------------------------------------------------------------------------------


def test_parmarea_and_os_info_that_agree_are_certain(tmp_path: Path, choose: Choose) -> None:
    mode = choose(Machine().build(tmp_path).image)
    assert (mode.name, mode.origin, mode.warning) == ("kdump", "image", None)
    assert mode.crashkernel == (2 * MIB, MIB)
    assert mode.dump_kernel_limit == MIB
    assert "os_info agree on B=0x200000 S=0x100000" in mode.reason


def test_asked_for_kdump_is_the_same(tmp_path: Path, choose: Choose) -> None:
    assert choose(Machine().build(tmp_path).image, "kdump").crashkernel == (2 * MIB, MIB)


@pytest.mark.parametrize("os_info", ["absent", "bad_csum", "bad_magic", "bad_version"])
def test_with_a_bad_os_info_the_parmarea_counts(tmp_path: Path, choose: Choose, os_info: str) -> None:
    mode = choose(Machine(os_info=os_info).build(tmp_path).image)  # type: ignore[arg-type]
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))
    assert "parameter area says B=0x200000 S=0x100000" in mode.reason


def test_with_a_bad_os_info_and_no_kernel_at_0x10000_it_is_not_kdump(tmp_path: Path, choose: Choose) -> None:
    built = Machine(os_info="bad_csum", with_elfcorebuf=False).build(tmp_path)
    built.poke_raw(0x10008, b"S390XX")
    assert choose(built.image).name == "plain"


def test_without_s390ep_a_good_os_info_is_enough(tmp_path: Path, choose: Choose) -> None:
    built = Machine().build(tmp_path)
    built.poke_raw(0x10008, b"S390XX")
    mode = choose(built.image)
    assert (mode.name, mode.warning) == ("kdump", None)


def test_os_info_with_other_values_loses_against_the_parmarea(tmp_path: Path, choose: Choose) -> None:
    """Shrinking crashkernel rewrites os_info; the dump kernel used what its parameter area says."""
    built = Machine().build(tmp_path)
    built.poke_old(built.places["os_info"], OsInfo(2 * MIB, 2 * MIB).to_bytes())
    mode = choose(built.image)
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))
    assert mode.warning is not None
    assert "os_info says B=0x200000 S=0x200000" in mode.warning


@pytest.mark.parametrize("page", [False, True])
def test_a_zeroed_parmarea_is_replaced_by_os_info(tmp_path: Path, choose: Choose, page: bool) -> None:
    built = Machine().build(tmp_path)
    built.poke_raw(0x10000, bytes(4096) if page else bytes(16))
    set_parmarea(built, 0, 0)
    mode = choose(built.image)
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))
    assert mode.warning is not None
    assert "damaged" in mode.warning


@pytest.mark.parametrize(("base", "size"), [
    (2 * MIB + 4096, MIB), (2 * MIB, MIB + 4096), (MIB, 2 * MIB), (0, MIB), (2 * MIB, 0), ((1 << 64) - MIB, MIB), (1, 1),
    (0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF),
])
def test_insane_values_in_the_parmarea_are_replaced_by_os_info(tmp_path: Path, choose: Choose, base: int, size: int) -> None:
    built = Machine().build(tmp_path)
    built.poke_raw(0x10000, b"\xff" * 16)
    set_parmarea(built, base, size)
    mode = choose(built.image)
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))


@pytest.mark.parametrize(("base", "size"), [(64 * MIB, MIB), (3 * MIB, 3 * MIB)])
def test_a_damaged_parmarea_that_leaves_the_image_is_replaced_by_os_info(tmp_path: Path, choose: Choose, base: int,
                                                                        size: int) -> None:
    built = Machine().build(tmp_path)
    built.poke_raw(0x10000, b"\xff" * 16)
    set_parmarea(built, base, size)
    mode = choose(built.image)
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))


def test_an_unreadable_parmarea_is_replaced_by_os_info(tmp_path: Path, choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Machine().build(tmp_path)
    BadDisk(monkeypatch, built.image, [(0x10000, 0x11000)])
    mode = choose(built.image)
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))


def test_a_lost_parmarea_needs_an_os_info_that_the_swap_leads_to(tmp_path: Path, choose: Choose) -> None:
    """Any page may hold the magic: one that says another area, and one whose swap leads nowhere, are passed over."""
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    built.poke_raw(0x10000, bytes(4096))
    built.poke_raw(0x7F000, OsInfo(3 * MIB, MIB).to_bytes())
    built.poke_raw(0x7E000, OsInfo(64 * MIB, MIB).to_bytes())
    built.poke_raw(0x7D000, OsInfo(0, 0).to_bytes())
    built.poke_raw(0x7C000, b"OSINFOSZ")
    assert choose(built.image).crashkernel == (2 * MIB, MIB)


def test_two_swaps_that_are_equally_proven_are_refused_with_both(tmp_path: Path, choose: Choose) -> None:
    """Whatever the order in memory: neither is taken."""
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    built.poke_raw(0x10000, bytes(4096))
    other = OsInfo(3 * MIB, MIB).to_bytes()
    pointer = built.image.read_bytes()[2 * MIB + 0xe18:2 * MIB + 0xe20]
    place = int.from_bytes(pointer, "big")
    assert choose(built.image).crashkernel == (2 * MIB, MIB)
    built.poke_raw(3 * MIB, built.image.read_bytes()[2 * MIB:2 * MIB + 0x2000])
    built.poke_raw(3 * MIB + 0xe18, struct.pack(">Q", 0x7f000))
    built.poke_raw(3 * MIB + 0x7f000, other)  # where 3 MiB's swap puts the page at 0x7f000
    message = refused(choose, built.image)
    assert "equally proven" in message
    assert f"os_info at {place:#x} says B=0x200000 S=0x100000 (--oldmem 0x200000:0x100000)" in message
    assert "os_info at 0x7f000 says B=0x300000 S=0x100000 (--oldmem 0x300000:0x100000)" in message
    for area in ((2 * MIB, MIB), (3 * MIB, MIB)):
        assert choose(built.image, oldmem=area).crashkernel == area
    assert choose(built.image, "plain").name == "plain"


def test_a_swap_whose_area_the_system_at_0_reserved_itself_is_refused_with_both(tmp_path: Path, choose: Choose) -> None:
    """A machine that came up again after a dump, its memory not cleared: what lies in the area is older than what is at 0."""
    built = Machine(mode="plain", base=2 * MIB, size=MIB).build(tmp_path)
    built.poke_raw(2 * MIB, built.image.read_bytes()[:MIB])
    built.poke_raw(0x10000, bytes(4096))
    message = refused(choose, built.image)
    assert "equally proven" in message
    assert "a system without dump kernel" in message
    assert message.endswith("choose one by its option")
    assert choose(built.image, "plain").name == "plain"
    assert choose(built.image, oldmem=(2 * MIB, MIB)).name == "kdump"


@pytest.mark.parametrize("pointer", [True, False])
def test_a_parmarea_that_names_no_crashed_system_beside_a_swap_that_is_proven_is_refused(tmp_path: Path, choose: Choose, *,
                                                                                        pointer: bool) -> None:
    """B and S alone were wiped, or the swap is left from an earlier crash: nothing tells which."""
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    set_parmarea(built, 0, 0)
    if not pointer:
        built.poke_old(0xe18, bytes(8))
    message = refused(choose, built.image)
    assert "(--oldmem 0x200000:0x100000); a system without dump kernel at 0, whose parameter area at 0x10400 names no" in message
    assert choose(built.image, "plain").name == "plain"
    assert choose(built.image, oldmem=(2 * MIB, MIB)).name == "kdump"


def test_a_finished_header_decides_for_the_swap(tmp_path: Path, choose: Choose) -> None:
    built = Machine().build(tmp_path)
    set_parmarea(built, 0, 0)
    assert choose(built.image).crashkernel == (2 * MIB, MIB)


def test_without_parmarea_and_pointer_an_os_info_in_its_own_area_tells_the_swap(tmp_path: Path, choose: Choose) -> None:
    """No kernel's data lie in the area that it reserves, if nothing was swapped."""
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    pointer = int.from_bytes(built.image.read_bytes()[2 * MIB + 0xe18:2 * MIB + 0xe20], "big")
    built.wipe_dump_kernel(keep=())
    built.poke_old(0xe18, bytes(8))
    mode = choose(built.image)
    assert (mode.name, mode.crashkernel) == ("kdump", (2 * MIB, MIB))
    assert f"an os_info at image offset {2 * MIB + pointer:#x}" in mode.reason
    assert mode.warning is not None
    assert "--mode plain" in mode.warning
    built.poke_old(pointer + 12, b"\xff")  # its checksum
    assert choose(built.image).name == "plain"


def test_an_os_info_in_its_own_area_without_a_lowcore_at_b_tells_nothing(tmp_path: Path, choose: Choose) -> None:
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    built.wipe_dump_kernel(keep=())
    built.poke_old(0, bytes(0x2000))
    assert choose(built.image).name == "plain"


def test_a_lost_parmarea_and_a_bad_os_info_is_no_kdump(tmp_path: Path, choose: Choose) -> None:
    built = Machine(os_info="bad_csum", with_elfcorebuf=False).build(tmp_path)
    built.poke_raw(0x10000, bytes(4096))
    assert choose(built.image).name == "plain"
    message = refused(choose, built.image, "kdump")
    assert "no B and S" in message
    assert "--oldmem B:S" in message
    assert str(built.image) in message


@pytest.mark.parametrize("size", [2 * MIB, 2 * MIB + 0x1000, 2 * MIB + 0x1FFF])
def test_an_image_cut_off_before_the_swapped_lowcore_is_refused(tmp_path: Path, choose: Choose, size: int) -> None:
    built = Machine().build(tmp_path)
    os.truncate(built.image, size)
    message = refused(choose, built.image)
    assert str(built.image) in message
    assert "cut off" in message
    assert f"{size:#x}" in message
    assert "0x200000" in message


@pytest.mark.parametrize("size", [2 * MIB + 0x2000, 3 * MIB - 0x1000, 3 * MIB - 5])
def test_an_image_cut_off_inside_the_swapped_area_is_kdump_all_the_same(tmp_path: Path, choose: Choose, size: int) -> None:
    built = Machine().build(tmp_path)
    os.truncate(built.image, size)
    assert choose(built.image).crashkernel == (2 * MIB, MIB)


def test_an_image_cut_off_right_behind_the_swapped_area_is_served(tmp_path: Path, choose: Choose) -> None:
    built = Machine().build(tmp_path)
    os.truncate(built.image, 3 * MIB)
    assert choose(built.image).name == "kdump"


def test_crashkernel_in_the_middle_of_memory(tmp_path: Path, choose: Choose) -> None:
    built = Machine(memory=((0, 16 * MIB),), base=5 * MIB, size=3 * MIB).build(tmp_path)
    mode = choose(built.image)
    assert (mode.crashkernel, mode.dump_kernel_limit) == ((5 * MIB, 3 * MIB), 3 * MIB)


# -- the others, reference 9.2 ---------------------------------------------------------------------------------------------


def test_a_crash_kernel_that_was_loaded_but_never_started_is_plain(tmp_path: Path, choose: Choose) -> None:
    built = Machine(mode="plain", base=2 * MIB, size=MIB).build(tmp_path)
    mode = choose(built.image)
    assert (mode.name, mode.origin, mode.warning) == ("plain", "image", None)
    assert mode.dump_kernel_limit == 0


def test_plain_without_a_crash_kernel(tmp_path: Path, choose: Choose) -> None:
    assert choose(Machine(mode="plain").build(tmp_path).image).name == "plain"


def test_plain_with_an_old_copy_of_os_info_is_plain(tmp_path: Path, choose: Choose) -> None:
    """The parameter area of an intact kernel that is no kdump kernel ends the search."""
    built = Machine(mode="plain", base=2 * MIB, size=MIB).build(tmp_path)
    built.poke_raw(2 * MIB, built.image.read_bytes()[:0x2000])  # what the swap would lead to
    assert choose(built.image).name == "plain"


def test_an_hsa_file_means_zfcpdump(tmp_path: Path, choose: Choose) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    for wanted in ("auto", "zfcpdump"):
        mode = choose(built.image, wanted, hsa=built.hsa)
        assert (mode.name, mode.origin, mode.hsa_size, mode.dump_kernel_limit) == ("zfcpdump", "option", MIB, MIB)
        assert mode.warning is None


def test_hsa_size_says_how_much_of_a_longer_file_counts(tmp_path: Path, choose: Choose) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    assert built.hsa is not None
    os.truncate(built.hsa, MIB + 1)
    assert choose(built.image, hsa=built.hsa, hsa_size=MIB).hsa_size == MIB


def test_a_kdump_image_with_an_hsa_file_warns(tmp_path: Path, choose: Choose) -> None:
    built = Machine().build(tmp_path)
    hsa = tmp_path / "hsa.img"
    hsa.write_bytes(bytes(MIB))
    mode = choose(built.image, hsa=hsa)
    assert mode.name == "zfcpdump"
    assert mode.warning is not None
    assert "leave --hsa out" in mode.warning


@pytest.mark.parametrize("release", ["6.1.0", "6.12.0"])
def test_a_zfcpdump_image_without_its_hsa_file_is_refused(tmp_path: Path, choose: Choose, release: str) -> None:
    built = Machine(mode="zfcpdump", release=release, cpus=cpus(2)).build(tmp_path)
    message = refused(choose, built.image)
    assert "zfcpdump" in message
    assert "--hsa FILE" in message
    assert str(built.image) in message


def test_a_zfcpdump_image_without_its_hsa_file_is_plain_where_the_user_says_so(tmp_path: Path, choose: Choose) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    assert choose(built.image, "plain").name == "plain"


def test_without_the_finished_header_nothing_tells_zfcpdump(tmp_path: Path, choose: Choose) -> None:
    built = Machine(mode="zfcpdump", with_elfcorebuf=False).build(tmp_path)
    assert choose(built.image).name == "plain"


# -- options ---------------------------------------------------------------------------------------------------------------


def test_given_oldmem_beats_everything(tmp_path: Path, choose: Choose) -> None:
    built = Machine(os_info="absent").build(tmp_path)
    built.poke_raw(0x10000, bytes(4096))
    mode = choose(built.image, "auto", (2 * MIB, MIB))
    assert (mode.name, mode.origin, mode.crashkernel, mode.warning) == ("kdump", "option", (2 * MIB, MIB), None)


def test_given_oldmem_that_contradicts_the_parmarea_warns(tmp_path: Path, choose: Choose) -> None:
    mode = choose(Machine().build(tmp_path).image, "auto", (3 * MIB, MIB))
    assert mode.crashkernel == (3 * MIB, MIB)
    assert mode.warning is not None
    assert "--oldmem says B=0x300000 S=0x100000, but" in mode.warning


@pytest.mark.parametrize(("oldmem", "words"), [
    ((0, MIB), "greater than 0"),
    ((2 * MIB, 0), "greater than 0"),
    ((2 * MIB + 4096, MIB), "multiples of 1 MiB"),
    ((2 * MIB, MIB - 1), "multiples of 1 MiB"),
    ((MIB, 2 * MIB), "overlap"),
    ((4 * MIB, MIB), "leaves the image"),
    ((3 * MIB, 2 * MIB), "leaves the image"),
    (((1 << 64) - MIB, MIB), "leaves the image"),
    (((1 << 64) - MIB, 2 * MIB), "64 bits"),
])
def test_given_oldmem_is_checked(tmp_path: Path, choose: Choose, oldmem: tuple[int, int], words: str) -> None:
    message = refused(choose, Machine().build(tmp_path).image, "auto", oldmem)
    assert "--oldmem" in message
    assert words in message
    assert f"{oldmem[0]:#x}" in message


@pytest.mark.parametrize(("size", "hsa_size", "words"), [
    (0, None, "empty"),
    (MIB + 1, None, "0x100001 is no multiple of 4096"),
    (100, None, "0x64 is no multiple of 4096"),
    (MIB, 4097, "0x1001 is no multiple of 4096"),
    (MIB, 0, "no multiple of 4096"),
    (MIB, 2 * MIB, "0x200000 is larger than the file, which has 0x100000 bytes"),
    (5 * MIB, None, "longer than the memory image"),
])
def test_an_hsa_file_of_a_wrong_size_is_refused(tmp_path: Path, choose: Choose, size: int, hsa_size: int | None,
                                                words: str) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    hsa = tmp_path / "other.hsa"
    with hsa.open("wb") as file:
        file.truncate(size)
    message = refused(choose, built.image, hsa=hsa, hsa_size=hsa_size)
    assert words in message
    assert str(hsa) in message


@pytest.mark.parametrize(("wanted", "oldmem", "hsa", "hsa_size", "words"), [
    ("auto", True, True, False, "--oldmem belongs to kdump mode and cannot be combined with an HSA file"),
    ("kdump", True, True, False, "--oldmem belongs to kdump mode"),
    ("zfcpdump", True, False, False, "cannot be combined with mode zfcpdump"),
    ("plain", True, False, False, "cannot be combined with mode plain"),
    ("kdump", False, True, False, "--hsa belongs to zfcpdump mode and cannot be combined with mode kdump"),
    ("plain", False, True, False, "--hsa belongs to zfcpdump mode and cannot be combined with mode plain"),
    ("auto", False, False, True, "give the file with --hsa"),
    ("zfcpdump", False, False, False, "give it with --hsa FILE"),
    ("warp", False, False, False, "unknown mode 'warp'; one of auto, kdump, zfcpdump, plain"),
])
def test_options_that_contradict_each_other_are_refused(wanted: str, oldmem: bool, hsa: bool, hsa_size: bool,
                                                        words: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_contradictions(wanted, oldmem=oldmem, hsa=hsa, hsa_size=hsa_size)
    assert words in str(caught.value)


@pytest.mark.parametrize(("wanted", "oldmem", "hsa", "hsa_size"), [
    ("auto", False, False, False), ("auto", True, False, False), ("kdump", True, False, False), ("kdump", False, False, False),
    ("auto", False, True, True), ("zfcpdump", False, True, False), ("plain", False, False, False),
])
def test_options_that_go_together(wanted: str, oldmem: bool, hsa: bool, hsa_size: bool) -> None:
    refuse_contradictions(wanted, oldmem=oldmem, hsa=hsa, hsa_size=hsa_size)


# -- is it Linux at all ----------------------------------------------------------------------------------------------------


NEW_PSWS = (0x1A0, 0x60)


@pytest.mark.parametrize("machine", [
    Machine(), Machine(os_info="absent"), Machine(os_info="bad_csum", vmcoreinfo_by=None),
    Machine(mode="plain", vmcoreinfo_by="early", os_info="absent"),
])
def test_signs_of_linux(tmp_path: Path, choose: Choose, machine: Machine) -> None:
    built = machine.build(tmp_path)
    with ImageFile(built.image) as image:
        assert linux_evidence(image, choose(built.image)) == "crashed system"


@pytest.mark.parametrize(("machine", "sign"), [
    (Machine(vmcoreinfo_by=None), "crashed system"),  # os_info alone
    (Machine(os_info="absent"), "crashed system"),  # VMCOREINFO alone
    (Machine(os_info="absent", vmcoreinfo_by=None), "image"),  # nothing of its own: the dump kernel's lowcore
])
def test_each_sign_alone(tmp_path: Path, choose: Choose, machine: Machine, sign: str) -> None:
    built = machine.build(tmp_path)
    built.poke_old(NEW_PSWS[0], bytes(NEW_PSWS[1]))
    with ImageFile(built.image) as image:
        assert linux_evidence(image, choose(built.image)) == sign


def test_zeros_show_no_sign_of_linux(tmp_path: Path, choose: Choose) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(MIB))
    with ImageFile(path) as image:
        assert linux_evidence(image, choose(path)) is None


def test_an_image_shorter_than_a_page_shows_no_sign_of_linux(tmp_path: Path, choose: Choose) -> None:
    path = tmp_path / "short"
    path.write_bytes(Machine(mode="plain", cpus=(Cpu(),)).build(tmp_path).image.read_bytes()[:0xFFF])
    with ImageFile(path) as image:
        assert linux_evidence(image, choose(path)) is None


def test_a_missing_hsa_file_is_an_image_error(tmp_path: Path, choose: Choose) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    with pytest.raises(ImageError, match="cannot open the HSA image"):
        choose(built.image, hsa=tmp_path / "none.img")
