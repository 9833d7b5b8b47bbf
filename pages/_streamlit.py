"""All uses of Streamlit's internals, and a check at start-up that these internals exist."""

# pyright: reportPrivateUsage=false

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial, partialmethod
from inspect import signature
from typing import TYPE_CHECKING, TypeVar, cast
from uuid import UUID
from weakref import WeakKeyDictionary, WeakSet

import streamlit as st
from starlette.websockets import WebSocket
from streamlit import config, logger, runtime
from streamlit.components.v2.bidi_component import serialization
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.caching.ttl_cache import TTLCache
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import (
    RerunData,
    ScriptRequests,
    ScriptRequestType,
)
from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext
from streamlit.runtime.session_manager import SessionInfo
from streamlit.runtime.state.session_state import (
    STREAMLIT_INTERNAL_KEY_PREFIX,
    SessionState,
    WStates,
    _is_stale_widget,
)
from streamlit.runtime.websocket_session_manager import WebsocketSessionManager
from streamlit.web.server.starlette import starlette_server, starlette_websocket
from streamlit.web.server.starlette.starlette_websocket import StarletteSessionClient

from services.domain import SessionId, UserId
from services.errors import Misconfigured, UnreadableInput

if TYPE_CHECKING:
    from pages._tab import Tab
    from services.bootstrap import BegunRun

Value = TypeVar("Value")
_VERSION = "1.67"
_CALLBACK_SECONDS = 0.25  # seconds until a tab with a running callback is checked again
_USUAL_PORT = 8501
# the kinds of messages that Daybook's pages send to the server
_MESSAGES = ("rerun_script", "stop_script", "app_heartbeat")
# the largest number of users' disconnected tabs whose state is kept, for five minutes (.streamlit/config.toml)
_DISCONNECTED_TABS = 2_000
# seconds for which a widget that is no longer drawn keeps its callback, because a press of it may be under way
_STALE_SECONDS = 5.0
_known = WeakSet[AppSession]()  # the tabs, connected or not, at the last call of `forget_text`
_closing = set[asyncio.Task[None]]()  # references to running tasks: asyncio's own are weak
_current = threading.local()  # the thread's run and runner, and True once the run has been prepared
_waiting = WeakSet[ScriptRunner]()  # those whose runs wait for their turn


def check() -> None:
    """Raise Misconfigured if this Streamlit lacks an internal that this module uses."""
    context = [field.name for field in fields(ScriptRunContext)]
    websockets = getattr(starlette_server, "_get_websocket_protocol", str)
    known = {
        "PagesManager.uses_pages_directory": hasattr(PagesManager, "uses_pages_directory"),
        "Runtime.is_active_session": hasattr(runtime.Runtime, "is_active_session"),
        "ScriptRunContext.session_id": "session_id" in context,
        "ScriptRunContext.yield_check": "yield_check" in context,
        "logger.setup_formatter": "setup_formatter" in logger.update_formatter.__code__.co_names,
        # services/web/connections.py subclasses this implementation of websockets
        "websockets-sansio": websockets() == "websockets-sansio",
        "ScriptRunner._execing": {
            "_execing",
            "_pages_manager",
            "_requests",
            "_session_id",
            "_user_info",
        }
        <= {*ScriptRunner.__init__.__code__.co_names},
        "ScriptRunner._run_script": hasattr(ScriptRunner, "_run_script"),
        "ScriptRunner._install_event_loop": hasattr(ScriptRunner, "_install_event_loop"),
        "AppSession._create_scriptrunner": "_create_scriptrunner"
        in AppSession.request_rerun.__code__.co_names,
        "ScriptRequests._state": "_state" in ScriptRequests.__init__.__code__.co_names,
        "AppSession.handle_backmsg": hasattr(AppSession, "handle_backmsg"),
        "BackMsg.type": {*_MESSAGES} <= {*BackMsg.DESCRIPTOR.fields_by_name},
        "starlette_websocket._LOGGER": hasattr(starlette_websocket, "_LOGGER"),
        "AppSession.is_resumable": "is_resumable"
        in WebsocketSessionManager.disconnect_session.__code__.co_names,
        "MemorySessionStorage.maxsize": "maxsize" in signature(MemorySessionStorage).parameters,
        "AppSession._user_info": "_user_info" in AppSession.__init__.__code__.co_names,
        "Runtime._session_mgr": "_session_mgr" in runtime.Runtime.__init__.__code__.co_names,
        "Runtime._get_async_objs": hasattr(runtime.Runtime, "_get_async_objs"),
        "StarletteSessionClient._websocket": "_websocket"
        in StarletteSessionClient.__init__.__code__.co_names,
        "WebSocket._send": "_send" in WebSocket.__init__.__code__.co_names,
        "WStates.__getitem__": hasattr(WStates, "__getitem__"),
        "WStates.get_serialized": hasattr(WStates, "get_serialized"),
        "serialization._LOGGER": hasattr(serialization, "_LOGGER"),
        "SessionState._remove_stale_widgets": hasattr(SessionState, "_remove_stale_widgets"),
        "SessionState._new_widget_state": "_new_widget_state"
        in [field.name for field in fields(SessionState)],
        "WStates.widget_metadata": "widget_metadata" in [field.name for field in fields(WStates)],
        "AppSession._session_state": {
            *("_session_state", "_fragment_storage", "_client_state", "_browser_queue")
        }
        <= {*AppSession.__init__.__code__.co_names},
        "MemorySessionStorage._cache": hasattr(MemorySessionStorage(), "_cache"),
    }
    if missing := [name for name, is_known in known.items() if not is_known]:
        raise Misconfigured(
            f"Daybook needs Streamlit {_VERSION}, and {st.__version__} has no {', '.join(missing)}: "
            f'run `uv pip install "streamlit=={_VERSION}.*"`.'
        )


def url() -> str:
    """Return the URL of the app. Raise Misconfigured if Streamlit chose another port because the usual one is taken."""
    port = config.get_option("server.port")
    if port != _USUAL_PORT and not config.is_manually_set("server.port"):
        raise Misconfigured(
            f"Port {_USUAL_PORT} is taken: stop what uses it, or add --server.port with another. "
            "To use two Daybooks in one browser, open the second at 127.0.0.1 in place of localhost."
        )
    address = config.get_option("server.address") or "0.0.0.0"  # noqa: S104 (Streamlit's default: all interfaces)
    if address == "127.0.0.1":
        address = "localhost"  # browsers offer no passkeys at an IP address
    elif address.count(":") > 1:
        address = f"[{address}]"  # IPv6
    return f"http://{address}:{port}"


def forbid_pages_directory() -> None:
    """Keep Streamlit from running a file of pages/ by its URL before `st.navigation` is called."""
    PagesManager.uses_pages_directory = False


def drop_needless_messages() -> None:
    """Ignore messages that Daybook's pages do not send: anyone could send them, and some make Streamlit run git,
    which blocks all users.
    """
    handle = AppSession.handle_backmsg

    def handle_needed(session: AppSession, msg: BackMsg) -> None:
        if msg.WhichOneof("type") in _MESSAGES:
            handle(session, msg)

    setattr(AppSession, "handle_backmsg", handle_needed)  # noqa: B010
    # Streamlit itself refuses two further kinds of messages, and would log a line for each message
    starlette_websocket._LOGGER.addFilter(lambda line: not line.msg.startswith("Client tried to "))


def refuse_unreadable_values() -> None:
    """Raise UnreadableInput for a widget's value that Streamlit cannot read, which no page sends, and drop the value."""

    def refusing(read: Callable[[WStates, str], Value]) -> Callable[[WStates, str], Value]:
        def read_or_refuse(states: WStates, widget_id: str) -> Value:
            try:
                return read(states, widget_id)
            except KeyError:  # the widget has no value
                raise
            except Exception:  # noqa: BLE001 (of any deserializer)
                del states[widget_id]
            # raised outside of the block, because inside it the chained traceback would contain the value
            raise UnreadableInput

        return read_or_refuse

    setattr(WStates, "__getitem__", refusing(WStates.__getitem__))  # noqa: B010
    setattr(WStates, "get_serialized", refusing(WStates.get_serialized))  # noqa: B010
    # Streamlit reads such a value of a component as an empty one, and would log a line with a traceback
    serialization._LOGGER.addFilter(lambda line: not line.msg.startswith("Failed to deserialize "))


@dataclass(slots=True)
class _Pending:
    """The requests for runs of one tab, joined by Streamlit into one, and the runner whose thread waits for its turn."""

    # None: the runner was stopped; the requests are left to the tab's next run
    runner: ScriptRunner | None
    requests: ScriptRequests = field(default_factory=ScriptRequests)
    is_stopped: bool = False


class _PendingRuns:
    """The runs that wait for their turn, at most one of each tab. Any thread may call any method."""

    def __init__(self) -> None:
        # by an object that each tab has once
        self._of_tabs = WeakKeyDictionary[PagesManager, _Pending]()
        self._lock = threading.Lock()

    def add(self, runner: ScriptRunner, rerun_data: RerunData) -> _Pending:
        """Let *runner* wait, with the requests that a stopped run of its tab has left."""
        with self._lock:
            pending = self._of_tabs.setdefault(runner._pages_manager, _Pending(runner))
            pending.runner, pending.is_stopped = runner, False
            pending.requests.request_rerun(rerun_data)
            return pending

    def join(self, session: AppSession, rerun_data: RerunData) -> bool:
        """Join a request to the run of *session* that waits; return False if none does."""
        with self._lock:
            pending = self._of_tabs.get(session._pages_manager)
            if not pending or not pending.runner:
                return False
            pending.requests.request_rerun(rerun_data)
            # Streamlit stops a tab's run just before it asks for another one
            pending.is_stopped = False
            session._scriptrunner = pending.runner
            return True

    def stop(self, runner: ScriptRunner) -> bool:
        """Stop *runner* if it waits; return False if it does not."""
        with self._lock:
            pending = self._of_tabs.get(runner._pages_manager)
            if not pending or pending.runner is not runner:
                return False
            pending.is_stopped = True
            return True

    def take(self, runner: ScriptRunner, pending: _Pending) -> RerunData | None:
        """End the wait of *runner*; return the joined request, or None if the runner was stopped."""
        with self._lock:
            if pending.is_stopped:
                pending.runner = None
                return None
            del self._of_tabs[runner._pages_manager]
            return pending.requests.on_scriptrunner_ready().rerun_data


def bound_runs(begin: "Callable[[str, str, str, Callable[[], bool]], BegunRun]") -> None:
    """Let each script run wait in *begin*, called with the tab, the user's id or "", the network of a tab without a session, and
    a function that returns True once the tab is gone.

    A request for a run of a tab that waits is joined to the one that waits: a new thread for each, which Streamlit starts,
    would stop the event loop for some milliseconds.
    """
    create, stop = AppSession._create_scriptrunner, ScriptRunner.request_stop
    # Streamlit calls `prepare` before each run, also for one that takes the place of an interrupted one within `_run_script`
    prepare, run = ScriptRunner._install_event_loop, ScriptRunner._run_script
    runs = _PendingRuns()

    def create_or_join(session: AppSession, rerun_data: RerunData) -> None:
        if not runs.join(session, rerun_data):
            create(session, rerun_data)

    def stop_or_note(runner: ScriptRunner) -> None:
        if not runs.stop(runner):
            stop(runner)

    def start(runner: ScriptRunner, is_gone: Callable[[], bool]) -> None:
        user = runner._user_info
        user_id, network = str(user.get("user_id") or ""), str(user.get("network") or "")
        _waiting.add(runner)
        try:
            _current.run = begin(runner._session_id, user_id, network, is_gone)
        finally:
            _waiting.discard(runner)
        _current.runner = runner

    def prepare_bounded(runner: ScriptRunner) -> None:
        if getattr(_current, "is_prepared", False):  # the run was interrupted, for another one
            _current.run.end()
            start(runner, lambda: runner._requests._state is ScriptRequestType.STOP)
        _current.is_prepared = True
        prepare(runner)

    def run_bounded(runner: ScriptRunner, rerun_data: RerunData) -> None:
        pending = runs.add(runner, rerun_data)
        start(runner, lambda: pending.is_stopped)
        try:
            if joined := runs.take(runner, pending):
                _current.is_prepared = False
                run(runner, joined)
            else:
                stop(runner)
        finally:
            _current.run.end()

    setattr(AppSession, "_create_scriptrunner", create_or_join)  # noqa: B010
    setattr(ScriptRunner, "request_stop", stop_or_note)  # noqa: B010
    setattr(ScriptRunner, "_install_event_loop", prepare_bounded)  # noqa: B010
    setattr(ScriptRunner, "_run_script", run_bounded)  # noqa: B010


def follow_in_turn(texts: Iterator[str]) -> Iterator[str]:
    """Yield *texts*, each once the shares of this thread's run allow that it is drawn; while it waits, other runs may begin."""
    run: BegunRun | None = getattr(_current, "run", None)

    def is_over() -> bool:
        """Return True if the tab is closed, or another run is to take the place of this one, as no fragment's run does."""
        requests = _current.runner._requests
        is_fragment = (
            requests._state is ScriptRequestType.RERUN and requests._rerun_data.fragment_id_queue
        )
        return requests._state is not ScriptRequestType.CONTINUE and not is_fragment

    def wait() -> None:
        if run:
            run.go_on(is_over)

    wait()
    for text in texts:
        yield text
        wait()


def keep_users_tabs() -> None:
    """Keep the state of disconnected tabs only for signed-in users, and for more tabs than Streamlit does by default.

    Otherwise visitors who are not signed in, or a proxy that closes all connections, would evict the state of tabs that
    are about to reconnect.
    """
    is_resumable = AppSession.is_resumable

    def is_users(session: AppSession) -> bool:
        return bool(session._user_info.get("user_id")) and is_resumable(session)

    setattr(AppSession, "is_resumable", is_users)  # noqa: B010
    larger = partialmethod(MemorySessionStorage.__init__, maxsize=_DISCONNECTED_TABS)
    setattr(MemorySessionStorage, "__init__", larger)  # noqa: B010


def log_by(handler: logging.Handler) -> None:
    """Make Streamlit and its server log through *handler*, not as plain text, which could reveal error messages."""

    def set_up(log: logging.Logger) -> None:
        log.handlers = [handler]

    setattr(logger, "setup_formatter", set_up)  # noqa: B010 (applies to later loggers too)
    logger.update_formatter()


def tab_presence() -> Callable[[], bool]:
    """Return a function that returns True while the tab of this run is connected (in tests: always)."""
    context = get_script_run_ctx()
    return partial(_is_connected, context.session_id if context else "")


def _is_connected(tab: str) -> bool:
    return not runtime.exists() or runtime.get_instance().is_active_session(tab)


def close_tabs(session_id: SessionId) -> None:
    """Close all tabs of an ended app session, connected or not, and drop the state that Streamlit keeps for them.
    The browser reconnects and shows the sign-in page."""
    if runtime.exists():
        loop = runtime.get_instance()._get_async_objs().eventloop
        loop.call_soon_threadsafe(_close_tabs, loop, str(session_id))


def _close_tabs(loop: asyncio.AbstractEventLoop, session_id: str) -> None:
    """Close the tabs of an ended app session. Must be called in the event loop's thread."""
    server, is_any_left = runtime.get_instance(), False
    for tab in server._session_mgr.list_sessions():
        session = tab.session
        if session._user_info.get("sid") != session_id:
            continue
        # a tab that shows an unsent prompt stays open; a tab with a running callback is checked again later,
        # because the callback may be about to show an unsent prompt
        left = _tab_of(session.session_state)
        if left and left.unsent:
            continue
        if left and left.callbacks.running:
            is_any_left = True
            continue
        _close(server, session)
        if isinstance(tab.client, StarletteSessionClient):
            closing = loop.create_task(_hang_up(tab.client))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
    # schedule one call for all remaining tabs: one call per tab would multiply the pending calls
    if is_any_left:
        loop.call_later(_CALLBACK_SECONDS, _close_tabs, loop, session_id)


def note_stale_widgets() -> None:
    """Note the widgets that a tab's last run did not draw again. Streamlit keeps their callbacks, whose arguments contain
    users' text, as long as the tab; `forget_text` drops them.
    """
    remove = SessionState._remove_stale_widgets

    def remove_and_note(state: SessionState, active_ids: frozenset[str]) -> None:
        remove(state, active_ids)
        context = get_script_run_ctx()
        if context and (here := _tab_of(state)):
            before, now = here.stale_widgets, time.monotonic()
            # the widget that brings a component's events, which Streamlit does not count
            events = {f"{STREAMLIT_INTERNAL_KEY_PREFIX}_{drawn}__events" for drawn in active_ids}
            drawn_ids = active_ids | events
            here.stale_widgets = {
                widget_id: before[widget_id] if is_noted else (metadata, now)
                for widget_id, metadata in list(state._new_widget_state.widget_metadata.items())
                # each run that draws a widget gives it other metadata
                if (is_noted := before.get(widget_id, (None, 0.0))[0] is metadata)
                or _is_stale_widget(metadata, drawn_ids, context.fragment_ids_this_run)
            }

    setattr(SessionState, "_remove_stale_widgets", remove_and_note)  # noqa: B010


def forget_text(deleted_at: Callable[[UserId], float]) -> None:
    """Drop text that no tab needs any more: of widgets and actions that are no longer drawn, and of closed pages that may show
    deleted chats or an ended temporary chat. Draw again what may still show deleted chats.

    *deleted_at* returns the time of a user's latest deletion that can no longer be undone. Call this periodically.
    """
    if runtime.exists():
        loop = runtime.get_instance()._get_async_objs().eventloop
        loop.call_soon_threadsafe(_forget_text, deleted_at)


def _forget_text(deleted_at: Callable[[UserId], float]) -> None:
    """See `forget_text`. Must be called in the event loop's thread."""
    global _known
    server = runtime.get_instance()
    storage = cast(WebsocketSessionManager, server._session_mgr)._session_storage
    # otherwise Streamlit drops the state of pages that were closed long ago only when a further page is closed
    cast(TTLCache[str, SessionInfo], cast(MemorySessionStorage, storage)._cache).expire()
    sessions = WeakSet(info.session for info in server._session_mgr.list_sessions())
    for session in _known - sessions:
        _close(server, session)
    _known = sessions
    waiting = {runner._pages_manager for runner in _waiting.copy()}
    for session in list(sessions):
        here, user_id = _tab_of(session.session_state), session._user_info.get("user_id")
        if here is None or not user_id:
            continue
        here.drop_ended_lines()
        # a run that waits may have yet to call the callbacks of presses
        if session._pages_manager not in waiting:
            _drop_stale_widgets(here, session.session_state)
        is_outdated = here.drawn_at < deleted_at(UserId(UUID(str(user_id))))
        if not server.is_active_session(session.id):
            if is_outdated or (here.temporary and here.temporary.is_over):
                _close(server, session)
        elif is_outdated and not here.is_dialog_open:
            session.request_rerun(session._client_state)


def _close(server: runtime.Runtime, session: AppSession) -> None:
    """Close a tab and drop its state, also where Streamlit still refers to it, as to the tab to which it sent something last."""
    server.close_session(session.id)
    session.shutdown()
    session._session_state, session._fragment_storage = SessionState(), MemoryFragmentStorage()
    session._client_state, session._browser_queue = ClientState(), ForwardMsgQueue()


def _drop_stale_widgets(here: "Tab", state: SessionState) -> None:
    metadata, now = state._new_widget_state.widget_metadata, time.monotonic()
    for widget_id, (stale, since) in list(here.stale_widgets.items()):
        if now - since >= _STALE_SECONDS:
            here.stale_widgets.pop(widget_id, None)
            if metadata.get(widget_id) is stale:
                del metadata[widget_id]


def _tab_of(state: SessionState) -> "Tab | None":
    # imported here, because this import loads the whole app, and the backend must start before that
    from pages._tab import KEY

    if KEY in state:
        return state[KEY]
    return None


async def _hang_up(client: StarletteSessionClient) -> None:
    await client.aclose()
    # not by Starlette's `close`, after which its `receive` would raise an error if another message arrived
    await client._websocket._send({"type": "websocket.close", "code": 1001})


@contextmanager
def uninterrupted() -> Generator[None]:
    """Let a callback finish even if another run has replaced the run that called it.

    Streamlit would otherwise stop the callback at its next access to the session state, possibly after it has acted but
    before it has reported the result. Streamlit does not stop a callback while `_execing` is False.
    """
    context = get_script_run_ctx()
    runner: object = getattr(context.yield_check, "__self__", None) if context else None
    was_running = getattr(runner, "_execing", False)
    if was_running:
        setattr(runner, "_execing", False)  # noqa: B010
    try:
        yield
    finally:
        if was_running:
            setattr(runner, "_execing", True)  # noqa: B010
