"""Bytes through the mount: against the Python interface and against the model, under both bindings, direct and cached."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import Built, Machine, cpus
from tests.captures import sparse
from tests.conftest import Mounting
from tests.mounts.conftest import MIB, Served
from tests.mounts.mounting import TIMEOUT

PAGE = 4096
SIZES = (1, 2, 7, 64, 511, 4095, 4096, 4097, 65536, 128 << 10, (128 << 10) + 1, MIB - 1, MIB, MIB + 1, 3 * MIB)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def borders(served: Served) -> list[int]:
    """Where something changes: regions by either opinion, notes, requests of either libfuse, the end."""
    found = {region.start for region in served.dump.vmcore.regions}
    found |= {64, PAGE, len(served.built.model.header), served.size - 1, served.size}
    found |= {load.offset for load in served.built.model.loads}
    found |= {served.built.model.file_offset(address) for address in (MIB - 1, 2 * MIB)}
    return sorted(found | {128 << 10, MIB, 2 * MIB})


def preads(served: Served) -> Iterator[tuple[int, int]]:
    """(offset, size): each border from all sides, then at random."""
    for border, size in itertools.product(borders(served), (1, 2, 16, 4096, 5000, 300_000)):
        for offset in (border - size, border - size // 2, border - 1, border, border + 1):
            if offset >= 0:
                yield offset, size
    chance = random.Random(20)
    for _ in range(300):
        yield chance.randrange(served.size + 10), chance.choice(SIZES) + chance.randrange(3)


def test_pread(served: Served) -> None:
    with opened(served.vmcore) as descriptor:
        for offset, size in preads(served):
            got = os.pread(descriptor, size, offset)
            assert got == served.data[offset:offset + size], (offset, size)
            assert got == served.dump.vmcore.pread(size, offset), (offset, size)


def test_preadv_into_several_buffers(served: Served) -> None:
    buffers = [bytearray(size) for size in (1, 4095, 70_000, 3, MIB)]
    offset = served.built.model.file_offset(2 * MIB) - 1000
    with opened(served.vmcore) as descriptor:
        count = os.preadv(descriptor, buffers, offset)
    assert b"".join(buffers)[:count] == served.data[offset:offset + count]
    assert count == sum(map(len, buffers))


@pytest.mark.parametrize("size", [5000, 1 << 16, 1 << 20, 3 << 20])
def test_read_from_the_beginning_to_the_end(served: Served, size: int) -> None:
    pieces = []
    with opened(served.vmcore) as descriptor:
        while piece := os.read(descriptor, size):
            pieces.append(piece)
    assert b"".join(pieces) == served.data
    assert {len(piece) for piece in pieces[:-1]} <= {size}  # a short count before the end would be an end to many programs


def test_whole_file_equals_the_python_interface(served: Served) -> None:
    assert served.vmcore.read_bytes() == served.data == served.dump.vmcore.pread(served.size, 0)


@pytest.mark.parametrize("beyond", [0, 1, 4096, 10**6, 2**40, 2**62])
def test_past_the_end_there_is_nothing(served: Served, beyond: int) -> None:
    with opened(served.vmcore) as descriptor:
        assert os.pread(descriptor, 4096, served.size + beyond) == b""
        assert os.lseek(descriptor, served.size + beyond, os.SEEK_SET) == served.size + beyond
        assert os.read(descriptor, 100) == b""


def test_read_across_the_end_is_cut(served: Served) -> None:
    with opened(served.vmcore) as descriptor:
        for before in (1, 100, 4096, 5000):
            for size in (before, before + 1, before + 4096, before + 2 * MIB):
                assert os.pread(descriptor, size, served.size - before) == served.data[-before:]
    assert served.vmcore.stat().st_size == served.size


def test_lseek(served: Served) -> None:
    """One data extent, the hole at the end, ENXIO there and behind it (fs/fuse/file.c without FUSE_LSEEK)."""
    with opened(served.vmcore) as descriptor:
        assert os.lseek(descriptor, 0, os.SEEK_END) == served.size
        assert os.lseek(descriptor, -10, os.SEEK_END) == served.size - 10
        assert os.read(descriptor, 100) == served.data[-10:]
        assert os.lseek(descriptor, -5, os.SEEK_CUR) == served.size - 5
        for offset in (0, 1, 5000, served.size - 1):
            assert os.lseek(descriptor, offset, os.SEEK_DATA) == offset
            assert os.lseek(descriptor, offset, os.SEEK_HOLE) == served.size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            for offset in (served.size, served.size + 1):
                with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
                    os.lseek(descriptor, offset, whence)
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            os.lseek(descriptor, -1, os.SEEK_SET)


def test_private_mapping(served: Served) -> None:
    with opened(served.vmcore) as descriptor:
        with mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
            assert len(mapped) == served.size
            assert mapped[:] == served.data
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY) as mapped:
            mapped[5000:5004] = b"mine"
            assert mapped[4990:5010] == served.data[4990:5000] + b"mine" + served.data[5004:5010]
        assert os.pread(descriptor, 4, 5000) == served.data[5000:5004]


def test_shared_mapping(served: Served) -> None:
    """ENODEV under direct I/O: libfuse 3.14 cannot ask the kernel for FUSE_DIRECT_IO_ALLOW_MMAP."""
    with opened(served.vmcore) as descriptor:
        try:
            mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as error:
            assert (error.errno, served.io) == (errno.ENODEV, "direct")  # noqa: PT017 - only one of the two modes refuses
            return
        with mapped:
            assert mapped[:] == served.data


def test_mapping_and_reads_mixed_on_one_file(served: Served) -> None:
    """mmap goes through the page cache even where pread does not."""
    chance = random.Random(21)
    with opened(served.vmcore) as descriptor, \
            mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        for offset, size in ((chance.randrange(served.size), chance.choice(SIZES[:10])) for _ in range(100)):
            assert mapped[offset:offset + size] == served.data[offset:offset + size]
            assert os.pread(descriptor, size, offset) == served.data[offset:offset + size]


def _read_at_random(path: Path, data: bytes, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    with opened(path) as descriptor:
        for _ in range(rounds):
            offset, size = chance.randrange(len(data)), chance.choice(SIZES)
            assert os.pread(descriptor, size, offset) == data[offset:offset + size], (seed, offset, size)


def test_sixteen_threads(served: Served) -> None:
    """One descriptor each."""
    with ThreadPoolExecutor(16) as pool:
        for result in [pool.submit(_read_at_random, served.vmcore, served.data, seed, 30) for seed in range(16)]:
            result.result()


def test_threads_on_one_descriptor(served: Served) -> None:
    wrong: list[tuple[int, int]] = []
    with opened(served.vmcore) as descriptor:
        def read(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(20):
                offset, size = chance.randrange(served.size), chance.choice(SIZES)
                if os.pread(descriptor, size, offset) != served.data[offset:offset + size]:
                    wrong.append((offset, size))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_sixteen_processes(served: Served, tmp_path: Path) -> None:
    """Each reads all of it, by its own block size, and compares."""
    wanted = tmp_path / "wanted"
    wanted.write_bytes(served.data)
    sizes = ["4K", "60K", "128K", "1M"] * 4
    program = 'dd if="$1" bs="$3" status=none | cmp - "$2"'
    readers = [subprocess.Popen(["sh", "-c", program, "sh", served.vmcore, wanted, size], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT) for size in sizes]
    said = [(reader.communicate(timeout=TIMEOUT)[0], reader.returncode) for reader in readers]
    assert said == [(b"", 0)] * 16


def test_many_opens(served: Served) -> None:
    for _ in range(1000):
        os.close(os.open(served.vmcore, os.O_RDONLY))
    descriptors = [os.open(served.vmcore, os.O_RDONLY) for _ in range(200)]
    try:
        assert {os.pread(descriptor, 64, 0) for descriptor in descriptors} == {served.data[:64]}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert len(os.listdir(f"/proc/{served.mounted.daemon}/fd")) < 20


def test_sendfile(served: Served, tmp_path: Path) -> None:
    """shutil.copyfile."""
    shutil.copyfile(served.vmcore, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == served.data


def test_copy_file_range(served: Served, tmp_path: Path) -> None:
    """The kernel does it by itself, or says that it cannot between two file systems."""
    with opened(served.vmcore) as source, open(tmp_path / "copy", "wb") as target:
        try:
            count = os.copy_file_range(source, target.fileno(), 100_000, 5000, 0)
        except OSError as error:
            assert error.errno in (errno.EXDEV, errno.EOPNOTSUPP)  # noqa: PT017
            return
    assert (tmp_path / "copy").read_bytes() == served.data[5000:5000 + count]


def test_o_direct(served: Served) -> None:
    with opened(served.vmcore) as _, mmap.mmap(-1, 2 * MIB) as aligned:
        descriptor = os.open(served.vmcore, os.O_RDONLY | os.O_DIRECT)
        try:
            for offset in (0, PAGE, MIB, served.size // PAGE * PAGE - PAGE):
                count = os.preadv(descriptor, [aligned], offset)
                assert aligned[:count] == served.data[offset:offset + 2 * MIB]
        finally:
            os.close(descriptor)


# -- programs ----------------------------------------------------------------------------------------------------------


def shell(script: str, *arguments: Path) -> bytes:
    done = subprocess.run(["sh", "-ec", script, "sh", *arguments], capture_output=True, check=False, timeout=TIMEOUT,
                          stdin=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("script", [
    'cp "$1" "$2"',
    'cp --sparse=never --reflink=never "$1" "$2"',
    'cp -a "$1" "$2"',
    'cat "$1" > "$2"',
    'cat < "$1" | cat > "$2"',
    'dd if="$1" of="$2" bs=1M status=none',
    'dd if="$1" of="$2" bs=1000003 status=none',
    'dd if="$1" of="$2" bs=4K iflag=direct status=none',
    'tar -cf - -C "$(dirname "$1")" vmcore | tar -xOf - > "$2"',
    'tar -cSf - -C "$(dirname "$1")" vmcore | tar -xOf - > "$2"',
    'tail -c +1 "$1" > "$2"',
    'head -c 100000000 "$1" > "$2"',
    'cp -r "$(dirname "$1")" "$2.d"; mv -f "$2.d/vmcore" "$2"',
], ids=lambda script: script.replace('"$1"', "").replace('"$2"', "").split("status")[0].strip()[:30])
def test_copies(served: Served, tmp_path: Path, script: str) -> None:
    shell(script, served.vmcore, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == served.data


def test_comparisons(served: Served, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    wanted.write_bytes(served.data)
    assert shell('cmp "$1" "$2"; diff "$1" "$2"', served.vmcore, wanted) == b""
    for program in ("sha256sum", "md5sum", "cksum"):
        sums = {line.split()[0] for line in shell(f'{program} "$1" "$2"', served.vmcore, wanted).splitlines()}
        assert len(sums) == 1
    assert shell('dd if="$1" bs=7 skip=11111 count=9 status=none', served.vmcore) == served.data[77777:77840]
    assert shell('wc -c < "$1"', served.vmcore).strip() == str(served.size).encode()


def test_python_in_another_process(served: Served) -> None:
    program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    done = subprocess.run([sys.executable, "-c", program, served.vmcore], capture_output=True, check=True, timeout=TIMEOUT)
    assert done.stdout == served.data


# -- other machines ----------------------------------------------------------------------------------------------------

MACHINES = {
    "zfcpdump": Machine(mode="zfcpdump", hsa_size=MIB + 8192, cpus=cpus(2), body_pages="all"),
    "plain": Machine(mode="plain", cpus=cpus(3), body_pages="all"),
    "many ranges": Machine(memory=((0, 3 * MIB), *((i * 65536, i * 65536 + 4096) for i in range(50, 120))), body_pages="all"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_modes(name: str, mounted: Mounting, tmp_path: Path) -> None:
    built = MACHINES[name].build(tmp_path)
    mount = mounted(built.image, *_hsa(built))
    data = built.model.read(0, built.model.size)
    assert mount.vmcore.stat().st_size == len(data)
    assert mount.vmcore.read_bytes() == data
    with opened(mount.vmcore) as descriptor:
        for load in built.model.loads:
            offset = load.offset - load.offset % PAGE
            for start in (max(0, offset - 10), offset, offset + len(load.pages) * PAGE - 5):
                assert os.pread(descriptor, 20, start) == data[start:start + 20]


def _hsa(built: Built) -> tuple[str, ...]:
    return () if built.hsa is None else ("--hsa", str(built.hsa))


@pytest.mark.parametrize("name", ["k61-zfcpdump", "k612-smp2"])
def test_real_captures(name: str, mounted: Mounting, tmp_path: Path) -> None:
    files = sparse.expand(name, tmp_path / "capture")
    mount = mounted(files.image, *(("--hsa", str(files.hsa)) if files.hsa else ()))
    assert sparse.compare(name, mount.vmcore) == []
