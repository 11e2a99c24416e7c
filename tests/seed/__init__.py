"""The kernel's own crash_dump.c of layout 5.8, compiled and run here; see kernel58.py."""
