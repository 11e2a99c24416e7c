"""The daemon's log line says whether bytes were never saved, are missing or broken."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from tests.fs.test_operations import make, read
from vmcorefs.errors import OldmemReadError, ReadErrorKind

WORDS = {"filtered": "never saved", "missing": "missing", "broken": "broken"}


@pytest.mark.parametrize("kind", get_args(ReadErrorKind))
def test_the_kind_is_in_the_log(kind: ReadErrorKind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("vmcorefs"), "propagate", True)

    def fail(view: memoryview, offset: int, salvage: bool) -> int:
        raise OldmemReadError("image", offset, "why", address=0x7000, kind=kind)

    assert read(make(fail), 100, 0x100, short_allowed=True)[0] < 0
    assert f"vmcore at 0x100: {WORDS[kind]}: image: absolute address 0x7000: " in caplog.text
