"""ImageFile: full or an error, with the good bytes counted exactly."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.bad_disk import SECTOR, BadDisk
from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image.file import ImageFile
from vmcorefs.image.source import Container, Source

SIZE = 5 * 4096 + 123


@pytest.fixture
def content() -> bytes:
    return random.Random(7).randbytes(SIZE)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "a.img"
    path.write_bytes(content)
    return path


@pytest.fixture
def file(path: Path) -> Iterator[ImageFile]:
    with ImageFile(path) as file:
        yield file


def test_pread_gives_the_bytes_asked_for(file: ImageFile, content: bytes) -> None:
    for offset, size in ((0, SIZE), (0, 1), (4095, 2), (SIZE - 1, 1), (4096, 8192), (77, 0)):
        assert file.pread(size, offset) == content[offset:offset + size]


def test_size_and_identity_are_the_files(file: ImageFile, path: Path) -> None:
    status = path.stat()
    assert file.size == SIZE
    assert file.mtime_ns == status.st_mtime_ns
    assert file.identity == (status.st_dev, status.st_ino)


def test_head_of_a_shorter_file_is_shorter(file: ImageFile, content: bytes) -> None:
    assert file.head(100) == content[:100]
    assert file.head(1 << 20) == content


def test_short_counts_of_the_system_are_completed(file: ImageFile, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr("vmcorefs.image.file.os.preadv", lambda fd, buffers, at: real(fd, [buffers[0][:100]], at))
    assert file.pread(1000, 5) == content[5:1005]


def test_across_the_end_is_an_error_with_the_good_bytes(file: ImageFile, content: bytes, path: Path) -> None:
    buffer = bytearray(200)
    with pytest.raises(OldmemReadError) as caught:
        file.preadinto(memoryview(buffer), SIZE - 50)
    assert caught.value.good == 50
    assert caught.value.offset == SIZE
    assert caught.value.file == str(path)
    assert bytes(buffer[:50]) == content[-50:]
    assert "beyond the end of the file at 0x507b" in str(caught.value)
    assert caught.value.kind == "missing"


def test_behind_the_end_nothing_is_good(file: ImageFile) -> None:
    with pytest.raises(OldmemReadError) as caught:
        file.pread(1, SIZE)
    assert caught.value.good == 0


@pytest.mark.parametrize("offset", [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, 1 << 64])
def test_absurd_offsets_are_read_errors(file: ImageFile, offset: int) -> None:
    with pytest.raises(OldmemReadError) as caught:
        file.pread(4096, offset)
    assert caught.value.good == 0


def test_a_file_that_shrank_says_so(file: ImageFile, path: Path, content: bytes) -> None:
    os.truncate(path, 5000)
    assert file.pread(5000, 0) == content[:5000]
    with pytest.raises(OldmemReadError, match=r"the file ends at 0x1388; it was 0x507b bytes long when it was opened") as caught:
        file.pread(100, 4950)
    assert caught.value.good == 50
    assert caught.value.kind == "missing"


def test_after_close_reads_are_read_errors(path: Path) -> None:
    file = ImageFile(path)
    file.close()
    file.close()
    with pytest.raises(OldmemReadError) as caught:
        file.pread(1, 0)
    assert caught.value.kind == "broken"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("bad", [0, 1, 511, 512, 4095, 4096, 4097, 9000, 3 * 4096 - 1])
def test_good_prefix_is_exact(file: ImageFile, path: Path, content: bytes, bad: int, strict: bool,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, path, [(bad, bad + 1)], strict=strict)
    buffer = bytearray(3 * 4096)
    with pytest.raises(OldmemReadError) as caught:
        file.preadinto(memoryview(buffer), 0)
    assert caught.value.good == bad
    assert caught.value.offset == bad
    assert bytes(buffer[:bad]) == content[:bad]


def test_good_prefix_ends_at_the_first_of_several_bad_sectors(file: ImageFile, path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [(at, at + SECTOR) for at in range(0x1800, 0x4000, 0x800)]
    BadDisk(monkeypatch, path, bad)
    with pytest.raises(OldmemReadError) as caught:
        file.pread(0x4000, 0x100)
    assert (caught.value.good, caught.value.offset) == (0x1700, 0x1800)


def test_reads_beside_a_bad_sector_are_not_touched_by_it(file: ImageFile, path: Path, content: bytes,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, path, [(4096, 4608)])
    assert file.pread(4096, 0) == content[:4096]
    assert file.pread(100, 4608) == content[4608:4708]


def test_a_bad_disk_is_asked_a_few_times_only(file: ImageFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = BadDisk(monkeypatch, path, [(9999, 10000)])
    with pytest.raises(OldmemReadError):
        file.pread(16384, 0)
    assert disk.reads < 40


def test_where_the_first_byte_is_bad_it_costs_three_reads_at_most(file: ImageFile, path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    disk = BadDisk(monkeypatch, path, [(0, SECTOR)])
    with pytest.raises(OldmemReadError) as caught:
        file.pread(16384, 0)
    assert caught.value.good == 0
    assert disk.reads <= 3


def test_without_salvage_a_bad_area_is_asked_once(file: ImageFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = BadDisk(monkeypatch, path, [(9999, 10000)])
    with pytest.raises(OldmemReadError) as caught:
        file.preadinto(memoryview(bytearray(16384)), 0, salvage=False)
    assert disk.reads == 1
    assert caught.value.good <= 9999


def test_the_cause_is_the_systems_word(file: ImageFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BadDisk(monkeypatch, path, [(0, 1)])
    with pytest.raises(OldmemReadError, match=os.strerror(errno.EIO)) as caught:
        file.pread(1, 0)
    assert caught.value.kind == "broken"


def test_a_raw_image_is_its_own_source(file: ImageFile, content: bytes) -> None:
    assert isinstance(file, Source)
    assert file.files == (file,)
    assert file.container == Container(format="raw")
    assert file.next_data(0, SIZE) == (0, SIZE)
    assert file.read_some(SIZE + 99, 10) == content[10:]


def refusal(path: Path, what: str = "image") -> str:
    with pytest.raises(ImageError) as caught:
        ImageFile(path, what=what)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot open the image: No such file or directory" in refusal(tmp_path / "none.img")


def test_the_refusal_names_what_the_file_is_for(tmp_path: Path) -> None:
    assert "cannot open the HSA image" in refusal(tmp_path / "none.img", "HSA image")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory; give the file" in refusal(tmp_path)


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "is a FIFO, which cannot be read at any offset" in refusal(tmp_path / "fifo")


def test_a_character_device_is_refused() -> None:
    assert "is a character device" in refusal(Path(os.devnull))


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "is a socket" in refusal(Path("socket"))


def test_a_file_that_may_not_be_read_is_refused_with_advice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("vmcorefs.image.file.os.open", refuse)
    assert "Permission denied; ask its owner" in refusal(path)


def test_a_name_with_a_newline_stays_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"two\\nlines") as caught:
        ImageFile(tmp_path / "two\nlines")
    assert "\n" not in str(caught.value)


def test_a_relative_path_holds_after_a_change_of_directory(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with ImageFile("a.img") as file:
        monkeypatch.chdir("/")
        assert file.path == str(path)
        assert file.pread(10, 0) == content[:10]


def test_a_file_that_cannot_be_opened_leaks_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(ImageError):
            ImageFile(tmp_path / "none")
    assert len(os.listdir("/proc/self/fd")) == before
