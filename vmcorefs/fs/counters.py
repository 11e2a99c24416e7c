"""Counters of a mount: how many reads were answered, with how many bytes, and how many failed.

They stand in a small file beside the mount's record, which the daemon has mapped: counting costs no system call, and what
was counted outlives a daemon that was killed.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from typing import NamedTuple

# Native byte order: the file is read on the host that wrote it.
#        offset  field
#        0       magic
#        8       reads     requests that were answered with bytes
#        16      bytes     in them
#        24      errors    requests that were answered with an error
_FORM = struct.Struct("=8sQQQ")
_MAGIC = b"vmcoreN1"
_FILE_SIZE = 4096  # written whole at the start, so that a full file system cannot end the daemon by SIGBUS later


class Counts(NamedTuple):
    """What was counted so far."""

    reads: int = 0
    bytes: int = 0
    errors: int = 0

    def __str__(self) -> str:
        return f"{self.reads} reads, {self.bytes} bytes, {self.errors} errors"


class Counters:
    """Counting. Used by the thread that serves the mount; :meth:`counts` by any."""

    def __init__(self) -> None:
        self._reads = self._bytes = self._errors = 0
        self._memory: mmap.mmap | bytearray = bytearray(_FORM.size)

    def add(self, count: int) -> None:
        """A read was answered with *count* bytes, or with an error (*count* < 0)."""
        if count < 0:
            self._errors += 1
        else:
            self._reads += 1
            self._bytes += count
        _FORM.pack_into(self._memory, 0, _MAGIC, self._reads, self._bytes, self._errors)

    def counts(self) -> Counts:
        """What was counted so far."""
        return Counts(self._reads, self._bytes, self._errors)

    def keep_in(self, descriptor: int) -> None:
        """Go on counting in the file *descriptor*, which is empty and writable. Raises OSError."""
        os.pwrite(descriptor, bytes(_FILE_SIZE), 0)
        memory = mmap.mmap(descriptor, _FILE_SIZE)
        _FORM.pack_into(memory, 0, _MAGIC, *self.counts())
        self._memory = memory


def read_counts(descriptor: int) -> Counts | None:
    """What a daemon counted in the file *descriptor*; None if it is no such file. Raises OSError."""
    data = os.pread(descriptor, _FORM.size, 0)
    with suppress(struct.error):
        magic, *counted = _FORM.unpack(data)
        return Counts(*counted) if magic == _MAGIC else None
    return None
