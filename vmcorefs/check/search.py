"""What was searched for in memory, because the lowcore does not lead to it any more."""

from __future__ import annotations

from vmcorefs.check.finding import Finding
from vmcorefs.dump import Dump
from vmcorefs.quantities import human_size
from vmcorefs.s390 import Absent

_NAMES = {"os_info": "os_info", "vmcoreinfo": "VMCOREINFO"}


def check_search(dump: Dump) -> Finding:
    """Found or not, and why it is believed to be this system's."""
    if not dump.metadata.searched_for:
        return Finding("none", "nothing was searched for", means="the lowcore leads to it, or a container or an option has it", advice="")
    searched = f"(searched: {human_size(dump.search.searched)} from address 0 on)"
    texts = []
    for key, words in dump.metadata.searched_for.items():
        found = dump.os_info if key == "os_info" else dump.metadata.found_vmcoreinfo
        if isinstance(found, Absent):
            texts.append(found.reason if found.reason.startswith(_NAMES[key]) else f"{_NAMES[key]}: {found.reason}")
        else:
            texts.append(f"{_NAMES[key]} at {found.address:#x}: {', '.join(words)}")
    text = f"{'; '.join(texts)} {searched}"
    if all(dump.metadata.searched_for.values()):
        return Finding("ok", text)
    return Finding("none", text, means="what is not in memory, or may be another system's, is not used",
                   advice="see the checks os_info and vmcoreinfo")
