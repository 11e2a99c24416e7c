"""Offsets as the C compiler sees them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def c_numbers(directory: Path, head: str, expressions: dict[str, str], *flags: str) -> dict[str, int]:
    """The values of C expressions (name -> integer expression), by a compiled program."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    prints = "\n".join(f'    printf("%s %ld\\n", "{name}", (long)({text}));' for name, text in expressions.items())
    source = f"""{head}
#include <stdio.h>
#include <stddef.h>
int main(void)
{{
{prints}
    return 0;
}}
"""
    (directory / "numbers.c").write_text(source, encoding="ascii")
    subprocess.run([compiler, "-Wall", "-Werror", "-o", directory / "numbers", directory / "numbers.c", *flags], check=True)
    done = subprocess.run([directory / "numbers"], capture_output=True, check=True, text=True)
    return {name: int(number) for name, number in (line.split() for line in done.stdout.splitlines())}
