"""Bytes of the image that cannot be read: EIO for the read that touches them, for no other, and never zeros.

The table of reference/fuse.md, section 5: direct reads go to the last good byte, the page cache loses the whole page.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import Built, Machine, cpus
from tests.mounts import page_probe
from tests.mounts.bad_bytes import PAGE, BadVmcore, in_vmcore, try_pread, whole_pages
from tests.mounts.conftest import MACHINE, MIB
from tests.mounts.faulty_image import faulty_image
from tests.mounts.mounting import TIMEOUT, Mounted, in_foreground, mounted, run, words

# offsets in the image of MACHINE
BAD_START = 0x280345
BAD = (
    (BAD_START, BAD_START + 100),  # within a page
    (2 * MIB - 10, 2 * MIB),  # the last bytes of [B, B+S), which are those of old [0, S)
    (0x503000, 0x503007),  # the first bytes behind the hole
    (0x600800, 0x604801),  # some pages
    (0x700000, 0x700001),
    (0x700002, 0x700003),
    (8 * MIB - 1, 8 * MIB),  # the last byte
)


@dataclass(frozen=True)
class Bad:
    """A mount with bad bytes, and the model of it. *first*: the first bad range that one read can lead up to."""

    mounted: Mounted
    model: BadVmcore
    built: Built

    @property
    def vmcore(self) -> Path:
        return self.mounted.vmcore

    @property
    def data(self) -> bytes:
        return self.model.data

    @property
    def bad(self) -> tuple[int, int]:
        """The 100 bytes within a page, as offsets in vmcore."""
        start = self.built.model.file_offset(BAD_START)
        return start, start + 100

    @property
    def page(self) -> int:
        return self.bad[0] // PAGE * PAGE

    @property
    def direct(self) -> bool:
        return self.model.io == "direct"

    def pread(self, size: int, offset: int) -> bytes | int:
        descriptor = os.open(self.vmcore, os.O_RDONLY)
        try:
            return try_pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


@pytest.fixture(scope="module")
def bad(machine: Built, machine_data: bytes, backend: str, io: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bad]:
    """One mount for all tests here: what one of them reads must not change what another one gets."""
    directory = tmp_path_factory.mktemp("bad")
    with faulty_image(machine.image, directory, *BAD) as disk, \
            mounted(disk.path, directory / "mnt", "--io", io, backend=backend) as mount:
        yield Bad(mount, BadVmcore(machine_data, in_vmcore(machine, BAD), io), machine)


@pytest.fixture(autouse=True)
def _the_mount_lives(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "bad" in request.fixturenames:
        bad: Bad = request.getfixturevalue("bad")
        assert bad.mounted.lives()
        assert bad.vmcore.stat().st_size == len(bad.data)
        with open(bad.vmcore, "rb") as file:
            assert file.seek(0, os.SEEK_END) == len(bad.data)


def test_the_bad_bytes_are_eio(bad: Bad) -> None:
    start, end = bad.bad
    for offset, size in ((start, 100), (start, 1), (start + 50, 10), (end - 1, 1), (start, MIB), (end - 1, 3 * MIB)):
        assert bad.pread(size, offset) == errno.EIO


def test_good_bytes_of_the_same_page(bad: Bad) -> None:
    """The page cache knows only whole pages."""
    start, end = bad.bad
    for low, high in ((bad.page, start), (start - 1, start), (end, bad.page + PAGE), (end, end + 1), (bad.page, bad.page + 1)):
        assert bad.pread(high - low, low) == (bad.data[low:high] if bad.direct else errno.EIO)


def test_neighbours_are_right(bad: Bad) -> None:
    """The page before, the page after, and those that the kernel read ahead in the same request."""
    for offset in (bad.page - MIB, bad.page - PAGE, bad.page + PAGE, bad.page + MIB):
        assert bad.pread(PAGE, offset) == bad.data[offset:offset + PAGE]
    assert bad.pread(100_000, bad.page + PAGE) == bad.data[bad.page + PAGE:bad.page + PAGE + 100_000]


def test_a_read_across_gives_the_good_bytes_before(bad: Bad) -> None:
    start, _ = bad.bad
    stop = start if bad.direct else bad.page
    for before in (1 + start - bad.page, 5000, 200_000):
        offset = start - before
        assert bad.pread(2 * MIB, offset) == bad.data[offset:stop]
    assert bad.pread(100, start - 1) == (bad.data[start - 1:start] if bad.direct else errno.EIO)


def test_reads_everywhere(bad: Bad) -> None:
    """Against the model: around every bad range, and at random."""
    chance = random.Random(22)
    edges = sorted({edge for pair in bad.model.bad for edge in pair})
    reads = [(max(0, edge + delta), size) for edge in edges for delta in (-4097, -2, -1, 0, 1) for size in (1, 2, 4096, 100_000)]
    reads += [(chance.randrange(len(bad.data)), chance.choice((1, 100, 4096, 50_000, MIB, 2 * MIB))) for _ in range(150)]
    chance.shuffle(reads)
    descriptor = os.open(bad.vmcore, os.O_RDONLY)
    try:
        for offset, size in reads:
            assert try_pread(descriptor, size, offset) == bad.model.pread(size, offset), (hex(offset), size)
    finally:
        os.close(descriptor)


def test_reading_on_ends_in_eio(bad: Bad) -> None:
    """Never in an end of file."""
    at = 0
    descriptor = os.open(bad.vmcore, os.O_RDONLY)
    while isinstance(piece := try_pread(descriptor, 70_000, at), bytes):
        assert piece == bad.data[at:at + len(piece)] != b""
        at += len(piece)
    os.close(descriptor)
    assert (piece, at) == (errno.EIO, bad.model.seen[0][0])


def test_o_direct(bad: Bad) -> None:
    """A direct read whatever --io says: to the last good byte, and the size stays."""
    start, _ = bad.bad
    with mmap.mmap(-1, 2 * PAGE) as aligned:
        descriptor = os.open(bad.vmcore, os.O_RDONLY | os.O_DIRECT)
        try:
            assert os.preadv(descriptor, [aligned], bad.page) == start - bad.page
            assert aligned[:start - bad.page] == bad.data[bad.page:start]
            assert os.fstat(descriptor).st_size == len(bad.data)
            assert os.preadv(descriptor, [aligned], bad.page + PAGE) == 2 * PAGE
            assert aligned[:] == bad.data[bad.page + PAGE:bad.page + 3 * PAGE]
        finally:
            os.close(descriptor)


# -- mappings ----------------------------------------------------------------------------------------------------------


def probe(path: Path, kind: str, *offsets: int) -> list[str]:
    done = subprocess.run([sys.executable, page_probe.__file__, path, kind, *map(str, offsets)], capture_output=True,
                          check=True, timeout=TIMEOUT)
    answer: list[str] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kind", ["private", "shared"])
def test_only_the_bad_page_of_a_mapping_is_sigbus(bad: Bad, kind: str) -> None:
    """Under direct I/O too mmap goes through the page cache: with a short reply the bad bytes would read as zeros."""
    if kind == "shared" and bad.direct:
        pytest.skip("MAP_SHARED needs --io cached")
    bad_pages = {page for start, end in whole_pages(bad.model.bad) for page in range(start, end, PAGE)}
    near = {page + delta * PAGE for page in bad_pages for delta in (-2, -1, 0, 1, 2)}
    pages = [page for page in sorted(near) if page < len(bad.data)]
    chance = random.Random(23)
    chance.shuffle(pages)
    said = dict(zip(pages, probe(bad.vmcore, kind, *pages), strict=True))
    assert {page for page, answer in said.items() if answer == "SIGBUS"} == bad_pages
    assert all(bytes.fromhex(said[page]) == bad.data[page:page + PAGE] for page in pages if page not in bad_pages)


def test_a_mapping_does_not_change_what_pread_gives(bad: Bad) -> None:
    start, end = bad.bad
    with open(bad.vmcore, "rb") as file, \
            mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        assert mapped[bad.page - PAGE:bad.page] == bad.data[bad.page - PAGE:bad.page]
        for offset, size in ((bad.page - 10, 200_000), (start, 100), (end, 100), (bad.page + PAGE, PAGE)):
            assert try_pread(file.fileno(), size, offset) == bad.model.pread(size, offset)
        assert mapped[bad.page + PAGE:bad.page + 2 * PAGE] == bad.data[bad.page + PAGE:bad.page + 2 * PAGE]


# -- programs ----------------------------------------------------------------------------------------------------------


def shell(script: str, *arguments: Path | str) -> tuple[int, bytes]:
    done = subprocess.run(["sh", "-c", script, "sh", *arguments], capture_output=True, check=False, timeout=TIMEOUT,
                          stdin=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"})
    return done.returncode, done.stderr


@pytest.mark.parametrize("script", [
    'cat "$1" > "$2"',
    'cp "$1" "$2"',
    'dd if="$1" of="$2" bs=1M status=none',
    'dd if="$1" of="$2" bs=4096 status=none',
    'dd if="$1" of="$2" bs=1000 status=none',
], ids=lambda script: script.replace('"$1"', "").replace('"$2"', "")[:24].strip())
def test_copies_stop_at_the_bad_byte_and_fail(bad: Bad, tmp_path: Path, script: str) -> None:
    status, said = shell(script, bad.vmcore, tmp_path / "copy")
    copy = (tmp_path / "copy").read_bytes()
    assert status == 1
    assert b"Input/output error" in said
    assert copy == bad.data[:len(copy)]
    first = bad.model.seen[0][0]
    assert len(copy) == first if bad.direct else first - MIB <= len(copy) <= first


@pytest.mark.parametrize("program", ["sha256sum", "cmp", "tar", "tail -c +1", "head -c 100000000"])
def test_no_program_takes_it_for_the_end(bad: Bad, tmp_path: Path, program: str) -> None:
    """tar has words of its own for it, on every disk."""
    (tmp_path / "wanted").write_bytes(bad.data)
    script = {"cmp": 'cmp "$1" "$2"', "tar": 'tar -cf - -C "$(dirname "$1")" vmcore > "$2.tar"'}
    status, said = shell(script.get(program, f'{program} "$1" > "$2.out"'), bad.vmcore, tmp_path / "wanted")
    assert status != 0
    assert b"Input/output error" in said or b"tar: vmcore: File shrank by" in said


def test_sendfile_fails(bad: Bad, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        shutil.copyfile(bad.vmcore, tmp_path / "copy")


@pytest.mark.parametrize("block", [512, 4096, 65536])
def test_dd_noerror_loses_one_block(bad: Bad, tmp_path: Path, block: int) -> None:
    """Where the bad bytes lie within one block. Over several ones dd itself loses count after a short read, on any disk."""
    start, end = bad.bad
    first, count = bad.page // block - 3, 12
    dd = 'dd if="$1" of="$2" bs="$3" skip="$4" count="$5" conv=noerror,sync status=noxfer'
    _, said = shell(dd, bad.vmcore, tmp_path / "copy", *map(str, (block, first, count)))
    wanted = bytearray(bad.data[first * block:(first + count) * block])
    lost_from, bad_end = (start, end) if bad.direct else (bad.page, bad.page + PAGE)
    lost = range(lost_from, -(-bad_end // block) * block)  # what is good in the block before them is there
    wanted[lost.start - first * block:lost.stop - first * block] = bytes(len(lost))
    copy = (tmp_path / "copy").read_bytes()
    assert b"Input/output error" in said
    assert _differences(copy, bytes(wanted), block) == []
    assert len(copy) == len(wanted)


def _differences(copy: bytes, wanted: bytes, block: int) -> list[str]:
    """Blocks, not bytes: pytest would spend minutes on the difference of megabytes."""
    return [hex(at) for at in range(0, len(wanted), block) if copy[at:at + block] != wanted[at:at + block]]


@pytest.mark.skipif(shutil.which("ddrescue") is None, reason="ddrescue is not installed")
def test_ddrescue_loses_nothing_but_the_bad_bytes(bad: Bad, tmp_path: Path) -> None:
    first, size = bad.page - 8192, 20_000
    ddrescue = 'ddrescue -b 1 -c 512 -i "$3" -o 0 -s "$4" "$1" "$2" "$2.map"'
    status, _ = shell(ddrescue, bad.vmcore, tmp_path / "copy", str(first), str(size))
    assert status == 0
    wanted = bytearray(bad.data[first:first + size])
    start, end = bad.model.seen[bad.model.bad.index(bad.bad)]
    wanted[start - first:end - first] = bytes(end - start)
    assert (tmp_path / "copy").read_bytes() == wanted


def test_sixteen_readers_of_good_and_bad_bytes(bad: Bad) -> None:
    program = 'dd if="$1" bs=64K conv=noerror,sync status=none 2>/dev/null | sha256sum'
    readers = [subprocess.Popen(["sh", "-c", program, "sh", bad.vmcore], stdout=subprocess.PIPE) for _ in range(16)]
    sums = {reader.communicate(timeout=TIMEOUT)[0] for reader in readers}
    assert len(sums) == 1


# -- other disks -------------------------------------------------------------------------------------------------------


def check_everywhere(mount: Mounted, model: BadVmcore) -> None:
    edges = sorted({edge for pair in model.bad for edge in pair})
    descriptor = os.open(mount.vmcore, os.O_RDONLY)
    try:
        for offset in (max(0, edge + delta) for edge in edges for delta in (-5000, -1, 0, 1)):
            for size in (1, 4096, MIB):
                assert try_pread(descriptor, size, offset) == model.pread(size, offset), (hex(offset), size)
        assert os.fstat(descriptor).st_size == len(model.data)
    finally:
        os.close(descriptor)
    assert mount.lives()


def test_a_disk_that_fails_by_the_page(machine: Built, machine_data: bytes, backend: str, io: str, tmp_path: Path) -> None:
    """As disks do: the image's own page cache stands between."""
    bad = whole_pages(BAD[:3])
    with faulty_image(machine.image, tmp_path, *BAD[:3], cached=True) as disk, \
            mounted(disk.path, tmp_path / "mnt", "--io", io, backend=backend) as mount:
        check_everywhere(mount, BadVmcore(machine_data, in_vmcore(machine, bad), io))


def test_bad_bytes_in_the_hsa(tmp_path: Path, backend: str) -> None:
    built = Machine(mode="zfcpdump", hsa_size=MIB + 8192, cpus=cpus(2), body_pages="all").build(tmp_path)
    assert built.hsa is not None
    bad = ((0x40010, 0x40020), (MIB + 8191, MIB + 8192))
    with faulty_image(built.hsa, tmp_path, *bad) as disk, \
            mounted(built.image, tmp_path / "mnt", "--hsa", str(disk.path), backend=backend) as mount:
        data = built.model.read(0, built.model.size)
        check_everywhere(mount, BadVmcore(data, in_vmcore(built, bad, "hsa"), "direct"))


def test_a_disk_that_recovers(machine: Built, machine_data: bytes, backend: str, io: str, tmp_path: Path) -> None:
    """What was EIO is tried anew, and goes bad without harm to the rest."""
    with faulty_image(machine.image, tmp_path, BAD[0]) as disk, \
            mounted(disk.path, tmp_path / "mnt", "--io", io, backend=backend) as mount:
        check_everywhere(mount, BadVmcore(machine_data, in_vmcore(machine, BAD[:1]), io))
        disk.go_bad()
        assert mount.vmcore.read_bytes() == machine_data
        if io == "direct":
            disk.go_bad(*BAD[1:3])
            check_everywhere(mount, BadVmcore(machine_data, in_vmcore(machine, BAD[1:3]), io))


def test_errors_are_said_on_a_foreground_mounts_stderr_at_most_once_a_second(machine: Built, tmp_path: Path) -> None:
    with faulty_image(machine.image, tmp_path, BAD[0]) as disk:
        with in_foreground(disk.path, tmp_path / "mnt") as process:
            start = machine.model.file_offset(BAD_START)
            descriptor = os.open(tmp_path / "mnt" / "vmcore", os.O_RDONLY)
            assert [try_pread(descriptor, 10, start) for _ in range(100)] == [errno.EIO] * 100
            os.close(descriptor)
            assert run("umount", tmp_path / "mnt").returncode == 0
            said = process.communicate(timeout=10)[1].decode()
        errors = [line for line in said.splitlines() if "cannot read" in line]
        assert 1 <= len(errors) <= 5
        assert hex(BAD_START) in errors[0]
        assert str(disk.path) in errors[0]


# -- an image that is shorter than it should be ------------------------------------------------------------------------


def test_truncated_while_mounted(backend: str, io: str, tmp_path: Path) -> None:
    built = MACHINE.build(tmp_path)
    data = built.model.read(0, built.model.size)
    chance = random.Random(24)
    with mounted(built.image, tmp_path / "mnt", "--io", io, backend=backend) as mount:
        # what the page cache has, it keeps: there each length would want a mount of its own
        for length in (8 * MIB - 1, 0x600123, 0x503000, 2 * MIB + 5, 1) if io == "direct" else (0x600123,):
            os.truncate(built.image, length)
            model = BadVmcore(data, in_vmcore(built, [(length, 8 * MIB)]), io)
            check_everywhere(mount, model)
            descriptor = os.open(mount.vmcore, os.O_RDONLY)
            for offset in (chance.randrange(len(data)) for _ in range(40)):
                assert try_pread(descriptor, MIB, offset) == model.pread(MIB, offset), (hex(length), hex(offset))
            os.close(descriptor)
            assert mount.vmcore.stat().st_size == len(data)
        page = whole_pages(model.bad)[0][0]
        assert probe(mount.vmcore, "private", page, len(data) - PAGE, 0) == ["SIGBUS", "SIGBUS", data[:PAGE].hex()]
        assert mount.lives()


def test_check_says_that_the_image_is_too_short(tmp_path: Path) -> None:
    checked = run("check", Machine(memory=((0, 8 * MIB),), image_size=6 * MIB + 100).build(tmp_path).image)
    assert checked.returncode == 1, words(checked)


def test_memory_that_the_image_does_not_reach(backend: str, io: str, tmp_path: Path) -> None:
    """The dump kernel's header knows of more memory than was written into the image: a warning, EIO beyond it."""
    size = 6 * MIB + 100
    built = Machine(memory=((0, 8 * MIB),), image_size=size, body_pages="all").build(tmp_path)
    data = built.model.read(0, built.model.size)
    with mounted(built.image, tmp_path / "mnt", "--io", io, backend=backend) as mount:
        assert "vmcorefs: warning: " in mount.said
        assert mount.vmcore.stat().st_size == len(data)
        model = BadVmcore(data, in_vmcore(built, [(size, 8 * MIB)]), io)
        check_everywhere(mount, model)
        status, _ = shell('cat "$1" > "$2"', mount.vmcore, tmp_path / "copy")
        assert status == 1
