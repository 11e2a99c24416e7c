"""Machines with names and a log, for the tests of info."""

from __future__ import annotations

from pathlib import Path

import vmcorefs
from tests.builders import Built, Machine
from tests.builders.printk import RecordLog, Ring
from vmcorefs.report.info import Info

LOG_AT = 0x300000  # above the crashkernel area
NAMES_AT = 0x380000
MIB = 1 << 20

PANIC = (b"Linux version 6.1.0", b"sysrq: Trigger a crash", b"Kernel panic - not syncing: sysrq triggered crash",
         b"CPU: 1 PID: 136 Comm: sh Kdump: loaded Not tainted 6.1.0 #1 ", b"Hardware name: IBM 3931 A01 704 (LPAR)", b"Call Trace:",
         b" [<0000000000372d6a>] dump_stack_lvl+0x62/0x80 ", b" [<000000000036baf6>] panic+0x116/0x2e8 ",
         b" [<00000000002f0b92>] sysrq_handle_crash+0x22/0x28 ", b" [<00000000002f1278>] __handle_sysrq+0x98/0x198 ")


def ring(*texts: bytes, size_bits: int = 14, count_bits: int = 7) -> Ring:
    log = Ring(count_bits=count_bits, size_bits=size_bits)
    for number, text in enumerate(texts):
        log.log(text, (number + 1) * 1_000_000_000)
    return log


def utsname(*names: bytes) -> bytes:
    return b"".join(name.ljust(65, b"\0") for name in names)


NAMES = utsname(b"Linux", b"mainframe7", b"6.1.0", b"#1 SMP Wed Nov 25", b"s390x", b"(none)")


def with_log(directory: Path, log: Ring | RecordLog, names: bytes = NAMES, vmcoreinfo: str = "", **machine: object) -> Built:
    placed = log.place(LOG_AT)
    text = f"{placed.lines}SYMBOL(init_uts_ns)={NAMES_AT:x}\nOFFSET(uts_namespace.name)=4\n{vmcoreinfo}"
    built = Machine(vmcoreinfo=text, **machine).build(directory)  # type: ignore[arg-type]
    for address, data in placed.pieces:
        built.poke_old(address, data)
    built.poke_old(NAMES_AT + 4, names)
    return built


def info_of(built: Built, **options: object) -> Info:
    with vmcorefs.open(built.image, hsa=built.hsa, **options) as dump:
        info = dump.info()
    assert isinstance(info, Info)
    return info
