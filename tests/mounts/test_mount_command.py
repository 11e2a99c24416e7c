"""vmcorefs mount: when it returns, what its daemon holds, how it ends, what it refuses."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.conftest import Mounting
from tests.mounts.faulty_image import faulty_image
from tests.mounts.mounting import (
    PROGRAM,
    TIMEOUT,
    assert_refused,
    clear,
    daemons_of,
    in_foreground,
    mounted,
    need_mounts,
    need_root,
    read_errno,
    row_of,
    run,
    stat_errno,
    wait_until,
    words,
)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """An empty directory, for tests that mount there themselves or not at all."""
    need_mounts()
    path = tmp_path / "mnt"
    path.mkdir()
    return path


def close(descriptor: int) -> None:
    """The kernel tells a dead mount's daemon about it, which is an error, but the descriptor is closed."""
    with suppress(OSError):
        os.close(descriptor)


# -- in the background -------------------------------------------------------------------------------------------------


def test_it_answers_as_soon_as_mount_returns(machine: Built, machine_data: bytes, backend: str, where: Path) -> None:
    script = '"$@" && dd if="$OUT/vmcore" bs=64 count=1 status=none'
    done = subprocess.run(["sh", "-c", script, "sh", *PROGRAM, "mount", "--backend", backend, machine.image, where],
                          capture_output=True, check=False, timeout=TIMEOUT, env=os.environ | {"OUT": str(where)})
    clear(where)
    assert done.stdout == machine_data[:64], done.stderr


def test_it_says_in_one_line_which_system_is_served(machine: Built, where: Path) -> None:
    with mounted(machine.image, where) as mount:
        said = mount.said.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"vmcorefs: {machine.image}: kdump mode: served is the crashed (production) system; ")


def test_the_daemon_holds_nothing_but_its_own(machine: Built, mounted: Mounting) -> None:
    mount = mounted(machine.image)
    base = Path(f"/proc/{mount.daemon}")
    assert os.readlink(base / "cwd") == "/"
    targets = sorted(os.readlink(descriptor) for descriptor in (base / "fd").iterdir())
    others = [target for target in targets if target not in {"/dev/null", "/dev/fuse", str(machine.image)}]
    assert targets.count("/dev/null") == 3
    assert targets.count("/dev/fuse") == targets.count(str(machine.image)) == 1
    assert len(others) <= 3
    assert all(target.startswith(("socket:", "/memfd:vmcorefs", "/run/vmcorefs/")) for target in others), \
        "the log, what is still being made, the counters"

    def threads() -> str:
        return dict(line.split(":\t", 1) for line in (base / "status").read_text(encoding="ascii").splitlines())["Threads"]

    wait_until(lambda: int(threads()) == 2, "the one that serves and the one that waits for signals")
    assert os.getsid(mount.daemon) == mount.daemon != os.getsid(0)


def test_an_inherited_pipe_is_closed(machine: Built, backend: str, where: Path) -> None:
    """Whoever waits for the end of that pipe must not wait for the end of the mount."""
    read_end, write_end = os.pipe()
    try:
        done = run("mount", "--backend", backend, machine.image, where, pass_fds=(write_end,))
        os.close(write_end)
        assert done.returncode == 0
        assert select.select([read_end], [], [], 5)[0] == [read_end]
        assert os.read(read_end, 1) == b""
        assert stat_errno(where / "vmcore") == 0
    finally:
        os.close(read_end)
        clear(where)


@pytest.mark.parametrize("redirection", ["| cat", "2>&1 | cat", "2>&1 | tail -n 1"])
def test_a_pipe_behind_it_ends(machine: Built, where: Path, redirection: str) -> None:
    script = f'"$0" "$@" {redirection}'
    command: list[str | Path] = ["sh", "-c", script, *PROGRAM, "mount", machine.image, where]
    done = subprocess.run(command, capture_output=True, check=True, timeout=20)
    assert (b"kdump mode" in done.stdout) == ("2>&1" in redirection)
    assert stat_errno(where / "vmcore") == 0
    assert run("umount", where).returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_with_closed_standard_descriptors(machine: Built, machine_data: bytes, where: Path, closed: str) -> None:
    """cron and init scripts do that. The image must not get one of their numbers."""
    done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', *PROGRAM, "mount", machine.image, where],
                          capture_output=True, check=False, timeout=TIMEOUT)
    try:
        assert done.returncode == 0, done.stderr
        assert (where / "vmcore").read_bytes() == machine_data
    finally:
        clear(where)


def test_the_folder_it_was_started_in_may_go(machine: Built, tmp_path: Path, where: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "image").symlink_to(machine.image)
    assert run("mount", "image", "../mnt", cwd=folder).returncode == 0
    (folder / "image").unlink()
    folder.rmdir()
    assert read_errno(where / "vmcore") == 0
    assert run("umount", "mnt", cwd=tmp_path).returncode == 0
    assert row_of(where) is None


def test_mounted_again_and_again(machine: Built, machine_data: bytes, backend: str, where: Path) -> None:
    for _ in range(2):
        with mounted(machine.image, where, backend=backend) as mount:
            assert mount.vmcore.read_bytes() == machine_data
            assert run("umount", where).returncode == 0
            assert daemons_of(where) == [], "umount returned before the daemon had ended"
        assert list(where.iterdir()) == []


def test_one_image_mounted_twice(machine: Built, machine_data: bytes, tmp_path: Path) -> None:
    with mounted(machine.image, tmp_path / "a", backend="fusepy") as one:
        with mounted(machine.image, tmp_path / "b", "--io", "cached") as other:
            assert one.vmcore.read_bytes() == other.vmcore.read_bytes() == machine_data
        assert one.vmcore.read_bytes() == machine_data


def test_the_two_libraries(machine: Built, mounted: Mounting, backend: str) -> None:
    maps = Path(f"/proc/{mounted(machine.image).daemon}/maps").read_text(encoding="utf-8")
    assert ("libfuse3.so" in maps) == (backend == "mfusepy")
    assert ("libfuse.so.2" in maps) == (backend == "fusepy")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts(machine: Built, mounted: Mounting, number: signal.Signals) -> None:
    mount = mounted(machine.image)
    os.kill(mount.daemon, number)
    wait_until(lambda: row_of(mount.where) is None and not daemons_of(mount.where), "the unmount", timeout=5)


# -- in the foreground -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("reader", [False, True], ids=["idle", "open"])
def test_a_signal_ends_the_foreground(machine: Built, machine_data: bytes, backend: str, tmp_path: Path, number: signal.Signals,
                                      *, reader: bool) -> None:
    where = tmp_path / "mnt"
    with in_foreground(machine.image, where, backend=backend) as process:
        descriptor = os.open(where / "vmcore", os.O_RDONLY) if reader else None
        if descriptor is not None:
            assert os.pread(descriptor, 100, 0) == machine_data[:100]
        process.send_signal(number)
        try:
            assert process.wait(timeout=2) == 0
            assert row_of(where) is None
            assert list(where.iterdir()) == []
            if descriptor is not None:
                with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
                    os.pread(descriptor, 100, 0)
        finally:
            if descriptor is not None:
                close(descriptor)
        _, said = process.communicate()
        assert b"Traceback" not in said
        assert b"error" not in said


def test_ignored_signals_still_unmount(machine: Built, tmp_path: Path) -> None:
    """A shell's background job has SIGINT ignored; libfuse leaves ignored signals alone."""
    where = tmp_path / "mnt"
    where.mkdir()
    script = 'trap "" INT HUP TERM; exec "$@"'
    process = subprocess.Popen(["sh", "-c", script, "sh", *PROGRAM, "mount", "-f", machine.image, where],
                               stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: row_of(where) is not None and stat_errno(where / "vmcore") == 0, "the mount")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 0
    finally:
        clear(where)
        process.kill()
        process.wait()


def test_umount_ends_the_foreground(machine: Built, backend: str, tmp_path: Path) -> None:
    with in_foreground(machine.image, tmp_path / "mnt", backend=backend) as process:
        assert run("umount", tmp_path / "mnt").returncode == 0
        assert process.wait(timeout=2) == 0


def test_other_peoples_umount_ends_the_foreground(machine: Built, backend: str, tmp_path: Path) -> None:
    need_root()
    with in_foreground(machine.image, tmp_path / "mnt", backend=backend) as process:
        subprocess.run(["umount", tmp_path / "mnt"], check=True, timeout=TIMEOUT)
        assert process.wait(timeout=2) == 0


# -- a daemon that was killed ------------------------------------------------------------------------------------------


def test_a_killed_daemon_leaves_a_dead_mount(machine: Built, backend: str, where: Path) -> None:
    """Never an empty folder. Mounting there again is refused and names what clears it; umount clears it."""
    with mounted(machine.image, where, backend=backend) as mount:
        assert (stat_errno(where), stat_errno(mount.vmcore)) == (0, 0)  # from now on the kernel has the answers
        descriptor = os.open(mount.vmcore, os.O_RDONLY)
        daemon = mount.daemon
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: not daemons_of(where), "the daemon's end")
        try:
            with pytest.raises(OSError, match=f"{os.strerror(errno.ENOTCONN)}|{os.strerror(errno.ECONNABORTED)}"):
                os.pread(descriptor, 100, 0)
        finally:
            close(descriptor)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(where)
        assert read_errno(mount.vmcore) == errno.ENOTCONN
        assert row_of(where) is not None
        assert_refused(run("mount", machine.image, where), 2, str(where), "dead", f"vmcorefs umount {where}")
        assert_refused(run("info", where), 2, str(where), "dead")
        assert run("umount", where).returncode == 0
        assert row_of(where) is None
        assert list(where.iterdir()) == []


def test_a_killed_foreground_leaves_a_dead_mount(machine: Built, where: Path) -> None:
    with in_foreground(machine.image, where) as process:
        process.kill()
        process.wait()
        assert read_errno(where / "vmcore") == errno.ENOTCONN
        assert_refused(run("mount", machine.image, where), 2, "dead", "vmcorefs umount")
        assert run("umount", where).returncode == 0


def test_nothing_below_a_dead_mount(machine: Built, where: Path) -> None:
    with mounted(machine.image, where) as mount:
        os.kill(mount.daemon, signal.SIGKILL)
        wait_until(lambda: not daemons_of(where), "the daemon's end")
        assert_refused(run("mount", machine.image, where / "x"), 2, str(where / "x"))
        (where.parent / "other").mkdir()
        assert_refused(run("mount", where / "vmcore", where.parent / "other"), 2, str(where / "vmcore"))


def test_a_stopped_daemon_is_not_waited_for_for_ever(machine: Built, where: Path) -> None:
    with mounted(machine.image, where) as mount:
        daemon = mount.daemon
        os.kill(daemon, signal.SIGSTOP)
        try:
            refused = run("mount", machine.image, where, timeout=20)
            assert_refused(refused, 2, str(where), "is mounted there and does not answer", "vmcorefs umount")
            assert run("umount", "--lazy", where).returncode == 0
            assert row_of(where) is None
        finally:
            os.kill(daemon, signal.SIGCONT)
        wait_until(lambda: not Path(f"/proc/{daemon}/cmdline").exists() or not daemons_of(where), "the daemon's end")


# -- refused mount points ----------------------------------------------------------------------------------------------


def test_mount_point_is_missing(machine: Built, where: Path) -> None:
    assert_refused(run("mount", machine.image, where / "a"), 2, str(where / "a"), "does not exist", f"mkdir -p {where / 'a'}")


def test_mount_point_is_a_file(machine: Built, where: Path) -> None:
    (where / "file").touch()
    assert_refused(run("mount", machine.image, where / "file"), 2, str(where / "file"), "not a directory")
    assert_refused(run("mount", machine.image, where / "file" / "x"), 2, "not a directory")


def test_mount_point_is_not_empty(machine: Built, where: Path) -> None:
    (where / "file").touch()
    assert_refused(run("mount", machine.image, where), 2, str(where), "not empty", "file")
    assert row_of(where) is None


def test_mount_point_contains_the_image(where: Path) -> None:
    """Such a directory is not empty, either."""
    built = Machine().build(where)
    assert_refused(run("mount", built.image, where), 2, str(where), "oldmem.img", "choose an")
    assert_refused(run("mount", "oldmem.img", ".", cwd=where), 2, "oldmem.img", "choose an")
    (where.parent / "link").symlink_to(built.image)
    assert_refused(run("mount", where.parent / "link", where), 2, str(where), "choose an")
    assert row_of(where) is None


def test_mount_point_is_mounted_already(machine: Built, where: Path) -> None:
    with mounted(machine.image, where) as mount:
        for name in (where, f"{where}/."):
            assert_refused(run("mount", machine.image, name), 2, str(where), "mounted there already", "vmcorefs umount")
        assert_refused(run("mount", machine.image, mount.vmcore), 2, "not a directory")
        assert mount.lives()


def test_mount_point_is_another_mount(machine: Built, tmp_path: Path) -> None:
    """One of another FUSE file system: vmcorefs umount would not do."""
    with faulty_image(machine.image, tmp_path) as disk:
        done = run("mount", machine.image, disk.path.parent)
        assert_refused(done, 2, str(disk.path.parent))
        assert "vmcorefs umount" not in words(done), "vmcorefs umount refuses this mount"
        assert stat_errno(disk.path) == 0


def test_mount_point_is_empty_text(machine: Built) -> None:
    assert_refused(run("mount", machine.image, ""), 2, "mount point")


def test_a_link_to_a_directory_is_followed(machine: Built, machine_data: bytes, where: Path) -> None:
    link = where.parent / "link"
    link.symlink_to(where)
    assert run("mount", machine.image, link).returncode == 0
    assert row_of(where) is not None
    assert (where / "vmcore").read_bytes() == machine_data
    assert run("umount", link).returncode == 0
    assert row_of(where) is None


def test_nothing_is_mounted_when_the_image_is_refused(where: Path, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    for image in (tmp_path / "zeros", tmp_path / "absent", tmp_path):
        assert_refused(run("mount", image, where), 2)
        assert row_of(where) is None


# -- unusual names -----------------------------------------------------------------------------------------------------

NAMES = {
    "spaces and what shells like": "#1 \"two\"  'words' $HOME %s {x} ünïcødé ✓ ".encode(),
    "commas": b"a,b,,ro,fsname=x",
    "backslashes": b"a\\b\\\\c\\,d\\040e\\",
    "newline, tab, no UTF-8": b"a\nb\tc\xff\xfe\x80",
    "a dash": b"-o",
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str, machine_data: bytes, machine: Built, backend: str, where: Path) -> None:
    """As the image, its folder and the mount point."""
    text = os.fsdecode(NAMES[name])
    folder = where / text
    folder.mkdir()
    image, point = folder / text, folder / "mnt" / text
    point.mkdir(parents=True)
    image.symlink_to(machine.image)
    with mounted(image, point, backend=backend) as mount:
        assert mount.vmcore.read_bytes() == machine_data
        row = row_of(point)
        assert row is not None
        assert row.source == os.fsencode(image)
        assert row.type == "fuse.vmcorefs"
        assert len(mount.said.splitlines()) == 1
        with open(mount.vmcore, "rb"):
            busy = run("umount", point)
            assert_refused(busy, 1, f"(pid {os.getpid()})")


def test_relative_names(machine: Built, machine_data: bytes, where: Path) -> None:
    folder = where.parent
    (folder / "image").symlink_to(machine.image)
    assert run("mount", "./image", "mnt/", cwd=folder).returncode == 0
    row = row_of(where)
    assert row is not None
    assert row.source == os.fsencode(folder / "image")
    assert (where / "vmcore").read_bytes() == machine_data
    assert run("umount", "mnt/../../" + folder.name + "/mnt/", cwd=folder).returncode == 0
    assert row_of(where) is None
