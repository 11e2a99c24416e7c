"""FORMATS: one row a container, recognised by content, imported when it is tried and not before."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.containers import elf
from vmcorefs.image import FORMATS, HEAD_SIZE, Format, open_image
from vmcorefs.image.file import ImageFile

OPENED = """
import sys
before = set(sys.modules)
from vmcorefs.image import open_image
open_image(sys.argv[1]).close()
print(*sorted(m.removeprefix("vmcorefs.image.") for m in set(sys.modules) - before if m.startswith("vmcorefs.image.")))
"""


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_each_row_names_a_module_that_opens_it(form: Format) -> None:
    module = importlib.import_module(form.module)
    assert callable(module.from_file)
    assert form.several == hasattr(module, "from_files")
    assert module.__doc__


def test_no_format_is_there_twice() -> None:
    assert len({form.name for form in FORMATS}) == len(FORMATS)
    assert len({form.module for form in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 15, 16, 17, 19, 20, 100])
def test_recognising_a_short_file_is_no_error(tmp_path: Path, size: int) -> None:
    path = tmp_path / "short"
    for seed in range(20):
        path.write_bytes(random.Random(seed).randbytes(size))
        with ImageFile(path) as file:
            assert not any(form.detect(file.head(HEAD_SIZE), file) for form in FORMATS)


def imported(path: Path) -> set[str]:
    done = subprocess.run([sys.executable, "-c", OPENED, path], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_raw_image_imports_no_format(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(8192))
    assert imported(tmp_path / "raw") & {form.module.rpartition(".")[2] for form in FORMATS} == set()


def test_an_elf_core_imports_its_format_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(elf.core([elf.Load(0, bytes(8192))]))
    assert imported(tmp_path / "core") & {form.module.rpartition(".")[2] for form in FORMATS} == {"elf_core"}


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "image.lime"
    path.write_bytes(elf.core([elf.Load(0, bytes(8192))]))
    with open_image(path) as source:
        assert source.container.format == "elf"
