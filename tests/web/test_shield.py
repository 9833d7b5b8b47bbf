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
from services.web.doors import Origin
from services.web.shield import ENDED, UNKNOWN, Shield, content_security_policy
from services.web.visitors import Visitors
from tests.store.conftest import PASSWORD, make_sessions, new_email

TABS, OURS = "/_stcore/stream", "http://localhost"
INDEX = Path(importlib.util.find_spec("streamlit").origin).parent / "static/index.html"


@pytest.fixture(scope="module")
def sessions(stack):
    made = make_sessions(stack)
    yield made
    made.gateway.http.close()


@pytest.fixture
def visitors(sessions):
    return Visitors(sessions, on_leave=lambda _: None, on_forget=lambda _: None)


def who(request):
    return JSONResponse(_identity(request))


async def tell(websocket):
    await websocket.accept()
    await websocket.send_json(_identity(websocket))
    await websocket.receive()


def _identity(connection):
    return [connection.headers.get(name) for name in ("x-app-user-id", "x-app-session")]


def shielded(visitors, origin=None):
    return client(lambda: visitors, origin or Origin(None, 0))


def client(visitors, origin, **more):
    app = Starlette(routes=[WebSocketRoute(TABS, tell), Route("/{path:path}", who)])
    return TestClient(Shield(app, visitors, origin, "default-src 'self'", **more), OURS)


def opened(browser, **headers):
    """A tab of *browser*, on a page of ours."""
    return browser.websocket_connect(f"ws://localhost{TABS}", headers={"origin": OURS} | headers)


def told(browser, **headers):
    with opened(browser, **headers) as tab:
        return tab.receive_json()


def test_a_cookie_becomes_an_identity_where_streamlit_looks(visitors):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    headers = {"cookie": f"__Host-sid={cookie}"}

    assert told(shielded(visitors), **headers) == [str(session.user_id), str(session.id)]
    assert shielded(visitors).get("/static/js/x.js", headers=headers).json() == [None, None]


def test_what_a_client_says_of_itself_never_passes(visitors):
    forged = {"X-App-User-Id": "someone", "x-app-session": "something"}

    assert told(shielded(visitors), **forged) == [None, None]
    assert shielded(visitors).get("/", headers=forged).json() == [None, None]


def test_another_cookie_is_nobody(visitors):
    for text in (str(Cookie.new()), "", "zz", "00" * 31):
        assert told(shielded(visitors), cookie=f"__Host-sid={text}")[0] is None


def test_before_the_backend_is_there_everybody_is_nobody():
    assert told(shielded(None), cookie=f"__Host-sid={Cookie.new()}") == [None, None]


def test_a_tab_with_a_cookie_waits_until_it_can_be_known_whose_it_is(visitors):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    answers = iter([None, None, visitors])
    browser = client(lambda: next(answers), Origin(None, 0), patience_seconds=20)

    user, _ = told(browser, cookie=f"__Host-sid={cookie}")

    assert user == str(visitors.find(cookie).user_id)


def test_a_tab_is_told_why_nobody_sits_there(visitors, sessions, monkeypatch):
    """Signed out, a session that has ended, and one that cannot be asked about, are three things."""
    headers = {"cookie": f"__Host-sid={Cookie.new()}"}
    assert told(shielded(visitors)) == [None, None]
    assert told(shielded(visitors), **headers) == [None, ENDED]

    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert told(shielded(visitors)) == [None, None]
    assert told(shielded(visitors), **headers) == [None, UNKNOWN]


def test_a_session_survives_a_database_that_is_away(visitors, sessions, monkeypatch):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    monkeypatch.setattr("services.web.visitors._TRUST_SECONDS", 0.0)

    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert visitors.find(cookie) is session
    assert visitors.by_id(session.id) is session


def test_after_a_long_outage_nobody_is_taken_for_signed_out(visitors, sessions, monkeypatch):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    monkeypatch.setattr("services.web.visitors._TRUST_SECONDS", 0.0)
    monkeypatch.setattr("services.web.visitors._OUTAGE_SECONDS", 0.0)

    def away(*_, **__):
        raise StoreUnavailable("away")

    with monkeypatch.context() as outage:
        outage.setattr(type(sessions.server), "call", away)
        with pytest.raises(StoreUnavailable):
            visitors.by_id(session.id)
        assert told(shielded(visitors), cookie=f"__Host-sid={cookie}") == [None, UNKNOWN]

    assert visitors.by_id(session.id) is session


def test_who_reads_in_an_open_tab_is_not_away(visitors, monkeypatch):
    cookie, other = (visitors.sign_up(new_email(), PASSWORD) for _ in range(2))
    session = visitors.find(cookie)
    with opened(shielded(visitors), cookie=f"__Host-sid={cookie}"):
        monkeypatch.setattr("services.web.visitors._IDLE_SECONDS", 0.0)
        visitors.find(other)
        assert visitors.by_id(session.id) is session

    visitors.find(other)
    assert visitors.by_id(session.id) is None
    assert not visitors._tabs


def test_a_session_ended_elsewhere_ends_here(visitors, sessions, monkeypatch):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    monkeypatch.setattr("services.web.visitors._TRUST_SECONDS", 0.0)

    sessions.end(cookie)

    assert visitors.by_id(session.id) is None
    assert visitors.find(cookie) is None


def test_every_answer_is_hardened(visitors):
    headers = shielded(visitors).get("/").headers

    assert headers["content-security-policy"] == "default-src 'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers
    https = shielded(visitors, Origin("https://daybook.example", 1)).get("/").headers
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
    assert shielded(None).request(method, path).status_code == 404
