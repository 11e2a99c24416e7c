"""Which image byte holds absolute address A of the crashed system; one mode a file."""
