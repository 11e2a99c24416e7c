"""The RPM package, built by Debian's rpm: its files and requirements, and installed into a system without Debian's package.

The small Debian stands in for an RPM system; it gets an /sbin of its own, as SLES 15 has one.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.building import TIMEOUT, make, need
from tests.packaging.roots import DEMO, MOUNT_8, Root, mounts

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def rpm(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("rpmbuild", "rpm")
    folder = tmp_path_factory.mktemp("rpm")
    make(sources, "rpm", folder)
    (found,) = (folder / "dist").glob("*.noarch.rpm")
    return found


@pytest.fixture
def with_own_sbin(system: Root) -> Iterator[Root]:
    sbin = system.path / "sbin"
    link = sbin.readlink()
    sbin.unlink()
    sbin.mkdir()
    yield system
    shutil.rmtree(sbin)
    sbin.symlink_to(link)


def query(rpm: Path, *options: str) -> list[str]:
    return subprocess.run(["rpm", "-qp", *options, rpm], check=True, capture_output=True, text=True,
                          timeout=TIMEOUT).stdout.splitlines()


def test_files_of_the_package(rpm: Path) -> None:
    rows = dict(row.split(" ", 1) for row in query(rpm, "--qf", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}\\n]"))
    wanted = {
        "/etc/vmcorefs": "drwxr-xr-x", "/usr/bin/vmcorefs": "-rwxr-xr-x", "/usr/sbin/mount.vmcorefs": "-rwxr-xr-x",
        "/usr/sbin/mount.fuse.vmcorefs": "lrwxrwxrwx", "/usr/lib/vmcorefs/mfusepy.py": "-rw-r--r--",
        "/usr/lib/vmcorefs/fuse.py": "-rw-r--r--", "/usr/lib/vmcorefs/vmcorefs/cli/main.py": "-rw-r--r--",
        "/usr/lib/systemd/system/vmcorefs@.service": "-rw-r--r--",
        "/usr/share/bash-completion/completions/vmcorefs": "-rw-r--r--", "/usr/share/zsh/site-functions/_vmcorefs": "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/vmcorefs.fish": "-rw-r--r--",
        "/usr/share/doc/vmcorefs/examples/capture.toml": "-rw-r--r--",
    }
    assert {name: rows.get(name) for name in wanted} == {name: f"{mode} root" for name, mode in wanted.items()}
    for page in ("man1/vmcorefs.1", "man5/vmcorefs.toml.5", "man8/mount.vmcorefs.8", "man8/mount.fuse.vmcorefs.8"):
        assert any(name.startswith(f"/usr/share/man/{page}") for name in rows), page
    assert any(name.startswith("/usr/share/licenses/") and name.endswith("/licences/mfusepy.txt") for name in rows)
    assert not [name for name in rows if "__pycache__" in name or "site-packages" in name]


def test_requirements_are_those_of_rhel_sles_and_fedora(rpm: Path) -> None:
    needs = {row for row in query(rpm, "--requires") if not row.startswith("rpmlib(")}
    assert needs == {"python(abi) >= 3.11", "fuse3", "(libfuse3.so.4()(64bit) or libfuse3.so.3()(64bit))", "/usr/bin/python3",
                     "/bin/sh", "findutils"}
    assert query(rpm, "--recommends") == ["python3-psutil"]


def test_install_demo_erase(rpm: Path, with_own_sbin: Root) -> None:
    system = with_own_sbin
    before = system.files()
    rpm_: list[str | Path] = ["rpm", "--root", system.path, "--dbpath", "/var/lib/rpm", "--force-debian"]
    done = subprocess.run([*rpm_, "-i", "--nodeps", rpm], check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert list((system.path / "usr/lib/vmcorefs/vmcorefs/cli/__pycache__").glob("main.*.pyc")), "no byte code"
    assert (system.path / "sbin/mount.vmcorefs").is_symlink()

    assert system.run(DEMO).splitlines()[-1].startswith("identical: ")
    assert mounts(system.run(MOUNT_8)) == ["fuse.vmcorefs /root/project/oldmem.img"] * 2

    done = subprocess.run([*rpm_, "-e", "vmcorefs"], check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    assert system.files() == before
