"""Containers through the real mount, with no option: the model's bytes under both bindings; parts, a block device, --also."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Built, Machine, cpus
from tests.containers.wrapping import EVERY, MIB, of_image
from tests.mounts.mounting import mounted, run, skip_or_fail, words

NAMES = ("elf, QEMU", "kdump, split, the last one given", "kdump lzo", "s390_ext zlib", "LiME, unsorted", "AVML", "parts of raw (split)",
         "xz of s390", "flattened elf")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A machine in which a dump kernel ran: memory out of a container goes through the swap of kdump, too."""
    return Machine(release="6.12.0", cpus=cpus(3)).build(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def wanted(built: Built) -> bytes:
    return built.model.read(0, built.model.size)


@pytest.mark.parametrize("name", NAMES)
def test_the_models_bytes(name: str, built: Built, wanted: bytes, backend: str, tmp_path: Path) -> None:
    path = EVERY[name](of_image(built), tmp_path)
    files = {str(file) for file in tmp_path.iterdir()}
    with mounted(path, tmp_path / "mnt", backend=backend) as mount:
        assert "warning" not in mount.said
        assert "kdump mode: served is the crashed (production) system" in mount.said
        assert "the dump kernel is in the image, too (--select kdump)" in mount.said
        assert mount.vmcore.read_bytes() == wanted
        info = json.loads((mount.where / "info.json").read_text())
        assert info["mode"]["value"] == "kdump"
        assert set(info["container"]["parts"]) == files


def test_a_dump_stays_served_when_its_files_are_removed(built: Built, wanted: bytes, tmp_path: Path) -> None:
    """The daemon keeps every part open, those that it found by itself, too."""
    for name in ("kdump, split", "parts of raw"):
        folder = tmp_path / name.replace(" ", "")
        folder.mkdir()
        path = EVERY[name](of_image(built), folder)
        with mounted(path, tmp_path / "mnt") as mount:
            shutil.rmtree(folder)
            assert mount.vmcore.read_bytes() == wanted


def test_parts_given_by_name(built: Built, wanted: bytes, tmp_path: Path) -> None:
    EVERY["parts of raw"](of_image(built), tmp_path)
    parts = []
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        parts.append(path.rename(tmp_path / f"{'dbca'[number]}.img"))
    with mounted(parts[0], tmp_path / "mnt", *(word for part in parts[1:] for word in ("--part", str(part)))) as mount:
        assert mount.vmcore.read_bytes() == wanted
    capture = tmp_path / "case.toml"
    capture.write_text(f"image = {json.dumps([part.name for part in parts])}\n")
    with mounted(capture, tmp_path / "mnt") as mount:
        assert mount.vmcore.read_bytes() == wanted


def test_the_mount_point_may_not_cover_a_part(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    EVERY["parts of raw"](of_image(built), folder)
    first = (folder / "oldmem.img.000").rename(tmp_path / "first")
    rest = [word for number in (1, 2, 3) for word in ("--part", str(folder / f"oldmem.img.00{number}"))]
    done = run("mount", "-o", "nonempty", first, folder, *rest)
    assert done.returncode == 2
    assert "covers" in words(done) or "would" in words(done), words(done)


@pytest.fixture
def device(built: Built, tmp_path: Path) -> Iterator[str]:
    """A DASD partition with a stand-alone dump, and something else behind it."""
    if os.geteuid() != 0:
        skip_or_fail("only root can attach loop devices")
    path = EVERY["s390_ext zlib"](of_image(built), tmp_path)
    with path.open("ab") as file:
        file.write(b"\xa5" * MIB)
    done = subprocess.run(["losetup", "--find", "--show", "--sector-size", "4096", path], capture_output=True, text=True, check=False)
    if done.returncode:
        skip_or_fail(f"no loop device: {done.stderr.strip()}")
    yield done.stdout.strip()
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=False)


def test_a_stand_alone_dump_on_a_block_device(device: str, wanted: bytes, tmp_path: Path) -> None:
    with mounted(Path(device), tmp_path / "mnt") as mount:
        assert "s390 stand-alone dump, extended" in mount.said
        assert mount.vmcore.read_bytes() == wanted


# -- --also ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["raw", "elf, QEMU", "s390_ext zlib"])
def test_dump_s390_out_of_any_container_gives_the_same_again(name: str, backend: str, tmp_path: Path) -> None:
    """Two mounts, one on the other's dump.s390."""
    built = Machine(mode="plain", memory=((0, 0x280000),), cpus=cpus(2)).build(tmp_path)
    (tmp_path / "dump").mkdir()
    path = EVERY[name](of_image(built), tmp_path / "dump")
    with mounted(path, tmp_path / "mnt", "--also", "dump.s390,mem.raw", backend=backend) as mount:
        dump = mount.where / "dump.s390"
        assert dump.stat().st_size == 0x280000 + 4096 + 16
        assert (mount.where / "mem.raw").read_bytes() == built.image.read_bytes()
        with mounted(dump, tmp_path / "again", backend=backend) as again:
            assert "warning" not in again.said
            assert again.vmcore.read_bytes() == built.model.read(0, built.model.size)


def test_mem_raw_is_sparse_where_the_machine_had_no_memory(tmp_path: Path) -> None:
    """st_blocks tells; cp --sparse=always makes holes, and tar and rsync have options for it."""
    built = Machine(memory=((0, 4 * MIB), (64 * MIB, 65 * MIB)), cpus=cpus(1)).build(tmp_path)
    (tmp_path / "dump").mkdir()
    path = EVERY["kdump zlib"](of_image(built), tmp_path / "dump")
    with mounted(path, tmp_path / "mnt", "--also", "mem.raw") as mount:
        status = (mount.where / "mem.raw").stat()
        assert status.st_size == 65 * MIB
        assert status.st_blocks * 512 == 4 * MIB
        assert sorted(entry.name for entry in mount.where.iterdir() if entry.name.startswith(("vmcore", "mem", "dump"))) \
            == ["mem.raw", "vmcore", "vmcoreinfo.txt"]
        subprocess.run(["cp", "--sparse=always", mount.where / "mem.raw", tmp_path / "copy"], check=True, timeout=60)
    copy = tmp_path / "copy"
    assert copy.stat().st_size == 65 * MIB
    assert copy.stat().st_blocks * 512 < 4 * MIB
    with copy.open("rb") as file:
        for start, end in built.model.facts.ranges:
            file.seek(start)
            assert file.read(end - start) == b"".join(built.model.old_page(page) for page in range(start, end, 4096))
        file.seek(4 * MIB)
        assert not any(file.read(60 * MIB))
