"""The parts of vmcorefs/fs by themselves; nothing is mounted here."""
