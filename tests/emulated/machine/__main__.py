"""make s390x: boot Debian's s390x kernel, have captures mounted there, say what came of it.

    python -m tests.emulated.machine DIRECTORY

DIRECTORY is what scripts/s390x-machine made. Exit status 0: every check went well; 1: not; 3: something is missing here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from tests.emulated.machine.given import CAPTURES, COMMANDS, START, USER, Given, arguments, expand
from tests.emulated.machine.guest import END, MACHINE
from tests.emulated.machine.initramfs import Initramfs

ROOT = Path(__file__).resolve().parents[3]
QEMU = "qemu-system-s390x"
TIMEOUT = 1800.0
_LEAVE = frozenset({"gconv", "modules", "systemd", "udev", "doc", "man", "locale", "__pycache__", "initramfs-tools", "bash-completion"})

_INIT = """#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/vmcorefs:/bindings HOME=/tmp LC_ALL=C.UTF-8
/bin/busybox --install -s /usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=1777 tmp /tmp
insmod /fuse.ko
chmod 666 /dev/fuse
python3.11 -m tests.emulated.machine.guest /given.json
sync
poweroff -f
"""


def given_here() -> Given:
    """What the product gives on this machine."""
    with tempfile.TemporaryDirectory(prefix="vmcorefs-s390x-") as folder:
        size, sums, starts, output = {}, {}, {}, {}
        for name in CAPTURES:
            files = expand(name, Path(folder, name))
            copy = Path(folder, name, "copy")
            _product("copy", *arguments(files), copy)
            data = copy.read_bytes()
            size[name], sums[name], starts[name] = len(data), hashlib.sha256(data).hexdigest(), hashlib.sha256(data[:START]).hexdigest()
            output[name] = {command: _product(*command.split(), *arguments(files)) for command in COMMANDS}
        bindings = " and ".join(f"{name} {version(name)}" for name in ("mfusepy", "fusepy"))
        return Given(platform.machine(), bindings, folder, size, sums, starts, output)


def _product(*words: str | Path) -> str:
    return subprocess.run([sys.executable, "-m", "vmcorefs", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=words[0] != "check", cwd=ROOT).stdout


def initramfs(debian: Path, given: Given) -> bytes:
    """Debian's packages as far as they are needed, the product, its tests, the bindings, the captures."""
    made = Initramfs()
    for folder in ("proc", "sys", "dev", "tmp", "run", "usr/sbin"):
        made.add_folder(folder)
    for folder in ("bin", "lib", "usr/bin", "usr/lib", "etc"):
        made.add(debian / folder, folder, leave=_LEAVE | {"fusermount3"})
    made.add_bytes("bin/fusermount3", (debian / "bin/fusermount3").read_bytes(), 0o4755)  # as Debian's postinst makes it
    made.add_bytes("etc/passwd", f"root:x:0:0::/tmp:/bin/sh\nsomebody:x:{USER}:{USER + 1}::/tmp:/bin/sh\n".encode())
    made.add_bytes("etc/group", f"root:x:0:\nsomebody:x:{USER + 1}:\n".encode())
    made.add_link("etc/mtab", "/proc/self/mounts")
    (module,) = debian.glob("lib/modules/*/kernel/fs/fuse/fuse.ko")
    made.add_bytes("fuse.ko", module.read_bytes())
    made.add(ROOT / "vmcorefs", "vmcorefs/vmcorefs", leave=_LEAVE)
    for name in ("__init__.py", "captures/__init__.py", "captures/sparse.py", "emulated/__init__.py"):
        made.add(ROOT / "tests" / name, f"vmcorefs/tests/{name}")
    made.add(ROOT / "tests/emulated/machine", "vmcorefs/tests/emulated/machine", leave=_LEAVE)
    for name in CAPTURES:
        made.add(ROOT / "tests/captures" / name, f"vmcorefs/tests/captures/{name}")
    for name in ("mfusepy", "fuse"):
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin, name
        made.add_bytes(f"bindings/{name}.py", Path(spec.origin).read_bytes())
    made.add_bytes("given.json", given.write())
    made.add_bytes("init", _INIT.encode(), 0o755)
    return made.data()


def boot(kernel: Path, root: Path) -> list[str]:
    """What the machine said, which is printed while it runs."""
    command = [QEMU, "-machine", "s390-ccw-virtio", "-cpu", "max", "-smp", "2", "-m", "1536", "-nodefaults", "-display", "none",
               "-no-reboot", "-chardev", "stdio,id=console,signal=on", "-device", "sclpconsole,chardev=console",
               "-kernel", str(kernel), "-initrd", str(root), "-append", "console=ttysclp0 quiet panic=-1 rdinit=/init"]
    print("$", " ".join(command), flush=True)
    said = []
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the machine does not outlive this
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="backslashreplace") as machine:
        timer = threading.Timer(TIMEOUT, machine.kill)
        timer.start()
        try:
            assert machine.stdout is not None
            for line in machine.stdout:
                said.append(line.rstrip())
                print(said[-1], flush=True)
        finally:
            timer.cancel()
            machine.kill()
    return said


def verdict(said: list[str]) -> tuple[bool, str]:
    """Whether all went well, and that in one line."""
    good = sum(line.startswith("ok ") for line in said)
    failed = sum(line.startswith("FAILED ") for line in said)
    ends = [int(line.removeprefix(END)) for line in said if re.fullmatch(re.escape(END) + r" \d+", line)]
    if len(ends) != 1:
        return False, f"the machine ended after {good + failed} checks, {failed} of them failed, without its last word"
    if failed or not good or ends[0] != good:
        return False, f"{failed} of {ends[0]} checks failed, {good} went well"
    return True, f"all {good} checks went well"


def main() -> int:
    """See the module."""
    if len(sys.argv) != 2 or shutil.which(QEMU) is None:
        print(f"s390x: {QEMU} is not installed" if len(sys.argv) == 2 else __doc__, file=sys.stderr)
        return 3
    begin = time.monotonic()
    debian = Path(sys.argv[1])
    (kernel,) = debian.glob("boot/vmlinuz-*")
    with tempfile.NamedTemporaryFile(prefix="vmcorefs-initramfs-") as root:
        root.write(initramfs(debian, given_here()))
        root.flush()
        said = boot(kernel, Path(root.name))
    good, words = verdict(said)
    machine = next((line.removeprefix(MACHINE).strip() for line in said if line.startswith(MACHINE)), "no machine answered")
    print(f"s390x: {'ok' if good else 'FAILED'}: {words}; {machine}; {time.monotonic() - begin:.0f} s in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
