"""The completions for bash, zsh and fish: up to date, every option in them, and what the shells then propose."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.shells import FILES, SHELLS, Shell, need
from tests.mounts.mounting import mounted
from vmcorefs.capture import FIELDS
from vmcorefs.cli.main import COMMANDS, make_parser
from vmcorefs.cli.mount_options import MOUNT_FIELDS

ROOT = Path(__file__).resolve().parents[2]
COMPLETIONS = ROOT / "completions"


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    (commands,) = [action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell with the completions, in a directory with some files."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "dir").mkdir()
    for name in ("oldmem.img", "my image.img", "db7.toml", "dir/hsa.img"):
        (folder / name).touch()
    shell = Shell(str(request.param), COMPLETIONS, folder, tmp_path_factory.mktemp("home"))
    yield shell
    shell.close()


def test_the_files_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "make-completions", tmp_path], check=True, timeout=60,
                   env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES.values())
    for name in FILES.values():
        assert (COMPLETIONS / name).read_text() == (tmp_path / name).read_text(), f"{name} is old; run: make completions"


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_finds_no_error_in_them(name: str) -> None:
    need(name)
    done = subprocess.run([name, "-n", COMPLETIONS / FILES[name]], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_commands(shell: Shell) -> None:
    assert sorted(shell.words("vmcorefs ")) == sorted(COMMANDS)
    assert shell.words("vmcorefs um") == ["umount"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_no_other(shell: Shell, command: str) -> None:
    proposed = set(shell.words(f"vmcorefs {command} -")) | set(shell.words(f"vmcorefs {command} --"))
    assert proposed == options(command_parsers()[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_choices(shell: Shell, command: str) -> None:
    """Of options with fixed values, such as --io, as two words and with =."""
    known = {option: [word for word in str(action.metavar).split("|") if not word.isupper()]
             for action in command_parsers()[command]._actions for option in action.option_strings if "|" in str(action.metavar)}
    assert "--log-level" in known and (command != "mount" or {"--io", "--mode", "--layout"} < set(known))
    for option, words in known.items():
        assert sorted(shell.words(f"vmcorefs {command} {option} ")) == sorted(words)
        assert shell.words(f"vmcorefs {command} {option}={words[0][:-1]}") == [f"{option}={words[0]}"]


def slashed(words: list[str]) -> list[str]:
    """Whether a shell writes / behind a directory when it inserts several words is its own affair."""
    return sorted(word.rstrip("/") for word in words)


ALL = ["db7.toml", "dir", "my image.img", "oldmem.img"]


@pytest.mark.parametrize(("typed", "words"), [
    ("mount ", ALL), ("mount oldmem.img ", ["dir"]), ("copy oldmem.img ", ALL), ("info ", ALL), ("check --json ", ALL),
    ("dmesg --callers ", ALL), ("drgn oldmem.img ", ALL), ("mount --hsa ", ALL), ("mount --hsa dir/", ["dir/hsa.img"]),
    ("mount --pidfile ", ALL), ("drgn --vmlinux ", ALL), ("mount --cpu-state oldmem.img --cpu-state ", ALL),
    ("mount --oldmem 0x6000000:64M oldmem.img ", ["dir"]), ("mount --oldmem=0x6000000:64M oldmem.img ", ["dir"]),
    ("mount -o io=cached,hsa=dir/hsa.img oldmem.img ", ["dir"]),
    ("mount my", ["my image.img"]), ("mount --allow-other my", ["my image.img"]),
    ("mount --idle-timeout ", []), ("mount --oldmem ", []),
])
def test_files_and_directories(shell: Shell, typed: str, words: list[str]) -> None:
    assert slashed(shell.words(f"vmcorefs {typed}")) == words


def test_files_behind_an_equals_sign(shell: Shell) -> None:
    assert shell.words("vmcorefs mount --hsa=dir/h") == ["--hsa=dir/hsa.img"]
    assert shell.words("vmcorefs mount --memory-map=dir/h") == ["--memory-map=dir/hsa.img"]
    assert "--map=svg" in shell.words("vmcorefs info --map=")


def test_capture_files(shell: Shell) -> None:
    words = slashed(shell.words("vmcorefs umount --capture "))
    assert words == (ALL if shell.name == "fish" else ["db7.toml", "dir"])


def test_words_of_o(shell: Shell) -> None:
    image = {field.option.removeprefix("--") + "=" for field in FIELDS} | {"capture=", "log-level="}
    mount = {row.word + ("=" if row.metavar else "") for row in MOUNT_FIELDS}
    assert set(shell.words("vmcorefs copy -o ")) == image
    assert set(shell.words("vmcorefs mount -o ")) == image | mount
    if shell.name != "bash":  # which is asked for what is behind the last = only, and so inserts one behind the other
        assert set(shell.words("vmcorefs mount -o io=cached,m")) == {f"io=cached,{word}" for word in image | mount if word[0] == "m"}
    assert shell.words("vmcorefs mount -o io=cached,mod") == ["io=cached,mode="]


def test_values_of_the_words_of_o(shell: Shell) -> None:
    assert shell.words("vmcorefs mount -o allow-other,io=c") == ["allow-other,io=cached"]
    assert shell.words("vmcorefs mount -o mode=044")[:1] == ["mode=0440"]
    assert shell.words("vmcorefs mount -o mode=k") == ["mode=kdump"]
    assert shell.words("vmcorefs mount -o io=cached,hsa=dir/h") == ["io=cached,hsa=dir/hsa.img"]


def test_tab(shell: Shell) -> None:
    """What stands in the line after a Tab: quoted, and no blank where the word goes on."""
    if shell.name == "fish":
        return  # it has no way to say so without its own editor
    assert shell.tab("vmcorefs mount my") == r"vmcorefs mount my\ image.img "
    assert shell.tab(r"vmcorefs mount my\ im") == r"vmcorefs mount my\ image.img "
    assert shell.tab("vmcorefs mount --io=ca") == "vmcorefs mount --io=cached "
    assert shell.tab("vmcorefs mount -o gi") == "vmcorefs mount -o gid="
    assert shell.tab("vmcorefs mount --hsa=di") == "vmcorefs mount --hsa=dir/"
    assert shell.tab("vmcorefs mount -o io=cached,hsa=di") == "vmcorefs mount -o io=cached,hsa=dir/"


@pytest.mark.parametrize("name", SHELLS)
def test_mounts_to_unmount(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the system's table, relative to the working directory too; the mount itself is never asked."""
    from tests.builders import Machine

    need(name)
    image = Machine().build(tmp_path_factory.mktemp("image")).image
    work, other = tmp_path / "work", tmp_path_factory.mktemp("other")
    work.mkdir()
    with mounted(image, work / "a mount 100%"):
        shell = Shell(name, COMPLETIONS, work, tmp_path_factory.mktemp("home"))
        elsewhere = Shell(name, COMPLETIONS, other, tmp_path_factory.mktemp("home"))
        try:
            assert "a mount 100%" in shell.words("vmcorefs umount ")  # others' mounts may be there, too
            assert shell.words(f"vmcorefs umount --lazy {tmp_path}/wo") == [str(work / "a mount 100%")]
            assert str(work / "a mount 100%") in elsewhere.words("vmcorefs umount --if-mounted ")
        finally:
            shell.close()
            elsewhere.close()
