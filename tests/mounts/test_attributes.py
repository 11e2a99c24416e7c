"""What stat, statvfs, ls, find and mountinfo say of a mount, and that nothing can be written."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounts.conftest import MTIME_NS, Served
from tests.mounts.mounting import TIMEOUT, row_of


def test_attributes_of_vmcore(served: Served) -> None:
    status = served.vmcore.stat()
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o400
    assert status.st_size == served.built.model.size
    assert status.st_blocks == -(-served.size // 512)
    assert status.st_blksize == 1 << 20
    assert (status.st_uid, status.st_gid, status.st_nlink) == (os.geteuid(), os.getegid(), 1)
    assert {status.st_mtime_ns, status.st_ctime_ns, status.st_atime_ns} == {MTIME_NS}
    assert served.built.image.stat().st_mtime_ns == MTIME_NS


def test_fstat_is_stat(served: Served) -> None:
    with open(served.vmcore, "rb") as file:
        assert os.fstat(file.fileno()) == served.vmcore.stat()
        file.read(10_000)
        assert os.fstat(file.fileno()) == served.vmcore.stat()


def test_attributes_of_the_directory(served: Served) -> None:
    status = served.mounted.where.stat()
    assert stat.S_ISDIR(status.st_mode)
    assert status.st_mode & 0o222 == 0
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert status.st_mtime_ns == MTIME_NS
    assert served.vmcore.stat().st_dev == status.st_dev != served.mounted.where.parent.stat().st_dev
    assert os.path.ismount(served.mounted.where)


def test_names(served: Served) -> None:
    """vmcore, and of the design's other names those that could be made; dmesg.txt comes when it is ready."""
    names = os.listdir(served.mounted.where)
    assert "vmcore" in names
    assert len(names) == len(set(names))
    assert set(names) <= {"vmcore", "vmcoreinfo.txt", "info.json", "dmesg.txt", "cpus"}
    with os.scandir(served.mounted.where) as entries:
        assert {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)} <= {"cpus"}


def test_everything_is_read_only_and_as_long_as_it_says(served: Served) -> None:
    for folder, folders, files in os.walk(served.mounted.where):
        for name in folders:
            assert stat.S_IMODE(Path(folder, name).stat().st_mode) & 0o222 == 0
        for name in files:
            path = Path(folder, name)
            status = path.stat()
            assert len(path.read_bytes()) == status.st_size, path
            assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o400, MTIME_NS), path
            with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
                os.open(path, os.O_RDWR)


@pytest.mark.parametrize("name", ["absent", "vmcore2", ".vmcore", "VMCORE", "x" * 255, "ünïcode", os.fsdecode(b"\xff\xfe")])
def test_a_name_that_is_not_there(served: Served, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        (served.mounted.where / name).stat()


def test_vmcore_is_no_directory(served: Served) -> None:
    with pytest.raises(NotADirectoryError):
        (served.vmcore / "x").stat()
    with pytest.raises(NotADirectoryError):
        os.listdir(served.vmcore)


def test_mountinfo(served: Served) -> None:
    row = row_of(served.mounted.where)
    assert row is not None
    assert row.type == "fuse.vmcorefs"
    assert row.source == os.fsencode(served.built.image)
    assert {"ro", "nosuid", "nodev"} <= row.options
    device = served.mounted.where.stat().st_dev
    assert row.device == f"{os.major(device)}:{os.minor(device)}"


def test_statvfs(served: Served) -> None:
    status = os.statvfs(served.mounted.where)
    assert served.size <= status.f_blocks * status.f_frsize < served.size + (1 << 20)
    assert (status.f_bfree, status.f_bavail, status.f_ffree, status.f_favail) == (0, 0, 0, 0)
    assert status.f_files >= 1
    assert status.f_namemax == 255
    assert status.f_flag & os.ST_RDONLY
    assert status.f_flag & os.ST_NOSUID
    assert os.statvfs(served.vmcore) == status


def _open(*flags: int) -> Callable[[Path], object]:
    def call(path: Path) -> None:
        os.close(os.open(path, sum(flags)))
    return call


WRITES: dict[str, Callable[[Path], object]] = {
    "O_RDWR": _open(os.O_RDWR),
    "O_WRONLY": _open(os.O_WRONLY),
    "O_RDONLY|O_TRUNC": _open(os.O_RDONLY, os.O_TRUNC),
    "O_WRONLY|O_APPEND": _open(os.O_WRONLY, os.O_APPEND),
    "truncate": lambda path: os.truncate(path, 0),
    "unlink": os.unlink,
    "create": lambda path: _open(os.O_RDWR, os.O_CREAT)(path.with_name("new")),
    "create, O_EXCL": lambda path: _open(os.O_WRONLY, os.O_CREAT, os.O_EXCL)(path.with_name("new")),
    "mkdir": lambda path: path.with_name("new").mkdir(),
    "mknod": lambda path: os.mknod(path.with_name("new")),
    "symlink": lambda path: path.with_name("new").symlink_to("vmcore"),
    "link": lambda path: os.link(path, path.with_name("new")),
    "rename": lambda path: path.rename(path.with_name("new")),
    "chmod": lambda path: path.chmod(0o600),
    "chown": lambda path: os.chown(path, 1, 1),
    "utime": lambda path: os.utime(path, (1, 1)),
    "setxattr": lambda path: os.setxattr(path, "user.a", b"b"),
}


@pytest.mark.parametrize("name", WRITES)
def test_nothing_can_be_written(served: Served, name: str) -> None:
    """For root too: crash tries O_RDWR first."""
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        WRITES[name](served.vmcore)
    assert served.vmcore.stat().st_size == served.size
    assert not {"new", ".new"} & set(os.listdir(served.mounted.where))


def test_what_may_be_asked(served: Served) -> None:
    assert os.access(served.vmcore, os.R_OK)
    assert not os.access(served.vmcore, os.W_OK)
    os.close(os.open(served.vmcore, os.O_RDONLY | os.O_NOATIME))
    for ask in (os.listxattr, lambda path: os.getxattr(path, "security.selinux")):
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            ask(served.vmcore)


def test_another_user_sees_nothing(served: Served) -> None:
    """No allow_other."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    program = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"]
    assert subprocess.run([*program, served.vmcore], capture_output=True, check=False, timeout=TIMEOUT).returncode == 1


def _said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT, env=os.environ | {"LC_ALL": "C", "TZ": "UTC"})
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_programs_that_look(served: Served) -> None:
    where = served.mounted.where
    assert f"{-(-served.size // 512) // 2} vmcore" in [line.strip() for line in _said("ls", "-s", where).splitlines()]
    listing = {line.split()[-1]: line for line in _said("ls", "-la", "--time-style=full-iso", where).splitlines()}
    assert {".", "..", "vmcore"} <= listing.keys()
    assert listing["vmcore"].startswith("-r-------- 1 ")
    assert f" {served.size} 2009-02-13 23:31:30.123456789 " in listing["vmcore"]
    found = _said("find", where, "-printf", "%P %y %m %s\n").splitlines()
    assert found[0] == " d 555 0"
    assert f"vmcore f 400 {served.size}" in found
    assert _said("du", "-B1", "--apparent-size", served.vmcore).split()[0] == str(served.size)
    assert _said("du", "-B512", served.vmcore).split()[0] == str(-(-served.size // 512))
    assert _said("stat", "-f", "-c", "%t", where).strip() == "65735546"  # FUSE_SUPER_MAGIC
    assert _said("findmnt", "-n", "-o", "FSTYPE", where).strip() == "fuse.vmcorefs"
    assert _said("df", "--output=source,fstype,avail,pcent", where).splitlines()[1].split()[1:] == ["fuse.vmcorefs", "0", "100%"]
