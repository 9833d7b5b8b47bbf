"""A thread-safe LRU cache."""

from services.caches import LruCache


def test_least_recently_used_value_is_evicted():
    cache = LruCache[str, int](2)
    cache.put("one", 1)
    cache.put("two", 2)
    assert cache.get("one") == 1
    cache.put("three", 3)
    cache.put("one", 11)
    cache.put("four", 4)

    assert [cache.get(name) for name in ("one", "two", "three", "four")] == [11, None, None, 4]


def test_dropped_value_is_gone():
    cache = LruCache[str, int](2)
    cache.put("one", 1)

    cache.drop("one")
    cache.drop("one")

    assert cache.get("one") is None
