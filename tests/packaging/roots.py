"""A small Debian 12 that has what the package depends on and nothing else: made once a machine, copied for each use.

Commands run in it by chroot, in a mount and a process namespace of their own: with the last command of a script every mount
and every process is gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.captures import sparse
from tests.mounts.mounting import need_mounts, need_root, skip_or_fail
from tests.packaging.building import ROOT, TIMEOUT, need

CAPTURE = "k61-smp4-offline"  # demo/demo.py's
_PROJECT = ("demo/__init__.py", "demo/demo.py", "tests/__init__.py", "tests/captures/__init__.py", "tests/captures/sparse.py",
            f"tests/captures/{CAPTURE}")
# What changes when anything is installed or mounted (libfuse makes the lock), and what every RPM system has.
_OTHERS = re.compile(r"(dev|proc|sys|tmp|run|root|etc/mtab\.fuselock|usr/share/licenses|var/(log|cache|lib/(dpkg|rpm)))(/|$)")


def dependencies() -> list[str]:
    """The names in Depends of the package that is built, so that one which it lacks is lacking here, too."""
    control = (ROOT / "packaging" / "debian" / "control").read_text(encoding="utf-8")
    found = re.search(r"^Depends: (.*)$", control, re.MULTILINE)
    assert found
    return sorted(word.split()[0] for word in found[1].split(", ") if not word.startswith("$"))


def _cached() -> Path:
    recipe = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", f"--include={','.join(dependencies())}",
              *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("locale", "doc")),
              '--customize-hook=rm "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap', "bookworm"]  # only these packages lack their papers
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmcorefs"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"debian-12-{hashlib.sha256(' '.join(recipe).encode()).hexdigest()[:12]}"
    with open(f"{root}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            part = Path(f"{root}.part")
            shutil.rmtree(part, ignore_errors=True)
            done = subprocess.run([*recipe, part, "http://deb.debian.org/debian"], check=False, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                shutil.rmtree(part, ignore_errors=True)
                skip_or_fail(f"mmdebstrap: {done.stdout[-1000:]}")
            part.rename(root)
    return root


class Root:
    """A copy of the small Debian."""

    def __init__(self, path: Path):
        self.path = path

    def try_(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it; it ends at the first command that fails."""
        outside = 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -euc "$1"'
        return subprocess.run(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", outside,
                               self.path, script], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, cwd="/",
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"})

    def run(self, script: str) -> str:
        """The script's output; it must succeed."""
        done = self.try_(script)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def put(self, file: Path, where: str) -> None:
        shutil.copy(file, self.path / where.lstrip("/"))

    def files(self) -> dict[str, tuple[int, int]]:
        """Name -> (mode, size) of all that belongs to the system."""
        found = {}
        for folder, names, files in os.walk(self.path):
            inside = os.path.relpath(folder, self.path)
            names[:] = [name for name in names if not _OTHERS.match(os.path.normpath(f"{inside}/{name}"))]
            for name in [*names, *files]:
                about, path = os.lstat(os.path.join(folder, name)), os.path.normpath(f"{inside}/{name}")
                if not _OTHERS.match(path):
                    found[path] = (about.st_mode, about.st_size if stat.S_ISREG(about.st_mode) else 0)
        return found


@contextmanager
def root(path: Path) -> Iterator[Root]:
    """A new one at *path*, with the demo and an image in /root/project; removed at the end."""
    need_root()
    need_mounts()
    need("mmdebstrap", "unshare", "chroot")
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", _cached(), path], check=True, timeout=TIMEOUT)
        os.mknod(path / "dev" / "fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
        (path / "dev" / "fuse").chmod(0o666)
        project = path / "root" / "project"
        for name in _PROJECT:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, project / name)
        sparse.expand(CAPTURE, project)
        yield Root(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


DEMO = "cd /root/project && /usr/bin/python3 -B -m demo.demo"

# mount(8) with both names of the helper, and what it mounts is what the kernel served.
MOUNT_8 = """
cd /root/project
vmcorefs copy --log-level error oldmem.img /tmp/copy
mkdir -p /mnt/dump
for type in vmcorefs fuse.vmcorefs; do
    mount -t $type /root/project/oldmem.img /mnt/dump -o ro,nosuid
    findmnt -n -o FSTYPE,SOURCE /mnt/dump
    cmp /mnt/dump/vmcore /tmp/copy
    umount /mnt/dump
done
rm -r /tmp/copy /mnt/dump
"""


def mounts(output: str) -> list[str]:
    """What findmnt said of each mount."""
    return [line for line in output.splitlines() if line.startswith("fuse.")]


# Another user than root, through fusermount3.
AS_NOBODY = """
install -d -o nobody /tmp/nobody /tmp/nobody/mnt
cp --sparse=always /root/project/oldmem.img /tmp/nobody/
chown nobody /tmp/nobody/oldmem.img
setpriv --reuid=nobody --regid=nogroup --clear-groups --reset-env sh -euc '
    cd /tmp/nobody
    vmcorefs mount oldmem.img mnt
    head -c 4 mnt/vmcore
    vmcorefs umount mnt'
rm -r /tmp/nobody
"""
