"""copy_to_file and copy_to_descriptor: the bytes, the holes, the part, what proves it, and what ends a copy early."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.image.bad_disk import BadDisk
from tests.mounts.mounting import skip_or_fail
from tests.output.conftest import MIB, PAGE
from vmcorefs.errors import BusyError, OldmemReadError, OutputError, UsageError
from vmcorefs.output import part as part_module
from vmcorefs.output.copy import CopyInterruptedError, copy_to_descriptor, copy_to_file
from vmcorefs.output.part import CHUNK, PartFile
from vmcorefs.vmcore.file import VmcoreFile

MARK = "user.vmcorefs.copy"


class Stop:
    """A progress that interrupts once *done* bytes are done."""

    def __init__(self, done: int):
        self.done = done

    def __call__(self, done: int, size: int) -> None:
        if done >= self.done:
            raise KeyboardInterrupt


def interrupted(vmcore: VmcoreFile, target: Path, done: int, *, force: bool = False) -> Path:
    """The part of a copy that was interrupted after *done* bytes."""
    with pytest.raises(CopyInterruptedError):
        copy_to_file(vmcore, str(target), progress=Stop(done), force=force)
    return target.with_name(target.name + ".part")


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets at which vmcore is read from now on."""
    offsets: list[int] = []
    preadinto = VmcoreFile.preadinto

    def recording(self: VmcoreFile, buffer: bytearray | memoryview, offset: int, **options: bool) -> int:
        offsets.append(offset)
        return preadinto(self, buffer, offset, **options)

    monkeypatch.setattr(VmcoreFile, "preadinto", recording)
    return offsets


def assert_complete(target: Path, data: bytes) -> None:
    found = target.read_bytes()
    assert len(found) == len(data)
    if found != data:
        bad = next(i for i in range(len(data)) if found[i] != data[i])
        pytest.fail(f"Mismatch at {bad:#x}: expected {data[bad:bad + 16].hex()}, found {found[bad:bad + 16].hex()}")
    assert not target.with_name(target.name + ".part").exists()


def data_pages(path: Path) -> set[int]:
    """The pages that take space on the disk."""
    found: set[int] = set()
    with path.open("rb") as file:
        end = file.seek(0, 2)
        at = 0
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found |= set(range(start // PAGE, -(-at // PAGE)))
    return found


def full_pages(data: bytes) -> set[int]:
    return {at // PAGE for at in range(0, len(data), PAGE) if any(data[at:at + PAGE])}


@pytest.fixture
def _holes(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    with probe.open("wb") as file:
        os.pwrite(file.fileno(), b"x", PAGE)
        file.truncate(3 * PAGE)
        file.flush()
        os.fsync(file.fileno())
    if data_pages(probe) != {1}:
        skip_or_fail("the file system of the tests has no holes of 4096 bytes")


# -- bytes and holes ---------------------------------------------------------------------------------------------------


def test_the_bytes_are_the_models(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


@pytest.mark.usefixtures("_holes")
def test_every_page_of_zeros_is_a_hole_and_no_other(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert data_pages(tmp_path / "vmcore") == full_pages(data)


@pytest.mark.usefixtures("_holes")
@pytest.mark.parametrize("done", [1, 2 * MIB, 7 * MIB])
def test_holes_after_a_resume(vmcore: VmcoreFile, data: bytes, tmp_path: Path, done: int) -> None:
    interrupted(vmcore, tmp_path / "vmcore", done)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)
    assert data_pages(tmp_path / "vmcore") == full_pages(data)


@pytest.mark.usefixtures("_holes")
def test_no_stale_byte_and_all_holes_where_something_else_was(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    """FILE and FILE.part are both longer than vmcore and full of something else."""
    target, part = tmp_path / "vmcore", tmp_path / "vmcore.part"
    target.write_bytes(b"\xa5" * (len(data) + 5 * PAGE))
    part.write_bytes(data[:MIB] + b"\x5a" * (len(data) + 3 * PAGE))
    copy_to_file(vmcore, str(target), force=True)
    assert_complete(target, data)
    assert data_pages(target) - set(range(MIB // PAGE)) == full_pages(data) - set(range(MIB // PAGE))


@pytest.mark.parametrize("seed", range(20))
def test_write_leaves_out_nothing_but_zeros(tmp_path: Path, seed: int) -> None:
    """Pages that are empty, begin with a zero, have one byte somewhere; whole chunks and shorter ones, at any length."""
    chooser = random.Random(seed)
    size = chooser.choice([CHUNK, chooser.randrange(1, CHUNK), chooser.randrange(1, 3 * PAGE)])
    chunk = bytearray(CHUNK)
    for page in range(0, CHUNK, PAGE):
        match chooser.randrange(4):
            case 0:
                chunk[page + chooser.randrange(PAGE)] = 1
            case 1:
                chunk[page:page + PAGE] = chooser.randbytes(PAGE)
            case 2:
                chunk[page + PAGE - 1] = 0xff
    chunk[size:] = b"\xee" * (CHUNK - size)  # what an earlier, longer read left behind
    descriptor = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT, 0o600)
    part = PartFile(str(tmp_path / "part"), descriptor)
    part.write(chunk, size, 3 * MIB)
    part.reach(3 * MIB + size)
    assert part.holds(chunk, size, 3 * MIB)
    part.close()
    assert (tmp_path / "part").read_bytes() == bytes(3 * MIB) + chunk[:size]


# -- names and modes ---------------------------------------------------------------------------------------------------


def test_an_existing_file_is_refused_and_stays(vmcore: VmcoreFile, tmp_path: Path) -> None:
    target = tmp_path / "vmcore"
    target.write_bytes(b"mine")
    with pytest.raises(BusyError, match=r"is there already.*--force"):
        copy_to_file(vmcore, str(target))
    assert target.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["vmcore"]


def test_force_replaces_only_what_is_complete(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    target = tmp_path / "vmcore"
    target.write_bytes(b"mine")
    interrupted(vmcore, target, 3 * MIB, force=True)
    assert target.read_bytes() == b"mine"
    copy_to_file(vmcore, str(target), force=True)
    assert_complete(target, data)


def test_a_file_that_appears_during_the_copy_is_not_overwritten(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    target = tmp_path / "vmcore"
    def appear(done: int, size: int) -> None:
        target.write_bytes(b"theirs")

    with pytest.raises(BusyError, match=r"has appeared during the copy.*--force"):
        copy_to_file(vmcore, str(target), progress=appear)
    assert target.read_bytes() == b"theirs"
    assert (tmp_path / "vmcore.part").read_bytes() == data
    copy_to_file(vmcore, str(target), force=True)
    assert_complete(target, data)


@pytest.mark.parametrize(("before", "after"), [(None, 0o600), (0o644, 0o600), (0o660, 0o600), (0o400, 0o400), (0o600, 0o600)])
def test_mode(vmcore: VmcoreFile, tmp_path: Path, before: int | None, after: int) -> None:
    target = tmp_path / "vmcore"
    if before is not None:
        target.touch()
        target.chmod(before)
    modes = set()
    umask = os.umask(0)
    try:
        copy_to_file(vmcore, str(target), force=True,
                     progress=lambda done, size: modes.add(stat.S_IMODE((tmp_path / "vmcore.part").stat().st_mode)))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == after
    assert modes == {0o600}


def test_the_part_is_never_open_to_others_not_even_at_first(vmcore: VmcoreFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                                               ) -> None:
    made = []
    os_open = os.open

    def recording(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            made.append((path, mode))
        return os_open(path, flags, mode)

    monkeypatch.setattr(os, "open", recording)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert made == [(f"{tmp_path}/vmcore.part", 0o600)]


def test_a_part_that_others_could_read_is_closed_to_them(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    part = interrupted(vmcore, tmp_path / "vmcore", 2 * MIB)
    part.chmod(0o666)
    modes = set()
    copy_to_file(vmcore, str(tmp_path / "vmcore"), progress=lambda done, size: modes.add(stat.S_IMODE(part.stat().st_mode)))
    assert modes == {0o600}
    assert_complete(tmp_path / "vmcore", data)


def test_with_force_a_symbolic_link_stays_and_its_file_is_replaced(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real", tmp_path / "vmcore"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with pytest.raises(BusyError):
        copy_to_file(vmcore, str(link))
    copy_to_file(vmcore, str(link), force=True)
    assert link.is_symlink()
    assert_complete(real, data)


@pytest.mark.parametrize("which", ["FILE", "FILE.part", "HSA"])
def test_the_image_is_never_overwritten(own: Built, tmp_path: Path, which: str) -> None:
    target = tmp_path / "vmcore"
    if which == "HSA":
        own = Machine(mode="zfcpdump").build(tmp_path)
        assert own.hsa is not None
    source = own.hsa or own.image
    before = source.read_bytes()
    os.link(source, target.with_name("vmcore.part") if which == "FILE.part" else target)
    with vmcorefs.open(own.image, **({"hsa": own.hsa} if own.hsa else {})) as dump, pytest.raises(UsageError, match="the image"):
        copy_to_file(dump.vmcore, str(target), force=True)
    assert source.read_bytes() == before
    assert source.stat().st_nlink == 2


def test_file_then_rename_then_directory_reach_the_disk(vmcore: VmcoreFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                                          ) -> None:
    target = tmp_path / "vmcore"
    seen = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        seen.append(f"fsync {os.readlink(f'/proc/self/fd/{descriptor}')} of {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def recording_replace(source: str, destination: str) -> None:
        seen.append(f"rename {source}")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    copy_to_file(vmcore, str(target))
    directory = f"fsync {tmp_path} of {tmp_path.stat().st_size}"
    assert seen == [f"fsync {target}.part of {vmcore.size}", f"rename {target}.part", directory]


# -- a part is continued -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [1, MIB, 3 * MIB + 1, 8 * MIB])
def test_an_interrupted_copy_goes_on(vmcore: VmcoreFile, data: bytes, tmp_path: Path, done: int) -> None:
    said: list[str] = []
    part = interrupted(vmcore, tmp_path / "vmcore", min(done, vmcore.size))
    before, there = part.stat().st_ino, part.stat().st_size
    assert there >= min(done, vmcore.size)
    assert part.read_bytes() == data[:there]
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert (tmp_path / "vmcore").stat().st_ino == before
    assert len(said) == 1
    assert f"{there} bytes are there from an earlier copy" in said[0]


def test_what_is_there_is_not_written_again(vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                            ) -> None:
    interrupted(vmcore, tmp_path / "vmcore", 3 * MIB)
    written: list[int] = []
    pwrite = os.pwrite

    def recording(descriptor: int, view: memoryview, offset: int) -> int:
        written.append(offset)
        return pwrite(descriptor, view, offset)

    monkeypatch.setattr(os, "pwrite", recording)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)
    assert min(written) >= 3 * MIB


@pytest.mark.parametrize("length", [1, PAGE + 17, MIB - 1, 2 * MIB, 3 * MIB + 12345])
def test_a_part_of_any_length_goes_on(vmcore: VmcoreFile, data: bytes, tmp_path: Path, length: int) -> None:
    """A full disk ends a copy anywhere."""
    (tmp_path / "vmcore.part").write_bytes(data[:length])
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


@pytest.mark.parametrize("more", [0, 1, 3 * MIB])
def test_a_part_with_all_bytes_becomes_the_file(vmcore: VmcoreFile, data: bytes, tmp_path: Path, more: int) -> None:
    (tmp_path / "vmcore.part").write_bytes(data + b"\x99" * more)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


def test_a_part_of_another_machine_starts_anew(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    other = Machine(memory=((0, 8 * MIB),), base=2 * MIB, cpus=cpus(3), body_pages="all").build(tmp_path)
    with vmcorefs.open(other.image) as dump:
        interrupted(dump.vmcore, tmp_path / "vmcore", 4 * MIB)
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert said[-1] == f"{tmp_path}/vmcore.part: is not of this vmcore; starts anew"


@pytest.mark.parametrize("address", [0x90000, 0x1ff000, 0x3f1000])
def test_a_part_of_another_image_with_the_same_header(own: Built, vmcore: VmcoreFile, data: bytes, tmp_path: Path, address: int
                                                      ) -> None:
    """Header and last bytes are equal; one byte in between is not."""
    own.poke_old(address + 5, b"\xaa\xbb")
    with vmcorefs.open(own.image) as dump:
        assert dump.vmcore.header == vmcore.header
        part = interrupted(dump.vmcore, tmp_path / "vmcore", 7 * MIB)
    assert part.read_bytes() != data[:part.stat().st_size]
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert "starts anew" in said[-1]


def test_after_a_power_failure_zeros_in_a_part_are_not_taken_for_bytes(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    part = interrupted(vmcore, tmp_path / "vmcore", 5 * MIB)
    with part.open("r+b") as file:
        file.truncate(2 * MIB + 5 * PAGE)
        file.truncate(5 * MIB)
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert "is of this vmcore up to 0x200000 only; starts anew there" in said[-1]


@pytest.mark.parametrize("make", [
    lambda part: part.mkdir(), os.mkfifo, lambda part: part.symlink_to(part.with_name("elsewhere")),
], ids=["directory", "FIFO", "symbolic link"])
def test_a_part_that_is_no_regular_file_is_refused(vmcore: VmcoreFile, tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    make(tmp_path / "vmcore.part")
    with pytest.raises(OutputError, match=r"vmcore\.part: is no regular file.*remove it"):
        copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_a_part_with_a_second_name_is_not_written_to(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    os.link(tmp_path / "mine", tmp_path / "vmcore.part")
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert_complete(tmp_path / "vmcore", data)
    assert "starts anew" in said[0]


def test_a_part_of_another_user_is_not_written_to(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    """Its owner may have it open, and would read the secrets."""
    if os.geteuid() != 0:
        skip_or_fail("a file can be given away by root only")
    part = interrupted(vmcore, tmp_path / "vmcore", 3 * MIB)
    os.chown(part, 12345, 12345)
    said: list[str] = []
    with part.open("rb") as theirs:
        copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
        assert os.fstat(theirs.fileno()).st_nlink == 0
    assert_complete(tmp_path / "vmcore", data)
    assert "belongs to another user" in said[0]
    assert (tmp_path / "vmcore").stat().st_uid == 0


# -- the mark ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _marking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mark after every chunk."""
    (tmp_path / "probe").touch()
    try:
        os.setxattr(tmp_path / "probe", MARK, b"")
    except OSError:
        skip_or_fail("the file system of the tests has no extended attributes")
    monkeypatch.setattr(part_module, "_MARK_SECONDS", 0.0)


def test_a_short_copy_is_not_marked(vmcore: VmcoreFile, tmp_path: Path) -> None:
    assert os.listxattr(interrupted(vmcore, tmp_path / "vmcore", 3 * MIB)) == []


@pytest.mark.usefixtures("_marking")
def test_a_marked_part_goes_on_without_reading_the_image_again(
        vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    part = interrupted(vmcore, tmp_path / "vmcore", 5 * MIB)
    assert json.loads(os.getxattr(part, MARK))["done"] == 5 * MIB
    reads = reads_of(monkeypatch)
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert set(reads[:2]) == {0, 4 * MIB}  # looked at once more
    assert min(reads[2:]) == 5 * MIB
    there = f"{part}: {5 * MIB} bytes are there from an earlier copy"
    assert said == [f"{there}; goes on after {5 * MIB} of them, which are of this vmcore"]


@pytest.mark.usefixtures("_marking")
def test_what_is_marked_is_there_and_on_the_disk(vmcore: VmcoreFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever happens next; the last MiB of this vmcore is a hole."""
    flushed, marked = [], []
    fsync, setxattr = os.fsync, os.setxattr

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append(os.fstat(descriptor).st_size)

    def recording_setxattr(descriptor: int, name: str, value: bytes) -> None:
        marked.append(json.loads(value)["done"])
        assert flushed[-1] >= marked[-1]
        setxattr(descriptor, name, value)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "setxattr", recording_setxattr)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert marked[:2] == [MIB, 2 * MIB]
    assert marked[-1] == vmcore.size


@pytest.mark.usefixtures("_marking")
def test_bytes_behind_the_mark_are_compared(vmcore: VmcoreFile, data: bytes, tmp_path: Path) -> None:
    """Killed between two marks."""
    part = interrupted(vmcore, tmp_path / "vmcore", 3 * MIB)
    with part.open("ab") as file:
        file.write(data[3 * MIB:4 * MIB] + b"\x11" * MIB)
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert "up to 0x400000 only" in said[-1]


@pytest.mark.usefixtures("_marking")
def test_the_complete_file_has_no_mark(vmcore: VmcoreFile, tmp_path: Path) -> None:
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert os.listxattr(tmp_path / "vmcore") == []


def _touched(part: Path, image: Path) -> None:
    os.utime(image, ns=(1, 1))


def _ctime(part: Path, image: Path) -> None:
    status = image.stat()
    with image.open("r+b") as file:
        file.write(file.read(1))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))


def _cut(part: Path, image: Path) -> None:
    os.truncate(part, 5 * MIB - 1)


def _poked(offset: int) -> Callable[[Path, Path], None]:
    def poke(part: Path, image: Path) -> None:
        with part.open("r+b") as file:
            os.pwrite(file.fileno(), b"\x77", offset)
    return poke


def _nonsense(text: bytes) -> Callable[[Path, Path], None]:
    return lambda part, image: os.setxattr(part, MARK, text)


@pytest.mark.usefixtures("_marking")
@pytest.mark.parametrize("change", [
    _touched, _ctime, _cut, _poked(0x40), _poked(5 * MIB - 1), _nonsense(b"{"), _nonsense(b"[]"), _nonsense(b'{"done": 1}'),
    _nonsense(b"\xff"), _nonsense(b'{"vmcore": null, "done": 3145728}'),
], ids=["image touched", "image written, time set back", "part cut", "header differs", "last byte differs", "no JSON", "a list",
        "no vmcore", "no text", "null"])
def test_a_mark_that_does_not_fit_proves_nothing(own: Built, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                 change: Callable[[Path, Path], None]) -> None:
    with vmcorefs.open(own.image) as dump:
        part = interrupted(dump.vmcore, tmp_path / "vmcore", 5 * MIB)
    change(part, own.image)
    with vmcorefs.open(own.image) as dump:
        reads = reads_of(monkeypatch)
        copy_to_file(dump.vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)
    assert {0, MIB, 2 * MIB, 3 * MIB, 4 * MIB} <= set(reads)


@pytest.mark.usefixtures("_marking")
def test_the_mark_of_one_image_does_not_outlive_its_bytes(
        own: Built, vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Marked for A, continued for B (no marks any more), continued for A: B's bytes must not count as A's. They differ in the
    middle only.
    """
    own.poke_old(0x1f1000, b"\xaa\xbb")
    interrupted(vmcore, tmp_path / "vmcore", 5 * MIB)
    with vmcorefs.open(own.image) as other, monkeypatch.context() as patch:
        patch.setattr(part_module, "_MARK_SECONDS", 1000.0)
        interrupted(other.vmcore, tmp_path / "vmcore", 6 * MIB)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


@pytest.mark.usefixtures("_marking")
def test_a_device_is_not_marked(vmcore: VmcoreFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its times do not change when it is written to."""
    monkeypatch.setattr(part_module, "stat", SimpleNamespace(
        S_ISREG=lambda mode: stat.S_ISREG(mode) and stat.S_IMODE(mode) != 0o640, S_IMODE=stat.S_IMODE))
    assert part_module.identify(vmcore) is not None
    for region in vmcore.regions:
        if region.file is not None:
            os.chmod(region.file.path, 0o640)
    try:
        assert part_module.identify(vmcore) is None
        assert os.listxattr(interrupted(vmcore, tmp_path / "vmcore", 5 * MIB)) == []
    finally:
        for region in vmcore.regions:
            if region.file is not None:
                os.chmod(region.file.path, 0o644)


@pytest.mark.usefixtures("_marking")
def test_without_extended_attributes(vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    for name in ("setxattr", "getxattr", "removexattr"):
        monkeypatch.setattr(os, name, unsupported)
    interrupted(vmcore, tmp_path / "vmcore", 5 * MIB)
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


# -- two at once -------------------------------------------------------------------------------------------------------


def test_a_second_copy_to_the_same_file_is_refused(vmcore: VmcoreFile, machine: Built, data: bytes, tmp_path: Path) -> None:
    target = str(tmp_path / "vmcore")
    refused = []

    def second(done: int, size: int) -> None:
        if done == 2 * MIB:
            with vmcorefs.open(machine.image) as dump, pytest.raises(BusyError, match=r"vmcore\.part: another copy is writing it"):
                copy_to_file(dump.vmcore, target)
            refused.append(done)

    copy_to_file(vmcore, target, progress=second)
    assert refused == [2 * MIB]
    assert_complete(tmp_path / "vmcore", data)


@pytest.mark.parametrize("then", ["nothing", "a third copy begins"])
def test_the_part_that_another_copy_completes_between_open_and_lock_is_left_alone(
        vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, then: str) -> None:
    target, part = tmp_path / "vmcore", tmp_path / "vmcore.part"
    part.write_bytes(b"complete")
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        if part.exists() and part.read_bytes() == b"complete":
            part.rename(tmp_path / "theirs")
            if then != "nothing":
                part.write_bytes(b"third")
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    copy_to_file(vmcore, str(target))
    assert (tmp_path / "theirs").read_bytes() == b"complete"
    assert_complete(target, data)


def test_a_file_system_without_locks_is_said(vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                             ) -> None:
    def unsupported(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    said: list[str] = []
    copy_to_file(vmcore, str(tmp_path / "vmcore"), say=said.append)
    assert_complete(tmp_path / "vmcore", data)
    assert len(said) == 1
    assert "no locks" in said[0]


# -- an early end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "advice"), [
    (errno.ENOSPC, "No space left on device; make room"), (errno.EDQUOT, "make room"), (errno.EFBIG, "File too large; raise"),
    (errno.EIO, "Input/output error"),
])
def test_the_disk_refuses(vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, advice: str
                          ) -> None:
    pwrite = os.pwrite

    def full(descriptor: int, view: memoryview, offset: int) -> int:
        if offset + len(view) > 3 * MIB:
            raise OSError(code, os.strerror(code))
        return pwrite(descriptor, view, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match=f"vmcore.part: cannot write: .*{advice}.*the same command goes on there") as caught:
            copy_to_file(vmcore, str(tmp_path / "vmcore"))
    there = (tmp_path / "vmcore.part").read_bytes()
    assert f"({len(there)} bytes, " in str(caught.value)
    assert 2 * MIB <= len(there) <= 3 * MIB
    assert there == data[:len(there)]
    copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


@pytest.mark.parametrize("which", ["part", "directory"])
def test_a_failing_fsync_is_an_error(vmcore: VmcoreFile, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, which: str
                                     ) -> None:
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (which == "directory"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match="cannot write" if which == "part" else "is complete, but its directory"):
        copy_to_file(vmcore, str(tmp_path / "vmcore"))
    assert (tmp_path / "vmcore").exists() == (which == "directory")


def test_it_stops_at_the_first_bad_byte_and_goes_on_when_it_is_repaired(
        machine: Built, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """0x4a1203 is in the image what it is in old memory: behind the crashkernel area at 2 to 3 MiB."""
    bad = 0x4a1203
    with vmcorefs.open(machine.image) as dump:
        (offset,) = (r.start + bad - r.address for r in dump.vmcore.regions
                     if r.address is not None and r.address <= bad < r.address + r.end - r.start)
        with monkeypatch.context() as patch:
            BadDisk(patch, machine.image, [(bad, bad + 1)])
            with pytest.raises(OldmemReadError, match=rf"absolute address {bad:#x}: cannot read at offset {bad:#x}: .*vmcore\.part "
                                                      rf"\({offset} bytes,.*the same command goes on there"):
                copy_to_file(dump.vmcore, str(tmp_path / "vmcore"))
        assert (tmp_path / "vmcore.part").read_bytes() == data[:offset]
        assert not (tmp_path / "vmcore").exists()
        copy_to_file(dump.vmcore, str(tmp_path / "vmcore"))
    assert_complete(tmp_path / "vmcore", data)


def test_a_byte_that_turns_bad_below_the_end_of_a_part_costs_nothing_of_it(
        machine: Built, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with vmcorefs.open(machine.image) as dump:
        part = interrupted(dump.vmcore, tmp_path / "vmcore", 5 * MIB)
        with monkeypatch.context() as patch:
            BadDisk(patch, machine.image, [(0x181234, 0x181235)])
            with pytest.raises(OldmemReadError, match="absolute address 0x181234"):
                copy_to_file(dump.vmcore, str(tmp_path / "vmcore"))
        assert part.read_bytes() == data[:5 * MIB]


# -- a pipe ------------------------------------------------------------------------------------------------------------


def _drain(descriptor: int, into: bytearray) -> None:
    while part := os.read(descriptor, 12345):
        into += part


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_gets_all(vmcore: VmcoreFile, data: bytes, blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    got = bytearray()
    reader = threading.Thread(target=_drain, args=(reading, got))
    reader.start()
    progress: list[tuple[int, int]] = []
    try:
        copy_to_descriptor(vmcore, writing, progress=lambda *now: progress.append(now))
    finally:
        os.close(writing)
        reader.join()
        os.close(reading)
    assert got == data
    assert progress[0] == (0, len(data))
    assert progress[-1] == (len(data), len(data))


def test_a_bad_byte_comes_after_all_before_it(machine: Built, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    got = bytearray()
    reader = threading.Thread(target=_drain, args=(reading, got))
    reader.start()
    with vmcorefs.open(machine.image) as dump:
        BadDisk(monkeypatch, machine.image, [(0x181234, 0x181235)])
        try:
            with pytest.raises(OldmemReadError, match="absolute address 0x181234: cannot read at offset") as caught:
                copy_to_descriptor(dump.vmcore, writing)
        finally:
            os.close(writing)
            reader.join()
            os.close(reading)
        (offset,) = (r.start + 0x181234 - r.address for r in dump.vmcore.regions
                     if r.address is not None and r.address <= 0x181234 < r.address + r.end - r.start)
    assert caught.value.exit_status == 1
    assert got == data[:offset]
