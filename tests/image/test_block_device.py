"""Images on block devices (loop devices here): their size, and that nobody can format or mount them meanwhile."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.builders.containers import elf, s390
from tests.mounts.mounting import skip_or_fail
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.file import ImageFile

PAGE = 4096
IMAGE = random.Random(30).randbytes(300 * PAGE)
Attach = Callable[..., str]


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Attach]:
    """attach(bytes, *options of losetup) -> the loop device that has them; detached at the end."""
    devices: list[str] = []

    def attached(data: bytes, *options: str) -> str:
        if os.geteuid() != 0:
            skip_or_fail("only root can attach loop devices")
        path = tmp_path / f"disk{len(devices)}"
        path.write_bytes(data)
        done = subprocess.run(["losetup", "--find", "--show", *options, path], capture_output=True, text=True, check=False)
        if done.returncode:
            skip_or_fail(f"no loop device: {done.stderr.strip()}")
        devices.append(done.stdout.strip())
        return devices[-1]

    yield attached
    for device in devices:
        subprocess.run(["losetup", "--detach", device], check=False)


def mkfs(device: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mkfs.ext2", "-q", device], capture_output=True, text=True, check=False)


def test_size_and_bytes_are_those_of_the_device(attach: Attach) -> None:
    device = attach(IMAGE)
    assert os.stat(device).st_size == 0
    with open_image(device) as source:
        assert source.size == len(IMAGE)
        assert source.pread(len(IMAGE), 0) == IMAGE
        assert b"".join(data for _, data in source.scan(0, 1 << 40)) == IMAGE
        with pytest.raises(OldmemReadError, match=r"beyond the end of the file at 0x12c000") as caught:
            source.pread(100, len(IMAGE) - 10)
        assert (caught.value.kind, caught.value.good) == ("missing", 10)
        assert source.container.problems == ()


@pytest.mark.parametrize(("data", "form"), [(elf.core([elf.Load(0, IMAGE)]), "elf"), (s390.s390(IMAGE), "s390")])
@pytest.mark.parametrize("sector", ["512", "4096"])
def test_containers_on_a_partition(attach: Attach, data: bytes, form: str, sector: str) -> None:
    """A partition is larger than the dump in it, and has the rest of something else behind it."""
    padded = data + random.Random(1).randbytes(-len(data) % PAGE + 7 * PAGE)
    with open_image(attach(padded, "--sector-size", sector)) as source:
        assert source.container.format == form
        assert source.pread(len(IMAGE), 0) == IMAGE
        assert source.size == len(IMAGE)
        assert source.container.incomplete is None


def test_nobody_can_format_a_device_that_is_open(attach: Attach) -> None:
    device = attach(IMAGE)
    with open_image(device):
        refused = mkfs(device)
        assert refused.returncode != 0
        assert "in use" in refused.stdout + refused.stderr
    assert Path(device).read_bytes() == IMAGE
    assert mkfs(device).returncode == 0


def test_it_stays_so_in_a_child_that_has_the_descriptor(attach: Attach) -> None:
    """The daemon of a mount is one."""
    device = attach(IMAGE)
    source = open_image(device)
    go, stop = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(stop)
        os.read(go, 1)
        os._exit(0)
    os.close(go)
    source.close()
    try:
        assert mkfs(device).returncode != 0
    finally:
        os.close(stop)
        os.waitpid(pid, 0)
    assert mkfs(device).returncode == 0


def test_a_device_that_another_one_reads_as_well_is_no_problem(attach: Attach) -> None:
    device = attach(IMAGE)
    with open_image(device), open_image(device) as second:
        assert second.pread(PAGE, 0) == IMAGE[:PAGE]
        assert second.container.problems == ()
        assert "another program uses" in second.container.detail


def test_a_mounted_device_is_read_with_a_warning(attach: Attach, tmp_path: Path) -> None:
    device = attach(bytes(len(IMAGE)))
    assert mkfs(device).returncode == 0
    place = tmp_path / "a place"
    place.mkdir()
    done = subprocess.run(["mount", "-o", "ro", device, place], capture_output=True, text=True, check=False)
    if done.returncode:
        skip_or_fail(f"cannot mount a loop device: {done.stderr.strip()}")
    try:
        with ImageFile(device) as file:
            (problem,) = file.container.problems
            assert "the device is mounted at" in problem
            assert "place" in problem
            assert file.pread(2, 0x438) == b"\x53\xef"
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_file_system_on_a_device_is_named(attach: Attach) -> None:
    device = attach(bytes(len(IMAGE)))
    assert mkfs(device).returncode == 0
    with pytest.raises(ImageError, match="an ext2, ext3 or ext4 file system"):
        open_image(device)
    assert mkfs(device).returncode == 0, "a refused device is let go"
