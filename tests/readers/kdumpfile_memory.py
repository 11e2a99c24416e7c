"""All memory of dumps as libkdumpfile sees it, as JSON; run by the Python that has it, which need not be the one that tests.

usage: kdumpfile_memory.py DUMP...     several: the parts of one dump
Pages by address: the beginning of their SHA-256; null where the dump has none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

import kdumpfile
from kdumpfile.exceptions import AddressTranslationException, KDumpBaseException, NoDataException

PAGE = 4096


def main() -> None:
    descriptors = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
    dump: Any = kdumpfile.kdumpfile(descriptors if len(descriptors) > 1 else sys.argv[1])
    attr = dump.attr
    pages: dict[str, str | None] = {}
    for pfn in range(attr["max_pfn"]):
        try:
            data = bytes(dump.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn * PAGE, PAGE))
            pages[str(pfn * PAGE)] = hashlib.sha256(data).hexdigest()[:32]
        except (NoDataException, AddressTranslationException):
            pages[str(pfn * PAGE)] = None
        except KDumpBaseException as error:
            pages[str(pfn * PAGE)] = f"error {error}"
    count = attr["cpu.number"] if "cpu" in attr and "number" in attr["cpu"] else 0
    json.dump({"format": attr["file.format"], "pages": pages,
               "prstatus": [bytes(memoryview(attr[f"cpu.{cpu}.PRSTATUS"])).hex() for cpu in range(count)]}, sys.stdout)


if __name__ == "__main__":
    main()
