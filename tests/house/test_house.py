"""The house: imports go down only, logic never prints, forbidden names are not used, every option is in the README."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vmcorefs.capture import FIELDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vmcorefs"

# Lower number = lower floor. A module may import its own layer and those below it.
LAYERS = {
    "errors": 0, "quantities": 0, "ranges": 0, "facts": 0, "version": 0, "elf": 0,
    "image": 1,
    "s390": 2, "oldmem": 3,
    "vmcore": 4,
    "capture": 5,
    "evidence": 6,
    "dump": 7,
    "report": 8, "output": 8, "check": 8, "drgn": 8,
    "__init__": 8,
    "fs": 8,
    "cli": 9, "__main__": 10,
}
# Siblings, and folders that must not know each other although one stands lower
FORBIDDEN = {("s390", "oldmem"), ("s390", "image"), ("fs", "dump"), ("fs", "s390"), ("fs", "oldmem"), ("fs", "vmcore"), ("fs", "evidence"),
             ("fs", "capture"), ("fs", "image"),
             ("report", "output"), ("output", "report"), ("report", "fs"), ("output", "fs"), ("check", "fs"),
             ("check", "report"), ("fs", "report"), ("fs", "output"), ("fs", "check"),
             ("drgn", "fs"), ("drgn", "report"), ("drgn", "output"), ("drgn", "check"), ("fs", "drgn"), ("report", "drgn"),
             ("output", "drgn"), ("check", "drgn")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported(path: Path) -> set[str]:
    """First component below vmcorefs of each import that runs (not those for type checkers alone)."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{a.name}" if node.module == "vmcorefs" else node.module or "" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {n.split(".")[1] if "." in n else "__init__" for n in names if n.split(".")[0] == "vmcorefs"}
    return {"__init__" if n.startswith("__version") else n for n in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    layer = _layer(path)
    for other in _imported(path):
        if layer == "dump" and other == "report":  # info() imports it when it is asked for
            continue
        assert LAYERS[other] <= LAYERS[layer], f"{path}: {layer} imports {other}, which is above it"
        assert (layer, other) not in FORBIDDEN, f"{path}: {layer} must not know {other}"


def test_the_import_test_can_fail(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from vmcorefs.cli.main import main\nimport vmcorefs.fs.tree\n")
    assert _imported(wrong) == {"cli", "fs"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_cli_writes_to_the_terminal(path: Path) -> None:
    if _layer(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path}: print"
        if isinstance(node, ast.Attribute) and node.attr == "write" and isinstance(node.value, ast.Attribute):
            assert node.value.attr not in {"stdout", "stderr"}, f"{path}: writes to {node.value.attr}"


def test_every_module_has_a_docstring_and_no_forbidden_name() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path}: no docstring"
        assert not re.search(r"util|helper|manager|misc|common", path.stem), path


def test_nothing_heavy_is_imported_on_the_way_to_a_mount() -> None:
    import subprocess
    import sys

    code = ("import sys, vmcorefs.cli.mount; "
            "print([m for m in ('elftools', 'psutil', 'drgn', 'fuse', 'mfusepy', 'tomllib') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_option_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    for option in [f.option for f in FIELDS] + ["--foreground", "--io", "--backend", "--log-level", "--json", "--lazy", "--force"]:
        assert option in text, f"{option} is not in README.md"


def test_runtime_dependencies_are_the_four_and_no_other() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[><=]", d)[0] for d in project["dependencies"]} == {"fusepy", "mfusepy", "pyelftools", "psutil"}
