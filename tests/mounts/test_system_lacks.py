"""The system lacks something: exit 3, one line that says what to do. And mounting as a plain user, where it can.

Nothing of this system is changed: what is to be missing is hidden in a mount namespace of the test's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.mounting import PROGRAM, TIMEOUT, Finished, Row, assert_refused, need_mounts, need_root, run, words

NOBODY = "65534"
AS_NOBODY = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
WITHOUT_SYS_ADMIN = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin"


@pytest.fixture(autouse=True)
def _needs() -> None:
    need_mounts()
    need_root()


@pytest.fixture
def where(tmp_path: Path) -> Path:
    path = tmp_path / "mnt"
    path.mkdir()
    return path


def alone(script: str, *arguments: Path | str, env: dict[str, str] | None = None) -> Finished:
    """A shell script in a mount namespace of its own; "$@" starts with vmcorefs. All its mounts end with it."""
    return subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, *PROGRAM, *arguments],
                          capture_output=True, check=False, timeout=TIMEOUT, stdin=subprocess.DEVNULL, env=os.environ | (env or {}))


# -- what is missing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["auto", "fusepy"])
def test_no_libfuse(machine: Built, where: Path, choice: str) -> None:
    done = run("mount", "--backend", choice, machine.image, where, env={"FUSE_LIBRARY_PATH": "/nonexistent/libfuse.so"})
    assert_refused(done, 3, "libfuse", "install")


def test_a_library_that_is_no_libfuse(machine: Built, where: Path) -> None:
    assert_refused(run("mount", machine.image, where, env={"FUSE_LIBRARY_PATH": "libc.so.6"}), 3, "libfuse")


def test_only_libfuse_2(machine: Built, machine_data: bytes, where: Path) -> None:
    """mfusepy works with it, too; auto takes what there is."""
    script = '"$0" "$@" && cat "$MNT/vmcore" && umount "$MNT"'
    env = {"FUSE_LIBRARY_PATH": "libfuse.so.2", "MNT": str(where)}
    done = alone(script, "mount", machine.image, where, env=env)
    assert done.returncode == 0, words(done)
    assert done.stdout == machine_data


def test_the_wrong_libfuse_for_the_binding(machine: Built, where: Path) -> None:
    done = run("mount", "--backend", "fusepy", machine.image, where, env={"FUSE_LIBRARY_PATH": "libfuse3.so.3"})
    assert_refused(done, 3, "libfuse 2")


def test_no_device(machine: Built, where: Path) -> None:
    done = alone('mount -t tmpfs none /dev && exec "$0" "$@"', "mount", machine.image, where)
    assert_refused(done, 3, "/dev/fuse", "does not exist", "modprobe fuse")


def test_a_device_that_does_not_open(machine: Built, where: Path) -> None:
    """A file in its place, as some containers have it: mounting is what fails then."""
    script = 'touch "$PLACE" && mount --bind "$PLACE" /dev/fuse && exec "$0" "$@"'
    done = alone(script, "mount", machine.image, where, env={"PLACE": str(where.parent / "no-device")})
    assert_refused(done, 3, str(where))


@pytest.mark.parametrize("options", [["--backend", "mfusepy"], ["--backend", "fusepy"], ["-f"]])
def test_root_without_the_right_to_mount(machine: Built, where: Path, options: list[str]) -> None:
    """As in a container."""
    done = alone(f'exec {WITHOUT_SYS_ADMIN} "$0" "$@"', "mount", *options, machine.image, where)
    assert_refused(done, 3, str(where), "not permitted", "CAP_SYS_ADMIN", "--cap-add SYS_ADMIN")


# -- a plain user ------------------------------------------------------------------------------------------------------

# /dev/fuse for everybody, and the files at a place where everybody may go
PREPARE = f"""
set -e
mknod "$DIR/fuse" c 10 229
chmod 666 "$DIR/fuse"
mount --bind "$DIR/fuse" /dev/fuse
mount --bind "$DIR" /mnt
chown {NOBODY} /mnt/mnt
cd /mnt
run() {{ {AS_NOBODY} "$@"; }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an image and an empty directory mnt; nobody may read and write."""
    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    reach = subprocess.run([*AS_NOBODY.split(), *PROGRAM, "--version"], capture_output=True, check=False, cwd="/")
    if reach.returncode != 0:
        pytest.skip("the interpreter is in a place where a plain user may not go")
    Machine(body_pages="all").build(tmp_path)
    (tmp_path / "mnt").mkdir()
    tmp_path.chmod(0o755)
    return tmp_path


def as_plain_user(folder: Path, script: str) -> Finished:
    """*script* calls run to be one."""
    return alone(PREPARE + script, env={"DIR": str(folder), "TMPDIR": "/mnt/tmp", "HOME": "/nonexistent"})


@pytest.fixture
def temporary(folder: Path) -> Path:
    """Without XDG_RUNTIME_DIR the record goes there."""
    path = folder / "tmp"
    path.mkdir()
    path.chmod(0o1777)
    return path


def need_fusermount(backend: str) -> None:
    if backend == "fusepy" and shutil.which("fusermount") is None:
        pytest.skip("fusermount is not installed")


def test_a_plain_user_mounts(folder: Path, temporary: Path, backend: str) -> None:
    need_fusermount(backend)
    done = as_plain_user(folder, f"""
unset XDG_RUNTIME_DIR
run "$0" "$@" mount --backend {backend} oldmem.img mnt
run stat -c %u:%g:%a mnt/vmcore
ls tmp
run sha256sum mnt/vmcore
"$0" "$@" copy oldmem.img - 2>/dev/null | sha256sum
run "$0" "$@" umount mnt
ls -A mnt tmp/vmcorefs-{NOBODY}
""")
    assert done.returncode == 0, words(done)
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == [f"{NOBODY}:{NOBODY}:400", f"vmcorefs-{NOBODY}"]
    assert lines[2].split()[0] == lines[3].split()[0]
    assert lines[4:] == ["mnt:", "", f"tmp/vmcorefs-{NOBODY}:"]


def test_a_plain_users_names(folder: Path, temporary: Path, backend: str) -> None:
    """The source's name goes through fusermount's option parser, too."""
    need_fusermount(backend)
    name = "a,b,allow_other 1\\040"
    (folder / name).symlink_to("oldmem.img")
    done = as_plain_user(folder, f"""
run "$0" "$@" mount --backend {backend} '{name}' mnt
grep ' - fuse.vmcorefs ' /proc/self/mountinfo
run "$0" "$@" umount mnt
""")
    assert done.returncode == 0, words(done)
    rows = [Row(line) for line in done.stdout.splitlines()]
    assert [(row.where, row.source) for row in rows if row.where == b"/mnt/mnt"] == [(b"/mnt/mnt", os.fsencode(f"/mnt/{name}"))]
    assert b"allow_other" not in done.stdout.replace(b"a,b,allow_other", b"")


def test_root_unmounts_a_plain_users_mount(folder: Path, temporary: Path) -> None:
    done = as_plain_user(folder, """
run "$0" "$@" mount oldmem.img mnt 2>/dev/null
"$0" "$@" umount mnt
pgrep -u 65534 -f oldmem.img || echo none
""")
    assert (done.returncode, done.stdout) == (0, b"none\n"), words(done)


def test_a_plain_user_without_the_device(folder: Path) -> None:
    done = as_plain_user(folder, 'chmod 600 /dev/fuse; run "$0" "$@" mount oldmem.img mnt')
    assert_refused(done, 3, "/dev/fuse", "Permission denied", "run as root")


def test_a_plain_user_without_fusermount(folder: Path) -> None:
    """Hidden by something that cannot be run."""
    (folder / "empty").touch()
    hide = "for f in /usr/bin/fusermount3 /usr/bin/fusermount; do [ ! -e $f ] || mount --bind empty $f; done\n"
    assert_refused(as_plain_user(folder, hide + 'run "$0" "$@" mount oldmem.img mnt'), 3, "fusermount", "install")


def test_a_plain_user_may_not_unmount_roots_mount(folder: Path) -> None:
    done = as_plain_user(folder, """
"$0" "$@" mount oldmem.img mnt 2>/dev/null
status=0
run "$0" "$@" umount /mnt/mnt || status=$?
umount mnt
exit $status
""")
    assert_refused(done, 3, "/mnt/mnt", "only its owner or root")
