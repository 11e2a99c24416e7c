"""Capture: all facts on how to read an image; FIELDS: the one list of them, for open()'s keywords and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vmcorefs.errors import ImageError, UsageError, printable, shown
from vmcorefs.image.file import read_small_file
from vmcorefs.oldmem.mode import MODES, SELECTS
from vmcorefs.quantities import parse_base_size, parse_range, parse_size
from vmcorefs.vmcore.layouts import parse_layout

MISSING = ("eio", "zeros")


@dataclass(frozen=True)
class Capture:
    """How to read an image. Built by :func:`make_capture`, which checks and converts."""

    image: str
    mode: str = "auto"
    oldmem: tuple[int, int] | None = None
    hsa: str | None = None
    hsa_size: int | None = None
    memory_range: tuple[tuple[int, int], ...] = ()
    memory_map: str | None = None
    device_memory: tuple[tuple[int, int], ...] = ()
    vmcoreinfo: str | None = None
    cpu_state: tuple[str, ...] = ()
    layout: str = "auto"
    select: str = "prod"
    part: tuple[str, ...] = ()
    bad_map: str | None = None
    missing: str = "eio"
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, name: str) -> str:
        """Where the value of a field was given, in words."""
        return self.origins.get(name, f"option --{name.replace('_', '-')}")

    def as_options(self) -> dict[str, Any]:
        """What make_capture makes the same of, from any working directory: absolute paths, no defaults; fit for JSON."""
        options: dict[str, Any] = {"image": os.path.abspath(self.image)}
        for row in FIELDS:
            value = getattr(self, row.name)
            if value in (None, (), "auto") or value == row.default:
                continue
            if row.path:
                value = [os.path.abspath(p) for p in value] if row.repeatable else os.path.abspath(value)
            options[row.name] = value
        if self.origins:
            options["origins"] = dict(self.origins)
        return options


@dataclass(frozen=True)
class Field:
    """One fact of a Capture, and the option of the same name (with - for _)."""

    name: str
    metavar: str
    help: str
    convert: Callable[[Any], Any]
    repeatable: bool = False
    path: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """--name."""
        return "--" + self.name.replace("_", "-")


def _one_of(what: str, names: tuple[str, ...]) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in names:
            raise UsageError(f"unknown {what} {shown(value)}; one of {', '.join(names)}")
        return str(value)
    return convert


def _pair(parse: Callable[[str], tuple[int, int]]) -> Callable[[Any], tuple[int, int]]:
    def convert(value: Any) -> tuple[int, int]:
        if isinstance(value, str):
            return parse(value)
        if not isinstance(value, (list, tuple)):
            raise TypeError
        first, second = value
        return _number(first), _number(second)
    return convert


def _number(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    raise UsageError(f"{shown(value)} is no size or address")


def _path(value: Any) -> str:
    path = os.fsdecode(value)
    if not path or "\0" in path:
        raise UsageError(f"{shown(path)} is no file name")
    return path



FIELDS: tuple[Field, ...] = (
    Field("mode", "|".join(MODES), "what overwrote the memory before the image was taken; auto: zfcpdump with --hsa, "
          "kdump where the image shows the swap, else plain", _one_of("mode", MODES)),
    Field("oldmem", "B:S", "base and size of the crashkernel area (kdump), when the image does not say; "
          "sizes and addresses take 0x, K, M, G, T; BASE+SIZE is the same", _pair(parse_base_size)),
    Field("hsa", "FILE", "HSA image (zfcpdump): the first bytes of the crashed system's memory", _path, path=True),
    Field("hsa_size", "N", "HSA size, where the HSA file is longer", _number),
    Field("memory_range", "START-END", "memory that the machine had (repeatable; END exclusive); "
          "default: what the image knows, else its extent", _pair(parse_range), repeatable=True),
    Field("memory_map", "FILE", "the same from a file: text of /proc/iomem or of lsmem -b", _path, path=True),
    Field("device_memory", "START-END", "standby or device ranges that are no part of the machine's memory (repeatable)",
          _pair(parse_range), repeatable=True),
    Field("vmcoreinfo", "FILE", "text of VMCOREINFO, for an image whose own cannot be found", _path, path=True),
    Field("cpu_state", "FILE", "registers of CPUs (repeatable): a saved lowcore page, JSON, or the text of QEMU's info registers",
          _path, repeatable=True, path=True),
    Field("layout", "auto|5.8|6.1|6.10|RELEASE", "which kernel's bytes are produced; auto: the dump kernel's, from the image",
          parse_layout),
    Field("select", "|".join(SELECTS), "which system, where a dump kernel ran in the image: the crashed (production) system, the "
          "dump kernel's own memory, or everything as it lies", _one_of("selection", SELECTS), default="prod"),
    Field("part", "FILE", "a further part of an image that is split over files, or of a dump (repeatable, in order); "
          "image.000 image.001 ... are found without it", _path, repeatable=True, path=True),
    Field("bad_map", "FILE", "ddrescue's map of the image file: what could not be read when it was taken is not served", _path, path=True),
    Field("missing", "|".join(MISSING), "what memory gives that was never saved, or is cut off: an error (eio), or zeros, for tools "
          "that give up on errors", _one_of("word", MISSING), default="eio"),
)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for a wrong name, or nothing where none is near."""
    import difflib  # only needed for a wrong word

    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


StrPath = str | os.PathLike[str]


def make_capture(image: StrPath | Sequence[StrPath] | None = None, *, capture: str | os.PathLike[str] | None = None,
                 **values: Any) -> Capture:
    """A Capture from values as people or programs give them: text as on the command line, or numbers and pairs.

    *image* may be a directory that holds a capture, a capture file (.toml), or a list of the parts of an image; *capture* is a
    capture file, whose values count where *values* say nothing. Raises UsageError for an unknown name (with the nearest known
    one) and for values that cannot be meant, ImageError for a file or directory that is no capture.
    """
    origins: dict[str, str] = dict(values.pop("origins", {}))
    first: StrPath | None
    if image is None or isinstance(image, (str, bytes, os.PathLike)):
        first = image
    else:
        several = list(image)
        first = several[0] if several else None
        values["part"] = [*several[1:], *(values.get("part") or [])]
    converted = _convert({name: value for name, value in values.items() if value is not None}, "")
    path = None if first is None else os.fsdecode(first)
    if path == "":
        raise UsageError("the image's name is empty; give the image")
    directory: dict[str, Any] = {}
    if path is not None and os.path.isdir(path):
        path, directory = _look_into(path)
    if path is not None and path.endswith(".toml"):
        if capture is None:
            path, capture = None, path
        else:  # another capture file wins; of this one only the image counts
            path = read_capture_file(path).get("image")
    if capture is not None:
        file = os.fsdecode(capture)
        from_file = read_capture_file(file)
        path = path if path is not None else from_file.pop("image", None)
        from_file.pop("image", None)
        if path is None:
            raise UsageError(f'{printable(file)}: no image is named in it; add a line image = "FILE", or give the image')
        _fill_in(converted, origins, from_file, f"capture file {printable(file)}")
    if path is None:
        raise UsageError("no image is given")
    if converted.get("mode", "auto") in {"auto", "zfcpdump"} and "oldmem" not in converted:
        _fill_in(converted, origins, directory, "capture directory")
    return Capture(path, **converted, origins=origins)


_ALTERNATIVES = (("memory_range", "memory_map"),)


def _fill_in(converted: dict[str, Any], origins: dict[str, str], further: Mapping[str, Any], origin: str) -> None:
    """Add what *further* says to what was given; of two ways to say the same thing what was given counts."""
    given = set(converted)
    for pair in _ALTERNATIVES:
        given |= set(pair) if given & set(pair) else set()
    for name, value in further.items():
        if name not in given:
            converted[name], origins[name] = value, origin


def _convert(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    fields = {row.name: row for row in FIELDS}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        row = fields.get(name)
        if row is None:
            raise UsageError(f"{where}unknown option {name!r}{nearest(name, fields)}")
        spelled = row.option if not where else row.option.removeprefix("--")
        try:
            if row.repeatable:
                several = [value] if isinstance(value, (str, bytes, os.PathLike)) else value
                if not isinstance(several, (list, tuple)):
                    raise TypeError
                converted[name] = tuple(row.convert(v) for v in several)
            else:
                converted[name] = row.convert(value)
        except UsageError as error:
            raise UsageError(f"{where}{spelled}: {error}") from None
        except (TypeError, ValueError):
            raise UsageError(f"{where}{spelled}: {shown(value)} cannot be meant; write {row.metavar}") from None
    return converted


_CAPTURE_FILE_LIMIT = 1 << 20
MOUNT_TABLE = "mount"


def _read_toml(path: str) -> tuple[dict[str, Any], str]:
    """(content, name for messages). Raises ImageError."""
    import tomllib

    data, name = read_small_file(path, "capture file", _CAPTURE_FILE_LIMIT)
    try:
        return tomllib.loads(data.decode("utf-8")), name
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ImageError(f"{name}: no TOML ({printable(str(error)[:200])})") from None


def read_mount_table(path: str) -> dict[str, Any]:
    """The table [mount] of a capture file as it stands there, but a relative ``mountpoint`` or ``pidfile`` made absolute by the
    file's folder; empty where there is none. Raises ImageError if it is no TOML.
    """
    table = _read_toml(path)[0].get(MOUNT_TABLE, {})
    folder = os.path.dirname(os.path.abspath(path))
    return {key: os.path.join(folder, value) if key in {"mountpoint", "pidfile"} and isinstance(value, str) and value else value
            for key, value in (table.items() if isinstance(table, dict) else ())}


def find_capture_file(image: str | None, capture: str | None) -> str | None:
    """The capture file that make_capture would read for these two, if any. Raises ImageError."""
    if capture is not None or image is None:
        return capture
    if os.path.isdir(image):
        image = _look_into(image)[0]
    return image if image.endswith(".toml") else None


def read_capture_file(path: str) -> dict[str, Any]:
    """The values of a capture file (TOML): keys are the long options' names, and ``image``; paths in it are relative to it.

    Raises ImageError if it is no TOML, UsageError for an unknown key (with the nearest known one) or a wrong type.
    """
    table, name = _read_toml(path)
    keys = {row.option.removeprefix("--"): row for row in FIELDS}
    keys |= {key + "s": row for key, row in list(keys.items()) if row.repeatable}
    folder = os.path.dirname(os.path.abspath(path))
    values: dict[str, Any] = {}
    image: str | None = None
    parts: list[str] = []
    for key, value in table.items():
        if key == MOUNT_TABLE and isinstance(value, dict):
            continue  # how and where to mount it: read_mount_table
        if key == "image":
            names = value if isinstance(value, list) else [value]
            if not names or not all(isinstance(one, str) and one and "\0" not in one for one in names):
                raise UsageError(f'{name}: image: {shown(value)} is no file name; write image = "oldmem.img"')
            image, parts = os.path.join(folder, names[0]), names[1:]
        elif key not in keys:
            raise UsageError(f"{name}: unknown key {shown(key)}{nearest(key, ['image', *keys])}")
        elif keys[key].name in values:
            raise UsageError(f"{name}: {key} is there twice")
        else:
            values[keys[key].name] = value
    if parts:
        values["part"] = [*parts, *values.get("part", [])]
    converted = _convert(values, f"{name}: ")
    for row in FIELDS:
        if row.path and row.name in converted:
            value = converted[row.name]
            converted[row.name] = tuple(os.path.join(folder, p) for p in value) if row.repeatable else os.path.join(folder, value)
    return converted | ({"image": image} if image is not None else {})


def _look_into(directory: str) -> tuple[str, dict[str, Any]]:
    """(image or capture file, other values) of a directory that holds a capture: one .toml, else oldmem.img and hsa.img."""
    name = printable(directory)
    try:
        entries = sorted(os.listdir(directory))
    except OSError as error:
        raise ImageError(f"{name}: cannot look into the directory: {error.strerror}") from error
    files = [entry for entry in entries if entry.endswith(".toml")]
    images = [entry for entry in entries if entry.endswith(".img") and entry != "hsa.img"]
    if len(files) > 1:
        raise ImageError(f"{name}: {len(files)} capture files are in this directory ({printable(files[0])}, "
                         f"{printable(files[1])}); give the one that is meant")
    if files:
        return os.path.join(directory, files[0]), {}
    if len(images) > 1:
        raise ImageError(f"{name}: {len(images)} images are in this directory ({printable(images[0])}, {printable(images[1])}); "
                         "give the one that is meant")
    if not images:
        raise ImageError(f"{name}: is a directory, and no capture is in it (oldmem.img, or a capture file .toml); give the image")
    hsa = os.path.join(directory, "hsa.img")
    return os.path.join(directory, images[0]), {"hsa": hsa} if os.path.exists(hsa) else {}
