"""The program, called in this process or as one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from vmcorefs.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    """What a run of the program gave."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of stderr."""
        return self.err.splitlines()

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if line.startswith("vmcorefs: warning: ")]


Program = Callable[..., Answer]


@pytest.fixture
def vmcorefs(capsys: pytest.CaptureFixture[str]) -> Program:
    """vmcorefs("info", image): main() in this process."""

    def call(*arguments: object) -> Answer:
        status = main([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(status, captured.out, captured.err)

    return call


@pytest.fixture
def refused(vmcorefs: Program) -> Callable[..., str]:
    """The one line of a refusal: exit status 2, nothing on stdout."""

    def call(*arguments: object) -> str:
        answer = vmcorefs(*arguments)
        assert answer.status == 2, answer
        assert answer.out == ""
        assert len(answer.lines) == 1, answer.err
        assert answer.lines[0].startswith("vmcorefs: error: ")
        return answer.lines[0]

    return call


def command(*arguments: object) -> list[str]:
    """python -m vmcorefs ..."""
    return [sys.executable, "-m", "vmcorefs", *(os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """process("info", image, stdout=...): a process of its own."""

    def call(*arguments: object, stdout: int | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command(*arguments), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, timeout=60,
                              stdout=subprocess.PIPE if stdout is None else stdout, env=environment())

    return call
