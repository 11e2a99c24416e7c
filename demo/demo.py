"""The main job, shown on a small real capture: mount, look, copy, compare with the kernel's own bytes, unmount."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.captures import sparse

NAME = "k61-smp4-offline"


def say(text: str) -> None:
    """A line for the newcomer."""
    print(f"\n# {text}", flush=True)


def run(*command: str) -> None:
    """Show a command and run it."""
    print("$ " + " ".join(Path(word).name if word == sys.executable else word for word in command), flush=True)
    subprocess.run(command, check=True)


def main() -> int:
    """The demo; exit status 0 if the bytes are the kernel's."""
    vmcorefs = str(Path(sys.executable).with_name("vmcorefs"))
    capture = sparse.load(NAME)
    with tempfile.TemporaryDirectory(prefix="vmcorefs-demo-") as folder:
        say(f"{NAME} is a real s390x machine (Linux {capture.release}) that crashed. Its dump kernel ran, and then the whole\n"
            "# memory was saved. This is a sparse copy of that memory: only the pages that matter here are in it.")
        image = str(sparse.expand(NAME, Path(folder)).image)
        run("ls", "-lsh", image)
        say("What is in it? Every fact says where it was taken from.")
        run(vmcorefs, "info", image)
        mountpoint, copy = os.path.join(folder, "mnt"), os.path.join(folder, "vmcore.copy")
        os.mkdir(mountpoint)
        say("Mount it. vmcore in it is the ELF core that the dump kernel served as /proc/vmcore;\n"
            "# the rest are small files for people.")
        run(vmcorefs, "mount", image, mountpoint)
        try:
            run("ls", "-l", mountpoint)
            say("Copy it out, as one would with the real one, and compare the copy with what the kernel served.")
            run("cp", os.path.join(mountpoint, "vmcore"), copy)
            differences = sparse.compare(NAME, Path(copy))
            pages = sum(1 for _ in sparse.expected_pages(NAME))
        finally:
            say("Unmount.")
            run(vmcorefs, "umount", mountpoint)
            shutil.rmtree(mountpoint, ignore_errors=True)
    for difference in differences:
        print(difference)
    header = len(capture.header or b"")
    if differences:
        print(f"different: {len(differences)} differences from the kernel's /proc/vmcore of {NAME}")
        return 1
    print(f"\nidentical: {capture.vmcore_size} bytes long like the kernel's /proc/vmcore of {NAME}, its header of {header} "
          f"bytes and all {pages} pages that the capture keeps are the kernel's own bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
