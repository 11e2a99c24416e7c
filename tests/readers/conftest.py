"""Fixtures: the gold captures that the selected tests ask for are expanded and mounted once, and unmounted when this folder's
tests are over. All at once and before the tests, because what appears during a test is taken for something it left behind.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .gold import Gold, gold_folder, mount_gold

GoldMounts = dict[str, Gold | Exception]


def _wanted(items: list[pytest.Item]) -> list[str]:
    calls = [item.callspec for item in items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    return sorted({str(call.params["gold"]) for call in calls if "gold" in call.params})


@pytest.fixture(scope="package")
def gold_mounts(request: pytest.FixtureRequest) -> Iterator[GoldMounts]:
    """name -> the mounted capture, or why it is not mounted."""
    gold_folder()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmcorefs-readers-"))).resolve()
        found: GoldMounts = {}
        for name in _wanted(request.session.items):
            try:
                found[name] = mount_gold(name, scratch, stack)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                found[name] = error
        yield found


@pytest.fixture
def gold(request: pytest.FixtureRequest, gold_mounts: GoldMounts) -> Gold:
    """The capture that parametrize(..., indirect=True) names."""
    found = gold_mounts[request.param]
    if isinstance(found, Exception):
        raise found
    return found
