"""Every full capture of VMCOREFS_GOLD, byte for byte."""
