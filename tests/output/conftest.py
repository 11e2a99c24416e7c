"""A machine with full and with empty pages, its vmcore as the model has it, and copies of its image to damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from vmcorefs.vmcore.file import VmcoreFile

MIB = 1 << 20
PAGE = 4096
# Full pages up to 5 MiB, except every seventh; some at the borders of a chunk; nothing in the last MiB
PAGES = [page for page in range(0, 5 * MIB, PAGE) if page // PAGE % 7] + [6 * MIB - PAGE, 6 * MIB]
MACHINE = Machine(memory=((0, 8 * MIB),), base=2 * MIB, cpus=cpus(2), body_pages=PAGES)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An image that nobody changes."""
    return MACHINE.build(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="session")
def data(machine: Built) -> bytes:
    """The whole vmcore, as the model has it."""
    return machine.model.read(0, machine.model.size)


@pytest.fixture
def vmcore(machine: Built) -> Iterator[VmcoreFile]:
    """Opened by the product."""
    with vmcorefs.open(machine.image) as dump:
        yield dump.vmcore


@pytest.fixture
def own(machine: Built, tmp_path: Path) -> Built:
    """The same machine, its image for this test alone."""
    image = tmp_path / "image" / "oldmem.img"
    image.parent.mkdir()
    shutil.copyfile(machine.image, image)
    return replace(machine, image=image)
