"""Identity headers of app sessions, and the security headers of every answer."""

import asyncio
from contextlib import ExitStack
from types import SimpleNamespace
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from services.daemon_threads import in_thread
from services.domain.accounts import SessionEnd
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.users import session_cache as module
from services.web import streamlit_assets
from services.web.origin import Origin
from services.web.session_middleware import (
    MOVED,
    UNKNOWN,
    SessionMiddleware,
    content_security_policy,
)
from tests.stack.apps import SECONDS
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED

TABS, OURS = "/_stcore/stream", "http://localhost"


def identity(connection):
    return [connection.headers.get(name) for name in ("x-app-user-id", "x-app-session")]


async def answer_tab(websocket):
    await websocket.accept()
    await websocket.send_json(identity(websocket))
    await websocket.receive()


def client(shared, url=None, **options):
    page = Route("/{path:path}", lambda request: JSONResponse(identity(request)))
    app = Starlette(routes=[WebSocketRoute(TABS, answer_tab), page])
    policy = "default-src 'self'"
    return TestClient(SessionMiddleware(app, shared, Origin(url, 0), policy, **options), OURS)


def shared(session_cache, read_ahead=lambda *_: None):
    return SimpleNamespace(session_cache=session_cache, read_ahead=read_ahead)


def not_started():
    raise StoreUnavailable


def browser(session_cache, url=None):
    return client(lambda: shared(session_cache), url)


def open_tab(browser, **headers):
    return browser.websocket_connect(f"ws://localhost{TABS}", headers={"origin": OURS} | headers)


def identity_of_tab(browser, **headers):
    with open_tab(browser, **headers) as tab:
        return tab.receive_json()


def network_of_tab(session_cache, **headers):
    """Return the network to which the runs of a tab are charged: that of a tab without a session."""

    async def answer(websocket):
        await websocket.accept()
        await websocket.send_json(websocket.headers.get("x-app-network"))

    app = Starlette(routes=[WebSocketRoute(TABS, answer)])
    page = SessionMiddleware(app, lambda: shared(session_cache), Origin(None, 0), "")
    return identity_of_tab(TestClient(page, OURS), **headers)


@pytest.fixture
def sign_up(session_cache):
    """Return the cookie header and the session of a new account."""

    def sign_up():
        cookie, session = session_cache.accounts.sign_up_with(new_email(), PASSWORD)
        session_cache.add(cookie, session)
        return {"cookie": f"__Host-sid={cookie}"}, session

    return sign_up


@pytest.fixture
def outage(sessions, monkeypatch):
    """Make the database unreachable, until the end of the test or `undo`."""

    def away(*_, **__):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        yield lambda: patch.setattr(type(sessions.backend.server), "call", away) or patch.undo


def test_cookie_becomes_an_identity_of_the_tab(session_cache, sign_up):
    headers, session = sign_up()

    identity = identity_of_tab(browser(session_cache), **headers)

    assert identity == [str(session.user_id), str(session.id)]
    other = browser(session_cache).get("/static/js/x.js", headers=headers)
    assert other.json() == [None, None]


def test_chat_page_is_read_ahead_after_its_request(session_cache, sign_up):
    asked = []
    page = client(lambda: shared(session_cache, lambda *what: asked.append(what)))
    (headers, _), garden = sign_up(), uuid4()

    for path in ("/", f"/?c={garden}", "/?c=garden", "/memory", "/static/x.js"):
        page.get(path, headers=headers)
    page.get("/")

    assert [(str(cookie), its) for cookie, its in asked] == [
        (headers["cookie"].split("=")[1], its) for its in (None, garden, None)
    ]


def test_page_is_sent_while_the_database_is_away(session_cache, sign_up):
    def away(*_):
        raise StoreUnavailable

    page = client(lambda: shared(session_cache, away))
    assert page.get("/", headers=sign_up()[0]).is_success


def test_identity_headers_of_a_client_never_pass(session_cache):
    forged = {"X-App-User-Id": "someone", "x-app-session": "something"}

    assert identity_of_tab(browser(session_cache), **forged) == [None, None]
    assert browser(session_cache).get("/", headers=forged).json() == [None, None]


def test_tab_without_a_session_names_its_network(session_cache, sign_up):
    forged = {"X-App-Network": "192.0.2.1"}

    assert network_of_tab(session_cache, **forged) == "testclient"
    assert network_of_tab(session_cache, **sign_up()[0], **forged) is None


@pytest.mark.parametrize("text", ["5a" * 32, "", "zz", "00" * 31])
def test_unknown_cookie_opens_no_session(session_cache, text):
    assert identity_of_tab(browser(session_cache), cookie=f"__Host-sid={text}")[0] is None


def test_tab_is_anonymous_before_the_backend_starts():
    assert identity_of_tab(client(not_started), cookie=f"__Host-sid={Cookie.new()}") == [None, None]


def test_tab_with_a_cookie_waits_for_the_backend(session_cache, sign_up):
    headers, session = sign_up()
    answers = iter([not_started, not_started])
    waiting = client(
        lambda: next(answers, lambda: shared(session_cache))(),
        wait_seconds=20,
    )

    assert identity_of_tab(waiting, **headers)[0] == str(session.user_id)


def test_tab_learns_whether_its_session_ended_or_is_unknown(session_cache, outage):
    headers = {"cookie": f"__Host-sid={Cookie.new()}"}
    assert identity_of_tab(browser(session_cache)) == [None, None]
    assert identity_of_tab(browser(session_cache), **headers) == [None, "ended"]

    outage()

    assert identity_of_tab(browser(session_cache)) == [None, None]
    assert identity_of_tab(browser(session_cache), **headers) == [None, UNKNOWN]


@pytest.mark.parametrize("has_cookie", [True, False])
def test_refused_tab_is_told_of_an_outage_if_its_cookie_is_unchecked(
    session_cache, outage, has_cookie
):
    cookie = f"__Host-sid={Cookie.new()}" if has_cookie else ""
    tabs, headers = browser(session_cache), {"cookie": cookie, "origin": OURS}
    outage()
    with ExitStack() as open_tabs:
        for _ in range(20):
            open_tabs.enter_context(open_tab(tabs, **headers))

        refused = tabs.post(TABS, headers=headers)

    assert refused.status_code == 429
    assert refused.text == (
        "Daybook cannot reach its database. This tab reconnects by itself."
        if has_cookie
        else "Too many sign-in pages are open. Close some, or try again in a minute."
    )


def test_tab_learns_that_its_account_was_suspended(session_cache, sign_up, monkeypatch):
    headers, session = sign_up()
    ended = {session.id: SessionEnd.SUSPENDED}
    monkeypatch.setattr(type(session_cache.accounts), "ended", lambda *_: ended)
    session_cache.forget_if_ended([session])
    monkeypatch.setattr(type(session_cache.accounts), "open", refuse)

    assert identity_of_tab(browser(session_cache), **headers) == [None, "suspended"]


def test_tab_with_the_cookie_of_before_a_proof_loads_again(session_cache):
    accounts, email = session_cache.accounts, new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    session_cache.add(cookie, session)
    checked = accounts.find(email, NOT_COUNTED).checked(PASSWORD)

    new = session_cache.prove(session, cookie, checked)

    page, user = browser(session_cache), str(session.user_id)
    assert identity_of_tab(page, cookie=f"__Host-sid={cookie}") == [None, MOVED]
    assert identity_of_tab(page, cookie=f"__Host-sid={new}") == [user, str(session.id)]


@pytest.mark.parametrize("is_here", [True, False], ids=["here", "in another process"])
def test_open_tab_of_a_copied_cookie_is_hung_up_after_a_proof(session_cache, monkeypatch, is_here):
    accounts, email = session_cache.accounts, new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    session_cache.add(cookie, session)
    checked = accounts.find(email, NOT_COUNTED).checked(PASSWORD)
    monkeypatch.setattr(module, "_LEARNT_SECONDS", 0.2)
    page, tab_of = browser(session_cache), "__Host-sid={}".format
    with open_tab(page, cookie=tab_of(cookie)) as copied:
        copied.receive_json()

        if is_here:
            new = session_cache.prove(session, cookie, checked)
        else:
            new = accounts.prove(session, cookie, checked)
            session_cache.add(new, accounts.open(new))

        with open_tab(page, cookie=tab_of(new)) as own:
            assert own.receive_json() == [str(session.user_id), str(session.id)]
            with pytest.raises(WebSocketDisconnect) as hung_up:
                in_thread("receiver", copied.receive_json).result(SECONDS)
            assert hung_up.value.code == 1001
            own.send_text("a click")
    assert session_cache.is_open(new)


def refuse(*_):
    raise SignedOut


def test_session_of_an_open_tab_is_never_idle(session_cache, sign_up, monkeypatch):
    headers, session = sign_up()
    with open_tab(browser(session_cache), **headers):
        monkeypatch.setattr(module, "_IDLE_SECONDS", 0.0)
        session_cache.forget_idle()
        assert session_cache.by_id(session.id) is session

    session_cache.forget_idle()
    assert session_cache.by_id(session.id) is None


def test_every_answer_has_security_headers(session_cache):
    headers = browser(session_cache).get("/").headers

    assert headers["content-security-policy"] == "default-src 'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers
    https = browser(session_cache, "https://daybook.example").get("/").headers
    assert "max-age" in https["strict-transport-security"]


def test_policy_of_an_answer_stands_beside_that_of_all_answers():
    strict = {"Content-Security-Policy": "default-src 'none'"}
    page = PlainTextResponse("once", headers=strict)
    middleware = SessionMiddleware(page, not_started, Origin(None, 0), "default-src 'self'")

    policies = TestClient(middleware, OURS).get("/once").headers.get_list("content-security-policy")

    assert policies == ["default-src 'none'", "default-src 'self'"]  # a browser obeys both


def test_form_that_never_gets_whole_is_no_fault():
    async def cut(*_):
        raise ClientDisconnect

    middleware = SessionMiddleware(cut, not_started, Origin(None, 0), "")
    scope = {"type": "http", "method": "POST", "path": "/session", "headers": []}

    asyncio.run(middleware(scope, None, None))


def test_policy_allows_only_streamlits_own_inline_script():
    policy = content_security_policy(streamlit_assets.folder() / "index.html")

    assert policy.count("'sha256-") == 1
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert "frame-ancestors 'none'" in policy


def test_policy_lets_pages_load_from_nowhere_else():
    policy = content_security_policy(streamlit_assets.folder() / "index.html")

    directives = dict(part.split(maxsplit=1) for part in policy.split("; "))
    sources = {
        source
        for listed in directives.values()
        for source in listed.split()
        if source[:5] != "'sha2"
    }
    here = {"'self'", "'none'", "data:", "blob:"}
    assert sources <= here | {"'unsafe-inline'", "'wasm-unsafe-eval'"}
    assert "data:" not in directives["script-src"]
    for closed in ("frame-ancestors", "object-src"):
        assert directives[closed] == "'none'"


def test_new_cookie_has_32_random_bytes():
    new = {Cookie.new().secret for _ in range(5)}

    assert list(map(len, new)) == [32] * 5


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/_stcore/agent/interact",
        "/_stcore/agent/openapi.json",
        "/_stcore/agent/mcp",
        "/_stcore/metrics",
        "/_stcore/upload_file/session/file",
        "/media/0123.md",
    ],
)
def test_agents_uploads_media_and_metrics_are_closed(path, method):
    assert browser(None).request(method, path).status_code == 404
