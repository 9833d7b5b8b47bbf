"""The routes that export a conversation and the ledger; tests/security/test_strangers.py has their refusals."""

import io
import re
from datetime import date
from types import SimpleNamespace
from urllib.parse import unquote
from zipfile import ZipFile

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.store.supabase.sessions import Cookie
from services.web.export_route import ExportRoutes
from services.web.full_export import FullExport
from services.web.origin import Origin
from tests.fakes import MAYA
from tests.stores import InMemoryDatabase
from tests.unit.test_portable import TOMATOES, thread
from tests.unit.test_tables import ENTRY


def get(address, store, **params):
    """The answer to a signed-in user, whose store is *store*."""
    session_cache = SimpleNamespace(find=lambda _: SimpleNamespace())
    routes = ExportRoutes(
        lambda: session_cache,
        lambda *_: store,
        lambda _, zone: FullExport(store, zone),
        Origin(None, 0),
    ).routes()
    cookie = {"cookie": f"__Host-sid={Cookie.new()}"}
    client = TestClient(Starlette(routes=routes), base_url="http://localhost")
    return client.get(address, params=params, headers=cookie)


@pytest.mark.parametrize(
    ("zone", "moment"),
    [
        ("Europe/Berlin", "13:01 CET"),
        ("Europe", "12:01 UTC"),
        ("../../x", "12:01 UTC"),
        ("", "12:01 UTC"),
    ],
)
def test_export_shows_times_in_the_readers_zone(zone, moment):
    turns = dict.fromkeys(("thoughts", "costs", "receipts"), lambda *_: {})
    store = SimpleNamespace(
        turns=SimpleNamespace(read=lambda _: (thread("Why?"), None), **turns),
        spaces=SimpleNamespace(find=lambda _: None),
    )

    answer = get(f"/export/{TOMATOES.id}.md", store, zone=zone)

    assert f"## You, 2026-11-20 {moment}\n" in answer.text


def test_ledger_is_exported_for_the_days_asked_for():
    asked = []
    usage = SimpleNamespace(ledger=lambda *days: asked.append(days) or [ENTRY])

    answer = get(
        "/export/usage.csv", SimpleNamespace(usage=usage), first="2026-11-01", last="2026-11-20"
    )

    assert asked == [(date(2026, 11, 1), date(2026, 11, 20))]
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "Usage%202026-11-01%20to%202026-11-20.csv" in answer.headers["content-disposition"]
    assert answer.text.splitlines()[1].startswith("2026-11-20T12:00:00+00:00,2026-11-20,charge,")


@pytest.mark.parametrize(
    "days", [{}, {"first": "2026-11-01"}, {"first": "x", "last": "2026-11-20"}]
)
def test_ledger_without_days_is_not_found(days):
    assert get("/export/usage.csv", SimpleNamespace(), **days).status_code == 404


def test_everything_is_a_dated_zip_file():
    database = InMemoryDatabase(MAYA)
    database.hold("Garden", "One", "Two")

    answer = get("/export/everything.zip", database.store())

    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    name = unquote(answer.headers["content-disposition"])
    assert re.search(r"''Daybook 20\d\d-\d\d-\d\d\.zip$", name)
    with ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
