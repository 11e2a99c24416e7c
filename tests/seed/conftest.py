"""The compiled kernel text, once a session; without it the tests of this folder are skipped, and say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kernel58


@pytest.fixture(scope="session")
def seed_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The harness, ready for kernel58.elfcorehdr and kernel58.seed_header."""
    reason = kernel58.available()
    if reason is not None:
        pytest.skip(reason)
    return kernel58.build(tmp_path_factory.mktemp("kernel58"))
