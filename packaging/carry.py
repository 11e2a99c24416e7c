"""carry.py FOLDER NAME...: copies the libraries NAME, as they are installed for this Python, into FOLDER.

FOLDER/python gets their modules, FOLDER/licences a file NAME.txt each.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

HERE = Path(__file__).resolve().parent


def licence(library: Distribution, first: Path) -> str:
    """The licence: files of that name, else the comment at the top of the module; and what packaging/licences adds."""
    found = [str(file.read_text()) for file in library.files or () if file.name.startswith(("LICENSE", "LICENCE", "COPYING"))]
    if not found:
        lines = first.read_text(encoding="utf-8").splitlines()
        end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
        found = ["".join(line.lstrip("#").removeprefix(" ") + "\n" for line in lines[:end])]
    more = HERE / "licences" / f"{library.name}.txt"
    if more.exists():
        found.append(more.read_text(encoding="utf-8"))
    text = "\n".join(found)
    if "Permission" not in text and "public domain" not in text:
        raise SystemExit(f"carry.py: no licence of {library.name} was found")
    return f"{library.name} {library.version}\n\n{text}"


def carry(name: str, folder: Path) -> None:
    """Copy one library."""
    library = distribution(name)
    modules = [file for file in library.files or () if file.suffix == ".py" and ".." not in file.parts]
    if not modules:
        raise SystemExit(f"carry.py: {name} has no modules")
    for module in modules:
        target = folder / "python" / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(module.locate()), target)
    (folder / "licences").mkdir(exist_ok=True)
    (folder / "licences" / f"{name}.txt").write_text(licence(library, folder / "python" / modules[0]), encoding="utf-8")


def main(argv: list[str]) -> None:
    """The program."""
    folder = Path(argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    for name in argv[2:]:
        carry(name, folder)


if __name__ == "__main__":
    main(sys.argv)
