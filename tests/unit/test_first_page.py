"""Reads that are begun before they are asked for."""

from threading import Barrier, Event
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr

from services.errors import StoreUnavailable
from services.store.rows import DocumentKind
from services.store.supabase import first_page
from services.store.supabase.api import Gateway
from services.store.supabase.first_page import FirstPageRows, FirstRead
from tests.stack.apps import SECONDS


@pytest.fixture
def numbers():
    return iter(range(10))


def test_value_is_read_ahead_once(numbers):
    read = FirstRead(lambda: next(numbers))
    read.begin()

    assert [read.get(), read.get()] == [0, 1]


def test_value_that_is_not_read_ahead_is_read(numbers):
    assert FirstRead(lambda: next(numbers)).get() == 0


def test_old_value_is_read_again(numbers, monkeypatch):
    monkeypatch.setattr(first_page, "_FRESH_SECONDS", -1.0)
    has_read = Event()

    def next_number():
        number = next(numbers)
        has_read.set()
        return number

    read = FirstRead(next_number)
    read.begin()
    assert has_read.wait(SECONDS)

    assert read.get() == 1


def test_failed_read_is_raised_where_it_is_asked_for():
    def fail():
        raise StoreUnavailable

    read = FirstRead(fail)
    read.begin()

    with pytest.raises(StoreUnavailable):
        read.get()


def test_rows_of_the_first_page_are_read_at_once():
    every = Barrier(3)

    def answer(request):
        every.wait(SECONDS)
        return httpx.Response(200, json=[])

    gateway = Gateway.to("http://database.test", SecretStr("key"), httpx.MockTransport(answer))
    rows = FirstPageRows(SimpleNamespace(calls=SimpleNamespace(client=gateway.client())))

    rows.read_ahead()

    assert rows.documents(DocumentKind.PREFERENCES) == []
    assert rows.documents(DocumentKind.SPACE) == []
    assert rows.recent_conversations(31, is_archived=False, space_id=None) == []
