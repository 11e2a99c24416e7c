"""The names a kernel calls itself by (uname), found by VMCOREINFO (kernel/vmcore_info.c: init_uts_ns, uts_namespace.name)."""

from __future__ import annotations

from typing import NamedTuple

from vmcorefs.errors import OldmemReadError
from vmcorefs.s390 import Absent, Read
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

_FIELD = 65  # linux/utsname.h: struct new_utsname, six char[__NEW_UTS_LEN + 1]
_NAME_OFFSET_LIMIT = 4096


class Utsname(NamedTuple):
    """struct new_utsname, as it stands in memory: bytes that anybody may have chosen."""

    sysname: bytes
    nodename: bytes
    release: bytes
    version: bytes
    machine: bytes
    domainname: bytes


def read_utsname(read: Read, vmcoreinfo: Vmcoreinfo) -> Utsname | Absent:
    """The utsname of the initial namespace."""
    namespace, offset = vmcoreinfo.symbol("init_uts_ns"), vmcoreinfo.number("OFFSET(uts_namespace.name)", 10)
    if namespace is None or offset is None or offset > _NAME_OFFSET_LIMIT:
        return Absent("VMCOREINFO does not say where the system's names are (SYMBOL(init_uts_ns))", suspicious=False)
    address = vmcoreinfo.physical(namespace) + offset
    try:
        data = read(address, _FIELD * len(Utsname._fields))
    except OldmemReadError as error:
        return Absent(f"the system's names at {address:#x} cannot be read ({error.cause})")
    if not any(data):
        return Absent(f"the system's names at {address:#x} are all zeros")
    names = Utsname(*(data[at:at + _FIELD].partition(b"\0")[0] for at in range(0, len(data), _FIELD)))
    if names.sysname != b"Linux":
        return Absent(f"no system's names are at {address:#x}, where VMCOREINFO's init_uts_ns leads; is it this kernel's?")
    return names
