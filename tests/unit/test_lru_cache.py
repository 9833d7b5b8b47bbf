"""What is kept of what was used, and how much of it."""

from services.store.lru_cache import LruCache


def test_what_was_used_longest_ago_goes():
    kept = LruCache[str, int](2)
    kept.put("one", 1)
    kept.put("two", 2)
    assert kept.get("one") == 1

    kept.put("three", 3)

    assert [kept.get(name) for name in ("one", "two", "three")] == [1, None, 3]


def test_what_is_put_again_is_used():
    kept = LruCache[str, int](2)
    for name, number in (("one", 1), ("two", 2), ("one", 11), ("three", 3)):
        kept.put(name, number)

    assert [kept.get(name) for name in ("one", "two", "three")] == [11, None, 3]


def test_what_is_dropped_is_gone():
    kept = LruCache[str, int](2)
    kept.put("one", 1)

    kept.drop("one")
    kept.drop("one")

    assert kept.get("one") is None
