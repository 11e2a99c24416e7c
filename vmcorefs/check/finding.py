"""What a check says."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """*status*: ok, failed, or none where there is nothing to look at; *text*: what was found.

    *means*, *advice*: instead of the words of the check's row.
    """

    status: str
    text: str
    means: str | None = None
    advice: str | None = None
