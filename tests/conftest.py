"""Fixtures for all tests: the bindings, a mount, and a check that nothing is left behind."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mounts.mounting import BACKENDS, MARK, Leftovers, Mounted, mounted, need_mounts

os.environ[MARK] = uuid.uuid4().hex
# nohup, and a shell's &, leave these ignored, which every program that a test starts would inherit
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

Mounting = Callable[..., Mounted]


# These start no process and mount nothing; looking for leftovers after each of their many tests would double their time.
_PURE = frozenset({"errors", "image", "oldmem", "s390", "vmcore", "property", "seed", "house"})


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if request.node.path.parent.name in _PURE:
        yield
        return
    leftovers = Leftovers(tmp_path_factory.getbasetemp())
    yield
    left = leftovers.check()
    assert left == [], "the test left something behind"


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A binding, with its libfuse here: mfusepy with libfuse 3, fusepy with libfuse 2."""
    name = str(request.param)
    need_mounts(name)
    return name


@pytest.fixture(name="mounted")
def mounted_fixture(backend: str, tmp_path: Path) -> Iterator[Mounting]:
    """mounted(image, *options, where=None): the mount; unmounted after the test."""
    with ExitStack() as stack:
        def mount(image: Path, *options: str, where: Path | None = None) -> Mounted:
            return stack.enter_context(mounted(image, where or tmp_path / "mnt", *options, backend=backend))

        yield mount
