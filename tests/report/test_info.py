"""Info: what a person and a program read about an image; every fact has its origin."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.captures import sparse
from vmcorefs.report.info import SCHEMA, Info

MIB = 1 << 20

KEYS = {
    "schema", "version", "image", "container", "hsa", "hsa_size", "mode", "mode_reason", "crashkernel", "system", "hardware",
    "crashed_release", "build_id", "kernel_offset", "dump_kernel_release", "crash", "os_info", "vmcoreinfo", "layout", "todpreg_size",
    "note_align",
    "image_load", "vector", "cpus", "cpus_origin", "cpus_left_out", "physmem", "memory_map", "memory", "vmcore_size", "header_size",
    "phdrs", "extents", "vmlinux", "commands", "checks", "absent", "problems"}


def info_of(built: Built, **options: object) -> Info:
    with vmcorefs.open(built.image, hsa=built.hsa, **options) as dump:
        info = dump.info()
    assert isinstance(info, Info)
    return info


def line(info: Info, name: str) -> str:
    found = [text for text in info.as_text().splitlines() if text.strip().startswith(name + ":")]
    assert len(found) == 1, info.as_text()
    return found[0]


def test_the_keys_are_stable(tmp_path: Path) -> None:
    data = info_of(Machine().build(tmp_path)).as_dict()
    assert set(data) == KEYS
    assert data["schema"] == SCHEMA == 2
    assert {field.name for field in fields(Info)} == set(data)


@pytest.mark.parametrize("machine", [
    Machine(), Machine(mode="zfcpdump"), Machine(mode="plain", stored_status=False), Machine(release="6.12.0", cpus=cpus(3)),
    Machine(vmcoreinfo_by=None, os_info="absent")], ids=["kdump", "zfcpdump", "plain", "6.12", "nothing"])
def test_it_is_json_and_comes_back_the_same(tmp_path: Path, machine: Machine) -> None:
    data = info_of(machine.build(tmp_path)).as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_mode_and_crashkernel(tmp_path: Path) -> None:
    info = info_of(Machine().build(tmp_path))
    assert (info.mode.value, info.mode.origin) == ("kdump", "image")
    assert info.crashkernel == {"base": 2 * MIB, "size": MIB, "origin": "image"}
    assert "B=0x200000 S=0x100000" in line(info, "crashkernel")
    assert "kdump" in line(info, "mode")
    assert "agree" in line(info, "mode")


def test_mode_by_option(tmp_path: Path) -> None:
    info = info_of(Machine(mode="zfcpdump").build(tmp_path))
    assert info.hsa_size is not None
    assert (info.mode.value, info.hsa_size.value, info.crashkernel) == ("zfcpdump", MIB, None)
    assert info.hsa_size.origin == "size of the HSA file"
    assert info.mode.origin.startswith("option")
    assert info.hsa is not None
    assert info.hsa.path.endswith("hsa.img")


def test_both_releases_with_their_origins(tmp_path: Path) -> None:
    info = info_of(Machine(release="5.8.0", dump_release="6.12.0").build(tmp_path))
    assert info.crashed_release is not None
    assert info.dump_kernel_release is not None
    assert (info.crashed_release.value, info.dump_kernel_release.value) == ("5.8.0", "6.12.0")
    assert info.crashed_release.origin != info.dump_kernel_release.origin


def test_what_is_absent_has_a_reason(tmp_path: Path) -> None:
    info = info_of(Machine(mode="plain", vmcoreinfo_by="early", os_info="absent").build(tmp_path))
    assert info.os_info is None
    assert info.vmcoreinfo is None
    assert info.dump_kernel_release is None
    assert "0xe18" in info.absent["os_info"]
    assert "crashed early" in info.absent["vmcoreinfo"]
    assert info.absent["dump_kernel_release"]
    text = info.as_text()
    assert set(info.absent) >= {"system", "log", "hardware", "crash.time", "crash.reason", "crash.uptime"}
    for name, reason in info.absent.items():
        assert reason, name
        assert name == "log" or reason in text, name


def test_os_info_and_vmcoreinfo(tmp_path: Path) -> None:
    built = Machine(release="6.12.0", vmcoreinfo="BUILD-ID=cafe\n").build(tmp_path)
    info = info_of(built)
    assert info.os_info is not None
    assert info.vmcoreinfo is not None
    assert info.os_info["address"] == built.places["os_info"]
    assert (info.os_info["version"], info.os_info["kaslr_offset"]) == ("1.1", 0x3FFE0000000)
    assert (info.os_info["crashkernel_addr"], info.os_info["crashkernel_size"]) == (2 * MIB, MIB)
    assert info.vmcoreinfo["address"] == built.places["vmcoreinfo"] + 24
    assert info.vmcoreinfo["size"] == len(built.model.facts.vmcoreinfo or b"")
    assert (info.vmcoreinfo["origin"], info.vmcoreinfo["release"]) == ("lowcore", "6.12.0")
    assert info.vmcoreinfo["crashtime"] == 1795623349


def test_each_layout_switch_has_its_own_origin(tmp_path: Path) -> None:
    info = info_of(Machine(release="6.12.0").build(tmp_path))
    assert [(f.value, f.assumed) for f in (info.todpreg_size, info.note_align, info.image_load, info.vector)] == [
        (4, False), (4, False), (True, False), (True, False)]
    assert all("dump kernel's own header" in f.origin for f in (info.todpreg_size, info.note_align, info.image_load, info.vector))
    assert info.layout == "6.10"


def test_what_was_assumed_is_marked(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    built.wipe_dump_kernel()
    info = info_of(built)
    assert info.todpreg_size.assumed
    assert info.note_align.assumed
    assert info.physmem.assumed
    assert "assumed]" in line(info, "TODPREG note")
    assert "assumed]" in line(info, "memory")


def test_nothing_is_marked_where_everything_is_proven(tmp_path: Path) -> None:
    assert "assumed" not in info_of(Machine().build(tmp_path)).as_text()


def test_cpus_with_number_prefix_and_psw(tmp_path: Path) -> None:
    built = Machine(release="6.12.0", cpus=cpus(3)).build(tmp_path)
    built.wipe_dump_kernel()
    info = info_of(built)
    assert info.cpus_origin == "lowcore_ptr"
    assert [cpu.number for cpu in info.cpus] == [1, 2, 3]
    assert [cpu.address for cpu in info.cpus] == [0, 1, 2]
    assert [cpu.prefix for cpu in info.cpus] == [built.places[f"lowcore[{i}]"] for i in range(3)]
    for cpu, state in zip(info.cpus, built.model.facts.cpus, strict=True):
        assert cpu.psw_mask + cpu.psw_address == state.registers.psw.hex()
        assert cpu.psw_address in line(info, f"CPU {cpu.number}")


def test_memory_is_told_before_and_after_the_cut(tmp_path: Path) -> None:
    info = info_of(Machine().build(tmp_path))
    assert info.physmem.value == [[0, 2 * MIB], [3 * MIB, 4 * MIB]] or info.physmem.value == [[0, 4 * MIB]]
    assert info.memory_map == [[0, 2 * MIB], [3 * MIB, 4 * MIB]]
    assert "0x0-0x100000 (1 MiB) swapped" in info.as_text()
    assert "3 MiB served" in line(info, "memory")


def test_phdrs_and_extents_describe_the_file(tmp_path: Path) -> None:
    built = Machine(release="6.12.0").build(tmp_path)
    info = info_of(built)
    assert (info.vmcore_size, info.header_size) == (built.model.size, len(built.model.header))
    assert [p.type for p in info.phdrs] == ["PT_NOTE", "PT_LOAD", "PT_LOAD", "PT_LOAD"]
    assert [(p.offset, p.vaddr, p.paddr, p.filesz) for p in info.phdrs[1:]] == [
        (p.offset, p.vaddr, p.paddr, p.size) for p in built.model.loads]
    assert info.extents[0].kind == "header"
    assert sum(e.length for e in info.extents) == info.vmcore_size
    image = built.image.read_bytes()
    for extent in info.extents[1:]:
        assert extent.source == str(built.image)
        assert extent.source_offset is not None
        assert image[extent.source_offset:extent.source_offset + 4096] == built.model.read(extent.offset, 4096)


def test_extents_of_zfcpdump_name_both_files(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    assert [(e.kind, e.source) for e in info_of(built).extents] == [
        ("header", None), ("HSA", str(built.hsa)), ("direct", str(built.image))]


def test_problems_are_in_json_and_text(tmp_path: Path) -> None:
    info = info_of(Machine(os_info="bad_csum").build(tmp_path))
    ((problem),) = info.problems
    assert problem["code"] == "os_info"
    assert "checksum" in problem["text"]
    assert problem["text"] in line(info, "failed")


def test_text_is_lines_and_ends_with_one(tmp_path: Path) -> None:
    text = info_of(Machine().build(tmp_path)).as_text()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert all(row == row.rstrip() for row in text.splitlines())


def test_control_characters_of_an_image_do_not_reach_the_terminal(tmp_path: Path) -> None:
    info = info_of(Machine(vmcoreinfo="BUILD-ID=\x1b[31mred\n").build(tmp_path))
    assert "\x1b" not in info.as_text()


@pytest.mark.parametrize("name", [n for n in sparse.names() if sparse.load(n).header is not None])
def test_of_a_real_capture(tmp_path: Path, name: str) -> None:
    capture = sparse.load(name)
    expanded = sparse.expand(name, tmp_path)
    with vmcorefs.open(expanded.image, hsa=expanded.hsa) as dump:
        info = dump.info()
    assert (info.mode.value, info.vmcore_size) == (capture.mode, capture.vmcore_size)
    assert info.problems == []
    assert info.crashed_release.value == capture.release
    assert "assumed" not in info.as_text()
    if capture.mode == "kdump":
        assert info.crashkernel == {"base": capture.base, "size": capture.size, "origin": "image"}
