"""Maps a file and touches pages, each in a child process of its own: says what SIGBUS does without dying of it.

    python page_probe.py FILE private|shared OFFSET...

Prints JSON: for each offset the page there in hex, "SIGBUS", or another signal's name. A program, since pytest's own
process has a fault handler and threads.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import sys


def touch(mapped: mmap.mmap, offset: int) -> str:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, mapped[offset:offset + mmap.PAGESIZE])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        page = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return page.hex() if code == 0 else signal.Signals(-code).name


def main() -> None:
    path, kind, *offsets = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    flags = {"private": mmap.MAP_PRIVATE, "shared": mmap.MAP_SHARED}[kind]
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
        print(json.dumps([touch(mapped, int(offset)) for offset in offsets]))


if __name__ == "__main__":
    main()
