"""Sparse captures of real crashed machines; see README.md."""
