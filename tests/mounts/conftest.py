"""served: one mount for all tests of a module that only read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, Machine, cpus
from tests.mounts.mounting import Mounted, mounted

MIB = 1 << 20
MTIME_NS = 1_234_567_890_123_456_789

# kdump, a hole, a range that ends within the first MiB behind the crashkernel area: every kind of border
MACHINE = Machine(memory=((0, 0x345000), (0x503000, 8 * MIB)), base=MIB, cpus=cpus(2), body_pages="all")


@dataclass(frozen=True)
class Served:
    """A mount with both opinions about its bytes: the model's (*data*), and the Python interface's."""

    mounted: Mounted
    built: Built
    data: bytes
    dump: vmcorefs.Dump
    io: str

    @property
    def vmcore(self) -> Path:
        return self.mounted.vmcore

    @property
    def size(self) -> int:
        return len(self.data)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An image that nobody changes."""
    built = MACHINE.build(tmp_path_factory.mktemp("machine"))
    os.utime(built.image, ns=(MTIME_NS, MTIME_NS))
    return built


@pytest.fixture(scope="session")
def machine_data(machine: Built) -> bytes:
    """The whole vmcore, as the model has it."""
    return machine.model.read(0, machine.model.size)


@pytest.fixture(scope="session", params=["direct", "cached"])
def io(request: pytest.FixtureRequest) -> str:
    """--io."""
    return str(request.param)


@pytest.fixture(scope="module")
def served(machine: Built, machine_data: bytes, backend: str, io: str, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[Served]:
    """The mount, under each binding and --io."""
    where = tmp_path_factory.mktemp("served") / "mnt"
    with vmcorefs.open(machine.image) as dump, mounted(machine.image, where, "--io", io, backend=backend) as mount:
        yield Served(mount, machine, machine_data, dump, io)
