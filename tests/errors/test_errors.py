"""The family of errors: what a caller can catch, what travels, what a person sees."""

from __future__ import annotations

import errno
import pickle

import pytest

import vmcorefs
from vmcorefs.errors import (
    BusyError,
    ImageError,
    MountpointError,
    OldmemReadError,
    OutputError,
    ReadErrorKind,
    SystemLacksError,
    UsageError,
    VmcorefsError,
    printable,
    system_reason,
)

ERROR = OldmemReadError("dir/oldmem.img", 0x3000, "bad sector", address=0x200000, good=17)


def test_oldmem_read_error_is_of_both_families() -> None:
    with pytest.raises(VmcorefsError):
        raise ERROR
    with pytest.raises(OSError, match="bad sector"):
        raise ERROR


def test_oldmem_read_error_carries_eio() -> None:
    assert ERROR.errno == errno.EIO


def test_oldmem_read_error_says_file_address_offset_and_cause_in_one_line() -> None:
    assert str(ERROR) == "dir/oldmem.img: absolute address 0x200000: cannot read at offset 0x3000: bad sector"


def test_oldmem_read_error_without_address_does_not_invent_one() -> None:
    assert str(OldmemReadError("a", 5, "cut")) == "a: cannot read at offset 0x5: cut"


def test_the_kind_is_broken_unless_said_otherwise() -> None:
    assert ERROR.kind == "broken"
    assert OldmemReadError("a", 5, "cut off", kind="missing").kind == "missing"


def test_what_was_never_saved_is_said_so() -> None:
    error = OldmemReadError("dump", 0x5000, "left out by makedumpfile", address=0x7000, kind="filtered")
    assert str(error) == "dump: absolute address 0x7000: not saved, at 0x5000: left out by makedumpfile"
    assert error.strerror == str(error)


@pytest.mark.parametrize("kind", ["broken", "filtered", "missing"])
def test_the_kind_is_kept_by_moved_and_by_pickle(kind: ReadErrorKind) -> None:
    error = OldmemReadError("dump", 0x5000, "why", kind=kind, good=3)
    assert error.moved(good=7, address=9).kind == kind
    assert pickle.loads(pickle.dumps(error)).kind == kind  # noqa: S301 - our own bytes


def test_oldmem_read_error_survives_pickle() -> None:
    copy = pickle.loads(pickle.dumps(ERROR))  # noqa: S301 - our own bytes
    assert type(copy) is OldmemReadError
    assert (copy.file, copy.offset, copy.cause, copy.address, copy.good, copy.errno) == (
        "dir/oldmem.img", 0x3000, "bad sector", 0x200000, 17, errno.EIO)
    assert str(copy) == str(ERROR)


def test_moved_changes_good_and_address_only() -> None:
    moved = ERROR.moved(good=4096, address=0x300000)
    assert (moved.file, moved.offset, moved.cause) == (ERROR.file, ERROR.offset, ERROR.cause)
    assert (moved.good, moved.address) == (4096, 0x300000)


def test_moved_keeps_the_address_where_none_is_given() -> None:
    assert ERROR.moved(good=0).address == 0x200000


@pytest.mark.parametrize(("kind", "status"), [
    (UsageError, 2), (ImageError, 2), (MountpointError, 2), (BusyError, 1), (OutputError, 1), (SystemLacksError, 3),
    (OldmemReadError, 1),
])
def test_exit_status_of_each_error(kind: type[VmcorefsError], status: int) -> None:
    assert issubclass(kind, VmcorefsError)
    assert kind.exit_status == status


def test_all_errors_are_exported() -> None:
    for kind in (BusyError, ImageError, MountpointError, OldmemReadError, OutputError, SystemLacksError, UsageError,
                 VmcorefsError):
        assert getattr(vmcorefs, kind.__name__) is kind
        assert kind.__name__ in vmcorefs.__all__


@pytest.mark.parametrize(("path", "text"), [
    ("plain.img", "plain.img"),
    ("a\nb", "a\\nb"),
    ("esc\x1b[31m", "esc\\x1b[31m"),
    (b"not-utf8-\xff", "not-utf8-\\xff"),
    ("grün.img", "grün.img"),
])
def test_printable_escapes_what_would_spoil_a_line(path: str | bytes, text: str) -> None:
    assert printable(path) == text


def test_system_reason_is_the_systems_words_without_number_and_path() -> None:
    assert system_reason(OSError(errno.ENOENT, "No such file or directory", "x.img")) == "No such file or directory"


def test_system_reason_of_an_error_without_words() -> None:
    assert system_reason(OSError("odd")) == "odd"


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\x1b[2J", "a\rb"])
def test_printable_takes_any_text(text: str) -> None:
    """Half of a surrogate pair can stand in somebody's JSON."""
    assert printable(text).isascii() and printable(text).isprintable()
