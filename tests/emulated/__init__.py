"""Debian's s390x makedumpfile, crash and zgetdump, run by qemu-user on our mounts and on the kernel's own files."""
