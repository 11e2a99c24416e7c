"""elfcorehdr and the file, as crash_dump.c and fs/proc/vmcore.c make them."""
