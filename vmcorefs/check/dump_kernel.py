"""Our header region against what the dump kernel itself had built, where that still lies in its memory."""

from __future__ import annotations

from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.oldmem.raw import raw_scan
from vmcorefs.quantities import PAGE_SIZE
from vmcorefs.vmcore.notes import prpsinfo


def check_dump_kernel_header(dump: Dump) -> Finding:
    """Ehdr and Phdrs against elfcorebuf."""
    if not dump.mode.dump_kernel_limit:
        return Finding("none", "no dump kernel ran")
    if not dump.finished_headers:
        return Finding("none", "the dump kernel's finished header is not in the image")
    for header in dump.finished_headers:
        if dump.merged.header[:len(header.data)] == header.data:
            return Finding("ok", f"equal, byte for byte, to the dump kernel's finished header at image offset {header.offset:#x}")
    header = dump.finished_header or dump.finished_headers[0]
    at = _first_difference(dump.merged.header, header.data)
    return Finding("failed", f"differs from the dump kernel's finished header at image offset {header.offset:#x}, first at byte "
                   f"{at:#x} of the file; options such as --layout or --memory-range, or damage, are the likely cause")


def check_dump_kernel_notes(dump: Dump) -> Finding:
    """Every page of our notes must be found, page aligned, in the dump kernel's memory (elfnotes_buf is vmalloc memory)."""
    if not dump.mode.dump_kernel_limit:
        return Finding("none", "no dump kernel ran")
    offset = dump.merged.phdrs[0].p_offset
    ours = [dump.merged.header[at:at + PAGE_SIZE] for at in range(offset, len(dump.merged.header), PAGE_SIZE)]
    first = prpsinfo()
    wanted, found, candidates = set(ours), set(), []
    for start, data in raw_scan(dump.image)(0, min(dump.mode.dump_kernel_limit, dump.image.size), 0):
        for at in range(-start % PAGE_SIZE, len(data) - PAGE_SIZE + 1, PAGE_SIZE):
            page = data[at:at + PAGE_SIZE]
            if page in wanted:
                found.add(page)
            elif page.startswith(first):
                candidates.append(start + at)
    missing = [i for i, page in enumerate(ours) if page not in found]
    if not missing:
        return Finding("ok", f"all {len(ours)} page(s) of the notes are found in the dump kernel's memory")
    if len(missing) == len(ours) and not candidates:
        return Finding("none", "the dump kernel's notes are not in the image")
    if 0 in missing and candidates:
        where = ", ".join(hex(c) for c in candidates[:4])
        return Finding("failed", f"{len(missing)} of {len(ours)} page(s) of the notes differ from the dump kernel's (its first "
                       f"page is at image offset {where})")
    return Finding("failed", f"page(s) {', '.join(str(i) for i in missing)} of {len(ours)} of the notes are not found in the dump "
                   "kernel's memory")


def _first_difference(ours: bytes, theirs: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
