"""vmcorefs dmesg: raw bytes on stdout; exit 1 and one line on stderr where the log is not whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.builders.printk import RecordLog, Ring
from vmcorefs.cli.main import main

AT = 0x300000  # above the crashkernel area
MIB = 1 << 20


def ring() -> Ring:
    log = Ring(size_bits=10)
    log.log(b"Linux version 6.1.0", 1_000_000, 0)
    log.log("größe\nline two\x01".encode(), 2_000_000, 0x80000001)
    log.log(b"Kernel panic - not syncing: test", 3_000_000, 42)
    return log


EXPECTED = (b"[    0.001000] Linux version 6.1.0\n"
            b"[    0.002000] gr\\xc3\\xb6\\xc3\\x9fe\n               line two\\x01\n"
            b"[    0.003000] Kernel panic - not syncing: test\n")
CALLERS = (b"[    0.001000] [      T0] Linux version 6.1.0\n"
           b"[    0.002000] [      C1] gr\\xc3\\xb6\\xc3\\x9fe\n                          line two\\x01\n"
           b"[    0.003000] [     T42] Kernel panic - not syncing: test\n")


def build(directory: Path, log: Ring | RecordLog, **machine: object) -> Built:
    placed = log.place(AT)
    built = Machine(vmcoreinfo=placed.lines, **machine).build(directory)  # type: ignore[arg-type]
    for address, data in placed.pieces:
        built.poke_old(address, data)
    return built


Capture = pytest.CaptureFixture[bytes]


def run(capture: Capture, *words: str | Path) -> tuple[int, bytes, list[str]]:
    status = main(["dmesg", *map(str, words)])
    out, err = capture.readouterr()
    return status, out, err.decode().splitlines()


@pytest.mark.parametrize("mode", ["kdump", "zfcpdump", "plain"])
def test_whole_log(tmp_path: Path, capsysbinary: Capture, mode: str) -> None:
    built = build(tmp_path, ring(), mode=mode)
    words: list[str | Path] = ["--hsa", built.hsa] if built.hsa else []
    assert run(capsysbinary, built.image, *words) == (0, EXPECTED, [])
    assert run(capsysbinary, built.image, "--callers", *words) == (0, CALLERS, [])


def test_log_in_memory_that_changed_places(tmp_path: Path, capsysbinary: Capture) -> None:
    """In [0, S) of the crashed system, which is [B, B+S) of the image."""
    placed = ring().place(0x90000)
    built = Machine(vmcoreinfo=placed.lines).build(tmp_path)
    for address, data in placed.pieces:
        built.poke_old(address, data)
    assert run(capsysbinary, built.image) == (0, EXPECTED, [])


def test_record_buffer(tmp_path: Path, capsysbinary: Capture) -> None:
    log = RecordLog()
    log.log(b"old kernel", 1000)
    assert run(capsysbinary, build(tmp_path, log, release="5.8.0").image) == (0, b"[    0.000001] old kernel\n", [])


def test_part_of_the_log_is_damaged(tmp_path: Path, capsysbinary: Capture) -> None:
    """What is there is printed, then one line says what is not."""
    log = ring()
    log.desc(log.head_id - 1).begin ^= 0x10000
    status, out, err = run(capsysbinary, build(tmp_path, log).image)
    assert status == 1
    assert out == EXPECTED[:35] + EXPECTED[-48:]
    assert len(err) == 1
    assert "oldmem.img: a part of the log is missing or damaged: records whose text is nowhere in the ring" in err[0]


def test_part_of_the_log_is_not_in_the_image(tmp_path: Path, capsysbinary: Capture) -> None:
    placed = ring().place(AT)
    end = placed.at["data"] + 40  # behind the first record
    status, out, err = run(capsysbinary, build(tmp_path, ring(), image_size=end).image)
    assert status == 1
    assert out == EXPECTED[:35]
    assert len(err) == 1
    assert "records whose text cannot be read: 2, the first" in err[0]
    assert f"beyond the end of the file at {end:#x}" in err[0]


@pytest.mark.parametrize(("machine", "words"), [
    ({}, "no log: VMCOREINFO has neither SYMBOL(prb) nor SYMBOL(log_buf)"),
    ({"vmcoreinfo_by": None}, "give its text with --vmcoreinfo FILE"),
])
def test_no_log(tmp_path: Path, capsysbinary: Capture, machine: dict[str, str], words: str) -> None:
    built = Machine(**machine).build(tmp_path)  # type: ignore[arg-type]
    status, out, err = run(capsysbinary, built.image)
    assert (status, out) == (1, b"")
    assert len(err) == 1
    assert err[0].startswith("vmcorefs: error: ")
    assert words in err[0]


def test_vmcoreinfo_option_leads_to_the_log(tmp_path: Path, capsysbinary: Capture) -> None:
    placed = ring().place(AT)
    built = Machine(vmcoreinfo_by=None).build(tmp_path)
    for address, data in placed.pieces:
        built.poke_old(address, data)
    text = tmp_path / "vmcoreinfo.txt"
    text.write_text("OSRELEASE=6.1.0\n" + placed.lines)
    assert run(capsysbinary, built.image, "--vmcoreinfo", text) == (0, EXPECTED, [])


def test_no_image(tmp_path: Path, capsysbinary: Capture) -> None:
    status, out, err = run(capsysbinary, tmp_path / "nothing")
    assert (status, out, len(err)) == (2, b"", 1)


def test_reader_goes_away(tmp_path: Path) -> None:
    """vmcorefs dmesg IMAGE | head: no traceback, nothing on stderr."""
    log = Ring(count_bits=12, size_bits=17)
    for i in range(4000):
        log.log(b"line %d" % i)
    image = build(tmp_path, log, memory=((0, 8 * MIB),)).image
    end, start = os.pipe()
    process = subprocess.Popen([sys.executable, "-m", "vmcorefs", "dmesg", image], stdout=start, stderr=subprocess.PIPE)
    os.close(start)
    os.read(end, 100)
    os.close(end)
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 1
