"""Inside the s390x machine: captures are mounted for real, looked at in every way, and unmounted.

    python -m tests.emulated.machine.guest GIVEN.json

GIVEN.json says what the product gave on the machine that started this one (`Given`). Prints a line for each check and at last
`end of the checks: N`. Each setup runs in a process of its own, as the user who mounts: nobody else may look into such a mount.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import mmap
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.captures import sparse
from tests.emulated.machine.given import CAPTURES, COMMANDS, MTIME_NS, START, USER, Given, arguments, expand, read_given

MIB = 1 << 20
PAGE = 4096
MACHINE = "machine:"
END = "end of the checks:"
_ROOM = Path("/tmp/work")  # noqa: S108 - a machine of its own
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


@dataclass(frozen=True)
class Setup:
    """A way to mount: *user* is root or USER. *owned*: root gives the files to USER and lets others in. *whole*: every byte is
    read, which takes long here; else START bytes, and the pages that the capture's kernel served.
    """

    capture: str
    backend: str
    libfuse: int
    io: str
    user: int = 0
    owned: bool = False
    whole: bool = False

    def __str__(self) -> str:
        who = f"user {self.user}" if self.user else "root"
        return " ".join([f"{self.capture}, {self.backend} with libfuse {self.libfuse}, {who},", *self.options])

    @property
    def options(self) -> list[str]:
        """For the command line."""
        more = ["-o", f"allow_other,uid={USER},gid={USER + 1},mode=0440"] if self.owned else []
        return ["--backend", self.backend, "--io", self.io, *more]

    @property
    def environment(self) -> dict[str, str]:
        """mfusepy takes libfuse 3 by itself."""
        return dict(os.environ) | ({"FUSE_LIBRARY_PATH": "libfuse.so.2"} if self.libfuse == 2 else {})


SETUPS = (
    Setup("k61-smp1", "mfusepy", 3, "direct", whole=True),
    Setup("k61-smp1", "mfusepy", 3, "cached", owned=True, whole=True),
    Setup("k61-smp1", "fusepy", 2, "direct", owned=True),
    Setup("k61-smp1", "fusepy", 2, "cached"),
    Setup("k61-smp1", "mfusepy", 2, "cached"),
    Setup("k61-zfcpdump-smp3", "mfusepy", 3, "direct", USER),
    Setup("k612-smp2", "fusepy", 2, "cached", USER),
)
DAMAGED = (Setup("k61-smp1", "mfusepy", 3, "direct"), Setup("k61-smp1", "fusepy", 2, "cached"))


class Checks:
    """Says and counts."""

    def __init__(self) -> None:
        self.count = 0

    def equal(self, what: str, got: object, wanted: object) -> None:
        """One check."""
        self.count += 1
        good = got == wanted
        print(f"{'ok    ' if good else 'FAILED'} {what}: {got}{'' if good else f', but wanted: {wanted}'}", flush=True)


def vmcorefs(*words: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The product's command line, to its end."""
    return subprocess.run([sys.executable, "-m", "vmcorefs", *words], capture_output=True, text=True, check=False, timeout=300,
                          stdin=subprocess.DEVNULL, env=environment)


def row_of(where: Path) -> tuple[str, str, str] | None:
    """Type, source and the mount's own options (ro or rw alone) of what is mounted there."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[4] == str(where):
            kind, source = rest.split()[:2]
            return kind, source, fields.split()[5].split(",")[0]
    return None


def processes_at(where: Path) -> list[int]:
    """Living processes that have the mount point among their words: the daemon."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):
                if os.fsencode(where) in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


def wait_for_end(where: Path) -> str:
    """What is left of a mount, 30 seconds after it should have gone at the latest."""
    end = time.monotonic() + 30
    while (row_of(where) or processes_at(where)) and time.monotonic() < end:
        time.sleep(0.05)
    return f"mount {row_of(where)}, processes {processes_at(where)}"


NOTHING = "mount None, processes []"


@contextmanager
def mounted(checks: Checks, setup: Setup, words: list[str | Path], where: Path) -> Iterator[bool]:
    """Mounted by the real command; unmounted by it at the end."""
    where.mkdir()
    done = vmcorefs("mount", *setup.options, *words, where, environment=setup.environment)
    checks.equal("vmcorefs mount", f"exit status {done.returncode}", "exit status 0")
    if done.returncode:
        print(done.stderr, flush=True)
        yield False
        return
    try:
        yield True
    finally:
        if row_of(where):
            done = vmcorefs("umount", where)
            checks.equal("vmcorefs umount", f"exit status {done.returncode} {done.stderr.strip()}".strip(), "exit status 0")
            checks.equal("left after umount", wait_for_end(where), NOTHING)


def status_of(path: Path) -> str:
    """The fields of a stat that the adapter fills."""
    found = path.stat()
    times = {found.st_mtime_ns, found.st_atime_ns, found.st_ctime_ns}
    return (f"mode {found.st_mode:o} nlink {found.st_nlink} uid {found.st_uid} gid {found.st_gid} size {found.st_size} "
            f"blocks {found.st_blocks} blksize {found.st_blksize} rdev {found.st_rdev} times {sorted(times)}")


def resident(path: Path, length: int) -> int:
    """How many pages of the first *length* bytes are in the page cache (mincore(2))."""
    pages = length // PAGE
    descriptor = os.open(path, os.O_RDONLY)
    address = _LIBC.mmap(None, length, mmap.PROT_READ, mmap.MAP_PRIVATE, descriptor, 0)
    os.close(descriptor)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    vector = ctypes.create_string_buffer(pages)
    if _LIBC.mincore(address, length, vector):
        raise OSError(ctypes.get_errno(), "mincore")
    _LIBC.munmap(address, length)
    return sum(byte & 1 for byte in vector.raw)


def errno_of(path: Path, flags: int) -> str:
    """The name of the error that an open gives."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "opened"


def read_at(path: Path, size: int, offset: int, *, direct: bool = False) -> str:
    """The sum of what a read gives, or its error."""
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    try:
        with mmap.mmap(-1, size) as buffer:
            try:
                count = os.preadv(descriptor, [buffer], offset)
            except OSError as error:
                return errno.errorcode[error.errno or 0]
            return f"{count} bytes {hashlib.sha256(buffer[:count]).hexdigest()[:16]}"
    finally:
        os.close(descriptor)


def three_ways(path: Path, end: int) -> tuple[str, list[str]]:
    """sha256 of the bytes before *end* by plain reads, and where O_DIRECT reads or mmap gave something else."""
    digest, differs = hashlib.sha256(), []
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with open(path, "rb", buffering=0) as plain, mmap.mmap(plain.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped, \
            mmap.mmap(-1, MIB) as buffer:
        while data := plain.read(min(MIB, end - plain.tell())):
            at = plain.tell() - len(data)
            digest.update(data)
            count = os.preadv(direct, [memoryview(buffer)[:len(data)]], at)
            if buffer[:count] != data:
                differs.append(f"O_DIRECT read at {at:#x}")
            if mapped[at:at + len(data)] != data:
                differs.append(f"mmap at {at:#x}")
    os.close(direct)
    return digest.hexdigest(), differs


def listed(where: Path) -> str:
    """What vmcorefs list knows of a mount."""
    found = [one for one in json.loads(vmcorefs("list", "--json").stdout or "[]") if one["mountpoint"] == str(where)]
    if len(found) != 1:
        return f"{len(found)} times"
    (one,) = found
    daemons = processes_at(where)
    return (f"{one['state']}, {one['mode']} mode, {one['size']} bytes, {one['errors']} errors, more than {START} bytes read: "
            f"{one['reads'] > 0 and START < one['bytes'] < 10 * one['size']}, the right pid: {[one['pid']] == daemons}, "
            f"memory of {one['memory'] // (128 * MIB)} times 128 MiB")


def look(checks: Checks, setup: Setup, given: Given, image: Path, where: Path) -> None:
    """Everything that a reader may ask of a mount."""
    vmcore, capture = where / "vmcore", sparse.load(setup.capture)
    size = given.size[setup.capture]
    owner = USER if setup.owned or setup.user else 0
    group = USER + 1 if owner else 0
    common = f"uid {owner} gid {group}"
    mode, folder_mode = ("100440", "40550") if setup.owned else ("100400", "40555")
    checks.equal("mountinfo", row_of(where), ("fuse.vmcorefs", str(image), "ro"))
    checks.equal("stat of vmcore", status_of(vmcore), f"mode {mode} nlink 1 {common} size {size} blocks {-(-size // 512)} "
                                                      f"blksize {MIB} rdev 0 times {[MTIME_NS]}")
    with open(vmcore, "rb") as file:
        checks.equal("fstat where it differs from stat", [pair for pair in zip(os.fstat(file.fileno()), vmcore.stat(), strict=True)
                                                          if pair[0] != pair[1]], [])
    below = len(os.listdir(where / "cpus"))
    checks.equal("stat of the folder cpus", status_of(where / "cpus"), f"mode {folder_mode} nlink {2 + below} {common} size 0 blocks 0 "
                                                                       f"blksize {MIB} rdev 0 times {[MTIME_NS]}")
    checks.equal("names", sorted(set(os.listdir(where)) - {"dmesg.txt"}), ["cpus", "info.json", "vmcore", "vmcoreinfo.txt"])
    space = os.statvfs(where)
    checks.equal("statvfs", f"bsize {space.f_bsize} frsize {space.f_frsize} bfree {space.f_bfree} namemax {space.f_namemax} "
                            f"room for vmcore: {0 <= space.f_blocks * 4096 - size < 64 * MIB}",
                 f"bsize {MIB} frsize 4096 bfree 0 namemax 255 room for vmcore: True")
    checks.equal("open for writing", errno_of(vmcore, os.O_RDWR), "EROFS")
    # What is read with direct_io never gets into the page cache; with keep_cache it stays there over the next open
    with open(vmcore, "rb", buffering=0) as file:
        while file.tell() < START and file.read(MIB):
            pass
    checks.equal(f"of {START // PAGE} pages read in the page cache after the next open", resident(vmcore, START),
                 0 if setup.io == "direct" else START // PAGE)
    with open(vmcore, "rb") as file:
        checks.equal("where header and pages differ from what the capture's kernel served", sparse.compare(setup.capture, file), [])
    end, wanted = (size, given.sha256) if setup.whole else (START, given.start_sha256)
    digest, differs = three_ways(vmcore, end)
    checks.equal(f"sha256 of {'all' if setup.whole else 'the first'} {end} bytes", digest, wanted[setup.capture])
    checks.equal("where O_DIRECT reads or mmap differ from read", differs, [])
    text = (where / "vmcoreinfo.txt").read_text("ascii")
    checks.equal("vmcoreinfo.txt", text.partition("\n")[0], f"OSRELEASE={capture.release}")
    keys = sorted(json.loads(given.output[setup.capture]["info --json"]))
    checks.equal("keys of info.json", sorted(json.loads((where / "info.json").read_text("utf-8"))), keys)
    checks.equal("vmcorefs list", listed(where), f"ok, {capture.mode} mode, {size} bytes, 0 errors, more than {START} bytes read: True, "
                                                 "the right pid: True, memory of 0 times 128 MiB")


def damaged(checks: Checks, setup: Setup, given: Given, room: Path) -> None:
    """The image loses its last MiB under the mount: what is there is read, the rest is an error, and the end stays where it was.

    The image's end is the end of [B, B+S), where old [0, S) is; so the loss is in the middle of vmcore.
    """
    capture = sparse.load(setup.capture)
    assert capture.header is not None
    image = expand(setup.capture, room / "damaged").image
    border = len(capture.header) + capture.size - MIB
    half = MIB // 2
    good = read_at(image, half, capture.image_size - MIB - half)
    behind = read_at(image, PAGE, capture.size)
    with mounted(checks, setup, [image], room / "mnt") as lives:
        if not lives:
            return
        vmcore = room / "mnt/vmcore"
        os.truncate(image, capture.image_size - MIB)
        for direct in (False, True):
            how = "O_DIRECT read" if direct else "read"
            checks.equal(f"{how} over the first lost byte", read_at(vmcore, MIB, border - half, direct=direct), good)
            checks.equal(f"{how} of the first lost byte", read_at(vmcore, PAGE, border, direct=direct), "EIO")
            checks.equal(f"{how} behind the lost bytes", read_at(vmcore, PAGE, border + MIB, direct=direct), behind)
        checks.equal("size", vmcore.stat().st_size, given.size[setup.capture])
        for pid in processes_at(room / "mnt"):
            os.kill(pid, signal.SIGTERM)
        checks.equal("left after SIGTERM", wait_for_end(room / "mnt"), NOTHING)


def without_mount(checks: Checks, given: Given, room: Path) -> None:
    """copy, info and check give what they gave on the other machine."""
    for name in CAPTURES:
        files = expand(name, Path(given.folder, name))  # the paths are in what they say
        for command in COMMANDS:
            done = vmcorefs(*command.split(), *arguments(files))
            checks.equal(f"lines of vmcorefs {command} of {name} that {given.machine} has not",
                         sorted(set(done.stdout.splitlines()) ^ set(given.output[name][command].splitlines())), [])
        if name == CAPTURES[0]:
            done = vmcorefs("copy", *arguments(files), room / "copy")
            digest = done.stderr if done.returncode else hashlib.sha256((room / "copy").read_bytes()).hexdigest()
            checks.equal(f"sha256 of vmcorefs copy of {name}", digest, given.sha256[name])


def kernel_log() -> list[str]:
    """Lines of trouble, by anybody."""
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return [line for line in text.splitlines() if any(word in line for word in ("WARNING", "BUG", "Oops", "segfault", "User process"))]


def apart(work: Callable[[Checks], None], user: int) -> int:
    """Do *work* in a child process as *user*; the number of checks that it made."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        checks = Checks()
        try:
            if user:
                os.setgroups([])
                os.setgid(user + 1)
                os.setuid(user)
            work(checks)
        except BaseException:  # noqa: BLE001 - whatever it was, it is one failed check
            checks.equal("exception", traceback.format_exc(), "none")
        finally:
            os.write(write_end, str(checks.count).encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        count = int(pipe.read() or 0)
    os.waitpid(pid, 0)
    return count


def libfuse(name: str) -> str:
    """The version; libfuse 2.9 says 29, libfuse 3.14 says 314."""
    digits = str(ctypes.CDLL(name).fuse_version())
    return f"{digits[0]}.{digits[1:]}"


def room_for(user: int) -> Path:
    """A new folder of that user."""
    room = _ROOM / f"{len(os.listdir(_ROOM))}"
    room.mkdir()
    os.chown(room, user, user + 1 if user else 0)
    return room


def mount_and_look(checks: Checks, setup: Setup, given: Given, room: Path) -> None:
    """One of SETUPS."""
    files = expand(setup.capture, room / "files")
    with mounted(checks, setup, arguments(files), room / "mnt") as lives:
        if lives:
            look(checks, setup, given, files.image, room / "mnt")


def main() -> None:
    """Everything."""
    given = read_given(Path(sys.argv[1]))
    _ROOM.mkdir()
    total = Checks()
    print(f"{MACHINE} {platform.machine()}, {sys.byteorder} endian, Linux {platform.release()} "
          f"({platform.version()}), Python {platform.python_version()}, "
          f"libfuse {libfuse('libfuse3.so.3')} and {libfuse('libfuse.so.2')}, {given.bindings}", flush=True)
    for title, work, user in [
        *((str(one), partial(mount_and_look, setup=one, given=given), one.user) for one in SETUPS),
        *((f"an image that loses its last MiB: {one}", partial(damaged, setup=one, given=given), one.user) for one in DAMAGED),
        ("without a mount", partial(without_mount, given=given), 0),
    ]:
        begin = time.monotonic()
        print(f"-- {title}", flush=True)
        room = room_for(user)
        done = apart(partial(work, room=room), user)
        total.count += done
        shutil.rmtree(room, ignore_errors=True)
        print(f"-- {done} checks in {time.monotonic() - begin:.1f} s", flush=True)
    total.equal("trouble in the kernel's log", kernel_log(), [])
    print(END, total.count, flush=True)


if __name__ == "__main__":
    main()
