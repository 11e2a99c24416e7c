"""The Debian package: built by Debian's tools, installed by dpkg into a Debian that has only what it depends on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.captures import sparse
from tests.packaging.building import TIMEOUT, make, need
from tests.packaging.roots import AS_NOBODY, CAPTURE, DEMO, MOUNT_8, Root, mounts

pytestmark = pytest.mark.timeout(900)  # the first use on a machine makes the small Debian


@pytest.fixture(scope="module")
def deb(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("dpkg-buildpackage", "dh")
    folder = tmp_path_factory.mktemp("deb")
    make(sources, "deb", folder)
    (found,) = (folder / "dist").glob("*.deb")
    return found


def listing(deb: Path) -> dict[str, str]:
    """Name -> mode and owner."""
    lines = subprocess.run(["dpkg-deb", "-c", deb], check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout.splitlines()
    return {line.split(None, 5)[5].partition(" -> ")[0].removeprefix("."): " ".join(line.split()[:2]) for line in lines}


def test_files_of_the_package(deb: Path) -> None:
    files = listing(deb)
    wanted = {
        "/etc/vmcorefs/": "drwxr-xr-x", "/usr/bin/vmcorefs": "-rwxr-xr-x", "/usr/sbin/mount.vmcorefs": "-rwxr-xr-x",
        "/usr/sbin/mount.fuse.vmcorefs": "lrwxrwxrwx", "/usr/lib/vmcorefs/mfusepy.py": "-rw-r--r--",
        "/usr/lib/vmcorefs/fuse.py": "-rw-r--r--", "/usr/lib/vmcorefs/vmcorefs/cli/main.py": "-rw-r--r--",
        "/usr/lib/systemd/system/vmcorefs@.service": "-rw-r--r--", "/usr/share/man/man1/vmcorefs.1.gz": "-rw-r--r--",
        "/usr/share/man/man5/vmcorefs.toml.5.gz": "-rw-r--r--", "/usr/share/man/man8/mount.vmcorefs.8.gz": "-rw-r--r--",
        "/usr/share/man/man8/mount.fuse.vmcorefs.8.gz": "lrwxrwxrwx",
        "/usr/share/bash-completion/completions/vmcorefs": "-rw-r--r--", "/usr/share/zsh/vendor-completions/_vmcorefs": "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/vmcorefs.fish": "-rw-r--r--", "/usr/share/doc/vmcorefs/copyright": "-rw-r--r--",
        "/usr/share/doc/vmcorefs/README.md": "-rw-r--r--", "/usr/share/doc/vmcorefs/examples/capture.toml": "-rw-r--r--",
    }
    assert {name: files.get(name) for name in wanted} == {name: f"{mode} root/root" for name, mode in wanted.items()}
    assert {mode.split()[1] for mode in files.values()} == {"root/root"}
    assert not [name for name in files if "__pycache__" in name or "dist-packages" in name or "site-packages" in name]


def test_description_of_the_package(deb: Path, tmp_path: Path) -> None:
    fields = dict(re.findall(r"^([A-Z][A-Za-z-]*): (.*)$", subprocess.run(
        ["dpkg-deb", "-f", deb], check=True, capture_output=True, text=True, timeout=TIMEOUT).stdout, re.MULTILINE))
    assert fields["Depends"].split(", ") == ["fuse3", "python3 (>= 3.11)", "python3-psutil", "python3-pyelftools"]
    assert fields["Architecture"] == "all"
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path], check=True, timeout=TIMEOUT)
    text = (tmp_path / "usr/share/doc/vmcorefs/copyright").read_text(encoding="utf-8")
    assert "mfusepy.py" in text
    assert "Giorgos Verigakis" in text
    assert "Permission to use, copy, modify" in text


def test_the_same_sources_give_the_same_package(sources: Path, deb: Path, tmp_path: Path) -> None:
    make(sources, "deb", tmp_path, umask=0o077)
    (again,) = (tmp_path / "dist").glob("*.deb")
    assert again.read_bytes() == deb.read_bytes()


def test_install_demo_purge(deb: Path, system: Root) -> None:
    """What the README's make demo does, from the package; afterwards the system is as it was.

    The system has nothing that Depends does not bring, so Depends is complete.
    """
    before = system.files()
    system.put(deb, "/root/vmcorefs.deb")
    system.run("dpkg -i /root/vmcorefs.deb")
    assert system.run("command -v vmcorefs; command -v mount.vmcorefs").split() == ["/usr/bin/vmcorefs", "/usr/sbin/mount.vmcorefs"]
    assert list((system.path / "usr/lib/vmcorefs/vmcorefs/cli/__pycache__").glob("main.*.pyc")), "no byte code"

    words = system.run(DEMO).splitlines()
    assert words[-1].startswith("identical: "), words[-1]
    assert f" {sparse.load(CAPTURE).vmcore_size} bytes " in words[-1]
    assert mounts(system.run(MOUNT_8)) == ["fuse.vmcorefs /root/project/oldmem.img"] * 2
    assert system.run(AS_NOBODY).endswith("\x7fELF")

    system.run("dpkg -i /root/vmcorefs.deb")  # an upgrade
    system.run("vmcorefs --version && dpkg --verify vmcorefs")
    system.run("dpkg --purge vmcorefs")
    after = system.files()
    assert after == before


def test_capture_files_of_the_administrator_stay(deb: Path, system: Root) -> None:
    system.put(deb, "/root/vmcorefs.deb")
    system.run("dpkg -i /root/vmcorefs.deb && echo 'image = \"/dumps/1\"' >/etc/vmcorefs/db7.toml")
    system.run("dpkg --purge vmcorefs")
    file = system.path / "etc/vmcorefs/db7.toml"
    assert file.read_text() == 'image = "/dumps/1"\n'
    file.unlink()
    file.parent.rmdir()
