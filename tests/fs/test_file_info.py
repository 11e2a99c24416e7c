"""struct fuse_file_info as the bindings declare it, where the callbacks touch it, against C.

libfuse's own headers where they are installed, else copies of the public structure of libfuse 2.9 and 3.14.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fs.compiled import c_numbers
from tests.mounts.mounting import LIBRARIES, skip_or_fail, why_no_backend

FUSE_2 = """
#include <stdint.h>
struct fuse_file_info {
    int flags;
    unsigned long fh_old;
    int writepage;
    unsigned int direct_io : 1;
    unsigned int keep_cache : 1;
    unsigned int flush : 1;
    unsigned int nonseekable : 1;
    unsigned int flock_release : 1;
    unsigned int padding : 27;
    uint64_t fh;
    uint64_t lock_owner;
};
"""
FUSE_3 = """
#include <stdint.h>
struct fuse_file_info {
    int flags;
    unsigned int writepage : 1;
    unsigned int direct_io : 1;
    unsigned int keep_cache : 1;
    unsigned int flush : 1;
    unsigned int nonseekable : 1;
    unsigned int flock_release : 1;
    unsigned int cache_readdir : 1;
    unsigned int noflush : 1;
    unsigned int padding : 24;
    unsigned int padding2 : 32;
    uint64_t fh;
    uint64_t lock_owner;
    uint32_t poll_events;
};
"""
HEADERS = {
    "mfusepy": ("#define FUSE_USE_VERSION 31\n#include <fuse3/fuse.h>\n", Path("/usr/include/fuse3/fuse.h"), FUSE_3),
    "fusepy": ("#define FUSE_USE_VERSION 29\n#include <fuse/fuse.h>\n", Path("/usr/include/fuse/fuse.h"), FUSE_2),
}

# a bit field has no offset: what a set bit does to the structure's bytes tells where it is
BITS = """
static long bytes_of(struct fuse_file_info info) {
    const unsigned char *byte = (const unsigned char *)&info;
    for (unsigned at = 0; at < sizeof info; at++)
        if (byte[at])
            return at * 256L + byte[at];
    return -1;
}
"""
EXPRESSIONS = {
    "flags": "offsetof(struct fuse_file_info, flags)",
    "fh": "offsetof(struct fuse_file_info, fh)",
    "lock_owner": "offsetof(struct fuse_file_info, lock_owner)",
    "direct_io": "bytes_of((struct fuse_file_info){ .direct_io = 1 })",
    "keep_cache": "bytes_of((struct fuse_file_info){ .keep_cache = 1 })",
}

# each binding in a process of its own: both keep the first libfuse that they load
DECLARED = """
import ctypes, importlib, json, sys, warnings
warnings.simplefilter("ignore")
info = importlib.import_module(sys.argv[1]).fuse_file_info
def bit(name):
    one = info()
    setattr(one, name, 1)
    return next(at * 256 + byte for at, byte in enumerate(bytes(one)) if byte)
found = {name: getattr(info, name).offset for name in ("flags", "fh", "lock_owner")}
print(json.dumps(found | {name: bit(name) for name in ("direct_io", "keep_cache")}))
"""


def declared(binding: str, libraries: tuple[str, ...]) -> dict[str, int]:
    module = {"mfusepy": "mfusepy", "fusepy": "fuse"}[binding]
    for library in libraries:
        done = subprocess.run([sys.executable, "-c", DECLARED, module], capture_output=True, check=False,
                              env=os.environ | {"FUSE_LIBRARY_PATH": library})
        if done.returncode == 0:
            found: dict[str, int] = json.loads(done.stdout)
            return found
    raise AssertionError(done.stderr)


@pytest.mark.parametrize(("binding", "library_of"), [("mfusepy", "mfusepy"), ("fusepy", "fusepy"), ("mfusepy", "fusepy")])
def test_the_fields_we_use(binding: str, library_of: str, tmp_path: Path) -> None:
    """mfusepy with libfuse 2 as well."""
    reason = why_no_backend(library_of)
    if reason:
        skip_or_fail(reason)
    include, header, copy = HEADERS[library_of]
    heads = [copy, include] if header.exists() else [copy]
    for head in heads:
        flags = ["-D_FILE_OFFSET_BITS=64", f"-I{header.parent}"]
        assert declared(binding, LIBRARIES[library_of]) == c_numbers(tmp_path, head + BITS, EXPRESSIONS, *flags)
