"""For all tests of packages: the sources as they are at the beginning, and one small Debian, which each leaves as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.building import freeze
from tests.packaging.roots import Root, root


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return freeze(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    with root(tmp_path_factory.mktemp("debian") / "root") as made:
        yield made
