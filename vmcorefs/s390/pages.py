"""Pages that begin with certain bytes, in a piece of memory that was read for a search."""

from __future__ import annotations

from collections.abc import Iterator

from vmcorefs.quantities import PAGE_SIZE


def pages_with(data: bytes, first: int, begin: bytes) -> Iterator[int]:
    """Where, one to a page from *first* on, *begin* stands in *data*."""
    heads = data[first::PAGE_SIZE]  # a byte a page: to look at all of it would take longer than to read it
    at = heads.find(begin[0])
    while at >= 0:
        place = first + at * PAGE_SIZE
        if data.startswith(begin, place):
            yield place
        at = heads.find(begin[0], at + 1)
