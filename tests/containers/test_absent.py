"""What a dump does not have is an error at its place that says why: never saved, missing, or broken; all else is right."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Machine
from tests.builders.containers import elf
from tests.cli.conftest import command, environment
from tests.containers.absent import HOLED, SIZE, Case, case, machine
from tests.containers.wrapping import EVERY, MIB, PAGE, of_image
from tests.mounts.bad_bytes import try_pread
from tests.mounts.mounting import in_foreground, mounted, wait_until
from vmcorefs.cli.main import main
from vmcorefs.cli.say import introduce
from vmcorefs.dump import Dump
from vmcorefs.errors import OldmemReadError
from vmcorefs.output.copy import CopyInterruptedError, copy_to_file

WORDS = {"filtered": "never saved", "missing": "missing", "broken": "broken"}


@pytest.fixture(scope="session")
def machine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(params=HOLED)
def holed(request: pytest.FixtureRequest, machine_folder: Path, tmp_path: Path) -> Case:
    return case(str(request.param), tmp_path, machine_folder)


def opened(given: Case, **options: str) -> Dump:
    return vmcorefs.open(given.path, **given.options, **options)


def read(dump: Dump, size: int, offset: int) -> tuple[bytes, OldmemReadError | None]:
    """The good bytes, and the error."""
    buffer = bytearray(size)
    try:
        dump.vmcore.preadinto(buffer, offset)
    except OldmemReadError as error:
        return bytes(buffer[:error.good]), error
    return bytes(buffer), None


def test_python(holed: Case) -> None:
    with opened(holed) as dump:
        begin = dump.vmcore.size - SIZE
        assert dump.vmcore.header == holed.built.model.header
        kinds = set()
        for address in holed.holed.pages:
            good, error = read(dump, PAGE, begin + address)
            expected, kind = holed.expected(begin + address, PAGE)
            assert (good, error and error.kind) == (expected, kind), hex(address)
            assert error is None or error.address == address + len(good)
            kinds.add(kind)
        assert kinds == {None, *(kind for _, _, kind in holed.holed.absent)}
        good, error = read(dump, SIZE, begin)
        assert error is not None
        assert (good, error.kind) == holed.expected(begin, SIZE)


def test_a_dump_that_is_not_whole_warns_and_names_the_first_address(holed: Case) -> None:
    with opened(holed) as dump:
        texts = [problem.text for problem in dump.problems if problem.code == "incomplete"]
        assert [problem.code for problem in dump.problems] == ["incomplete"] * len(texts)
        assert bool(texts) is holed.holed.warns
        if texts and "flattened" not in dump.image.container.detail:
            assert any(f"{address:#x}" in texts[0] for address in (holed.holed.absent[0][0],)), texts
        info = dump.info()
        assert (info.container is not None and info.container.incomplete is not None) is holed.holed.warns


def test_what_was_left_out_on_purpose_is_said_before_a_reader_meets_it(holed: Case, caplog: pytest.LogCaptureFixture) -> None:
    kinds = {kind for _, _, kind in holed.holed.absent}
    with opened(holed) as dump, caplog.at_level("WARNING", "vmcorefs"):
        introduce(dump)
        words = [record.message for record in caplog.records if "left out on purpose" in record.message]
        assert (dump.left_out is not None) is ("filtered" in kinds) is bool(words)
        assert all(words_.endswith("there, reads fail; --missing zeros is for tools that give up then") for words_ in words)
    with opened(holed, missing="zeros") as dump:
        assert dump.left_out is None or dump.left_out.endswith("reads give zeros (--missing zeros)")


def test_missing_zeros(holed: Case) -> None:
    """Zeros for what was never saved or is cut off; what is broken stays an error."""
    with opened(holed, missing="zeros") as dump:
        begin = dump.vmcore.size - SIZE
        for address in holed.holed.pages:
            good, error = read(dump, PAGE, begin + address)
            expected, kind = holed.expected(begin + address, PAGE)
            if kind != "broken":
                there = address + len(expected)
                gone = min(end for start, end, _ in holed.holed.absent if there < end) if kind else there
                gone = min(gone, address + PAGE)
                expected += bytes(gone - there) + holed.built.model.read(begin + gone, address + PAGE - gone)
                kind = None
            assert (good, error and error.kind) == (expected, kind), hex(address)


def test_pages_left_out_at_level_1_are_zeros(machine_folder: Path, tmp_path: Path) -> None:
    """makedumpfile -d 1 leaves out zero pages alone, so they are known; at any other level nothing is."""
    content = of_image(machine(machine_folder))
    content = replace(content, memory=content.memory[:0x200000] + bytes(0x10000) + content.memory[0x210000:])
    with vmcorefs.open(EVERY["kdump zlib"](content, tmp_path)) as dump:
        assert dump.oldmem.read(0x1FF000, 0x12000) == content.memory[0x1FF000:0x211000]
    for level in (0, 1, 2, 3, 16, 17, 31):
        data = bytearray((tmp_path / "dump").read_bytes())
        data[PAGE + 8:PAGE + 12] = level.to_bytes(4, "big")
        (tmp_path / "dump").write_bytes(data)
        with vmcorefs.open(tmp_path / "dump") as dump:
            if level == 1:
                assert dump.oldmem.read(0x200000, 0x10000) == bytes(0x10000)
            else:
                with pytest.raises(OldmemReadError) as caught:
                    dump.oldmem.read(0x1FF000, 0x12000)
                assert (caught.value.kind, caught.value.address, caught.value.good) == ("filtered", 0x200000, 0x1000)


@pytest.mark.parametrize("way", ["missing", "bad map"])
def test_a_copy_with_zeros_is_not_continued_as_one_without(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark of what was copied with the option is no proof without it: what is not there is an error all the same."""
    monkeypatch.setattr("vmcorefs.output.part._MARK_SECONDS", 0)
    end, gap = 6 * MIB, (2 * MIB, 2 * MIB + 0x20000)
    content = of_image(Machine(mode="plain", memory=((0, end),)).build(tmp_path))
    path, target, ddrescue = tmp_path / "dump", tmp_path / "copy", tmp_path / "map"
    first, then = {"missing": "zeros"}, {}
    if way == "missing":
        path.write_bytes(elf.core([elf.Load(0, content.memory[:gap[0]], gap[1]), elf.Load(gap[1], content.memory[gap[1]:])], content.notes))
    else:
        path.write_bytes(content.memory)
        ddrescue.write_text(f"0 + 1\n0 {gap[0]} +\n{gap[0]} {gap[1] - gap[0]} -\n{gap[1]} {end - gap[1]} +\n")
        first, then = {}, {"bad_map": str(ddrescue)}

    def stop(done: int, size: int) -> None:
        if done > 5 * MIB:
            raise KeyboardInterrupt

    with vmcorefs.open(path, **first) as dump, pytest.raises(CopyInterruptedError):
        copy_to_file(dump.vmcore, str(target), progress=stop)
    assert target.with_name("copy.part").stat().st_size >= 5 * MIB
    with vmcorefs.open(path, **then) as dump, pytest.raises(OldmemReadError) as caught:
        copy_to_file(dump.vmcore, str(target))
    assert caught.value.address == gap[0]
    assert not target.exists()


# -- the mount -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kdump, filtered", "elf, cut off", "s390_ext, damaged entry", "raw, with ddrescue's map"])
def test_mount(name: str, backend: str, machine_folder: Path, tmp_path: Path) -> None:
    """EIO where Python has its error, the good bytes before it, and right neighbours; the mount lives on."""
    given = case(name, tmp_path, machine_folder)
    with mounted(given.path, tmp_path / "mnt", *given.words, backend=backend) as mount:
        assert ("warning" in mount.said) is (given.holed.warns or any(kind == "filtered" for _, _, kind in given.holed.absent))
        descriptor = os.open(mount.vmcore, os.O_RDONLY)
        try:
            begin = os.fstat(descriptor).st_size - SIZE
            for start, end, _ in given.holed.absent:
                for offset, size in ((start, PAGE), (start - PAGE, PAGE), (start - 100, 200), (end, PAGE), (end - 1, 1), (end - 1, 100),
                                     (start // PAGE * PAGE - 0x40000, 0x80000)):
                    size = min(size, SIZE - offset)  # noqa: PLW2901
                    if size > 0:
                        good, _ = given.expected(begin + offset, size)
                        assert try_pread(descriptor, size, begin + offset) == (good or errno.EIO), (hex(offset), size)
        finally:
            os.close(descriptor)
        assert mount.lives()


@pytest.mark.parametrize("name", ["elf, filtered", "kdump, cut off"])
def test_mount_with_zeros_can_be_copied(name: str, machine_folder: Path, tmp_path: Path) -> None:
    given = case(name, tmp_path, machine_folder)
    with mounted(given.path, tmp_path / "mnt", "--missing", "zeros") as mount:
        subprocess.run(["cp", mount.vmcore, tmp_path / "copy"], check=True, timeout=60)
        refused = subprocess.run(["cp", mount.where / "nothing", tmp_path / "copy2"], capture_output=True, check=False, timeout=60)
        assert refused.returncode == 1
    found, wanted = (tmp_path / "copy").read_bytes(), bytearray(given.built.model.read(0, given.built.model.size))
    begin = len(wanted) - SIZE
    for start, end, _ in given.holed.absent:
        wanted[begin + start:begin + end] = bytes(end - start)
    assert found == bytes(wanted)
    with mounted(given.path, tmp_path / "mnt") as mount:
        done = subprocess.run(["cp", mount.vmcore, tmp_path / "copy3"], capture_output=True, check=False, timeout=60)
        assert done.returncode == 1
        assert b"Input/output error" in done.stderr


@pytest.mark.parametrize("name", ["kdump, filtered", "s390, cut off", "kdump, damaged pages"])
def test_the_log_tells_the_kinds_apart(name: str, machine_folder: Path, tmp_path: Path) -> None:
    given = case(name, tmp_path, machine_folder)
    start, _, kind = given.holed.absent[0]
    with in_foreground(given.path, tmp_path / "mnt", *given.words) as process:
        vmcore = tmp_path / "mnt" / "vmcore"
        begin = vmcore.stat().st_size - SIZE
        descriptor = os.open(vmcore, os.O_RDONLY)
        assert try_pread(descriptor, PAGE, begin + start) == (given.expected(begin + start, PAGE)[0] or errno.EIO)
        assert try_pread(descriptor, 1, begin + start + (start % PAGE > 0) * PAGE) == errno.EIO
        os.close(descriptor)
        time.sleep(0.1)
        process.terminate()
        said = process.communicate(timeout=20)[1].decode()
    lines = [line for line in said.splitlines() if "vmcore at" in line]
    assert lines[0].startswith(f"vmcorefs: error: vmcore at {begin + start:#x}: "), said
    assert f": {WORDS[kind]}: {given.path}: absolute address {start:#x}: " in lines[0]


def test_check_tells_the_kinds_apart(holed: Case, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["check", *holed.words, str(holed.path)])
    said = capsys.readouterr().out
    rows = {line.split()[1]: line.split()[0] for line in said.splitlines() if line and not line.startswith(" ") and len(line) > 28}
    kinds = {kind for _, _, kind in holed.holed.absent}
    assert (rows["missing"] == "FAILED") is holed.holed.warns, said
    left_out = re.search(r"^ok     filtered +left out on purpose( \(dump level 31\))?: ", said, re.MULTILINE)
    assert (left_out is not None) is ("filtered" in kinds)
    if holed.options:
        assert rows["broken"] == "FAILED"
    assert status == (1 if "FAILED" in rows.values() else 0)


# -- extras ----------------------------------------------------------------------------------------------------------------

EXTRAS = {"kdump zstd": ("zstandard", "zstd"), "zstd of raw": ("zstandard", "zstd"), "kdump snappy": ("cramjam", "snappy"),
          "AVML": ("cramjam", "snappy"), "kdump lzo": ("lzallright", "lzo"), "flattened kdump": ("lzallright", "lzo")}


@pytest.fixture
def without_extras(tmp_path: Path) -> dict[str, str]:
    """An environment in which none of the three libraries can be imported."""
    folder = tmp_path / "none"
    folder.mkdir()
    for module, _ in EXTRAS.values():
        (folder / f"{module}.py").write_text(f"raise ImportError('no {module} here')\n")
    return environment() | {"PYTHONPATH": f"{folder}:{environment()['PYTHONPATH']}"}


@pytest.mark.parametrize("name", EXTRAS)
def test_the_library_that_is_missing_is_named_with_its_extra(name: str, machine_folder: Path, without_extras: dict[str, str],
                                                             tmp_path: Path) -> None:
    path = EVERY[name](of_image(machine(machine_folder)), tmp_path)
    (tmp_path / "mnt").mkdir()
    done = subprocess.run(command("mount", path, tmp_path / "mnt"), capture_output=True, text=True, check=False, timeout=60,
                          env=without_extras)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    module, extra = EXTRAS[name]
    assert line.startswith(f"vmcorefs: error: {path}: it is compressed with ")
    assert f"the Python module {module} is needed" in line
    assert line.endswith(f"pip install 'vmcorefs[{extra}]', or, where vmcorefs was not installed by pip: pip install {module}")


@pytest.mark.parametrize("name", ["kdump zlib", "kdump plain", "s390_ext zlib", "bgzip of raw", "xz of raw", "elf, QEMU"])
def test_what_the_standard_library_unpacks_needs_no_extra(name: str, machine_folder: Path, without_extras: dict[str, str],
                                                          tmp_path: Path) -> None:
    built = machine(machine_folder)
    path = EVERY[name](of_image(built), tmp_path)
    done = subprocess.run(command("copy", path, "-"), capture_output=True, check=True, timeout=60, env=without_extras)
    assert done.stdout == built.model.read(0, built.model.size)


def test_a_file_that_shrinks_while_it_is_mounted(machine_folder: Path, tmp_path: Path) -> None:
    """Cut off after the mount: missing from there on, as if it had always been so; never the end of vmcore."""
    built = machine(machine_folder)
    content = of_image(built)
    path = tmp_path / "core"
    path.write_bytes(elf.core(content.loads, content.notes))
    with mounted(path, tmp_path / "mnt") as mount:
        descriptor = os.open(mount.vmcore, os.O_RDONLY)
        begin = os.fstat(descriptor).st_size - SIZE
        os.truncate(path, path.stat().st_size - 0x100000)
        try:
            assert try_pread(descriptor, PAGE, begin + SIZE - 0x101000) == built.model.read(begin + SIZE - 0x101000, PAGE)
            assert try_pread(descriptor, PAGE, begin + SIZE - 0x100000) == errno.EIO
            wait_until(mount.lives, "the mount")
        finally:
            os.close(descriptor)
