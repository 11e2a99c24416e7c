"""A copy of a dump that does not have all memory: the error keeps its kind, and says what helps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vmcorefs
from tests.containers.absent import case
from vmcorefs.dump import Dump
from vmcorefs.errors import OldmemReadError
from vmcorefs.output.copy import copy_to_descriptor, copy_to_file

HINT = "--missing zeros writes zeros in place of what the dump does not have"


def copy(dump: Dump, out: Path, *, to_file: bool) -> None:
    if to_file:
        copy_to_file(dump.vmcore, str(out))
    else:
        with out.open("wb") as file:
            copy_to_descriptor(dump.vmcore, file.fileno())


@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize(("name", "kind"), [
    ("kdump, filtered", "filtered"), ("elf, cut off", "missing"), ("kdump, damaged pages", "broken")])
def test_the_error_names_the_kind_and_the_option(name: str, kind: str, to_file: bool, tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    given = case(name, tmp_path, tmp_path / "machine")
    start = given.holed.absent[0][0]
    with vmcorefs.open(given.path) as dump:
        with pytest.raises(OldmemReadError) as caught:
            copy(dump, tmp_path / "out", to_file=to_file)
        done = dump.vmcore.size - given.built.model.facts.ranges[-1][1] + start
    error = caught.value
    assert (error.kind, error.address) == (kind, start)
    assert (HINT in str(error)) is (kind != "broken")
    if not to_file:
        assert f"{done} of {given.built.model.size} bytes were written" in str(error)
        assert os.path.getsize(tmp_path / "out") == done


@pytest.mark.parametrize("to_file", [True, False])
def test_with_the_option_it_is_complete(to_file: bool, tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    given = case("kdump, filtered", tmp_path, tmp_path / "machine")
    with vmcorefs.open(given.path, missing="zeros") as dump:
        copy(dump, tmp_path / "out", to_file=to_file)
    assert os.path.getsize(tmp_path / "out") == given.built.model.size
