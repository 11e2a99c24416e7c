"""--cpu-state: each form of file gives the notes that the kernel would have made of these registers; what is no CPU is refused."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vmcorefs
from tests.builders import Built, Cpu, CpuState, Machine, Registers, cpus
from tests.capture.given import (
    Json,
    as_in_text,
    as_json,
    info_registers,
    lowcore_page,
    model_with,
    numbers,
    states_of,
    without,
    written,
)
from tests.captures import sparse
from vmcorefs.errors import ImageError
from vmcorefs.report.files import small_files
from vmcorefs.s390.cpu_state import parse_cpu_state

# CPU addresses that are neither logical numbers nor in their order; 6.12 keeps them where they can be found
ADDRESSES = (4, 2, 7)
UNSTORED = Machine(mode="plain", release="6.12.0", cpus=tuple(Cpu(a) for a in ADDRESSES), stored_status=False, body_pages="none")


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """Nobody stored the registers of its three CPUs."""
    return UNSTORED.build(tmp_path)


@pytest.fixture
def states(built: Built) -> list[CpuState]:
    """By logical number."""
    return states_of(built)


@pytest.fixture
def by_address(states: list[CpuState]) -> list[CpuState]:
    """The order of their notes."""
    return [states[1], states[0], states[2]]


def served(built: Built, *files: Path, **options: Any) -> tuple[bytes, list[str], list[str]]:
    """(header region, codes of the problems, their texts)."""
    with vmcorefs.open(built.image, cpu_state=files, **options) as dump:
        return dump.merged.header, [p.code for p in dump.problems], [p.text for p in dump.problems]


def refusal(data: object, path: Path) -> str:
    file = written(path / "given", data)
    with pytest.raises(ImageError) as caught:
        parse_cpu_state(file.read_bytes(), "given")
    assert str(caught.value).startswith("given: ")
    assert len(str(caught.value)) < 1000
    return str(caught.value)


# -- a saved lowcore page --------------------------------------------------------------------------------------------------


def test_lowcore_pages(built: Built, states: list[CpuState], by_address: list[CpuState], tmp_path: Path) -> None:
    """Vector registers are not in them, so no CPU has any."""
    files = [written(tmp_path / f"page{n}", lowcore_page(state)) for n, state in enumerate(states)]
    header, codes, _ = served(built, *files)
    assert header == model_with(built, by_address, vector=False).header
    assert header != built.model.header
    assert codes == ["vector"]


def test_a_real_lowcore_page(tmp_path: Path) -> None:
    """CPU 2 of a real machine, cut out of its image; its own notes have the same registers."""
    capture = sparse.expand("k61-zfcpdump-smp3", tmp_path)
    with vmcorefs.open(capture.image, hsa=capture.hsa) as dump:
        areas = [cpu.save_area for cpu in dump.cpus]
        page = bytearray(dump.oldmem.read(0, 0x2000))  # absolute lowcore: firmware stored the boot CPU's status there
    (state,) = parse_cpu_state(bytes(page), "page")
    assert {name: getattr(areas[0], name) for name in state.fields} == dict(state.fields)
    assert (state.missing, state.address) == ((), None)


@pytest.mark.parametrize("size", [1, 512, 4096, 8191, 8193, 16384])
def test_other_sizes_are_no_lowcore_page(states: list[CpuState], tmp_path: Path, size: int) -> None:
    page = lowcore_page(states[0])
    assert f"{size} bytes are no lowcore page, which has 8192" in refusal((page * 2)[:size], tmp_path)


def test_a_page_in_which_nobody_stored(states: list[CpuState], tmp_path: Path) -> None:
    page = lowcore_page(replace(states[0], prefix=0))
    assert "no registers were stored in this lowcore page (its prefix field at 0x1318 is 0)" in refusal(page, tmp_path)


@pytest.mark.parametrize("page", [b"hello wo" * 1024, b"\xff" * 8192, random.Random(1).randbytes(8192)])
def test_8192_other_bytes_are_no_lowcore_page(tmp_path: Path, page: bytes) -> None:
    """The prefix of a CPU is a multiple of 8 KiB below 2 GiB."""
    assert "prefix" in refusal(page, tmp_path)


# -- JSON ------------------------------------------------------------------------------------------------------------------

Form = Callable[[list[Json]], Any]
FORMS: dict[str, Form] = {
    "a list": lambda list_: list_,
    "an object with cpus": lambda list_: {"cpus": list_, "vmcoreinfo": "X=5\n", "release": "6.12.0"},
    "with addresses": lambda list_: [cpu | {"address": a} for cpu, a in zip(list_, ADDRESSES, strict=True)],
    "numbers": lambda list_: [{key: [int(v, 16) for v in value] if isinstance(value, list) else int(value, 16)
                               for key, value in cpu.items()} for cpu in list_],
    "without 0x": lambda list_: [{key: [v[2:] for v in value] if isinstance(value, list) else value[2:]
                                  for key, value in cpu.items()} for cpu in list_],
    "lists of one": lambda list_: [{key: value if isinstance(value, list) else [value] for key, value in cpu.items()}
                                   for cpu in list_],
    "hex text": lambda list_: [{key: "".join(v[2:] for v in value) if isinstance(value, list) else value
                                for key, value in cpu.items()} for cpu in list_],
    "hex text in groups": lambda list_: [{key: " ".join(v[2:] for v in value) if isinstance(value, list) else value
                                          for key, value in cpu.items()} for cpu in list_],
    "halves of vector registers": lambda list_: [
        cpu | {"vxrs_high": numbers(b"".join(bytes.fromhex(v[2:]) for v in cpu["vxrs_high"]), 8)} for cpu in list_],
    "null": lambda list_: [cpu | {"clock_comparator": None, "address": None} for cpu in list_],
}


@pytest.mark.parametrize("form", list(FORMS))
def test_json(built: Built, states: list[CpuState], by_address: list[CpuState], tmp_path: Path, form: str) -> None:
    file = written(tmp_path / "cpus.json", FORMS[form]([as_json(state) for state in states]))
    header, codes, _ = served(built, file)
    assert header == model_with(built, by_address).header
    assert codes == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_file_each_in_any_order(built: Built, states: list[CpuState], by_address: list[CpuState], tmp_path: Path,
                                  order: tuple[int, ...]) -> None:
    files = [written(tmp_path / f"{n}.json", as_json(states[n])) for n in order]
    assert served(built, *files)[0] == model_with(built, by_address).header


def test_the_address_of_the_file_makes_the_order(tmp_path: Path) -> None:
    built = Machine(mode="plain", cpus=cpus(3), stored_status=False, with_lowcore_ptr=False).build(tmp_path)
    first, second, third = states_of(built)
    file = written(tmp_path / "a", [as_json(first, address=9), as_json(second, address=1), as_json(third, address=4)])
    assert served(built, file)[0] == model_with(built, [second, third, first]).header
    file = written(tmp_path / "b", [as_json(first), as_json(third), as_json(second, address=9)])  # the unknown ones come last
    assert served(built, file)[0] == model_with(built, [second, first, third]).header


def test_samples_form(tmp_path: Path) -> None:
    """A list under "cpus", two words of PSW, prefix with leading zeros: as other tools of this project write it."""
    state = CpuState(0x20000, Registers.from_seed("x"))
    file = written(tmp_path / "a", {"vmcoreinfo": "OSRELEASE=6.1\n", "cpus": [as_json(state)]})
    (found,) = parse_cpu_state(file.read_bytes(), "a")
    r = state.registers
    assert dict(found.fields) == {
        "psw": r.psw, "gprs": r.gprs, "acrs": r.acrs, "fprs": r.fprs, "fpc": r.fpc, "prefix": struct.pack(">I", 0x20000),
        "todpreg": r.todpreg, "timer": r.timer, "todcmp": r.todcmp, "ctrs": r.ctrs, "vxrs_low": r.vxrs_low,
        "vxrs_high": r.vxrs_high}


def test_the_registers_of_the_samples() -> None:
    samples = os.environ.get("VMCOREFS_SAMPLES")
    if samples is None:
        pytest.skip("VMCOREFS_SAMPLES is not set: no registers of the samples")
    data = (Path(samples) / "synth-registers.json").read_bytes()
    found = parse_cpu_state(data, "a")
    listed = json.loads(data)["cpus"]
    assert len(found) == len(listed) > 1
    for state, cpu in zip(found, listed, strict=True):
        assert state.fields["prefix"].hex() == cpu["prefix"].removeprefix("0x")
        for key in ("gprs", "vxrs_low", "vxrs_high"):  # the last as 32 halves
            assert state.fields[key].hex() == "".join(word.removeprefix("0x") for word in cpu[key])
        assert state.missing == ()


def test_the_clock_comparator_as_the_register_has_it(built: Built, states: list[CpuState], by_address: list[CpuState],
                                                     tmp_path: Path) -> None:
    """STORE STATUS keeps bits 0..55, behind a zero byte."""
    list_ = [without(as_json(s), "todcmp") | {"clock_comparator": "0x" + s.registers.todcmp[1:].hex() + "5a"} for s in states]
    header, codes, _ = served(built, written(tmp_path / "a", list_))
    assert header == model_with(built, by_address).header
    assert codes == []
    both = [as_json(s, clock_comparator=0) for s in states]  # todcmp is what lowcore holds: it counts
    assert served(built, written(tmp_path / "b", both))[0] == header


def test_a_cpu_without_prefix_is_found_by_its_address(built: Built, states: list[CpuState], by_address: list[CpuState],
                                                      tmp_path: Path) -> None:
    list_ = [without(as_json(state), "prefix") | {"address": a} for state, a in zip(states, ADDRESSES, strict=True)]
    header, codes, _ = served(built, written(tmp_path / "a", list_))
    assert header == model_with(built, by_address).header
    assert codes == []


@pytest.mark.parametrize("address", [None, 3])
def test_a_cpu_of_which_it_is_not_known_which_it_is(built: Built, states: list[CpuState], tmp_path: Path,
                                                    address: int | None) -> None:
    file = written(tmp_path / "a.json", without(as_json(states[0]), "prefix") | {"address": address})
    with pytest.raises(ImageError, match=r"a.json: the prefix of this CPU is not in the file and cannot be found in the image"):
        vmcorefs.open(built.image, cpu_state=[file])


def test_what_the_file_lacks_is_named_and_zero(built: Built, states: list[CpuState], tmp_path: Path) -> None:
    file = written(tmp_path / "a", without(as_json(states[0]), "timer", "acrs", "fpc"))
    header, codes, texts = served(built, file)
    registers = replace(states[0].registers, timer=bytes(8), acrs=bytes(64), fpc=bytes(4))
    assert header == model_with(built, [replace(states[0], registers=registers)]).header
    assert codes == ["cpu-state"]
    assert texts[0].endswith(f"with prefix {states[0].prefix:#x}: FPC, CPU timer, access registers")
    assert str(file) in texts[0]


def test_vector_notes_only_if_all_cpus_have_vectors(built: Built, states: list[CpuState], by_address: list[CpuState],
                                                    tmp_path: Path) -> None:
    files = [written(tmp_path / f"{n}", as_json(state, vectors=n != 1)) for n, state in enumerate(states)]
    header, codes, texts = served(built, *files)
    assert header == model_with(built, by_address, vector=False).header
    assert codes == ["vector"]
    assert "--cpu-state does not give them for all CPUs" in texts[0]
    half = written(tmp_path / "half", without(as_json(states[1]), "vxrs_low"))  # half of them are none
    assert served(built, files[0], half, files[2])[:2] == (header, ["vector"])


def test_a_cpu_with_prefix_0_has_no_notes(built: Built, states: list[CpuState], tmp_path: Path) -> None:
    offline = replace(states[1], prefix=0)
    file = written(tmp_path / "a", [as_json(states[0]), as_json(offline), as_json(offline)])
    assert served(built, file)[0] == model_with(built, [states[0]]).header


NO_CPU: dict[str, tuple[object, str]] = {
    "an object": ({}, "this JSON is not a CPU; psw and gprs must be in it"),
    "something else": ({"name": "x", "gprs": []}, "this JSON is not a CPU"),
    "a list of numbers": ([1, 2], "CPU 0: this JSON is not a CPU"),
    "an empty list": ([], "0 CPUs are in it"),
    "no CPUs": ({"cpus": []}, "0 CPUs are in it"),
    "cpus is a number": ({"cpus": 5}, "this JSON is not a CPU"),
    "cut": ('{"psw": [1,', "no JSON ("),
    "two of them": ("{}{}", "no JSON ("),
    "text of QMP without registers": ({"return": "hello"}, "no line PSW=mask"),
    "another answer of QMP": ({"return": [{"cpu-index": 0}]}, "this JSON is not a CPU"),
    "QMP's error": ({"error": {"class": "GenericError"}}, "this JSON is not a CPU"),
}


@pytest.mark.parametrize("what", list(NO_CPU))
def test_json_that_is_not_a_cpu(tmp_path: Path, what: str) -> None:
    content, words = NO_CPU[what]
    assert words in refusal(content, tmp_path)


WRONG: list[tuple[str, object, str]] = [
    ("psw", "0x1", "'0x1' is no 16 bytes in hex"), ("psw", [1], "1 values, not 2"), ("psw", [1 << 64, 0], "is no 8-byte number"),
    ("psw", None, "psw and gprs must be in it"), ("gprs", [0] * 15, "15 values, not 16"), ("gprs", [0] * 17, "17 values, not 16"),
    ("gprs", 5, "1 values, not 16"), ("gprs", {"r0": 1}, "1 values, not 16"), ("gprs", "00" * 127, "is no 128 bytes in hex"),
    ("gprs", "zz" * 128, "is no 128 bytes in hex"), ("fpc", 1 << 32, "4294967296 is no 4-byte number"),
    ("fpc", "0x100000000", "'0x100000000' is no 4-byte number"), ("fpc", -1, "-1 is no 4-byte number"),
    ("fpc", True, "True is no 4-byte number"), ("fpc", 1.0, "1.0 is no 4-byte number"), ("fpc", "0xg", "'0xg' is no 4-byte number"),
    ("fpc", "", "'' is no 4-byte number"), ("fpc", [], "0 values, not 1"), ("fpc", {}, "{} is no 4-byte number"),
    ("fpc", [[1]], "[1] is no 4-byte number"), ("timer", 1 << 64, "is no 8-byte number"), ("todcmp", "now", "'now' is no 8-byte"),
    ("todpreg", False, "False is no 4-byte number"), ("acrs", [1.5] + [0] * 15, "1.5 is no 4-byte number"),
    ("acrs", [1 << 32] + [0] * 15, "4294967296 is no 4-byte number"), ("ctrs", [None] * 16, "None is no 8-byte number"),
    ("fprs", [True] * 16, "True is no 8-byte number"), ("vxrs_low", [1 << 64] * 16, "is no 8-byte number"),
    ("vxrs_high", [1 << 128] * 16, "is no 16-byte number"), ("vxrs_high", [0] * 31, "31 values, not 16"),
    ("prefix", "here", "'here' is no 4-byte number"), ("prefix", 1 << 32, "4294967296 is no 4-byte number"),
    ("clock_comparator", 1 << 64, "is no 8-byte number"), ("clock_comparator", True, "True is no 8-byte number"),
    ("address", -1, "address -1 is no CPU address"), ("address", 65536, "address 65536 is no CPU address"),
    ("address", True, "address True is no CPU address"), ("address", 1.0, "address 1.0 is no CPU address"),
    ("address", "1", "address '1' is no CPU address"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_a_wrong_value_is_refused_by_key_and_value(tmp_path: Path, key: str, value: object, words: str) -> None:
    good = as_json(CpuState(0x20000, Registers.from_seed(1)))
    line = refusal(good | {key: value}, tmp_path)
    assert key in line
    assert words in line
    assert "given: CPU 1: " in refusal([good, good | {key: value}], tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"psw": ' + "[" * 100_000])
def test_deep_json_is_refused(tmp_path: Path, text: str) -> None:
    refusal(text, tmp_path)


def test_a_long_value_is_not_repeated_whole(tmp_path: Path) -> None:
    good = as_json(CpuState(0x20000, Registers.from_seed(1)))
    assert "psw" in refusal(good | {"psw": ["Z" * 100_000, 1]}, tmp_path)
    assert "address" in refusal(good | {"address": "Z" * 100_000}, tmp_path)


@pytest.mark.parametrize("prefix", [0x20001, 0x21000, 0x80000000, 0xFFFFE000])
def test_a_prefix_that_no_cpu_can_have(tmp_path: Path, prefix: int) -> None:
    assert f"{prefix:#x}" in refusal(as_json(CpuState(prefix, Registers.from_seed(1))), tmp_path)


# -- the small files of a mount --------------------------------------------------------------------------------------------


def small(built: Built, folder: Path) -> dict[str, Path]:
    with vmcorefs.open(built.image) as dump:
        return {path: written(folder / path.replace("/", "-"), data) for path, data in small_files(dump)}


def test_registers_json_of_a_mount(tmp_path: Path) -> None:
    """The same machine, but nobody stored its registers: given what the other's mount has, the same bytes."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    stored = replace(UNSTORED, stored_status=True).build(tmp_path / "a")
    files = small(stored, tmp_path)
    unstored = UNSTORED.build(tmp_path / "b")
    given = [files[f"cpus/{number}/registers.json"] for number in (1, 2, 3)]
    header, codes, _ = served(unstored, *given)
    assert header == model_with(unstored, [states_of(stored)[n] for n in (1, 0, 2)]).header
    assert codes == []
    pages = [files[f"cpus/{number}/lowcore.bin"] for number in (1, 2, 3)]
    assert served(unstored, *pages)[0] == model_with(unstored, [states_of(stored)[n] for n in (1, 0, 2)], vector=False).header


# -- the text of QEMU's info registers -------------------------------------------------------------------------------------

TEXT_WORDS = "FPC, TOD programmable register, CPU timer, clock comparator, access registers"


@pytest.mark.parametrize("wrap", [
    lambda text: text, lambda text: {"return": text}, lambda text: {"return": text, "id": "libvirt-5"}])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_info_registers(built: Built, states: list[CpuState], by_address: list[CpuState], tmp_path: Path,
                        wrap: Callable[[str], object], end: str) -> None:
    text = info_registers(dict(zip(ADDRESSES, states, strict=True)), end=end)
    file = written(tmp_path / "text", wrap(text))
    header, codes, texts = served(built, file)
    assert header == model_with(built, [as_in_text(state) for state in by_address]).header
    assert codes == ["cpu-state"] * 3
    assert all(text.endswith(": " + TEXT_WORDS) for text in texts)
    assert f"{file}: CPU#4: not in the file, so zero in the notes of the CPU with prefix {states[0].prefix:#x}" in texts[0]


def test_info_registers_without_vectors(built: Built, states: list[CpuState], by_address: list[CpuState], tmp_path: Path) -> None:
    file = written(tmp_path / "text", info_registers(dict(zip(ADDRESSES, states, strict=True)), vectors=False))
    header, codes, _ = served(built, file)
    assert header == model_with(built, [as_in_text(state) for state in by_address], vector=False).header
    assert codes == ["cpu-state"] * 3 + ["vector"]


def test_a_real_text_has_what_its_lines_say(tmp_path: Path) -> None:
    """A number of blanks, a second CPU, what else QEMU prints."""
    text = info_registers([CpuState(0x20000, Registers.from_seed(n)) for n in range(2)]).replace("cc 00", "cc 00\n\n")
    first, second = parse_cpu_state(text.encode(), "a")
    assert (first.address, second.address) == (0, 1)
    assert second.fields["ctrs"] == Registers.from_seed(1).ctrs
    assert first.fields["fprs"] == Registers.from_seed(0).fprs
    assert "prefix" not in first.fields


@pytest.mark.parametrize(("drop", "words"), [
    ("R12=", "CPU#1: Rnn: 12 registers, not 16 of 16 hex digits; the text is cut"),
    ("V30=", "CPU#1: Vnn: 30 registers, not 32"), ("C00=", "CPU#1: Cnn: 12 registers, not 16"),
    ("PSW=", "CPU#1: no line PSW=mask"),
])
def test_cut_text(tmp_path: Path, drop: str, words: str) -> None:
    text = info_registers([CpuState(0x20000, Registers.from_seed(n)) for n in range(2)])
    head, tail = text.split("CPU#1")
    lines = [line for line in tail.splitlines(keepends=True) if not line.startswith(drop)]
    assert words in refusal(head + "CPU#1" + "".join(lines), tmp_path)


@pytest.mark.parametrize("at", [20, 60, 200, 700, 2000])
def test_text_that_ends_anywhere_is_never_half_a_cpu(tmp_path: Path, at: int) -> None:
    text = info_registers([CpuState(0x20000, Registers.from_seed(1))])
    for end in range(at, at + 40):
        try:
            (state,) = parse_cpu_state(text[:end].encode(), "a")
        except ImageError:
            continue
        assert all(len(state.fields[name]) == size for name, size in (("psw", 16), ("gprs", 128))), end


def test_a_cpu_of_the_text_that_was_offline_is_left_out(tmp_path: Path) -> None:
    """QEMU prints all CPUs of the machine; the crashed kernel has a lowcore for those that it had online."""
    built = Machine(mode="plain", release="6.12.0", cpus=(Cpu(0), Cpu(1, online=False)), stored_status=False).build(tmp_path)
    (online,) = states_of(built)
    file = written(tmp_path / "text", info_registers([online, CpuState(0, Registers.from_seed("off"))]))
    header, codes, _ = served(built, file)
    assert header == model_with(built, [as_in_text(online)]).header
    assert "cpu-state" in codes


# -- together with what the image has --------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [
    Machine(cpus=cpus(3)), Machine(mode="plain", cpus=cpus(3)), Machine(cpus=cpus(3), with_save_area_list=False)])
def test_a_found_cpu_is_replaced_in_its_place(tmp_path: Path, machine: Machine) -> None:
    built = machine.build(tmp_path)
    states = states_of(built)
    other = replace(states[1], registers=Registers.from_seed("other").with_vector_enabled(True))
    file = written(tmp_path / "a", as_json(other))
    with vmcorefs.open(built.image, cpu_state=[file]) as dump:
        assert dump.merged.header == model_with(built, [states[0], other, states[2]]).header
        assert [cpu.origin == "option --cpu-state" for cpu in dump.cpus] == [False, True, False]
    page = written(tmp_path / "page", lowcore_page(other))  # which takes the vector registers from all of them
    header, codes, _ = served(built, page)
    assert header == model_with(built, [states[0], other, states[2]], vector=False).header
    assert codes[-1] == "vector"


def test_a_cpu_that_was_not_found_follows(tmp_path: Path) -> None:
    built = Machine(cpus=cpus(2)).build(tmp_path)
    new = CpuState(0x1E000, Registers.from_seed("new"))
    assert served(built, written(tmp_path / "a", as_json(new)))[0] == model_with(built, [*states_of(built), new]).header


@pytest.mark.parametrize("pair", [
    lambda s: ([as_json(s), as_json(s)],), lambda s: (as_json(s), as_json(s)), lambda s: (as_json(s), lowcore_page(s)),
    lambda s: (lowcore_page(s), info_registers({4: s})), lambda s: (info_registers({4: s}) + info_registers({4: s}),)])
def test_a_cpu_given_twice(built: Built, states: list[CpuState], tmp_path: Path,
                           pair: Callable[[CpuState], tuple[object, ...]]) -> None:
    files = [written(tmp_path / f"file{n}", content) for n, content in enumerate(pair(states[0]))]
    with pytest.raises(ImageError) as caught:
        vmcorefs.open(built.image, cpu_state=files)
    assert f"the CPU with prefix {states[0].prefix:#x} is given twice (also by {files[0]}" in str(caught.value)
    assert str(caught.value).startswith(str(files[-1]))


def test_a_missing_and_an_empty_file(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="none: cannot open the CPU state: No such file"):
        vmcorefs.open(built.image, cpu_state=[tmp_path / "none"])
    with pytest.raises(ImageError, match="0 bytes are no CPU state"):
        vmcorefs.open(built.image, cpu_state=[written(tmp_path / "empty", b"")])


def test_5_8_serves_half_of_the_timer_with_the_todpreg(tmp_path: Path) -> None:
    built = Machine(mode="plain", release="5.8.0", cpus=cpus(2), stored_status=False).build(tmp_path)
    states = states_of(built)
    assert served(built, written(tmp_path / "a", [as_json(s) for s in states]))[0] == model_with(built, states).header


def test_numbers_are_written_as_the_builders_have_them() -> None:
    """The helper of this file, against a value that can be seen."""
    assert numbers(bytes.fromhex("0001020304050607"), 4) == ["0x00010203", "0x04050607"]
