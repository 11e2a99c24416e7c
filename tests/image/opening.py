"""Opening bytes as an image; in a process of its own that counts what it takes: memory and time must stay bounded whatever a header
says.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from vmcorefs.errors import ImageError, OldmemReadError
from vmcorefs.image import open_image
from vmcorefs.image.source import Source

_CODE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from vmcorefs.errors import ImageError
from vmcorefs.image import open_image
start = time.process_time()
try:
    with open_image(sys.argv[2:] if len(sys.argv) > 3 else sys.argv[2]) as source:
        said = f"opened {source.size:#x} {len(source.container.problems)}"
        source.read_some(1 << 20, 0)
        source.read_some(1 << 20, source.size // 2)
except ImageError as error:
    said = f"ImageError {error}"
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss counts the parent's, too
print(peak, time.process_time() - start, said)
"""


class Cost(NamedTuple):
    """KiB of memory at most, among them some 25,000 of Python itself; seconds of a processor; what came of it."""

    memory: int
    seconds: float
    said: str


def cost_of_opening(*paths: Path) -> Cost:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-I", "-c", _CODE, root, *paths], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    memory, seconds, said = done.stdout.rstrip("\n").split(" ", 2)
    return Cost(int(memory), float(seconds), said)


def opened(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return open_image(path)


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def kind_at(source: Source, address: int) -> str:
    with pytest.raises(OldmemReadError) as caught:
        source.pread(1, address)
    return caught.value.kind
