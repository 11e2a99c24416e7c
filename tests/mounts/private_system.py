"""A mount and pid namespace with a system of its own: what mount(8) calls is in its /sbin, and /dev, /etc/fstab, /etc/fuse.conf, /run
and /tmp are its own. Nothing of it reaches the system outside; all its processes and mounts end with it.
"""

from __future__ import annotations

import os
import shlex
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mounts.mounting import TIMEOUT, Finished, Path_, Row, need_mounts, need_root

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534

_SETUP = """
set -eu
# The copies of other mounts would keep their daemons alive.
mapfile -t rows < /proc/self/mountinfo
for row in "${{rows[@]}}"; do
    [[ $row == *" - fuse"* ]] || continue
    read -r _ _ _ _ where _ <<< "$row"
    printf -v where '%b' "${{where//\\\\/\\\\0}}"
    umount -l -- "$where" || true
done
cd {folder}
mkdir stash stage
mount -t tmpfs none stash && cd stash
{reach}
cd {folder}
mount -t tmpfs -o mode=755 none stage && cd stage
mkdir sbin system dev
mount --bind /usr/sbin system && ln -s "$PWD"/system/* sbin/
for program in {programs}/*; do ln -sf "$program" sbin/; done
mount --bind sbin /usr/sbin
cp -a /dev/null /dev/zero /dev/full /dev/urandom dev/ && ln -s /proc/self/fd dev/fd
mknod dev/fuse c 10 229 && chmod 666 dev/fuse
mount --bind dev /dev
touch fstab fuse.conf && mount --bind fstab /etc/fstab && mount --bind fuse.conf /etc/fuse.conf
mount -t tmpfs -o mode=755 none /run
echo ready
read -r _ || true  # bash reaps what ends in the meantime, as a system's first process must
"""

_PROGRAM = """#!/bin/sh
PYTHONPATH={path} exec {python} -c 'import sys; from vmcorefs.cli.{module} import main; sys.exit(main())' "$@"
"""
_PROGRAMS = {"vmcorefs": "main", "mount.vmcorefs": "mount_vmcorefs", "mount.fuse.vmcorefs": "mount_vmcorefs"}


class PrivateSystem:
    """A running one. Paths are as outside, and *folder*, where commands run, is the test's own; users other than root may go
    there. /etc/fstab and /etc/fuse.conf are empty.
    """

    def __init__(self, pid: int, folder: Path):
        self._pid = pid
        self.folder = folder

    def run(self, *words: Path_, user: int = 0, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL) -> Finished:
        """A command, to its end."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--", "env", f"--chdir={self.folder}"]
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user else []
        environment = os.environ | {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin"} | (env or {})
        environment.pop("XDG_RUNTIME_DIR", None)
        return subprocess.run([*enter, *as_user, *words], stdin=stdin, capture_output=True, check=False, timeout=TIMEOUT, env=environment)

    def path(self, path: Path_) -> Path:
        """A path of it as it is reached from outside."""
        return Path(f"/proc/{self._pid}/root{os.fsdecode(path)}")

    def rows(self) -> list[Row]:
        """Its vmcorefs mounts."""
        lines = Path(f"/proc/{self._pid}/mountinfo").read_bytes().split(b"\n")
        return [row for line in lines if line and (row := Row(line)).type == "fuse.vmcorefs"]

    def write(self, path: str, text: str) -> None:
        """Replace the text of a file of it."""
        self.path(path).write_text(text, encoding="utf-8")


_TMP = Path("/tmp")  # noqa: S108 - the place itself, which is made private


def _reach(needed: list[Path]) -> str:
    """Shell commands that make directories reachable for everybody at their own paths, by an empty directory in the place of the
    topmost that is closed; the same with /tmp.
    """
    covers: dict[Path, list[Path]] = {_TMP: []}
    for path in needed:
        closed = [folder for folder in (*reversed(path.parents), path) if folder == _TMP or not folder.stat().st_mode & 0o001]
        if closed:
            covers.setdefault(closed[0], []).append(path)
    stash: list[str] = []
    show: list[str] = []
    for cover, paths in covers.items():
        show.append(f"mount -t tmpfs -o mode={'1777' if cover == _TMP else '755'} none {shlex.quote(str(cover))}")
        for path in paths:
            place, kept = shlex.quote(str(path)), f"kept{len(stash)}"
            stash.append(f"mkdir {kept} && mount --bind {place} {kept}")
            show.append(f"mkdir -p {place} && mount --bind {kept} {place}")
    return "\n".join(stash + show)


@contextmanager
def private_system(folder: Path) -> Iterator[PrivateSystem]:
    """*folder* is an empty directory."""
    need_mounts()
    need_root()
    programs = folder / "programs"
    programs.mkdir()
    packages = site.getsitepackages()[0]
    for name, module in _PROGRAMS.items():
        text = _PROGRAM.format(path=shlex.quote(f"{ROOT}:{packages}"), python=shlex.quote(sys.executable), module=module)
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    folder.chmod(0o755)
    needed = [Path(os.path.realpath(sys.base_prefix)), Path(packages), Path(sys.prefix), ROOT, folder]
    script = _SETUP.format(folder=shlex.quote(str(folder)), programs=shlex.quote(str(programs)), reach=_reach(list(dict.fromkeys(needed))))
    process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the private system could not be set up, see above"
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii"))
        yield PrivateSystem(child, folder)
    finally:
        process.communicate()  # closes its standard input: its first process ends, and all others with it
