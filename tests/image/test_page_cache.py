"""The cache of decompressed pages: bounded in bytes, oldest first, safe for threads and across a fork."""

from __future__ import annotations

import os
import random
import threading
import time

from vmcorefs.image.page_cache import CACHE_LIMIT, PageCache

PAGE = 4096


def test_what_was_put_is_there_until_there_is_no_room() -> None:
    cache = PageCache(10 * (PAGE + 200))
    for number in range(10):
        cache.put(number, bytes([number]) * PAGE)
    assert [cache.get(number) for number in range(10)] == [bytes([number]) * PAGE for number in range(10)]
    cache.put(10, b"x" * PAGE)
    assert cache.get(0) is None
    assert cache.get(10) == b"x" * PAGE


def test_what_is_read_stays_longer() -> None:
    cache = PageCache(3 * (PAGE + 200))
    for number in range(3):
        cache.put(number, bytes(PAGE))
    cache.get(0)
    cache.put(3, bytes(PAGE))
    assert cache.get(0) is not None
    assert cache.get(1) is None


def test_it_counts_bytes_not_entries() -> None:
    cache = PageCache(100_000)
    rng = random.Random(1)
    for number in range(2000):
        cache.put(number % 300, rng.randbytes(rng.randrange(1, 5000)))
        assert cache.size <= 100_000
        assert cache.size == sum(len(data) + 200 for data in cache._entries.values())


def test_a_key_put_again_has_the_new_data() -> None:
    cache = PageCache()
    cache.put("a", b"1" * 100)
    cache.put("a", b"2" * 50)
    assert cache.get("a") == b"2" * 50
    assert cache.size == 250


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = PageCache(1000)
    cache.put("small", b"1")
    cache.put("large", bytes(1000))
    assert cache.get("large") is None
    assert cache.get("small") == b"1"


def test_the_limit_is_some_mib() -> None:
    assert CACHE_LIMIT == PageCache().limit == 8 << 20


def test_threads() -> None:
    cache = PageCache(50 * PAGE)
    failures: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(5000):
            number = rng.randrange(200)
            data = cache.get(number)
            if data is not None and data != bytes([number]) * PAGE:
                failures.append(f"{number}")
            cache.put(number, bytes([number]) * PAGE)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert cache.size == sum(len(data) + 200 for data in cache._entries.values()) <= 50 * PAGE


def test_a_child_does_not_wait_for_a_lock_that_a_thread_of_its_parent_held() -> None:
    cache = PageCache()
    cache.put("a", b"1")
    cache._lock.acquire()  # what a thread in get or put would have done
    try:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if cache.get("a") is None and cache.size == 0 else 1)
            finally:
                os._exit(2)
        end = time.monotonic() + 20
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(child, 9)
            time.sleep(0.01)
        assert status == 0
    finally:
        cache._lock.release()
    assert cache.get("a") == b"1"
