"""docs/formats.md knows every format, every extra and every option that it is about."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from vmcorefs.cli.mount_options import ALSO
from vmcorefs.image import FORMATS
from vmcorefs.image.foreign import FOREIGN
from vmcorefs.image.libraries import _LIBRARIES
from vmcorefs.oldmem.mode import SELECTS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [form.name for form in FORMATS])
def test_every_format_has_a_row(name: str) -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    assert any(f"(`{name}`)" in row or row.startswith(f"| {name} ") for row in rows)


def test_every_kind_of_foreign_file_is_named() -> None:
    section = TEXT.partition("## What is refused")[2].partition("\n## ")[0].lower()
    words = {"lkcd", "vmdump", "volume", "dasd", "scsi", "diskdump", "virsh save", "qemu migration", "windows", "vmware", "qcow2", "luks",
             "lvm", "xfs", "ext4", "tar", "zip", "7z", "cpio", "rpm", "gzip", "zstd", "xz", "bzip2", "lz4", "lzop"}
    assert {word for word in words if word not in section} == set()
    assert len(FOREIGN) > 40


def test_every_extra_is_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in _LIBRARIES.values():
        assert f"| `vmcorefs[{extra}]` | {module} |" in TEXT
        assert any(requirement.startswith(module) for requirement in extras[extra])


def test_words_of_options() -> None:
    for word in (*SELECTS, *ALSO):
        assert f"`{word}`" in TEXT or f"`{word} " in TEXT
