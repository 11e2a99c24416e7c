"""Commands for a shell, as messages name them: they can be pasted, and never write over a file that is there."""

from __future__ import annotations

import os
import shlex

from vmcorefs.image.source import Source


class Printed(Source):
    """A Source that is no file: the command *printed_by* prints its bytes. *plain*: what a file with them might be named."""

    printed_by: str
    plain: str


def quoted(name: str) -> str:
    """*name* as a word of a command, and no option of it."""
    word = f"./{name}" if name.startswith("-") else name
    if word.isprintable() and "\\" not in word:
        return shlex.quote(word)
    data = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\\\" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{data}'"  # bash, zsh, ksh; a message must stay one line that can be printed


def free_name(name: str) -> str:
    """*name*, or one like it that no file has: what is there may be another dump."""
    tried, number = name, 1
    while os.path.lexists(tried):
        tried, number = f"{name}.new{number if number > 1 else ''}", number + 1
    return tried


def plain_of(source: Source | str) -> str:
    """What a file with the bytes of *source* is named, or might be."""
    if isinstance(source, str):
        return source
    if isinstance(source, Printed):
        return source.plain
    return source.path if "\\" in source.name else source.name  # a name that was escaped for messages is not that of the file


def stem_of(name: str) -> str:
    """*name* without its last extension; all of it where it has none."""
    stem, dot, _ = name.rpartition(".")
    return stem if dot and os.path.basename(stem) else name


def unpacked_name(name: str) -> str:
    """What the packed file *name* might be named when it is unpacked."""
    stem = stem_of(name)
    return stem if stem != name else f"{name}.raw"


def piped(source: Source | str, command: str) -> str:
    """*command*, a filter as gzip -dc is one, over the bytes of *source*. One that ends in ``<`` takes no names."""
    if isinstance(source, Printed):
        return f"{source.printed_by} | {command.removesuffix(' <')}"
    return f"{command} {quoted(plain_of(source))}"


def unpacking(source: Source, command: str) -> str:
    """The whole command that unpacks *source* into a new file."""
    return f"{piped(source, command)} > {quoted(free_name(unpacked_name(plain_of(source))))}"


def advised(advice: str, source: Source | str, unpack: str = "") -> str:
    """*advice* with names, quoted, in place of {file}: *source*; {out}, {elf}: no files yet, for what is made of it; {unpack}: the
    filter *unpack* over it.

    What needs a file gets one made first, where the bytes of *source* are in another one, or in several.
    """
    plain = plain_of(source)
    out, elf = quoted(free_name(unpacked_name(plain))), quoted(free_name(f"{stem_of(plain)}.elf"))
    if unpack:
        return advice.format(unpack=piped(source, unpack), out=out)
    before = ""
    if isinstance(source, Printed) and "{file}" in advice:
        plain = free_name(plain)
        before = f"make one file of it first: {source.printed_by} > {quoted(plain)}; then: "
    return before + advice.format(file=quoted(plain), out=out, elf=elf)
