"""Attempts to read another user's conversation by a known session id, cookie, origin or address.

For identity headers see tests/web/test_session_middleware.py.
"""

import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import uuid4
from zipfile import ZipFile

import httpx
import psutil
import pytest
from playwright.sync_api import expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from services.web import streamlit_assets
from tests.journeys.conftest import sign_up
from tests.journeys.people import PASSWORD, SECONDS
from tests.journeys.seeds import converse, second_process
from tests.stack.apps import until

SECRET = "the key is under the blue flowerpot"


@dataclass
class Visit:
    """A websocket, with its session id and all received bytes."""

    socket: ClientConnection = field(repr=False)
    session: str = ""
    widgets: set[str] = field(default_factory=set)  # ids
    received: bytes = field(default=b"", repr=False)

    def send(self, ask):
        self.socket.send(ask.SerializeToString())

    def take(self, seconds):
        """Return the next message. Raise TimeoutError after *seconds* without one."""
        octets = self.socket.recv(timeout=seconds)
        self.received += octets
        message = ForwardMsg()
        message.ParseFromString(octets)
        return message

    def run(self, query, **widget):
        """Run the page at *query* to its end, after a change of a *widget*: its id, and its value in one of the fields."""
        ask = BackMsg()
        ask.rerun_script.query_string = query
        if widget:
            ask.rerun_script.widget_states.widgets.add(**widget)
        self.send(ask)
        while True:
            message = self.take(SECONDS)
            match message.WhichOneof("type"):
                case "new_session":
                    self.session = message.new_session.initialize.session_id
                case "delta":
                    element = message.delta.new_element
                    drawn = getattr(element, element.WhichOneof("type") or "", None)
                    self.widgets |= {getattr(drawn, "id", "")} - {""}
                case "script_finished":
                    if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                        return

    def leave(self):
        self.socket.close()
        return self


def connected(app, cookie="", session="", headers=None):
    """Connect like a browser that asks for the Streamlit session *session*."""
    known = ["streamlit", "none", session] if session else ["streamlit"]
    sent = {"Origin": app.url, "Cookie": cookie or None} | (headers or {})
    socket = connect(
        f"ws://{urlsplit(app.url).netloc}/_stcore/stream",
        subprotocols=known,
        additional_headers={name: text for name, text in sent.items() if text is not None},
        max_size=None,
        proxy=None,
    )
    return Visit(socket)


@dataclass
class Owner:
    """A user with a conversation, and with a tab that shows it."""

    cookie: str
    query: str
    tab: Visit


def signs_out(app, owner):
    url, headers = f"{app.url}/session/end", {"cookie": owner.cookie}
    httpx.post(url, headers=headers, timeout=SECONDS, trust_env=False)


@pytest.fixture
def maya(app):
    email = f"owner-{uuid4()}@daybook.test"
    cookie = sign_up(app, email)
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(email, PASSWORD)
        conversation = converse(session, [(SECRET, "I see.")])
    maya = Owner(cookie, f"c={conversation}", connected(app, cookie))
    maya.tab.run(maya.query)
    assert SECRET.encode() in maya.tab.received
    yield maya
    maya.tab.leave()


def attempt(app, owner, **who):
    """Ask for the conversation of *owner* after her own tab was closed and its session became free."""
    owner.tab.leave()
    visit = connected(app, **who)
    visit.run(owner.query)
    return visit.leave()


def test_owner_reconnects_to_her_own_session(app, maya):
    """Without an attack, the same attempt succeeds for the owner."""
    again = attempt(app, maya, cookie=maya.cookie, session=maya.tab.session)

    assert again.session == maya.tab.session
    assert SECRET.encode() in again.received


def test_streamlit_session_id_opens_nothing_for_others(app, maya):
    omar = sign_up(app, f"stranger-{uuid4()}@daybook.test")

    for cookie in (omar, "", "__Host-sid=", f"__Host-sid={'0' * 64}"):
        got = attempt(app, maya, cookie=cookie, session=maya.tab.session)
        assert got.session != maya.tab.session
        assert SECRET.encode() not in got.received


def test_cookie_and_session_open_nothing_after_sign_out(app, maya):
    signs_out(app, maya)

    got = attempt(app, maya, cookie=maya.cookie, session=maya.tab.session)

    assert got.session != maya.tab.session
    assert SECRET.encode() not in got.received


def test_open_connection_shows_nothing_after_sign_out(app, maya):
    maya.tab.received = b""
    signs_out(app, maya)

    with suppress(ConnectionClosed):  # the end of the session closes the tabs of the process
        maya.tab.run(maya.query)

    assert SECRET.encode() not in maya.tab.received


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "http://localhost", "http://[", None]
)
def test_page_of_another_site_cannot_connect(app, maya, origin):
    said = app.said()

    with pytest.raises(InvalidStatus) as refused:
        connected(app, maya.cookie, headers={"Origin": origin})

    assert refused.value.response.status_code == 403
    assert app.said() == said


def test_export_is_for_its_owners_session_only(app, maya):
    def export(cookie="", suffix="md", **headers):
        url = f"{app.url}/export/{maya.query.removeprefix('c=')}.{suffix}"
        return httpx.get(url, headers=headers | {"cookie": cookie}, trust_env=False)

    omar = sign_up(app, f"stranger-{uuid4()}@daybook.test")
    for suffix in ("md", "json"):
        taken = export(maya.cookie, suffix)
        assert SECRET in taken.text
        assert taken.headers["cache-control"] == "no-store"
        assert taken.headers["content-disposition"].startswith("attachment; ")
        for cookie in (omar, "", f"__Host-sid={'0' * 64}"):
            refused = export(cookie, suffix)
            assert (refused.status_code, refused.text) == (303, "")
            assert refused.headers["location"] == f"/?{maya.query}"
    assert export(maya.cookie, "exe").status_code == 404
    assert export(maya.cookie, **{"sec-fetch-site": "cross-site"}).status_code == 404


def test_export_of_everything_is_the_sessions_own(app, maya):
    def export(cookie="", **headers):
        headers = headers | {"cookie": cookie}
        return httpx.get(f"{app.url}/export/everything.zip", headers=headers, trust_env=False)

    def texts(answer):
        with ZipFile(io.BytesIO(answer.content)) as archive:
            return "".join(archive.read(name).decode() for name in archive.namelist())

    omar = sign_up(app, f"stranger-{uuid4()}@daybook.test")
    taken = export(maya.cookie)
    assert SECRET in texts(taken)
    assert taken.headers["cache-control"] == "no-store"
    assert SECRET not in texts(export(omar))
    for cookie in ("", f"__Host-sid={'0' * 64}"):
        refused = export(cookie)
        assert (refused.status_code, refused.text) == (303, "")
        assert refused.headers["location"] == "/data"
    assert export(maya.cookie, **{"sec-fetch-site": "cross-site"}).status_code == 404


def let_in(app, headers=None, cookie=""):
    """Return a tab, once the tabs of the test before are closed."""

    def try_it():
        with suppress(InvalidStatus):
            return connected(app, cookie, headers=headers)

    return until(try_it)


def test_forged_client_address_allows_no_more_tabs(app, person):
    """The page learns the reason from a POST, because a refused websocket has none."""
    maya = person()
    visits = [let_in(app, {"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(20)]
    try:
        with pytest.raises(InvalidStatus):
            connected(app, headers={"X-Forwarded-For": "192.0.2.20"})
        maya.page.goto(app.url)
        expect(maya.page.get_by_role("alert")).to_contain_text("Too many sign-in pages are open")
    finally:
        for visit in visits:
            visit.leave()
    expect(maya.page.get_by_role("tab", name="Sign in")).to_be_visible()
    expect(maya.page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("who", ["strangers", "users"])
def test_tab_reconnects_after_many_others_were_disconnected(app, maya, who):
    cookie = "" if who == "strangers" else sign_up(app, f"other-{uuid4()}@daybook.test")
    maya.tab.leave()
    for _ in range(130):  # Streamlit by default keeps the state of 128
        let_in(app, cookie=cookie).leave()

    again = connected(app, maya.cookie, maya.tab.session)
    again.run(maya.query)

    assert again.leave().session == maya.tab.session


def test_messages_that_no_page_sends_are_not_answered(app):
    visit = let_in(app)
    visit.run("")
    with suppress(TimeoutError):
        while True:
            visit.take(1)
    said = app.said()

    for kind in ("load_git_info", "debug_shutdown_runtime", "debug_disconnect_websocket"):
        visit.send(BackMsg(**{kind: True}))
    visit.send(BackMsg(file_urls_request={"file_names": [""] * 3}))
    visit.send(BackMsg(backend_operation_request={"session_id": visit.session}))
    visit.send(BackMsg())

    with pytest.raises(TimeoutError):
        visit.take(1)
    visit.run("")
    visit.leave()
    assert app.said() == said


def test_no_foreign_origin_may_send_messages_to_the_page(app):
    host = httpx.get(f"{app.url}/_stcore/host-config", trust_env=False, timeout=SECONDS)

    assert host.json()["allowedOrigins"] == []
    assert host.headers["cross-origin-opener-policy"] == "same-origin"


def test_widget_values_that_no_page_sends_are_refused(app, maya):
    said, tab = app.said(), maya.tab
    values = {"json_value": "{", "string_value": "of none", "int_value": 7, "bytes_value": b"\xff"}
    assert len(tab.widgets) > 10

    for widget in sorted(tab.widgets):
        for name, value in values.items():
            tab.run(maya.query, id=widget, **{name: value})

    lines = [json.loads(line) for line in app.said().removeprefix(said).splitlines()]
    assert {(line["event"], line["error"]) for line in lines} == {
        ("call.refused", "UnreadableInput")
    }
    assert [line for line in lines if "traceback" in line] == []
    tab.received = b""
    tab.run(maya.query)
    assert SECRET.encode() in tab.received


def test_websocket_dropped_during_a_run_leaves_no_line(app, maya):
    said, dropped = app.said(), connected(app, maya.cookie)
    ask = BackMsg()
    ask.rerun_script.query_string = maya.query
    dropped.send(ask)

    dropped.socket.socket.shutdown(socket.SHUT_RDWR)  # without a frame that closes the websocket

    for _ in range(3):
        maya.tab.run(maya.query)
    assert app.said() == said


MB = 1_000_000


def unfinished_messages():
    """Return beginnings of messages that never end, each with the bytes that continue it."""
    huge = Frame(Opcode.BINARY, bytes(45 * MB)).serialize(mask=True)
    first = Frame(Opcode.BINARY, bytes(60_000), fin=False).serialize(mask=True)
    begun = Frame(Opcode.BINARY, b"", fin=False).serialize(mask=True)
    crumb = Frame(Opcode.CONT, b"a", fin=False).serialize(mask=True)
    empty = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
    ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True)
    return [huge, first * 2, begun + crumb * 64_000, begun + empty * 500_000, ping * 40_000]


def test_unfinished_messages_of_strangers_take_little_memory(app):
    process = psutil.Process(app.process.pid)

    def send(visit, octets):
        visit.socket.socket.settimeout(2)
        with suppress(OSError):  # the server refused the bytes, or no longer reads them
            visit.socket.socket.sendall(octets)

    with ExitStack() as left:
        visits = []
        for _ in range(20):
            visits.append(let_in(app))
            left.callback(visits[-1].leave)
            visits[-1].run("")
        before = process.memory_info().rss
        kinds = unfinished_messages()
        with ThreadPoolExecutor(len(visits)) as senders:
            list(senders.map(send, visits, kinds * (len(visits) // len(kinds))))
        assert app.health()[0] == 200
        assert process.memory_info().rss - before < 20 * MB


@contextmanager
def connections_that_take_a_file(app, count):
    """Yield *count* connections that have asked for the page's largest file, uncompressed, and have read nothing."""
    path = f"/static/js/{largest_script().name}"
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost:{app.port}\r\n\r\n".encode()
    with ExitStack() as left:
        clients = []
        for _ in range(count):
            clients.append(left.enter_context(socket.create_connection(("127.0.0.1", app.port))))
            clients[-1].settimeout(SECONDS)
            clients[-1].sendall(ask)
        yield clients


def largest_script():
    scripts = (streamlit_assets.folder() / "static" / "js").iterdir()
    return max(scripts, key=lambda file: file.stat().st_size)


@pytest.mark.long_run
def test_files_that_are_taken_slowly_take_little_memory(app):
    process = psutil.Process(app.process.pid)
    with connections_that_take_a_file(app, 1) as [client]:
        assert client.recv(1)  # the file is in memory now
    before = process.memory_info().rss

    for _ in range(8):
        with connections_that_take_a_file(app, 100) as clients:
            for client in clients:
                assert client.recv(1, socket.MSG_PEEK)
            assert process.memory_info().rss - before < 60 * MB
    with connections_that_take_a_file(app, 300) as clients:
        for _ in range(8):  # 16 kB in 25 seconds
            for client in clients:
                assert client.recv(2_048)
            assert process.memory_info().rss - before < 60 * MB
            time.sleep(25 / 8)
    assert app.health()[0] == 200
    assert process.memory_info().rss - before < 60 * MB
