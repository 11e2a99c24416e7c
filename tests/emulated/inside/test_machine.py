"""That these tests run where test_adapter.py says."""

from __future__ import annotations

import os
import platform
import sys

BYTE_ORDER = {"x86_64": "little", "aarch64": "little", "s390x": "big"}


def test_the_machine() -> None:
    wanted = os.environ.get("VMCOREFS_EMULATED_MACHINE", platform.machine())
    assert platform.machine() == wanted
    assert sys.byteorder == BYTE_ORDER.get(wanted, sys.byteorder)
