"""Who is asking, as the app is told it, and what goes out with every answer."""

import importlib.util
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from services.errors import StoreUnavailable
from services.store.supabase.sessions import Cookie
from services.web.origin import Origin
from services.web.session_cache import SessionCache
from services.web.session_middleware import (
    ENDED,
    UNKNOWN,
    SessionMiddleware,
    content_security_policy,
)
from tests.store.conftest import PASSWORD, make_sessions, new_email

TABS, OURS = "/_stcore/stream", "http://localhost"
INDEX = Path(importlib.util.find_spec("streamlit").origin).parent / "static/index.html"


@pytest.fixture(scope="module")
def sessions(stack):
    made = make_sessions(stack)
    yield made
    made.gateway.http.close()


@pytest.fixture
def session_cache(sessions):
    return SessionCache(sessions, on_leave=lambda _: None, on_forget=lambda _: None)


def who(request):
    return JSONResponse(_identity(request))


async def tell(websocket):
    await websocket.accept()
    await websocket.send_json(_identity(websocket))
    await websocket.receive()


def _identity(connection):
    return [connection.headers.get(name) for name in ("x-app-user-id", "x-app-session")]


def browser(session_cache, origin=None):
    return client(lambda: session_cache, origin or Origin(None, 0))


def client(session_cache, origin, **more):
    app = Starlette(routes=[WebSocketRoute(TABS, tell), Route("/{path:path}", who)])
    return TestClient(
        SessionMiddleware(app, session_cache, origin, "default-src 'self'", **more), OURS
    )


def opened(browser, **headers):
    """A tab of *browser*, on a page of ours."""
    return browser.websocket_connect(f"ws://localhost{TABS}", headers={"origin": OURS} | headers)


def told(browser, **headers):
    with opened(browser, **headers) as tab:
        return tab.receive_json()


def test_a_cookie_becomes_an_identity_where_streamlit_looks(session_cache):
    cookie = session_cache.sign_up(new_email(), PASSWORD)
    session = session_cache.find(cookie)
    headers = {"cookie": f"__Host-sid={cookie}"}

    assert told(browser(session_cache), **headers) == [str(session.user_id), str(session.id)]
    assert browser(session_cache).get("/static/js/x.js", headers=headers).json() == [None, None]


def test_what_a_client_says_of_itself_never_passes(session_cache):
    forged = {"X-App-User-Id": "someone", "x-app-session": "something"}

    assert told(browser(session_cache), **forged) == [None, None]
    assert browser(session_cache).get("/", headers=forged).json() == [None, None]


def test_another_cookie_is_nobody(session_cache):
    for text in (str(Cookie.new()), "", "zz", "00" * 31):
        assert told(browser(session_cache), cookie=f"__Host-sid={text}")[0] is None


def test_before_the_backend_is_there_everybody_is_nobody():
    assert told(browser(None), cookie=f"__Host-sid={Cookie.new()}") == [None, None]


def test_a_tab_with_a_cookie_waits_until_it_can_be_known_whose_it_is(session_cache):
    cookie = session_cache.sign_up(new_email(), PASSWORD)
    answers = iter([None, None, session_cache])
    browser = client(lambda: next(answers), Origin(None, 0), patience_seconds=20)

    user, _ = told(browser, cookie=f"__Host-sid={cookie}")

    assert user == str(session_cache.find(cookie).user_id)


def test_a_tab_is_told_why_nobody_sits_there(session_cache, sessions, monkeypatch):
    """Signed out, a session that has ended, and one that cannot be asked about, are three things."""
    headers = {"cookie": f"__Host-sid={Cookie.new()}"}
    assert told(browser(session_cache)) == [None, None]
    assert told(browser(session_cache), **headers) == [None, ENDED]

    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert told(browser(session_cache)) == [None, None]
    assert told(browser(session_cache), **headers) == [None, UNKNOWN]


def test_a_session_survives_a_database_that_is_away(session_cache, sessions, monkeypatch):
    cookie = session_cache.sign_up(new_email(), PASSWORD)
    session = session_cache.find(cookie)
    monkeypatch.setattr("services.web.session_cache._TRUST_SECONDS", 0.0)

    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert session_cache.find(cookie) is session
    assert session_cache.by_id(session.id) is session


def test_after_a_long_outage_nobody_is_taken_for_signed_out(session_cache, sessions, monkeypatch):
    cookie = session_cache.sign_up(new_email(), PASSWORD)
    session = session_cache.find(cookie)
    monkeypatch.setattr("services.web.session_cache._TRUST_SECONDS", 0.0)
    monkeypatch.setattr("services.web.session_cache._OUTAGE_SECONDS", 0.0)

    def away(*_, **__):
        raise StoreUnavailable("away")

    with monkeypatch.context() as outage:
        outage.setattr(type(sessions.server), "call", away)
        with pytest.raises(StoreUnavailable):
            session_cache.by_id(session.id)
        assert told(browser(session_cache), cookie=f"__Host-sid={cookie}") == [None, UNKNOWN]

    assert session_cache.by_id(session.id) is session


def test_who_reads_in_an_open_tab_is_not_away(session_cache, monkeypatch):
    cookie, other = (session_cache.sign_up(new_email(), PASSWORD) for _ in range(2))
    session = session_cache.find(cookie)
    with opened(browser(session_cache), cookie=f"__Host-sid={cookie}"):
        monkeypatch.setattr("services.web.session_cache._IDLE_SECONDS", 0.0)
        session_cache.find(other)
        assert session_cache.by_id(session.id) is session

    session_cache.find(other)
    assert session_cache.by_id(session.id) is None
    assert not session_cache._tabs


def test_a_session_ended_elsewhere_ends_here(session_cache, sessions, monkeypatch):
    cookie = session_cache.sign_up(new_email(), PASSWORD)
    session = session_cache.find(cookie)
    monkeypatch.setattr("services.web.session_cache._TRUST_SECONDS", 0.0)

    sessions.end(cookie)

    assert session_cache.by_id(session.id) is None
    assert session_cache.find(cookie) is None


def test_every_answer_is_hardened(session_cache):
    headers = browser(session_cache).get("/").headers

    assert headers["content-security-policy"] == "default-src 'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers
    https = browser(session_cache, Origin("https://daybook.example", 1)).get("/").headers
    assert "max-age" in https["strict-transport-security"]


def test_the_policy_allows_streamlits_own_script_and_no_other():
    policy = content_security_policy(INDEX)

    assert policy.count("'sha256-") == 1
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/_stcore/metrics", "/_stcore/upload_file/session/file", "/media/0123.md"]
)
def test_uploads_media_and_figures_of_the_server_are_closed(path, method):
    assert browser(None).request(method, path).status_code == 404
