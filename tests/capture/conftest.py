"""Each option in a case of its own: a machine, the option's value, and that the value changes what is served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vmcorefs as package
from tests.builders import Built, Machine, cpus
from tests.capture.given import as_json, states_of, written
from tests.cli.conftest import refused, vmcorefs
from vmcorefs.capture import FIELDS

__all__ = ["refused", "vmcorefs"]  # the fixtures of the command line's tests

MIB = 1 << 20
PLAIN = Machine(mode="plain", cpus=cpus(2))


@dataclass(frozen=True)
class Case:
    """*values* of the option; those of a path are files that *files* makes beside the image. *others*: options it needs."""

    machine: Machine
    values: tuple[str, ...]
    files: Callable[[Built, Path], None] = lambda built, folder: None
    others: Mapping[str, str] = field(default_factory=dict)


def no_trace_of_the_swap(built: Built, _folder: Path) -> None:
    built.poke_raw(0x10418, bytes(16))


def long_hsa(built: Built, folder: Path) -> None:
    assert built.hsa is not None
    (folder / "long.img").write_bytes(built.hsa.read_bytes())


def registers(built: Built, folder: Path) -> None:
    for number, state in enumerate(states_of(built)):
        written(folder / f"cpu{number}.json", as_json(state))


def a_file(name: str, text: str) -> Callable[[Built, Path], None]:
    def write(_built: Built, folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def split(built: Built, folder: Path) -> None:
    """The image ends after its first part; the two others beside it."""
    data = built.image.read_bytes()
    built.image.write_bytes(data[:MIB])
    (folder / "second").write_bytes(data[MIB:2 * MIB])
    (folder / "third").write_bytes(data[2 * MIB:])


def header_in_a_bad_area(built: Built, folder: Path) -> None:
    """The dump kernel's finished header could not be read: it is in memory that is not served."""
    start = built.dump_places["elfcorebuf"]
    (folder / "map").write_text(f"# a ddrescue map\n0 + 1\n0 {start} +\n{start} 4096 -\n{start + 4096:#x} 0x1000000 +\n")


def cut_short(built: Built, _folder: Path) -> None:
    with built.image.open("r+b") as file:
        file.truncate(built.image.stat().st_size - MIB)


CASES: dict[str, Case] = {
    "mode": Case(Machine(), ("plain",)),
    "oldmem": Case(Machine(os_info="absent", with_elfcorebuf=False), ("2M:1M",), no_trace_of_the_swap),
    "hsa": Case(Machine(mode="zfcpdump"), ("long.img",), long_hsa),
    "hsa_size": Case(Machine(mode="zfcpdump", body_pages="all"), ("512K",), long_hsa, {"hsa": "long.img"}),
    "memory_range": Case(PLAIN, ("0-1M", "2M-3M")),
    "memory_map": Case(PLAIN, ("iomem",), a_file("iomem", "00000000-001fffff : System RAM\n")),
    "device_memory": Case(PLAIN, ("1M-2M", "3M-0x310000")),
    "vmcoreinfo": Case(Machine(mode="plain", vmcoreinfo_by=None), ("text",), a_file("text", "OSRELEASE=6.1.0\nX=5\n")),
    "cpu_state": Case(Machine(mode="plain", stored_status=False, cpus=cpus(2)), ("cpu0.json", "cpu1.json"), registers),
    "layout": Case(Machine(with_elfcorebuf=False), ("5.8",)),
    "select": Case(Machine(), ("all",)),
    "part": Case(PLAIN, ("second", "third"), split),
    "bad_map": Case(Machine(memory=((0, 4 * MIB), (6 * MIB, 8 * MIB))), ("map",), header_in_a_bad_area),
    "missing": Case(Machine(), ("zeros",), cut_short),
}
ROWS = {row.name: row for row in FIELDS}


@dataclass(frozen=True)
class Ready:
    """A case, built in *folder*."""

    name: str
    case: Case
    folder: Path
    image: Path

    @property
    def key(self) -> str:
        return self.name.replace("_", "-")

    def _path(self, name: str, value: str) -> str:
        return str(self.folder / value) if ROWS[name].path else value

    @property
    def others(self) -> list[str]:
        """Command line words."""
        return [f"--{name.replace('_', '-')}={self._path(name, value)}" for name, value in self.case.others.items()]

    @property
    def words(self) -> list[str]:
        """The option on the command line."""
        return [f"--{self.key}={self._path(self.name, value)}" for value in self.case.values]

    @property
    def mount_words(self) -> list[str]:
        """The option as NAME=VALUE of -o."""
        return [word.removeprefix("--") for word in self.words]

    def toml(self, key: str | None = None) -> str:
        """A line of a capture file beside the image."""
        value = repr(list(self.case.values)) if ROWS[self.name].repeatable else repr(self.case.values[0])
        return f"{key or self.key} = {value}\n"

    @property
    def toml_others(self) -> str:
        return "".join(f"{name.replace('_', '-')} = {value!r}\n" for name, value in self.case.others.items())


def make_ready(name: str, folder: Path) -> Ready:
    folder.mkdir(exist_ok=True)
    case = CASES[name]
    built = case.machine.build(folder)
    case.files(built, folder)
    return Ready(name, case, folder, built.image)


def served(image: Path | str | None = None, **options: Any) -> str:
    """A digest of all bytes that vmcorefs.open serves."""
    with package.open(image, **options) as dump:
        return hashlib.file_digest(dump.vmcore, "sha256").hexdigest()


def served_or_refused(image: Path | str, **options: Any) -> str:
    try:
        return served(image, **options)
    except package.VmcorefsError as error:
        return f"refused: {error}"
