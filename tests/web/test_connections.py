"""Limits on connections, over a real server with short times: websocket messages, half-open requests, stalled downloads."""

import asyncio
import socket
import threading
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from itertools import repeat
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from services.errors import Misconfigured
from services.store.accounts import Cookie
from services.web import connections, streamlit_assets
from services.web.export_route import ExportRoutes
from services.web.origin import Origin
from services.web.page_assets import PageAssets
from tests.stack.apps import SECONDS, until

SOON, LONG = 0.3, 20.0  # seconds after which a connection is ended, and never within a test
LARGE = 20_000_000  # bytes, more than the kernel's buffers hold
SERVERS = ["h11", *(["httptools"] if find_spec("httptools") else [])]
HEAD = b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"


async def form(request):
    async with request.form() as fields:
        return PlainTextResponse(fields["name"])


async def slow(_):
    await asyncio.sleep(4 * SOON)
    return PlainTextResponse("late")


async def large(_):
    return PlainTextResponse(bytes(LARGE))


def exporting():
    """Return the shared state of a process whose only user has an export without an end."""
    export = SimpleNamespace(parts=lambda: repeat(bytes(100_000)))
    session = SimpleNamespace(user_id=uuid4())
    return SimpleNamespace(
        session_cache=SimpleNamespace(find=lambda _: session),
        user_of=lambda _: SimpleNamespace(begin_export=lambda _: export),
    )


@contextmanager
def serving(http):
    """Yield the port of a server, the events in its app and its connections, and a function that begins the shutdown."""
    events = ("is_over", "is_asked", "is_shut_down")
    seen = SimpleNamespace(taken=0, **{name: threading.Event() for name in events})

    @asynccontextmanager
    async def lifespan(_):
        yield
        seen.is_shut_down.set()
        while server.server_state.connections:  # one without an end would be a warning of Python
            await asyncio.sleep(0.01)

    async def endless(_):
        async def parts():
            try:
                while True:
                    seen.taken += 1
                    yield bytes(100_000)
                    await asyncio.sleep(0)
            finally:
                seen.is_over.set()

        return StreamingResponse(parts())

    async def tab(websocket):
        if "session" in websocket.query_params:
            connections.allow_large_messages(websocket.scope)
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            if text := message.get("bytes") or message.get("text"):
                await websocket.send_text(str(len(text)))

    async def busy(websocket):
        await websocket.accept()
        while (await websocket.receive())["type"] == "websocket.receive":
            seen.taken += 1
            time.sleep(0.02)

    async def flood(websocket):
        await websocket.accept()
        try:
            while True:
                seen.taken += 1
                await websocket.send_bytes(bytes(40_000_000))  # more than is read in any test
                await asyncio.sleep(0)
        except WebSocketDisconnect:
            seen.is_over.set()

    async def never(websocket):
        seen.is_asked.set()
        await websocket.receive()  # reads the next message
        assert (await websocket.receive())["type"] == "websocket.disconnect"
        seen.is_over.set()

    routes = [
        WebSocketRoute("/never", never),
        WebSocketRoute("/busy", busy),
        WebSocketRoute("/flood", flood),
        Route("/form", form, methods=["POST"]),
        Route("/slow", slow),
        Route("/endless", endless),
        Route("/large", large),
        WebSocketRoute("/tab", tab),
        *ExportRoutes(exporting, Origin(None, 0)).routes(),
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(PageAssets, pages=())]),
        http=http,
        ws="websockets-sansio",
        ws_max_size=50_000_000,
        ws_per_message_deflate=False,
        log_level="critical",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=[[listener]])
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started
        seen.shut_down = lambda: setattr(server, "should_exit", True)
        seen.connections = server.server_state.connections
        yield listener.getsockname()[1], seen
    finally:
        server.should_exit = True
        thread.join(SECONDS)


@pytest.fixture
def times(monkeypatch):
    """Return a function that sets the time limits of requests and downloads; those not given are long."""

    def times(**changed):
        for name in ("HEADERS_SECONDS", "BODY_SECONDS", "STALLED_SECONDS"):
            monkeypatch.setattr(connections, name, changed.get(name, LONG))

    times()
    return times


@pytest.fixture(params=SERVERS)
def server(request, monkeypatch, times):
    monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)
    for _ in range(2):  # called twice, because tests of pages start the app, too
        connections.limit_connections(is_proxied=False)
    with serving(request.param) as served:
        yield served


@contextmanager
def connected(port, *sent):
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
        for part in sent:
            client.sendall(part)
        yield client


def upgrade(path):
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def ended(client):
    """Return True once the server has ended the connection of *client*; read its answers before that."""
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


def tab(port, query=""):
    return connect(f"ws://127.0.0.1:{port}/tab{query}", max_size=None, proxy=None)


@pytest.mark.parametrize(("query", "most"), [("", 64_000), ("?session", 4_000_000)])
@pytest.mark.parametrize("parts", [1, 5])
def test_websocket_message_is_bounded_by_its_session(server, query, most, parts):
    port, _ = server

    def message(size):
        whole = bytes(size)
        return whole if parts == 1 else [whole[n::parts] for n in range(parts)]

    def begun(size):
        """Return a message without its last part, because an unread one would reset the connection and lose the answer."""
        sizes = [size // parts] * (parts - 1) + [size - size // parts * (parts - 1)]
        opcodes = [Opcode.BINARY, *[Opcode.CONT] * (parts - 1)]
        frames = [
            Frame(opcode, bytes(each), fin=False).serialize(mask=True)
            for opcode, each in zip(opcodes, sizes, strict=True)
        ]
        return b"".join(frames)[: -sizes[-1]]

    with tab(port, query) as client:
        client.send(message(most))
        assert client.recv(SECONDS) == str(most)
        client.socket.sendall(begun(most + 1))
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(SECONDS)
        assert closed.value.rcvd.code == 1009


def test_fragments_of_a_message_are_held_as_one():
    protocol = object.__new__(connections.BoundedWebSocket)
    protocol.close_sent = False
    protocol.handle_text(Frame(Opcode.TEXT, b"a", fin=False))

    for _ in range(400):
        protocol.handle_cont(Frame(Opcode.CONT, b"", fin=False))
        protocol.handle_cont(Frame(Opcode.CONT, b"b", fin=False))

    assert protocol.frames == [b"a" + 400 * b"b"]


@pytest.mark.parametrize("opcode", [Opcode.CONT, Opcode.PING])
def test_flood_of_frames_without_a_message_is_ended(server, opcode):
    first = Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True)
    one = Frame(opcode, b"", fin=opcode is Opcode.PING).serialize(mask=True)
    with tab(server[0]) as client:
        client.socket.sendall(first + one * 1001)
        with pytest.raises(ConnectionClosedError):
            client.recv(SECONDS)


def test_flood_of_messages_that_wait_is_ended(server):
    one = Frame(Opcode.BINARY, b"").serialize(mask=True)
    with tab(server[0]) as client:
        client.send("peas")
        assert client.recv(SECONDS) == "4"
        client.socket.sendall(one * 2000)
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(SECONDS)
        assert closed.value.rcvd.code == 1008


def test_messages_that_wait_let_other_clients_in(server):
    port, seen = server
    one = Frame(Opcode.BINARY, b"").serialize(mask=True)
    with (
        connect(f"ws://127.0.0.1:{port}/busy", proxy=None) as client,
        tab(port) as other,
    ):
        client.socket.sendall(one * 100)
        until(lambda: seen.taken)
        other.send("peas")
        assert other.recv(SECONDS) == "4"
        assert seen.taken < 100


def test_pongs_that_are_not_read_are_dropped(server, monkeypatch):
    """A client that sends pings without reading would otherwise make the server store an answer to each."""
    port, _ = server
    transports = []
    made = connections.BoundedWebSocket.connection_made

    def connection_made(protocol, transport):
        transports.append(transport)
        made(protocol, transport)

    monkeypatch.setattr(connections.BoundedWebSocket, "connection_made", connection_made)
    pings = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 1000
    pings += Frame(Opcode.BINARY, b"").serialize(mask=True)
    with connected(port, upgrade("/tab")) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 101")
        client.settimeout(0.5)
        with suppress(TimeoutError):  # raised once the server reads no more
            for _ in range(200):  # 26 MB
                client.sendall(pings)
        assert max(each.get_write_buffer_size() for each in transports) < 400_000


def test_wrong_frame_before_the_handshake_ends_the_connection(server):
    port, seen = server
    with connected(port, upgrade("/never")) as client:
        assert seen.is_asked.wait(SECONDS)
        client.sendall(b"\xff" * 64)
        assert ended(client)
    assert seen.is_over.wait(SECONDS)


@pytest.mark.parametrize("sent", [b"", b"GET /slow HTT", b"GET /slow HTTP/1.1\r\nHost: x\r\n"])
def test_request_whose_headers_stay_unfinished_is_ended(server, times, sent):
    times(HEADERS_SECONDS=SOON)
    with connected(server[0], sent) as client:
        assert ended(client)


def test_headers_that_come_by_drops_are_not_waited_for(server, times):
    times(HEADERS_SECONDS=SOON)
    with (
        connected(server[0], b"GET /slow HTTP/1.1\r\nA: ") as client,
        pytest.raises(ConnectionError),
    ):
        for _ in range(int(SECONDS / 0.05)):
            client.sendall(b"a")
            time.sleep(0.05)


@pytest.mark.parametrize("drops", [False, True])
def test_form_whose_body_stays_unfinished_is_ended(server, times, drops):
    times(BODY_SECONDS=SOON)
    with connected(server[0], HEAD, b"Content-Length: 9000\r\n\r\nname=") as client:
        if not drops:
            assert ended(client)
            return
        with pytest.raises(ConnectionError):
            for _ in range(int(SECONDS / 0.05)):
                client.sendall(b"a")
                time.sleep(0.05)


def test_second_request_of_a_connection_is_timed_too(server, times):
    times(HEADERS_SECONDS=SOON)
    body = b"Content-Length: 6\r\n\r\nname=a"
    with connected(server[0], HEAD + body) as client:
        assert client.recv(1)
        client.sendall(b"GET /slow HTTP/1.1\r\n")
        assert ended(client)


def test_whole_request_waits_for_its_answer(server, times):
    times(HEADERS_SECONDS=SOON, BODY_SECONDS=SOON, STALLED_SECONDS=SOON)

    answer = httpx.get(f"http://127.0.0.1:{server[0]}/slow", trust_env=False, timeout=SECONDS)

    assert answer.text == "late"


def test_open_websocket_outlives_the_time_of_its_headers(server, times):
    times(HEADERS_SECONDS=SOON, STALLED_SECONDS=SOON)
    with tab(server[0]) as client:
        time.sleep(4 * SOON)
        client.send("peas")
        assert client.recv(SECONDS) == "4"


@pytest.fixture
def counted(monkeypatch):
    """Connections of this machine count, and two of them are the most."""
    monkeypatch.setattr(connections, "MOST_OF_A_NETWORK", 2)
    monkeypatch.setattr(connections, "is_this_machine", lambda _: False)


def test_connection_too_many_of_an_address_is_ended(counted, server):
    port, _ = server
    ask = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(port, upgrade("/tab")) as first, connected(port, ask) as second:
        assert first.recv(1)
        assert second.recv(1)
        with connected(port) as third, suppress(ConnectionError):
            third.sendall(upgrade("/tab"))
            assert third.recv(1) == b""
    with connected(port, ask) as fourth:
        assert fourth.recv(1)


def assert_goes_on_while_read_slowly(client, seen):
    until(lambda: seen.taken)
    for _ in range(8):
        time.sleep(SOON)
        for _ in range(40):
            assert client.recv(65_536)
    assert not seen.is_over.is_set()


def test_websocket_that_is_not_read_is_ended(server, times):
    times(STALLED_SECONDS=SOON)
    port, seen = server
    with connected(port, upgrade("/flood")):
        assert seen.is_over.wait(LONG)  # before uvicorn's pings would end it


def test_websocket_goes_on_while_it_is_read_slowly(server, times):
    times(STALLED_SECONDS=4 * SOON)
    port, seen = server
    with connected(port, upgrade("/flood")) as client:
        assert_goes_on_while_read_slowly(client, seen)


def test_download_that_is_not_taken_is_ended(server, times):
    times(STALLED_SECONDS=SOON)
    port, seen = server
    with connected(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert seen.is_over.wait(SECONDS)


def test_download_goes_on_while_it_is_taken_slowly(server, times):
    times(STALLED_SECONDS=4 * SOON)
    port, seen = server
    with connected(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        assert_goes_on_while_read_slowly(client, seen)


LARGEST = max(
    (streamlit_assets.folder() / "static" / "js").iterdir(), key=lambda file: file.stat().st_size
)
REAL = {"file": f"/static/js/{LARGEST.name}", "export": "/export/everything.zip"}


@contextmanager
def taking(port, path):
    """Yield a client that has asked for *path*, and whose kernel buffers little."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", port))
        cookie = f"Cookie: __Host-sid={Cookie.new()}; sid={Cookie.new()}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        yield client


@pytest.mark.parametrize("path", REAL.values(), ids=REAL)
def test_twenty_stalled_clients_are_cut_soon(server, times, path):
    times(STALLED_SECONDS=1.2)
    port, seen = server
    with ExitStack() as open_clients:
        for _ in range(20):
            open_clients.enter_context(taking(port, path))
        until(lambda: not seen.connections)


@pytest.mark.parametrize("path", REAL.values(), ids=REAL)
def test_client_that_takes_little_is_not_cut(server, times, path):
    times(STALLED_SECONDS=1.2)
    port, seen = server
    with taking(port, path) as client:
        for _ in range(40):  # 250 kB/s for four seconds: 5 kB/s by the real time
            assert client.recv(25_000)
            time.sleep(0.1)
        assert seen.connections


def test_large_response_is_sent_whole_to_a_slow_client(server, times):
    times(HEADERS_SECONDS=SOON)
    port, _ = server
    with connected(port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        client.recv(1000)
        time.sleep(2 * SOON)
        received = 0
        while received < LARGE * 0.9:
            part = client.recv(1_000_000)
            assert part
            received += len(part)


def test_shutdown_does_not_wait_for_a_slow_download(server):
    port, seen = server
    with connected(port, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"):
        until(lambda: seen.taken)
        seen.shut_down()
        assert seen.is_shut_down.wait(LONG / 2)


@pytest.mark.parametrize("name", ["WebSocketsSansIOProtocol", "AutoHTTPProtocol"])
def test_unknown_uvicorn_is_refused(monkeypatch, name):
    monkeypatch.setattr(connections, name, type("Other", (), {"__init__": lambda self: None}))

    with pytest.raises(Misconfigured, match=rf"needs uvicorn .*{name}.*uv pip"):
        connections.limit_connections(is_proxied=False)
