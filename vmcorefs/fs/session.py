"""Session: one mount in the process that serves it, from fuse_main to its end."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmcorefs.errors import SystemLacksError, VmcorefsError, printable, system_reason
from vmcorefs.fs.access import Access
from vmcorefs.fs.backends import Chosen
from vmcorefs.fs.mounts import find_mount
from vmcorefs.fs.notify import ServiceManager
from vmcorefs.fs.operations import Operations
from vmcorefs.fs.pidfile import PidFile
from vmcorefs.fs.record import Record, remove_record, start_time, write_record
from vmcorefs.fs.watcher import Watcher
from vmcorefs.quantities import human_size

log = logging.getLogger("vmcorefs.fs")

_CACHE_SECONDS = 86400.0  # the files never change


@dataclass(frozen=True)
class MountOptions:
    """How to mount. *probe*: the file that must answer a stat before the mount counts as there. *sources*: paths of the files
    behind it, not to be covered; *keep_fds*: their descriptors. *capture* and *served* go into the record: how to open the
    image again, and what is served in words and numbers. *kernel_options* are handed on to the mount as they are.
    """

    source: str
    probe: str
    foreground: bool = False
    io: str = "auto"
    backend: str = "auto"
    access: Access = field(default_factory=Access)
    replace_stale: bool = False
    nonempty: bool = False
    pidfile: str | None = None
    idle_timeout: float | None = None
    sources: list[str] = field(default_factory=list)
    keep_fds: list[int] = field(default_factory=list)
    capture: dict[str, Any] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)
    kernel_options: dict[str, str | bool] = field(default_factory=dict)


class Session:
    """One mount from fuse_main to its end."""

    def __init__(self, where: str, options: MountOptions, chosen: Chosen, operations: Operations, pidfile: PidFile | None):
        self.where = where
        self.options = options
        self.answered = False
        self._chosen = chosen
        self._operations = operations
        self._pidfile = pidfile
        self._manager = ServiceManager()
        self._watcher = Watcher(operations, where, options.idle_timeout, self._finish)
        self._record: str | None = None
        self._initialised = False
        self._failure: VmcorefsError | None = None

    def run(self, on_answer: Callable[[], None]) -> None:
        """Mount and serve until unmounted. *on_answer* is called, in another thread, when the mount has answered.

        Raises SystemLacksError where it cannot be mounted, or did not answer.
        """
        messages = _Stderr()
        self._watcher.start()

        def initialised() -> None:
            """The kernel's INIT was answered; requests are served as soon as this returns."""
            messages.restore()
            self._initialised = True
            entry = find_mount(self.where)
            try:
                self._write_record(entry.device if entry else None)
                for late in self._operations.tree.late.values():
                    late.start(self.options.keep_fds)
            finally:
                self._watcher.mounted(entry)
            threading.Thread(target=self._announce, args=(on_answer,), name="vmcorefs-announce", daemon=True).start()

        try:
            self._chosen.module.run_mount(self._chosen.binding, self._operations, latin1(self.where), self._fuse_options(), initialised)
        except RuntimeError as error:
            if not self._initialised:
                raise self._refused(messages.restore(), error) from error
        finally:
            messages.restore()
            self._watcher.ended()
        if self._failure is not None:
            raise self._failure
        if not self._watcher.stopping and self._watcher.still_mounted() is not None:
            raise SystemLacksError(f"{printable(self.where)}: the kernel has cut the connection; a dead mount is left, clear it "
                                   f"with: vmcorefs umount {printable(self.where)}")

    def _announce(self, on_answer: Callable[[], None]) -> None:
        """Tell everybody who waits for it that the mount answers; with what it takes to know that, a stat of a file in it."""
        try:
            os.stat(os.path.join(self.where, self.options.probe))
            self._watcher.while_mounted(lambda: self._tell(on_answer))
        except OSError as error:
            if not self._watcher.stopping:
                self._fail(f"mounted, but {printable(error.filename or self.where)}: {system_reason(error)}")

    def _tell(self, on_answer: Callable[[], None]) -> None:
        if self._pidfile is not None:
            self._pidfile.write(os.getpid())
        self.answered = True
        served = self.options.served
        size = f" ({human_size(served['size'])}, {served['mode']} mode)" if "size" in served and "mode" in served else ""
        self._manager.tell(READY=1, STATUS=f"serving {printable(self.options.source)}{size} at {printable(self.where)}",
                           MAINPID=os.getpid())
        on_answer()

    def _fail(self, text: str) -> None:
        self._failure = SystemLacksError(f"{printable(self.where)}: {text}")
        self._watcher.leave()

    def _finish(self) -> None:
        """The mount is at its end; nothing of it may be left but, after a failure, the dead mount itself."""
        if self._initialised:
            self._manager.tell(STOPPING=1)
        remove_record(self._record)
        if self._pidfile is not None:
            self._pidfile.remove()
        for late in self._operations.tree.late.values():
            late.stop()

    def _fuse_options(self) -> dict[str, Any]:
        access = {"allow_other": True, "default_permissions": True} if self.options.access.allow_other else {}
        return {
            "fsname": _escaped(self.options.source),
            "subtype": "vmcorefs",
            "ro": True,
            "attr_timeout": _CACHE_SECONDS,
            "entry_timeout": _CACHE_SECONDS,
            **access,
            **({"nonempty": True} if self.options.nonempty and self._chosen.library.major == 2 else {}),  # libfuse 3 never asks
            **{name: _escaped(value) if isinstance(value, str) else value for name, value in self.options.kernel_options.items()},
        }

    def _write_record(self, device: str | None) -> None:
        pid = os.getpid()
        started = start_time(pid)
        if device is not None and started is not None:
            record = Record(pid, started, self.where, device, self.options.capture, self.options.served, time.time())
            self._record = write_record(record, self._operations.counters)
        if self._record is None:
            log.warning("%s: no record of this mount could be written (below /run/vmcorefs for root, XDG_RUNTIME_DIR for others): umount "
                        "cannot wait for the daemon, list has no figures, info wants the image", printable(self.where))

    def _refused(self, words: str, error: RuntimeError) -> SystemLacksError:
        words = " ".join(words.split()) or f"libfuse ended with status {error}"
        advice = "see the message"
        if "ermission denied" in words or "not permitted" in words:
            advice = ("mounting needs root with CAP_SYS_ADMIN, or a setuid fusermount3; in a container add --cap-add SYS_ADMIN "
                      "--device /dev/fuse")
        return SystemLacksError(f"{printable(self.where)}: the system refused to mount: {printable(words)}; {advice}")


class _Stderr:
    """libfuse and fusermount say on stderr why a mount failed; caught here until it is known whether it did."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the redirection
        self._saved: int | None = os.dup(2)
        os.dup2(self._file.fileno(), 2)

    def restore(self) -> str:
        """Give stderr back; what was said in the meantime. May be called again."""
        if self._saved is None:
            return ""
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._saved = None
        self._file.seek(0)
        words = self._file.read().decode("utf-8", "replace")
        self._file.close()
        return words


def latin1(path: str) -> str:
    """The bindings encode what they get as latin-1, so that every byte of a path comes through."""
    return os.fsencode(path).decode("latin-1")


def _escaped(value: str) -> str:
    """A value for libfuse's option parser, which splits at commas and takes backslashes away."""
    return latin1(value).replace("\\", "\\\\").replace(",", "\\,")
