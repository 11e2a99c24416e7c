"""The command lines: this dump's names, options and offsets, as a shell takes them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

import vmcorefs
from tests.builders import Machine
from tests.report.infos import MIB, info_of
from vmcorefs.capture import make_capture
from vmcorefs.cli.main import COMMANDS, make_parser, parse
from vmcorefs.cli.options import image_options
from vmcorefs.report.commands import find_vmlinux, make_commands
from vmcorefs.report.info import make_info


def lines(vmcore: str = "mnt/vmcore", offset: int | None = 0, *, mounted: bool = False, image: str = "/d/oldmem.img",
          **options: Any) -> dict[str, str]:
    return {c.tool: c.command for c in make_commands(vmcore, offset, make_capture(image, **options), mounted=mounted)}


def test_without_kaslr() -> None:
    said = lines()
    assert said["mount"] == "mkdir -p mnt && vmcorefs mount /d/oldmem.img mnt"
    assert said["drgn"] == "drgn -c mnt/vmcore -s vmlinux"
    assert said["crash"] == "crash vmlinux mnt/vmcore"
    assert said["gdb"] == "gdb-multiarch vmlinux mnt/vmcore"
    assert said["makedumpfile"] == "makedumpfile --non-mmap -c -d 31 mnt/vmcore dump.kdump"


def test_with_kaslr_gdb_gets_the_offset() -> None:
    assert lines(offset=0x2E4BA6A0000)["gdb"] == (
        "gdb-multiarch -ex 'symbol-file -o 0x2e4ba6a0000 vmlinux' -ex 'core mnt/vmcore'")


def test_the_offset_of_the_image(tmp_path: Path) -> None:
    info = info_of(Machine(release="6.12.0").build(tmp_path))
    assert info.kernel_offset is not None
    assert info.kernel_offset.value == 0x3FFE0000000
    assert any("symbol-file -o 0x3ffe0000000 vmlinux" in c.command for c in info.commands)


def test_of_a_mount_nothing_is_mounted_but_unmounted(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    with vmcorefs.open(built.image) as dump:
        info = make_info(dump, mountpoint="/srv/dump 1")
    said = {c.tool: c.command for c in info.commands}
    assert "mount" not in said
    assert said["umount"] == "vmcorefs umount '/srv/dump 1'"
    assert said["drgn"] == "drgn -c '/srv/dump 1/vmcore' -s vmlinux"


@pytest.mark.parametrize("options", [
    {}, {"oldmem": (96 * MIB, 64 * MIB)}, {"mode": "plain", "memory_range": [(0, MIB), (2 * MIB, 3 * MIB)]},
    {"hsa": "/d/it's hsa.img", "hsa_size": 32 * MIB, "layout": "6.10"},
    {"cpu_state": ["/d/a b", "/d/c"], "vmcoreinfo": "/d/v", "device_memory": [(0, 4096)], "memory_map": "/d/$HOME"},
    {"part": ["/d/b", "/d/c"], "select": "kdump", "missing": "zeros", "bad_map": "/d/map"},
])
def test_the_mount_line_has_all_options_and_means_the_same(options: dict[str, Any]) -> None:
    image = "/d/a 'quoted' $image.img"
    words = shlex.split(lines(image=image, **options)["mount"])
    assert words[:4] == ["mkdir", "-p", "mnt", "&&"]
    arguments = parse(make_parser(), words[5:])
    assert arguments.mountpoint == "mnt"
    assert make_capture(arguments.image, **image_options(arguments)) == make_capture(image, **options)


def test_every_vmcorefs_command_is_one(tmp_path: Path) -> None:
    for command in info_of(Machine().build(tmp_path)).commands:
        words = shlex.split(command.command.rpartition("&& ")[2])
        assert words[0] != "vmcorefs" or words[1] in COMMANDS


@pytest.mark.parametrize(("release", "words"), [
    ("5.14.0-503.el9.s390x", "kernel-debuginfo-5.14.0-503.el9.s390x"), ("6.4.0-150600.23.7-default", "kernel-default-debuginfo"),
    ("6.8.0-31-generic", "linux-image-6.8.0-31-generic-dbgsym"), ("6.1.0-18-s390x", "linux-image-6.1.0-18-s390x-dbg"),
])
def test_where_vmlinux_comes_from(release: str, words: str) -> None:
    vmlinux = find_vmlinux(release, "becf0c115b765438cac9df9833dfefa9cc03ce68")
    assert words in vmlinux.sources[0]
    assert vmlinux.sources[1] == "debuginfod-find debuginfo becf0c115b765438cac9df9833dfefa9cc03ce68"


@pytest.mark.parametrize("build_id", [None, "", "cafe", "$(reboot)", "cafe0123; reboot", "CAFE01234", "a" * 200])
def test_a_build_id_that_is_none_is_in_no_command(build_id: str | None) -> None:
    vmlinux = find_vmlinux("6.1.0`reboot`", build_id)
    assert vmlinux.build_id is None
    assert vmlinux.sources == ["the build directory of that kernel"]
