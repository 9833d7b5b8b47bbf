"""The routes that export a conversation and the ledger; tests/security/test_strangers.py has their refusals."""

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Event
from types import SimpleNamespace
from urllib.parse import unquote
from uuid import UUID
from zipfile import ZipFile

import pytest
from anyio import from_thread
from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services import events
from services.domain import AccountRole, Role
from services.domain.models import PriceSource
from services.errors import ExportRunning, StoreUnavailable
from services.llm import Offer
from services.portable import file_name
from services.store.accounts import Cookie
from services.users.full_export import FullExport
from services.web.export_route import ExportRoutes
from services.web.origin import Origin
from tests.fakes import LARGE, MAYA, FakePerson, ScriptedModel, a_person
from tests.stack.apps import SECONDS
from tests.stores import InMemoryDatabase
from tests.unit.test_portable import TOMATOES, message, thread, thread_of
from tests.unit.test_tables import ENTRY

NOVEMBER = datetime(2026, 11, 15, 12, tzinfo=UTC)


def export_routes(store=None, person=None):
    """Return the routes, and the users by their cookies."""
    users = {}
    session_cache = SimpleNamespace(find=lambda cookie: SimpleNamespace(user_id=users[str(cookie)]))
    shared = SimpleNamespace(
        session_cache=session_cache, store_of=lambda *_: store, user_of=lambda _: person
    )
    return ExportRoutes(lambda: shared, Origin(None, 0)).routes(), users


def asking(routes, user="maya"):
    """Return a function that requests an address as *user*."""
    routes, users = routes
    users[str(cookie := Cookie.new())] = user
    client = TestClient(Starlette(routes=routes), base_url="http://localhost")

    def ask(address, method="GET", **params):
        cookies = {"cookie": f"__Host-sid={cookie}"}
        return client.request(
            method, address, params=params, headers=cookies, follow_redirects=False
        )

    return ask


def get(address, store=None, person=None, **params):
    """Return the answer to a signed-in user, whose store is *store*."""
    return asking(export_routes(store, person))(address, **params)


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
        turns=SimpleNamespace(read=lambda _: (thread("Why?", "So."), None), **turns),
        spaces=SimpleNamespace(find=lambda _: None),
    )

    answer = get(f"/export/{TOMATOES.id}.md", store, zone=zone)

    assert f"## You, 2026-11-20 {moment}\n" in answer.text


@pytest.mark.parametrize(
    ("shown", "said"), [(2, "Ferns."), (3, "Sage."), (0, "Sage."), (None, "Sage.")]
)
def test_markdown_has_the_version_that_is_asked_for(shown, said):
    replies = [
        message(seq, body, 1, role=Role.ASSISTANT) for seq, body in ((2, "Ferns."), (3, "Sage."))
    ]
    turns = dict.fromkeys(("thoughts", "costs", "receipts"), lambda *_: {})
    store = SimpleNamespace(
        turns=SimpleNamespace(read=lambda _: (thread_of(message(1), *replies), None), **turns),
        spaces=SimpleNamespace(find=lambda _: None),
    )
    ids = {one.seq: str(one.id) for one in replies} | {0: "no id"}

    answer = get(
        f"/export/{TOMATOES.id}.md", store, **({"m": ids[shown]} if shown is not None else {})
    )

    assert [each for each in ("Ferns.", "Sage.") if each in answer.text] == [said]


@pytest.mark.parametrize("suffix", ["md", "json"])
def test_chat_is_a_file_named_by_its_title(suffix):
    turns = dict.fromkeys(("thoughts", "costs", "receipts"), lambda *_: {})
    store = SimpleNamespace(
        turns=SimpleNamespace(read=lambda _: (thread("Why?", "So."), None), **turns),
        spaces=SimpleNamespace(find=lambda _: None),
    )

    answer = get(f"/export/{TOMATOES.id}.{suffix}", store)

    name = unquote(answer.headers["content-disposition"])
    assert name == f"attachment; filename*=utf-8''{file_name(TOMATOES.title, f'.{suffix}')}"
    bodies = re.findall(r"Why\?|So\.", answer.text)
    assert bodies == ["Why?", "So."]


def test_ledger_is_exported_for_the_days_asked_for():
    asked = []
    entries = [replace(ENTRY, id=number) for number in (1, 2, 3)]

    def ledger(first, last, after=0):
        asked.append((first, last, after))
        return entries[after : after + 2]

    usage = SimpleNamespace(ledger=ledger)

    answer = get(
        "/export/usage.csv", SimpleNamespace(usage=usage), first="2026-11-01", last="2026-11-20"
    )

    first, last = date(2026, 11, 1), date(2026, 11, 20)
    # all entries are of the last day
    assert asked == [(first, last, 0), (last, last, 2), (last, last, 3)]
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "Usage%202026-11-01%20to%202026-11-20.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert (rows[0]["day"], rows[0]["cost_micro"]) == ("2026-11-20", "700")


def test_table_of_which_a_later_page_fails_is_cut_off(monkeypatch):
    heard = []
    monkeypatch.setattr(events, "_listeners", [lambda *event: heard.append(event)])

    def ledger(first, last, after=0):
        if after:
            raise StoreUnavailable
        return [ENTRY]

    store = SimpleNamespace(usage=SimpleNamespace(ledger=ledger))

    with pytest.raises(ConnectionAbortedError):
        get("/export/usage.csv", store, first="2026-11-01", last="2026-11-20")

    assert heard == [("export.cut", {"reason": "StoreUnavailable"})]


@pytest.mark.parametrize(
    "days", [{}, {"first": "2026-11-01"}, {"first": "x", "last": "2026-11-20"}]
)
def test_ledger_without_days_is_not_found(days):
    assert get("/export/usage.csv", SimpleNamespace(), **days).status_code == 404


def test_export_of_a_user_runs_alone():
    is_begun, is_read = Event(), Event()

    def parts():
        is_begun.set()
        assert is_read.wait(SECONDS)
        yield b"rest"

    person = SimpleNamespace(begin_export=lambda _: SimpleNamespace(parts=parts))
    everything = "/export/everything.zip"
    with ThreadPoolExecutor() as threads:
        routes = export_routes(person=person)
        maya, omar = (asking(routes, user) for user in ("maya", "omar"))
        first = threads.submit(maya, everything)
        assert is_begun.wait(SECONDS)

        second, asked = maya(everything), maya(everything, "HEAD")
        assert (second.status_code, second.text) == (429, ExportRunning.public)
        assert asked.status_code == 429
        assert omar(everything, "HEAD").status_code == 204
        is_read.set()
        assert first.result(SECONDS).content == b"rest"
    assert maya(everything, "HEAD").status_code == 204
    assert maya(everything).content == b"rest"


def test_export_leaves_the_threads_of_other_requests_alone():
    def parts():
        for _ in range(3):
            taken.append(from_thread.run_sync(current_default_thread_limiter).borrowed_tokens)
            yield b"part"

    taken = []
    person = SimpleNamespace(begin_export=lambda _: SimpleNamespace(parts=parts))

    get("/export/everything.zip", person=person)

    assert taken == [0, 0, 0]


def test_everything_is_a_dated_zip_file():
    database = InMemoryDatabase(MAYA)
    database.hold("Garden", "One", "Two")

    exporter = SimpleNamespace(begin_export=lambda zone: FullExport(database.store(), zone))
    answer = get("/export/everything.zip", person=exporter)

    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    name = unquote(answer.headers["content-disposition"])
    assert re.search(r"''Daybook 20\d\d-\d\d-\d\d\.zip$", name)
    with ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None


@pytest.fixture
def ruth():
    """An admin; one of the models has no known price."""
    unpriced = replace(LARGE, name="=large", price_source=PriceSource.UNKNOWN)
    others = (Offer(unpriced, ScriptedModel()),)
    database = InMemoryDatabase(MAYA, lambda: NOVEMBER)
    return FakePerson(database, ScriptedModel(), AccountRole.ADMIN, others=others)


def table(name, person):
    answer = get(f"/export/{name}.csv", person=person)
    assert answer.headers["content-disposition"].endswith(f"{name.capitalize()}.csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_users_are_exported_page_by_page(ruth):
    users = [a_person(f"user{number:04}@daybook.test") for number in range(1200)]
    users[7] = replace(users[7], email="=7@daybook.test", daily_cap_tokens=900)
    for user in users:
        ruth.database.put_user(user)

    special, own, *rows = table("users", ruth)

    calls = ruth.administration.calls
    assert [call[3] for call in calls if call[0] == "list_users"] == [0, 500, 1000]
    assert own["user_id"] == str(MAYA)
    assert [row["user_id"] for row in rows] == [
        str(user.user_id) for user in users if user is not users[7]
    ]
    assert (special["email"], special["daily_cap_tokens"]) == ("'=7@daybook.test", "900")
    assert (rows[7]["daily_cap_tokens"], rows[7]["is_suspended"]) == ("", "False")


def test_models_are_exported_with_prices_and_offer(ruth):
    ruth.models.offer("=large", is_offered=False)

    first, second = table("models", ruth)

    assert (first["name"], first["input_micro"], first["is_offered"]) == (
        "scripted",
        "1000000",
        "True",
    )
    assert (second["name"], second["price_source"], second["is_offered"]) == (
        "'=large",
        "unknown",
        "False",
    )


def test_invitations_are_exported_without_their_codes(ruth):
    code = ruth.sign_ups.invite("+omar@daybook.test", AccountRole.USER)

    (row,) = table("invitations", ruth)

    assert (row["email"], row["state"]) == ("'+omar@daybook.test", "open")
    assert code not in row.values()


def test_usage_of_users_is_exported_by_day(ruth):
    user, days = UUID(int=7), {"first": "2026-11-01", "last": "2026-11-20"}
    ruth.database.put_user(replace(a_person("jonas@daybook.test"), user_id=user))

    answer = get(f"/export/users/{user}/usage.csv", person=ruth, **days)
    of_all = get("/export/users/usage.csv", person=ruth, **days)

    first, second = csv.DictReader(io.StringIO(answer.text))
    assert (first["day"], second["day"], first["model"]) == ("2026-11-01", "2026-11-15", "scripted")
    assert [(row["replies"], row["cost_micro"]) for row in (first, second)] == [
        ("37", "9620"),
        ("3", "780"),
    ]
    assert of_all.text == answer.text


@pytest.mark.parametrize("name", ["users", "models", "invitations", "audit"])
def test_tables_of_admins_refuse_other_users(name):
    maya = FakePerson(InMemoryDatabase(MAYA), ScriptedModel())

    answer = get(f"/export/{name}.csv", person=maya)

    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")


def test_audit_is_exported_page_by_page(ruth):
    user = a_person("jonas@daybook.test")
    ruth.database.put_user(user)
    for n in range(1200):
        ruth.administration.set_caps(user.user_id, {"daily_cap_micro": n + 10})

    rows = table("audit", ruth)

    details = [json.loads(row["detail"])["daily_cap_micro"][1] for row in rows]
    assert details == [n + 10 for n in reversed(range(1200))]
    assert (rows[0]["action"], rows[0]["detail"]) == (
        "caps.set",
        '{"daily_cap_micro": [1208, 1209]}',
    )


@pytest.mark.parametrize("name", ["others.csv", f"{UUID(int=7)}.exe"])
def test_unknown_file_is_not_found(name):
    assert get(f"/export/{name}").status_code == 404
