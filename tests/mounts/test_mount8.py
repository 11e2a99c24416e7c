"""mount(8), umount(8) and fstab: the real programs, with this tree's helpers in the /sbin of a private system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.mounts.mounting import TIMEOUT, Finished, skip_or_fail, wait_until, words
from tests.mounts.private_system import NOBODY, ROOT, PrivateSystem, private_system

USAGE, LACKS, INTERRUPTED, FAILURE, SOME = 1, 2, 8, 32, 64
ONE_MIB_MAP = "00000000-000fffff : System RAM\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An image that everybody may read."""
    folder = tmp_path_factory.mktemp("system")
    built = Machine(body_pages="all").build(folder)
    (folder / "mnt").mkdir()
    os.chown(folder / "mnt", NOBODY, NOBODY)
    built.image.chmod(0o644)
    return built


@pytest.fixture(scope="module")
def data(built: Built) -> bytes:
    return built.model.read(0, built.model.size)


@pytest.fixture(scope="module")
def running(built: Built) -> Iterator[PrivateSystem]:
    with private_system(built.image.parent) as system:
        yield system


@pytest.fixture
def system(running: PrivateSystem) -> Iterator[PrivateSystem]:
    """With nothing mounted, before and after."""
    running.write("/etc/fstab", "")
    running.write("/etc/fuse.conf", "")
    yield running
    left = running.rows()
    for row in left:
        running.run("umount", "-l", row.where)
    assert [row.where for row in left] == []


@pytest.fixture
def mnt(running: PrivateSystem) -> Path:
    return running.folder / "mnt"


def served(system: PrivateSystem, mnt: Path) -> bytes:
    return system.path(mnt / "vmcore").read_bytes()


def assert_done(done: Finished) -> None:
    """0, and one line: what is served."""
    assert done.returncode == 0, words(done)
    assert len(words(done).splitlines()) == 1, words(done)
    assert ": kdump mode: " in words(done)


def assert_error(done: Finished, status: int, *parts: str) -> None:
    """One error line that contains *parts*."""
    assert done.returncode == status, (done.returncode, words(done))
    errors = [line for line in words(done).splitlines() if line.startswith("vmcorefs: error: ")]
    assert len(errors) == 1, words(done)
    assert "Traceback" not in words(done)
    for part in parts:
        assert part in errors[0], errors[0]


def umount(system: PrivateSystem, *where: Path | str) -> None:
    for path in where:
        done = system.run("umount", path)
        assert done.returncode == 0, words(done)


# -- the ways to call it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [
    ["mount", "-t", "vmcorefs", "oldmem.img", "mnt"],
    ["mount", "-t", "fuse.vmcorefs", "oldmem.img", "mnt", "-o", "rw,suid,dev"],
    ["mount", "-t", "fuse", "vmcorefs#{folder}/oldmem.img", "mnt", "-o", "ro"],
    ["mount.fuse3", "vmcorefs#oldmem.img", "mnt"],
    ["mount.fuse3", "vmcorefs#oldmem.img", "mnt", "-o", "noauto,nofail,x-systemd.automount,_netdev,user"],
    ["mount.vmcorefs", "oldmem.img", "mnt"],
    ["mount.fuse.vmcorefs", "oldmem.img", "mnt", "-n", "-o", "rw,noatime"],
], ids=["vmcorefs", "fuse.vmcorefs", "fuse", "mount.fuse3", "mount.fuse3 -o", "mount.vmcorefs", "mount.fuse.vmcorefs"])
def test_it_mounts(system: PrivateSystem, data: bytes, mnt: Path, command: list[str]) -> None:
    """Always read only, never with set-user-ID and device files; umount(8) takes it away, and the daemon ends."""
    if command[0] == "mount.fuse3" and not Path("/usr/sbin/mount.fuse3").exists():
        skip_or_fail("mount.fuse3 is not installed")
    assert_done(system.run(*(word.format(folder=system.folder) for word in command)))
    (row,) = system.rows()
    assert (row.type, row.where, row.source) == ("fuse.vmcorefs", os.fsencode(mnt), os.fsencode(system.folder / "oldmem.img"))
    assert {"ro", "nosuid", "nodev"} <= row.options
    assert served(system, mnt) == data
    umount(system, "mnt")
    wait_until(lambda: system.run("pgrep", "-f", "oldmem.img").returncode == 1, "the daemon's end")


def test_without_our_helper_mount_fuse3_is_called(system: PrivateSystem, mnt: Path) -> None:
    """As ``vmcorefs SOURCE DIR -o ...``; mount(8) then knows the type fuse.vmcorefs all the same."""
    helper = system.path("/usr/sbin/mount.fuse.vmcorefs")
    target = os.readlink(helper)
    helper.unlink()
    try:
        assert_done(system.run("mount", "-t", "fuse.vmcorefs", "oldmem.img", "mnt", "-o", "memory-range=0-1M,nosuid"))
    finally:
        helper.symlink_to(target)
    assert len(served(system, mnt)) < (1 << 20) + 0x10000
    umount(system, "mnt")


def test_options_arrive(system: PrivateSystem, mnt: Path) -> None:
    """Those of the image, of the mount, and the kernel's; -v lets it say more."""
    (system.folder / "iomem").write_text(ONE_MIB_MAP, encoding="ascii")
    done = system.run("mount", "-v", "-t", "vmcorefs", "oldmem.img", "mnt", "-o",
                      "memory-map=iomem,layout=5.8,noexec,allow_other,uid=7,gid=8,mode=0440,pidfile=pid")
    assert done.returncode == 0, words(done)
    assert ": kdump mode: " in words(done)
    status = os.stat(system.path(mnt / "vmcore"))
    assert (status.st_size, status.st_uid, status.st_gid, status.st_mode & 0o777) == ((1 << 20) + 0x2000, 7, 8, 0o440)
    assert "noexec" in system.rows()[0].options
    assert (system.folder / "pid").exists()
    umount(system, "mnt")
    wait_until(lambda: not (system.folder / "pid").exists(), "the daemon's end")


# -- fstab -------------------------------------------------------------------------------------------------------------


def escaped(path: Path) -> str:
    r"""For a field of fstab: \040 for a blank, and so on."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in str(path))


def fstab(system: PrivateSystem, *lines: str) -> Path:
    path = system.folder / "fstab"
    path.write_text("# a comment\n\n" + "".join(f"{line} 0 0\n" for line in lines), encoding="utf-8")
    return path


def test_fstab(system: PrivateSystem, data: bytes, mnt: Path) -> None:
    """The line of the documentation; ``mount DIR`` finds it, ``mount -a`` does not."""
    table = fstab(system, f"{system.folder}/oldmem.img {mnt} vmcorefs "
                          "ro,noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=10min,_netdev,comment=why,X-mount.mkdir=0700")
    assert system.run("mount", "-a", "-T", table).returncode == 0
    assert system.rows() == []
    assert_done(system.run("mount", "-T", table, mnt))
    assert served(system, mnt) == data
    assert_error(system.run("mount", "-T", table, mnt), FAILURE, "mounted there already", f"vmcorefs umount {mnt}")
    umount(system, mnt)


def test_fstab_with_odd_names(system: PrivateSystem) -> None:
    r"""Blanks, commas, backslashes, a newline; in the words, a comma is \, as for vmcorefs mount -o, or in double quotes."""
    odd = system.folder / "a b,c\\d"
    odd.mkdir()
    (odd / "im a,ge").symlink_to(system.folder / "oldmem.img")
    (odd / "map, 1\\2").write_text(ONE_MIB_MAP, encoding="ascii")
    where = odd / "m\nn,t ünïcødé"
    where.mkdir()
    quoted = f'"{odd}/map, 1\\2"'.replace("\\", "\\\\")
    word = Path(str(odd / "map, 1\\2").replace("\\", "\\\\").replace(",", "\\,"))
    table = fstab(system, f"{escaped(odd / 'im a,ge')} {escaped(where)} vmcorefs memory-map={escaped(word)},layout=5.8")
    assert_done(system.run("mount", "-T", table, where))
    assert [row.where for row in system.rows()] == [os.fsencode(where)]
    assert system.path(where / "vmcore").stat().st_size == (1 << 20) + 0x2000
    umount(system, where)
    table = fstab(system, f"{escaped(odd / 'im a,ge')} {escaped(where)} vmcorefs memory-map={escaped(Path(quoted))},layout=5.8")
    assert_done(system.run("mount", "-T", table, where))
    assert system.path(where / "vmcore").stat().st_size == (1 << 20) + 0x2000
    umount(system, where)


def test_mount_a(system: PrivateSystem, mnt: Path) -> None:
    """All, or some: then 64. What is mounted already is left alone."""
    for name in ("one", "two", "three"):
        (system.folder / name).mkdir()
    lines = [f"{system.folder}/oldmem.img {system.folder}/{name} {kind} nofail,ro"
             for name, kind in (("one", "vmcorefs"), ("two", "fuse.vmcorefs"))]
    table = fstab(system, *lines)
    assert system.run("mount", "-a", "-T", table).returncode == 0
    assert [row.where for row in system.rows()] == [os.fsencode(system.folder / name) for name in ("one", "two")]
    assert system.run("mount", "-a", "-T", table).returncode == 0
    umount(system, system.folder / "two")
    table = fstab(system, *lines, f"{system.folder}/absent.img {system.folder}/three vmcorefs defaults")
    assert_error(system.run("mount", "-a", "-T", table), SOME, "absent.img: cannot open the image")
    assert len(system.rows()) == 2
    done = system.run("umount", "-a", "-t", "fuse.vmcorefs")
    assert done.returncode == 0, words(done)
    assert system.rows() == []


# -- mount(8)'s own options --------------------------------------------------------------------------------------------


def test_fake(system: PrivateSystem) -> None:
    """All checks, no mount, nothing left behind."""
    assert_done(system.run("mount", "-f", "-t", "vmcorefs", "oldmem.img", "mnt", "-o", "pidfile=pid"))
    assert (system.rows(), (system.folder / "pid").exists()) == ([], False)
    assert_error(system.run("mount", "-f", "-t", "vmcorefs", "oldmem.img", "absent"), FAILURE, "absent", "mkdir -p")
    assert_error(system.run("mount", "-f", "-t", "vmcorefs", "absent", "mnt"), FAILURE, "absent")
    assert_error(system.run("mount", "-f", "-t", "vmcorefs", "oldmem.img", "mnt", "-o", "lay=5.8"), USAGE, "did you mean layout?")


def test_sloppy(system: PrivateSystem, data: bytes, mnt: Path) -> None:
    """Unknown words are named and ignored; wrong values are not."""
    done = system.run("mount", "-s", "-n", "-r", "-t", "vmcorefs", "oldmem.img", "mnt", "-o", "frobnicate,layer=5,usrquota")
    assert done.returncode == 0, words(done)
    warnings = [line for line in words(done).splitlines() if "warning" in line]
    assert [line.split()[4] for line in warnings] == ["option", "option", "option"] and "frobnicate" in warnings[0]
    assert served(system, mnt) == data
    umount(system, "mnt")
    assert_error(system.run("mount", "-s", "-t", "vmcorefs", "oldmem.img", "mnt", "-o", "layout=old"), USAGE, "--layout")


@pytest.mark.parametrize("words_of_mount", [
    ["-o", "remount", "mnt"], ["-o", "remount,ro,layout=5.8", "-t", "vmcorefs", "oldmem.img", "mnt"]], ids=["by mount point", "in full"])
def test_remount_is_refused(system: PrivateSystem, data: bytes, mnt: Path, words_of_mount: list[str]) -> None:
    assert_done(system.run("mount", "-t", "vmcorefs", "oldmem.img", "mnt"))
    assert_error(system.run("mount", *words_of_mount), USAGE, "remount: ", "cannot be changed", f"umount {mnt} && mount -t vmcorefs")
    assert served(system, mnt) == data
    umount(system, "mnt")


def test_a_namespace_is_refused(system: PrivateSystem) -> None:
    """mount -N."""
    done = system.run("mount", "-N", "/proc/self/ns/mnt", "-t", "vmcorefs", f"{system.folder}/oldmem.img", f"{system.folder}/mnt")
    assert_error(done, USAGE, "-N is not supported", "nsenter")


# -- exit codes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mount_words", "status", "parts"), [
    (["oldmem.img", "mnt", "-o", "memory-rang=0-1M"], USAGE, ["unknown option memory-rang", "did you mean memory-range?"]),
    (["oldmem.img", "mnt", "-o", "alow_other"], USAGE, ["did you mean allow-other?"]),
    (["oldmem.img", "mnt", "-o", "mode=0666"], USAGE, ["0400, 0440, 0444"]),
    (["absent.img", "mnt"], FAILURE, ["absent.img: cannot open the image: No such file"]),
    (["oldmem.img", "absent"], FAILURE, ["absent: the mount point does not exist", "mkdir -p"]),
    (["oldmem.img", "oldmem.img"], FAILURE, ["not a directory"]),
    (["mnt", "oldmem.img"], FAILURE, ["not a directory", "swapped? vmcorefs mount"]),
    (["oldmem.img", "."], FAILURE, ["contains", "oldmem.img", "choose another directory"]),
    (["programs/vmcorefs", "mnt"], FAILURE, ["not the memory of an s390x Linux system"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else str(value))
def test_exit_codes(system: PrivateSystem, mount_words: list[str], status: int, parts: list[str]) -> None:
    """mount(8) hands on the helper's."""
    assert_error(system.run("mount", "-t", "vmcorefs", *mount_words), status, *parts)


@pytest.mark.parametrize("helper_words", [[], ["oldmem.img"], ["oldmem.img", "mnt", "more"], ["oldmem.img", "mnt", "--frobnicate"]],
                         ids=" ".join)
def test_a_wrong_call_of_the_helper(system: PrivateSystem, helper_words: list[str]) -> None:
    assert_error(system.run("mount.vmcorefs", *helper_words), USAGE, "" if helper_words[2:] else "see mount.vmcorefs --help")


def test_a_user_without_fusermount(system: PrivateSystem, user_entry: None) -> None:
    program = "/usr/bin/fusermount3"
    assert system.run("mount", "--bind", "/dev/null", program).returncode == 0
    try:
        assert_error(system.run("mount", "mnt", user=NOBODY), LACKS, "fusermount", "install")
    finally:
        umount(system, program)


def test_what_the_system_lacks_is_2(system: PrivateSystem) -> None:
    device = system.path("/dev/fuse")
    device.rename(device.with_name("fuse.hidden"))
    try:
        assert_error(system.run("mount", "-t", "vmcorefs", "oldmem.img", "mnt"), LACKS, "/dev/fuse does not exist", "modprobe fuse")
    finally:
        device.with_name("fuse.hidden").rename(device)
    done = system.run("mount.vmcorefs", "oldmem.img", "mnt", env={"FUSE_LIBRARY_PATH": "/nonexistent"})
    assert_error(done, LACKS, "libfuse", "install")


INTERRUPTED_WHILE_OPENING = """
import sys
from vmcorefs.cli import mount, mount_vmcorefs

def open_dump(*arguments, **options):
    print("opening", flush=True)
    sys.stdin.readline()

mount.open_dump = open_dump
sys.exit(mount_vmcorefs.main())
"""


def test_interrupted_is_8(built: Built, tmp_path: Path) -> None:
    """Ctrl-C while a large image is looked at."""
    (tmp_path / "mnt").mkdir()
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED_WHILE_OPENING, built.image, tmp_path / "mnt"], cwd=ROOT,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as helper:
        assert helper.stdout is not None
        assert helper.stdout.readline() == b"opening\n"
        helper.send_signal(signal.SIGINT)
        assert helper.communicate(timeout=TIMEOUT) == (b"", b"vmcorefs: error: interrupted\n")
    assert helper.returncode == INTERRUPTED


# -- umount(8) ---------------------------------------------------------------------------------------------------------


def test_umount_says_busy_and_detaches(system: PrivateSystem, data: bytes, mnt: Path) -> None:
    assert_done(system.run("mount", "-t", "vmcorefs", "oldmem.img", "mnt"))
    with system.path(mnt / "vmcore").open("rb", buffering=0) as file:
        done = system.run("umount", "mnt")
        assert (done.returncode, "target is busy" in words(done)) == (FAILURE, True)
        assert system.run("umount", "-l", "mnt").returncode == 0
        assert system.rows() == []
        assert file.read(100) == data[:100]
    wait_until(lambda: system.run("pgrep", "-f", "oldmem.img").returncode == 1, "the daemon's end")


def test_a_dead_mount(system: PrivateSystem, data: bytes, mnt: Path) -> None:
    """The next mount names it, replace-stale or umount(8) takes it away."""
    for clear in (["umount", "mnt"], ["mount", "-t", "vmcorefs", "oldmem.img", "mnt", "-o", "replace-stale"]):
        assert_done(system.run("mount", "-t", "vmcorefs", "oldmem.img", "mnt"))
        assert system.run("pkill", "-KILL", "-f", "oldmem.img").returncode == 0
        wait_until(lambda: system.run("pgrep", "-f", "oldmem.img").returncode == 1, "the daemon's end")
        refused = system.run("mount", "-t", "vmcorefs", "oldmem.img", "mnt")
        assert_error(refused, FAILURE, "dead mount", f"vmcorefs umount {mnt}", "--replace-stale")
        done = system.run(*clear)
        assert done.returncode == 0, words(done)
    assert served(system, mnt) == data
    umount(system, "mnt")


# -- a plain user ------------------------------------------------------------------------------------------------------


@pytest.fixture
def user_entry(system: PrivateSystem, mnt: Path) -> None:
    """mount(8) is set-user-ID, and gives that up before it calls the helper."""
    if not os.stat("/usr/bin/mount").st_mode & 0o4000:
        skip_or_fail("mount(8) is not set-user-ID")
    system.write("/etc/fstab", f"{system.folder}/oldmem.img {mnt} vmcorefs noauto,user,nofail,x-systemd.automount,io=cached 0 0\n")


def test_a_user_mounts_what_fstab_allows(system: PrivateSystem, user_entry: None, data: bytes, mnt: Path) -> None:
    assert_done(system.run("mount", "mnt", user=NOBODY))
    (row,) = system.rows()
    assert {"ro", "nosuid", "nodev", "noexec"} <= row.options
    done = system.run("cat", "mnt/vmcore", user=NOBODY)
    assert done.stdout == data
    assert system.run("cat", "mnt/vmcore", user=NOBODY + 1).returncode != 0
    assert system.run("umount", "mnt", user=NOBODY + 1).returncode == FAILURE
    assert len(system.rows()) == 1
    done = system.run("umount", "mnt", user=NOBODY)
    assert done.returncode == 0, words(done)


def test_root_unmounts_a_users_mount(system: PrivateSystem, user_entry: None) -> None:
    assert_done(system.run("mount", "mnt", user=NOBODY))
    umount(system, "mnt")


def test_allow_other_is_root_s_to_permit(system: PrivateSystem, user_entry: None, mnt: Path) -> None:
    system.write("/etc/fstab", f"{system.folder}/oldmem.img {mnt} vmcorefs noauto,user,allow_other,mode=0444 0 0\n")
    assert_error(system.run("mount", "mnt", user=NOBODY), LACKS, "allow-other", "user_allow_other", "/etc/fuse.conf")
    system.write("/etc/fuse.conf", "user_allow_other\n")
    assert_done(system.run("mount", "mnt", user=NOBODY))
    assert system.run("cmp", "-n", "4", "mnt/vmcore", "mnt/vmcore", user=NOBODY + 1).returncode == 0
    assert system.run("umount", "mnt", user=NOBODY).returncode == 0


def test_a_user_without_a_line_in_fstab_gets_no_more_than_fusermount_gives(system: PrivateSystem, tmp_path: Path) -> None:
    """Root's own directory is no mount point for him."""
    (system.folder / "roots").mkdir(mode=0o755, exist_ok=True)
    assert_error(system.run("mount", "-t", "vmcorefs", "oldmem.img", "roots", user=NOBODY), LACKS, "refused to mount")
    assert system.rows() == []


# -- names -------------------------------------------------------------------------------------------------------------


NAMES = {
    "everything": b" a,b,,ro,fsname=x #1 \"two\" 'w' $HOME %s {x} \xc3\xbc c\\d\\\\e\\,f\\040\n\t\xff\xfe\x80\\",
    "a dash": b"-img",
}


@pytest.mark.parametrize("program", ["mount -t vmcorefs", "mount.vmcorefs"])
@pytest.mark.parametrize("name", NAMES)
def test_names(system: PrivateSystem, data: bytes, program: str, name: str) -> None:
    """As the image and as the mount point beside it; relative, behind ``--``."""
    folder = system.folder / f"{program} {name}"
    text = os.fsdecode(NAMES[name])
    (folder / text).mkdir(parents=True)
    (folder / f"{text}2").hardlink_to(system.folder / "oldmem.img")
    done = system.run("sh", "-c", 'cd -- "$0" && exec "$@"', folder, *program.split(), "--", f"{text}2", text)
    assert_done(done)
    (row,) = system.rows()
    assert (row.where, row.source) == (os.fsencode(folder / text), os.fsencode(folder / f"{text}2"))
    assert system.path(folder / text / "vmcore").read_bytes() == data
    umount(system, folder / text)


def test_one_image_twice(system: PrivateSystem, data: bytes) -> None:
    """By either helper, beside the image."""
    places = [system.folder / name for name in ("beside1", "beside2")]
    for place, program in zip(places, (["mount", "-t", "vmcorefs"], ["mount.vmcorefs"]), strict=True):
        place.mkdir()
        assert_done(system.run(*program, "oldmem.img", place.name))
    assert [system.path(place / "vmcore").read_bytes() == data for place in places] == [True, True]
    umount(system, *places)


def test_it_answers_when_mount_returns(system: PrivateSystem) -> None:
    """systemd counts on that."""
    done = system.run("sh", "-c", "mount -t vmcorefs oldmem.img mnt 2>/dev/null && head -c 4 mnt/vmcore && umount mnt")
    assert (done.returncode, done.stdout) == (0, b"\x7fELF")
