"""The route that exports a conversation; tests/security/test_strangers.py has its refusals."""

from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.store.supabase.sessions import Cookie
from services.web.export_route import export_route
from services.web.origin import Origin
from tests.unit.test_portable import TOMATOES, thread


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
    session_cache = SimpleNamespace(find=lambda _: SimpleNamespace())
    store = SimpleNamespace(
        conversations=SimpleNamespace(thread=lambda _: thread("Why?")),
        turns=SimpleNamespace(thoughts=lambda *_: {}, costs=lambda *_: {}),
    )
    route = export_route(lambda: session_cache, lambda *_: store, Origin(None, 0))
    cookie = {"cookie": f"__Host-sid={Cookie.new()}"}
    client = TestClient(Starlette(routes=[route]), base_url="http://localhost")

    answer = client.get(f"/export/{TOMATOES.id}.md", params={"zone": zone}, headers=cookie)

    assert f"## You, 2026-11-20 {moment}\n" in answer.text
