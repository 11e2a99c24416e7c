"""make s390x: Debian's s390x kernel in qemu-system-s390x mounts captures for real. __main__ runs it, guest is what runs inside."""
