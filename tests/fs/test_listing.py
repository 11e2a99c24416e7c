"""What list says of a mount, and that asking is no use of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.builders import Built, Machine
from tests.conftest import Mounting
from tests.mounts.mounting import daemons_of, need_mounts, row_of
from vmcorefs.cli.list import _age, _table, _user
from vmcorefs.fs import listing
from vmcorefs.fs.counters import Counts
from vmcorefs.fs.listing import list_vmcorefs, resident_memory
from vmcorefs.fs.mounts import Holder, list_mounts


@pytest.fixture
def backend() -> str:
    """The bindings make no difference here."""
    need_mounts()
    return "auto"


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Machine(body_pages="all").build(tmp_path)


def test_listing_is_no_use(built: Built, mounted: Mounting) -> None:
    """A mount that is looked at all the time, and not used, ends by its idle timeout: nothing in it was opened, read or looked up."""
    mount = mounted(built.image, "--idle-timeout", "2")
    end = time.monotonic() + 15
    states = set()
    while row_of(mount.where) is not None:
        states |= {one.state for one in list_vmcorefs() if one.mountpoint == str(mount.where)}
        assert time.monotonic() < end, "it is still there"
    assert "ok" in states
    while daemons_of(mount.where):
        assert time.monotonic() < end


def test_who_goes_on_reading_is_not_hung(built: Built, mounted: Mounting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk and large reads: the daemon has no time to answer, but its counters move."""
    mount = mounted(built.image)
    counts = [Counts(1, 100, 0), Counts(2, 200, 0)]
    monkeypatch.setattr(listing, "answers_of", lambda paths, timeout: dict.fromkeys(paths))
    monkeypatch.setattr(listing, "list_mounts", lambda: [one for one in list_mounts() if one.mountpoint == str(mount.where)])
    monkeypatch.setattr(listing, "find_counts", lambda entry: counts[0])
    assert [one.state for one in list_vmcorefs()] == ["hung"]
    monkeypatch.setattr(listing, "find_counts", lambda entry: counts.pop(0))
    assert [one.state for one in list_vmcorefs()] == ["ok"]


def test_json_has_every_field(built: Built, mounted: Mounting) -> None:
    mount = mounted(built.image)
    (found,) = [one for one in list_vmcorefs() if one.mountpoint == str(mount.where)]
    found = type(found)(**{**vars(found), "readers": [Holder(7, "crash")]})
    assert json.loads(json.dumps(found.as_dict())) == {
        "mountpoint": str(mount.where), "source": str(built.image), "state": "ok", "mode": "kdump", "size": built.model.size,
        "reads": 0, "bytes": 0, "errors": 0, "memory": found.memory, "readers": [{"pid": 7, "name": "crash"}], "pid": mount.daemon,
        "uid": os.geteuid(), "since": found.since}


def test_memory() -> None:
    own = resident_memory(os.getpid())
    assert own is not None and own > 5 << 20
    assert resident_memory((1 << 22) + 1) is None


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0s"), (59.9, "59s"), (60, "1m0s"), (3599, "59m59s"), (3600, "1h0m"), (36_000, "10h0m"), (86_399, "23h59m"), (86_400, "1d0h"),
    (100 * 86_400, "100d0h"), (-5, "0s")])
def test_age(seconds: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    assert _age(1_000_000_000.0 - seconds) == text


def test_an_age_that_is_not_known() -> None:
    assert _age(None) == "-"


def test_owner() -> None:
    assert _user(0) == "root"
    assert _user(-1) == "-"
    assert _user(4_000_000_001) == "4000000001"


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    r"""A wide character takes two columns, a combining one none."""
    cells = [["MOUNTPOINT", *["-"] * 11], ["名前", *["-"] * 11], ["nu\u0308ll", *["-"] * 11], ["a" * 12, *["-"] * 11]]
    lines = _table([tuple(row) for row in cells]).splitlines()
    assert [line.partition("  -")[0].rstrip() for line in lines] == [row[0] for row in cells]
    assert [len(line.partition("-")[0]) for line in lines] == [14, 12, 15, 14]
