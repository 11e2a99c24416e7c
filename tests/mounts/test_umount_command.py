"""vmcorefs umount: returns when the image is released, says who holds the mount otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.builders import Built
from tests.conftest import Mounting
from tests.mounts.faulty_image import faulty_image
from tests.mounts.mounting import (
    TIMEOUT,
    Mounted,
    assert_refused,
    daemons_of,
    need_mounts,
    need_root,
    row_of,
    run,
    wait_until,
    words,
)


@pytest.fixture
def backend() -> str:
    """The bindings make no difference here; that umount works with either is checked wherever one is mounted."""
    need_mounts()
    return "auto"


def test_it_returns_when_the_daemon_is_gone(machine: Built, mounted: Mounting) -> None:
    mount = mounted(machine.image)
    daemon = mount.daemon
    done = run("umount", mount.where)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    state = Path(f"/proc/{daemon}/stat")
    # whoever is its parent now may not have reaped it yet; its descriptors are closed, its memory is free
    assert not state.exists() or state.read_bytes().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    assert row_of(mount.where) is None
    assert list(mount.where.iterdir()) == []


def test_it_waits_for_a_slow_daemon(machine: Built, mounted: Mounting) -> None:
    """Stopped for a moment: the mount goes at once, the daemon and with it the image only later."""
    mount = mounted(machine.image)
    daemon = mount.daemon
    os.kill(daemon, signal.SIGSTOP)
    timer = threading.Timer(1.0, os.kill, (daemon, signal.SIGCONT))
    timer.start()
    done = run("umount", mount.where)
    timer.join()
    assert done.returncode == 0, words(done)
    assert daemons_of(mount.where) == []


HOLDERS = {
    "an open file": 'exec 3< "$1/vmcore"; echo; read line',
    "its working directory": 'cd "$1"; echo; read line',
    "an open directory": 'exec 3< "$1"; echo; read line',
}
MAPPING = """
import mmap, sys
with open(sys.argv[1] + "/vmcore", "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", [*HOLDERS, "a mapping"])
def test_a_busy_mount(machine: Built, mounted: Mounting, kind: str) -> None:
    mount = mounted(machine.image)
    command = [sys.executable, "-c", MAPPING] if kind == "a mapping" else ["sh", "-c", HOLDERS[kind], "sh"]
    with subprocess.Popen([*command, mount.where], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        name = Path(f"/proc/{holder.pid}/comm").read_text(encoding="ascii").strip()
        assert_refused(run("umount", mount.where), 1, str(mount.where), "in use", f"{name} (pid {holder.pid})",
                       f"vmcorefs umount --lazy {mount.where}")
        assert mount.lives()
        holder.communicate(b"\n", timeout=TIMEOUT)
    assert run("umount", mount.where).returncode == 0


def test_lazy(machine: Built, machine_data: bytes, mounted: Mounting) -> None:
    """Open files go on working; the daemon ends with the last one."""
    mount = mounted(machine.image)
    descriptor = os.open(mount.vmcore, os.O_RDONLY)
    try:
        daemon = mount.daemon
        done = run("umount", "--lazy", mount.where)
        assert (done.returncode, done.stderr) == (0, b"")
        assert row_of(mount.where) is None
        assert list(mount.where.iterdir()) == []
        assert os.pread(descriptor, len(machine_data), 0) == machine_data
        assert daemons_of(mount.where) == [daemon]
    finally:
        os.close(descriptor)
    wait_until(lambda: not daemons_of(mount.where), "the daemon's end")


def test_lazy_of_an_idle_mount(machine: Built, mounted: Mounting) -> None:
    mount = mounted(machine.image)
    assert run("umount", "--lazy", mount.where).returncode == 0
    wait_until(lambda: not daemons_of(mount.where), "the daemon's end")


def test_several_at_once(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    mounts = [mounted(machine.image, where=tmp_path / name) for name in ("a", "b")]
    assert run("umount", *(mount.where for mount in mounts)).returncode == 0
    assert [row_of(mount.where) for mount in mounts] == [None, None]


def test_one_of_several_is_wrong(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """The others are unmounted all the same."""
    mount = mounted(machine.image)
    assert_refused(run("umount", tmp_path, mount.where), 2, str(tmp_path))
    assert row_of(mount.where) is None


def test_what_is_no_vmcorefs_mount(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", Path("/"), Path("/proc"), Path("/absent/a")):
        assert_refused(run("umount", path), 2, str(path), "not a vmcorefs mount")
    assert os.path.ismount("/proc")


def test_another_fuse_mount_stays(machine: Built, tmp_path: Path) -> None:
    with faulty_image(machine.image, tmp_path) as disk:
        for option in ((), ("--lazy",)):
            assert_refused(run("umount", *option, disk.path.parent), 2, "not a vmcorefs mount", "fuse.faulty")
        assert disk.path.exists()


def test_no_mount_point_given() -> None:
    assert_refused(run("umount"), 2, "MOUNTPOINT")


def test_something_mounted_on_top(machine: Built, mounted: Mounting) -> None:
    """What is on top is no vmcorefs mount; it is not touched, nor what is below it."""
    need_root()
    mount = mounted(machine.image)
    subprocess.run(["mount", "-t", "tmpfs", "top", mount.where], check=True, timeout=TIMEOUT)
    assert_refused(run("umount", mount.where), 2, "not a vmcorefs mount", "tmpfs")
    subprocess.run(["umount", mount.where], check=True, timeout=TIMEOUT)
    assert mount.lives()


def _records() -> list[Path]:
    return sorted(Path("/run/vmcorefs").glob("*.json"))


def test_the_record(machine: Built, mounted: Mounting) -> None:
    """As long as the mount; nobody else may read it."""
    need_root()
    mount = mounted(machine.image)
    row = row_of(mount.where)
    assert row is not None
    path = Path("/run/vmcorefs") / f"{row.device}.json"
    record = json.loads(path.read_text(encoding="ascii"))
    assert (record["pid"], record["mountpoint"], record["capture"]["image"]) == (mount.daemon, str(mount.where), str(machine.image))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert run("umount", mount.where).returncode == 0
    assert path not in _records()


def test_a_lost_record(machine: Built, mounted: Mounting) -> None:
    """Then umount cannot wait, nothing else is lost."""
    need_root()
    mount = mounted(machine.image)
    row = row_of(mount.where)
    assert row is not None
    (Path("/run/vmcorefs") / f"{row.device}.json").unlink()
    assert run("umount", mount.where).returncode == 0
    wait_until(lambda: not daemons_of(mount.where), "the daemon's end")


def test_the_record_of_a_killed_daemon_is_no_harm(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """Its device number is given to the next mount."""
    need_root()
    first: Mounted = mounted(machine.image, where=tmp_path / "a")
    os.kill(first.daemon, signal.SIGKILL)
    wait_until(lambda: not daemons_of(first.where), "the daemon's end")
    assert run("umount", first.where).returncode == 0
    second = mounted(machine.image, where=tmp_path / "b")
    assert run("info", second.where).returncode == 0
    assert run("umount", second.where).returncode == 0
    assert daemons_of(second.where) == []


def test_root_does_not_hang_on_what_others_left(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """In the temporary directory anybody may make vmcorefs-UID/MAJOR:MINOR.json: a FIFO, say."""
    need_root()
    mount = mounted(machine.image)
    row = row_of(mount.where)
    assert row is not None
    (Path("/run/vmcorefs") / f"{row.device}.json").unlink()
    foreign = tmp_path / "tmp" / "vmcorefs-65534"
    foreign.mkdir(parents=True)
    os.mkfifo(foreign / f"{row.device}.json")
    done = run("umount", mount.where, env={"TMPDIR": str(tmp_path / "tmp")}, timeout=10)
    assert done.returncode == 0, words(done)


def test_root_does_not_trust_another_users_record(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """With a record of somebody else, info of root's mount would read whatever file that names."""
    need_root()
    mount = mounted(machine.image)
    row = row_of(mount.where)
    assert row is not None
    own = Path("/run/vmcorefs") / f"{row.device}.json"
    record = json.loads(own.read_text(encoding="ascii"))
    own.unlink()
    record["capture"]["image"] = str(tmp_path / "somebody-elses-choice")
    foreign = tmp_path / "tmp" / "vmcorefs-65534"
    foreign.mkdir(parents=True)
    (foreign / own.name).write_text(json.dumps(record), encoding="ascii")
    for path in (foreign, foreign / own.name):
        os.chown(path, 65534, 65534)
    done = run("info", mount.where, env={"TMPDIR": str(tmp_path / "tmp")})
    assert "somebody-elses-choice" not in words(done)
