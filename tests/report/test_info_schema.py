"""docs/info.schema.json describes what --json prints: of every kind of machine, and no key more or less."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vmcorefs
from tests.builders import Cpu, Machine, cpus
from tests.captures import sparse
from tests.gold.conftest import Expander, gold_names
from tests.report.infos import MIB, PANIC, info_of, ring, with_log
from vmcorefs.report import info as product
from vmcorefs.report.commands import Command, Vmlinux
from vmcorefs.report.info import SCHEMA, Info

FILE = Path(__file__).resolve().parents[2] / "docs" / "info.schema.json"


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FILE.read_text())
    return loaded


def complaints(info: Info) -> list[str]:
    data = json.loads(json.dumps(info.as_dict(), allow_nan=False))
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema()).iter_errors(data)]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema"]["const"] == SCHEMA


MACHINES = {
    "kdump": Machine(), "zfcpdump": Machine(mode="zfcpdump", cpus=cpus(3)), "plain": Machine(mode="plain", stored_status=False),
    "6.12": Machine(release="6.12.0", cpus=cpus(3)), "nothing": Machine(vmcoreinfo_by=None, os_info="absent"),
    "early": Machine(mode="plain", vmcoreinfo_by="early", os_info="bad_magic"), "no cpu": Machine(cpus=(Cpu(online=False),)),
    "holes": Machine(memory=((0, 4 * MIB), (6 * MIB, 9 * MIB), (16 * MIB, 17 * MIB))),
    "bad build id": Machine(vmcoreinfo="BUILD-ID=\x1b[31m\nCRASHTIME=99999999999999999999\nKERNELOFFSET=zz\n"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_machines(tmp_path: Path, name: str) -> None:
    assert complaints(info_of(MACHINES[name].build(tmp_path))) == []


def test_a_machine_with_everything(tmp_path: Path) -> None:
    info = info_of(with_log(tmp_path, ring(*PANIC), cpus=cpus(2)))
    assert info.crash.cpu is not None
    assert info.system is not None
    assert complaints(info) == []


@pytest.mark.parametrize("name", sparse.names())
def test_captures(tmp_path: Path, name: str) -> None:
    expanded = sparse.expand(name, tmp_path)
    with vmcorefs.open(expanded.image, hsa=expanded.hsa) as dump:
        assert complaints(dump.info()) == []


@pytest.mark.parametrize("name", gold_names())
def test_whole_captures(name: str, expander: Expander) -> None:
    gold = expander(name)
    with vmcorefs.open(gold.image, **gold.options) as dump:
        assert complaints(dump.info()) == []


def test_a_wrong_type_and_a_new_key_are_told(tmp_path: Path) -> None:
    data = info_of(Machine().build(tmp_path)).as_dict()
    validator = jsonschema.Draft202012Validator(schema())
    for change in ({"layout": 7}, {"new": 1}, {"mode": {"value": "kdump"}}, {"extents": [{"offset": 0}]}):
        assert not validator.is_valid(json.loads(json.dumps(data | change))), change
    del data["extents"]
    assert not validator.is_valid(json.loads(json.dumps(data)))


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_each_dataclass_has_its_object_and_every_key_its_description() -> None:
    described = {frozenset(node["properties"]) for node in objects(schema())}
    classes = [c for c in vars(product).values() if is_dataclass(c) and isinstance(c, type) and c.__module__ == product.__name__]
    assert len(classes) > 8
    for one in [*classes, Command, Vmlinux]:
        assert frozenset(field.name for field in fields(one)) in described, one
    for node in objects(schema()):
        assert set(node["required"]) == set(node["properties"])
        assert node["additionalProperties"] is False
        for key, value in node["properties"].items():
            assert "description" in value or "$ref" in value or "anyOf" in value, key
