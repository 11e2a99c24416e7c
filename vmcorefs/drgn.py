"""program(): a drgn.Program of the crashed kernel, without a mount. drgn itself is imported when it is asked for, never before.

drgn takes a program for a kernel only where a core file says so. So it gets one: the header region alone, in a memory file;
notes and program headers are in it. Memory comes from a segment over each PT_LOAD, read by our VmcoreFile. The memory file ends
behind the header: what drgn would read there fails instead of being zeros.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from vmcorefs.dump import Dump, open_dump
from vmcorefs.elf import PT_LOAD
from vmcorefs.errors import ImageError, OldmemReadError, SystemLacksError, printable, system_reason
from vmcorefs.s390.vmcoreinfo import Vmcoreinfo

if TYPE_CHECKING:
    import drgn

Path = str | os.PathLike[str]

OLDEST = (0, 0, 31)
"""The oldest drgn that was tried."""

_INSTALL = "install it with pip install 'drgn>=" + ".".join(map(str, OLDEST)) + "', or vmcorefs itself as vmcorefs[drgn]"


def program(image: Path | None = None, *, vmlinux: Path | Sequence[Path] = (), **options: Any) -> drgn.Program:
    """A drgn.Program of the kernel that crashed; *image* and *options* are those of ``vmcorefs.open``.

    *vmlinux*: with debug information; several files, where modules' debug information is to be loaded, too. Without it
    ``load_debug_info`` and ``load_default_debug_info`` of the program remain to be called. The files of the image are closed
    when nobody refers to the program any more. What cannot be read is a drgn.FaultError with the address of the first bad byte.
    Raises SystemLacksError where drgn is missing or too old, else as ``vmcorefs.open``.
    """
    import_drgn()
    dump = open_dump(image, **options)
    try:
        return attach(dump, vmlinux)
    except BaseException:
        dump.close()
        raise


def attach(dump: Dump, vmlinux: Path | Sequence[Path] = ()) -> drgn.Program:
    """The same of an open Dump, which is closed when nobody refers to the program any more."""
    drgn = import_drgn()
    if dump.vmcoreinfo is None:
        raise ImageError(f"{dump.image.name}: drgn needs VMCOREINFO, which was not found; give its text with --vmcoreinfo FILE")
    found = drgn.Program()
    with _memory_file(dump.vmcore.header) as path:
        try:
            found.set_core_dump(path)
        except Exception as error:
            # ValueError, Exception itself (0.0.31) or BadDataError (0.3.0)
            raise ImageError(f"{dump.image.name}: drgn cannot use the header of vmcore: {error}") from error
    memory = _Memory(dump, drgn.FaultError)
    for phdr in dump.merged.phdrs:
        if phdr.p_type == PT_LOAD:
            read = partial(memory.read, phdr.p_offset)
            found.add_memory_segment(phdr.p_paddr, phdr.p_filesz, read, physical=True)
            found.add_memory_segment(phdr.p_vaddr, phdr.p_filesz, read, physical=False)
    files = [vmlinux] if isinstance(vmlinux, (str, os.PathLike)) else list(vmlinux)
    if files:
        _load(found, files, dump.vmcoreinfo)
    # From here on, not before: where something fails, the Dump is still the caller's
    weakref.finalize(memory, dump.close).atexit = False
    return found


def import_drgn() -> Any:
    """The module drgn. Raises SystemLacksError where it is missing or too old."""
    try:
        import drgn
    except ImportError as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
        raise SystemLacksError(f"drgn {why}; {_INSTALL}") from error
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", drgn.__version__)
    if numbers and tuple(int(n or 0) for n in numbers.groups()) < OLDEST:
        raise SystemLacksError(f"drgn {drgn.__version__} is too old; {_INSTALL}")
    return drgn


class _Memory:
    """What drgn reads through; it lives as long as the program's segments."""

    def __init__(self, dump: Dump, fault: type[Exception]):
        self._vmcore = dump.vmcore
        self._fault = fault

    def read(self, start: int, address: int, count: int, offset: int, _physical: bool) -> bytes:  # noqa: FBT001 - drgn calls it
        """Of the PT_LOAD at *start* of vmcore, *count* bytes at *offset*; *address* is what drgn asked for."""
        try:
            return self._vmcore.pread(count, start + offset)
        except OldmemReadError as error:
            raise self._fault(str(error), address + error.good) from None


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """A path by which a file without a name can be opened; drgn closes what it opened itself."""
    fd = os.memfd_create("vmcore-header", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _load(found: drgn.Program, files: list[Path], vmcoreinfo: Vmcoreinfo) -> None:
    """Of what it cannot use, or what belongs to another kernel, drgn only warns."""
    for file in files:
        try:
            os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise ImageError(f"{printable(file)}: cannot be opened: {system_reason(error)}") from error
    found.load_debug_info([os.fspath(file) for file in files])
    try:
        good = not found.main_module().wants_debug_file()
    except LookupError:  # none of the files is ELF: drgn has not looked for modules then
        good = False
    if not good:
        build_id = re.fullmatch(r"[0-9a-f]{8,64}", vmcoreinfo.fields.get("BUILD-ID", ""))
        raise ImageError(f"{printable(files[0])}: not the vmlinux with debug information of the crashed kernel "
                         f"{vmcoreinfo.osrelease}{f' (build ID {build_id[0]})' if build_id else ''}")
