"""The unit files: systemd's own checkers, no setting that would hide the mount, and what they promise to programs and people."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders import Machine
from tests.mounts.mounting import clear, need_mounts, need_root, row_of, run, skip_or_fail
from tests.systemd.namespaces import COMPANIONS, MAKERS, OTHERS
from tests.systemd.units import FOLDER, ROOT, SERVICE, command, program, settings, value, words

UNITS = sorted(FOLDER.glob("*.*"))
EXPOSURE = 35  # in tenths, as of systemd 252. Nearly all of it is root, CAP_SYS_ADMIN and settings that need a mount namespace


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, "SYSTEMD_COLORS": "0"})


def with_program(path: Path, folder: Path) -> Path:
    """A copy that calls our program where the unit has the bare name, which need not be installed here."""
    copy = folder / path.name.replace("@.", "@db7.")
    copy.write_text(path.read_text(encoding="utf-8").replace("ExecStart=vmcorefs ", f"ExecStart={program()} "), encoding="utf-8")
    return copy


def verify(path: Path) -> str:
    """All that systemd has to say against it. Man pages need not be installed here."""
    done = analyze("verify", "--man=no", "--recursive-errors=no", path)
    return done.stderr + done.stdout + ("" if done.returncode == 0 else f"exit status {done.returncode}")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    for other in UNITS:  # an automount unit needs its mount unit
        with_program(other, tmp_path)
    assert verify(with_program(path, tmp_path)) == ""


@pytest.mark.parametrize("line", ["NoNewPriviliges=yes", "SystemCallFilter=@system-services", "ExecStop=/no/such/program"])
def test_that_test_can_fail(line: str, tmp_path: Path) -> None:
    copy = with_program(SERVICE, tmp_path)
    copy.write_text(copy.read_text(encoding="utf-8").replace("[Install]", f"{line}\n\n[Install]"), encoding="utf-8")
    assert verify(copy) != ""


def test_exposure_is_not_above_the_threshold() -> None:
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager", SERVICE)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_what_is_left_of_the_exposure_is_what_a_mount_needs() -> None:
    """Each setting that systemd-analyze finds wanting is one that would hide the mount, or without which nothing is mounted."""
    done = analyze("security", "--offline=yes", "--json=short", "--no-pager", SERVICE)
    wanting = {row["json_field"] for row in json.loads(done.stdout) if row["set"] is False}
    hiding = {maker.setting for maker in MAKERS} | {"PrivateUsers"}
    needed = {
        "UserOrDynamicUser",  # root mounts
        "CapabilityBoundingSet_CAP_SYS_ADMIN",  # mount(2)
        "CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER",  # images that belong to others: CAP_DAC_READ_SEARCH
        "SystemCallFilter_mount",
        "DeviceAllow",  # /dev/fuse
        "RestrictAddressFamilies_AF_UNIX",  # sd_notify
        "RootDirectoryOrRootImage",
    }
    assert wanting - needed <= hiding


def test_nothing_hides_the_mount_in_a_namespace() -> None:
    found = {name for name, _ in settings(SERVICE)}
    assert not found & {maker.setting for maker in MAKERS}
    assert not found & {*COMPANIONS, *OTHERS}


def test_the_comment_names_what_hides_it() -> None:
    """So that whoever tightens the unit by hand reads it."""
    text = SERVICE.read_text(encoding="utf-8")
    missing = {maker.setting for maker in MAKERS if not re.search(rf"\b{maker.setting}=", text)}
    assert missing <= {"IPCNamespacePath", "NetworkNamespacePath", "BindReadOnlyPaths", "BindLogSockets", "ExtensionDirectories"}


def test_every_hardening_setting_is_explained() -> None:
    text = (ROOT / "docs" / "systemd.md").read_text(encoding="utf-8")
    for name, _ in settings(SERVICE):
        assert re.search(rf"`{name}\b", text), f"{name} is not in docs/systemd.md"


def test_only_success_is_success() -> None:
    found = dict(settings(SERVICE))
    assert found["Type"] == "notify"
    assert found["Restart"] == "no"
    assert "SuccessExitStatus" not in found
    assert "ExecStop" not in found  # SIGTERM to the daemon does it


def test_commands_are_found_in_any_installation() -> None:
    """By bare name or in /bin; the capture file is the instance's."""
    start, post = words("ExecStart", Path("/x.toml")), words("ExecStopPost", Path("/x.toml"))
    assert start[0] == "vmcorefs"
    assert "--foreground" in start and "--replace-stale" in start
    assert post[0] == "/bin/sh"
    for name in ("ExecStart", "ExecStopPost"):
        assert value(SERVICE, name).count("/etc/vmcorefs/%i.toml") == 1


@pytest.mark.parametrize("path", [path for path in UNITS if path.suffix in {".mount", ".automount"}], ids=lambda path: path.name)
def test_example_units_are_named_after_their_mount_point(path: Path) -> None:
    where = value(path, "Where")
    if shutil.which("systemd-escape") is None:
        skip_or_fail("systemd-escape is not installed")
    done = subprocess.run(["systemd-escape", "--path", f"--suffix={path.suffix[1:]}", where], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == path.name


def test_man_pages_that_units_name_are_there() -> None:
    for path in UNITS:
        for name, section in re.findall(r"man:([\w.]+)\((\d)\)", path.read_text(encoding="utf-8")):
            assert (ROOT / "man" / f"{name}.{section}").exists(), f"{path.name}: {name}({section})"


@pytest.mark.parametrize(("result", "stays"), [("success", False), ("exit-code", True), ("signal", True), ("timeout", True),
                                               ("oom-kill", True), ("watchdog", True), ("", True)])
def test_stop_post_clears_after_success_only(result: str, stays: bool, tmp_path: Path) -> None:
    """The line itself, on a dead mount."""
    need_root()
    need_mounts()
    built = Machine().build(tmp_path)
    where = tmp_path / "mnt with a space; $HOME"
    where.mkdir()
    capture = tmp_path / "db-7'.toml"
    capture.write_text(f'image = "{built.image}"\n[mount]\nmountpoint = "{where}"\n', encoding="utf-8")
    environment = {"PATH": f"{program().parent}:/usr/bin:/bin:/usr/sbin:/sbin", "SERVICE_RESULT": result}

    def stop_post() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command("ExecStopPost", capture), env=environment, capture_output=True, text=True, check=False, timeout=60)

    try:
        assert run("mount", "--capture", capture).returncode == 0
        subprocess.run(["/bin/kill", "-9", *map(str, _daemons(where))], check=True)
        done = stop_post()
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
        assert (row_of(where) is not None) == stays
        if not stays:  # nothing mounted is no error
            done = stop_post()
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        clear(where)


def _daemons(where: Path) -> list[int]:
    done = run("list", "--json")
    return [entry["pid"] for entry in json.loads(done.stdout) if entry["mountpoint"] == str(where)]
