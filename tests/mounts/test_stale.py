"""A dead mount: the next mount recognises it, names it, and clears it when it is told to. Nothing else is ever cleared."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.faulty_image import faulty_image
from tests.mounts.life import files_of, records_of, stopped
from tests.mounts.mounting import (
    TIMEOUT,
    Finished,
    Mounted,
    assert_refused,
    clear,
    command_line,
    daemons_of,
    marked_processes,
    mount_rows,
    need_mounts,
    need_root,
    row_of,
    run,
    stat_errno,
    unmount,
    wait_until,
    words,
)
from tests.mounts.private_system import NOBODY, PrivateSystem, private_system

MS_MOVE = 8192


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Path]:
    need_mounts()
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    clear(path)


def kill(where: Path) -> None:
    """kill -9, to the end."""
    for pid in daemons_of(where):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not daemons_of(where), "the daemon's end")


def mount_and_kill(image: Path, where: Path, *options: str | Path) -> None:
    done = run("mount", *options, image, where)
    assert done.returncode == 0, words(done)
    kill(where)


def dead_rows(where: Path) -> int:
    """How many vmcorefs mounts there are at *where*."""
    return sum(row.where == os.fsencode(where) and row.type == "fuse.vmcorefs" for row in mount_rows())


# -- recognised, named, cleared ------------------------------------------------------------------------------------------


def test_named_and_replaced(machine: Built, machine_data: bytes, where: Path, tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    mount_and_kill(machine.image, where, "--pidfile", pidfile)
    left = files_of(where)
    assert os.geteuid() != 0 or records_of(where, left) == left
    dead_pid = pidfile.read_text(encoding="ascii")
    assert_refused(run("mount", machine.image, where), 2, f"{where}: a dead mount of {machine.image} is there, its daemon is gone",
                   f"vmcorefs umount {where}", "--replace-stale")
    done = run("mount", "--replace-stale", "--pidfile", pidfile, machine.image, where)
    assert done.returncode == 0, words(done)
    assert f"vmcorefs: warning: {where}: a dead mount of {machine.image} was there and has been cleared" in words(done).splitlines()
    assert dead_rows(where) == 1
    mount = Mounted(machine.image, where, "auto", "")
    assert mount.vmcore.read_bytes() == machine_data
    assert pidfile.read_text(encoding="ascii") == f"{mount.daemon}\n" != dead_pid
    left |= files_of(where)
    assert run("umount", where).returncode == 0
    assert not records_of(where, left)
    assert not pidfile.exists()


def test_cleared_by_umount_with_its_record(machine: Built, where: Path) -> None:
    mount_and_kill(machine.image, where)
    left = files_of(where)
    assert run("umount", where).returncode == 0
    assert not records_of(where, left)


def test_where_none_is_it_changes_nothing(machine: Built, where: Path) -> None:
    done = run("mount", "--replace-stale", machine.image, where)
    assert done.returncode == 0
    assert "dead" not in words(done)
    assert run("umount", where).returncode == 0
    (where / "file").touch()
    assert_refused(run("mount", "--replace-stale", machine.image, where), 2, "not empty")


def test_a_dead_mount_in_use(machine: Built, machine_data: bytes, where: Path) -> None:
    """Whoever stands in it or has a file open goes on getting errors; the new mount is there for everybody else."""
    done = run("mount", machine.image, where)
    assert done.returncode == 0, words(done)
    with subprocess.Popen(["sh", "-c", 'cd "$1" && exec 3<vmcore && echo && read line', "sh", where], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        kill(where)
        done = run("mount", "--replace-stale", machine.image, where)
        assert done.returncode == 0, words(done)
        assert (where / "vmcore").read_bytes() == machine_data
        holder.communicate(b"\n", timeout=TIMEOUT)
    assert run("umount", where).returncode == 0


def stack(image: Path, where: Path, count: int) -> dict[Path, set[str]]:
    """Dead mounts on top of each other: made elsewhere, and moved there. Where, with the names of their records."""
    left = {}
    libc = ctypes.CDLL(None, use_errno=True)
    for n in range(count):
        other = where.parent / f"other{n}"
        other.mkdir()
        done = run("mount", image, other)
        assert done.returncode == 0, words(done)
        left[other] = files_of(other)
        assert libc.mount(os.fsencode(other), os.fsencode(where), None, MS_MOVE, None) == 0, os.strerror(ctypes.get_errno())
        kill(other)
    assert dead_rows(where) == count
    return left


def test_one_on_top_of_the_other(machine: Built, machine_data: bytes, where: Path) -> None:
    need_root()
    left = stack(machine.image, where, 3)
    assert_refused(run("mount", machine.image, where), 2, "a dead mount of")
    done = run("mount", "--replace-stale", machine.image, where)
    assert done.returncode == 0, words(done)
    assert words(done).count("was there and has been cleared") == 3
    assert dead_rows(where) == 1
    assert (where / "vmcore").read_bytes() == machine_data
    assert run("umount", where).returncode == 0
    assert [records_of(other, names) for other, names in left.items()] == [set()] * 3


# -- never -------------------------------------------------------------------------------------------------------------


def test_never_a_living_one(machine: Built, where: Path) -> None:
    assert run("mount", machine.image, where).returncode == 0
    mount = Mounted(machine.image, where, "auto", "")
    daemon = mount.daemon
    assert_refused(run("mount", "--replace-stale", machine.image, where), 2, f"{machine.image} is mounted there already", "vmcorefs umount")
    with stopped(daemon):
        assert_refused(run("mount", "--replace-stale", machine.image, where, timeout=20), 2, "is mounted there and does not answer")
    assert mount.lives()
    assert mount.daemon == daemon
    assert run("umount", where).returncode == 0


def test_never_a_living_one_below_a_dead_one(machine: Built, where: Path) -> None:
    need_root()
    assert run("mount", machine.image, where).returncode == 0
    daemon = Mounted(machine.image, where, "auto", "").daemon
    stack_on = where.parent / "x"
    stack_on.mkdir()
    assert run("mount", machine.image, stack_on).returncode == 0
    assert ctypes.CDLL(None).mount(os.fsencode(stack_on), os.fsencode(where), None, MS_MOVE, None) == 0
    kill(stack_on)
    assert_refused(run("mount", "--replace-stale", machine.image, where), 2, "is mounted there already")
    assert dead_rows(where) == 1
    mount = Mounted(machine.image, where, "auto", "")
    assert (mount.lives(), mount.daemon) == (True, daemon)
    assert run("umount", where).returncode == 0


def test_never_another_file_system_s(machine: Built, tmp_path: Path) -> None:
    with faulty_image(machine.image, tmp_path) as disk:
        place = disk.path.parent
        (pid,) = [pid for pid in marked_processes() if os.fsencode(place) in command_line(pid)]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not command_line(pid), "its end")
        refused = run("mount", "--replace-stale", machine.image, place)
        assert_refused(refused, 2, f"{place}: a dead mount of faulty is there", f"clear it with: umount {place}")
        assert "--replace-stale" not in words(refused)
        row = row_of(place)
        assert row is not None
        assert row.type == "fuse.faulty"


def test_a_mount_on_top(machine: Built, where: Path) -> None:
    """It is somebody else's, and empty: mounted upon, as on any other directory; it and the dead one below stay as they are."""
    need_root()
    mount_and_kill(machine.image, where)
    subprocess.run(["mount", "-t", "tmpfs", "top", where], check=True, timeout=TIMEOUT)
    done = run("mount", "--replace-stale", machine.image, where)
    assert done.returncode == 0, words(done)
    assert "dead" not in words(done)
    assert [row.type for row in mount_rows() if row.where == os.fsencode(where)] == ["fuse.vmcorefs", "tmpfs", "fuse.vmcorefs"]
    assert run("umount", where).returncode == 0
    (where / "file").touch()
    assert_refused(run("mount", "--replace-stale", machine.image, where), 2, "not empty")
    assert unmount(where).returncode == 0
    assert dead_rows(where) == 1


def test_not_when_the_mount_would_fail(machine: Built, where: Path, tmp_path: Path) -> None:
    """The dead mount stays: an empty directory in its place would look as if all had been deleted."""
    mount_and_kill(machine.image, where)
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    capture = tmp_path / "capture.toml"
    capture.write_text(f'image = "{machine.image}"\n[mount]\nmountpoint = "mnt"\nreplace-stale = true\nlazy = true\n', encoding="utf-8")
    image: list[Path | str] = [machine.image, where]
    wrong: list[list[Path | str]] = [
        [tmp_path / "absent", where], [tmp_path / "zeros", where], ["--hsa", "/nonexistent", *image], ["--mode", "zfcpdump", *image],
        ["--pidfile", "/nonexistent/pid", *image], ["-o", "gid=0", *image], ["--capture", capture]]
    for arguments in wrong:
        assert_refused(run("mount", "--replace-stale", *arguments), 2)
        assert dead_rows(where) == 1, arguments
    assert_refused(run("mount", "--replace-stale", *image, env={"FUSE_LIBRARY_PATH": "/nonexistent/libfuse.so"}), 3, "libfuse")
    assert dead_rows(where) == 1
    assert run("umount", where).returncode == 0
    assert stat_errno(where) == 0


def test_fake_clears_nothing(machine: Built, where: Path) -> None:
    """mount -f, as mount(8) calls the helper: all checks, and no change."""
    mount_and_kill(machine.image, where)
    helper = [str(Path(_python()).with_name("mount.vmcorefs"))]
    done = subprocess.run([*helper, machine.image, where, "-f", "-o", "replace-stale"], capture_output=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, words(done)
    assert dead_rows(where) == 1
    assert run("umount", where).returncode == 0


def _python() -> str:
    import sys

    return sys.executable


# -- users -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystem]:
    folder = tmp_path_factory.mktemp("system")
    Machine(body_pages="all").build(folder).image.chmod(0o644)
    (folder / "mnt").mkdir()
    os.chown(folder / "mnt", NOBODY, NOBODY)
    with private_system(folder) as system:
        yield system


@pytest.fixture
def system(running: PrivateSystem) -> Iterator[PrivateSystem]:
    yield running
    for row in running.rows():
        assert running.run("umount", "-l", row.where).returncode == 0


def mount_in(system: PrivateSystem, user: int, *words_: str) -> Finished:
    return system.run("vmcorefs", "mount", "--pidfile", _pidfile(user), *words_, "oldmem.img", "mnt", user=user)


def _pidfile(user: int) -> str:
    return f"/tmp/{user}"  # noqa: S108 - the private system's own


def kill_in(system: PrivateSystem, user: int) -> None:
    """kill -9 of the daemon that *user* has started, to its end."""
    script = f"pid=$(cat {_pidfile(user)}) && kill -9 $pid && while [ -d /proc/$pid ]; do sleep 0.05; done"
    assert system.run("sh", "-c", script).returncode == 0


def test_a_plain_user_replaces_his_own(system: PrivateSystem) -> None:
    assert mount_in(system, NOBODY).returncode == 0
    kill_in(system, NOBODY)
    done = mount_in(system, NOBODY)
    assert_refused(done, 2, "mnt: a dead mount of", "vmcorefs umount mnt")
    done = mount_in(system, NOBODY, "--replace-stale")
    assert done.returncode == 0, words(done)
    assert len(system.rows()) == 1
    assert system.run("cat", "mnt/vmcore", user=NOBODY).returncode == 0
    kill_in(system, NOBODY)
    assert system.run("vmcorefs", "umount", "mnt", user=NOBODY).returncode == 0
    assert system.rows() == []
    assert os.listdir(system.path(f"/tmp/vmcorefs-{NOBODY}")) == []  # noqa: S108


@pytest.mark.parametrize(("owner", "other"), [(NOBODY, 0), (0, NOBODY), (NOBODY, NOBODY - 1)])
@pytest.mark.parametrize("words_", [[], ["-o", "allow_other"]], ids=["", "allow_other"])
def test_never_another_user_s(system: PrivateSystem, owner: int, other: int, words_: list[str]) -> None:
    """Not even root's --replace-stale; root has umount for that."""
    system.write("/etc/fuse.conf", "user_allow_other\n")
    done = mount_in(system, owner, *words_)
    assert done.returncode == 0, words(done)
    kill_in(system, owner)
    done = mount_in(system, other, "--replace-stale")
    assert_refused(done, 2, "mnt: ", "vmcorefs umount mnt")
    assert len(system.rows()) == 1
    done = system.run("vmcorefs", "umount", "mnt", user=other)
    if other == 0:
        assert done.returncode == 0, words(done)
        assert system.rows() == []
    else:
        assert done.returncode == 3, words(done)
        assert "only its owner or root may" in words(done)
        assert len(system.rows()) == 1
