"""make bench: what the mount costs, as ratios to a raw read of the same image in the same run.

A kdump image of about 1 GiB is made from a capture in the repository and filled with bytes that are no zeros. Rounds are
interleaved (raw, then each variant), so that a busy machine disturbs all alike; printed are the medians of seconds per GiB.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.captures import sparse

MIB = 1 << 20
GIB = 1 << 30
NAME = "k61-smp1"
RANDOM_READS = 2000
PROGRAM = [sys.executable, "-m", "vmcorefs"]


def make_image(folder: Path, size: int) -> Path:
    """The capture's pages, all holes filled with a pattern, *size* bytes long."""
    image = sparse.expand(NAME, folder).image
    pattern = random.Random(1).randbytes(MIB)
    with open(image, "r+b") as file:
        os.truncate(file.fileno(), size)
        position = 0
        while position < size:
            try:
                data = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                data = size
            while position < data:
                count = min(MIB, data - position)
                os.pwrite(file.fileno(), pattern[:count], position)
                position += count
            if position < size:
                position = os.lseek(file.fileno(), position, os.SEEK_HOLE)
    return image


def seconds(command: list[str]) -> float:
    """Wall time of a command."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def parallel(command: list[str], count: int) -> float:
    """Wall time of *count* of them at once."""
    begun = time.perf_counter()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(count)]
    assert all(process.wait() == 0 for process in running)
    return (time.perf_counter() - begun) / count


def random_reads(path: Path, size: int) -> float:
    """Seconds for RANDOM_READS preads of 4 KiB."""
    chooser = random.Random(7)
    offsets = [chooser.randrange(size // 4096) * 4096 for _ in range(RANDOM_READS)]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        begun = time.perf_counter()
        for offset in offsets:
            os.pread(descriptor, 4096, offset)
        return time.perf_counter() - begun
    finally:
        os.close(descriptor)


def drop_cache(path: Path) -> None:
    """Throw the image out of the page cache (clean pages only, so it is synced first)."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


READS: dict[str, Callable[[Path, int], float]] = {
    "cat": lambda path, size: seconds(["cat", str(path)]) / size * GIB,
    "cp": lambda path, size: seconds(["cp", str(path), "/dev/null"]) / size * GIB,
    "dd bs=1M": lambda path, size: seconds(["dd", f"if={path}", "of=/dev/null", "bs=1M"]) / size * GIB,
    "2 x cat": lambda path, size: parallel(["cat", str(path)], 2) / size * GIB,
    "4 KiB random": random_reads,
}




def main() -> int:
    """Print a table; exit status 0 whatever the figures are (a measurement is not a test)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB")
    parser.add_argument("--directory", type=Path, help="where the image is made (default: the temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmcorefs-bench-", dir=arguments.directory) as name:
        folder = Path(name)
        size = arguments.size * MIB
        image = make_image(folder, size + 64 * MIB)
        raw_size = image.stat().st_size
        variants: dict[str, Path] = {}
        starts: dict[str, float] = {}
        try:
            for backend in ("mfusepy", "fusepy"):
                for io in ("direct", "cached"):
                    mountpoint = folder / f"{backend}-{io}"
                    mountpoint.mkdir()
                    begun = time.perf_counter()
                    subprocess.run([*PROGRAM, "mount", "--log-level", "error", "--backend", backend, "--io", io,
                                    "--memory-range", f"0-{raw_size:#x}", str(image), str(mountpoint)], check=True)
                    with open(mountpoint / "vmcore", "rb", buffering=0) as file:
                        file.read(64)
                    starts[f"{backend} {io}"] = time.perf_counter() - begun
                    variants[f"{backend} {io}"] = mountpoint / "vmcore"
            report(image, variants, starts, arguments.rounds)
        finally:
            for path in variants.values():
                subprocess.run([*PROGRAM, "umount", "--lazy", str(path.parent)], check=False)
    return 0


def report(image: Path, variants: dict[str, Path], starts: dict[str, float], rounds: int) -> None:
    """Measure and print."""
    paths = {"raw image": image, **variants}
    seconds_per: dict[tuple[str, str], list[float]] = {}
    for path in paths.values():
        READS["cat"](path, path.stat().st_size)  # everything warm
    for number in range(rounds):
        order = list(paths) if number % 2 == 0 else list(paths)[::-1]
        for read, measure in READS.items():
            for variant in order:
                path = paths[variant]
                seconds_per.setdefault((variant, read), []).append(measure(path, path.stat().st_size))
    cold: dict[str, list[float]] = {}
    for _ in range(2):
        for variant, path in paths.items():
            if "cached" not in variant:
                drop_cache(image)
                cold.setdefault(variant, []).append(READS["dd bs=1M"](path, path.stat().st_size))
    load = os.getloadavg()[0]
    print(f"{image.stat().st_size / GIB:.2f} GiB image in the page cache, {rounds} rounds, medians, load {load:.1f}; ratio to raw")
    print(f"{'':16}" + "".join(f"{read:>16}" for read in READS) + f"{'cold dd':>12}{'first byte':>12}")
    for variant in paths:
        cells = []
        for read in READS:
            value, raw = (statistics.median(seconds_per[v, read]) for v in (variant, "raw image"))
            cells.append(f"{value:10.3f} s" if variant == "raw image" else f"{value / raw:12.2f}")
        frozen = statistics.median(cold[variant]) if variant in cold else None
        last = "" if frozen is None else f"{frozen:10.2f} s" if variant == "raw image" else \
            f"{frozen / statistics.median(cold['raw image']):12.2f}"
        first = f"{starts[variant] * 1000:9.0f} ms" if variant in starts else ""
        print(f"{variant:16}" + "".join(f"{cell:>16}" for cell in cells) + f"{last:>12}{first:>12}")
    print(f"(seconds per GiB; for 4 KiB random: seconds for {RANDOM_READS} reads)")


if __name__ == "__main__":
    sys.exit(main())
