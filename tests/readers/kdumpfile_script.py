"""What libkdumpfile finds in a dump, as JSON; run by the Python that has it, which need not be the one that tests.

usage: kdumpfile_script.py DUMP ADDRESS...     pages at physical addresses; null where the dump has none
"""

from __future__ import annotations

import json
import sys
from typing import Any

import kdumpfile
from kdumpfile.exceptions import NoDataException


def page(dump: Any, address: int) -> str | None:
    try:
        return bytes(dump.read(kdumpfile.KDUMP_KPHYSADDR, address, 4096)).hex()
    except NoDataException:
        return None


def main() -> None:
    path, *addresses = sys.argv[1:]
    dump = kdumpfile.kdumpfile(path)
    attr = dump.attr
    cpus = attr["cpu.number"] if "cpu" in attr else 0
    dump.attr["addrxlat.ostype"] = "linux"
    uts = dump.read(kdumpfile.KDUMP_KVADDR, attr["linux.vmcoreinfo.SYMBOL.init_uts_ns"], 6 * 65)
    json.dump({
        "arch": attr["arch.name"],
        "big endian": attr["arch.byte_order"] == 0,
        "format": attr["file.format"],
        "release": attr["linux.uts.release"],
        "version": attr["linux.version_code"],
        "max_pfn": attr["max_pfn"],
        "vmcoreinfo": bytes(memoryview(attr["linux.vmcoreinfo.raw"])).decode("ascii"),
        "pids": [attr[f"cpu.{cpu}.pid"] for cpu in range(cpus)],
        "psw": [attr[f"cpu.{cpu}.reg.pswa"] for cpu in range(cpus)],
        "uts": [field.rstrip(b"\0").decode("ascii") for field in (bytes(uts[at:at + 65]) for at in range(0, 6 * 65, 65))],
        "pages": {address: page(dump, int(address, 0)) for address in addresses},
    }, sys.stdout)


if __name__ == "__main__":
    main()
