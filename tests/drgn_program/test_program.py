"""vmcorefs.drgn.program itself, on a cut-down capture: bytes that cannot be read, descriptors, and a drgn that is not there."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import vmcorefs.drgn
from tests.captures import sparse
from vmcorefs import ImageError, SystemLacksError, VmcorefsError

ROOT = Path(__file__).resolve().parents[2]
BANNER = 0x390a88
CUT = 0x9600123  # in the image, which is swapped: absolute address 0x3600123
BAD = 0x3600123


def links() -> list[str]:
    """What the open descriptors are."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        if os.path.lexists(path):
            found.append(os.readlink(path))
    return sorted(found)


@pytest.fixture
def cut(cut_down: sparse.Expanded, tmp_path: Path) -> Path:
    """Its last bytes are lost after it was opened: the file is cut by the test."""
    image = tmp_path / "cut.img"
    subprocess.run(["cp", "--sparse=always", cut_down.image, image], check=True)
    return image


def fault_address(prog: Any, address: int, size: int, *, physical: bool) -> int | None:
    """Where drgn says that it failed; None if it did not."""
    import drgn

    try:
        assert len(prog.read(address, size, physical)) == size
    except drgn.FaultError as error:
        return int(error.address)
    return None


@pytest.mark.usefixtures("_drgn")
class TestProgram:
    """With drgn."""

    def test_it_is_a_kernel(self, cut_down: sparse.Expanded) -> None:
        import drgn

        prog = vmcorefs.drgn.program(cut_down.image)
        assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
        assert prog["UTS_RELEASE"].string_() == b"6.1.192-gold"
        for physical in (True, False):
            assert prog.read(BANNER, 25, physical) == b"Linux version 6.1.192-gol"

    @pytest.mark.parametrize("physical", [True, False])
    def test_a_bad_byte_is_a_fault_there_and_nowhere_else(self, cut: Path, physical: bool) -> None:
        prog = vmcorefs.drgn.program(cut)
        assert fault_address(prog, BAD - 64, 128, physical=physical) is None
        os.truncate(cut, CUT)
        for start, size in ((BAD, 1), (BAD - 1, 2), (BAD - 64, 128), (BAD - 0x200000, 0x200001), (BAD - 64, 65)):
            assert fault_address(prog, start, size, physical=physical) == BAD
        for start in (BAD + 1, BAD + 0x1000, 0x3ffffff):  # the end of the swapped area, whose bytes are at the image's end
            assert fault_address(prog, start, 1, physical=physical) == start
        for start, size in ((BAD - 64, 64), (BAD - 1, 1), (0x4000000, 64), (0, 4096)):
            assert fault_address(prog, start, size, physical=physical) is None

    def test_the_fault_says_which_byte_of_which_file(self, cut: Path) -> None:
        import drgn

        prog = vmcorefs.drgn.program(cut)
        os.truncate(cut, CUT)
        message = rf"cut\.img: absolute address {BAD:#x}: cannot read at offset {CUT:#x}: .*: {BAD:#x}$"
        with pytest.raises(drgn.FaultError, match=message):
            prog.read(BAD - 8, 16, True)

    def test_what_is_no_memory_is_a_fault(self, cut_down: sparse.Expanded) -> None:
        prog = vmcorefs.drgn.program(cut_down.image, memory_range=["0-0x2000000", "0x3000000-0x6000000"])
        for start in (0x2000000, 0x2fff000, 0x6000000):
            assert fault_address(prog, start, 8, physical=True) == start
        assert fault_address(prog, 0x1ffffff, 1, physical=True) is None
        assert fault_address(prog, 0x3000000, 1, physical=True) is None

    def test_nothing_is_read_of_the_memory_file_but_the_header(self, cut_down: sparse.Expanded, tmp_path: Path) -> None:
        """Where a PT_LOAD has no segment of ours there are no zeros, either."""
        import drgn

        with vmcorefs.open(cut_down.image) as dump, vmcorefs.drgn._memory_file(dump.vmcore.header) as path:
            assert os.stat(path).st_size == len(dump.vmcore.header)
            bare = drgn.Program()
            bare.set_core_dump(path)
            assert fault_address(bare, 0, 8, physical=True) == 0

    def test_descriptors_live_as_long_as_the_program(self, cut_down: sparse.Expanded) -> None:
        gc.collect()
        before = links()
        prog = vmcorefs.drgn.program(cut_down.image)
        release = prog["UTS_RELEASE"]
        assert len([link for link in links() if link == str(cut_down.image)]) == 1
        del prog
        gc.collect()
        assert release.string_() == b"6.1.192-gold"  # an object keeps its program
        del release
        gc.collect()
        assert links() == before

    def test_many_programs_one_after_another(self, cut_down: sparse.Expanded) -> None:
        before = links()
        for _ in range(20):
            assert vmcorefs.drgn.program(cut_down.image).read(BANNER, 5, True) == b"Linux"
        gc.collect()
        assert links() == before

    @pytest.mark.parametrize(("options", "message"), [
        ({"vmlinux": "nowhere/vmlinux"}, r"^nowhere/vmlinux: cannot be opened: No such file or directory$"),
        ({"vmlinux": ["/"]}, r"^/: not the vmlinux with debug information of the crashed kernel 6\.1\.192-gold \(build ID "),
        ({"mod": "plain"}, r"did you mean mode\?"),
        ({"mode": "zfcpdump"}, r"--hsa"),
    ])
    def test_a_refusal_leaves_nothing_open(self, cut_down: sparse.Expanded, options: dict[str, Any], message: str) -> None:
        before = links()
        with pytest.raises(VmcorefsError, match=message):
            vmcorefs.drgn.program(cut_down.image, **options)
        gc.collect()
        assert links() == before

    def test_without_vmcoreinfo_it_is_refused(self, cut_down: sparse.Expanded) -> None:
        with vmcorefs.open(cut_down.image) as dump:
            dump.metadata.vmcoreinfo = None
            with pytest.raises(ImageError, match="drgn needs VMCOREINFO"):
                vmcorefs.drgn.attach(dump)
            assert dump.oldmem.read(BANNER, 5) == b"Linux"  # still the caller's

    def test_a_vmcoreinfo_that_drgn_cannot_use_is_refused(self, cut_down: sparse.Expanded) -> None:
        with vmcorefs.open(cut_down.image) as dump:
            dump.vmcore.header = dump.vmcore.header.replace(b"PAGESIZE=4096", b"PAGESIZE=abcd")
            with pytest.raises(ImageError, match=r"oldmem\.img: drgn cannot use the header of vmcore: .*VMCOREINFO"):
                vmcorefs.drgn.attach(dump)

    def test_attach_takes_the_dump_over(self, cut_down: sparse.Expanded) -> None:
        dump = vmcorefs.open(cut_down.image)
        prog = vmcorefs.drgn.attach(dump)
        assert not dump.vmcore.closed
        del prog
        gc.collect()
        assert dump.vmcore.closed

    def test_a_directory_with_an_hsa_image(self, tmp_path: Path) -> None:
        expanded = sparse.expand("k61-zfcpdump", tmp_path)
        assert expanded.hsa is not None
        assert vmcorefs.drgn.program(tmp_path)["UTS_RELEASE"].string_() == b"6.1.192-gold"


class TestWithoutDrgn:
    """drgn is optional."""

    def test_missing(self, cut_down: sparse.Expanded, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "drgn", None)
        message = r"^drgn is not installed; install it with pip install 'drgn>=0\.0\.31', or"
        with pytest.raises(SystemLacksError, match=message) as raised:
            vmcorefs.drgn.program(cut_down.image)
        assert raised.value.exit_status == 3

    def test_broken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "drgn.py").write_text('raise ImportError("libelf.so.1: no such file")\n')
        monkeypatch.delitem(sys.modules, "drgn", raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(SystemLacksError, match=r"^drgn cannot be imported: libelf\.so\.1: no such file; install it with"):
            vmcorefs.drgn.program("oldmem.img")

    @pytest.mark.parametrize(("version", "good"), [
        ("0.0.22", False), ("0.0.30", False), ("0.0.30+12.gabc", False), ("0.0.31", True), ("0.0.31+1.gdef", True), ("0.1", True),
        ("0.3.0", True), ("1.0.0", True), ("unknown", True)])
    def test_too_old(self, version: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = types.ModuleType("drgn")
        fake.__version__ = version  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "drgn", fake)
        if good:
            assert vmcorefs.drgn.import_drgn() is fake
        else:
            with pytest.raises(SystemLacksError) as raised:
                vmcorefs.drgn.import_drgn()
            assert str(raised.value).startswith(f"drgn {version} is too old; install it with pip install 'drgn>=0.0.31'")

    def test_vmcorefs_does_not_import_it(self) -> None:
        code = ("import sys, vmcorefs, vmcorefs.drgn, vmcorefs.cli.main; vmcorefs.cli.main.make_parser(); "
                "print('drgn' in sys.modules)")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout == "False\n"

    def test_it_is_no_dependency_but_an_extra(self) -> None:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        oldest = ".".join(map(str, vmcorefs.drgn.OLDEST))
        assert project["optional-dependencies"]["drgn"] == [f"drgn>={oldest}"]
        assert f"drgn>={oldest}" in project["optional-dependencies"]["test"]
        assert not [line for line in project["dependencies"] if "drgn" in line]
