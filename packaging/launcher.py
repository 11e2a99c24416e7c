"""Starts vmcorefs: as the program that make install puts in place, and as __main__.py of vmcorefs.pyz.

Called as mount.vmcorefs or mount.fuse.vmcorefs it is mount(8)'s helper. An old Python reads this file, too, and must be able to
say that it is old: nothing here may be newer than Python 2.7.
"""

import os
import sys

LIBRARIES = None  # make install writes the private folder here; vmcorefs.pyz is on the path itself
OLDEST = (3, 11)
FOLDERS = ("/usr/bin", "/usr/local/bin")
HELPERS = ("mount.vmcorefs", "mount.fuse.vmcorefs")


def newer_python(folders):
    # type: (tuple[str, ...]) -> str | None
    """The newest python3.N in *folders* that is new enough, None where there is none."""
    for minor in range(29, OLDEST[1] - 1, -1):
        for folder in folders:
            path = os.path.join(folder, "python%d.%d" % (OLDEST[0], minor))
            if os.access(path, os.X_OK):
                return path
    return None


def start(argv, folders=FOLDERS):
    # type: (list[str], tuple[str, ...]) -> int
    """Runs the program; returns the exit status."""
    helper = os.path.basename(argv[0]) in HELPERS
    if sys.version_info < OLDEST:
        newer = newer_python(folders)
        if newer:
            os.execv(newer, [newer] + (["-IB"] if LIBRARIES else []) + argv)
        sys.stderr.write("vmcorefs: error: {0} is Python {1}.{2}, and {3}.{4} or later is needed; install it (the old one can stay), "
                         "or run: python{3}.{4} {5}\n".format(sys.executable, sys.version_info[0], sys.version_info[1],
                                                              OLDEST[0], OLDEST[1], argv[0]))
        return 2 if helper else 3
    if LIBRARIES:
        sys.path.insert(0, LIBRARIES)
    from vmcorefs.__main__ import mount_helper, program

    return mount_helper() if helper else program()


if __name__ == "__main__":
    sys.exit(start(sys.argv))
