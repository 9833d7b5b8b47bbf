"""Who is asking, as the app is told it, and what goes out with every answer."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from services.errors import StoreUnavailable
from services.store.sessions import Cookie, Sessions
from services.web.doors import Origin
from services.web.shield import ENDED, UNKNOWN, Shield, content_security_policy
from services.web.visitors import Visitors
from tests.conftest import RunningStack
from tests.store.conftest import PASSWORD, make_sessions, new_email

INDEX = Path(importlib.util.find_spec("streamlit").origin).parent / "static/index.html"


@pytest.fixture(scope="module")
def sessions(stack: RunningStack) -> Iterator[Sessions]:
    made = make_sessions(stack)
    yield made
    made.gateway.http.close()


@pytest.fixture
def visitors(sessions: Sessions) -> Visitors:
    return Visitors(sessions, on_leave=lambda _: None, on_forget=lambda _: None)


def who(request: Request) -> JSONResponse:
    return JSONResponse(
        [request.headers.get("x-app-user-id"), request.headers.get("x-app-session")]
    )


def shielded(visitors: Visitors | None, origin: Origin | None = None) -> TestClient:
    app = Starlette(routes=[Route("/{path:path}", who)])
    shield = Shield(app, lambda: visitors, origin or Origin(None, 0), "default-src 'self'")
    return TestClient(shield)


def test_a_cookie_becomes_an_identity_where_streamlit_looks(visitors: Visitors):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    headers = {"cookie": f"__Host-sid={cookie}"}

    told = shielded(visitors).get("/_stcore/stream", headers=headers).json()

    assert told == [str(session.user_id), str(session.id)]
    assert shielded(visitors).get("/static/js/x.js", headers=headers).json() == [None, None]


@pytest.mark.parametrize("path", ["/_stcore/stream", "/_stcore/upload_file/x", "/media/x", "/"])
def test_what_a_client_says_of_itself_never_passes(visitors: Visitors, path: str):
    forged = {"X-App-User-Id": "someone", "x-app-session": "something"}

    assert shielded(visitors).get(path, headers=forged).json() == [None, None]


def test_another_cookie_is_nobody(visitors: Visitors):
    for text in (str(Cookie.new()), "", "zz", "00" * 31):
        headers = {"cookie": f"__Host-sid={text}"}
        assert shielded(visitors).get("/_stcore/stream", headers=headers).json() == [None, None]


def test_before_the_backend_is_there_everybody_is_nobody():
    headers = {"cookie": f"__Host-sid={Cookie.new()}"}

    assert shielded(None).get("/_stcore/stream", headers=headers).json() == [None, None]


def test_a_tab_with_a_cookie_waits_until_it_can_be_known_whose_it_is(visitors: Visitors):
    async def tell(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.headers.get("x-app-user-id", "nobody"))

    cookie = visitors.sign_up(new_email(), PASSWORD)
    answers = iter([None, None, visitors])
    app = Starlette(routes=[WebSocketRoute("/_stcore/stream", tell)])
    shield = Shield(app, lambda: next(answers), Origin(None, 0), "", patience_seconds=20)

    with TestClient(shield).websocket_connect(
        "/_stcore/stream", headers={"cookie": f"__Host-sid={cookie}"}
    ) as tab:
        assert tab.receive_text() == str(visitors.find(cookie).user_id)


async def tell(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.headers.get("x-app-session", "nobody"))


def told_to_a_tab(visitors: Visitors, **headers: str) -> str:
    app = Starlette(routes=[WebSocketRoute("/_stcore/stream", tell)])
    client = TestClient(Shield(app, lambda: visitors, Origin(None, 0), ""))
    with client.websocket_connect("/_stcore/stream", headers=headers) as tab:
        return tab.receive_text()


def test_a_tab_is_told_why_nobody_sits_there(
    visitors: Visitors, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    """Signed out, a session that has ended, and one that cannot be asked about, are three things."""
    headers = {"cookie": f"__Host-sid={Cookie.new()}"}
    assert told_to_a_tab(visitors) == "nobody"
    assert told_to_a_tab(visitors, **headers) == ENDED

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert told_to_a_tab(visitors) == "nobody"
    assert told_to_a_tab(visitors, **headers) == UNKNOWN


def test_a_session_survives_a_database_that_is_away(
    visitors: Visitors, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    monkeypatch.setattr("services.web.visitors._TRUST_SECONDS", 0.0)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert visitors.find(cookie) is session
    assert visitors.by_id(session.id) is session


def test_after_a_long_outage_nobody_is_taken_for_signed_out(
    visitors: Visitors, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    monkeypatch.setattr("services.web.visitors._TRUST_SECONDS", 0.0)
    monkeypatch.setattr("services.web.visitors._OUTAGE_SECONDS", 0.0)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as outage:
        outage.setattr(type(sessions.server), "call", away)
        with pytest.raises(StoreUnavailable):
            visitors.by_id(session.id)
        headers = {"cookie": f"__Host-sid={cookie}"}
        assert shielded(visitors).get("/_stcore/stream", headers=headers).json() == [None, None]

    assert visitors.by_id(session.id) is session


def test_who_reads_in_an_open_tab_is_not_away(visitors: Visitors, monkeypatch: pytest.MonkeyPatch):
    async def stay(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    cookie, other = (visitors.sign_up(new_email(), PASSWORD) for _ in range(2))
    session = visitors.find(cookie)
    app = Starlette(routes=[WebSocketRoute("/_stcore/stream", stay)])
    client = TestClient(Shield(app, lambda: visitors, Origin(None, 0), ""))

    headers = {"cookie": f"__Host-sid={cookie}"}
    with client.websocket_connect("/_stcore/stream", headers=headers):
        monkeypatch.setattr("services.web.visitors._IDLE_SECONDS", 0.0)
        visitors.find(other)
        assert visitors.by_id(session.id) is session

    visitors.find(other)
    assert visitors.by_id(session.id) is None
    assert not visitors._tabs


def test_a_session_ended_elsewhere_ends_here(
    visitors: Visitors, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    cookie = visitors.sign_up(new_email(), PASSWORD)
    session = visitors.find(cookie)
    monkeypatch.setattr("services.web.visitors._TRUST_SECONDS", 0.0)

    sessions.end(cookie)

    assert visitors.by_id(session.id) is None
    assert visitors.find(cookie) is None


def test_every_answer_is_hardened(visitors: Visitors):
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


def test_figures_of_the_server_are_nobodys_business(visitors: Visitors):
    app = Starlette(routes=[Route("/_stcore/metrics", who)])
    shield = Shield(app, lambda: visitors, Origin(None, 0), "")

    assert TestClient(shield).get("/_stcore/metrics").status_code == 404
