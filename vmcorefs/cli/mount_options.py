"""MOUNT_FIELDS: the options of mount itself, a row an option, for the command line, -o and the [mount] table of a capture file."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmcorefs.capture import nearest
from vmcorefs.errors import UsageError, shown
from vmcorefs.fs.access import FILE_MODES, Access
from vmcorefs.fs.backends import BACKEND_NAMES
from vmcorefs.fs.mount import IO_MODES

# mount(8)'s own words, and fstab's: they say when and by whom something is mounted, or what is always so here
_SYSTEM_WORDS = frozenset({
    "ro", "rw", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "dev", "nodev", "suid",
    "nosuid", "exec", "async", "sync", "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
    "strictatime", "nostrictatime", "lazytime", "nolazytime", "silent", "loud", "mand", "nomand", "iversion", "noiversion",
})
_SYSTEM_PREFIXES = ("x-", "X-", "comment=", "uhelper=", "helper=")
_KERNEL_WORDS = frozenset({"noexec"})
KERNEL_VALUES = frozenset({"context", "fscontext", "defcontext", "rootcontext"})


@dataclass(frozen=True)
class MountField:
    """One option of mount: *option* on the command line (None: only a word of -o), *metavar* None for one without a value.

    *convert* takes the text (True where there is no value) and raises UsageError or ValueError.
    """

    name: str
    option: str | None
    metavar: str | None
    help: str
    convert: Callable[[Any], Any]
    default: Any = None
    short: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The name in -o and in a capture file."""
        return self.name.replace("_", "-")


def _one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in names:
            raise UsageError(f"{shown(value)} is unknown; one of {', '.join(names)}")
        return str(value)
    return convert


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError("takes no value" if isinstance(value, str) else f"{shown(value)}; write true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{shown(value)} is no file name")
    return value


ALSO = ("dump.s390", "mem.raw")


def _also(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else re.split(r"[,:]", value) if isinstance(value, str) else [value]
    for name in names:
        if name not in ALSO:
            raise UsageError(f"{shown(name)} is unknown; one or both of {','.join(ALSO)}")
    return tuple(dict.fromkeys(names))


_DURATION = re.compile(r"([0-9]+)\s*(s|sec|m|min|h|d)?")
_SECONDS = {None: 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_LONGEST = 366 * 86400


def _duration(value: Any) -> float:
    match = _DURATION.fullmatch(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    seconds = int(match[1][:12]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"{shown(value)} is no time; write a number of seconds, or 10m, 2h")
    return float(seconds)


def _identity(kind: str, look_up: Callable[[str], int]) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < (1 << 32) - 1:
            return int(text)
        try:
            return look_up(text)
        except (KeyError, ValueError):
            raise UsageError(f"{shown(value)}: there is no such {kind}; give a name or a number") from None
    return convert


def _file_mode(value: Any) -> int:
    text = str(value)
    if isinstance(value, str) and text.isascii() and text.isdigit() and len(text) <= 5 and not set(text) & {"8", "9"}:
        mode = int(text, 8)
        if mode in FILE_MODES:
            return mode
    raise UsageError(f"{shown(value)}: files can only be read here; write one of {', '.join(f'{mode:04o}' for mode in FILE_MODES)}")


MOUNT_FIELDS: tuple[MountField, ...] = (
    MountField("foreground", "--foreground", None, "stay in the foreground until unmounted", _flag, False, "-f"),
    MountField("io", "--io", "|".join(IO_MODES), "direct: each read goes to the image (auto); cached: through the page cache, "
               "allows MAP_SHARED", _one_of(IO_MODES), "auto", choices=IO_MODES),
    MountField("backend", "--backend", "|".join(BACKEND_NAMES), "binding to libfuse; auto: mfusepy with libfuse 3, else what there "
               "is", _one_of(BACKEND_NAMES), "auto", choices=BACKEND_NAMES),
    MountField("also", "--also", ",".join(ALSO), "further files in the mount: dump.s390, the stand-alone dump format, for zgetdump and "
               "crash; mem.raw, memory by absolute address, sparse", _also, ()),
    MountField("allow_other", "--allow-other", None, "let other users look in, as far as owner, group and mode of the files let them; "
               "a user other than root needs user_allow_other in /etc/fuse.conf", _flag, False),
    MountField("replace_stale", "--replace-stale", None, "clear a dead vmcorefs mount of this user off the mount point first; "
               "a living mount is never touched", _flag, False),
    MountField("pidfile", "--pidfile", "FILE", "the daemon's pid; written when the mount answers, removed at its end", _text),
    MountField("idle_timeout", "--idle-timeout", "TIME", "unmount when nobody has used the mount for so long (seconds; 10m, 2h)",
               _duration),
    MountField("nonempty", None, None, "mount over a directory that is not empty", _flag, False),
    MountField("uid", None, "USER", "owner of the files (with allow_other)", _identity("user", lambda name: pwd.getpwnam(name).pw_uid)),
    MountField("gid", None, "GROUP", "group of the files (with allow_other)",
               _identity("group", lambda name: grp.getgrnam(name).gr_gid)),
    MountField("mode", None, "0440", "permissions of the files (with allow_other): 0400, 0440 or 0444", _file_mode, 0o400),
)
_BY_WORD = {row.word: row for row in MOUNT_FIELDS} | {row.name: row for row in MOUNT_FIELDS}


@dataclass
class MountWords:
    """What was given of MOUNT_FIELDS, converted, and what is handed on to the kernel."""

    values: dict[str, Any] = field(default_factory=dict)
    kernel_options: dict[str, str | bool] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """The value of a row, or its default."""
        row = _BY_WORD.get(name)
        if row is None or name.startswith("__"):
            raise AttributeError(name)
        return self.values.get(row.name, row.default)

    @property
    def access(self) -> Access:
        """Who may look in."""
        return Access(allow_other=self.allow_other, uid=self.uid, gid=self.gid, mode=self.mode)

    def set(self, row: MountField, value: Any, where: str) -> None:
        """Convert and keep one value. Raises UsageError; *where* is how it was given."""
        try:
            found = row.convert(value)
            known = self.values.get(row.name)
            self.values[row.name] = (*known, *found) if isinstance(known, tuple) and isinstance(found, tuple) else found
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    def take(self, name: str, value: str | None) -> bool:
        """One name[=value] of -o; False if it is not ours. Raises UsageError."""
        if name in _KERNEL_WORDS and value is None:
            self.kernel_options[name] = True
            return True
        if name in KERNEL_VALUES:
            if not value:
                raise UsageError(f"-o: {name} needs a value, write {name}=CONTEXT")
            self.kernel_options[name] = value
            return True
        row = _BY_WORD.get(name)
        if row is None or (row.name == "mode" and not (value or "").isdigit()):  # -o mode=kdump is --mode
            return False
        if row.metavar is not None and value is None:
            raise UsageError(f"-o: {name} needs a value, write {name}={row.metavar}")
        self.set(row, True if value is None else value, f"-o {name}")
        return True

    def take_table(self, table: Mapping[str, Any], where: str) -> str | None:
        """The [mount] table of a capture file; returns its mountpoint. What was given already wins. Raises UsageError."""
        mountpoint = None
        before = frozenset(self.values)
        for key, value in table.items():
            if key == "mountpoint":
                if not isinstance(value, str) or not value or "\0" in value:
                    raise UsageError(f'{where}: [mount]: mountpoint: {shown(value)} is no directory; write mountpoint = "/mnt/dump"')
                mountpoint = value
            elif key not in _BY_WORD:
                raise UsageError(f"{where}: [mount]: unknown key {shown(key)}{nearest(key, ['mountpoint', *WORDS])}")
            elif _BY_WORD[key].name not in before:
                if _BY_WORD[key].name in self.values:
                    raise UsageError(f"{where}: [mount]: {key} is there twice")
                self.set(_BY_WORD[key], value, f"{where}: [mount]: {key}")
        return mountpoint


WORDS = tuple(row.word for row in MOUNT_FIELDS)


def is_system_word(name: str, value: str | None) -> bool:
    """Whether a word of -o is mount(8)'s or fstab's own business."""
    whole = name if value is None else f"{name}={value}"
    return name in _SYSTEM_WORDS or whole.startswith(_SYSTEM_PREFIXES)
