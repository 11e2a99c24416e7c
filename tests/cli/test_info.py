"""vmcorefs info: --map, --map=svg, colour, encodings, and the command lines of a mount."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.builders import Built, Machine, cpus
from tests.conftest import Mounting
from tests.report.infos import PANIC, ring, with_log

from .conftest import Program, command, environment

MIB = 1 << 20
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return with_log(tmp_path, ring(*PANIC), cpus=cpus(2))


def test_map(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("info", "--map", built.image)
    assert (answer.status, answer.err) == (0, "")
    assert "oldmem.img at 0x200000" in answer.out
    assert max(map(len, answer.out.splitlines()[:-2])) <= 80
    assert vmcorefs("info", built.image, "--map") == answer


def test_map_svg(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("info", "--map=svg", built.image)
    assert (answer.status, answer.err) == (0, "")
    root = ET.fromstring(answer.out)  # noqa: S314 of our own making
    words = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Where the bytes of vmcore come from" in words
    assert any("kernel 6.1.0, Kernel panic - not syncing: sysrq triggered crash" in word for word in words)


@pytest.mark.parametrize("words", [("--map=png",), ("--map", "svg"), ("--map", "--json"), ("--json", "--map=svg"), ("--colour",)])
def test_refusals(built: Built, refused: Callable[..., str], words: tuple[str, ...]) -> None:
    assert "--help" in refused("info", built.image, *words)


@pytest.mark.parametrize("words", [(), ("--map",), ("--map=svg",), ("--json",)])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "iso8859-1"])
def test_any_encoding(tmp_path: Path, words: tuple[str, ...], encoding: str) -> None:
    folder = tmp_path / "größe-日本"
    folder.mkdir()
    image = Machine().build(folder).image
    done = subprocess.run(command("info", image, *words), capture_output=True, check=False,
                          env={**environment(), "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


def on_terminal(*arguments: object, columns: int = 80, **variables: str) -> str:
    """What a terminal of that width gets."""
    ours, theirs = pty.openpty()
    try:
        import fcntl
        import struct
        import termios
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with subprocess.Popen(command(*arguments), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                              env=environment() | {"NO_COLOR": "", "TERM": "xterm"} | variables) as child:
            os.close(theirs)
            theirs = -1
            data = bytearray()
            while True:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # EIO: the other side is closed
                    break
                if not piece:
                    break
                data += piece
            assert child.wait(timeout=60) == 0
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
    return data.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("name", ["info", "check"])
def test_colour_and_breaks_on_a_terminal_only(built: Built, vmcorefs: Program, name: str) -> None:
    painted = on_terminal(name, built.image)
    assert "\x1b[" in painted
    plain = vmcorefs(name, built.image).out
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted).split() == plain.split()


def test_a_narrow_terminal(built: Built) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("info", built.image, columns=70))
    long = [line for line in text.splitlines() if len(line) > 70 and len(line.split()) > 2]
    assert all(str(built.image) in line or "mnt/vmcore" in line for line in long), long


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(built: Built, variables: dict[str, Any]) -> None:
    assert "\x1b" not in on_terminal("info", built.image, **variables)


def test_json_has_no_colour_on_a_terminal(built: Built) -> None:
    assert json.loads(on_terminal("info", built.image, "--json"))["crash"]["cpu"]["value"] == 1


def test_extents_cover_vmcore(built: Built, vmcorefs: Program) -> None:
    data = json.loads(vmcorefs("info", built.image, "--json").out)
    at = 0
    for extent in data["extents"]:
        assert extent["offset"] == at
        at += extent["length"]
        if extent["kind"] == "header":
            assert extent["source"] is None
            continue
        with open(extent["source"], "rb") as file:
            file.seek(extent["source_offset"])
            assert file.read(4096) == built.model.read(extent["offset"], 4096)
    assert at == data["vmcore_size"] == built.model.size


def test_a_failing_stdout_is_no_traceback(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcorefs.cli.info import say

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    say("größe\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"gr\\xf6\\xdfe\n"


def test_of_a_mount_the_command_lines_name_it(tmp_path: Path, built: Built, mounted: Mounting, vmcorefs: Program) -> None:
    where = tmp_path / "a mount"
    where.mkdir()
    mounted(built.image, where=where)
    text = vmcorefs("info", where).out
    assert f"drgn -c '{where}/vmcore' -s vmlinux" in text
    assert f"vmcorefs umount '{where}'" in text
    assert "mkdir" not in text
    assert "vmcore come from" in vmcorefs("info", "--map=svg", where).out
    inside = json.loads((where / "info.json").read_text())
    outside = json.loads(vmcorefs("info", where, "--json").out)
    assert {k: v for k, v in inside.items() if k != "commands"} == {k: v for k, v in outside.items() if k != "commands"}
