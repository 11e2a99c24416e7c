"""One list of options for the command line and for vmcorefs.open(): the same words, the same refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import vmcorefs
from tests.builders import Machine
from vmcorefs.capture import FIELDS, make_capture, nearest
from vmcorefs.errors import UsageError

MIB = 1 << 20


def test_the_options_are_those_of_the_design() -> None:
    assert {field.option for field in FIELDS} >= {"--mode", "--oldmem", "--hsa", "--hsa-size", "--memory-range", "--vmcoreinfo",
                                                  "--layout"}


def test_text_as_on_the_command_line_and_numbers_are_the_same() -> None:
    text = make_capture("a.img", mode="kdump", oldmem="2M:1M", hsa_size="1M", memory_range=["0-2M", "3M-4M"], layout="6.4")
    numbers = make_capture(Path("a.img"), mode="kdump", oldmem=(2 * MIB, MIB), hsa_size=MIB,
                           memory_range=[(0, 2 * MIB), (3 * MIB, 4 * MIB)], layout="6.4")
    assert text == numbers
    assert text.oldmem == (2 * MIB, MIB)


def test_none_is_the_default() -> None:
    assert make_capture("a.img", **{field.name: None for field in FIELDS}) == make_capture("a.img")
    assert make_capture("a.img").mode == "auto"


def test_one_range_may_stand_alone() -> None:
    assert make_capture("a.img", memory_range="0-1M").memory_range == ((0, MIB),)


@pytest.mark.parametrize(("name", "value"), [
    ("mode", "warp"), ("mode", 5), ("oldmem", "2M"), ("oldmem", 5), ("oldmem", (1, 2, 3)), ("oldmem", (-1, 5)),
    ("oldmem", (True, 5)), ("oldmem", (1 << 64, 5)), ("hsa", 5), ("hsa_size", "x"), ("hsa_size", -1), ("hsa_size", 1.5),
    ("memory_range", 5),
    ("memory_range", [(1, 2, 3)]), ("memory_range", ["0"]), ("memory_range", (0, MIB)), ("vmcoreinfo", 5), ("layout", "new"),
    ("layout", 6.1), ("layout", 6),
])
def test_a_value_that_cannot_be_meant_is_refused_by_the_options_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="^--" + name.replace("_", "-")):
        make_capture("a.img", **{name: value})


@pytest.mark.parametrize(("name", "near"), [("modes", "mode"), ("old_mem", "oldmem"), ("memory_ranges", "memory_range")])
def test_an_unknown_option_is_refused_with_the_nearest_known_one(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown option '{name}'.*did you mean {near}"):
        make_capture("a.img", **dict[str, Any]({name: 1}))


def test_nearest_is_silent_where_nothing_is_near() -> None:
    assert nearest("zzz", ["mode"]) == ""


def test_open_takes_them_as_keywords(tmp_path: Path) -> None:
    built = Machine(with_elfcorebuf=False).build(tmp_path)
    with vmcorefs.open(str(built.image), mode="kdump", oldmem="2M:1M", memory_range=["0-3M"], layout="5.8") as dump:
        assert dump.memory_map == ((0, 2 * MIB),)
        assert dump.layout.name == "5.8"


def test_open_refuses_an_unknown_keyword(tmp_path: Path) -> None:
    built = Machine().build(tmp_path)
    with pytest.raises(UsageError, match="did you mean hsa"):
        vmcorefs.open(built.image, hsas="x")


def test_a_refused_image_leaves_no_descriptor_open(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for options in ({}, {"hsa": tmp_path / "none"}, {"hsa": built.hsa, "hsa_size": 5}, {"mode": "kdump"},
                    {"hsa": built.hsa, "memory_range": ["0-99M"]}):
        with pytest.raises(vmcorefs.VmcorefsError):
            vmcorefs.open(built.image, **options)
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_closes_both_files(tmp_path: Path) -> None:
    built = Machine(mode="zfcpdump").build(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    dump = vmcorefs.open(built.image, hsa=built.hsa)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    dump.close()
    dump.close()
    assert len(os.listdir("/proc/self/fd")) == before
