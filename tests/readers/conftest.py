"""Fixtures: each gold capture is expanded and mounted when the first test asks for it, and unmounted at the session's end."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .gold import Gold, GoldMounts, mount_gold


@pytest.fixture(scope="session")
def gold_mounts() -> Iterator[GoldMounts]:
    """name -> the mounted capture."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmcorefs-readers-"))).resolve()
        yield functools.cache(lambda name: mount_gold(name, scratch, stack))


@pytest.fixture
def gold(request: pytest.FixtureRequest, gold_mounts: GoldMounts) -> Gold:
    """The capture that parametrize(..., indirect=True) names."""
    return gold_mounts(request.param)
