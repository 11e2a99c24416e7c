"""vmcore of every full capture is the kernel's, in every byte: through Python, copy and the mount, under both bindings."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmcorefs
from tests.gold.conftest import Expander, gold_names
from vmcorefs.oldmem.mapping import Segment
from vmcorefs.output.copy import copy_to_file
from vmcorefs.s390 import Absent

PROGRAM = [sys.executable, "-m", "vmcorefs"]


@pytest.fixture(scope="module", params=gold_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_python(expander: Expander, name: str) -> None:
    gold = expander(name)
    with vmcorefs.open(gold.image, **gold.options) as dump:
        assert dump.problems == ()
        digest = hashlib.file_digest(dump.vmcore, "sha256").hexdigest()
        assert dump.vmcore.size == gold.facts["vmcore"]["size"]
    assert digest == gold.facts["vmcore"]["sha256"]


def test_copy(expander: Expander, name: str, tmp_path: Path) -> None:
    gold = expander(name)
    subprocess.run([*PROGRAM, "copy", gold.image, tmp_path / "vmcore", *gold.words], check=True)
    gold.verify(tmp_path / "vmcore")
    (tmp_path / "vmcore").unlink()


def test_the_kernels_own_vmcore_gives_itself(expander: Expander, name: str, tmp_path: Path) -> None:
    gold = expander(name)
    with vmcorefs.open(gold.image, **gold.options) as dump:
        copy_to_file(dump.vmcore, str(tmp_path / "vmcore"))
    with vmcorefs.open(tmp_path / "vmcore") as dump:
        assert dump.problems == ()
        assert dump.image.container.writer == "kernel"
        assert hashlib.file_digest(dump.vmcore, "sha256").hexdigest() == gold.facts["vmcore"]["sha256"]
    (tmp_path / "vmcore").unlink()


@pytest.mark.parametrize("io", ["direct", "cached"])
@pytest.mark.parametrize("backend", ["mfusepy", "fusepy"])
def test_mount(expander: Expander, name: str, backend: str, io: str, tmp_path: Path) -> None:
    gold = expander(name)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    done = subprocess.run([*PROGRAM, "mount", "--backend", backend, "--io", io, *gold.words, gold.image, mountpoint],
                          check=True, capture_output=True, text=True)
    try:
        lines = done.stderr.splitlines()
        assert len(lines) == 1
        assert gold.facts["mode"] in lines[0]
        assert "served is the crashed (production) system" in lines[0]
        gold.verify(mountpoint)
    finally:
        subprocess.run([*PROGRAM, "umount", mountpoint], check=True)


def test_check_agrees_with_the_dump_kernels_own_header_and_notes(expander: Expander, name: str) -> None:
    gold = expander(name)
    done = subprocess.run([*PROGRAM, "check", gold.image, *gold.words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    rows = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert rows["dump-kernel-header"] == "ok"
    assert rows["dump-kernel-notes"] == "ok"


@pytest.mark.parametrize("name", gold_names(mode="kdump"))
def test_oldmem_option_gives_the_same(expander: Expander, name: str) -> None:
    gold = expander(name)
    base, size = gold.facts["oldmem_base"], gold.facts["oldmem_size"]
    with vmcorefs.open(gold.image, oldmem=f"{base:#x}:{size:#x}") as dump:
        assert dump.mode.origin == "option"
        assert hashlib.file_digest(dump.vmcore, "sha256").hexdigest() == gold.facts["vmcore"]["sha256"]


@pytest.mark.parametrize("name", gold_names(mode="kdump"))
def test_rules_alone_give_the_same_bytes(expander: Expander, name: str) -> None:
    """All of the dump kernel's memory but its lowcore and parameter area wiped: its finished header, save areas, notes and
    VMCOREINFO are gone. For k61-hot the order of the CPUs is known from the crashed kernel's kallsyms alone: a warning.
    """
    gold = expander(name)
    wiped = gold.image.with_name("wiped.img")
    subprocess.run(["cp", "--sparse=always", gold.image, wiped], check=True)
    try:
        with open(wiped, "r+b") as file:
            for start, end in ((0x2000, 0x10000), (0x11000, gold.facts["oldmem_size"])):
                zeros = bytes(1 << 20)
                for at in range(start, end, len(zeros)):
                    os.pwrite(file.fileno(), zeros[:min(len(zeros), end - at)], at)
        with vmcorefs.open(wiped) as dump:
            assert dump.found_cpus.origin == "lowcore_ptr"
            assert dump.finished_header is None
            assert [p.code for p in dump.problems] == (["cpu-order"] if name == "k61-hot" else [])
            header = (gold.folder / gold.facts["vmcore"]["header_file"]).read_bytes()
            assert dump.merged.header == header
            assert hashlib.file_digest(dump.vmcore, "sha256").hexdigest() == gold.facts["vmcore"]["sha256"]
    finally:
        wiped.unlink()


def test_plain_serves_its_image_and_its_own_vmcoreinfo(expander: Expander) -> None:
    gold = expander("k61-plain")
    with vmcorefs.open(gold.image) as dump, open(gold.image, "rb") as image:
        assert dump.mode.name == "plain"
        assert [p.code for p in dump.problems] == ["cpus"]
        assert dump.cpus == ()
        assert dump.vmcoreinfo is not None
        address = int((gold.folder / "sys-kernel-vmcoreinfo.txt").read_text().split()[0], 16)
        assert dump.vmcoreinfo.address == address + 24
        dump.vmcore.seek(len(dump.merged.header))
        assert hashlib.file_digest(dump.vmcore, "sha256").digest() == hashlib.file_digest(image, "sha256").digest()


@pytest.mark.parametrize("name", gold_names(mode="zfcpdump"))
def test_a_wrong_hsa_size_is_told(expander: Expander, name: str) -> None:
    gold = expander(name)
    size = gold.facts["hsa_size"]
    with vmcorefs.open(gold.image, **gold.options, hsa_size=size // 2) as dump:
        assert "hsa-size" in [p.code for p in dump.problems]
        assert f"--hsa-size {size:#x}" in " ".join(p.text for p in dump.problems)


@pytest.mark.parametrize("name", gold_names(mode="kdump"))
def test_without_parameter_area_and_os_info_the_finished_header_tells_b_and_s(expander: Expander, name: str) -> None:
    """Never the dump kernel's memory as if it were the crashed system's."""
    gold = expander(name)
    with vmcorefs.open(gold.image) as dump:
        assert not isinstance(dump.lowcore, Absent)
        os_info = dump.lowcore.os_info
    damaged = gold.image.with_name("damaged.img")
    subprocess.run(["cp", "--sparse=always", gold.image, damaged], check=True)
    try:
        with open(damaged, "r+b") as file:
            os.pwrite(file.fileno(), bytes(4096), 0x10000)
            segment, start, _ = next(kdump_memory_pieces(dump, os_info))
            os.pwrite(file.fileno(), bytes(4096), segment.offset + start - segment.start)
        with vmcorefs.open(damaged) as dump:
            assert dump.mode.crashkernel == (gold.facts["oldmem_base"], gold.facts["oldmem_size"])
            assert dump.problems[0].code == "mode"
            header = (gold.folder / gold.facts["vmcore"]["header_file"]).read_bytes()
            assert dump.merged.header[:4096] == header[:4096] or gold.facts["layout"] == "6.10"
    finally:
        damaged.unlink()


def kdump_memory_pieces(dump: vmcorefs.Dump, address: int) -> Iterator[tuple[Segment, int, int]]:
    return dump.oldmem.pieces(address, address + 4096)
