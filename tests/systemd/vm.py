"""make systemd-vm: boots Debian 12 in a virtual machine and lets vm_checks.py try the units there; one line a check.

    python -m tests.systemd.vm DIRECTORY [BOOT...]

DIRECTORY has what scripts/systemd-vm-image made. Each run starts from it anew, with an overlay for what is written and a second
disk with what make install installs, a few captures and the checks. The machine has no network. Checks come over its second
serial port; the first one is its console, DIRECTORY/console-N.log. With KVM a run takes a minute or two; without (or with
VMCOREFS_VM_EMULATED=1) the processor is emulated, which is some ten times slower.
BOOT: only these of the boots; 2 and 3 go on where the last run came to.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.captures import sparse
from tests.systemd.vm_stages import CAPTURES, END, LEAVING, STAGES

ROOT = Path(__file__).resolve().parents[2]
QEMU = "qemu-system-x86_64"
KVM_SECONDS = 20.0
STAGE_SECONDS = 300.0
LEAVE_SECONDS = 30.0  # systemd gives a stubborn process 90 seconds: whoever waits for one is far above this


@dataclass(frozen=True)
class Pace:
    """How the processor is made, and how much slower everything is."""

    accelerator: str
    processor: str
    factor: float


KVM = Pace("kvm", "host,-arch-capabilities", 1.0)  # nested, that one feature cannot always be set
EMULATED = Pace("tcg,thread=multi", "max", 8.0)


def choose_pace(directory: Path) -> Pace:
    """KVM where /dev/kvm opens and a kernel boots with it: there are hosts whose KVM runs guests of a special kind only."""
    if os.environ.get("VMCOREFS_VM_EMULATED"):
        return EMULATED
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        print(f"/dev/kvm: {error.strerror}: the processor is emulated", flush=True)
        return EMULATED
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run([QEMU, *machine(KVM), "-kernel", directory / "vmlinuz", "-append", "panic=-1", "-serial", "null"],
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=KVM_SECONDS)
        if done.returncode == 0:  # it found no root file system, panicked, and booted again, which ends QEMU
            return KVM
    print("/dev/kvm opens, but Debian's kernel does not boot with it: the processor is emulated", flush=True)
    return EMULATED


def machine(pace: Pace) -> list[str]:
    """QEMU's options for the machine itself."""
    return ["-accel", pace.accelerator, "-cpu", pace.processor, "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-nic", "none"]


def make_payload(directory: Path) -> Path:
    """The second disk."""
    folder = directory / "payload"
    shutil.rmtree(folder, ignore_errors=True)
    for package in ("tests", "tests/captures", "tests/systemd"):
        (folder / package).mkdir(parents=True)
        for source in (ROOT / package).glob("*.py"):
            if package != "tests" or source.name == "__init__.py":
                shutil.copy(source, folder / package)
    for name in CAPTURES:
        shutil.copytree(ROOT / "tests/captures" / name, folder / "tests/captures" / name)
        sparse.expand(name, folder / "images" / name)
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    install(folder / "root")
    runner = folder / "run"
    runner.write_text("#!/bin/sh\ncd /payload && python3 -B -m tests.systemd.vm_checks || systemctl poweroff\n")
    runner.chmod(0o755)
    image = directory / "payload.raw"
    image.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "payload", "-d", folder, image, "4G"], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    shutil.rmtree(folder)
    return image


def install(root: Path) -> None:
    """The tree's own make install, below *root*."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "--silent", "install", f"DESTDIR={root}", "prefix=/usr/local", "INTERPRETER=/usr/bin/python3"],
                          cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"make install: {done.stderr}")


class Machine:
    """One boot: from QEMU's start to its end."""

    def __init__(self, directory: Path, stage: int, pace: Pace) -> None:
        self._lines = directory / f"checks-{stage}.log"
        self._lines.write_bytes(b"")
        console = directory / f"console-{stage}.log"
        self._process = subprocess.Popen([
            QEMU, *machine(pace), "-kernel", directory / "vmlinuz", "-initrd", directory / "initrd",
            "-append", (f"root=/dev/vda rw console=ttyS0 panic=-1 quiet systemd.show_status=yes "
                        f"vmcorefs.stage={stage} vmcorefs.factor={pace.factor}"),
            "-drive", f"file={directory / 'overlay.qcow2'},if=virtio,format=qcow2,cache=unsafe",
            "-drive", f"file={directory / 'payload.raw'},if=virtio,format=raw,read-only=on",
            "-device", "virtio-rng-pci", "-serial", f"file:{console}", "-serial", f"file:{self._lines}"],
            stdin=subprocess.DEVNULL)
        self._end = time.monotonic() + STAGE_SECONDS * pace.factor

    def lines(self) -> Iterator[str]:
        """What the checks say, as they say it, until the machine is off. TimeoutError when it takes too long."""
        with self._lines.open("rb") as file:
            rest = b""
            while True:
                off = self._process.poll() is not None
                rest += file.read()
                *complete, rest = rest.split(b"\n")
                yield from (line.decode("utf-8", "replace").strip("\r") for line in complete)
                if off:
                    return
                if time.monotonic() > self._end:
                    raise TimeoutError
                time.sleep(0.02)

    def close(self) -> None:
        """Whatever happened: off."""
        self._process.kill()
        self._process.wait()


def run_stage(directory: Path, stage: int, pace: Pace) -> int:
    """One boot; how many checks failed."""
    failures = 0
    ended = False
    leaving: float | None = None
    print(f"boot {stage}: {STAGES[stage]}", flush=True)
    machine = Machine(directory, stage, pace)
    try:
        for line in machine.lines():
            if line == END:
                ended = True
            elif line.startswith(LEAVING):
                leaving = time.monotonic()
            else:
                print(f"  {line}", flush=True)
                failures += line.startswith("FAIL")
    except TimeoutError:
        print(f"  FAIL the machine was not off in {STAGE_SECONDS * pace.factor:.0f} s", flush=True)
        failures += 1
    finally:
        machine.close()
    if not ended:
        print(f"  FAIL the checks did not come to their end; see {directory}/console-{stage}.log", flush=True)
        failures += 1
    if leaving is not None:
        took = time.monotonic() - leaving
        fast = took < LEAVE_SECONDS * pace.factor
        print(f"  {'ok  ' if fast else 'FAIL'} off: {took:.1f} s from the command to the end of the machine", flush=True)
        failures += not fast
    return failures


def main() -> int:
    """Exit status 0 if all checks are ok."""
    directory = Path(sys.argv[1]).resolve()
    if platform.machine() != "x86_64":
        print("the virtual machine is for x86_64 hosts", file=sys.stderr)
        return 3
    pace = choose_pace(directory)
    started = time.monotonic()
    make_payload(directory)
    stages = [int(word) for word in sys.argv[2:]] or list(STAGES)
    if stages[0] == 1:
        overlay = directory / "overlay.qcow2"
        overlay.unlink(missing_ok=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "root.raw", overlay], check=True)
    failures = sum(run_stage(directory, stage, pace) for stage in stages)
    print(f"{'FAIL' if failures else 'ok'}: {failures} checks failed; {time.monotonic() - started:.0f} s, "
          f"{pace.accelerator.partition(',')[0]}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
