"""vmcorefs list: every mount with its counters and readers; a dead, stopped or hung one cannot hold it up."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Built, Machine
from tests.conftest import Mounting
from tests.mounts import mounting
from tests.mounts.bad_bytes import in_vmcore, try_pread
from tests.mounts.faulty_image import faulty_image
from tests.mounts.mounting import (
    TIMEOUT,
    Mounted,
    assert_refused,
    command_line,
    daemons_of,
    marked_processes,
    need_mounts,
    need_root,
    row_of,
    run,
    unmount,
    wait_until,
    words,
)
from tests.mounts.private_system import NOBODY, PrivateSystem, private_system
from vmcorefs.fs.listing import list_vmcorefs

MIB = 1 << 20
QUICK = 8.0  # seconds that list may take on a busy machine, of which it waits one for an answer

HEADINGS = ["MOUNTPOINT", "STATE", "MODE", "SIZE", "READS", "BYTES", "ERRORS", "MEMORY", "AGE", "OWNER", "SOURCE", "READERS"]


@pytest.fixture
def backend() -> str:
    """The bindings make no difference here."""
    need_mounts()
    return "auto"


def listed_all(where: Path, *, held_up: bool = False) -> list[dict[str, Any]]:
    """All mounts at *where*, in order; there may be others on this system. *held_up*: something might hang; in a process of its
    own then.
    """
    if not held_up:
        mounts = [mount.as_dict() for mount in list_vmcorefs()]
    else:
        done = run("list", "--json", timeout=QUICK)
        assert (done.returncode, done.stderr) == (0, b""), words(done)
        mounts = json.loads(done.stdout)
    return [mount for mount in mounts if mount["mountpoint"] == str(where)]


def listed(where: Path, *, held_up: bool = False) -> dict[str, Any]:
    (mount,) = listed_all(where, held_up=held_up)
    return mount


def in_table(where: Path) -> str:
    """The row of the mount at *where*."""
    done = run("list")
    assert (done.returncode, done.stderr) == (0, b""), words(done)
    header, *rows = done.stdout.decode().splitlines()
    assert header.split() == HEADINGS
    (row,) = [row for row in rows if row.startswith(f"{where} ")]
    return row


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T", "the stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_mount(machine: Built, machine_data: bytes, mounted: Mounting) -> None:
    before = time.time()
    mount = mounted(machine.image)
    after = time.time()
    first = listed(mount.where, held_up=True)
    assert set(first) == {"mountpoint", "source", "state", "mode", "size", "reads", "bytes", "errors", "memory", "readers", "pid", "uid",
                          "since"}
    assert (first["source"], first["state"], first["mode"], first["size"]) == (str(machine.image), "ok", "kdump", len(machine_data))
    assert (first["reads"], first["bytes"], first["errors"], first["readers"]) == (0, 0, 0, [])
    assert (first["pid"], first["uid"]) == (mount.daemon, os.geteuid())
    assert before <= first["since"] <= after
    resident = int(Path(f"/proc/{mount.daemon}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert abs(first["memory"] - resident) < 2 * MIB
    with mount.vmcore.open("rb", buffering=0) as file:
        assert file.read(100) == machine_data[:100]
        assert len(os.pread(file.fileno(), 5000, 300)) == 5000
        assert os.pread(file.fileno(), 10, len(machine_data)) == b""
    row = in_table(mount.where)
    assert row.split()[1:3] == ["ok", "kdump"]
    assert str(machine.image) in row and row.endswith(" -")
    second = listed(mount.where)
    assert (second["reads"], second["bytes"], second["errors"]) == (3, 5100, 0)


def test_errors_are_counted(machine: Built, tmp_path: Path) -> None:
    bad = ((0x700000, 0x700100),)
    with faulty_image(machine.image, tmp_path, *bad) as disk, mounting.mounted(disk.path, tmp_path / "mnt") as mount:
        ((start, end),) = in_vmcore(machine, bad)
        descriptor = os.open(mount.vmcore, os.O_RDONLY)
        try:
            assert try_pread(descriptor, 16, start) == errno.EIO
            assert try_pread(descriptor, 16, end - 16) == errno.EIO
            assert len(os.pread(descriptor, 200, start - 100)) == 100  # a short reply: the next read is the one that fails
            assert len(os.pread(descriptor, 100, end)) == 100
        finally:
            os.close(descriptor)
        found = listed(mount.where)
        assert (found["state"], found["reads"], found["bytes"], found["errors"]) == ("ok", 2, 200, 2)


def test_several_mounts_in_order(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """Those of several modes; the table is aligned."""
    plain = Machine(mode="plain").build(tmp_path)
    names = ["a", "a-much-longer-name-than-the-others"]
    mounts = [mounted(image, where=tmp_path / name) for image, name in zip((plain.image, machine.image), names, strict=True)]
    done = run("list")
    header, *rows = done.stdout.decode().splitlines()
    ours = [row for row in rows if row.startswith(f"{tmp_path}/")]
    assert [row.split()[:3] for row in ours] == [
        [str(mount.where), "ok", mode] for mount, mode in zip(mounts, ("plain", "kdump"), strict=True)]
    for row in ours:
        assert row.index(" ok ") == header.index(" STATE")
        assert row.index(f" {plain.image if 'plain' in row else machine.image}") == header.index(" SOURCE")


READERS = {
    "an open file": "import os, sys; held = os.open(sys.argv[1] + '/vmcore', os.O_RDONLY)",
    "its working directory": "import os, sys; os.chdir(sys.argv[1])",
    "its root": "import os, sys; os.chroot(sys.argv[1])",
    "a mapping": "import mmap, os, sys; f = os.open(sys.argv[1] + '/vmcore', os.O_RDONLY)\n"
                 "held = mmap.mmap(f, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ); os.close(f)\n"
                 "for name in os.listdir('/proc/self/fd'):\n"
                 "    if int(name) > 2 and os.path.exists(f'/proc/self/fd/{name}') and 'vmcore' in os.readlink(f'/proc/self/fd/{name}'):\n"
                 "        os.close(int(name))",
}


def test_readers(machine: Built, mounted: Mounting) -> None:
    """By an open file, a mapping whose file was closed, the working directory, the root. --json has them all, the table some."""
    need_root()
    mount = mounted(machine.image)
    programs = [*READERS.values(), *[READERS["an open file"]] * 3]
    holders = [subprocess.Popen([sys.executable, "-c", f"{program}\nprint(flush=True); sys.stdin.readline()", mount.where],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE) for program in programs]
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
        comm = Path(f"/proc/{holders[0].pid}/comm").read_text(encoding="ascii").strip()
        found = listed(mount.where)["readers"]
        assert sorted(found, key=lambda reader: int(reader["pid"])) == [
            {"pid": pid, "name": comm} for pid in sorted(holder.pid for holder in holders)]
        row = in_table(mount.where)
        assert row.count(f"{comm} (pid ") == 5
        assert row.endswith(" and 2 more")
    finally:
        for holder in holders:
            holder.communicate(b"\n", timeout=TIMEOUT)
    assert listed(mount.where)["readers"] == []


def test_names(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    """The table stays a line a mount and sends nothing to the terminal; JSON gives back every byte."""
    raw = b"a b\n\t\x1b[31m\x07\\ \"'\xff\xfe \xe5\x90\x8d\xe5\x89\x8d \xe2\x80\xae"
    folder = tmp_path / os.fsdecode(raw)
    folder.mkdir()
    (folder / os.fsdecode(raw)).symlink_to(machine.image)
    mount = mounted(folder / os.fsdecode(raw), where=folder / "mnt")
    done = run("list", "--json")
    (found,) = [one for one in json.loads(done.stdout) if os.fsencode(one["mountpoint"]) == os.fsencode(mount.where)]
    assert os.fsencode(found["source"]) == os.fsencode(mount.image)
    done = run("list")
    ours = [line for line in done.stdout.split(b"\n") if line.startswith(os.fsencode(tmp_path))]
    assert len(ours) == 1
    text = ours[0].decode()
    assert text.isprintable()
    assert "a b\\n\\t\\x1b[31m" in text and "名前 \\xe2\\x80\\xae" in text


def test_stacked_mounts(machine: Built, machine_data: bytes, mounted: Mounting, tmp_path: Path) -> None:
    """Two at one place: each with its own counters. What lies below another file system is not asked, but listed."""
    need_root()
    below = mounted(machine.image)
    above = mounted(machine.image, where=tmp_path / "above")
    assert below.vmcore.read_bytes() == machine_data
    subprocess.run(["mount", "--move", above.where, below.where], check=True, timeout=TIMEOUT)
    first, second = listed_all(below.where)
    assert (first["state"], first["bytes"], second["state"], second["bytes"]) == ("ok", len(machine_data), "ok", 0)
    subprocess.run(["mount", "-t", "tmpfs", "top", below.where], check=True, timeout=TIMEOUT)
    try:
        assert [one["bytes"] for one in listed_all(below.where)] == [len(machine_data), 0]
        assert row_of(below.where).type == "tmpfs"  # type: ignore[union-attr]
    finally:
        subprocess.run(["umount", below.where], check=True, timeout=TIMEOUT)
    assert unmount(below.where).returncode == 0
    wait_until(lambda: not daemons_of(above.where), "the daemon's end")
    assert listed(below.where)["bytes"] == len(machine_data)


def test_without_psutil(machine: Built, mounted: Mounting, tmp_path: Path) -> None:
    (tmp_path / "psutil.py").write_text("raise ImportError\n", encoding="ascii")
    mount = mounted(machine.image)
    with mount.vmcore.open("rb"):
        done = run("list", "--json", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, words(done)
    (found,) = [one for one in json.loads(done.stdout) if one["mountpoint"] == str(mount.where)]
    assert found["memory"] > 5 * MIB
    assert found["readers"] == [{"pid": os.getpid(), "name": Path("/proc/self/comm").read_text(encoding="utf-8").strip()}]


def test_standard_output_is_full() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "vmcorefs", "list", "--json"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"No space left" in done.stderr


def test_it_takes_no_mount_point(tmp_path: Path) -> None:
    assert_refused(run("list", tmp_path), 2, "one argument too many", "vmcorefs list --help")


# -- dead, stopped, hung -----------------------------------------------------------------------------------------------


def test_a_dead_mount(machine: Built, machine_data: bytes, mounted: Mounting) -> None:
    """What was counted outlives the daemon; who still has a file open is named."""
    mount = mounted(machine.image)
    descriptor = os.open(mount.vmcore, os.O_RDONLY)
    try:
        assert os.pread(descriptor, 1000, 0) == machine_data[:1000]
        os.kill(mount.daemon, signal.SIGKILL)
        wait_until(lambda: not daemons_of(mount.where), "the daemon's end")
        found = listed(mount.where, held_up=True)
        assert (found["state"], found["reads"], found["bytes"], found["errors"]) == ("dead", 1, 1000, 0)
        assert (found["pid"], found["memory"], found["size"], found["mode"]) == (None, None, len(machine_data), "kdump")
        assert [reader["pid"] for reader in found["readers"]] == [os.getpid()]
        assert in_table(mount.where).split()[1:3] == ["dead", "kdump"]
    finally:
        with suppress(OSError):  # the kernel tells the daemon about it, which is gone
            os.close(descriptor)
    assert run("umount", mount.where).returncode == 0
    assert listed_all(mount.where) == []


def test_a_dead_mount_without_a_record(machine: Built, mounted: Mounting) -> None:
    need_root()
    mount = mounted(machine.image)
    os.kill(mount.daemon, signal.SIGKILL)
    wait_until(lambda: not daemons_of(mount.where), "the daemon's end")
    remove_record(mount)
    found = listed(mount.where)
    assert (found["state"], found["reads"], found["size"], found["since"]) == ("dead", None, None, None)


def remove_record(mount: Mounted) -> None:
    row = row_of(mount.where)
    assert row is not None
    for name in ("json", "counters"):
        Path(f"/run/vmcorefs/{row.device}.{name}").unlink()


def test_a_stopped_mount(machine: Built, mounted: Mounting, waiting: Callable[[Mounted], int]) -> None:
    """It is not asked anything: no request waits for the daemon, whatever hangs in it already."""
    mount = mounted(machine.image)
    with stopped(mount.daemon):
        found = listed(mount.where, held_up=True)
        assert (found["state"], found["reads"], found["pid"]) == ("stopped", 0, mount.daemon)
        assert waiting(mount) == 0
        with reading(mount) as reader:
            wait_until(lambda: waiting(mount) == 1, "a reader that hangs")
            assert in_table(mount.where).split()[1] == "stopped"
            assert waiting(mount) == 1
            reader.kill()
    assert listed(mount.where)["state"] == "ok"


@contextmanager
def reading(mount: Mounted) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["dd", f"if={mount.vmcore}", "of=/dev/null", "skip=4096"], stderr=subprocess.DEVNULL) as reader:
        try:
            yield reader
        finally:
            reader.kill()


def test_a_stopped_mount_without_a_record(machine: Built, mounted: Mounting, waiting: Callable[[Mounted], int]) -> None:
    """It is asked, and then given up."""
    need_root()
    mount = mounted(machine.image)
    remove_record(mount)
    found = listed(mount.where)
    assert (found["state"], found["reads"], found["size"]) == ("ok", None, None)
    with stopped(mount.daemon):
        assert listed(mount.where, held_up=True)["state"] == "hung"
    wait_until(lambda: waiting(mount) == 0, "the end of the question")


def test_a_hung_mount(machine: Built, tmp_path: Path, waiting: Callable[[Mounted], int]) -> None:
    """Its daemon waits for a disk that does not answer."""
    with faulty_image(machine.image, tmp_path) as disk, mounting.mounted(disk.path, tmp_path / "mnt") as mount:
        (disk_daemon,) = [pid for pid in marked_processes() if os.fsencode(tmp_path / "disk") in command_line(pid)]
        with stopped(disk_daemon), reading(mount) as reader:
            wait_until(lambda: waiting(mount) == 1, "a reader that hangs")
            assert listed(mount.where, held_up=True)["state"] == "hung"
            os.kill(disk_daemon, signal.SIGCONT)
            reader.wait(TIMEOUT)
        assert listed(mount.where)["state"] == "ok"


MAPS = """
import mmap, os, sys
with open("/proc/self/comm", "w") as file:
    file.write("a-debugger-with-a-long-name")
file = os.open(sys.argv[1], os.O_RDONLY)
mapped = [mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)] if sys.argv[2] == "touch" else []
print(flush=True)
sys.stdin.readline()
mapped.append(mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)) if not mapped else mapped[0][1 << 20]
"""


def test_readers_that_hang_with_their_memory_map_locked(machine: Built, mounted: Mounting) -> None:
    """One touches a page of its mapping, for which the daemon never answers; the next mmap() waits for that page, and keeps
    /proc/PID/cmdline (before Linux 6.17 /proc/PID/maps, too) from being read.
    """
    mount = mounted(machine.image)
    hanging = [subprocess.Popen([sys.executable, "-c", MAPS, mount.vmcore, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
               for how in ("touch", "mmap")]
    try:
        for process in hanging:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
        with stopped(mount.daemon):
            for process in hanging:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                process.stdin.flush()
                stat = Path(f"/proc/{process.pid}/stat")
                wait_until(lambda stat=stat: stat.read_bytes().rpartition(b")")[2].split()[0] == b"D", "the hang")  # type: ignore[misc]
            found = listed(mount.where, held_up=True)
            assert sorted(reader["pid"] for reader in found["readers"]) == sorted(process.pid for process in hanging)
            assert {reader["name"] for reader in found["readers"]} == {"a-debugger-with"}
    finally:
        for process in hanging:
            process.communicate(b"", timeout=TIMEOUT)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[[Mounted], int]]:
    """How many requests wait for a mount's daemon, as the kernel has it."""
    need_root()
    control = tmp_path / "connections"
    control.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "none", control], check=True, timeout=TIMEOUT)

    def count(mount: Mounted) -> int:
        row = row_of(mount.where)
        assert row is not None
        return int((control / row.device.partition(":")[2] / "waiting").read_text(encoding="ascii"))

    try:
        yield count
    finally:
        subprocess.run(["umount", control], check=True, timeout=TIMEOUT)


# -- other users -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystem]:
    folder = tmp_path_factory.mktemp("listed")
    Machine(body_pages="all").build(folder).image.chmod(0o644)
    (folder / "mnt").mkdir()
    os.chown(folder / "mnt", NOBODY, NOBODY)
    with private_system(folder) as system:
        yield system


@pytest.fixture
def system(running: PrivateSystem) -> Iterator[PrivateSystem]:
    yield running
    for row in running.rows():
        assert running.run("umount", row.where).returncode == 0


def listed_in(system: PrivateSystem, user: int = 0) -> list[dict[str, Any]]:
    done = system.run("vmcorefs", "list", "--json", user=user)
    assert (done.returncode, done.stderr) == (0, b""), words(done)
    mounts = json.loads(done.stdout)
    assert isinstance(mounts, list)
    return mounts


def mount_in(system: PrivateSystem, user: int, *options: str) -> None:
    done = system.run("vmcorefs", "mount", "oldmem.img", "mnt", *options, user=user)
    assert done.returncode == 0, words(done)


def test_no_mounts(system: PrivateSystem) -> None:
    done = system.run("vmcorefs", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert listed_in(system) == []


def test_a_plain_users_mount_seen_by_all(system: PrivateSystem) -> None:
    """Its owner and root see everything; another user sees that it is there, and not more."""
    mount_in(system, NOBODY)
    (own,) = listed_in(system, NOBODY)
    assert (own["state"], own["mode"], own["reads"], own["uid"], own["readers"]) == ("ok", "kdump", 0, NOBODY, [])
    assert own["memory"] > 5 * MIB
    (by_root,) = listed_in(system)
    assert by_root | {"memory": own["memory"]} == own
    row = system.run("vmcorefs", "list").stdout.decode().splitlines()[1]
    assert " nobody " in row
    (by_other,) = listed_in(system, NOBODY - 1)
    assert (by_other["mountpoint"], by_other["state"]) == (own["mountpoint"], "unknown")
    assert {by_other[key] for key in ("mode", "size", "reads", "bytes", "errors", "memory", "pid", "since")} == {None}


def test_root_without_a_record_knows_nothing_of_a_users_mount(system: PrivateSystem) -> None:
    """It might be dead: root may not ask it, either."""
    mount_in(system, NOBODY)
    (row,) = system.rows()
    system.path(f"/tmp/vmcorefs-{NOBODY}/{row.device}.json").unlink()  # noqa: S108 - of the private system
    (found,) = listed_in(system)
    assert found["state"] == "unknown"


def test_roots_mount_seen_by_a_plain_user(system: PrivateSystem) -> None:
    """With allow_other he may ask it."""
    mount_in(system, 0, "-o", "allow_other,mode=0444")
    (found,) = listed_in(system, NOBODY)
    assert (found["state"], found["uid"], found["reads"], found["mode"]) == ("ok", 0, None, None)


FORGED: dict[str, Any] = {
    "terminal control": {"served": {"mode": "\x1b[31m\n", "size": 5}},
    "wrong types": {"served": {"mode": ["x"], "size": True}, "since": "yesterday"},
    "numbers beyond all bounds": {"served": {"mode": "x" * 100_000, "size": 10**4000}, "since": float("inf")},
    "negative ones": {"served": {"size": -1}, "since": float("nan")},
}


def test_forged_records(system: PrivateSystem) -> None:
    """A user can write there what he likes, and root reads it: it takes no time, and nothing is believed that cannot be."""
    mount_in(system, NOBODY)
    (row,) = system.rows()
    folder = system.path(f"/tmp/vmcorefs-{NOBODY}")  # noqa: S108 - of the private system
    record, counters = folder / f"{row.device}.json", folder / f"{row.device}.counters"
    good = json.loads(record.read_text(encoding="ascii"))
    started = int(system.path("/proc/1/stat").read_bytes().rpartition(b")")[2].split()[19])

    def text(content: object) -> None:
        record.write_text(content if isinstance(content, str) else json.dumps(content), encoding="ascii")

    def huge() -> None:
        record.touch()
        os.truncate(record, 1 << 40)

    def fifos() -> None:
        counters.unlink()
        for path in (record, counters):
            os.mkfifo(path)

    cases: dict[str, Callable[[], None]] = {
        "another process": lambda: text(good | {"pid": 1, "started": started}),
        **{name: functools.partial(text, good | change) for name, change in FORGED.items()},
        "lists in lists": lambda: text("[" * 100_000),
        "a huge file": huge,
        "a link": lambda: record.symlink_to("/etc/shadow"),
        "FIFOs": fifos,
        "a directory": record.mkdir,
    }
    for what, forge in cases.items():
        record.unlink()
        forge()
        for path in (record, counters):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        start = time.monotonic()
        (found,) = listed_in(system)
        assert time.monotonic() - start < QUICK, what
        assert found["state"] in {"ok", "unknown"}, what
        assert found["pid"] in {None, good["pid"]}, what
        assert found["since"] in {None, good["since"]}, what
        assert found["size"] in {None, good["served"]["size"], 5}, what
        if what == "terminal control":
            table = system.run("vmcorefs", "list").stdout.decode()
            assert len(table.splitlines()) == 2
            assert table.replace("\n", "").isprintable()
    record.rmdir()
