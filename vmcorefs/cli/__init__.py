"""Words in, words out; never touches a byte of a dump."""
