"""make_pyz.py OUTPUT FOLDER: vmcorefs, and the libraries that carry.py put into FOLDER, as one file that Python runs.

The same sources give the same bytes: names are sorted, and every file has the time SOURCE_DATE_EPOCH (1980 without it).
"""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHEBANG = b"#!/usr/bin/env python3\n"
FIRST_ZIP_TIME = 315532800  # 1980-01-01, the earliest that a ZIP archive can say


def contents(carried: Path) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file)."""
    yield "__main__.py", ROOT / "packaging" / "launcher.py"
    yield "LICENSE", ROOT / "LICENSE"
    for path in (ROOT / "vmcorefs").rglob("*.py"):
        yield path.relative_to(ROOT).as_posix(), path
    for path in (carried / "python").rglob("*.py"):
        yield path.relative_to(carried / "python").as_posix(), path
    for path in (carried / "licences").iterdir():
        yield f"licences/{path.name}", path


def make(output: Path, carried: Path) -> None:
    """Write the archive, complete or not at all."""
    date = time.gmtime(max(FIRST_ZIP_TIME, int(os.environ.get("SOURCE_DATE_EPOCH") or 0)))[:6]
    part = output.with_name(output.name + ".part")
    with open(part, "wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w") as archive:
            for name, path in sorted(contents(carried)):
                entry = zipfile.ZipInfo(name, date)
                entry.external_attr = 0o100644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    part.chmod(0o755)
    part.replace(output)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
