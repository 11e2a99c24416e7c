"""The real program on real mounts."""
