"""make s390x: what it makes of the machine's words, and the archive that the machine starts from. (The machine itself takes minutes.)"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.emulated.machine.__main__ import verdict
from tests.emulated.machine.given import Given, read_given
from tests.emulated.machine.guest import END
from tests.emulated.machine.initramfs import Initramfs

GOOD = ["Linux version", "ok     stat: 1", "ok     read: 2", f"{END} 2"]


@pytest.mark.parametrize(("said", "good", "words"), [
    (GOOD, True, "all 2 checks went well"),
    ([*GOOD[:2], "FAILED read: 3, but wanted: 2", GOOD[3]], False, "1 of 2 checks failed"),
    (GOOD[:3], False, "without its last word"),
    ([*GOOD, GOOD[3]], False, "without its last word"),
    ([*GOOD[:3], f"{END} 3"], False, "0 of 3 checks failed, 2 went well"),
    (["Kernel panic"], False, "ended after 0 checks"),
    ([f"{END} 0"], False, "0 of 0"),
], ids=["good", "failed", "no end", "two ends", "lost", "panic", "nothing"])
def test_verdict(said: list[str], good: bool, words: str) -> None:
    found, text = verdict(said)
    assert found is good
    assert words in text


def entries(data: bytes) -> list[tuple[str, int, int, int, bytes]]:
    """(name, mode, uid, gid, contents) of a "newc" archive, in order."""
    found: list[tuple[str, int, int, int, bytes]] = []
    at = 0
    while True:
        assert at % 4 == 0
        assert data[at:at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name_end = at + 110 + fields[11]
        assert data[name_end - 1] == 0
        name = data[at + 110:name_end - 1].decode()
        start = (name_end + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], fields[2], fields[3], data[start:start + fields[6]]))
        at = (start + fields[6] + 3) // 4 * 4


def test_initramfs(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/program").write_bytes(b"12345")
    (tmp_path / "sub/program").chmod(0o755)
    (tmp_path / "sub/link").symlink_to("program")
    (tmp_path / "sub/left").write_bytes(b"no")
    made = Initramfs()
    made.add(tmp_path / "sub", "usr/bin", leave=frozenset({"left"}))
    made.add_bytes("usr/lib/x/suid", b"1", 0o4755)
    assert entries(made.data()) == [
        ("usr", stat.S_IFDIR | 0o755, 0, 0, b""),
        ("usr/bin", stat.S_IFDIR | 0o755, 0, 0, b""),
        ("usr/bin/link", stat.S_IFLNK | 0o777, 0, 0, b"program"),
        ("usr/bin/program", stat.S_IFREG | 0o755, 0, 0, b"12345"),
        ("usr/lib", stat.S_IFDIR | 0o755, 0, 0, b""),
        ("usr/lib/x", stat.S_IFDIR | 0o755, 0, 0, b""),
        ("usr/lib/x/suid", stat.S_IFREG | 0o4755, 0, 0, b"1"),
    ]


def test_given(tmp_path: Path) -> None:
    given = Given(os.uname().machine, "bindings", "/folder", {"a": 1}, {"a": "b"}, {"a": "c"}, {"a": {"info": "ä"}})
    (tmp_path / "given").write_bytes(given.write())
    assert read_given(tmp_path / "given") == given
