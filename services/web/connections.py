"""Limits that Streamlit does not set: on connections, the size of websocket messages, and the time of requests, downloads and the
shutdown.

uvicorn has no options for most of them. The server reads its options before it imports the app, so this module replaces
uvicorn's protocol classes when the server starts to listen.
"""

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from types import CodeType
from typing import Any, Protocol, cast

from starlette.types import Scope
from uvicorn import Server
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from services.domain.hosts import is_this_machine
from services.errors import Misconfigured

STRANGERS_MESSAGE_BYTES, SESSIONS_MESSAGE_BYTES = 64_000, 4_000_000
_MOST_FRAMES = 1000  # maximum fragments and pings before a message is complete; browsers send few
_MOST_MESSAGES = 100  # maximum messages that wait for the app; browsers send a few at a time
_PART_BYTES = 16_384  # bytes parsed at a time, because a whole read may contain too many frames
# time limit for the headers of a request, from the connection or the end of the last response
HEADERS_SECONDS = 10.0
BODY_SECONDS = 10.0  # time limit for the body of a request, from the end of its headers
STALLED_SECONDS = 60.0  # a client that reads nothing of what was sent for this time is disconnected
_LOOKS = 6  # checks in that time
# time limit for finishing responses at shutdown; short, because partial replies are stored only afterwards
_SHUTDOWN_SECONDS = 1
_MESSAGE_BYTES = "daybook.message_bytes"  # key in a websocket's scope["state"]: the limit on its messages, in bytes
# maximum unsent bytes in the kernel's send buffer; with a larger buffer, a slow client would look as if it
# read nothing
_UNSENT_BYTES = 16_384
# maximum open connections of a network that reaches the app without a proxy; more would use up the process's open files
MOST_OF_A_NETWORK = 400
_VERSION = "0.54"


def limit_connections(*, is_proxied: bool) -> None:
    """Make uvicorn use the classes of this module. Raise Misconfigured if uvicorn lacks an internal name that they need.

    *is_proxied*: all connections come from a proxy, so that those of one address are not counted.
    """
    listen = Server.startup
    known = {
        "Server.startup": "http_protocol_class" in _names(listen),
        "WebSocketsSansIOProtocol": {"conn", "frames", "queue", "writable"}
        | {"handle_cont", "handle_ping"}
        <= _names(WebSocketsSansIOProtocol.__init__) | {*dir(WebSocketsSansIOProtocol)},
        "AutoHTTPProtocol": {"cycle", "loop", "transport", "on_response_complete"}
        <= _names(AutoHTTPProtocol.__init__) | {*dir(AutoHTTPProtocol)},
    }
    if missing := [name for name, is_known in known.items() if not is_known]:
        raise Misconfigured(
            f"Daybook needs uvicorn {_VERSION}, and another is installed, with another {', '.join(missing)}: "
            f'run `uv pip install "uvicorn=={_VERSION}.*"`.'
        )

    async def startup(server: Server, sockets: list[socket.socket] | None = None) -> None:
        config = server.config
        _open.is_counting = not is_proxied
        http = config.http_protocol_class
        if not issubclass(http, TimedRequests):  # an earlier call may have replaced the class
            timed = type("TimedHttp", (TimedRequests, http), {})
            config.http_protocol_class = cast(type[asyncio.Protocol], timed)
        config.ws_protocol_class = BoundedWebSocket
        config.timeout_graceful_shutdown = _SHUTDOWN_SECONDS
        await listen(server, sockets)

    setattr(Server, "startup", startup)  # noqa: B010


def _names(function: object) -> set[str]:
    """Return the names used in the code of *function* and its nested functions."""
    code = function if isinstance(function, CodeType) else getattr(function, "__code__", None)
    if code is None:
        return set()
    nested = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names}.union(*nested)


def allow_large_messages(scope: Scope) -> None:
    """Allow messages of up to SESSIONS_MESSAGE_BYTES on the websocket of *scope*. Call this before the websocket is accepted."""
    scope.setdefault("state", {})[_MESSAGE_BYTES] = SESSIONS_MESSAGE_BYTES


class _OpenConnections:
    """The open connections of each network. Only the event loop's thread may use it."""

    def __init__(self) -> None:
        self.is_counting = False
        self._networks: dict[asyncio.BaseTransport, list[str]] = {}
        self._counts = Counter[str]()  # by the names of networks

    def add(self, transport: asyncio.BaseTransport) -> bool:
        """Count a connection, unless it is counted or comes from this machine; return False if it is one too many."""
        # not at the top: the start of the server would be slower
        from services.web.origin import networks_of

        peer = cast(tuple[object, ...] | str | None, transport.get_extra_info("peername"))
        address = str(peer[0]) if isinstance(peer, tuple) else ""  # others: Unix sockets
        is_local = not address or is_this_machine(address)
        if not self.is_counting or transport in self._networks or is_local:
            return True
        networks = networks_of(address)
        self._networks[transport] = names = [network.name for network in networks]
        self._counts.update(names)
        return all(
            self._counts[network.name] <= MOST_OF_A_NETWORK * network.addresses
            for network in networks
        )

    def drop(self, transport: asyncio.BaseTransport) -> None:
        for name in self._networks.pop(transport, ()):
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]


_open = _OpenConnections()


class _Counted(asyncio.Protocol):
    """Mixin for uvicorn's protocols: closes connections of a network that has too many."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not _open.add(transport):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        _open.drop(self.transport)


class _StallWatch(asyncio.Protocol):
    """Mixin for uvicorn's protocols: aborts a connection whose client reads nothing of the unsent data."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _unsent = 0  # unsent bytes at the last check
    _read_at = 0.0  # time of the last check that found fewer, by the clock of `loop`
    _look: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._look:
            self._look.cancel()

    def _watch(self) -> None:
        """Check from now on that the client reads the unsent data, until none is left."""
        self._unsent, self._read_at = self.transport.get_write_buffer_size(), self.loop.time()
        self._look_later()

    def _look_later(self) -> None:
        if self._look:
            self._look.cancel()
        self._look = None
        if self._unsent:
            self._look = self.loop.call_later(STALLED_SECONDS / _LOOKS, self._end_if_stalled)

    def _end_if_stalled(self) -> None:
        unsent, now = self.transport.get_write_buffer_size(), self.loop.time()
        if unsent < self._unsent:
            self._read_at = now
        elif now - self._read_at >= STALLED_SECONDS:
            self.transport.abort()
            return
        self._unsent = unsent
        self._look_later()


class BoundedWebSocket(_Counted, _StallWatch, WebSocketsSansIOProtocol):
    """A websocket that buffers a limited number of messages, and sends no pongs while the client does not read."""

    _frames = 0  # frames received since the last complete message

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.conn.max_size = STRANGERS_MESSAGE_BYTES

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept":
            state = cast(dict[str, int], self.scope.get("state", {}))
            self.conn.max_size = state.get(_MESSAGE_BYTES, STRANGERS_MESSAGE_BYTES)
        await super().send(message)

    async def receive(self) -> Any:
        # let other clients' tasks run first, even if a message is already waiting
        await asyncio.sleep(0)
        return await super().receive()

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PART_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + _PART_BYTES])

    def handle_cont(self, event: Frame) -> None:
        if self._has_too_many():
            return
        # join the fragments: in a list, each fragment, even an empty one, would take 60 more bytes
        fragments = cast(list[bytes | bytearray], self.frames)
        message = fragments[0]
        if not isinstance(message, bytearray):
            message = fragments[0] = bytearray(message)
        message += event.data
        if event.fin:
            self.frames = [bytes(message)]
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.writable.is_set() and not self._has_too_many():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """Close the websocket, unless the client may still be reading what was sent before the ping."""
        if not self.transport.get_write_buffer_size():
            super().keepalive_timeout()
            return
        if self._look is None:
            self._watch()
        self.pong_timer = self.loop.call_later(STALLED_SECONDS / _LOOKS, self.keepalive_timeout)

    def send_receive_event_to_app(self) -> None:
        self._frames = 0
        super().send_receive_event_to_app()
        if self.queue.qsize() > _MOST_MESSAGES:
            self._fail()

    def _has_too_many(self) -> bool:
        """Count a frame that does not complete a message. After too many, close the connection and return True."""
        self._frames += 1
        if self._frames > _MOST_FRAMES:
            self._fail()
        return self.close_sent

    def _fail(self) -> None:
        if not self.close_sent:
            self.conn.fail(CloseCode.POLICY_VIOLATION)
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        # true if an invalid frame arrived before the websocket was accepted
        if self.conn.close_sent is None:
            self.transport.abort()
        else:
            super().handle_parser_exception()


class _Cycle(Protocol):
    """One request and its response, as uvicorn represents them."""

    more_body: bool  # True: a part of the request's body has not arrived yet
    response_complete: bool


class TimedRequests(_Counted, _StallWatch):
    """Mixin for uvicorn's HTTP protocols: closes connections whose clients do not complete a request, or stop reading
    a response.
    """

    cycle: _Cycle | None

    # the last request, with True while the server waits for its body, or False while it waits for the next request's headers;
    # None: it waits for neither
    _awaited: tuple[_Cycle | None, bool] | None = None
    _deadline: asyncio.TimerHandle | None = None  # aborts the connection if the request is late

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        option: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            with suppress(OSError):  # Unix sockets have no such option
                transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, option, _UNSENT_BYTES
                )
        self._time_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._time_request()

    def on_response_complete(self) -> None:
        cast(Any, super()).on_response_complete()
        self._time_request()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline:
            self._deadline.cancel()

    def _time_request(self) -> None:
        """Start the timer for the request headers, or the request body, that the server is waiting for."""
        cycle, awaited = self.cycle, None
        if self.transport.get_protocol() is self:  # False if the connection became a websocket
            if cycle and cycle.more_body:
                awaited = cycle, True
            elif cycle is None or cycle.response_complete:
                awaited = cycle, False
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._deadline:
            self._deadline.cancel()
        if awaited:
            seconds = BODY_SECONDS if awaited[1] else HEADERS_SECONDS
            self._deadline = self.loop.call_later(seconds, self._end_if_late)

    def _end_if_late(self) -> None:
        # the next request's headers are not due while the client is still reading the last response;
        # `_end_if_stalled` limits that time
        if self._awaited == (self.cycle, False) and self.transport.get_write_buffer_size():
            self._deadline = self.loop.call_later(HEADERS_SECONDS, self._end_if_late)
        else:
            self.transport.abort()
