"""Reading mountinfo, paths, who holds a mount."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmcorefs.fs import mounts
from vmcorefs.fs.mounts import absolute, answers, find_mount, holders, list_mounts, parse_mountinfo, process_name

# proc_pid_mountinfo(5): none, one and several optional fields
MOUNTINFO = rb"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
42 22 0:39 / /mnt/a\040b\011c\012d\134e\043f ro,nosuid,nodev,relatime - fuse.vmcorefs /im\040age\134,x ro,user_id=0
43 22 0:40 / /mnt/- ro - fuse.vmcorefs - ro
44 22 0:41 / /twice rw - tmpfs below rw
45 44 0:42 / /twice ro - fuse.vmcorefs above ro
46 22 0:43 / /""" + b"\xff\xfe" + rb""" ro - fuse.vmcorefs /x\377 ro
47 22 0:44 / /empty-source rw - tmpfs  rw
"""


def test_parse() -> None:
    entries = {entry.mountpoint: (entry.device, entry.type, entry.source) for entry in parse_mountinfo(MOUNTINFO)}
    assert entries["/"] == ("254:0", "ext4", "/dev/vda")
    assert entries["/sys"] == ("0:21", "sysfs", "sysfs")
    assert entries["/mnt2"] == ("98:0", "ext3", "/dev/root")
    assert entries["/mnt/a b\tc\nd\\e#f"] == ("0:39", "fuse.vmcorefs", "/im age\\,x")
    assert entries["/mnt/-"] == ("0:40", "fuse.vmcorefs", "-")
    assert entries[os.fsdecode(b"/\xff\xfe")][2] == os.fsdecode(b"/x\xff")
    assert entries["/empty-source"][2] == ""
    assert len(parse_mountinfo(MOUNTINFO)) == MOUNTINFO.count(b"\n")


def test_a_carriage_return_in_a_path_is_no_end_of_line() -> None:
    """The kernel escapes space, tab, newline and backslash, nothing else (fs/proc_namespace.c: mangle)."""
    entries = parse_mountinfo(b"1 2 0:1 / /a\rb\x0b\x85c rw - t s\rx rw\n3 2 0:2 / /d rw - t s rw\n")
    assert [(entry.mountpoint, entry.source) for entry in entries] == [("/a\rb\x0b\udc85c", "s\rx"), ("/d", "s")]


def test_parse_skips_what_is_no_row() -> None:
    assert parse_mountinfo(b"") == []
    assert parse_mountinfo(b"\nno row\n1 2 3:4 / /x rw without a dash\n") == []


@pytest.mark.parametrize("text", [b"\\040", b"a\\134040b", b"\\\\", b"\\8", b"\\04", b"\\0400", b"\\"])
def test_octal_escapes(text: bytes) -> None:
    wanted = {b"\\040": " ", b"a\\134040b": "a\\040b", b"\\0400": " 0"}.get(text, text.decode())
    (entry,) = parse_mountinfo(b"1 2 0:1 / /" + text + b" rw - t s rw\n")
    assert entry.mountpoint == "/" + wanted


def test_the_later_of_two_mounts_is_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "list_mounts", lambda: parse_mountinfo(MOUNTINFO))
    found = find_mount("/twice")
    assert found is not None
    assert found.source == "above"
    assert find_mount("/twic") is None
    assert find_mount("/twice/x") is None


def test_this_system() -> None:
    root = find_mount("/")
    assert root is not None
    proc = [entry for entry in list_mounts() if entry.type == "proc"]
    assert any(entry.mountpoint == "/proc" for entry in proc)


def test_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "up").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    real = os.path.realpath(tmp_path)
    for text in ("dir", "./dir", "dir/", "dir/.", "link", "link/", "up/dir", "up/link", f"{tmp_path}//dir"):
        assert absolute(text) == f"{real}/dir", text
    assert absolute("absent") == f"{real}/absent"
    assert absolute("/") == "/"
    assert absolute("/proc") == "/proc"


def test_answers(tmp_path: Path) -> None:
    assert answers(str(tmp_path), 5) == 0
    assert answers(str(tmp_path / "absent"), 5) == errno.ENOENT
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # its child was waited for


def test_who_holds_a_directory(tmp_path: Path) -> None:
    place = tmp_path / "a b\nc"
    place.mkdir()
    (place / "file").write_bytes(bytes(4096))
    assert holders(str(place)) == []
    script = "import os, sys; os.chdir(sys.argv[1]); print(flush=True); sys.stdin.readline()"
    with subprocess.Popen([sys.executable, "-c", script, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (holder,) = holders(str(place))
        assert holder.pid == process.pid
        assert str(holder) == f"{holder.name} (pid {process.pid})"
        assert holder.name == process_name(process.pid) != "?"
        assert holders(str(tmp_path / "a b")) == []  # a name that begins the same
        process.communicate(b"\n")
    assert holders(str(place)) == []


@pytest.mark.parametrize("name", ["x\ny z", "d\\040e\\012f", "ünï\x01"])
def test_a_mapping_holds_too(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / "file").write_bytes(bytes(4096))
    script = """
import mmap, os, sys
with open(sys.argv[1] + "/file", "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
for name in os.listdir("/proc/self/fd"):  # mmap keeps a copy
    if int(name) > 2:
        try:
            os.close(int(name))
        except OSError:
            pass
print(flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen([sys.executable, "-c", script, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [holder.pid for holder in holders(str(place))] == [process.pid]
        process.communicate(b"\n")


def test_this_process_is_no_holder(tmp_path: Path) -> None:
    """umount's own working directory: the kernel says busy, and nobody else is named."""
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_WRITE):
            assert holders(str(tmp_path)) == []


def test_a_process_that_has_gone_has_no_name() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert process_name(process.pid) == "?"
