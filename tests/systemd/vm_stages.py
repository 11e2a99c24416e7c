"""What vm.py, on the host, and vm_checks.py, in the virtual machine, must agree on."""

from __future__ import annotations

STAGES = {
    1: "the service; shut down (reboot) while the mount is read",
    2: "after a boot: the enabled service, fstab, automount; shut down (power off) while the automount is read",
    3: "shut down (power off) with a dead mount and with a daemon that is stopped",
}
CAPTURES = ("k61-smp1", "k61-zfcpdump-smp3")
END = "end of the checks"
LEAVING = "leaving: "
