"""Whom the files belong to and who may look in: modes, what has no effect, /etc/fuse.conf."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vmcorefs.errors import SystemLacksError, UsageError
from vmcorefs.fs import access
from vmcorefs.fs.access import Access, user_allow_other


@pytest.mark.parametrize(("given", "file_mode", "folder_mode"), [
    (Access(), 0o400, 0o555),
    (Access(allow_other=True), 0o400, 0o500),
    (Access(allow_other=True, mode=0o440), 0o440, 0o550),
    (Access(allow_other=True, mode=0o444), 0o444, 0o555),
])
def test_modes(given: Access, file_mode: int, folder_mode: int) -> None:
    """Whoever may read the files may look into the folders, and nobody else."""
    assert given.file_mode == stat.S_IFREG | file_mode
    assert given.folder_mode == stat.S_IFDIR | folder_mode


@pytest.mark.parametrize(("given", "name"), [
    (Access(uid=5), "uid"), (Access(uid=0), "uid"), (Access(gid=0), "gid"), (Access(mode=0o444), "mode"),
    (Access(uid=1, mode=0o440), "uid"),
])
def test_without_effect(given: Access, name: str) -> None:
    with pytest.raises(UsageError, match=f"-o {name}= has no effect.*--allow-other"):
        given.check()


@pytest.mark.parametrize("given", [Access(), Access(mode=0o400), Access(allow_other=True, uid=0, gid=0, mode=0o444)])
def test_with_effect(given: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    given.check()


@pytest.mark.parametrize("permitted", [False, True])
def test_a_plain_user(permitted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "fuse.conf"
    conf.write_text("user_allow_other\n" if permitted else "", encoding="ascii")
    monkeypatch.setattr(access, "FUSE_CONF", str(conf))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    Access().check()
    if permitted:
        Access(allow_other=True).check()
    else:
        with pytest.raises(SystemLacksError, match=f"not permitted .* have the line user_allow_other added to {conf}"):
            Access(allow_other=True).check()


# libfuse util/fusermount.c: read_conf, strip_line; fusermount3 3.14 takes exactly these (tests/mounts/test_access.py)
PERMIT = [b"user_allow_other\n", b"# a\n\n  user_allow_other\t \nmount_max = 5\n", b"user_allow_other # for support\n",
          b"mount_max=9\nuser_allow_other\n\n", b"\xff\n\tuser_allow_other#\n", b"user_allow_other\r\n"]
FORBID = [b"", b"#user_allow_other\n", b"# user_allow_other\n", b"user_allow_others\n", b"user_allow_other = 1\n", b"user_allow\n_other\n",
          b"x user_allow_other\n", b"USER_ALLOW_OTHER\n", b"user_allow_other"]


@pytest.mark.parametrize(("text", "wanted"), [*((text, True) for text in PERMIT), *((text, False) for text in FORBID)])
def test_the_configuration(text: bytes, wanted: bool, tmp_path: Path) -> None:
    (tmp_path / "fuse.conf").write_bytes(text)
    assert user_allow_other(str(tmp_path / "fuse.conf")) == wanted


def test_no_configuration(tmp_path: Path) -> None:
    assert not user_allow_other(str(tmp_path / "absent"))
    assert not user_allow_other(str(tmp_path))
