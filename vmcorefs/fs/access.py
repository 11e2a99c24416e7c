"""Access: whom the mounted files belong to, and who may look into the mount."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from vmcorefs.errors import SystemLacksError, UsageError

FUSE_CONF = "/etc/fuse.conf"
FILE_MODES = (0o400, 0o440, 0o444)


@dataclass(frozen=True)
class Access:
    """Owner (None: whoever mounts), group and permission bits of the files; *allow_other*: users other than the one who
    mounted may look in, as far as these let them. (Without it the kernel lets nobody else in, not even root.)
    """

    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: int = 0o400

    def check(self) -> None:
        """Raises UsageError for what has no effect, SystemLacksError where this user may not ask for allow_other."""
        given = [name for name, value, default in (("uid", self.uid, None), ("gid", self.gid, None), ("mode", self.mode, 0o400))
                 if value != default]
        if given and not self.allow_other:
            raise UsageError(f"-o {given[0]}= has no effect as long as only the user who mounts may look in; "
                             "add --allow-other (-o allow_other)")
        if self.allow_other and os.geteuid() != 0 and not user_allow_other():
            raise SystemLacksError(f"--allow-other is not permitted to users other than root; have the line user_allow_other "
                                   f"added to {FUSE_CONF}, leave the option out, or mount as root")

    @property
    def file_mode(self) -> int:
        """st_mode of a file."""
        return stat.S_IFREG | self.mode

    @property
    def folder_mode(self) -> int:
        """st_mode of a folder: everybody may list the names where only the mounter gets in at all; else as the files."""
        return stat.S_IFDIR | (self.mode | self.mode >> 2 if self.allow_other else 0o555)


def user_allow_other(path: str | None = None) -> bool:
    """Whether fusermount's configuration lets users other than root ask for allow_other (libfuse util/fusermount.c)."""
    try:
        with open(path or FUSE_CONF, "rb") as file:
            return re.search(rb"^[^\S\n]*user_allow_other[^\S\n]*(#.*)?\n", file.read(1 << 20), re.MULTILINE) is not None
    except OSError:
        return False
