"""What a check says."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """*status*: ok, failed, or none where there is nothing to look at; *text*: what was found and what it means."""

    status: str
    text: str
