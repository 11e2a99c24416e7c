"""The checks of make systemd-vm that run inside of the virtual machine, as a service of its own and as root.

Each is a function of CHECKS; its docstring's first line is its name. It returns what it saw, or raises.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.captures import sparse
from tests.systemd.namespaces import MAKERS, NOT_TRIED
from tests.systemd.vm_stages import END, LEAVING

PAYLOAD = Path("/payload")
UNIT = "vmcorefs@db7.service"
WHERE = Path("/mnt/db7")
VMCORE = WHERE / "vmcore"
CAPTURE = "k61-smp1"
IMAGE = PAYLOAD / "images" / CAPTURE / "oldmem.img"
BAD_OFFSET = 0x4002000  # in vmcore: the image's last page; its end stands in the middle of vmcore
CAPTURE_FILE = Path("/etc/vmcorefs/db7.toml")
AUTO, AUTO_CAPTURE = Path("/mnt/auto"), "k61-zfcpdump-smp3"
IDLE_SECONDS = 4.0

Check = Callable[[], str]


def option(name: str) -> str:
    """A word of the kernel's command line."""
    match = re.search(rf"\b{re.escape(name)}=(\S+)", Path("/proc/cmdline").read_text(encoding="ascii"))
    assert match is not None
    return match[1]


FACTOR = float(option("vmcorefs.factor"))


class CheckFailedError(Exception):
    """What was not as it should be."""


def require(condition: object, text: str) -> None:
    """Else the check has failed."""
    if not condition:
        raise CheckFailedError(text)


def run(*command: str | Path, timeout: float = 60.0, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """A program, to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout * FACTOR, input=text)


def must(*command: str | Path, timeout: float = 60.0) -> str:
    """A program that must succeed; its output."""
    done = run(*command, timeout=timeout)
    require(done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def show(unit: str, name: str) -> str:
    """A property of a unit."""
    return must("systemctl", "show", "--value", "--property", name, unit).strip()


def state(unit: str) -> str:
    """active, failed, inactive, ..."""
    return show(unit, "ActiveState")


def mounts(where: Path) -> list[str]:
    """Types of what is mounted there."""
    rows = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    return [row[row.index("-") + 1] for row in rows if row[4] == str(where)]


def until(condition: Callable[[], object], what: str, timeout: float = 10.0) -> float:
    """Wait for it; how long it took."""
    start = time.monotonic()
    while not condition():
        require(time.monotonic() - start < timeout * FACTOR, f"{what}: not within {timeout * FACTOR:g} s")
        time.sleep(0.01)
    return time.monotonic() - start


def timed(*command: str) -> float:
    """Seconds that a program which must succeed takes."""
    start = time.monotonic()
    must(*command, timeout=200)
    return time.monotonic() - start


def stop_timed() -> str:
    """Stop the service; fails if it takes longer than it should."""
    pid = main_pid()
    start = time.monotonic()
    with subprocess.Popen(["systemctl", "stop", UNIT]) as stopping:
        daemon = until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end", 20)
        stopping.wait()
    whole = time.monotonic() - start
    require(stopping.returncode == 0, f"systemctl stop: {stopping.returncode}")
    require(daemon < 2.5 * FACTOR, f"the daemon took {daemon:.2f} s")
    return f"the daemon ended after {daemon:.2f} s, systemctl stop after {whole:.2f} s"


def read_errno(path: Path) -> int:
    """Of a first byte read by a process of its own, which may hang without harm; 0 for none."""
    code = "import os,sys\ntry:\n os.read(os.open(sys.argv[1],os.O_RDONLY),1)\nexcept OSError as e:\n sys.exit(e.errno)\n"
    return subprocess.run([sys.executable, "-c", code, path], check=False, timeout=20 * FACTOR).returncode


def journal(unit: str, since: float) -> list[dict[str, Any]]:
    """What the unit's processes said."""
    must("journalctl", "--sync")
    lines = must("journalctl", "-o", "json", f"--since=@{since:.6f}", f"_SYSTEMD_UNIT={unit}").splitlines()
    return [json.loads(line) for line in lines]


def main_pid(unit: str = UNIT) -> int:
    """The daemon's pid."""
    return int(show(unit, "MainPID"))


def start() -> float:
    """Start the service; the time before it."""
    since = time.time()
    must("systemctl", "start", UNIT)
    return since


def stop() -> None:
    """Stop the service, and all is gone."""
    must("systemctl", "stop", UNIT)
    require(mounts(WHERE) == [], "still mounted")


@contextmanager
def reader(path: Path) -> Iterator[str]:
    """A service of its own that keeps the file open, and reads it again and again until a read fails."""
    unit = f"reader-{time.monotonic_ns()}.service"
    code = ("import os,sys,time\nf=os.open(sys.argv[1],os.O_RDONLY)\nos.pread(f,1<<20,0)\nprint('reading',flush=True)\n"
            "while True:\n for o in range(0,os.fstat(f).st_size>>1,1<<20): os.pread(f,1<<16,o); time.sleep(.02)\n")
    since = time.time()
    must("systemd-run", "--quiet", f"--unit={unit}", "--", sys.executable, "-Ic", code, path)
    try:
        until(lambda: any(entry["MESSAGE"] == "reading" for entry in journal(unit, since)), "a reader", 20)
        yield unit
    finally:
        run("systemctl", "stop", unit)
        run("systemctl", "reset-failed", unit)


def start_of(path: Path) -> str:
    """SHA-256 of the first 4 MiB."""
    with path.open("rb", buffering=0) as file:
        return hashlib.sha256(b"".join(file.read(1 << 20) for _ in range(4))).hexdigest()


# -- stage 1 ---------------------------------------------------------------------------------------------------------------------


def install() -> str:
    """vmcorefs is installed"""
    must(sys.executable, "-m", "compileall", "-q", "/usr/local/lib/vmcorefs", timeout=120)
    CAPTURE_FILE.parent.mkdir(exist_ok=True)
    CAPTURE_FILE.write_text(f'image = "{IMAGE}"\n\n[mount]\nmountpoint = "{WHERE}"\n', encoding="utf-8")
    WHERE.mkdir()
    must("systemctl", "daemon-reload")
    require(show(UNIT, "LoadState") == "loaded", "the unit is not loaded")
    return must("vmcorefs", "--version").strip() + "; systemd " + must("systemctl", "--version").split()[1]


def starts() -> str:
    """systemctl start returns when vmcore answers, and the status text says what is served"""
    seconds = timed("systemctl", "start", UNIT)
    require(read_errno(VMCORE) == 0, "a read failed")
    require(state(UNIT) == "active", state(UNIT))
    require(mounts(WHERE) == ["fuse.vmcorefs"], f"mounted: {mounts(WHERE)}")
    text = show(UNIT, "StatusText")
    require(re.fullmatch(rf"serving {IMAGE} \(.+, kdump mode\) at {WHERE}", text), f"StatusText={text}")
    require(f'Status: "{text}"' in run("systemctl", "status", UNIT).stdout, "systemctl status does not show it")
    return f"{seconds:.2f} s; Status: {text!r}"


def same_namespace() -> str:
    """the daemon lives in the mount namespace of process 1, in a cgroup of its own"""
    pid = main_pid()
    theirs, ours = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/1/ns/mnt")
    require(theirs == ours, f"{theirs} is not {ours}")
    group = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").strip()
    require(group.endswith(f"/{UNIT}"), group)
    return f"{ours}, {group}"


def sandbox() -> str:
    """the sandbox is on: no new privileges, system calls filtered, two capabilities, limits"""
    pid = main_pid()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines() if ":\t" in line)
    require(status["NoNewPrivs"] == "1", "new privileges are possible")
    require(status["Seccomp"] == "2", "no system call filter")
    capabilities = int(status["CapBnd"], 16)
    require(capabilities == 1 << 2 | 1 << 21, f"bounding set {capabilities:#x}")
    require(int(status["CapEff"], 16) == capabilities, f"effective {status['CapEff']}")
    score = Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii").strip()
    require(score == "-500", f"oom_score_adj {score}")
    group = Path("/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").strip().partition("::")[2])
    limits = {name: (group / name).read_text(encoding="ascii").strip() for name in ("pids.max", "memory.max", "memory.peak", "pids.peak")
              if (group / name).exists()}
    require(limits["pids.max"] != "max" and limits["memory.max"] != "max", f"no limits: {limits}")
    return f"RSS {status['VmRSS'].strip()}, threads {status['Threads']}, " + ", ".join(f"{k} {v}" for k, v in limits.items())


def namespace_makers() -> str:
    """each setting of tests/systemd/namespaces.py makes a mount namespace (systemd's version permitting); none of the unit's lines does"""
    version = int(must("systemctl", "--version").split()[1])
    ours = os.readlink("/proc/1/ns/mnt")
    tried = [maker for maker in MAKERS if maker.since <= version and maker.setting not in NOT_TRIED]
    wrong = []
    for maker in tried:
        done = run("systemd-run", "--quiet", "--wait", "--pipe", f"--property={maker.setting}={maker.value}", "readlink",
                   "/proc/self/ns/mnt")
        if done.returncode != 0 or done.stdout.strip() in {"", ours}:
            wrong.append(f"{maker.setting}={maker.value}: {done.stdout.strip()} {done.stderr.strip()}")
    require(not wrong, "; ".join(wrong))
    theirs = in_sandbox("readlink", "/proc/self/ns/mnt").stdout.strip()
    require(theirs == ours, f"the unit's lines: {theirs}")
    return f"{len(tried)} settings"


def device_policy() -> str:
    """in the unit's sandbox /dev/fuse can be opened, a disk can be neither read nor mounted"""
    code = """import os
for path, flags in ("/dev/fuse", os.O_RDWR), ("/dev/vda", os.O_RDONLY), ("/dev/ttyS1", os.O_RDWR):
    try:
        os.close(os.open(path, flags))
        print("yes")
    except OSError as error:
        print(error.errno)
"""
    got = in_sandbox(sys.executable, "-c", code).stdout.split()
    require(got == ["yes", "1", "1"], " ".join(got))
    done = in_sandbox("mount", "--read-only", "-t", "ext4", "/dev/vdb", "/mnt")
    require(done.returncode != 0 and mounts(Path("/mnt")) == [], f"/dev/vdb: {done.returncode}")
    return "EPERM; " + " ".join(done.stderr.split("\n")[0].split())


def in_sandbox(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A program under the sandbox lines of the unit."""
    unit = next(Path(folder) / "vmcorefs@.service" for folder in ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
                if (Path(folder) / "vmcorefs@.service").exists())
    lines = [line for line in unit.read_text(encoding="utf-8").splitlines() if line[:1].isupper()]
    skipped = ("Type", "Exec", "Description", "Documentation", "After", "WantedBy", "Restart", "NotifyAccess")
    properties = [f"--property={line}" for line in lines if not line.startswith(skipped)]
    return run("systemd-run", "--quiet", "--wait", "--pipe", *properties, "--", *command)


def bytes_are_right() -> str:
    """the bytes are the kernel's: header and all pages that the capture keeps"""
    require(sparse.compare(CAPTURE, VMCORE) == [], "different")
    return f"{sum(1 for _ in sparse.expected_pages(CAPTURE))} pages, {VMCORE.stat().st_size} bytes"


def other_services() -> str:
    """other services read the same: a plain one, and one that had a mount namespace of its own before"""
    wanted = start_of(VMCORE)
    plain = must("systemd-run", "--quiet", "--wait", "--pipe", "sh", "-c", f"head -c4M {VMCORE} | sha256sum").split()[0]
    require(plain == wanted, "a plain service read something else")
    stop()
    unit = "sandboxed-reader.service"
    since = time.time()
    must("systemd-run", "--quiet", f"--unit={unit}", "-p", "ProtectSystem=strict", "-p", "PrivateTmp=yes", "-p", "ProtectHome=yes",
         "-p", "PrivateDevices=yes", "--", "sh", "-c", f"while ! [ -e {VMCORE} ]; do sleep 0.1; done; head -c4M {VMCORE} | sha256sum")
    try:
        until(lambda: os.readlink(f"/proc/{main_pid(unit)}/ns/mnt") != os.readlink("/proc/1/ns/mnt"), "a namespace of its own")
        start()
        until(lambda: any(wanted in entry["MESSAGE"] for entry in journal(unit, since)), "the sandboxed reader's answer", 30)
    finally:
        run("systemctl", "stop", unit)
    return f"sha256 {wanted[:16]}..."


def active_means_answers() -> str:
    """active only when vmcore answers: with the daemon stopped between mount and answer the unit stays activating"""
    stop()
    tries = 0
    while True:
        tries += 1
        require(tries <= 30, "READY came before the daemon could be stopped, 30 times")
        pid = stop_between_mount_and_ready()
        first = state(UNIT)
        if first == "activating":
            break
        os.kill(pid, signal.SIGCONT)
        stop()
    seen = set()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        seen.add(state(UNIT))
    os.kill(pid, signal.SIGCONT)
    require(seen == {"activating"}, f"states while it was stopped: {seen}")
    until(lambda: state(UNIT) == "active", "active")
    require(read_errno(VMCORE) == 0, "a read failed")
    return f"stopped in time at try {tries}"


def stop_between_mount_and_ready() -> int:
    """Start, and stop the daemon at the moment at which its mount appears. Its pid."""
    with open("/proc/self/mountinfo", "rb") as table:
        changes = select.poll()
        changes.register(table, select.POLLPRI | select.POLLERR)
        must("systemctl", "start", "--no-block", UNIT)
        until(lambda: main_pid() != 0, "a process")
        pid = main_pid()
        end = time.monotonic() + 20 * FACTOR
        while str(WHERE).encode() not in Path("/proc/self/mountinfo").read_bytes():
            require(time.monotonic() < end, "no mount")
            changes.poll(50)
        os.kill(pid, signal.SIGSTOP)
        return pid


def sampled() -> str:
    """and in 5 starts nobody ever saw the unit active and a read fail"""
    active = 0
    for _ in range(5):
        stop()
        must("systemctl", "start", "--no-block", UNIT)
        for _ in range(1000):
            now = state(UNIT)
            if now == "active":
                require(read_errno(VMCORE) == 0, "active, and a read failed")
                active += 1
                break
            require(now in {"activating", "inactive"}, now)
        else:
            raise CheckFailedError("never active")
    return f"{active} starts"


def priorities() -> str:
    """journal: information has priority 6, a warning 4, an error 3, none with its <N> left in the text"""
    stop()
    folder = Path("/root/dumps")
    folder.mkdir(exist_ok=True)
    must("cp", "--sparse=always", IMAGE, folder / "short.img")
    text = CAPTURE_FILE.read_text(encoding="utf-8")
    CAPTURE_FILE.write_text(text.replace(str(IMAGE), str(folder / "short.img")), encoding="utf-8")
    try:
        since = start()
        os.truncate(folder / "short.img", IMAGE.stat().st_size - (1 << 20))
        with VMCORE.open("rb", buffering=0) as file, suppress(OSError):
            file.seek(BAD_OFFSET)
            file.read(4096)
        must("systemctl", "kill", "--signal=USR1", "--kill-whom=main", UNIT)
        entries: list[dict[str, Any]] = []

        def found() -> bool:
            entries[:] = journal(UNIT, since)
            return len(entries) >= 2 and any("reads" in entry["MESSAGE"] for entry in entries)

        until(found, "the counters in the journal")
        with reader(VMCORE):  # a stop under a reader is worth a warning
            stop()
        entries[:] = journal(UNIT, since)
    finally:
        CAPTURE_FILE.write_text(text, encoding="utf-8")
    said = {(entry["PRIORITY"], entry["MESSAGE"]) for entry in entries}
    require(all(not message.startswith("<") for _, message in said), f"{said}")
    for priority, part in (("6", "kdump mode"), ("6", " reads, "), ("3", "short.img"), ("4", "in use")):
        require(any(p == priority and part in m for p, m in said), f"no message of priority {priority} with {part!r}: {said}")
    start()
    return "; ".join(f"<{p}> {m}" for p, m in sorted(said) if p in {"3", "4"})


def memory_limit() -> str:
    """a limit far below the image's size ends nothing: the page cache gives way"""
    stop()
    big = Path("/root/dumps/big.img")
    must("cp", "--sparse=never", IMAGE, big)
    text = CAPTURE_FILE.read_text(encoding="utf-8")
    CAPTURE_FILE.write_text(text.replace(str(IMAGE), str(big)), encoding="utf-8")
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    try:
        with drop_in(UNIT, "[Service]\nMemoryMax=48M\n"):
            start()
            group = Path("/sys/fs/cgroup" + show(UNIT, "ControlGroup"))
            must("cp", VMCORE, "/dev/null", timeout=200)
            require(sparse.compare(CAPTURE, VMCORE) == [], "other bytes")
            events = (group / "memory.events").read_text(encoding="ascii")
            require("oom_kill 0" in events, events)
            anonymous = re.search(r"^anon (\d+)", (group / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
            assert anonymous is not None
            peak = int((group / "memory.peak").read_text(encoding="ascii"))
            stop()
    finally:
        CAPTURE_FILE.write_text(text, encoding="utf-8")
        big.unlink()
    return f"MemoryMax=48M, peak {peak >> 20} MiB, of it anonymous {int(anonymous[1]) >> 20} MiB"


def stops() -> str:
    """stop leaves no mount, no process, no record, and the result is success"""
    start()
    pid = main_pid()
    took = stop_timed()
    require(mounts(WHERE) == [], "still mounted")
    require(not Path(f"/proc/{pid}").exists(), "the daemon lives")
    require(state(UNIT) == "inactive" and show(UNIT, "Result") == "success", f"{state(UNIT)}, {show(UNIT, 'Result')}")
    left = [str(path) for path in Path("/run/vmcorefs").glob("*")]
    require(not left, f"left: {left}")
    require(list(WHERE.iterdir()) == [], "the mount point is not empty")
    return took


def stop_while_read() -> str:
    """stop while another service reads: at once, the mount is gone for all, the reader gets an error"""
    start()
    since = time.time()
    with reader(VMCORE) as unit:
        took = stop_timed()
        require(mounts(WHERE) == [], "still mounted")
        require(state(UNIT) == "inactive" and show(UNIT, "Result") == "success", f"{state(UNIT)}, {show(UNIT, 'Result')}")
        until(lambda: state(unit) == "failed", "the reader's end")
        last = [entry["MESSAGE"] for entry in journal(unit, since) if "Error" in entry["MESSAGE"]]
    return f"{took}; reader: {last[-1] if last else 'no message'}"


def killed() -> str:
    """kill -9: the unit has failed, the dead mount stays visible, stop does not hide it"""
    start()
    os.kill(main_pid(), signal.SIGKILL)
    until(lambda: state(UNIT) == "failed", "failed")
    require(show(UNIT, "Result") == "signal", show(UNIT, "Result"))
    until(lambda: show(UNIT, "SubState") == "failed", "the end of ExecStopPost")
    for word in ("stop", "reset-failed"):
        must("systemctl", word, UNIT)
        require(mounts(WHERE) == ["fuse.vmcorefs"], f"after {word} mounted: {mounts(WHERE)}")
        got = read_errno(VMCORE)
        require(got == errno.ENOTCONN, f"a read gave {errno.errorcode.get(got, got)}")
    listed = must("vmcorefs", "list")
    require("dead" in listed, f"vmcorefs list does not say dead: {listed}")
    return "ENOTCONN for a read; vmcorefs list says dead"


def replaced() -> str:
    """the next start replaces the dead mount"""
    require(mounts(WHERE), "there is no dead mount")
    start()
    require(mounts(WHERE) == ["fuse.vmcorefs"], f"mounted: {mounts(WHERE)}")
    require(read_errno(VMCORE) == 0, "a read failed")
    return "one mount, it answers"


def umount_in_sandbox() -> str:
    """what ExecStopPost calls works under the unit's sandbox: a living and a dead mount are unmounted, none is no error"""
    stop()
    command = ("vmcorefs", "umount", "--if-mounted", "--capture", str(CAPTURE_FILE))
    for kill in (False, True):
        must("vmcorefs", "mount", IMAGE, WHERE)
        if kill:
            (pid,) = daemons_of(WHERE)
            os.kill(pid, signal.SIGKILL)
            until(lambda: not daemons_of(WHERE), "the daemon's end")
        done = in_sandbox(*command)
        require(done.returncode == 0 and mounts(WHERE) == [], f"{done.returncode}, {done.stderr.strip()}, {mounts(WHERE)}")
    done = in_sandbox(*command)
    require(done.returncode == 0, f"nothing mounted: {done.returncode}, {done.stderr.strip()}")
    return "0 each time"


def private_image() -> str:
    """an image of somebody else, mode 0600 in a folder 0700, under a mount point of the same kind"""
    folder = Path("/home/somebody")
    text = CAPTURE_FILE.read_text(encoding="utf-8")
    image, where = folder / "oldmem.img", folder / "mnt"
    where.mkdir(parents=True)
    must("cp", "--sparse=always", IMAGE, image)
    image.chmod(0o600)
    for path in (image, where, folder):
        shutil.chown(path, "nobody", "nogroup")
    where.chmod(0o700)
    folder.chmod(0o700)
    CAPTURE_FILE.write_text(f'image = "{image}"\n[mount]\nmountpoint = "{where}"\n', encoding="utf-8")
    try:
        must("systemctl", "start", UNIT)
        require(sparse.compare(CAPTURE, where / "vmcore") == [], "other bytes")
        must("systemctl", "stop", UNIT)
    finally:
        CAPTURE_FILE.write_text(text, encoding="utf-8")
    require(mounts(where) == [], "still mounted")
    return str(image)


@contextmanager
def drop_in(unit: str, text: str) -> Iterator[None]:
    """Lines of a drop-in, for a while."""
    folder = Path("/run/systemd/system") / f"{unit}.d"
    folder.mkdir(parents=True)
    try:
        (folder / "check.conf").write_text(text, encoding="utf-8")
        must("systemctl", "daemon-reload")
        yield
    finally:
        shutil.rmtree(folder)
        must("systemctl", "daemon-reload")


def block_device() -> str:
    """an image on a block device is refused without DeviceAllow=, and served with it"""
    text = CAPTURE_FILE.read_text(encoding="utf-8")
    loop = must("losetup", "--find", "--show", "--read-only", IMAGE).strip()
    CAPTURE_FILE.write_text(text.replace(str(IMAGE), loop), encoding="utf-8")
    try:
        since = time.time()
        require(run("systemctl", "start", UNIT).returncode != 0, "it started")
        said = [entry["MESSAGE"] for entry in journal(UNIT, since) if entry["PRIORITY"] == "3"]
        require(len(said) == 1 and "not permitted" in said[0], f"{said}")
        with drop_in(UNIT, f"[Service]\nDeviceAllow={loop} r\n"):
            start()
            require(sparse.compare(CAPTURE, VMCORE) == [], "other bytes")
            stop()
    finally:
        CAPTURE_FILE.write_text(text, encoding="utf-8")
        must("losetup", "--detach", loop)
    return str(said[0])


def living_is_refused() -> str:
    """a start over a living mount that somebody else made fails, and does not take it away"""
    stop()
    must("vmcorefs", "mount", IMAGE, WHERE)
    since = time.time()
    done = run("systemctl", "start", UNIT)
    require(done.returncode != 0 and state(UNIT) == "failed", "it started")
    require(mounts(WHERE) == ["fuse.vmcorefs"] and read_errno(VMCORE) == 0, "the other mount is gone")
    said = [entry for entry in journal(UNIT, since) if entry["PRIORITY"] == "3"]
    must("vmcorefs", "umount", WHERE)
    must("systemctl", "reset-failed", UNIT)
    require(len(said) == 1, f"{said}")
    return str(said[0]["MESSAGE"])


def by_hand() -> str:
    """umount by hand ends the service, with success; so does vmcorefs umount --capture"""
    for command in (("umount", str(WHERE)), ("vmcorefs", "umount", "--capture", str(CAPTURE_FILE))):
        since = start()
        must(*command)
        until(lambda: state(UNIT) in {"inactive", "failed"}, f"the end of the unit, {state(UNIT)}, {show(UNIT, 'SubState')}")
        said = [entry["MESSAGE"] for entry in journal(UNIT, since)]
        require(show(UNIT, "Result") == "success", f"{command[0]}: {state(UNIT)}, {show(UNIT, 'Result')}: {said}")
        require(mounts(WHERE) == [], "still mounted")
    return "inactive, success"


def refused() -> str:
    """no capture file, a wrong key, no image: start fails, the journal has one error that says why, nothing is mounted"""
    seen = []
    for name, text in (("none", None), ("key", f'image = "{IMAGE}"\nmod = "plain"\n[mount]\nmountpoint = "{WHERE}"\n'),
                       ("image", f'image = "/nowhere.img"\n[mount]\nmountpoint = "{WHERE}"\n')):
        unit = f"vmcorefs@bad-{name}.service"
        if text is not None:
            Path(f"/etc/vmcorefs/bad-{name}.toml").write_text(text, encoding="utf-8")
        since = time.time()
        require(run("systemctl", "start", unit).returncode != 0, f"{name}: it started")
        until(lambda unit=unit: state(unit) == "failed", "failed")  # type: ignore[misc]
        require(show(unit, "ExecMainStatus") == "2", f"{name}: exit status {show(unit, 'ExecMainStatus')}")
        said = [entry["MESSAGE"] for entry in journal(unit, since) if entry["PRIORITY"] == "3"]
        require(len(said) == 1, f"{name}: {said}")
        seen += said
        require(mounts(WHERE) == [], "mounted")
        must("systemctl", "reset-failed", unit)
        Path(f"/etc/vmcorefs/bad-{name}.toml").unlink(missing_ok=True)
    return "; ".join(seen)


def support_group() -> str:
    """allow-other, gid, mode in [mount]: a member of the group reads, others do not"""
    text = CAPTURE_FILE.read_text(encoding="utf-8")
    must("groupadd", "--force", "support")
    CAPTURE_FILE.write_text(text + 'allow-other = true\ngid = "support"\nmode = "0440"\n', encoding="utf-8")
    try:
        start()
        sees = {}
        for group in ("support", "nogroup"):
            done = run("systemd-run", "--quiet", "--wait", "--pipe", "--uid=nobody", f"--gid={group}", "head", "-c4", VMCORE)
            sees[group] = done.returncode == 0 and done.stdout == "\x7fELF"
        listing = must("ls", "-l", VMCORE).split()
        stop()
    finally:
        CAPTURE_FILE.write_text(text, encoding="utf-8")
    require(sees == {"support": True, "nogroup": False}, f"{sees}")
    return " ".join(listing[:4])


def escaped_name() -> str:
    """an instance with other characters in its name: vmcorefs@db-7.eu_west\\x20b"""
    name = must("systemd-escape", "db-7.eu_west b").strip()
    where = Path("/mnt/db 7, the other")
    where.mkdir()
    file = Path(f"/etc/vmcorefs/{name}.toml")
    file.write_text(f'image = "{IMAGE}"\n[mount]\nmountpoint = "{where}"\n', encoding="utf-8")
    unit = f"vmcorefs@{name}.service"
    must("systemctl", "start", unit)
    try:
        require(read_errno(where / "vmcore") == 0, "a read failed")
    finally:
        must("systemctl", "stop", unit)
    require(b"db\\0407" not in Path("/proc/self/mountinfo").read_bytes(), "still mounted")
    require(show(unit, "Result") == "success", show(unit, "Result"))
    file.unlink()
    return unit


def busy_reboot() -> str:
    """enabled for the next boot; a service and a process without one read on, a shell stands in the mount"""
    must("systemctl", "enable", UNIT)
    with Path("/etc/fstab").open("a", encoding="utf-8") as table:
        image = PAYLOAD / "images" / AUTO_CAPTURE / "oldmem.img"
        table.write(f"{image} {AUTO} vmcorefs hsa={image.with_name('hsa.img')},noauto,nofail,x-systemd.automount,"
                    f"x-systemd.idle-timeout={IDLE_SECONDS:g}s 0 0\n")
    AUTO.mkdir()
    start()
    read_forever(VMCORE)
    subprocess.Popen(["systemd-run", "--quiet", "--scope", "sh", "-c", f"cd {WHERE} && exec 3<vmcore && sleep 1000"])
    until(lambda: len(holders(WHERE)) >= 2, "two readers", 20)
    return f"{len(holders(WHERE))} processes"


def read_forever(path: Path) -> None:
    """A service that reads until it is ended."""
    must("systemd-run", "--quiet", f"--unit=forever-{path.parent.name}", "sh", "-c", f"while cat {path} >/dev/null; do sleep 0.1; done")


def holders(where: Path) -> set[int]:
    """Processes with something open below *where*, or standing there."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            links = [process / "cwd", *(process / "fd").iterdir()]
            if any(os.readlink(link).startswith(str(where)) for link in links):
                found.add(int(process.name))
    return found


# -- stage 2 ---------------------------------------------------------------------------------------------------------------------


def came_up() -> str:
    """the enabled service is active after the boot, vmcore answers, and the boot waited for nothing"""
    require(state(UNIT) == "active", f"{state(UNIT)}: {run('journalctl', '-b', '-u', UNIT).stdout}")
    require(read_errno(VMCORE) == 0, "a read failed")
    require(sparse.compare(CAPTURE, VMCORE) == [], "other bytes")
    boot = must("systemd-analyze", "time").splitlines()[0]
    failed = must("systemctl", "--failed", "--plain", "--no-legend").strip()
    require(not failed, f"failed units: {failed}")
    return boot


def last_shutdown() -> str:
    """the shutdown before this boot left nothing mounted and killed nobody"""
    lines = must("journalctl", "--boot=-1", "--no-pager", "-o", "cat").splitlines()
    bad = [line for line in lines if re.search(r"SIGKILL|Killing process|timed out|Failed unmounting|Failed to unmount", line)]
    ours = [line for line in bad if "vmcorefs" in line or "db7" in line]
    require(not ours, "; ".join(ours))
    return "; ".join(bad) or "nothing in the journal"


def automount_waits() -> str:
    """fstab with x-systemd.automount: the automount unit waits, nothing is mounted yet"""
    require(state("mnt-auto.automount") == "active", state("mnt-auto.automount"))
    require(mounts(AUTO) == ["autofs"], f"{mounts(AUTO)}")
    return "autofs at " + str(AUTO)


def automount_mounts() -> str:
    """looking into the directory mounts it, through mount(8) and mount.vmcorefs, and the bytes are the kernel's"""
    start_time = time.monotonic()
    names = sorted(must("ls", AUTO).split())
    seconds = time.monotonic() - start_time
    require("vmcore" in names, f"{names}")
    require(mounts(AUTO) == ["autofs", "fuse.vmcorefs"], f"{mounts(AUTO)}")
    require(sparse.compare(AUTO_CAPTURE, AUTO / "vmcore") == [], "other bytes")
    group = must("systemctl", "show", "--value", "--property=ControlGroup", "mnt-auto.mount").strip()
    members = Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text(encoding="ascii").split()
    require(daemons_of(AUTO) and str(daemons_of(AUTO)[0]) in members, "the daemon is not in the mount unit's cgroup")
    since = time.time()
    os.kill(daemons_of(AUTO)[0], signal.SIGUSR1)
    until(lambda: any(" reads, " in entry["MESSAGE"] for entry in journal("mnt-auto.mount", since)), "the counters in the unit's journal")
    return f"{seconds:.2f} s; daemon and journal in {group}"


def automount_idles() -> str:
    """after the idle timeout it is unmounted and the daemon gone; the next look mounts it again"""
    with (AUTO / "vmcore").open("rb"):
        daemons = daemons_of(AUTO)
    require(len(daemons) == 1, f"daemons: {daemons}")
    seconds = until(lambda: mounts(AUTO) == ["autofs"], "the unmount", 30)
    until(lambda: not daemons_of(AUTO), "the daemon's end")
    require(state("mnt-auto.automount") == "active" and state("mnt-auto.mount") == "inactive", state("mnt-auto.mount"))
    require(read_errno(AUTO / "vmcore") == 0, "a read failed")
    return f"unmounted {seconds:.1f} s after the last use (idle timeout {IDLE_SECONDS:g} s)"


def automount_in_use() -> str:
    """while a file in it is open it is not unmounted"""
    with (AUTO / "vmcore").open("rb") as file:
        time.sleep(3 * IDLE_SECONDS)
        require(mounts(AUTO) == ["autofs", "fuse.vmcorefs"], f"{mounts(AUTO)}")
        require(file.read(4) == b"\x7fELF", "a read failed")
    return f"{3 * IDLE_SECONDS:g} s"


def automount_dead() -> str:
    """kill -9 of the automount's daemon: the dead mount is visible; left alone, the idle timeout clears it, and the next look mounts"""
    require(read_errno(AUTO / "vmcore") == 0, "a read failed")
    with (AUTO / "vmcore").open("rb"):
        (pid,) = daemons_of(AUTO)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end")
        got = read_errno(AUTO / "vmcore")
        require(got == errno.ENOTCONN, f"a read gave {errno.errorcode.get(got, got)}")
    seconds = until(lambda: mounts(AUTO) == ["autofs"], "the unmount of the dead mount", 30)
    require(read_errno(AUTO / "vmcore") == 0, "the next look failed")
    return f"cleared {seconds:.1f} s later"


def daemons_of(where: Path) -> list[int]:
    """Processes whose command line has *where*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if str(where).encode() in words and any(b"vmcorefs" in word for word in words):
                found.append(int(process.name))
    return found


def fstab_by_hand() -> str:
    """mount DIR and umount DIR by the same fstab line, and mount -t vmcorefs"""
    must("systemctl", "stop", "mnt-auto.automount", "mnt-auto.mount")
    must("mount", AUTO)
    require(mounts(AUTO) == ["fuse.vmcorefs"] and read_errno(AUTO / "vmcore") == 0, f"{mounts(AUTO)}")
    until(lambda: state("mnt-auto.mount") == "active", "the mount unit")
    must("umount", AUTO)
    must("mount", "-t", "vmcorefs", IMAGE, AUTO)
    require(read_errno(AUTO / "vmcore") == 0, "a read failed")
    must("umount", AUTO)
    until(lambda: not daemons_of(AUTO), "the daemon's end")
    return "mounted and unmounted"


def examples() -> str:
    """the example units mnt-db8.mount and mnt-db8.automount"""
    where = Path("/mnt/db8")
    target = Path("/srv/dumps/db8/oldmem.img")
    target.parent.mkdir(parents=True, exist_ok=True)
    must("cp", "--sparse=always", IMAGE, target)
    for path in (PAYLOAD / "systemd").glob("mnt-db8.*"):
        shutil.copy(path, "/etc/systemd/system")
    must("systemctl", "daemon-reload")
    must("systemctl", "start", "mnt-db8.mount")
    require(mounts(where) == ["fuse.vmcorefs"] and read_errno(where / "vmcore") == 0, f"{mounts(where)}")
    must("systemctl", "stop", "mnt-db8.mount")
    require(mounts(where) == [], "still mounted")
    must("systemctl", "enable", "--now", "mnt-db8.automount")
    require(mounts(where) == ["autofs"], f"{mounts(where)}")
    require(read_errno(where / "vmcore") == 0, "a read failed")
    require(mounts(where) == ["autofs", "fuse.vmcorefs"], f"{mounts(where)}")
    must("systemctl", "stop", "mnt-db8.automount", "mnt-db8.mount")
    until(lambda: not daemons_of(where), "the daemon's end")
    return "started, stopped, mounted at a look"


def boot_without_image() -> str:
    """an enabled instance whose image is not there: next boot must come up all the same"""
    Path("/etc/vmcorefs/gone.toml").write_text('image = "/nowhere.img"\n[mount]\nmountpoint = "/mnt/db7"\n', encoding="utf-8")
    must("systemctl", "enable", "vmcorefs@gone.service")
    return "enabled"


def busy_automount() -> str:
    """both mounts are read, and somebody stands in the automount"""
    must("systemctl", "start", "mnt-auto.automount")
    for path in (VMCORE, AUTO / "vmcore"):
        require(read_errno(path) == 0, f"{path}: a read failed")
        read_forever(path)
    subprocess.Popen(["systemd-run", "--quiet", "--scope", "sh", "-c", f"cd {AUTO} && exec 3<vmcore && sleep 1000"])
    until(lambda: len(holders(AUTO)) >= 2 and holders(WHERE), "readers", 20)
    return f"{len(holders(AUTO))} and {len(holders(WHERE))} processes"


# -- stage 3 ---------------------------------------------------------------------------------------------------------------------


def came_up_degraded() -> str:
    """an enabled instance without its image has failed, the others are active, the boot came to its end"""
    require(state("vmcorefs@gone.service") == "failed", state("vmcorefs@gone.service"))
    require(state(UNIT) == "active" and read_errno(VMCORE) == 0, state(UNIT))
    require(state("multi-user.target") == "active", state("multi-user.target"))
    return must("systemd-analyze", "time").splitlines()[0]


def dead_and_stopped() -> str:
    """one daemon is killed under its reader; the automount's, with ForceUnmount= and LazyUnmount=, is stopped under its reader"""
    folder = Path("/etc/systemd/system/mnt-auto.mount.d")
    folder.mkdir(exist_ok=True)
    (folder / "end.conf").write_text("[Mount]\nLazyUnmount=yes\nForceUnmount=yes\n", encoding="utf-8")
    must("systemctl", "daemon-reload")
    require(read_errno(AUTO / "vmcore") == 0, "a read failed")
    for path in (VMCORE, AUTO / "vmcore"):
        read_forever(path)
    until(lambda: holders(AUTO) and holders(WHERE), "readers", 20)
    os.kill(main_pid(), signal.SIGKILL)
    until(lambda: state(UNIT) == "failed", "failed")
    (pid,) = daemons_of(AUTO)
    os.kill(pid, signal.SIGSTOP)
    return f"mounted: {mounts(WHERE)}, {mounts(AUTO)}"


CHECKS: dict[int, tuple[tuple[Check, ...], str]] = {
    1: ((install, starts, same_namespace, sandbox, namespace_makers, device_policy, bytes_are_right, other_services,
         active_means_answers, sampled, priorities, memory_limit, stops, stop_while_read, killed, replaced, umount_in_sandbox,
         private_image, block_device, living_is_refused, by_hand, refused, support_group, escaped_name, busy_reboot), "reboot"),
    2: ((came_up, last_shutdown, automount_waits, automount_mounts, automount_idles, automount_in_use, automount_dead,
         fstab_by_hand, examples, boot_without_image, busy_automount), "poweroff"),
    3: ((came_up_degraded, last_shutdown, dead_and_stopped), "poweroff"),
}


def one(check: Check) -> None:
    """Run it and print its line."""
    name = (check.__doc__ or "").splitlines()[0]
    try:
        print(f"ok   {name}: {check()}", flush=True)
    except Exception as error:  # noqa: BLE001 - the others run all the same
        words = str(error) if isinstance(error, CheckFailedError) else f"{type(error).__name__}: {error}"
        print(f"FAIL {name}: {' '.join(words.split())}", flush=True)


def main() -> int:
    """Run the stage's checks, then leave."""
    checks, leave = CHECKS[int(option("vmcorefs.stage"))]
    must("cp", "--archive", f"{PAYLOAD}/root/.", "/")
    run("systemctl", "is-system-running", "--wait", timeout=120)
    for check in checks:
        one(check)
    print(END, flush=True)
    print(LEAVING + leave, flush=True)
    run("systemctl", leave)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
