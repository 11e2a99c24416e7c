"""A fact with its origin: every fact that a person sees says where it was taken from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """*value*, and in words where it came from; *assumed* if nothing in the image proves it."""

    value: T
    origin: str
    assumed: bool = False


@dataclass(frozen=True)
class Problem:
    """Something wrong with the image that does not keep it from being served. *code* is stable, *text* is for people."""

    code: str
    text: str
