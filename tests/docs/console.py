"""Console blocks in documents: the commands in them, what each must print, and running them.

A line that begins with "$ " or "# " is a command; it goes on in the next line after a backslash, and to the end of a here
document. The other lines are what it prints; "..." stands for anything, on a line of its own for any lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """A command of a block, and the lines that it must print. *prompt*: "$" or "#"."""

    prompt: str
    command: str
    lines: list[str]


def markdown_blocks(path: Path) -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


class RoffBlock(NamedTuple):
    """A literal block of a man page; *not_run*: the reason of the comment before it, None where it is to be run."""

    text: str
    not_run: str | None
    line: int


_ESCAPES = {r"\-": "-", r"\e": "\\", r"\&": "", r"\(aq": "'", r"\(ga": "`", r"\(ha": "^", r"\(ti": "~", r"\(dq": '"'}


def unescaped(text: str) -> str:
    """Roff as it is shown; an escape that is not known here raises KeyError."""
    return re.sub(r"\\(?:\(..|.)", lambda match: _ESCAPES[match[0]], text)


def roff_blocks(source: str) -> list[RoffBlock]:
    """The literal blocks of a man page in mdoc."""
    found = []
    lines = source.splitlines()
    reason = None
    for number, line in enumerate(lines):
        if line.startswith('.\\" not run: '):
            reason = line.removeprefix('.\\" not run: ')
        elif line.startswith(".Bd -literal"):
            end = lines.index(".Ed", number)
            found.append(RoffBlock("".join(unescaped(one) + "\n" for one in lines[number + 1:end]), reason, number + 1))
            reason = None
    return found


def steps(block: str) -> Iterator[Step]:
    lines = block.splitlines()
    assert lines and lines[0][:2] in {"$ ", "# "}, f"a block must begin with a command: {block}"
    while lines:
        first = lines.pop(0)
        command = [first[2:]]
        while command[-1].endswith("\\"):
            command.append(lines.pop(0))
        if document := re.search(r"<<(\w+)", first):
            while command[-1] != document[1]:
                command.append(lines.pop(0))
        prints: list[str] = []
        while lines and lines[0][:2] not in {"$ ", "# "}:
            prints.append(lines.pop(0))
        yield Step(first[0], "\n".join(command), prints)


def pattern(lines: list[str]) -> str:
    return "".join(r"(?:.*\n)*?" if line == "..." else ".*?".join(re.escape(piece) for piece in line.split("...")) + r"\n"
                   for line in lines)


def check(step: Step, printed: str) -> None:
    """Raises AssertionError where *printed* is not what stands in the document."""
    assert re.fullmatch(pattern(step.lines), printed), f"{step.prompt} {step.command}\n{printed}"
