"""zgetdump -i describes our mounts as it describes the kernel's own files."""

from __future__ import annotations

import pytest

from .emulator import Pair

K61 = ("k61-smp1", "k61-smp4-offline", "k61-text", "k61-zfcpdump-smp3")


@pytest.mark.parametrize("pair", K61, indirect=True)
def test_accepts(pair: Pair) -> None:
    ours, theirs = pair.both("zgetdump", "-i", "vmcore")
    assert ours == theirs
    assert ours.status == 0, ours.text
    told = dict(line.strip().split(".: ", 1) for line in ours.text.splitlines() if ".: " in line)
    facts = {key.rstrip("."): value for key, value in told.items()}
    assert facts["Dump format"] == "elf"
    assert facts["UTS kernel release"] == pair.gold.release
    assert facts["System arch"] == "s390x (64 bit)"
    assert facts["CPU count (online)"] == str(pair.gold.groups)
    for load in pair.gold.loads:
        assert f"  {load.paddr:016x} - {load.paddr + load.size - 1:016x} " in ours.text
    assert pair.stored("zgetdump", "zgetdump-i.txt") in {None, ours.text.encode()}


@pytest.mark.parametrize("pair", ["k612-smp2"], indirect=True)
def test_misreads_612_as_it_misreads_the_kernels_own_file(pair: Pair) -> None:
    """It takes p_vaddr for memory, and so sees terabytes."""
    ours, theirs = pair.both("zgetdump", "-i", "vmcore")
    assert ours == theirs
    assert pair.gold.release in ours.text
    assert pair.stored("zgetdump", "zgetdump-i.txt") in {None, ours.text.encode()}
