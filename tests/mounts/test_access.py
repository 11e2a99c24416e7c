"""Who may look into a mount: owner, group and permission bits, as the kernel itself enforces them for third users."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Machine
from tests.fs.test_access import FORBID, PERMIT
from tests.mounts.mounting import BACKENDS, Finished, assert_refused, words
from tests.mounts.private_system import NOBODY, PrivateSystem, private_system

OWNER, GROUP, OTHER = 1234, 4321, NOBODY - 1

# What a user is let do: look into the folder, stat, open for reading and writing, read; errno or 0 each.
PROBE = """
import json, os, sys
def code(act, *args):
    try:
        act(*args)
    except OSError as error:
        return error.errno
    return 0
def read(path):
    with open(path, "rb", buffering=0) as file:
        assert file.read(4) == b"\\x7fELF"
uid, gid, groups, mnt = json.loads(sys.argv[1])
os.setgroups(groups)
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
path = mnt + "/vmcore"
print(json.dumps([code(os.listdir, mnt), code(os.stat, path), code(read, path), code(os.listdir, mnt + "/cpus"),
                  code(os.open, path, os.O_RDWR), os.access(path, os.R_OK)]))
"""
EACCES, EROFS = 13, 30
ALL = [0, 0, 0, 0, EROFS, True]
NOTHING = [EACCES, EACCES, EACCES, EACCES, EACCES, False]


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
    running.write("/etc/fuse.conf", "")
    yield running
    for row in running.rows():
        assert running.run("umount", "-l", row.where).returncode == 0


def mount(system: PrivateSystem, *words_: str, user: int = 0) -> Finished:
    return system.run("vmcorefs", "mount", *words_, "oldmem.img", "mnt", user=user)


def assert_mounted(system: PrivateSystem, *words_: str, user: int = 0) -> None:
    done = mount(system, *words_, user=user)
    assert done.returncode == 0, words(done)


def allowed(system: PrivateSystem, uid: int, gid: int | None = None, *groups: int) -> list[int]:
    """What this user is let do."""
    who = json.dumps([uid, uid if gid is None else gid, groups, str(system.folder / "mnt")])
    done = system.run("python3", "-c", PROBE, who)
    assert done.returncode == 0, words(done)
    found: list[int] = json.loads(done.stdout)
    return found


# -- root's mount ------------------------------------------------------------------------------------------------------


def test_nobody_else_without_allow_other(system: PrivateSystem) -> None:
    assert_mounted(system)
    assert allowed(system, 0) == ALL
    assert allowed(system, OTHER) == NOTHING
    assert allowed(system, OTHER, 0, 0) == NOTHING


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group(system: PrivateSystem, backend: str) -> None:
    """The support group of the issue: by main or by supplementary group, nobody else, and nobody may write."""
    assert_mounted(system, "--backend", backend, "-o", f"allow_other,uid={OWNER},gid={GROUP},mode=0440")
    assert allowed(system, OWNER) == ALL
    assert allowed(system, OTHER, GROUP) == ALL
    assert allowed(system, OTHER, OTHER, 77, GROUP) == ALL
    assert allowed(system, OTHER) == NOTHING
    assert allowed(system, OTHER, 0) == NOTHING
    assert allowed(system, 0) == ALL
    done = system.run("stat", "-c", "%u:%g:%a", "mnt", "mnt/vmcore", "mnt/cpus", "mnt/info.json")
    assert done.stdout.decode().split() == [f"{OWNER}:{GROUP}:{mode}" for mode in (550, 440, 550, 440)]


def test_the_owner_alone(system: PrivateSystem) -> None:
    """Without allow_other the owner could not look in, being another than who mounts."""
    assert_mounted(system, "--allow-other", "-o", f"uid={OWNER},gid={GROUP}")
    assert allowed(system, OWNER) == ALL
    assert allowed(system, OTHER, GROUP) == NOTHING


def test_everybody(system: PrivateSystem) -> None:
    assert_mounted(system, "--allow-other", "-o", "mode=0444", "--io", "cached")
    assert allowed(system, OTHER) == ALL
    assert system.run("stat", "-c", "%u:%g:%a", "mnt/vmcore").stdout == b"0:0:444\n"


def test_root_alone_where_only_allow_other_is_given(system: PrivateSystem) -> None:
    """The files are 0400 as ever."""
    assert_mounted(system, "--allow-other")
    assert allowed(system, OTHER) == NOTHING
    assert allowed(system, 0) == ALL


def test_names(system: PrivateSystem) -> None:
    assert_mounted(system, "-o", "allow_other,uid=nobody,gid=daemon,mode=0440")
    assert system.run("stat", "-c", "%U:%G", "mnt/vmcore").stdout == b"nobody:daemon\n"


# -- a plain user's mount ----------------------------------------------------------------------------------------------


def test_not_even_root_looks_into_a_user_s_mount(system: PrivateSystem) -> None:
    assert_mounted(system, user=NOBODY)
    assert allowed(system, NOBODY) == ALL
    assert allowed(system, 0) == NOTHING
    assert allowed(system, OTHER) == NOTHING


@pytest.mark.parametrize("options", [["--allow-other"], ["-o", "allow_other,mode=0444"]])
def test_a_user_may_not_let_others_in(system: PrivateSystem, options: list[str]) -> None:
    """Found out before anything is mounted, and what to do is said."""
    assert_refused(mount(system, *options, user=NOBODY), 3, "--allow-other is not permitted", "user_allow_other", "/etc/fuse.conf")
    assert system.rows() == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_user_may_where_fuse_conf_says_so(system: PrivateSystem, backend: str) -> None:
    system.write("/etc/fuse.conf", "# for the support group\nuser_allow_other\n")
    assert_mounted(system, "--backend", backend, "-o", f"allow_other,gid={GROUP},mode=0440", user=NOBODY)
    assert allowed(system, NOBODY) == ALL
    assert allowed(system, OTHER, GROUP) == ALL
    assert allowed(system, OTHER) == NOTHING
    assert allowed(system, 0) == ALL
    assert system.run("stat", "-c", "%u:%g:%a", "mnt/vmcore").stdout == f"{NOBODY}:{GROUP}:440\n".encode()


FUSERMOUNT = """
import os, socket, subprocess, sys
one, other = socket.socketpair()
done = subprocess.run(["fusermount3", "-o", "allow_other,fsname=x", "--", "mnt"], pass_fds=[other.fileno()],
                      env=os.environ | {"_FUSE_COMMFD": str(other.fileno())}, stderr=subprocess.DEVNULL)
if done.returncode == 0:
    subprocess.run(["fusermount3", "-u", "--", "mnt"], check=True)
print(done.returncode)
"""


def test_fuse_conf_is_read_as_fusermount_reads_it(system: PrivateSystem) -> None:
    """The program itself is asked."""
    for text, permits in [*((text, True) for text in PERMIT), *((text, False) for text in FORBID)]:
        system.path("/etc/fuse.conf").write_bytes(text)
        done = system.run("python3", "-c", FUSERMOUNT, user=NOBODY)
        assert (done.returncode, done.stdout == b"0\n") == (0, permits), (text, words(done))


@pytest.mark.parametrize("options", [["-o", "uid=0"], ["-o", "gid=0"], ["-o", "mode=0444"]])
def test_what_has_no_effect_is_refused(system: PrivateSystem, options: list[str]) -> None:
    done = mount(system, *options, user=NOBODY)
    assert_refused(done, 2, f"{options[1].partition('=')[0]}= has no effect", "add --allow-other")


# -- the whole life as a plain user ------------------------------------------------------------------------------------


def test_signals_as_a_plain_user(system: PrivateSystem) -> None:
    """Idle, in use, and with a shell in it, by fusermount3: within two seconds, by the clock of the private system."""
    script = r"""
set -e
for number in TERM INT HUP; do
    for use in : 'exec 3<mnt/vmcore' 'cd mnt'; do
        vmcorefs mount --pidfile "$HOME/pid" oldmem.img mnt 2>/dev/null
        (
            pid=$(cat "$HOME/pid"); folder=$PWD; eval "$use"
            start=$(date +%s%N); kill -$number "$pid"
            while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
            echo "$(( ($(date +%s%N) - start) / 1000000 ))" \
                "$(grep -c ' - fuse.vmcorefs ' /proc/self/mountinfo) $(ls "$folder/mnt" "$HOME" | wc -l)"
        )
    done
done
"""
    home = system.folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    done = system.run("sh", "-c", script, user=NOBODY, env={"HOME": str(home)})
    assert done.returncode == 0, words(done)
    found = [tuple(map(int, re.findall(r"\d+", line))) for line in done.stdout.decode().splitlines()]
    assert len(found) == 9
    assert [(rows, names) for _, rows, names in found] == [(0, 3)] * 9  # "mnt:", an empty line, "home:"
    assert all(milliseconds < 2000 for milliseconds, _, _ in found), found
    assert os.listdir(system.path(f"/tmp/vmcorefs-{NOBODY}")) == []  # noqa: S108


def test_the_runtime_directory_of_a_user(system: PrivateSystem) -> None:
    runtime = system.folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, NOBODY, NOBODY)
    script = """
export XDG_RUNTIME_DIR="$PWD/runtime"
vmcorefs mount oldmem.img mnt && ls -ln runtime/vmcorefs && vmcorefs umount mnt && ls -A runtime/vmcorefs
"""
    done = system.run("sh", "-c", script, user=NOBODY)
    assert done.returncode == 0, words(done)
    total, *files = done.stdout.decode().splitlines()
    assert total.startswith("total")
    assert [row.split()[0] for row in files] == ["-rw-------"] * 2
    assert [Path(row.split()[-1]).suffix for row in files] == [".counters", ".json"]


def test_root_s_daemon_is_root_s(system: PrivateSystem) -> None:
    """A user can neither end it nor read its records."""
    assert_mounted(system, "--pidfile", "/run/pid", user=0)
    pid = system.path("/run/pid").read_text(encoding="ascii").strip()
    done = system.run("sh", "-c", f"kill {pid}; ls /run/vmcorefs; kill -0 {pid}", user=NOBODY)
    assert done.returncode != 0
    assert words(done).count("ermission denied") + words(done).count("not permitted") == 3
    assert len(system.rows()) == 1
