"""The routes that export a conversation and the ledger; tests/security/test_strangers.py has their refusals."""

import csv
import io
import re
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from urllib.parse import unquote
from uuid import UUID
from zipfile import ZipFile

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.store.supabase.sessions import Cookie
from services.web.export_route import ExportRoutes
from services.web.full_export import FullExport
from services.web.origin import Origin
from tests.fakes import MAYA, FakeAdministration, a_person, an_entry
from tests.stores import InMemoryDatabase
from tests.unit.test_portable import TOMATOES, thread
from tests.unit.test_tables import ENTRY


def get(address, store=None, administration=None, **params):
    """The answer to a signed-in user, whose store is *store*."""
    session_cache = SimpleNamespace(find=lambda _: SimpleNamespace())
    routes = ExportRoutes(
        lambda: session_cache,
        lambda *_: store,
        lambda _, zone: FullExport(store, zone),
        lambda _: administration,
        Origin(None, 0),
    ).routes()
    cookie = {"cookie": f"__Host-sid={Cookie.new()}"}
    client = TestClient(Starlette(routes=routes), base_url="http://localhost")
    return client.get(address, params=params, headers=cookie, follow_redirects=False)


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


def test_users_are_exported_page_by_page():
    users = [a_person(f"user{number:04}@daybook.test") for number in range(1200)]
    users[7] = replace(users[7], email="=7@daybook.test", daily_cap_tokens=900)
    administration = FakeAdministration(users, is_admin=True)

    answer = get("/export/users.csv", administration=administration)

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [skip for *_, skip in administration.asked] == [0, 500, 1000]
    assert [row["user_id"] for row in rows] == [str(user.user_id) for user in users]
    assert (rows[7]["email"], rows[7]["daily_cap_tokens"]) == ("'=7@daybook.test", "900")
    assert (rows[8]["daily_cap_tokens"], rows[8]["is_suspended"]) == ("", "False")


def test_usage_of_users_is_exported_by_day():
    administration, user = FakeAdministration([], is_admin=True), UUID(int=7)
    days = {"first": "2026-11-01", "last": "2026-11-20"}

    answer = get(f"/export/users/{user}/usage.csv", administration=administration, **days)
    get("/export/users/usage.csv", administration=administration, **days)

    assert administration.asked == [("usage", user), ("usage", None)]
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["model"], row["turns"], row["cost_micro"]) == ("scripted", "40", "10400")


def test_tables_of_admins_refuse_other_users():
    administration = FakeAdministration([], is_admin=False)

    answer = get("/export/users.csv", administration=administration)

    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")


def test_audit_is_exported_page_by_page():
    administration = FakeAdministration([], is_admin=True)
    administration.entries = [an_entry(n, max_open=[4, n]) for n in range(1200, 0, -1)]

    answer = get("/export/audit.csv", administration=administration)

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [str(entry.id) for entry in administration.entries]
    assert (rows[0]["action"], rows[0]["detail"]) == ("caps.set", '{"max_open": [4, 1200]}')
