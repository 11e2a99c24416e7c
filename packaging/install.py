"""install.py install|uninstall: what make install and make uninstall do. The folders come by the environment, see install.mk.

One table says what goes where; uninstall removes just that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("bindir", "mounthelperdir", "pkglibdir", "sysconfdir", "mandir", "docdir", "unitdir", "bashdir", "zshdir", "fishdir")
MOUNT_LOOKS = ("/sbin", "/usr/sbin")  # mount(8): /sbin, /sbin/fs.d and /sbin/fs
SYSTEMD_LOOKS = ("/usr/lib/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system")


@dataclass(frozen=True)
class Item:
    """A file to install: from *source*, or with these bytes, or a link to *link*."""

    target: str
    source: Path | None = None
    mode: int = 0o644
    data: bytes | None = None
    link: str | None = None


def fail(text: str) -> SystemExit:
    """What ends the program with one line."""
    return SystemExit(f"make install: {text}")


def settings() -> dict[str, str]:
    """The folders; absolute, without ".."."""
    found = {}
    for name in FOLDERS:
        value = os.environ.get(name, "")
        if not value.startswith("/") or ".." in value.split("/"):
            raise fail(f"{name} is {value!r}; an absolute path is needed")
        found[name] = os.path.normpath(value)
    for name in ("pkglibdir", "docdir"):  # both are removed as a whole
        if os.path.basename(found[name]) != "vmcorefs":
            raise fail(f"{name} is {found[name]}; its last part must be vmcorefs, since it is removed as a whole")
    return found


def items(where: dict[str, str], carried: Path, interpreter: str) -> Iterator[Item]:
    """Everything that is installed."""
    launcher = program(where["pkglibdir"], interpreter)
    yield Item(f"{where['bindir']}/vmcorefs", mode=0o755, data=launcher)
    yield Item(f"{where['mounthelperdir']}/mount.vmcorefs", mode=0o755, data=launcher)
    yield Item(f"{where['mounthelperdir']}/mount.fuse.vmcorefs", link="mount.vmcorefs")
    for base, folder in ((ROOT, ROOT / "vmcorefs"), (carried / "python", carried / "python")):
        for path in some(folder, "**/*.py"):
            yield Item(f"{where['pkglibdir']}/{path.relative_to(base)}", path)
    for path in some(ROOT / "man", "*.[1-8]"):
        yield Item(f"{where['mandir']}/man{path.suffix[1:]}/{path.name}", path)
    yield Item(f"{where['mandir']}/man8/mount.fuse.vmcorefs.8", link="mount.vmcorefs.8")
    for name, folder_name in (("vmcorefs", "bashdir"), ("_vmcorefs", "zshdir"), ("vmcorefs.fish", "fishdir")):
        yield Item(f"{where[folder_name]}/{name}", ROOT / "completions" / name)
    yield from units(where)
    for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"):
        yield Item(f"{where['docdir']}/{name}", ROOT / name)
    for path in some(ROOT / "docs", "*.*"):
        yield Item(f"{where['docdir']}/docs/{path.name}", path)
    for path in some(carried / "licences", "*.txt"):
        yield Item(f"{where['docdir']}/licences/{path.name}", path)
    yield Item(f"{where['docdir']}/examples/capture.toml", ROOT / "packaging" / "capture.toml")
    for path in some(ROOT / "examples", "*"):
        yield Item(f"{where['docdir']}/examples/{path.name}", mode=0o755 if os.access(path, os.X_OK) else 0o644, data=in_etc(path, where))


def units(where: dict[str, str]) -> Iterator[Item]:
    """Template units go where systemd looks; units for one mount point are examples."""
    for path in some(ROOT / "systemd", "*"):
        template = path.suffix == ".service"
        target = f"{where['unitdir']}/{path.name}" if template else f"{where['docdir']}/examples/{path.name}"
        yield Item(target, data=in_etc(path, where))


def in_etc(path: Path, where: dict[str, str]) -> bytes:
    """A file that names the folder of the capture files, for this place."""
    return path.read_bytes().replace(b"/etc/vmcorefs", os.fsencode(where["sysconfdir"]) + b"/vmcorefs")


def some(folder: Path, pattern: str) -> list[Path]:
    """The files; it is an error if there are none."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        raise fail(f"there is no {folder}/{pattern}")
    return found


def program(libraries: str, interpreter: str) -> bytes:
    """The launcher for this place. Isolated: PYTHONPATH and the user's own packages do not count."""
    text = (ROOT / "packaging" / "launcher.py").read_text(encoding="utf-8")
    assert text.count("LIBRARIES = None") == 1
    return f"#!{interpreter} -IB\n{text.replace('LIBRARIES = None', f'LIBRARIES = {libraries!r}')}".encode()


def below(destdir: str, path: str) -> Path:
    """The place that is written to."""
    return Path(destdir + path)


def install(where: dict[str, str], everything: list[Item], destdir: str) -> None:
    """Copy; modes do not depend on the umask. What an older version left in the private folder goes first."""
    os.umask(0o022)
    shutil.rmtree(below(destdir, where["pkglibdir"]), ignore_errors=True)
    for item in everything:
        path = below(destdir, item.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()  # one that is running, or a link
        if item.link is not None:
            path.symlink_to(item.link)
            continue
        path.write_bytes(item.data if item.source is None else item.source.read_bytes())  # type: ignore[arg-type]
        path.chmod(item.mode)
    below(destdir, where["sysconfdir"] + "/vmcorefs").mkdir(parents=True, exist_ok=True)


def uninstall(where: dict[str, str], everything: list[Item], destdir: str) -> None:
    """Remove what install made; capture files that people keep in /etc/vmcorefs stay, and so does a folder that is not empty."""
    for item in everything:
        with suppress(FileNotFoundError):
            below(destdir, item.target).unlink()
    for name in ("pkglibdir", "docdir"):
        shutil.rmtree(below(destdir, where[name]), ignore_errors=True)
    with suppress(OSError):
        below(destdir, where["sysconfdir"] + "/vmcorefs").rmdir()


def notes(where: dict[str, str]) -> Iterator[str]:
    """What will not work by itself in these folders."""
    if where["mounthelperdir"] not in MOUNT_LOOKS:
        yield (f"mount(8) looks for helpers in /sbin only; for mount -t vmcorefs and /etc/fstab, as root: "
               f"ln -s {where['mounthelperdir']}/mount.vmcorefs /sbin/")
    if where["unitdir"] not in SYSTEMD_LOOKS:
        yield f"systemd does not look into {where['unitdir']}; link the unit: systemctl link {where['unitdir']}/vmcorefs@.service"


def main() -> int:
    """The program."""
    action, destdir = sys.argv[1], os.environ.get("DESTDIR", "").rstrip("/")
    interpreter = os.environ["INTERPRETER"]
    if not interpreter.startswith("/") or any(character.isspace() for character in interpreter):
        raise fail(f"INTERPRETER is {interpreter!r}; an absolute path without spaces is needed")
    where = settings()
    everything = list(items(where, Path(os.environ["CARRIED"]), interpreter))
    try:
        (install if action == "install" else uninstall)(where, everything, destdir)
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}") from None
    if action == "install" and not destdir:
        for note in notes(where):
            print(f"note: {note}")
        subprocess.run([interpreter, "-m", "compileall", "-q", where["pkglibdir"]], check=False)
        return subprocess.run([f"{where['bindir']}/vmcorefs", "--version"], check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
