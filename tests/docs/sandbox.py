"""A system of its own for the walk-throughs of the man pages: a mount and pid namespace in which /etc, /srv, /mnt, /media, /run,
/home, /opt, /usr/local/bin and /sbin are private, vmcorefs is installed, and dumps lie under /srv/dumps. Nothing of it reaches the
system outside, and everything in it ends with it.
"""

from __future__ import annotations

import os
import shlex
import site
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.captures.sparse import expand
from tests.mounts.mounting import need_mounts, skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
DUMPS = {"db7": "k61-smp1", "web1": "k61-zfcpdump-smp3", "lab3": "k61-plain"}
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT = 120.0

# What a user other than root cannot reach where it is (Python below /root, a clone in somebody's home) is bound below /opt.
_SETUP = """
set -eu
# The copies of other vmcorefs mounts would keep their daemons alive.
while read -r -a row; do
    [[ " ${{row[*]}} " == *" - fuse.vmcorefs "* ]] || continue
    printf -v where '%b' "${{row[4]//\\\\/\\\\0}}"
    umount -l -- "$where" || true
done < /proc/self/mountinfo
# What is needed is bound below /media first: where it lies (a clone in /home, Python in /opt) may be covered afterwards.
mount -t tmpfs -o mode=755 none /media && cd /media
mkdir python site source programs dumps etc sbin system
mount --bind {python} python
mount --bind {site} site
mount --bind {source} source
mount --bind {programs} programs
mount --bind {dumps} dumps
cp -a /etc/. etc && mount --bind etc /etc
mount --bind /usr/sbin system && ln -s /media/system/* sbin/ && mount --bind sbin /usr/sbin
for path in /srv /mnt /run /home /opt /usr/local/bin; do mount -t tmpfs -o mode=755 none "$path"; done
for name in python site source; do mkdir -p /opt/vmcorefs/$name; mount --bind $name /opt/vmcorefs/$name; done
mkdir /srv/dumps && mount --bind dumps /srv/dumps
cp programs/vmcorefs /usr/local/bin/
cp --remove-destination programs/mount.vmcorefs /usr/sbin/
ln -sf mount.vmcorefs /usr/sbin/mount.fuse.vmcorefs
mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse
useradd -m -s /bin/bash alice
cp --sparse=always /srv/dumps/db7/oldmem.img /home/alice/ && chown alice: /home/alice/oldmem.img
echo ready
read -r _ || true  # bash reaps what ends in the meantime, as a system's first process must
"""

_PROGRAM = """\
#!{python}
import sys
sys.path[:0] = ["/opt/vmcorefs/source", "/opt/vmcorefs/site"]
from vmcorefs.cli.{module} import main
sys.exit(main())
"""


class Sandbox:
    """A running one. Working directories are kept from one command to the next, for each user."""

    def __init__(self, pid: int, folder: Path):
        self._pid = pid
        self._folder = folder
        self._where = {"root": "/root", "alice": "/home/alice"}

    def run(self, command: str, user: str = "root") -> tuple[int, str]:
        """Exit status, and what it wrote to standard output and standard error."""
        words = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--", "env", "-i", f"PATH={_PATH}", "LC_ALL=C.UTF-8",
                 f"HOME=/{'root' if user == 'root' else 'home/' + user}"]
        if user != "root":
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        script = f"cd {shlex.quote(self._where[user])} || exit\n{command}\nstatus=$?; pwd >&3; exit $status"
        # Files, not pipes: what a command leaves running in the background may keep its standard output open.
        with (self._folder / "output").open("w+") as output, (self._folder / "where").open("w+") as where:
            done = subprocess.run([*words, "bash", "-c", f"exec 3>&{where.fileno()}\n{script}"], stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=output, check=False, timeout=_TIMEOUT, pass_fds=[where.fileno()])
            output.seek(0)
            where.seek(0)
            self._where[user] = where.read().strip() or self._where[user]
            return done.returncode, output.read()


def _install(folder: Path) -> dict[str, str]:
    """Write the programs and dumps that the sandbox has; the words of _SETUP."""
    python = Path(os.path.realpath(sys.executable))
    inside = f"/opt/vmcorefs/python/{python.relative_to(os.path.realpath(sys.base_prefix))}"
    programs = folder / "programs"
    programs.mkdir()
    for name, module in (("vmcorefs", "main"), ("mount.vmcorefs", "mount_vmcorefs")):
        (programs / name).write_text(_PROGRAM.format(python=inside, module=module))
        (programs / name).chmod(0o755)
    for name, capture in DUMPS.items():
        expand(capture, folder / "dumps" / name)
    words = {"dumps": folder / "dumps", "python": os.path.realpath(sys.base_prefix),
             "site": site.getsitepackages()[0], "source": ROOT, "programs": programs}
    return {key: shlex.quote(str(value)) for key, value in words.items()}


@contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """*folder*: an empty one, which the sandbox keeps its files in."""
    need_mounts()
    if os.geteuid() != 0:
        skip_or_fail("a mount namespace needs root")
    script = textwrap.dedent(_SETUP).format(**_install(folder))
    process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        word = process.stdout.readline()
        assert word == "ready\n", "the sandbox could not be set up, see above"
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        yield Sandbox(child, folder)
    finally:
        process.communicate()  # closes its standard input: the first process of the namespace ends, and all others with it
