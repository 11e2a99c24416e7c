"""makedumpfile reads the log out of our mounts, and makes the same small dump of them as of the kernel's own files."""

from __future__ import annotations

from .emulator import Pair


def test_dump_dmesg(pair: Pair) -> None:
    ours, theirs = pair.both("makedumpfile", "--dump-dmesg", "vmcore", "log", makes="log")
    assert ours == theirs
    assert ours.status == 0, ours.text
    assert ours.file == (pair.gold.folder / "vmcore-dmesg.txt").read_bytes()


def test_compressed_without_unneeded_pages(pair: Pair) -> None:
    ours, theirs = pair.both("makedumpfile", "-c", "-d", "31", "vmcore", "small", makes="small")
    for said in (ours, theirs):  # the rest of what it says is progress, which depends on time
        assert said.status == 0, said.text
        assert said.text.endswith("\nThe dumpfile is saved to small.\n\nmakedumpfile Completed.\n")
    assert ours.file is not None
    assert ours.file.startswith(b"KDUMP   ")
    assert ours.file == theirs.file
    assert pair.stored("makedumpfile", "dump.c31") in {None, ours.file}
