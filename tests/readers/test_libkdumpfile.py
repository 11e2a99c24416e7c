"""libkdumpfile, which crash(8) uses as well: through Debian's Python, where its binding lies."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import vmcorefs

from .gold import ALL, PLAIN, Gold, vmcoreinfo_of_note
from .installed import missing
from .kernel_notes import cpu_notes

PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("kdumpfile_script.py")
PAGE = 4096


@pytest.fixture(scope="module")
def reader() -> Path:
    """The Python that has kdumpfile."""
    if not os.path.exists(PYTHON):
        missing(f"{PYTHON} is not installed")
    if subprocess.run([PYTHON, "-I", "-c", "import kdumpfile"], capture_output=True, check=False).returncode:
        missing(f"python3-libkdumpfile is not installed for {PYTHON}")
    return Path(PYTHON)


def ask(reader: Path, gold: Gold, *addresses: int) -> dict[str, Any]:
    """What it found; the pages by address."""
    command = [str(reader), "-I", str(SCRIPT), str(gold.vmcore), *map(str, addresses)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    found["pages"] = {int(address): data and bytes.fromhex(data) for address, data in found["pages"].items()}
    return found


def borders(gold: Gold) -> list[int]:
    """Pages on both sides of every border between places in the image, within memory, the lowcore among them."""
    about = gold.about
    base, size = about.get("oldmem_base", 0), about.get("oldmem_size", 0)
    hsa = about["hsa"]["size"] if "hsa" in about else 0
    edges = {0, PAGE, gold.vmcoreinfo_address, size, base, base + size, hsa, about["ram_size"]}
    pages = {edge + side for edge in edges for side in (-PAGE, 0)}
    return sorted(page // PAGE * PAGE for page in pages if 0 <= page < about["ram_size"])


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_what_it_is(gold: Gold, reader: Path) -> None:
    found = ask(reader, gold)
    assert (found["arch"], found["big endian"], found["format"]) == ("s390x", True, "elf")
    major, minor, patch = (int(number) for number in gold.release.partition("-")[0].split("."))
    assert (found["release"], found["version"]) == (gold.release, major << 16 | minor << 8 | patch)
    assert found["max_pfn"] == max(load.paddr + load.size for load in gold.loads) // PAGE
    assert found["vmcoreinfo"].encode() == gold.vmcoreinfo
    assert (found["uts"][0], found["uts"][2], found["uts"][4]) == ("Linux", gold.release, "s390x")


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_cpus(gold: Gold, reader: Path) -> None:
    found = ask(reader, gold)
    assert found["pids"] == list(range(1, gold.groups + 1))
    if gold.name != PLAIN:
        assert found["psw"] == [cpu.registers["pswa"] for cpu in cpu_notes(gold.header)]


@pytest.mark.parametrize("gold", ALL, indirect=True)
def test_pages(gold: Gold, reader: Path) -> None:
    """Each page equals what Python's oldmem gives; what was the crashkernel area is in no dump."""
    pages = ask(reader, gold, *borders(gold))["pages"]
    base, size = gold.about.get("oldmem_base", 0), gold.about.get("oldmem_size", 0)
    with vmcorefs.open(gold.image, hsa=gold.hsa) as dump:
        for address, data in pages.items():
            if address == base + size - PAGE and data:
                assert not any(data)  # libkdumpfile 0.5.1 fills the page before a PT_LOAD with zeros
            elif base <= address < base + size:
                assert data is None
            else:
                assert data == dump.oldmem.read(address, PAGE)
    assert vmcoreinfo_of_note(pages[gold.vmcoreinfo_address]) == gold.vmcoreinfo
