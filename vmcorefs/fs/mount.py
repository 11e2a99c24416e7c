"""mount(): all checks, the fork, the pipe that says ready. Nothing is found out after the fork that could be known before."""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vmcorefs.errors import SystemLacksError, VmcorefsError, printable, system_reason
from vmcorefs.fs.backends import Chosen, choose_backend
from vmcorefs.fs.descriptors import close_other_fds
from vmcorefs.fs.mountpoint import check_mountpoint
from vmcorefs.fs.mounts import answers, find_mount
from vmcorefs.fs.operations import Operations
from vmcorefs.fs.record import Record, remove_record, start_time, write_record
from vmcorefs.fs.tree import Tree

log = logging.getLogger("vmcorefs.fs")

_DEVICE = "/dev/fuse"
_READY_TIMEOUT = 60.0
_ANSWER_TIMEOUT = 20.0
_CACHE_SECONDS = 86400.0  # the files never change
IO_MODES = ("auto", "direct", "cached")


@dataclass(frozen=True)
class MountOptions:
    """How to mount: *sources* are the files served (paths, not to be covered), *keep_fds* their descriptors."""

    source: str
    foreground: bool = False
    io: str = "auto"
    backend: str = "auto"
    sources: list[str] = field(default_factory=list)
    keep_fds: list[int] = field(default_factory=list)
    capture: dict[str, Any] = field(default_factory=dict)


def mount(tree: Tree, mountpoint: str, options: MountOptions, probe: str) -> None:
    """Mount *tree*; returns when the mount answers a stat of the file *probe* (background), or after the unmount
    (foreground). Raises MountpointError, SystemLacksError.
    """
    where = check_mountpoint(mountpoint, options.sources)
    _check_device()
    chosen = choose_backend(options.backend)
    _check_fusermount(chosen)
    operations = Operations(tree, direct_io=options.io != "cached")
    session = _Session(where, options, chosen, operations, probe)
    if options.foreground:
        session.run(lambda: None)
    else:
        _run_in_background(session)


def _check_device() -> None:
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise SystemLacksError(f"{_DEVICE} does not exist; load the module (modprobe fuse), or give it to the container "
                               "(--device /dev/fuse)") from None
    except OSError as error:
        raise SystemLacksError(f"{_DEVICE} cannot be opened: {system_reason(error)}; run as root, or have it made "
                               f"accessible (chmod 666 {_DEVICE})") from error


def _check_fusermount(chosen: Chosen) -> None:
    if os.geteuid() == 0:
        return
    program = "fusermount3" if chosen.library.major == 3 else "fusermount"
    if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/bin:/bin") is None:
        package = "fuse3" if chosen.library.major == 3 else "fuse"
        raise SystemLacksError(f"{program} is not installed, which a user other than root needs to mount; "
                               f"install it (apt-get install {package}), or run as root")


class _Session:
    """One mount from fuse_main to its end."""

    def __init__(self, where: str, options: MountOptions, chosen: Chosen, operations: Operations, probe: str):
        self.where = where
        self.options = options
        self.chosen = chosen
        self.operations = operations
        self.probe = probe
        self.ready = False
        self._record: str | None = None

    def run(self, on_ready: Callable[[], None]) -> None:
        """Mount and serve until unmounted. *on_ready* is called when the kernel's INIT was answered."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # libfuse takes over only signals that nobody else handles or ignores
        messages = _Stderr()

        def ready() -> None:
            messages.restore()
            self.ready = True
            self._write_record()
            on_ready()
            for late in self.operations.tree.late.values():
                late.start(self.options.keep_fds)

        try:
            self.chosen.module.run_mount(self.chosen.binding, self.operations, _latin1(self.where), self._fuse_options(), ready)
        except RuntimeError as error:
            if not self.ready:
                raise self._refused(messages.restore(), error) from error
            if find_mount(self.where) is not None:
                raise SystemLacksError(f"{printable(self.where)}: libfuse ended with status {error}") from error
        finally:
            messages.restore()
            for late in self.operations.tree.late.values():
                late.stop()
            remove_record(self._record)

    def _fuse_options(self) -> dict[str, Any]:
        return {
            "fsname": _latin1(self.options.source).replace("\\", "\\\\").replace(",", "\\,"),
            "subtype": "vmcorefs",
            "ro": True,
            "attr_timeout": _CACHE_SECONDS,
            "entry_timeout": _CACHE_SECONDS,
        }

    def _write_record(self) -> None:
        entry = find_mount(self.where)
        pid = os.getpid()
        started = start_time(pid)
        if entry is not None and started is not None:
            self._record = write_record(Record(pid, started, self.where, entry.device, self.options.capture))

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


def _latin1(path: str) -> str:
    """The bindings encode what they get as latin-1, so that every byte of a path comes through."""
    return os.fsencode(path).decode("latin-1")


def _run_in_background(session: _Session) -> None:
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _daemon(session, write_end)
    os.close(write_end)
    try:
        word = _read_all(read_end, _READY_TIMEOUT)
    finally:
        os.close(read_end)
    where = printable(session.where)
    if word == "ready":
        code = answers(os.path.join(session.where, session.probe), _ANSWER_TIMEOUT)
        if code == 0:
            return
        said = "does not answer" if code is None else os.strerror(code)
        raise SystemLacksError(f"{where}: mounted, but a stat of {session.probe} failed: {said}; see: vmcorefs umount {where}")
    with suppress(OSError):
        os.kill(pid, signal.SIGTERM)
    if word is None:
        raise SystemLacksError(f"{where}: the mount was not ready within {_READY_TIMEOUT:.0f} seconds")
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    raise SystemLacksError(word or f"{where}: the daemon ended before the mount was ready")


def _read_all(descriptor: int, timeout: float) -> str | None:
    data = b""
    while select.select([descriptor], [], [], timeout)[0]:
        piece = os.read(descriptor, 65536)
        if not piece:
            return data.decode("utf-8", "replace")
        data += piece
    return None


def _daemon(session: _Session, write_end: int) -> None:
    """The child: never returns. Its last words before ready go through the pipe, later ones to the log."""
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        close_other_fds({0, 1, 2, write_end, *session.options.keep_fds})

        def ready() -> None:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.close(null)
            _log_to_syslog()
            os.write(write_end, b"ready")
            os.close(write_end)

        session.run(ready)
        status = 0
    except VmcorefsError as error:
        _last_words(session, write_end, str(error))
    except BaseException as error:  # noqa: BLE001 - the last line of defence of a process that has no terminal
        _last_words(session, write_end, f"internal error: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _last_words(session: _Session, write_end: int, text: str) -> None:
    if session.ready:
        log.error("%s", text)
    else:
        with suppress(OSError):
            os.write(write_end, text.encode("utf-8", "replace"))


def _log_to_syslog() -> None:
    root = logging.getLogger("vmcorefs")
    for handler in list(root.handlers):
        root.removeHandler(handler)
    if os.path.exists("/dev/log"):
        from logging.handlers import SysLogHandler  # brings socket and more; not on the way to the first byte

        with suppress(OSError):
            handler = SysLogHandler("/dev/log", facility=SysLogHandler.LOG_DAEMON)
            handler.setFormatter(logging.Formatter(f"vmcorefs[{os.getpid()}]: %(message)s"))
            root.addHandler(handler)
            return
    root.addHandler(logging.NullHandler())
