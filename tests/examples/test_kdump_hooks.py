"""kdump-post.sh in something like a capture initramfs, then vmcorefs-register at the next boot, then the mount that it made possible."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.builders.containers import flattened
from tests.containers.wrapping import EVERY, kdump_of, of_image
from tests.mounts.mounting import Finished, need_root, run, skip_or_fail, unmount, words

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
POST, REGISTER = EXAMPLES / "kdump-post.sh", EXAMPLES / "vmcorefs-register"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
NEW, OLD = "127.0.0.1-2026-11-25-16:14:36", "127.0.0.1-2026-11-20-01:02:03"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Machine(mode="plain", memory=((0, 0x280000),)).build(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def dump(built: Built, tmp_path: Path) -> bytes:
    """What makedumpfile wrote."""
    return EVERY["kdump zlib"](of_image(built), tmp_path).read_bytes()


def put(path: Path, data: bytes, age: int = 0) -> Path:
    """A file of a dump; *age*: seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    when = 1_795_623_349 - age
    os.utime(path, (when, when))
    return path


class System:
    """Folders that stand for a system's."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.etc, self.mnt = folder / "etc", folder / "mnt"
        self.environment = os.environ | {"VMCOREFS_CONFIG": str(self.etc), "VMCOREFS_MOUNTS": str(self.mnt), "LC_ALL": "C",
                                         "KDUMP_CONF": str(folder / "kdump.conf"), "KDUMP_DEFAULTS": str(folder / "kdump-tools")}

    def register(self, *arguments: Path, shell: str = "dash") -> subprocess.CompletedProcess[str]:
        return subprocess.run([shell, REGISTER, *arguments], capture_output=True, text=True, check=False, timeout=60, env=self.environment)

    def capture_files(self) -> dict[str, dict[str, object]]:
        """By name."""
        return {path.stem: tomllib.loads(path.read_text()) for path in sorted(self.etc.glob("*"))}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    yield made
    for path in made.mnt.glob("*"):
        unmount(path, lazy=True)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mount(system: System, name: str) -> Finished:
    return run("mount", "--capture", system.etc / f"{name}.toml")


def check_mount(system: System, name: str, built: Built) -> None:
    """What vmcorefs@NAME.service runs mounts the dump."""
    done = mount(system, name)
    assert done.returncode == 0, words(done)
    where = system.mnt / name
    assert (where / "vmcore").read_bytes()[:len(built.model.header)] == built.model.header
    assert run("umount", "--capture", system.etc / f"{name}.toml").returncode == 0
    assert where.stat().st_mode & 0o777 == 0o700


# -- Debian: no hook, the folder of the dump tells --------------------------------------------------------------------------


def test_kdump_tools(system: System, built: Built, dump: bytes, shell: str) -> None:
    crash = system.folder / "crash"
    (system.folder / "kdump-tools").write_text(f'USE_KDUMP=1\nKDUMP_COREDIR="{crash}"\n')
    records = flattened.flattened([(0, kdump_of(of_image(built)).build())])
    put(crash / "202611251614" / "dump.202611251614", records)
    put(crash / "202611251614" / "dmesg.202611251614", b"log")
    put(crash / "202611260000" / "dump-incomplete", records[:1000])
    put(crash / "202611270000" / "dump.202611270000.gz", b"\x1f\x8b\x08" + bytes(100))
    put(crash / "kexec_cmd", b"/sbin/kexec")
    done = system.register(shell=shell)
    assert done.returncode == 0, done.stderr
    assert system.capture_files() == {"kdump-202611251614": {
        "image": str(crash / "202611251614" / "dump.202611251614"),
        "mount": {"mountpoint": str(system.mnt / "kdump-202611251614"), "replace-stale": True}}}
    assert "systemctl start vmcorefs@kdump-202611251614" in done.stdout
    assert "dump.202611270000.gz is compressed as a whole" in done.stdout
    check_mount(system, "kdump-202611251614", built)

    before = (system.etc / "kdump-202611251614.toml").stat()
    assert system.register(shell=shell).returncode == 0
    assert (system.etc / "kdump-202611251614.toml").stat() == before
    (system.etc / "kdump-202611251614.toml").unlink()  # not wanted any more
    assert system.register(shell=shell).returncode == 0
    assert system.capture_files() == {}
    (crash / "202611260000" / "dump-incomplete").rename(crash / "202611260000" / "dump.202611260000")
    assert system.register(shell=shell).returncode == 0
    assert set(system.capture_files()) == {"kdump-202611260000"}


# -- kdump-utils: the hook marks, the next boot registers --------------------------------------------------------------------

_INITRAMFS = """
set -e
mkdir -p {target}
mount -t tmpfs none {target}
cp -a {crash}/. {target}/
set +e
KDUMP_CONF={conf} {shell} {post} {status} > {folder}/said 2>&1
echo $? > {folder}/status
set -e
mkdir -p {folder}/after
cp -a {target}/. {folder}/after/
"""


def in_initramfs(system: System, crash: Path, status: str, shell: str, target: str = "kdumproot") -> Path:
    """Runs the hook where *crash* is on a file system of its own that is mounted at *target*, and /etc is another one's. What is on
    that file system afterwards.
    """
    need_root()
    folder = system.folder
    script = _INITRAMFS.format(target=shlex.quote(str(folder / target)), crash=crash, conf=folder / "initramfs.conf", shell=shell,
                               post=POST, status=shlex.quote(status), folder=folder)
    done = subprocess.run(["unshare", "--mount", "--propagation", "slave", "sh", "-c", script], capture_output=True, text=True, check=False,
                          timeout=60)
    if done.returncode and "unshare" in done.stderr:
        skip_or_fail(done.stderr)
    assert done.returncode == 0, done.stderr
    assert (system.folder / "status").read_text() == "0\n"
    return system.folder / "after"


def marks(after: Path) -> list[str]:
    return sorted(path.parent.name for path in after.rglob("vmcorefs-finished"))


@pytest.mark.parametrize("target", ["kdumproot", "sysroot with a space"])
def test_kdump_utils(system: System, built: Built, dump: bytes, shell: str, target: str) -> None:
    crash = system.folder / "target"
    (system.folder / "initramfs.conf").write_text("ext4 /dev/disk/by-uuid/1\npath /var/crash\ncore_collector makedumpfile -c -d 31\n")
    put(crash / "var/crash" / OLD / "vmcore", dump, age=500_000)
    put(crash / "var/crash" / NEW / "vmcore", dump)
    put(crash / "var/crash" / NEW / "vmcore-dmesg.txt", b"log")
    put(crash / "var/crash" / "127.0.0.1-2026-11-26-00:00:00" / "vmcore-incomplete", dump[:99], age=-500)
    after = in_initramfs(system, crash, "0", shell, target)
    assert marks(after) == [NEW]
    assert f"{NEW}/vmcore will be registered at the next boot" in (system.folder / "said").read_text()

    (system.folder / "kdump.conf").write_text(f"#path /elsewhere\npath {after}/var/crash\n")
    done = system.register(shell=shell)
    assert done.returncode == 0, done.stderr
    name = "kdump-127.0.0.1-2026-11-25-16-14-36"
    assert system.capture_files() == {name: {"image": str(after / "var/crash" / NEW / "vmcore"),
                                             "mount": {"mountpoint": str(system.mnt / name), "replace-stale": True}}}
    assert marks(after) == []
    assert (after / "var/crash" / NEW / "vmcorefs-registered").exists()
    check_mount(system, name, built)
    assert system.register(shell=shell).stdout == ""


@pytest.mark.parametrize("status", ["1", "143", "", "no number"])
def test_a_dump_that_failed_is_not_marked(system: System, dump: bytes, shell: str, status: str) -> None:
    (system.folder / "initramfs.conf").write_text("path /var/crash\n")
    put(system.folder / "target/var/crash" / NEW / "vmcore", dump)
    after = in_initramfs(system, system.folder / "target", status, shell)
    assert marks(after) == []
    assert "nothing is registered" in (system.folder / "said").read_text()


def test_the_hook_fails_for_nothing(system: System, shell: str) -> None:
    """No configuration, no dump: it says so, and its status is 0."""
    (system.folder / "target").mkdir()
    after = in_initramfs(system, system.folder / "target", "0", shell)
    said = (system.folder / "said").read_text()
    assert "cannot be read; /var/crash is looked into" in said
    assert "no dump is below" in said or "will be registered" in said  # this system may have some of its own
    assert marks(after) == []


def test_what_the_hook_did_not_mark_is_not_registered(system: System, dump: bytes, shell: str) -> None:
    put(system.folder / "crash" / OLD / "vmcore", dump)
    (system.folder / "kdump.conf").write_text(f"path {system.folder}/crash\n")
    assert system.register(shell=shell).returncode == 0
    assert system.capture_files() == {}


# -- a host that dumps are sent to -------------------------------------------------------------------------------------------


def test_folders_that_are_given(system: System, built: Built, dump: bytes, shell: str) -> None:
    """Everything finished in them; names that are no names of units, or that are there twice."""
    first, second = system.folder / "host a", system.folder / 'host "b"\\'
    put(first / NEW / "vmcore", dump)
    put(first / OLD / "vmcore.flat", dump)
    put(first / "half" / "vmcore-incomplete", dump)
    put(second / NEW / "vmcore", dump)
    done = system.register(first, second, shell=shell)
    assert done.returncode == 0, done.stderr
    base = "kdump-127.0.0.1-2026-11-25-16-14-36"
    files = system.capture_files()
    assert {name: file["image"] for name, file in files.items()} == {
        base: str(first / NEW / "vmcore"), f"{base}-2": str(second / NEW / "vmcore"),
        "kdump-127.0.0.1-2026-11-20-01-02-03": str(first / OLD / "vmcore.flat")}
    check_mount(system, f"{base}-2", built)
    assert system.register(first, second, shell=shell).stdout == ""


def test_where_nothing_can_be_written_beside_the_dump_the_capture_file_tells(system: System, dump: bytes, shell: str) -> None:
    """A read-only file system; a link that somebody put there."""
    put(system.folder / "crash" / NEW / "vmcore", dump)
    (system.folder / "crash" / NEW / "vmcorefs-registered").symlink_to(system.folder / "victim")
    for _ in range(2):
        done = system.register(system.folder / "crash", shell=shell)
        assert done.returncode == 0, done.stderr
        assert len(system.capture_files()) == 1
    assert not (system.folder / "victim").exists()


def test_wrong_words(system: System, dump: bytes, shell: str) -> None:
    put(system.folder / "crash" / "a\nb" / "vmcore", dump)
    done = system.register(system.folder / "crash", system.folder / "nowhere", shell=shell)
    assert done.returncode == 1
    assert "control character" in done.stderr
    assert "nowhere: no directory" in done.stderr
    assert system.capture_files() == {}


# -- their form --------------------------------------------------------------------------------------------------------------


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        skip_or_fail("shellcheck is not installed")
    subprocess.run(["shellcheck", POST, REGISTER], check=True)


def test_the_unit(tmp_path: Path) -> None:
    text = (EXAMPLES / "vmcorefs-register.service").read_text()
    assert "ExecStart=/usr/local/sbin/vmcorefs-register\n" in text
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed")
    unit = tmp_path / "vmcorefs-register.service"
    unit.write_text(text.replace("/usr/local/sbin/vmcorefs-register", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False, timeout=60)
    assert "vmcorefs-register" not in done.stderr, done.stderr


def test_they_are_executable_and_documented() -> None:
    assert os.access(POST, os.X_OK)
    assert os.access(REGISTER, os.X_OK)
    text = (ROOT / "docs" / "capturing.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.name in text
