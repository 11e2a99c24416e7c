"""vmcorefs drgn: -e, a script, stdin and the shell; words before and behind IMAGE; what goes wrong."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.captures import sparse
from tests.conftest import Mounting
from tests.readers.gold import Gold
from vmcorefs.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BANNER = "print(prog.read(0x390a88, 25, True))"
PRINTED = "b'Linux version 6.1.192-gol'\n"
NO_VMLINUX = "vmcorefs: warning: no vmlinux with debug information of this kernel"

Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """process("IMAGE", "-e", ...): `vmcorefs drgn` as a process of its own, in an empty directory."""

    def call(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DEBUGINFOD_URLS": "http://127.0.0.1:9/", "HOME": str(tmp_path)}
        return subprocess.run([sys.executable, "-m", "vmcorefs", "drgn", *map(str, arguments)], input=stdin, text=True,
                              capture_output=True, check=False, timeout=60, cwd=tmp_path, env=environment)

    return call


@pytest.mark.usefixtures("_drgn")
class TestRun:
    """With drgn."""

    def test_code(self, cut_down: sparse.Expanded, process: Process) -> None:
        done = process(cut_down.image, "-e", BANNER)
        assert (done.returncode, done.stdout) == (0, PRINTED)
        assert done.stderr.startswith(NO_VMLINUX)
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize("before", [True, False])
    def test_options_may_stand_on_either_side_of_the_image(self, cut_down: sparse.Expanded, process: Process, before: bool) -> None:
        options = ["--mode", "plain", "-o", "memory-range=0-1M", "--log-level", "error"]
        code = ["-e", "import sys; print(sys.argv, prog.read(0x10, 1, True)); prog.read(1 << 20, 1, True)"]
        done = process(*(options if before else ()), cut_down.image, *(() if before else options), *code, "a", "--mode", "b")
        assert done.returncode == 1
        assert done.stdout.startswith("['-e', 'a', '--mode', 'b'] b'")
        assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"  # no warning is said
        assert done.stderr.splitlines()[-1].endswith("FaultError: could not find physical memory segment: 0x100000")

    @pytest.mark.parametrize("separator", [[], ["--"]])
    def test_script(self, cut_down: sparse.Expanded, process: Process, tmp_path: Path, separator: list[str]) -> None:
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts" / "beside.py").write_text("NUMBER = 42\n")
        script = tmp_path / "scripts" / "script.py"
        script.write_text("import json, sys\nfrom beside import NUMBER\nimport drgn\n"
                          "assert drgn.get_default_prog() is prog and __name__ == '__main__'\n"
                          "print(json.dumps([sys.argv[1:], NUMBER, prog['UTS_RELEASE'].string_().decode()]))\n"
                          "sys.exit(5)\n")
        done = process(cut_down.image, *separator, script, "-e", "--help", "x")
        assert done.returncode == 5
        assert json.loads(done.stdout) == [["-e", "--help", "x"], 42, "6.1.192-gold"]

    def test_stdin(self, cut_down: sparse.Expanded, process: Process) -> None:
        done = process(cut_down.image, stdin=BANNER)
        assert (done.returncode, done.stdout) == (0, PRINTED)

    def test_an_error_in_the_code_is_a_traceback_of_that_code_only(self, cut_down: sparse.Expanded, process: Process,
                                                                   tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text("def f():\n    return 1 / 0\nf()\n")
        for words in ([script], ["-e", script.read_text()]):
            done = process(cut_down.image, *words)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
            assert "vmcorefs/cli" not in done.stderr
        assert process(cut_down.image, "-e", "this is no Python").stderr.splitlines()[-1].startswith("SyntaxError: ")

    def test_in_this_process_nothing_is_left_behind(self, cut_down: sparse.Expanded, capsys: pytest.CaptureFixture[str]) -> None:
        import drgn

        argv, path = sys.argv, sys.path[:]
        assert main(["drgn", str(cut_down.image), "-e", BANNER]) == 0
        assert capsys.readouterr().out == PRINTED
        assert (sys.argv, sys.path) == (argv, path)
        with pytest.raises(drgn.NoDefaultProgramError):
            drgn.get_default_prog()

    def test_a_directory_a_capture_file_and_a_mount(self, tmp_path: Path, process: Process, mounted: Mounting) -> None:
        expanded = sparse.expand("k61-zfcpdump", tmp_path / "capture")
        capture = tmp_path / "elsewhere.toml"
        capture.write_text('image = "capture/oldmem.img"\nhsa = "capture/hsa.img"\n')
        where = mounted(expanded.image, "--hsa", str(expanded.hsa)).where
        answers = [process(*words, "-e", "print(prog['UTS_RELEASE'], prog.read(0x390a88, 9, True))")
                   for words in ([expanded.image.parent], [capture], ["--capture", capture], [where])]
        assert {answer.returncode for answer in answers} == {0}
        assert len({answer.stdout for answer in answers}) == 1
        assert '"6.1.192-gold"' in answers[0].stdout

    def test_shell(self, cut_down: sparse.Expanded, tmp_path: Path) -> None:
        """On a terminal; it says what is served."""
        ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
        with subprocess.Popen([sys.executable, "-m", "vmcorefs", "drgn", cut_down.image], stdin=theirs, stdout=theirs,
                              stderr=theirs, env=environment | {"TERM": "dumb"}, start_new_session=True) as shell:
            os.close(theirs)
            os.write(ours, f"{BANNER}\nprog['UTS_RELEASE']\nexit()\n".encode())
            said = b""
            while True:
                try:
                    said += os.read(ours, 65536)
                except OSError:  # EIO: the terminal's other end is closed
                    break
            assert shell.wait(timeout=60) == 0
        os.close(ours)
        text = said.decode().replace("\r\n", "\n")
        assert "kdump mode: served is the crashed" in text
        assert "from drgn.helpers.linux import *" in text
        assert PRINTED in text
        assert '(const char [13])"6.1.192-gold"' in text
        assert "Traceback" not in text

    @pytest.mark.parametrize("gold", ["k61-smp4-offline", "k612-smp2"], indirect=True)
    def test_with_vmlinux(self, gold: Gold, process: Process) -> None:
        code = "print(prog['linux_banner'].string_().decode()); print(stack_trace(2))"
        done = process(gold.image, "--vmlinux", gold.vmlinux, "-e", code)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(gold.banner.decode())
        assert "kthreadd" in done.stdout


@pytest.mark.usefixtures("_drgn")
@pytest.mark.parametrize(("words", "message"), [
    (["IMAGE", "--vmlinx", "f"], "unknown option --vmlinx (did you mean --vmlinux?); see vmcorefs drgn --help"),
    (["--vmlinx=f", "IMAGE"], "unknown option --vmlinx (did you mean --vmlinux?)"),
    (["IMAGE", "-e"], "argument -e: expected one argument"),
    (["IMAGE", "nothing.py"], "nothing.py: no such script"),
    (["IMAGE", "--vmlinux", "nothing", "-e", "1"], "nothing: cannot be opened: No such file or directory"),
    (["IMAGE", "--mode", "plan", "-e", "1"], "--mode: "),
    (["nowhere.img", "-e", "1"], "nowhere.img: "),
    ([], "the following arguments are required: IMAGE|MOUNTPOINT; see"),
])
def test_refusals(cut_down: sparse.Expanded, process: Process, words: list[str], message: str) -> None:
    done = process(*(str(cut_down.image) if word == "IMAGE" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("vmcorefs: error: ")
    assert message in done.stderr


def test_help_behind_the_image_too(process: Process) -> None:
    done = process("--help")
    assert done.returncode == 0
    assert "--vmlinux FILE" in done.stdout
    assert process("oldmem.img", "--help").stdout == process("oldmem.img", "--mode", "plain", "-h").stdout == done.stdout


def test_without_drgn(cut_down: sparse.Expanded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "drgn", None)
    assert main(["drgn", str(cut_down.image), "-e", BANNER]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("vmcorefs: error: drgn is not installed; install it with pip install 'drgn>=0.0.31', or vmcorefs itself as "
                        "vmcorefs[drgn]\n")
