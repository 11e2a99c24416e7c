"""mount(): all checks, the fork, the pipe that says ready. Nothing is found out after the fork that could be known before."""

from __future__ import annotations

import errno
import logging
import os
import select
import shutil
import signal
import sys
from contextlib import ExitStack, suppress

from vmcorefs.errors import SystemLacksError, VmcorefsError, printable, system_reason
from vmcorefs.fs.backends import Chosen, choose_backend
from vmcorefs.fs.descriptors import close_other_fds
from vmcorefs.fs.mountpoint import Claim, check_mountpoint
from vmcorefs.fs.operations import Operations
from vmcorefs.fs.pidfile import PidFile
from vmcorefs.fs.session import MountOptions, Session
from vmcorefs.fs.tree import Tree
from vmcorefs.fs.watcher import SIGNALS

log = logging.getLogger("vmcorefs.fs")

_DEVICE = "/dev/fuse"
_READY_TIMEOUT = 60.0
IO_MODES = ("auto", "direct", "cached")


def mount(tree: Tree, mountpoint: str, options: MountOptions, *, fake: bool = False) -> None:
    """Mount *tree*; returns when the mount answers a stat of the file *options.probe* (background), or after the unmount
    (foreground); with *fake* after all checks, without a mount. Raises MountpointError, SystemLacksError.
    """
    options.access.check()
    where = check_mountpoint(mountpoint, options.sources, stale="accept" if options.replace_stale else "refuse",
                             nonempty=options.nonempty)
    _check_device()
    chosen = choose_backend(options.backend)
    _check_fusermount(chosen)
    pidfile = PidFile(options.pidfile) if options.pidfile is not None else None
    try:
        if fake:
            return
        with ExitStack() as claims:
            if options.replace_stale:
                # A dead mount cannot be locked; of two who replace it at the same time the second must see the first one's mount.
                claims.callback(Claim(os.path.dirname(where)).release)
                check_mountpoint(mountpoint, options.sources, stale="clear", nonempty=options.nonempty)
            claims.callback(Claim(where).release)
            check_mountpoint(mountpoint, options.sources, nonempty=options.nonempty)
            session = Session(where, options, chosen, Operations(tree, direct_io=options.io != "cached"), pidfile)
            if options.foreground:
                session.run(claims.close)
            else:
                _run_in_background(session, pidfile)
                pidfile = None
    finally:
        if pidfile is not None:
            pidfile.give_up()


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


def _run_in_background(session: Session, pidfile: PidFile | None) -> None:
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Python forgets what arrives in a child before that is set up
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _daemon(session, write_end, {pidfile.fd} if pidfile is not None else set())
    os.close(write_end)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        word = _read_all(read_end, _READY_TIMEOUT)
    except BaseException:  # Ctrl-C: no mount may come up behind the back of somebody who has given up
        os.kill(pid, signal.SIGTERM)
        raise
    finally:
        os.close(read_end)
    if word == "ready":
        return
    with suppress(OSError):
        os.kill(pid, signal.SIGTERM)
    where = printable(session.where)
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


def _daemon(session: Session, write_end: int, keep: set[int]) -> None:
    """The child: never returns. Its last words before ready go through the pipe, later ones to the log."""
    status = 1
    try:
        os.chdir("/")
        close_other_fds({0, 1, 2, write_end, *keep, *session.options.keep_fds})

        def ready() -> None:
            # Not before: autofs keeps all processes waiting until the mount is there, but for those of the group that mounts
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.close(null)
            _log_to_syslog()
            try:
                os.write(write_end, b"ready")
            except BrokenPipeError:
                raise BrokenPipeError(errno.EPIPE, "whoever asked for it is no longer there") from None
            os.close(write_end)

        session.run(ready)
        status = 0
    except VmcorefsError as error:
        _last_words(session, write_end, str(error))
    except BaseException as error:  # noqa: BLE001 - the last line of defence of a process that has no terminal
        _last_words(session, write_end, f"internal error: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _last_words(session: Session, write_end: int, text: str) -> None:
    if session.answered:
        log.error("%s", text)
    else:
        with suppress(OSError):
            os.write(write_end, text.encode("utf-8", "replace"))


def _log_to_syslog() -> None:
    from vmcorefs.fs.syslog import Syslog  # brings socket; not on the way to the first byte

    logging.getLogger("vmcorefs").handlers[:] = [Syslog()]
