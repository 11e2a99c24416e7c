"""-o NAME=VALUE,...: the same options by name, as mount(8) has them."""

from __future__ import annotations

import argparse
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import Built, Machine
from tests.capture.conftest import CASES, PLAIN, make_ready
from tests.cli.conftest import Program
from tests.mounts.mounting import mounted
from vmcorefs.capture import FIELDS
from vmcorefs.cli.main import make_parser, parse
from vmcorefs.cli.options import image_options, split_option_words
from vmcorefs.fs.access import Access
from vmcorefs.fs.session import MountOptions

MIB = 1 << 20
Refused = Callable[..., str]


def options_of(*words: str, command: str = "mount") -> tuple[dict[str, Any], argparse.Namespace]:
    """What vmcorefs.open would be called with, and mount's own."""
    argv = [command, "IMAGE", *(["MOUNTPOINT"] if command == "mount" else []), *words]
    arguments = parse(make_parser(argv), argv)
    return image_options(arguments), arguments


@pytest.mark.parametrize("name", list(CASES))
def test_a_word_changes_the_same_bytes_as_the_option(tmp_path: Path, vmcorefs: Program, name: str) -> None:
    ready = make_ready(name, tmp_path)
    assert vmcorefs("copy", ready.image, tmp_path / "a", *ready.others, *ready.words).status == 0
    assert vmcorefs("copy", ready.image, tmp_path / "b", *ready.others, "-o", ",".join(ready.mount_words)).status == 0
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    plain = vmcorefs("copy", ready.image, tmp_path / "c", *ready.others)
    assert plain.status != 0 or (tmp_path / "c").read_bytes() != (tmp_path / "a").read_bytes()


def test_every_option_is_a_word() -> None:
    for row in FIELDS:
        options, _ = options_of("-o", f"{row.option.removeprefix('--')}=x")
        assert options == {row.name: ["x"] if row.repeatable else "x"}


@pytest.mark.parametrize(("words", "parts"), [
    ("", []), ("a", [("a", None)]), ("a=", [("a", "")]), ("a=1,b=2", [("a", "1"), ("b", "2")]),
    (",a=1,,b,", [("a", "1"), ("b", None)]),
    (r"a=x\,y,b", [("a", "x,y"), ("b", None)]), (r"a=x\\,b=1", [("a", "x\\"), ("b", "1")]), (r"a=\\\,b", [("a", "\\,b")]),
    (r"a=\x", [("a", "x")]), ("a=b=c", [("a", "b=c")]), ("a=x\ny,b", [("a", "x\ny"), ("b", None)]),
    ("a=\\\n,b", [("a", "\n"), ("b", None)]),
    ('a="x,y",b', [("a", "x,y"), ("b", None)]), ('a="x,y"z', [("a", '"x'), ('y"z', None)]), ('a=""', [("a", "")]),
    ('context="x,y",b', [("context", '"x,y"'), ("b", None)]), (r'a=\"x\"', [("a", '"x"')]),
    (r"a=\=", [("a", "=")]), ("a=0-1M,a=2M-3M", [("a", "0-1M"), ("a", "2M-3M")]),
])
def test_words_are_split_at_commas(words: str, parts: list[tuple[str, str | None]]) -> None:
    assert split_option_words(words) == parts


def test_a_backslash_at_the_end_is_not_lost() -> None:
    assert split_option_words("hsa=a\\") == [("hsa", "a\\")]


@pytest.mark.parametrize("name", ["a,b.txt", "a\\b.txt", "a=b.txt", "a b.txt", "a\\,b.txt"])
def test_a_file_name_with_a_comma_or_backslash(tmp_path: Path, vmcorefs: Program, name: str) -> None:
    built = PLAIN.build(tmp_path)
    (tmp_path / name).write_text("00000000-000fffff : System RAM\n")
    word = str(tmp_path / name).replace("\\", "\\\\").replace(",", "\\,")
    for words in (f"memory-map={word},layout=5.8", f"ro,layout=5.8,memory-map={word}"):
        assert vmcorefs("copy", "--force", built.image, tmp_path / "out", "-o", words).status == 0
        assert (tmp_path / "out").stat().st_size == MIB + 0x2000


def test_repeatable_ones_add_up_and_others_count_once() -> None:
    options, _ = options_of("-o", "memory-range=0-1M,memory-range=2M-3M,mode=plain", "-o", "memory-range=4M-5M,mode=kdump")
    assert options == {"memory_range": ["0-1M", "2M-3M", "4M-5M"], "mode": "kdump"}


def test_the_option_on_the_command_line_wins() -> None:
    words = ["-o", "mode=plain,memory-range=0-1M,hsa-size=5,capture=a.toml"]
    options, _ = options_of(*words, "--mode", "kdump", "--memory-range=2M-3M", "--capture", "b.toml")
    assert options == {"mode": "kdump", "memory_range": ["2M-3M"], "hsa_size": "5", "capture": "b.toml"}
    assert options_of(*words)[0]["capture"] == "a.toml"


def test_ro_and_defaults_change_nothing() -> None:
    assert options_of("-o", "ro,defaults", "-o", "defaults")[0] == {}
    assert options_of("-o", "ro,mode=plain,defaults")[0] == {"mode": "plain"}


# -- refusals --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Machine().build(tmp_path)


@pytest.mark.parametrize(("words", "line"), [
    ("memory-rang=0-1M", "-o: unknown option memory-rang (did you mean memory-range?)"),
    ("memory_rang=0-1M", "-o: unknown option memory_rang (did you mean memory-range?)"), ("log-level", "-o: log-level needs a value"),
    ("memory-ranges=0-1M", "-o: unknown option memory-ranges (did you mean memory-range?)"),
    ("captur=x", "(did you mean capture?)"),
    ("default", "(did you mean defaults?)"), ("zzzz", "-o: unknown option zzzz"), ("a\nb=1", r"-o: unknown option a\nb"),
    ("mode", "-o: mode needs a value, write mode=..."), ("ro,hsa", "-o: hsa needs a value, write hsa=..."),
    ("capture", "-o: capture needs a value, write capture=..."), ("mode=warp", "--mode: unknown mode 'warp'"),
    ("mode=", "--mode: unknown mode ''"), ("log-level=loud", "-o: log-level=loud: one of debug, info, warning, error"),
    ("oldmem=2M", "--oldmem: '2M' is no BASE:SIZE"), ("memory-range=5", "--memory-range: '5' is no START-END"),
    ("io=direct", "-o: unknown option io"), ("backend=auto", "-o: unknown option backend"), ("=5", "-o: a word without a name (=5)"),
])
def test_refusals_of_info(built: Built, refused: Refused, words: str, line: str) -> None:
    assert line in refused("info", built.image, "-o", words)


@pytest.mark.parametrize(("words", "line"), [
    ("io=warp", "-o io: 'warp' is unknown; one of auto, direct, cached"), ("backend=warp", "-o backend: 'warp' is unknown; one of auto"),
    ("io", "-o: io needs a value, write io=auto|direct|cached"), ("oi=direct", "-o: unknown option oi"),
    ("backen=auto", "(did you mean backend?)"),
    ("log-levle=info", "(did you mean log-level?)"), ("memory-rang=0-1M", "(did you mean memory-range?)"),
])
def test_refusals_of_mount(built: Built, tmp_path: Path, refused: Refused, words: str, line: str) -> None:
    (tmp_path / "mnt").mkdir()
    assert line in refused("mount", built.image, tmp_path / "mnt", "-o", words)


def test_a_file_option_without_a_name(built: Built, refused: Refused) -> None:
    assert "hsa" in refused("info", built.image, "-o", "hsa=").removeprefix("vmcorefs: error: ").partition(" ")[0]


# -- mount's own ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mount_options(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vmcorefs: Program) -> Callable[..., MountOptions]:
    """mount_options("-o", "io=cached"): what the file system would be started with."""
    found: list[MountOptions] = []
    monkeypatch.setattr("vmcorefs.cli.mount.mount", lambda tree, where, options, *, fake: found.append(options))
    (tmp_path / "mnt").mkdir()

    def call(*words: str) -> MountOptions:
        assert vmcorefs("mount", built.image, tmp_path / "mnt", *words).status == 0
        return found.pop()

    return call


def test_words_of_mount(mount_options: Callable[..., MountOptions]) -> None:
    assert mount_options().io == "auto"
    options = mount_options("-o", "io=cached,backend=fusepy,layout=5.8")
    assert (options.io, options.backend, options.capture["layout"]) == ("cached", "fusepy", "5.8")
    options = mount_options("-o", "allow_other,uid=7,gid=root,mode=0440,idle-timeout=2h,replace_stale,nonempty,pidfile=/run/p,mode=plain")
    assert options.access == Access(allow_other=True, uid=7, gid=0, mode=0o440)
    assert (options.idle_timeout, options.replace_stale, options.nonempty, options.pidfile) == (7200, True, True, "/run/p")
    assert (options.foreground, options.capture["mode"]) == (False, "plain")
    assert mount_options("-f").foreground


def test_mounts_own_words_and_defaults(mount_options: Callable[..., MountOptions]) -> None:
    """What fstab says for mount(8) and systemd is none of ours; what SELinux needs goes to the kernel."""
    options = mount_options("-o", "rw,suid,nodev,_netdev,nofail,noauto,x-systemd.automount,x-a=b,X-mount.mkdir,comment=c,user=joe,noatime")
    assert options.kernel_options == {}
    options = mount_options("-o", 'noexec,context="system_u:object_r:usr_t:s0:c1,c2",fscontext=x')
    assert options.kernel_options == {"noexec": True, "context": '"system_u:object_r:usr_t:s0:c1,c2"', "fscontext": "x"}
    assert mount_options().access == Access()


@pytest.mark.parametrize(("words", "line"), [
    ("mode=0640", "-o mode: '0640': files can only be read here; write one of 0400, 0440, 0444"), ("mode=9", "-o mode: '9'"),
    ("uid=nosuchuser", "-o uid: 'nosuchuser': there is no such user"), ("gid=4294967295", "-o gid: "), ("gid=", "-o gid: ''"),
    ("idle-timeout=0", "-o idle-timeout: '0' is no time"), ("idle-timeout=5w", "is no time; write a number of seconds, or 10m, 2h"),
    ("idle-timeout=99999999999999999999999", "is no time"), ("idle_timeout", "-o: idle_timeout needs a value"),
    ("allow_other=1", "-o allow_other: takes no value"), ("alow_other", "(did you mean allow-other?)"),
    ("gid=0", "-o gid= has no effect as long as only the user who mounts may look in; add --allow-other"),
    ("pidfile=/nonexistent/p", "--pidfile /nonexistent/p: cannot be written: No such file or directory"),
    ("pidfile=/", "--pidfile /: is a directory"),
])
def test_refusals_of_mounts_own(built: Built, tmp_path: Path, refused: Refused, words: str, line: str) -> None:
    (tmp_path / "mnt").mkdir()
    assert line in refused("mount", built.image, tmp_path / "mnt", "-o", words)


@pytest.mark.parametrize("words", [
    ["-o", "io=cached,backend=fusepy", "--io", "direct", "--backend", "mfusepy"],
    ["--io=direct", "--backend=mfusepy", "-o", "io=cached,backend=fusepy"]])
def test_mounts_own_option_on_the_command_line_wins(mount_options: Callable[..., MountOptions], words: list[str]) -> None:
    options = mount_options(*words)
    assert (options.io, options.backend) == ("direct", "mfusepy")


def test_log_level_counts(tmp_path: Path, vmcorefs: Program) -> None:
    built = Machine(os_info="bad_csum").build(tmp_path)
    said = vmcorefs("copy", built.image, tmp_path / "a", "-o", "log-level=warning")
    assert said.lines == said.warnings
    assert vmcorefs("copy", built.image, tmp_path / "b", "-o", "log-level=error").err == ""


def test_a_log_level_on_the_command_line_wins(tmp_path: Path, vmcorefs: Program) -> None:
    built = Machine(os_info="bad_csum").build(tmp_path)
    said = vmcorefs("copy", built.image, tmp_path / "a", "--log-level", "warning", "-o", "log-level=error")
    assert len(said.warnings) == len(said.lines) == 1


def test_a_real_mount(tmp_path: Path, vmcorefs: Program) -> None:
    (tmp_path / "a,b").mkdir()
    built = PLAIN.build(tmp_path / "a,b")
    (tmp_path / "a,b" / "iomem").write_text("00000000-001fffff : System RAM\n")
    iomem = str(tmp_path / "a,b" / "iomem")
    assert vmcorefs("copy", built.image, tmp_path / "copy", "--memory-map", iomem, "--layout", "5.8").status == 0
    words = r"ro,defaults,io=cached,layout=5.8,memory-map=" + iomem.replace(",", r"\,")
    with mounted(built.image, tmp_path / "mnt", "-o", words) as mount, mount.vmcore.open("rb") as file:
        assert file.read() == (tmp_path / "copy").read_bytes()
        with mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ) as mapped:  # MAP_SHARED: io=cached alone allows it
            assert mapped[:4] == b"\x7fELF"


# -- --vmcoreinfo of another kernel ------------------------------------------------------------------------------------------


def test_a_vmcoreinfo_of_another_kernel_is_not_used_where_the_image_has_its_own(tmp_path: Path, vmcorefs: Program) -> None:
    built = PLAIN.build(tmp_path)
    text = tmp_path / "text"
    text.write_text("OSRELEASE=9.9.9-other\n")
    said = vmcorefs("copy", built.image, tmp_path / "out", "--vmcoreinfo", text)
    assert said.status == 0
    (warning,) = said.warnings
    assert "--vmcoreinfo is not used" in warning and "9.9.9-other" in warning and "6.1.0" in warning
    assert (tmp_path / "out").read_bytes() == built.model.read(0, built.model.size)


@pytest.mark.parametrize(("release", "warned"), [("6.1.0", False), ("6.1.1", True)])
def test_the_release_of_another_kernel_is_noticed(tmp_path: Path, vmcorefs: Program, release: str, warned: bool) -> None:
    """The image has no VMCOREINFO; the names in memory say which kernel it was."""
    built = Machine(mode="plain", vmcoreinfo_by=None).build(tmp_path)
    names = [b"Linux", b"lpar7", b"6.1.0", b"#1 SMP", b"s390x", b"(none)"]
    built.poke_old(2 * MIB + 4, b"".join(name.ljust(65, b"\0") for name in names))
    text = tmp_path / "text"
    text.write_text(f"OSRELEASE={release}\nSYMBOL(init_uts_ns)={2 * MIB:x}\nOFFSET(uts_namespace.name)=4\n")
    said = vmcorefs("copy", built.image, tmp_path / "out", "--vmcoreinfo", text)
    assert said.status == 0
    assert text.read_bytes() in (tmp_path / "out").read_bytes()[:0x3000]  # it is used all the same
    assert len(said.warnings) == warned, said.err
    if warned:
        assert "--vmcoreinfo" in said.warnings[0] and "6.1.1" in said.warnings[0] and "6.1.0" in said.warnings[0]


def test_a_text_that_is_no_vmcoreinfo(built: Built, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "text").write_text("hello\n")
    assert f"{tmp_path / 'text'}: no VMCOREINFO text" in refused("info", built.image, "--vmcoreinfo", tmp_path / "text")
