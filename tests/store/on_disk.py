"""Helpers of the tests of stores on a local disk: numbered rows, and damage to files."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.errors import Misconfigured
from services.store.tables.schema import NONCES, Nonce

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def put(store, number, **options):
    row = Nonce(UUID(int=number), NOON)
    store.of(None).run(lambda block: block.put(NONCES, row), **options)


def remove(store, number):
    store.of(None).run(lambda block: block.delete(NONCES, UUID(int=number)))


def numbers(store):
    rows = store.of(None).run(lambda block: block.select(NONCES))
    return [row.id.int for row in rows]


def listing(folder):
    """Return the times and bytes of the files in *folder* and its subfolders."""
    return {
        one: (one.stat().st_mtime_ns, one.is_dir() or one.read_bytes()) for one in folder.rglob("*")
    }


def check_refused(place, sentence):
    """Fail unless *place* is refused with a *sentence*, without a change to it or to files beside it."""
    before = listing(place.path.parent)
    for call in (place.exists, place.open):
        with pytest.raises(Misconfigured, match=sentence):
            call()
    assert listing(place.path.parent) == before


def moved(path):
    kept = path.with_name("elsewhere")
    path.rename(kept)
    return lambda: kept.rename(path)


def removed(path):
    kept = path.with_name("elsewhere")
    kept.hardlink_to(path)
    path.unlink()
    return lambda: kept.rename(path)


def replaced(path):
    kept = path.with_name("elsewhere")
    path.rename(kept)
    if kept.is_dir():
        path.mkdir()

        def put_back():
            path.rmdir()
            kept.rename(path)

        return put_back
    path.write_bytes(b"")
    return lambda: kept.rename(path)
