"""The real dumps in the folder that VMCOREFS_SAMPLES names: unpacked, with what samples.json says about them."""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from vmcorefs.errors import OldmemReadError, ReadErrorKind
from vmcorefs.image.source import Source


def samples() -> Path:
    where = os.environ.get("VMCOREFS_SAMPLES")
    if not where:
        pytest.skip("VMCOREFS_SAMPLES is not set: no real dumps")
    return Path(where)


def facts(name: str) -> dict[str, Any]:
    """What samples.json says of a sample; the name is that of the unpacked file."""
    table = json.loads((samples() / "samples.json").read_text())
    found: dict[str, Any] = table.get(name) or table[f"{name}.xz"]
    return found


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vmcorefs-samples-")


@functools.cache
def sample(name: str) -> Path:
    """The file, unpacked where it is packed."""
    plain = samples() / name
    if plain.exists():
        return plain
    target = Path(_folder().name) / name
    data = lzma.decompress((samples() / f"{name}.xz").read_bytes())
    assert hashlib.sha256(data).hexdigest() == facts(name)["sha256"]
    target.write_bytes(data)
    return target


def memory_hash(source: Source, size: int, page: int = 4096) -> tuple[str, set[ReadErrorKind]]:
    """(sha256 of [0, size) with zeros for every page that cannot be read, the kinds of the errors)."""
    digest = hashlib.sha256()
    kinds: set[ReadErrorKind] = set()
    for address in range(0, size, page):
        want = min(page, size - address)
        try:
            digest.update(source.pread(want, address))
        except OldmemReadError as error:
            kinds.add(error.kind)
            digest.update(bytes(want))
    return digest.hexdigest(), kinds
