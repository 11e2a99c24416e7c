"""Consistency checks: CHECKS is their one table. They sit above dump.py, because they look at all of it."""

from vmcorefs.check.checks import CHECKS, Check, Result, quick_checks, run_checks

__all__ = ["CHECKS", "Check", "Result", "quick_checks", "run_checks"]
