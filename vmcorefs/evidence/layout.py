"""Which kernel's bytes are produced, and whether they have vector registers."""

from __future__ import annotations

from vmcorefs.evidence import Ground
from vmcorefs.evidence.registers import Registers
from vmcorefs.facts import Fact
from vmcorefs.s390.elfcorebuf import FinishedHeader
from vmcorefs.s390.lowcore import AbsoluteLowcore
from vmcorefs.vmcore.layout_evidence import Layout, ReleaseEvidence, determine_layout, notes_per_cpu


def find_layout(ground: Ground, registers: Registers, header: FinishedHeader | None, desc: bytes | None,
                release: ReleaseEvidence) -> Layout:
    """By the finished header, whose notes have the image's own VMCOREINFO *desc*, else by *release*."""
    cpus = registers.cpus.cpus
    per_cpu = notes_per_cpu(header, len(cpus), desc) if header is not None else None
    return determine_layout(ground.capture.layout, header, per_cpu, release, _vector(ground, registers), ground.capture.origin("layout"))


def _vector(ground: Ground, registers: Registers) -> Fact[bool]:
    if isinstance(ground.dump_lowcore, AbsoluteLowcore) and ground.dump_lowcore.vector_enablement is not None:
        return Fact(ground.dump_lowcore.vector_enablement, "dump kernel's control register 0")
    if registers.of_container is not None and registers.of_container.vector is not None:
        return Fact(registers.of_container.vector, "container's notes")
    if isinstance(ground.lowcore, AbsoluteLowcore) and ground.lowcore.vector_enablement is not None:
        return Fact(ground.lowcore.vector_enablement, "crashed kernel's control register 0",
                    assumed=bool(ground.mode.dump_kernel_limit))
    return Fact(False, "no control register 0 is known", assumed=True)


def uses_vector(ground: Ground, registers: Registers, layout: Layout) -> bool:
    """VXRS notes for all CPUs or none; where one CPU's vector registers are not known: none, and a problem."""
    cpus = registers.cpus.cpus
    if not layout.vector.value or not cpus:
        return False
    if all(cpu.save_area.vxrs_high is not None for cpu in cpus):
        return True
    ground.problem("vector", f"no vector registers are served, since they are not known for all CPUs: {registers.cpus.vector_reason}")
    return False
