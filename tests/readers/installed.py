"""What is not installed here: a skip that says so, but a failure where CI=true promises that everything is."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """End the test, because this system lacks *what*."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, but CI=true", pytrace=False)
    pytest.skip(what)


def program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    return path
