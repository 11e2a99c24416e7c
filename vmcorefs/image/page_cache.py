"""PageCache: the newest decompressed pages of a compressed container, bounded in bytes, safe for threads and across a fork."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from vmcorefs.image.after_fork import renew_after_fork

CACHE_LIMIT = 8 << 20
_ENTRY_COST = 200  # bytes that Python needs for an entry beside its data


class PageCache:
    """Bytes by key; what was not used for the longest time is forgotten when *limit* bytes are exceeded.

    The process that a fork makes begins with an empty one: a thread that does not exist there may have held the lock.
    """

    def __init__(self, limit: int = CACHE_LIMIT):
        self.limit = limit
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget everything; nobody else uses it now."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, bytes] = OrderedDict()
        self.size = 0

    def get(self, key: Hashable) -> bytes | None:
        """What was put under *key*, if it is still there."""
        with self._lock:
            data = self._entries.get(key)
            if data is not None:
                self._entries.move_to_end(key)
            return data

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep *data* under *key*; what is larger than the whole cache is not kept."""
        cost = len(data) + _ENTRY_COST
        if cost > self.limit:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self.size -= len(old) + _ENTRY_COST
            self._entries[key] = data
            self.size += cost
            while self.size > self.limit:
                _, forgotten = self._entries.popitem(last=False)
                self.size -= len(forgotten) + _ENTRY_COST
