"""faulty_image(): a file as it looks on a disk with bad bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mounts import faulty
from tests.mounts.mounting import clear, need_mounts, stat_errno, wait_until


@dataclass(frozen=True)
class FaultyImage:
    """*path*: the file on the faulty disk."""

    path: Path
    _ranges: Path

    def go_bad(self, *ranges: tuple[int, int]) -> None:
        """From now on these bytes [start, end) of the file cannot be read, all others can."""
        new = self._ranges.with_suffix(".new")
        new.write_text("".join(f"{start}-{end}\n" for start, end in ranges), encoding="ascii")
        new.replace(self._ranges)


@contextmanager
def faulty_image(backing: Path, directory: Path, *bad: tuple[int, int], cached: bool = False) -> Iterator[FaultyImage]:
    """Serves *backing* on a disk of its own below *directory*. Leave the mount on it first."""
    need_mounts()
    where, ranges = directory / "disk", directory / "bad-ranges"
    where.mkdir()
    image = FaultyImage(where / backing.name, ranges)
    image.go_bad(*bad)
    options = ["--cached"] if cached else []
    process = subprocess.Popen([sys.executable, faulty.__file__, backing, where, ranges, *options], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: stat_errno(image.path) == 0 or process.poll() is not None, "the faulty disk")
        assert process.poll() is None, "faulty.py ended"
        yield image
    finally:
        clear(where)
        process.wait(20)
