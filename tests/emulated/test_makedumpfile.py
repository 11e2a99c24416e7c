"""makedumpfile reads the log out of our mounts, and makes the same small dump of them as of the kernel's own files."""

from __future__ import annotations

from pathlib import Path

import vmcorefs

from .emulator import Pair


def test_dump_dmesg(pair: Pair) -> None:
    ours, theirs = pair.both("makedumpfile", "--dump-dmesg", "vmcore", "log", makes="log")
    assert ours == theirs
    assert ours.status == 0, ours.text
    assert ours.file == (pair.gold.folder / "vmcore-dmesg.txt").read_bytes()


def test_compressed_without_unneeded_pages(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = pair.both("makedumpfile", "-c", "-d", "31", "vmcore", "small", makes="small")
    for said in (ours, theirs):  # the rest of what it says is progress, which depends on time
        assert said.status == 0, said.text
        assert said.text.endswith("\nThe dumpfile is saved to small.\n\nmakedumpfile Completed.\n")
    assert ours.file is not None
    assert ours.file.startswith(b"KDUMP   ")
    assert ours.file == theirs.file
    assert pair.stored("makedumpfile", "dump.c31") in {None, ours.file}
    _read_again(pair, ours.file, tmp_path / "small")


def _read_again(pair: Pair, small: bytes, path: Path) -> None:
    """The dump that makedumpfile made of our mount has the kernel's header for us, and the kernel's pages where it has any."""
    path.write_bytes(small)
    with vmcorefs.open(path) as dump, open(pair.theirs / "vmcore", "rb") as kernels:
        assert dump.vmcore.header == pair.gold.header
        offset, pages, buffer = len(dump.vmcore.header), 0, bytearray(1 << 20)
        while offset < dump.vmcore.size:
            good = min(len(buffer), dump.vmcore.size - offset)
            try:
                dump.vmcore.preadinto(memoryview(buffer)[:good], offset)
            except vmcorefs.OldmemReadError as error:
                if error.kind != "filtered":
                    raise
                good = error.good
            kernels.seek(offset)
            assert kernels.read(good) == buffer[:good], hex(offset)
            pages += good // 4096
            offset += good or 16 * 4096
        assert pages > 500
