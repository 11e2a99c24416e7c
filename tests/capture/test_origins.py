"""info says of each given value where it was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Machine
from tests.capture.conftest import make_ready
from tests.cli.conftest import Program
from tests.mounts.mounting import mounted

# the fact of info --json that a given value becomes
FACTS = {
    "mode": ("mode",), "oldmem": ("mode",), "hsa": ("mode",), "hsa_size": ("hsa_size",), "memory_range": ("physmem",),
    "memory_map": ("physmem",), "device_memory": ("physmem",), "vmcoreinfo": ("crashed_release",), "cpu_state": ("cpus", "0"),
    "layout": ("todpreg_size",),
}


def origin_of(info: dict[str, Any], name: str) -> str:
    found: Any = info
    for key in FACTS[name]:
        found = found[int(key)] if key.isdigit() else found[key]
    return str(found["origin"])


@pytest.mark.parametrize("name", list(FACTS))
def test_option_and_capture_file(tmp_path: Path, vmcorefs: Program, name: str) -> None:
    ready = make_ready(name, tmp_path)
    info = json.loads(vmcorefs("info", ready.image, "--json", *ready.others, *ready.words).out)
    assert f"option --{ready.key}" in origin_of(info, name)
    info = json.loads(vmcorefs("info", ready.image, "--json", *ready.others, "-o", ",".join(ready.mount_words)).out)
    assert f"option --{ready.key}" in origin_of(info, name)
    file = tmp_path / "a.toml"
    file.write_text("image = 'oldmem.img'\n" + ready.toml_others + ready.toml())
    origin = origin_of(json.loads(vmcorefs("info", file, "--json").out), name)
    assert f"capture file {file}" in origin
    assert "option --" not in origin


def test_a_directory(tmp_path: Path, vmcorefs: Program) -> None:
    Machine(mode="zfcpdump").build(tmp_path)
    assert json.loads(vmcorefs("info", tmp_path, "--json").out)["mode"]["origin"] == "capture directory"
    assert "[capture directory]" in vmcorefs("info", tmp_path).out


def test_a_mount_says_what_its_image_says(tmp_path: Path, vmcorefs: Program) -> None:
    ready = make_ready("memory_range", tmp_path / "capture")
    file = ready.folder / "a.toml"
    file.write_text("image = 'oldmem.img'\n" + ready.toml())
    with mounted(file, tmp_path / "mnt") as mount:
        inside = json.loads((mount.where / "info.json").read_text())["physmem"]
        outside = json.loads(vmcorefs("info", mount.where, "--json").out)["physmem"]
    assert f"capture file {file}" in inside["origin"]
    assert outside == inside
