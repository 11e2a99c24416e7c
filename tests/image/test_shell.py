"""Commands in messages can be pasted, whatever a file is called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vmcorefs.image.file import ImageFile
from vmcorefs.image.shell import plain_of, quoted

NAMES = [b"plain.gz", b"two words.gz", b"it's.gz", b"-dash.gz", b"$HOME;x.gz", b"back\\slash.gz", b"new\nline.gz", b"esc\x1b[31m.gz",
         b"latin\xe9.gz", "\u00fcmlaut.gz".encode(), b"tab\tab'\n\\.gz"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_pasted_name_is_the_files(tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name)
    Path(path).write_bytes(b"content")
    with ImageFile(path) as file:
        word = quoted(plain_of(file))
    assert word.isprintable()
    assert subprocess.run(["bash", "-c", f"cat {word}"], capture_output=True, check=True, cwd=tmp_path).stdout == b"content"
