"""The program as a whole: info, check, help, version, python -m, and what goes to which stream."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import Built, Machine, cpus
from tests.cli.conftest import Program, command, environment
from tests.image.bad_disk import BadDisk
from vmcorefs import __version__
from vmcorefs.cli.main import COMMANDS, main

MIB = 1 << 20
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Machine(release="6.12.0", cpus=cpus(2)).build(tmp_path)


def test_info_for_people(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("info", built.image)
    assert (answer.status, answer.err) == (0, "")
    for words in (str(built.image), "kdump", "B=0x200000 S=0x100000", "6.12.0", f"{built.model.size} bytes"):
        assert words in answer.out


def test_info_for_programs(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("info", built.image, "--json")
    assert (answer.status, answer.err) == (0, "")
    data = json.loads(answer.out)
    assert data["schema"] == 2
    assert data["vmcore_size"] == built.model.size
    assert data["mode"] == {"value": "kdump", "origin": "image", "assumed": False}


def test_info_takes_the_options_of_an_image(tmp_path: Path, vmcorefs: Program) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    data = json.loads(vmcorefs("info", built.image, "--json", "--hsa", built.hsa, "--hsa-size", "1M", "--memory-range", "0-3M",
                               "--memory-range", "0x300000-0x380000", "--layout", "5.8").out)
    assert data["mode"]["value"] == "zfcpdump"
    assert data["hsa_size"]["value"] == MIB
    assert data["memory_map"] == [[0, 0x380000]]
    assert data["layout"] == "5.8"
    assert data["todpreg_size"]["origin"] == "option --layout 5.8"


@pytest.mark.parametrize("oldmem", ["2M:1M", "2M+1M", "0x200000:0x100000", "2097152:1048576"])
def test_info_with_base_and_size_in_every_form(built: Built, vmcorefs: Program, oldmem: str) -> None:
    data = json.loads(vmcorefs("info", built.image, "--json", "--oldmem", oldmem).out)
    assert (data["crashkernel"]["base"], data["crashkernel"]["size"]) == (2 * MIB, MIB)
    assert data["mode"]["origin"].startswith("option")


def test_mode_plain_of_a_kdump_image_is_the_dump_kernel_as_it_stands(built: Built, vmcorefs: Program) -> None:
    data = json.loads(vmcorefs("info", built.image, "--json", "--mode", "plain").out)
    assert data["mode"]["value"] == "plain"
    assert data["memory_map"] == [[0, 4 * MIB]]


def test_info_with_debug_says_what_is_served_on_stderr(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("info", built.image, "--json", "--log-level", "debug")
    assert json.loads(answer.out)
    assert "served is the crashed" in answer.err


def test_check_for_people(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("check", built.image)
    assert (answer.status, answer.err) == (0, "")
    assert all(re.match(r"(ok|-) +[a-z_-]+ +\S|         (looked at|means|do) +\S|\d+ checks: \d+ ok, 0 failed", line)
               for line in answer.out.splitlines())
    assert "FAILED" not in answer.out


def test_check_for_programs(built: Built, vmcorefs: Program) -> None:
    answer = vmcorefs("check", built.image, "--json")
    assert (answer.status, answer.err) == (0, "")
    data = json.loads(answer.out)
    assert all(set(row) == {"name", "looks_at", "status", "text", "means", "advice"} for row in data)
    assert {row["status"] for row in data} <= {"ok", "none"}


def test_check_says_no_in_json_too(tmp_path: Path, vmcorefs: Program) -> None:
    built = Machine(os_info="bad_csum").build(tmp_path)
    answer = vmcorefs("check", built.image, "--json")
    assert answer.status == 1
    assert [row["name"] for row in json.loads(answer.out) if row["status"] == "failed"] == ["os_info"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"vmcorefs {__version__}\n"


@pytest.mark.parametrize("words", [
    ["-h"], ["--help"], *([name, "-h"] for name in COMMANDS), *([name, "--help"] for name in COMMANDS)])
def test_help_everywhere(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: vmcorefs")
    assert "exit status" in captured.out
    assert captured.err == ""


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for name in ("mount", "umount", "copy", "info", "check"):
        assert name in COMMANDS
        assert re.search(rf"^ +{name} ", out, re.MULTILINE)


@pytest.mark.parametrize("option", ["--mode", "--oldmem", "--hsa", "--hsa-size", "--memory-range", "--vmcoreinfo", "--layout",
                                    "--log-level"])
@pytest.mark.parametrize("name", ["mount", "copy", "info", "check"])
def test_every_command_that_takes_an_image_takes_all_its_options(option: str, name: str,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("reserved", ["native", "--rescue", "--compress", "--checksum", "--root"])
@pytest.mark.parametrize("name", ["mount", "copy", "info", "check"])
def test_what_is_reserved_for_later_is_not_shown(reserved: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert reserved not in capsys.readouterr().out


def test_python_m(built: Built, process: Process) -> None:
    done = process("info", built.image, "--json")
    assert done.returncode == 0
    assert done.stderr == b""
    assert json.loads(done.stdout)["vmcore_size"] == built.model.size


def test_python_m_with_bad_input(tmp_path: Path, process: Process) -> None:
    done = process("info", tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"vmcorefs: error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", [("info",), ("info", "--json"), ("check",), ("check", "--json")])
def test_standard_output_that_is_full_is_one_line_and_1(built: Built, process: Process, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = process(*words, built.image, stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr.startswith(b"vmcorefs: error: ")
    assert b"No space left on device" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_wants_a_few_lines_only_gets_no_complaint(built: Built) -> None:
    with subprocess.Popen(command("info", built.image, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment()) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        words = child.stderr.read()
    assert words == b""
    assert child.returncode == 1


def test_ctrl_c_while_looking(built: Built, vmcorefs: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*unused: object, **also: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vmcorefs.cli.info.open_dump", interrupt)
    answer = vmcorefs("info", built.image)
    assert (answer.status, answer.out, answer.lines) == (130, "", ["vmcorefs: error: interrupted"])


def test_an_unreadable_byte_that_is_needed_at_open_is_served_around(built: Built, vmcorefs: Program,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    raw = 2 * MIB + built.places["os_info"]
    BadDisk(monkeypatch, built.image, [(raw, raw + 512)])
    answer = vmcorefs("check", built.image)
    assert answer.status == 1
    assert "os_info" in answer.out


def test_no_state_is_kept_between_two_runs(built: Built, vmcorefs: Program) -> None:
    first = vmcorefs("info", built.image, "--log-level", "error")
    assert vmcorefs("info", built.image) == first
    assert "kdump mode" in vmcorefs("info", built.image, "--log-level", "debug").err
