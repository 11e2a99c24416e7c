"""From image to vmcore over many synthetic machines: header, size and sampled reads against the builder's model."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Cpu, Entry, Layout, Machine, cpus
from vmcorefs import Dump

MIB = 1 << 20
HOLES = ((0, 3 * MIB), (8 * MIB, 9 * MIB), (16 * MIB, 17 * MIB))
RELEASES = ["5.8.0", "5.15.80", "5.15.81", "6.1.0", "6.4.0", "6.6.0", "6.12.0"]


def opened(built: Built, **options: object) -> Dump:
    return vmcorefs.open(built.image, hsa=built.hsa, **options)


def same(built: Built, dump: Dump, samples: int = 60) -> None:
    """Header byte for byte, size, and reads around every border and anywhere."""
    model, vmcore = built.model, dump.vmcore
    first = next((i for i, (a, b) in enumerate(zip(vmcore.header, model.header, strict=False)) if a != b), None)
    assert first is None, f"header differs at {first:#x}"
    assert len(vmcore.header) == len(model.header)
    assert vmcore.size == model.size
    rng = random.Random(model.size)
    offsets = [region.start - rng.choice((0, 1, 8, 4096)) for region in vmcore.regions[1:]] + [model.size - 5]
    offsets += [rng.randrange(model.size) for _ in range(samples)]
    offsets += [model.file_offset(page) for page in rng.sample(built.old.pages(), 20)
                if any(start <= page < end for start, end in built.machine.ranges)]
    for offset in offsets:
        size = rng.choice((1, 8, 100, 4096, 10000))
        assert vmcore.pread(size, offset) == model.read(offset, size), hex(offset)


def check(machine: Machine, directory: Path, **options: object) -> None:
    built = machine.build(directory)
    with opened(built, **options) as dump:
        assert dump.problems == ()
        same(built, dump)


# -- modes, releases, CPUs, ranges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("mode", ["kdump", "zfcpdump", "plain"])
def test_modes_and_releases(tmp_path: Path, mode: str, release: str) -> None:
    check(Machine(mode=mode, release=release, cpus=cpus(2)), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("wiped", [False, True])
def test_evidence_present_or_wiped(tmp_path: Path, release: str, wiped: bool) -> None:
    """The dump kernel's VMCOREINFO is wiped, too, so the crashed kernel's release has to do."""
    built = Machine(release=release, cpus=cpus(3)).build(tmp_path)
    if wiped:
        built.wipe_dump_kernel()
    with opened(built) as dump:
        same(built, dump)
        assert [p.code for p in dump.problems] in ([], ["cpu-order"])
        assert dump.layout.todpreg_size.assumed is wiped


@pytest.mark.parametrize("count", [1, 3, 17])
@pytest.mark.parametrize("mode", ["kdump", "zfcpdump", "plain"])
def test_cpu_counts(tmp_path: Path, mode: str, count: int) -> None:
    built = Machine(mode=mode, release="6.12.0", cpus=cpus(count)).build(tmp_path)  # type: ignore[arg-type]
    with opened(built) as dump:
        assert len(dump.cpus) == count
        same(built, dump)


def test_no_cpu_at_all(tmp_path: Path) -> None:
    """All CPUs but the crashed boot CPU's absolute lowcore are gone: prefix 0 has no notes."""
    built = Machine(cpus=(Cpu(online=False),)).build(tmp_path)
    with opened(built) as dump:
        assert dump.cpus == ()
        same(built, dump)


def test_256_cpus(tmp_path: Path) -> None:
    check(Machine(memory=((0, 16 * MIB),), size=2 * MIB, cpus=cpus(256)), tmp_path)


@pytest.mark.parametrize("release", ["5.8.0", "6.1.0", "6.12.0"])
@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.parametrize(("vector", "crashed_vector"), [(True, True), (False, False), (False, True)])
def test_vector_registers_for_all_or_none_as_the_dump_kernel_decides(tmp_path: Path, release: str, wiped: bool, vector: bool,
                                                                     crashed_vector: bool) -> None:
    built = Machine(release=release, cpus=cpus(2), vector=vector, crashed_vector=crashed_vector).build(tmp_path)
    if wiped:
        built.wipe_dump_kernel()
    with opened(built) as dump:
        assert dump.vector is vector
        same(built, dump)
        assert dump.problems == ()


@pytest.mark.parametrize("release", ["6.1.0", "6.12.0"])
def test_only_the_crashed_kernel_had_novx(tmp_path: Path, release: str) -> None:
    """The dump kernel's save areas have the vector registers, the crashed kernel stored none."""
    check(Machine(release=release, cpus=cpus(2), vector=True, crashed_vector=False), tmp_path)


def test_guarded_storage(tmp_path: Path) -> None:
    for wiped in (False, True):
        built = Machine(cpus=cpus(2), guarded_storage=True).build(tmp_path)
        if wiped:
            built.wipe_dump_kernel()
        with opened(built) as dump:
            same(built, dump)


SHAPES = {
    "one range": Machine(),
    "B = S": Machine(base=MIB),
    "crashkernel at the end": Machine(base=3 * MIB),
    "crashkernel fills a range": Machine(memory=((0, 2 * MIB), (4 * MIB, 5 * MIB), (6 * MIB, 7 * MIB)), base=4 * MIB),
    "crashkernel over a hole": Machine(memory=((0, 3 * MIB), (4 * MIB, 8 * MIB)), base=2 * MIB, size=2 * MIB),
    "crashkernel as large as what is left": Machine(memory=((0, 8 * MIB),), base=4 * MIB, size=4 * MIB),
    "holes": Machine(memory=HOLES, base=MIB, cpus=(Cpu(prefix=8 * MIB), Cpu(1)), structures=16 * MIB),
    "many ranges": Machine(memory=tuple((4 * i * MIB, (4 * i + 3) * MIB) for i in range(80)), base=MIB,
                           body_pages=[4 * i * MIB for i in range(80)]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("release", ["5.8.0", "6.12.0"])
def test_shapes_of_memory(tmp_path: Path, shape: str, release: str) -> None:
    check(replace(SHAPES[shape], release=release), tmp_path)


@pytest.mark.parametrize("shape", ["holes", "many ranges", "crashkernel fills a range"])
def test_a_wiped_dump_kernel_with_the_ranges_given(tmp_path: Path, shape: str) -> None:
    built = SHAPES[shape].build(tmp_path)
    built.wipe_dump_kernel()
    with opened(built, memory_range=list(built.machine.memory)) as dump:
        same(built, dump)
        assert dump.physmem.origin == "option --memory-range"


def test_a_wiped_dump_kernel_without_ranges_has_the_extent_of_the_image(tmp_path: Path) -> None:
    built = SHAPES["holes"].build(tmp_path)
    built.wipe_dump_kernel()
    with opened(built) as dump:
        assert dump.memory_map == ((0, MIB), (2 * MIB, 17 * MIB))
        assert dump.physmem.assumed


@pytest.mark.parametrize("mode", ["kdump", "plain"])
@pytest.mark.parametrize("missing", [1, 100, 4095])
def test_a_partial_last_page_is_a_page_of_memory(tmp_path: Path, mode: str, missing: int) -> None:
    """Header and size are as with the whole page, with or without the dump kernel's header; its bytes can be read."""
    built = Machine(mode=mode, image_size=4 * MIB - missing, with_elfcorebuf=False).build(tmp_path)  # type: ignore[arg-type]
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["partial-page"]
        assert dump.vmcore.header == built.model.header
        assert dump.vmcore.size == built.model.size
        there = 4096 - missing
        offset = built.model.size - 4096
        assert dump.vmcore.pread(there, offset) == built.model.read(offset, there)
        with pytest.raises(vmcorefs.OldmemReadError) as caught:
            dump.vmcore.pread(4096, offset)
        assert caught.value.good == there


def test_zfcpdump_with_holes_and_an_hsa_that_ends_in_a_range(tmp_path: Path) -> None:
    check(Machine(mode="zfcpdump", memory=HOLES, hsa_size=2 * MIB, cpus=cpus(2)), tmp_path)


def test_kaslr_with_the_image_above_the_crashkernel_area(tmp_path: Path) -> None:
    machine = Machine(
        release="6.12.0", memory=((0, 64 * MIB),), base=32 * MIB, size=16 * MIB, kernel_offset=0x2E4BA6A0000,
        kernel_offset_phys=48 * MIB, image_text=(0x100000, 0x301800), cpus=(Cpu(0, prefix=60 * MIB), Cpu(5), Cpu(3)),
        vmcoreinfo_address=16 * MIB - 100)
    built = machine.build(tmp_path)
    for wiped in (False, True):
        if wiped:
            built.wipe_dump_kernel()
        with opened(built) as dump:
            assert dump.merged.placed[0].load.kind == "kernel image"
            same(built, dump)


@pytest.mark.parametrize("wiped", [False, True])
def test_identity_bases(tmp_path: Path, wiped: bool) -> None:
    built = Machine(release="6.12.0", identity_base=0x7000000000, dump_identity_base=0x5000000000, cpus=cpus(3)).build(tmp_path)
    if wiped:
        built.wipe_dump_kernel()
    with opened(built) as dump:
        assert dump.merged.phdrs[2].p_vaddr == 0x7000000000
        same(built, dump)


# -- two kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dump_release", RELEASES)
@pytest.mark.parametrize("release", ["5.8.0", "6.1.0", "6.12.0"])
def test_the_dump_kernel_decides_over_any_crashed_kernel(tmp_path: Path, release: str, dump_release: str) -> None:
    built = Machine(release=release, dump_release=dump_release, cpus=cpus(2)).build(tmp_path)
    with opened(built) as dump:
        assert dump.problems == ()
        same(built, dump)
        assert dump.info().dump_kernel_release.value == dump_release


@pytest.mark.parametrize("dump_release", ["5.8.0", "6.1.0", "6.12.0"])
@pytest.mark.parametrize("release", ["5.8.0", "6.1.0", "6.12.0"])
def test_the_dump_kernel_decides_by_its_release_where_its_header_is_lost(tmp_path: Path, release: str, dump_release: str) -> None:
    built = Machine(release=release, dump_release=dump_release, cpus=cpus(2), with_elfcorebuf=False).build(tmp_path)
    with opened(built) as dump:
        same(built, dump)


@pytest.mark.parametrize("dump_release", ["5.8.0", "6.1.0", "6.12.0"])
@pytest.mark.parametrize("release", ["5.8.0", "6.1.0", "6.12.0"])
def test_mixed_kernels_in_zfcpdump(tmp_path: Path, release: str, dump_release: str) -> None:
    check(Machine(mode="zfcpdump", release=release, dump_release=dump_release, cpus=cpus(2)), tmp_path)


def test_a_vendors_dump_kernel_by_its_own_header(tmp_path: Path) -> None:
    """RHEL 9.5's bytes under a release that the table does not know."""
    check(Machine(release="5.14.0-strange", layout=Layout(8, 4, has_vm=False), cpus=cpus(2)), tmp_path)


def test_a_vendors_dump_kernel_by_the_table(tmp_path: Path) -> None:
    check(Machine(release="5.14.0-503.11.1.el9_5.s390x", layout=Layout(8, 4, has_vm=False), with_elfcorebuf=False), tmp_path)


@pytest.mark.parametrize(("option", "layout"), [("5.8", Layout(8, 0)), ("6.1", Layout(4, 0)), ("6.6", Layout(4, 4)),
                                                ("6.10", Layout(4, 4, has_vm=True)), ("5.15.80", Layout(8, 0)),
                                                ("5.14.0-503.el9.s390x", Layout(8, 4))])
def test_the_option_layout(tmp_path: Path, option: str, layout: Layout) -> None:
    built = Machine(release="6.12.0", layout=layout, cpus=cpus(2), with_elfcorebuf=False).build(tmp_path)
    with opened(built, layout=option) as dump:
        same(built, dump)


# -- os_info and VMCOREINFO ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["lowcore", "os_info", "both"])
@pytest.mark.parametrize("release", ["5.8.0", "6.12.0"])
def test_vmcoreinfo_by_os_info_first_then_by_lowcore(tmp_path: Path, by: str, release: str) -> None:
    built = Machine(vmcoreinfo_by=by, release=release).build(tmp_path)  # type: ignore[arg-type]
    with opened(built) as dump:
        same(built, dump)
        assert dump.vmcoreinfo is not None
        assert dump.vmcoreinfo.origin == ("lowcore" if by == "lowcore" else "os_info")


def test_zfcpdump_of_6_12_reads_os_info(tmp_path: Path) -> None:
    check(Machine(mode="zfcpdump", vmcoreinfo_by="both", release="6.12.0"), tmp_path)


@pytest.mark.parametrize("wiped", [False, True])
def test_zfcpdump_of_6_1_does_not_read_os_info(tmp_path: Path, wiped: bool) -> None:
    """os_info_old_init returns at once in a dump IPL; VMCOREINFO comes by lowcore though entry 0 is there (reference 5.1)."""
    built = Machine(mode="zfcpdump", vmcoreinfo_by="both", release="6.1.0", with_elfcorebuf=not wiped).build(tmp_path)
    with opened(built) as dump:
        same(built, dump)


def test_a_damaged_entry_0_leaves_the_lowcores_note(tmp_path: Path) -> None:
    built = Machine(vmcoreinfo_by="both", os_info="bad_entry_csum").build(tmp_path)
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["os_info"]
        same(built, dump)


@pytest.mark.parametrize("os_info", ["bad_csum", "bad_magic", "bad_version"])
@pytest.mark.parametrize("release", ["6.1.0", "6.12.0"])
def test_a_bad_os_info_gives_nothing(tmp_path: Path, os_info: str, release: str) -> None:
    """No VMCOREINFO by entry 0, and in 6.10+ no image PT_LOAD and no identity base."""
    machine = Machine(os_info=os_info, vmcoreinfo_by="both", release=release, identity_base=0x7000000000)  # type: ignore[arg-type]
    built = machine.build(tmp_path)
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["os_info"]
        same(built, dump)


def test_entry_5_zero_means_no_image_pt_load(tmp_path: Path) -> None:
    check(Machine(release="6.12.0", os_info_entries={5: Entry(0)}), tmp_path)


@pytest.mark.parametrize("entries", [
    {11: Entry(0x3FFE0040000)},  # END = START
    {11: Entry(0x3FFE0030000)},  # END < START
    {11: Entry(0x3FFE0040000 + (5 << 30))},  # 5 GiB
    {12: Entry(1 << 40)},  # physical address in no memory
    {12: Entry(4 * MIB - 0x1000)},  # reaches over the end
    {12: Entry((1 << 64) - 0x1000)},
    {10: Entry((1 << 64) - 0x1000), 11: Entry(0x1000)},
])
def test_nonsense_about_the_kernel_image_leaves_its_pt_load_out(tmp_path: Path, entries: dict[int, Entry]) -> None:
    built = Machine(release="6.12.0", os_info_entries=entries, with_elfcorebuf=False).build(tmp_path)
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["kernel-image"]
        same(built, dump)


def test_vmcoreinfo_across_s(tmp_path: Path) -> None:
    """A pointer's data may begin in swapped and end in direct memory."""
    check(Machine(memory=((0, 8 * MIB),), base=4 * MIB, vmcoreinfo_address=MIB - 100), tmp_path)


def test_given_vmcoreinfo_is_served_where_the_image_has_none(tmp_path: Path) -> None:
    built = Machine(vmcoreinfo_by=None).build(tmp_path)
    text = tmp_path / "vmcoreinfo.txt"
    text.write_bytes(b"OSRELEASE=6.1.0\n")
    with opened(built, vmcoreinfo=text) as dump:
        assert dump.problems == ()
        assert dump.vmcoreinfo is not None
        assert dump.vmcoreinfo.origin == "option"
        model = replace(built.model, facts=replace(built.model.facts, vmcoreinfo=b"OSRELEASE=6.1.0\n"))
        assert dump.vmcore.header == model.header


def test_given_vmcoreinfo_does_not_beat_the_images_own(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    text = tmp_path / "vmcoreinfo.txt"
    text.write_bytes(b"OSRELEASE=5.5.5\n")
    with opened(built, vmcoreinfo=text) as dump:
        assert [p.code for p in dump.problems] == ["vmcoreinfo"]
        assert "5.5.5" in dump.problems[0].text
        same(built, dump)


# -- registers that nobody has ---------------------------------------------------------------------------------------------


def test_plain_with_no_stored_status(tmp_path: Path) -> None:
    built = Machine(mode="plain", stored_status=False, cpus=cpus(2)).build(tmp_path)
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["cpus"]
        same(built, dump)


def test_stand_alone_kdump_by_the_list(tmp_path: Path) -> None:
    check(Machine(cpus=cpus(3), stored_status=False), tmp_path)


def test_stand_alone_kdump_without_the_list_has_the_boot_cpu_only(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(3), stored_status=False, with_save_area_list=False, with_elfcorebuf=False).build(tmp_path)
    with opened(built) as dump:
        assert len(dump.cpus) == 1
        assert "cpus" in [p.code for p in dump.problems]
        assert dump.cpus[0].save_area.gprs == built.model.facts.cpus[0].registers.gprs


def test_zfcpdump_without_the_list_has_the_boot_cpu_only(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump", cpus=cpus(3), with_save_area_list=False, with_elfcorebuf=False).build(tmp_path)
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["cpus", "vector"]
        assert not dump.vector
        model = replace(built.model, facts=replace(built.model.facts, cpus=built.model.facts.cpus[:1], vector=False))
        assert dump.vmcore.header == model.header


def test_two_headers_that_say_different_things_are_both_not_used(tmp_path: Path) -> None:
    """A page-cache copy of another dump's vmcore looks the same."""
    built = Machine(cpus=cpus(2)).build(tmp_path)
    page = bytearray(built.image.read_bytes()[built.dump_places["elfcorebuf"]:][:4096])
    page[64 + 48:64 + 56] = (4).to_bytes(8, "big")
    built.poke_raw(0xF0000, bytes(page))
    with opened(built) as dump:
        assert [p.code for p in dump.problems] == ["finished-header"]
        assert dump.finished_header is None
        same(built, dump)


def test_a_copy_of_the_same_header_is_harmless(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    built.poke_raw(0xF0000, built.image.read_bytes()[built.dump_places["elfcorebuf"]:][:4096])
    with opened(built) as dump:
        assert dump.problems == ()
        same(built, dump)


def test_a_header_of_another_machine_is_not_believed(tmp_path: Path) -> None:
    """Its ranges reach into [B, B+S), so it is not this dump's."""
    other = Machine(memory=((0, 16 * MIB),), base=8 * MIB).build(tmp_path)
    page = other.image.read_bytes()[other.dump_places["elfcorebuf"]:][:4096]
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    built.poke_raw(0xF0000, page)
    with opened(built) as dump:
        assert dump.finished_header is None
        same(built, dump)
