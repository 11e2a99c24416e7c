"""VMCOREINFO text of a kernel (kernel/crash_core.c, arch/s390/kernel/machine_kexec.c: arch_crash_save_vmcoreinfo)."""

from __future__ import annotations

from .release import version


def vmcoreinfo_text(
    release: str,
    *,
    kernel_offset: int = 0,
    kernel_offset_phys: int = 0,
    identity_base: int = 0,
    lowcore_ptr: int | None = None,
    extra: str = "",
    crash_time: int | None = None,
) -> bytes:
    """`lowcore_ptr` is the symbol's virtual address; None leaves both of its lines out."""
    lines = [f"OSRELEASE={release}", "PAGESIZE=4096", f"SYMBOL(_stext)={kernel_offset + 0x100000:x}"]
    lines += extra.splitlines()
    if lowcore_ptr is not None:
        lines.append(f"SYMBOL(lowcore_ptr)={lowcore_ptr:x}")
    lines.append(f"SYMBOL(high_memory)={kernel_offset + 0x5100:x}")
    if lowcore_ptr is not None:
        lines.append("LENGTH(lowcore_ptr)=512")
    number = version(release)[:2]
    if number >= (5, 15):
        lines += ["SAMODE31=50b000", "EAMODE31=50e000"]
    elif number >= (5, 2):
        lines += ["SDMA=50b000", "EDMA=50e000"]
    if number >= (6, 10):
        lines.append(f"IDENTITYBASE={identity_base:x}")
    if number >= (5, 2):
        lines.append(f"KERNELOFFSET={kernel_offset:x}")
    if number >= (6, 10):
        lines.append(f"KERNELOFFPHYS={kernel_offset_phys:x}")
    if crash_time is not None:
        lines.append(f"CRASHTIME={crash_time}")
    return "".join(line + "\n" for line in lines).encode()
