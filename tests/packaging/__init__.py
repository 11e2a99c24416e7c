"""What is installed and packaged: the real packages, in clean systems."""
