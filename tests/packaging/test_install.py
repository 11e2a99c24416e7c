"""make install and make uninstall."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import vmcorefs
from tests.captures import sparse
from tests.mounts.mounting import clear, need_mounts, run, words
from tests.packaging.building import ROOT, TIMEOUT, make, system_python
from vmcorefs.capture import make_capture
from vmcorefs.cli.mount_options import MOUNT_FIELDS

CAPTURE = "k61-smp4-offline"


def tree(folder: Path) -> dict[str, str]:
    """Name -> mode of every file and link below."""
    found = {}
    for base, names, files in os.walk(folder):
        for name in [*files, *(name for name in names if os.path.islink(os.path.join(base, name)))]:
            path = os.path.join(base, name)
            found[os.path.relpath(path, folder)] = stat.filemode(os.lstat(path).st_mode)
    return found


def wanted(sources: Path, prefix: str, helpers: str) -> dict[str, str]:
    """What must be there, found independently of install.py."""
    libraries = {f"{prefix}/lib/vmcorefs/{path.relative_to(sources)}" for path in (sources / "vmcorefs").rglob("*.py")}
    libraries |= {f"{prefix}/lib/vmcorefs/fuse.py", f"{prefix}/lib/vmcorefs/mfusepy.py"}
    doc = f"{prefix}/share/doc/vmcorefs"
    files = {f"{prefix}/share/man/man1/vmcorefs.1", f"{prefix}/share/man/man5/vmcorefs.toml.5",
             f"{prefix}/share/man/man8/mount.vmcorefs.8", f"{prefix}/lib/systemd/system/vmcorefs@.service",
             f"{prefix}/share/bash-completion/completions/vmcorefs", f"{prefix}/share/zsh/site-functions/_vmcorefs",
             f"{prefix}/share/fish/vendor_completions.d/vmcorefs.fish", f"{doc}/examples/capture.toml",
             f"{doc}/licences/fusepy.txt", f"{doc}/licences/mfusepy.txt"}
    files |= {f"{doc}/{name}" for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")}
    files |= {f"{doc}/docs/{path.name}" for path in (sources / "docs").iterdir()}
    files |= {f"{doc}/examples/{path.name}" for path in (sources / "systemd").iterdir() if path.is_file() and path.suffix != ".service"}
    files |= {f"{doc}/examples/{path.name}" for path in (sources / "examples").iterdir()}
    programs = {f"{doc}/examples/{name}": "-rwxr-xr-x" for name in ("kdump-post.sh", "vmcorefs-register")}
    return dict.fromkeys(libraries | files, "-rw-r--r--") | programs | {
        f"{prefix}/bin/vmcorefs": "-rwxr-xr-x", f"{helpers}/mount.vmcorefs": "-rwxr-xr-x",
        f"{helpers}/mount.fuse.vmcorefs": "lrwxrwxrwx", f"{prefix}/share/man/man8/mount.fuse.vmcorefs.8": "lrwxrwxrwx"}


@pytest.mark.parametrize("prefix", ["/usr/local", "/usr"])
def test_system_wide_files(sources: Path, prefix: str, tmp_path: Path) -> None:
    """The mount helpers are where mount(8) looks, and the configuration is in /etc, for /usr/local, too."""
    target = tmp_path / "new root"
    make(sources, "install", tmp_path, f"DESTDIR={target}", *([] if prefix == "/usr/local" else [f"prefix={prefix}"]), umask=0o077)
    helpers = "usr/sbin" if os.path.samefile("/sbin", "/usr/sbin") else "sbin"
    assert tree(target) == wanted(sources, prefix.lstrip("/"), helpers)
    assert (target / "etc/vmcorefs").is_dir()
    assert {stat.filemode(path.stat().st_mode) for path in target.rglob("*") if path.is_dir()} == {"drwxr-xr-x"}
    assert os.readlink(target / helpers / "mount.fuse.vmcorefs") == "mount.vmcorefs"
    program = (target / prefix.lstrip("/") / "bin/vmcorefs").read_text()
    assert program.startswith("#!/usr/bin/python3 -IB\n")
    assert f"LIBRARIES = '{prefix}/lib/vmcorefs'" in program

    (target / "etc/vmcorefs/db7.toml").touch()
    make(sources, "uninstall", tmp_path, f"DESTDIR={target}", f"prefix={prefix}")
    assert set(tree(target)) == {"etc/vmcorefs/db7.toml"}


def test_folders_of_ones_own(sources: Path, tmp_path: Path) -> None:
    make(sources, "install", tmp_path, f"DESTDIR={tmp_path}/d", "prefix=/opt/x", "sysconfdir=/conf", "mandir=/m", "mounthelperdir=/h",
         "INTERPRETER=/usr/bin/python3.12", "pkglibdir=/p/vmcorefs")
    files = tree(tmp_path / "d")
    assert {"h/mount.vmcorefs", "m/man8/mount.vmcorefs.8", "p/vmcorefs/mfusepy.py", "opt/x/bin/vmcorefs"} <= set(files)
    assert (tmp_path / "d/conf/vmcorefs").is_dir()
    assert (tmp_path / "d/opt/x/bin/vmcorefs").read_text().startswith("#!/usr/bin/python3.12 -IB\n")
    unit = (tmp_path / "d/opt/x/lib/systemd/system/vmcorefs@.service").read_text()
    assert "/conf/vmcorefs/" in unit
    assert "/etc/vmcorefs" not in unit
    register = (tmp_path / "d/opt/x/share/doc/vmcorefs/examples/vmcorefs-register").read_text()
    assert "config=${VMCOREFS_CONFIG:-/conf/vmcorefs}" in register
    assert "/etc/vmcorefs" not in register


@pytest.mark.parametrize("setting", ["pkglibdir=/usr/lib", "docdir=/usr/share/doc", "bindir=bin", "prefix=/a/../b", "INTERPRETER=python3"])
def test_dangerous_folders_are_refused(sources: Path, setting: str, tmp_path: Path) -> None:
    """pkglibdir and docdir are removed as a whole."""
    done = make(sources, "install", tmp_path, f"DESTDIR={tmp_path}/d", setting, check=False)
    assert done.returncode != 0
    assert setting.partition("=")[2].rpartition("..")[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()


def test_an_older_version_leaves_nothing(sources: Path, tmp_path: Path) -> None:
    old = tmp_path / "d/usr/local/lib/vmcorefs/vmcorefs/gone.py"
    old.parent.mkdir(parents=True)
    old.touch()
    make(sources, "install", tmp_path, f"DESTDIR={tmp_path}/d")
    make(sources, "install", tmp_path, f"DESTDIR={tmp_path}/d")
    assert tree(tmp_path / "d") == wanted(
        sources, "usr/local", "usr/sbin" if os.path.samefile("/sbin", "/usr/sbin") else "sbin")


def test_the_installed_program(sources: Path, tmp_path: Path) -> None:
    """Runs with the system's Python; what PYTHONPATH and the home directory hold does not matter."""
    need_mounts()
    system_python()
    prefix = tmp_path / "prefix"
    done = make(sources, "install", tmp_path, f"prefix={prefix}")
    assert done.stdout.splitlines()[-1] == f"vmcorefs {vmcorefs.__version__}"
    assert f"ln -s {prefix}/sbin/mount.vmcorefs /sbin/" in done.stdout
    assert "systemctl link" in done.stdout

    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("vmcorefs", "mfusepy", "fuse", "psutil", "argparse", "sitecustomize"):
        (poison / f"{name}.py").write_text("raise SystemExit('poisoned')\n")
    environment = {**os.environ, "PYTHONPATH": str(poison), "PYTHONHOME": "/nowhere", "PYTHONUSERBASE": str(poison)}
    image, where = sparse.expand(CAPTURE, tmp_path / "capture").image, tmp_path / "mnt"
    where.mkdir()

    def start(program: str, *words: str | Path) -> None:
        ran = subprocess.run([prefix / program, *words], check=False, env=environment, cwd=poison, stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=TIMEOUT)
        assert ran.returncode == 0, ran.stderr

    try:
        start("bin/vmcorefs", "mount", image, where)
        assert sparse.compare(CAPTURE, where / "vmcore") == []
        start("bin/vmcorefs", "umount", where)
        if os.geteuid() == 0:
            start("sbin/mount.fuse.vmcorefs", image, where, "-o", "ro,nosuid")
            assert sparse.compare(CAPTURE, where / "vmcore") == []
            start("bin/vmcorefs", "umount", where)
    finally:
        clear(where)
    assert list((prefix / "lib/vmcorefs/vmcorefs/__pycache__").glob("*.pyc")), "no byte code"
    make(sources, "uninstall", tmp_path, f"prefix={prefix}")
    assert tree(prefix) == {}


def test_every_place_says_the_same_version() -> None:
    spec = (ROOT / "packaging/vmcorefs.spec").read_text()
    found = {
        "vmcorefs.spec": re.search(r"^Version: +(.*)$", spec, re.MULTILINE),
        "spec's changelog": re.search(r"^\* .* - (.*)-1$", spec, re.MULTILINE),
        "debian/changelog": re.match(r"vmcorefs \((.*)-1\)", (ROOT / "packaging/debian/changelog").read_text()),
    }
    assert {where: match and match[1] for where, match in found.items()} == dict.fromkeys(found, vmcorefs.__version__)
    for name in ("mfusepy", "fusepy"):
        assert f"bundled(python3-{name}) = {version(name)}\n" in spec, f"vmcorefs.spec: bundled {name} is {version(name)}"


def test_the_example_capture_file(tmp_path: Path) -> None:
    """It mounts, once its paths are right, and each of its keys is one, those behind "#", too."""
    need_mounts()
    image, where = sparse.expand(CAPTURE, tmp_path).image, tmp_path / "mnt"
    where.mkdir()
    text = (ROOT / "packaging/capture.toml").read_text().replace("/srv/dumps/db7/oldmem.img", str(image)).replace("/mnt/db7", str(where))
    every = re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE)
    assert every.count("\n#") < text.count("\n#")
    (tmp_path / "every.toml").write_text(every)
    make_capture(capture=tmp_path / "every.toml")
    assert set(tomllib.loads(every)["mount"]) <= {"mountpoint", *(field.name.replace("_", "-") for field in MOUNT_FIELDS)}
    (tmp_path / "db7.toml").write_text(text)
    try:
        done = run("mount", "--capture", tmp_path / "db7.toml")
        assert done.returncode == 0, words(done)
        assert sparse.compare(CAPTURE, where / "vmcore") == []
        assert run("umount", "--capture", tmp_path / "db7.toml").returncode == 0
    finally:
        clear(where)


def test_scripts_are_executable() -> None:
    for name in ("source-tree", "make-deb", "make-rpm", "debian/rules"):
        assert os.access(ROOT / "packaging" / name, os.X_OK), name
        if shutil.which("sh") and not name.endswith("rules"):
            subprocess.run(["sh", "-n", ROOT / "packaging" / name], check=True, timeout=TIMEOUT)
