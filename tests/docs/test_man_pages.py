"""The man pages: clean, every option in them and no other, one text of the exit status, and their walk-throughs run as written."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.console import Step, check, roff_blocks, steps, unescaped
from tests.docs.sandbox import sandbox
from tests.docs.test_completions import command_parsers, options
from tests.mounts.mounting import skip_or_fail
from vmcorefs.capture import FIELDS
from vmcorefs.cli import mount_options
from vmcorefs.cli.main import COMMANDS, make_parser
from vmcorefs.cli.mount_options import MOUNT_FIELDS
from vmcorefs.cli.mount_vmcorefs import make_helper_parser

ROOT = Path(__file__).resolve().parents[2]
PROGRAM, TOML, HELPER = (ROOT / "man" / name for name in ("vmcorefs.1", "vmcorefs.toml.5", "mount.vmcorefs.8"))
PAGES = (PROGRAM, TOML, HELPER)
SECTIONS = {
    PROGRAM: ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "SIGNALS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES",
              "COMPARISON TO OTHER TOOLS", "SEE ALSO", "BUGS", "SECURITY CONSIDERATIONS"],
    TOML: ["NAME", "DESCRIPTION", "KEYS", "FILES", "EXAMPLES", "SEE ALSO"],
    HELPER: ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO", "BUGS",
             "SECURITY CONSIDERATIONS"],
}


def ids(page: Path) -> str:
    return page.name


# --- as documents


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_mandoc_finds_nothing(page: Path) -> None:
    if shutil.which("mandoc") is None:
        skip_or_fail("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False, timeout=60)
    # whether other packages' pages are there, and in mandoc's own table, is not this page's affair
    said = [line for line in (done.stdout + done.stderr).splitlines() if "outdated mandoc.db" not in line]
    assert said == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_groff_finds_nothing(page: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed; mandoc has looked at the page")
    done = subprocess.run(["groff", "-mandoc", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_what_is_shown_can_be_copied(page: Path) -> None:
    """The blocks come out as they are run: no typographic hyphen or quote (groff makes one of each bare - ' ` ^ ~), no lost dot."""
    for raw in re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", page.read_text(), re.MULTILINE):
        assert not re.search(r"(?<!\\)[-'`^~]", raw), raw
    if shutil.which("mandoc") is None:
        skip_or_fail("mandoc is not installed")
    shown = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=200", page], capture_output=True, text=True, check=True, timeout=60)
    text = [re.sub(".\b", "", line).strip() for line in shown.stdout.splitlines()]
    for block in roff_blocks(page.read_text()):
        for line in block.text.splitlines():
            assert line.strip() in text, line


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_sections(page: Path) -> None:
    assert re.findall(r"^\.Sh (.*)$", page.read_text(), re.MULTILINE) == SECTIONS[page]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_a_terminal_of_80_columns_is_enough(page: Path) -> None:
    longest = max((line for block in roff_blocks(page.read_text()) for line in block.text.splitlines()), key=len)
    assert len(longest) <= 80 - 7 or "/mnt/" in longest, longest  # fstab's lines cannot be broken


# --- options, commands and words


def part(page: Path, section: str) -> str:
    """A section (.Sh) or subsection (.Ss) of a page."""
    found = re.search(rf"^\.S[hs] {re.escape(section)}\n(.*?)(?=^\.S[hs] |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no section {section}"
    return found[1]


def items(text: str) -> list[str]:
    return [unescaped(line) for line in re.findall(r"^\.It (.*)$", text, re.MULTILINE)]


def flags(text: str) -> set[str]:
    """The options that the items of a list are about: Fl h, Fl -help, Fl -map Ns = Ns Cm svg."""
    found = set()
    for item in items(text):
        found |= {"-" + name + (f"={value}" if value else "")
                  for name, value in re.findall(r"\bFl (-?[\w-]+)(?: Ns = Ns Cm (\w+))?", item)}
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_and_no_other(command: str) -> None:
    parser = command_parsers()[command]
    for_all = flags(part(PROGRAM, "Of all commands")) - {"--version"}
    reading = flags(part(PROGRAM, "How to read the image"))
    known = options(parser)
    of_command = flags(part(PROGRAM, f"Of {command}"))
    assert for_all <= known
    assert of_command == known - for_all - (reading if "--mode" in known else set())
    if "--mode" in known:
        assert reading <= known
    assert not of_command & for_all


def test_options_without_a_command() -> None:
    assert options(make_parser()) == {"-h", "--help", "--version"} <= flags(part(PROGRAM, "Of all commands"))


def test_choices_of_options() -> None:
    """The fixed values of an option stand behind it."""
    text = part(PROGRAM, "Of all commands") + part(PROGRAM, "How to read the image") + part(PROGRAM, "Of mount")
    for parser in command_parsers().values():
        for action in parser._actions:
            if "|" in str(action.metavar) and action.option_strings:
                (item,) = [item for item in items(text) if f"Fl {action.option_strings[-1][1:]} " in item]
                assert re.sub(r" ?(Cm|Ar) ", "", item.partition(" ")[2].partition(" ")[2]).replace(" ", "") == action.metavar


def test_commands() -> None:
    assert [item.split()[1] for item in items(part(PROGRAM, "COMMANDS"))] == list(COMMANDS)
    assert set(re.findall(r"^\.Nm\n\.Cm (\w+)", part(PROGRAM, "SYNOPSIS"), re.MULTILINE)) == set(COMMANDS)


def test_every_word_of_o_and_no_other() -> None:
    words: set[str] = set()
    for item in items(part(PROGRAM, r"Words of -o")):
        words |= {word.partition("=")[0] for word in re.sub(r"\b(Cm|Ns|Ar|No)\b|[A-Z]{2,}", " ", item).replace(",", " ").split()
                  if word not in {"...", "="}}
    reading = {field.option.removeprefix("--") for field in FIELDS} | {"capture"}
    own = {row.word for row in MOUNT_FIELDS} | {"allow_other", "log-level"}
    system = set(mount_options._SYSTEM_WORDS) | {prefix.rstrip("=") + ("*" if prefix.endswith("-") else "")
                                                 for prefix in mount_options._SYSTEM_PREFIXES}
    kernel = set(mount_options._KERNEL_WORDS) | set(mount_options.KERNEL_VALUES)
    assert words - (reading - own) == own | system | kernel


def test_every_option_of_the_mount_helper_and_no_other() -> None:
    text = part(HELPER, "OPTIONS").partition(".Bl -tag -width Ds\n.It Cm")[0]
    assert flags(text) == options(make_helper_parser())
    synopsis = set(re.findall(r"\w", part(HELPER, "SYNOPSIS").rpartition(".Op Fl ")[0].rpartition(".Op Fl ")[0]
                              .rpartition(".Op Fl ")[2]))
    short = {option[1] for action in make_helper_parser()._actions for option in action.option_strings
             if action.nargs == 0 and not option.startswith("--")}
    assert synopsis == short - {"h"}


def test_words_of_o_in_the_page_of_the_mount_helper() -> None:
    """They are some of those in vmcorefs(1)."""
    known = {field.option.removeprefix("--") for field in FIELDS} | {"capture"}
    known |= {word.partition("=")[0] for item in items(part(PROGRAM, "Words of -o")) for word in re.findall(r"[\w*=-]+", item)}
    nested = items(part(HELPER, "OPTIONS").partition(".Bl -tag -width Ds\n.It Cm")[2])
    words = [word.partition("=")[0] for item in nested for word in re.findall(r"(?<![\w.])[a-z_][\w*=-]*", item.partition(" No ")[0])]
    assert len(words) > 20
    assert set(words) <= known


def test_every_key_of_a_capture_file_and_no_other() -> None:
    keys = {re.split(r"[ =]", piece)[0] for item in items(part(TOML, "KEYS")) for piece in re.findall(r"Cm ([\w-]+ No =)", item)}
    plural = {field.option.removeprefix("--") + "s" for field in FIELDS if field.repeatable}
    assert {key[:-1] if key in plural else key for key in keys} == {field.option.removeprefix("--") for field in FIELDS} | {"image"}
    keys = {key for item in items(part(TOML, "[mount]")) for key in re.findall(r"Cm ([\w-]+) No =", item)}
    assert keys == {row.word for row in MOUNT_FIELDS} | {"mountpoint"}


def test_no_option_that_does_not_exist_is_named_anywhere() -> None:
    known = {option for parser in command_parsers().values() for option in options(parser)} | options(make_parser())
    foreign = {"--select", "--dump-dmesg"}
    for page in (PROGRAM, TOML):
        named = {"-" + name for name in re.findall(r"\bFl (-[a-z][\w-]*)", page.read_text())}
        assert named <= known, page.name
        running = {word for block in roff_blocks(page.read_text()) for step in steps(block.text) if "vmcorefs" in step.command
                   and "systemctl" not in step.command for word in re.findall(r"(?<=\s)--[\w-]+", step.command)}
        assert running <= known | foreign, page.name


def test_environment() -> None:
    """What the page says is looked at is looked at."""
    source = "".join(path.read_text() for path in (ROOT / "vmcorefs").rglob("*.py"))
    names = re.findall(r"^\.It Ev (\w+)", part(PROGRAM, "ENVIRONMENT"), re.MULTILINE)
    assert {"NOTIFY_SOCKET", "XDG_RUNTIME_DIR"} < set(names)
    for name in set(names) - {"TMPDIR"}:  # tempfile's
        assert f'"{name}"' in source, name


# --- exit status


def plain(text: str) -> str:
    """Words without mark-up, for comparing the three places that have them."""
    return re.sub(r"\s+", " ", re.sub(r"[`*]", "", text)).strip(" .;")


def statuses(rows: list[tuple[str, str]]) -> dict[int, str]:
    return {int(number): plain(text) for number, text in rows}


def from_epilog(parser: argparse.ArgumentParser) -> dict[int, str]:
    text = plain(parser.epilog or "").partition("exit status")[2].partition(": ")[2] if "exit status:" not in (parser.epilog or "") \
        else plain(parser.epilog or "").partition("exit status: ")[2]
    return statuses(re.findall(r"(?:^|; )(\d+) (.*?)(?=; \d+ |$)", text))


def from_page(page: Path) -> dict[int, str]:
    rows = re.findall(r"^\.It (\d+)\n((?:.*\n)*?)(?=\.It|\.El)", part(page, "EXIT STATUS"), re.MULTILINE)
    return statuses([(number, re.sub(r"^\.\w+ ", "", text, flags=re.MULTILINE)) for number, text in rows])


def test_one_text_of_the_exit_status() -> None:
    page = from_page(PROGRAM)
    assert sorted(page) == [0, 1, 2, 3]
    for parser in (make_parser(), *command_parsers().values()):
        assert from_epilog(parser) == page
    readme = (ROOT / "README.md").read_text().partition("### Exit status")[2].partition("\n#")[0]
    assert statuses(re.findall(r"^\| (\d+) \| (.*?) \|$", readme, re.MULTILINE)) == page


def test_the_exit_codes_of_the_mount_helper() -> None:
    """mount(8)'s; the page says which status of vmcorefs(1) becomes which."""
    assert sorted(from_page(HELPER)) == sorted(from_epilog(make_helper_parser())) == [0, 1, 2, 8, 32]


# --- walk-throughs


class Example(NamedTuple):
    """One step of a page."""

    step: Step
    line: int


def examples(page: Path) -> list[Example]:
    return [Example(step, block.line) for block in roff_blocks(page.read_text()) if block.not_run is None
            for step in steps(block.text)]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_walk_throughs(page: Path, tmp_path: Path) -> None:
    everything = examples(page)
    assert len(everything) > 8
    with sandbox(tmp_path) as system:
        for example in everything:
            _, printed = system.run(example.step.command, "root" if example.step.prompt == "#" else "alice")
            try:
                check(example.step, printed)
            except AssertionError as error:
                pytest.fail(f"{page.name}, block at line {example.line}: {error}")
        assert system.run("findmnt -t fuse.vmcorefs")[1] == "", "a walk-through must end without a mount"


def test_what_is_not_run_is_systemds_alone() -> None:
    """make systemd-vm runs those."""
    left = [block for page in PAGES for block in roff_blocks(page.read_text()) if block.not_run is not None]
    assert left and all("systemctl" in block.text and "systemd-vm" in str(block.not_run) for block in left)
