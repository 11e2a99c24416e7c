"""Tests of the adapter (fs/backends) that need nothing but Python, libc and libfuse: they run here, and by test_adapter.py inside
an emulated Python of another machine, where no program can be started, nothing mounted and nothing compiled.
"""
