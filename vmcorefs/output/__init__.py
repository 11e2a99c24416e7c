"""Other files made of a dump: the copy."""
