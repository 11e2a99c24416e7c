"""Capture files: each key does what the option does; what cannot be meant is refused by file, key and value."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vmcorefs as package
from tests.builders import Built, Machine
from tests.capture.conftest import CASES, PLAIN, make_ready, served, served_or_refused
from tests.cli.conftest import Program
from vmcorefs.capture import FIELDS, make_capture
from vmcorefs.errors import UsageError

MIB = 1 << 20
Refused = Callable[..., str]


def test_there_is_a_case_for_every_option() -> None:
    assert list(CASES) == [row.name for row in FIELDS]
    assert all(len(CASES[row.name].values) == 1 + row.repeatable for row in FIELDS)


@pytest.mark.parametrize("name", list(CASES))
def test_a_key_changes_the_same_bytes_as_the_option(tmp_path: Path, vmcorefs: Program, monkeypatch: pytest.MonkeyPatch,
                                                    name: str) -> None:
    ready = make_ready(name, tmp_path / "capture")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # paths are relative to the file, not to the working directory
    file = ready.folder / "this.toml"
    file.write_text("image = 'oldmem.img'\n" + ready.toml_others + ready.toml())

    answer = vmcorefs("copy", ready.image, tmp_path / "option", *ready.others, *ready.words)
    assert answer.status == 0, answer.err
    wanted = (tmp_path / "option").read_bytes()
    assert vmcorefs("copy", file, tmp_path / "file").status == 0
    assert (tmp_path / "file").read_bytes() == wanted
    digest = hashlib.sha256(wanted).hexdigest()
    assert served(file) == digest
    assert served(capture=file) == digest
    assert served(os.path.relpath(file)) == digest

    others = {other: str(ready.folder / value) for other, value in ready.case.others.items()}
    assert served_or_refused(ready.image, **others) != digest
    with package.open(file) as dump:
        assert dump.capture.origins[name] == f"capture file {file}"


@pytest.mark.parametrize("name", [row.name for row in FIELDS if row.repeatable])
def test_a_repeatable_option_has_a_plural_key(tmp_path: Path, name: str) -> None:
    ready = make_ready(name, tmp_path)
    one, many = tmp_path / "one.toml", tmp_path / "many.toml"
    one.write_text("image = 'oldmem.img'\n" + ready.toml())
    many.write_text("image = 'oldmem.img'\n" + ready.toml(ready.key + "s"))
    assert served(one) == served(many)
    assert len(getattr(make_capture(many), name)) == 2


@pytest.mark.parametrize("name", [row.name for row in FIELDS if not row.repeatable])
def test_others_have_none(tmp_path: Path, refused: Refused, name: str) -> None:
    ready = make_ready(name, tmp_path)
    file = tmp_path / "a.toml"
    file.write_text("image = 'oldmem.img'\n" + ready.toml(ready.key + "s"))
    assert f"{file}: unknown key '{ready.key}s' (did you mean {ready.key}?)" in refused("info", file)


def test_one_value_of_a_repeatable_key_may_stand_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('image = "oldmem.img"\nmemory-ranges = "0-1M"\n')
    assert make_capture(file).memory_range == ((0, MIB),)


def test_numbers_may_be_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('image = "oldmem.img"\noldmem = [0x200000, 1048576]\nhsa-size = 0x1000\nmemory-ranges = [[0, 4096]]\n')
    capture = make_capture(file)
    assert (capture.oldmem, capture.hsa_size, capture.memory_range) == ((2 * MIB, MIB), 4096, ((0, 4096),))


# -- which value counts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path: Path) -> Built:
    return PLAIN.build(tmp_path)


def load_sizes(file: Path) -> list[int]:
    """p_filesz of the PT_LOADs."""
    head = file.read_bytes()[:4096]
    return [int.from_bytes(head[at + 32:at + 40], "big") for at in range(64, 64 + 56 * head[57], 56) if head[at + 3] == 1]


def test_the_command_line_wins(tmp_path: Path, plain: Built, vmcorefs: Program) -> None:
    file = tmp_path / "a.toml"
    file.write_text('image = "oldmem.img"\nmemory-ranges = ["0-1M", "2M-3M"]\nlayout = "6.1"\n')
    vmcorefs("copy", file, tmp_path / "file")
    assert load_sizes(tmp_path / "file") == [MIB, MIB]
    vmcorefs("copy", file, tmp_path / "both", "--memory-range", "0-2M")  # takes its place, is not added to it
    assert load_sizes(tmp_path / "both") == [2 * MIB]
    vmcorefs("copy", file, tmp_path / "o", "-o", "memory-range=0-3M")
    assert load_sizes(tmp_path / "o") == [3 * MIB]
    vmcorefs("copy", file, tmp_path / "layout", "--layout", "5.8")
    assert (tmp_path / "layout").read_bytes() != (tmp_path / "file").read_bytes()
    with package.open(file, memory_range="0-2M") as dump:
        assert dump.memory_map == ((0, 2 * MIB),)
        assert dump.capture.layout == "6.1"


def test_a_memory_map_of_the_command_line_wins_over_ranges_of_the_file(tmp_path: Path, plain: Built) -> None:
    file, iomem = tmp_path / "a.toml", tmp_path / "iomem"
    file.write_text('image = "oldmem.img"\nmemory-ranges = ["0-1M"]\n')
    iomem.write_text("00000000-001fffff : System RAM\n")
    with package.open(file, memory_map=iomem) as dump:
        assert dump.memory_map == ((0, 2 * MIB),)


def test_an_image_on_the_command_line_wins_and_the_rest_counts(tmp_path: Path, plain: Built, vmcorefs: Program) -> None:
    file = tmp_path / "a.toml"
    file.write_text('image = "none.img"\nmemory-range = ["0-1M"]\n')
    assert vmcorefs("copy", plain.image, tmp_path / "out", "--capture", file).status == 0
    assert load_sizes(tmp_path / "out") == [MIB]
    file.write_text('memory-range = ["0-2M"]\n')
    assert vmcorefs("copy", plain.image, tmp_path / "out2", "-o", f"capture={file}").status == 0
    assert load_sizes(tmp_path / "out2") == [2 * MIB]


@pytest.mark.parametrize("command", [["info"], ["check"], ["copy", "out"]])
def test_capture_names_the_image_for_every_command(tmp_path: Path, plain: Built, vmcorefs: Program, command: list[str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.toml"
    file.write_text('image = "oldmem.img"\nmemory-range = ["0-1M"]\n')
    for words in (["--capture", file], [f"--capture={file}"]):
        answer = vmcorefs(*command, *words, *(["--force"] if command[0] == "copy" else []))
        assert answer.status == 0, answer.err
    if command[0] == "copy":
        assert load_sizes(tmp_path / "out") == [MIB]


def test_paths_may_lead_anywhere(tmp_path: Path, plain: Built) -> None:
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "a.toml"
    file.write_text('image = "../oldmem.img"\n')
    wanted = served(plain.image)
    assert served(file) == wanted
    file.write_text(f'image = "{plain.image}"\n')
    assert served(file) == wanted


# -- refusals --------------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, str]] = {
    "unknown": ("memory_range = ['0-1M']", "unknown key 'memory_range' (did you mean memory-range?)"),
    "plural typo": ("memory-rangess = ['0-1M']", "unknown key 'memory-rangess' (did you mean memory-ranges?)"),
    "image typo": ("imgae = 'x'", "unknown key 'imgae' (did you mean image?)"),
    "a table": ("[mode]\nplain = true", "mode: unknown mode {'plain': True}"),
    "unknown table": ("[options]\nmode = 'plain'", "unknown key 'options'"),
    "capture in it": ("capture = 'b.toml'", "unknown key 'capture'"),
    "twice": ("memory-range = ['0-1M']\nmemory-ranges = ['1M-2M']", "memory-ranges is there twice"),
    "twice, other order": ("cpu-states = ['a']\ncpu-state = ['b']", "cpu-state is there twice"),
    "the same twice": ("mode = 'plain'\nmode = 'plain'", "no TOML (Cannot overwrite a value"),
    "image as a list of numbers": ("image = ['a', 5]", "image: ['a', 5] is no file name"),
    "image as an empty list": ("image = []", "image: [] is no file name"),
    "image as a number": ("image = 5", "image: 5 is no file name"),
    "mode as a boolean": ("mode = true", "mode: unknown mode True"),
    "mode as a list": ("mode = ['plain']", "mode: unknown mode ['plain']"),
    "layout as a float": ("layout = 6.1", "layout: "),
    "layout as a float that loses its zero": ("layout = 6.10", "layout: "),
    "hsa as a number": ("hsa = 5", "hsa: 5 cannot be meant; write FILE"),
    "hsa as a list": ("hsa = ['a']", "hsa: ['a'] cannot be meant; write FILE"),
    "hsa-size as a float": ("hsa-size = 1.5", "hsa-size: 1.5 is no size"),
    "hsa-size as a boolean": ("hsa-size = true", "hsa-size: True is no size"),
    "hsa-size below 0": ("hsa-size = -1", "hsa-size: -1 is no size"),
    "hsa-size beyond 64 bits": ("hsa-size = 0x10000000000000000", "hsa-size: 18446744073709551616 is no size"),
    "hsa-size as words": ("hsa-size = 'much'", "hsa-size: 'much' is no size"),
    "hsa-size as a date": ("hsa-size = 2024-01-01", "hsa-size: datetime.date(2024, 1, 1) is no size"),
    "oldmem as a number": ("oldmem = 5", "oldmem: 5 cannot be meant; write B:S"),
    "oldmem of three": ("oldmem = [1, 2, 3]", "oldmem: [1, 2, 3] cannot be meant; write B:S"),
    "oldmem as words": ("oldmem = '2M'", "oldmem: '2M' is no BASE:SIZE"),
    "ranges as a number": ("memory-ranges = 5", "memory-range: 5 cannot be meant; write START-END"),
    "ranges as numbers": ("memory-ranges = [0, 4096]", "memory-range: [0, 4096] cannot be meant"),
    "ranges as a boolean": ("device-memory = true", "device-memory: True cannot be meant; write START-END"),
    "a range of one": ("device-memory = ['5']", "device-memory: '5' is no START-END"),
    "registers as a number": ("cpu-state = 5", "cpu-state: 5 cannot be meant; write FILE"),
    "registers as numbers": ("cpu-state = [5]", "cpu-state: [5] cannot be meant; write FILE"),
    "a map as a list": ("memory-map = ['a']", "memory-map: ['a'] cannot be meant; write FILE"),
    "VMCOREINFO as a boolean": ("vmcoreinfo = true", "vmcoreinfo: True cannot be meant; write FILE"),
    "no TOML": ("mode: plain", "no TOML ("),
    "an unquoted word": ("mode = plain", "no TOML ("),
    "a quote that is open": ("mode = 'plain", "no TOML ("),
}


@pytest.mark.parametrize("what", list(BAD))
def test_what_cannot_be_meant_is_refused_by_file_key_and_value(tmp_path: Path, refused: Refused, what: str) -> None:
    text, words = BAD[what]
    (tmp_path / "oldmem.img").write_bytes(bytes(4096))
    file = tmp_path / "bad.toml"
    file.write_text(("" if text.startswith(("image", "[")) else "image = 'oldmem.img'\n") + text + "\n")
    for arguments in ([file], [tmp_path / "oldmem.img", "--capture", file]):
        line = refused("info", *arguments)
        assert f"error: {file}: {words}" in line


@pytest.mark.parametrize(("content", "words"), [
    (b"", "0 bytes are no capture file"), (b"\n# nothing\n", "no image is named in it"), (b"mode = 'plain'\n", 'image = "FILE"'),
    (b"image = '\xff'\n", "no TOML ("), (b"\xfe\xff\0i", "no TOML ("),
    (b" " * ((1 << 20) + 1), "1048577 bytes are no capture file"),
])
def test_a_file_without_an_image_or_text(tmp_path: Path, refused: Refused, content: bytes, words: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    line = refused("info", file)
    assert str(file) in line
    assert words in line


def test_a_missing_capture_file_and_a_missing_image(tmp_path: Path, refused: Refused) -> None:
    assert f"{tmp_path / 'none.toml'}: cannot open the capture file: No such file" in refused("info", tmp_path / "none.toml")
    (tmp_path / "a.toml").write_text("image = 'none.img'\n")
    assert f"{tmp_path / 'none.img'}: cannot open the image: No such file" in refused("info", tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("image = '.'\n")
    assert "is a directory" in refused("info", tmp_path / "a.toml")


def test_python_refuses_the_same(tmp_path: Path) -> None:
    Machine().build(tmp_path)
    (tmp_path / "a.toml").write_text("image = 'oldmem.img'\nlayuot = '6.1'\n")
    with pytest.raises(UsageError, match=r"unknown key 'layuot' .did you mean layout"):
        package.open(tmp_path / "a.toml")
    with pytest.raises(UsageError, match="no image is given"):
        package.open()


HOSTILE: dict[str, str] = {
    "a number of 5000 digits": "hsa-size = " + "1" * 5000,
    "a hex number of 5000 digits": "hsa-size = 0x" + "1" * 5000,
    "deep arrays": "hsa = " + "[" * 100_000,
    "a NUL in the image": 'image = "a\\u0000b"',
    "a NUL in a path": 'image = "oldmem.img"\nhsa = "a\\u0000b"',
    "a table in place of a list": 'image = "oldmem.img"\nmemory-ranges = {"0-1M" = true}',
    "a table in place of a pair": 'image = "oldmem.img"\noldmem = {"2M" = 1, "1M" = 2}',
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, what: str) -> None:
    Machine().build(tmp_path)
    (tmp_path / "a.toml").write_text(HOSTILE[what] + "\n")
    with pytest.raises(package.VmcorefsError) as caught, package.open(tmp_path / "a.toml"):
        pass
    assert len(str(caught.value)) < 1000


def test_as_options_is_the_same_capture_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a mount keeps of itself."""
    ready = make_ready("hsa_size", tmp_path)
    file = tmp_path / "a.toml"
    file.write_text("image = 'oldmem.img'\n" + ready.toml_others + ready.toml())
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = make_capture("a.toml").as_options()
    monkeypatch.chdir("/")
    assert served(**options) == served(file)
