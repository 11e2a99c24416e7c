"""vmcorefs that waits at a place: ``python -m tests.cli.paused OFFSET|open COMMAND...`` says ``paused`` on file descriptor 3 when
vmcore is read at or behind OFFSET for the first time (or when the image is about to be opened), and goes on at the end of its
standard input.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from vmcorefs.cli import copy
from vmcorefs.cli.main import main
from vmcorefs.dump import open_dump
from vmcorefs.vmcore.file import VmcoreFile


def pause() -> None:
    os.write(3, b"paused")
    os.close(3)
    while os.read(0, 100):
        pass


def pause_at_open() -> None:
    def waiting(*arguments: Any, **options: Any) -> Any:
        pause()
        return open_dump(*arguments, **options)

    copy.open_dump = waiting  # type: ignore[attr-defined]


def pause_at(place: int) -> None:
    preadinto = VmcoreFile.preadinto
    paused: list[int] = []

    def waiting(self: VmcoreFile, buffer: bytearray | memoryview, offset: int, **options: bool) -> int:
        if offset >= place and not paused:
            paused.append(offset)
            pause()
        return preadinto(self, buffer, offset, **options)

    VmcoreFile.preadinto = waiting  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1] == "open":
        pause_at_open()
    else:
        pause_at(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
