"""The internals of Streamlit that pages rely on."""

import json
import logging
import re
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock
from uuid import uuid4

import pytest
from streamlit import config, dataframe_util
from streamlit.components.v2.bidi_component import main
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.scriptrunner_utils.script_requests import (
    RerunData,
    ScriptRequests,
    ScriptRequestType,
)
from streamlit.runtime.state.session_state import SessionState

from pages import _streamlit
from pages._tab import KEY, Callbacks, Tab
from services.errors import Misconfigured


def test_installed_streamlit_has_all_internals():
    _streamlit.check()


def test_page_looks_for_no_tables_and_so_needs_no_pandas(open_chat, monkeypatch):
    looked_at = []

    def look(data):
        looked_at.append(data)
        return dataframe_util.DataFormat.UNKNOWN

    for module in (dataframe_util, main):
        monkeypatch.setattr(module, "determine_data_format", look)

    app, _ = open_chat("One", "Two")
    app.switch_page("pages/data.py").run()

    assert not app.exception
    assert looked_at == []


def test_components_get_the_fields_that_their_scripts_read(open_chat):
    app, _ = open_chat("One", "Two")
    components = [drawn.proto for drawn in app.get("bidi_component")]
    read = {
        made.component_name: set(re.findall(r"\bdata\.(\w+)", made.js_content))
        for made in components
    }

    assert {name for name, fields in read.items() if fields} >= {"keep_drafts", "watch_database"}
    for made in components:
        fields = read[made.component_name]
        assert not fields or fields == {*json.loads(made.json)}, made.component_name


@pytest.mark.parametrize(
    ("owner", "name"),
    [("PagesManager", "uses_pages_directory"), ("ScriptRunner", "_execing")],
)
def test_missing_internal_stops_the_start(monkeypatch, owner, name):
    monkeypatch.setattr(_streamlit, owner, type(owner, (), {"__init__": lambda self: None}))

    with pytest.raises(Misconfigured, match=rf"needs Streamlit 1\.67.* no {owner}\.{name}.*uv pip"):
        _streamlit.check()


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1", "localhost"),
        ("192.168.0.7", "192.168.0.7"),
        (None, "0.0.0.0"),  # noqa: S104
        ("", "0.0.0.0"),  # noqa: S104
        ("::1", "[::1]"),
        ("::", "[::]"),
    ],
)
def test_url_names_the_address_that_streamlit_listens_on(monkeypatch, address, host):
    options = {"server.address": address, "server.port": 8501}
    monkeypatch.setattr(_streamlit.config, "get_option", options.get)

    assert _streamlit.url() == f"http://{host}:8501"


def test_rich_prints_no_traceback_even_where_it_is_installed():
    # Streamlit's default depends on whether rich is installed
    assert config.get_where_defined("logger.enableRich").endswith("/.streamlit/config.toml")
    assert config.get_option("logger.enableRich") is False


def test_streamlit_logs_by_the_handler_of_the_app(monkeypatch):
    monkeypatch.setattr(_streamlit.logger, "setup_formatter", None)  # undone afterwards
    monkeypatch.setattr(_streamlit.logger, "_loggers", {})
    handler = logging.NullHandler()

    _streamlit.log_by(handler)

    assert _streamlit.logger.get_logger("streamlit.of_this_test").handlers == [handler]


def test_tab_is_present_until_streamlit_drops_its_session(monkeypatch):
    sessions = {"a tab"}
    server = SimpleNamespace(is_active_session=sessions.__contains__)
    monkeypatch.setattr(_streamlit.runtime, "exists", lambda: True)
    monkeypatch.setattr(_streamlit.runtime, "get_instance", lambda: server)
    context = SimpleNamespace(session_id="a tab")
    monkeypatch.setattr(_streamlit, "get_script_run_ctx", lambda: context)

    is_there = _streamlit.tab_presence()

    assert is_there()
    sessions.clear()
    assert not is_there()


def test_tabs_with_running_callbacks_are_checked_again_by_one_call(monkeypatch):
    """With one call for each tab, the pending calls would multiply at every check, and block the event loop."""
    tab = Tab(callbacks=Callbacks(running=1))
    session = SimpleNamespace(_user_info={"sid": "a session"}, session_state={KEY: tab})
    tabs = [SimpleNamespace(session=session)] * 2
    loop = Mock(call_soon_threadsafe=lambda act, *given: act(*given))
    server = SimpleNamespace(
        _session_mgr=SimpleNamespace(list_sessions=lambda: tabs),
        _get_async_objs=lambda: SimpleNamespace(eventloop=loop),
    )
    monkeypatch.setattr(_streamlit.runtime, "exists", lambda: True)
    monkeypatch.setattr(_streamlit.runtime, "get_instance", lambda: server)

    _streamlit.close_tabs("a session")

    loop.call_later.assert_called_once()


# --- text that is forgotten

DELETED_AT = 100.0


class KnownTab:
    """A tab that the server knows, connected or not, as far as `forget_text` uses one."""

    def __init__(self, *, is_connected, **fields):
        self.id, self.is_connected, self.happened = uuid4(), is_connected, []
        self._user_info, self._client_state = {"user_id": str(uuid4())}, None
        self._pages_manager = Mock()
        self._session_state = SessionState()
        self._session_state[KEY] = Tab(**fields)

    @property
    def session_state(self):
        return self._session_state

    def request_rerun(self, _):
        self.happened.append("drawn again")

    def shutdown(self):
        self.happened.append("closed")


@pytest.fixture
def forget(monkeypatch):
    """Return a function that drops the text of all *tabs* that the server knows."""
    tabs = []
    manager = SimpleNamespace(
        list_sessions=lambda: [SimpleNamespace(session=tab) for tab in tabs],
        _session_storage=MemorySessionStorage(),
    )
    server = SimpleNamespace(
        _session_mgr=manager,
        _get_async_objs=lambda: SimpleNamespace(
            eventloop=SimpleNamespace(call_soon_threadsafe=lambda act, *given: act(*given))
        ),
        is_active_session=lambda tab_id: any(tab.id == tab_id and tab.is_connected for tab in tabs),
        close_session=lambda _: None,
    )
    monkeypatch.setattr(_streamlit.runtime, "exists", lambda: True)
    monkeypatch.setattr(_streamlit.runtime, "get_instance", lambda: server)

    def forget(*known):
        tabs[:] = known
        _streamlit.forget_text(lambda _: DELETED_AT)

    yield forget
    forget()


@pytest.mark.parametrize(
    ("is_connected", "drawn_at", "is_dialog_open", "happened"),
    [
        (True, DELETED_AT - 1, False, ["drawn again"]),
        (True, DELETED_AT - 1, True, []),  # the dialog may have unsaved text
        (True, DELETED_AT + 1, False, []),
        (False, DELETED_AT - 1, True, ["closed"]),
        (False, DELETED_AT + 1, False, []),
    ],
)
def test_tabs_drawn_before_a_deletion_lose_its_text(
    forget, is_connected, drawn_at, is_dialog_open, happened
):
    drawn = {"drawn_at": drawn_at, "is_dialog_open": is_dialog_open}
    tab = KnownTab(is_connected=is_connected, **drawn)

    forget(tab)

    assert tab.happened == happened
    assert (KEY in tab.session_state) is ("closed" not in happened)


def test_closed_page_that_streamlit_has_dropped_keeps_no_state(forget):
    tab = KnownTab(is_connected=False, drawn_at=DELETED_AT + 1)
    forget(tab)
    assert tab.happened == []

    forget()

    assert (tab.happened, KEY in tab.session_state) == (["closed"], False)


# --- runs that wait


def pressed(*ids):
    """Return the request for a run after the buttons *ids* were pressed."""
    states = WidgetStates()
    for widget_id in ids:
        states.widgets.add(id=widget_id, trigger_value=True)
    return RerunData(widget_states=states)


@pytest.fixture
def bounded(monkeypatch):
    """Return a function that makes a tab whose runs wait in *begin*, and a runner that calls *draw*. What ran is in `ran`."""
    ran, made = [], []

    class Runner:
        _session_id, _user_info = "tab", {"user_id": "maya"}

        def __init__(self, tab):
            self._pages_manager, self._requests = tab, ScriptRequests()

        def _install_event_loop(self):
            pass

        def _run_script(self, data):
            self._install_event_loop()
            ran.append([widget.id for widget in data.widget_states.widgets])
            self.draw()

        def request_stop(self):
            self._requests.request_stop()

    class Session:
        def __init__(self, tab):
            self._pages_manager, self._scriptrunner = tab, None

        def _create_scriptrunner(self, data):
            made.append(data)

    def bounded(begin, draw=lambda: None):
        monkeypatch.setattr(Runner, "draw", lambda _: draw(), raising=False)
        monkeypatch.setattr(_streamlit, "ScriptRunner", Runner)
        monkeypatch.setattr(_streamlit, "AppSession", Session)
        _streamlit.bound_runs(begin)
        tab = Mock()
        return SimpleNamespace(
            runner=Runner(tab), session=Session(tab), other=Runner(tab), ran=ran, made=made
        )

    return bounded


def test_run_waits_for_its_turn_and_is_ended(bounded):
    begin = Mock()
    tab = bounded(begin)

    tab.runner._run_script(pressed("a"))

    assert begin.call_args.args[:3] == ("tab", "maya", "")
    assert tab.ran == [["a"]]
    begin.return_value.end.assert_called_once_with()


def test_callbacks_of_a_tab_whose_run_waits_are_kept(bounded, forget, monkeypatch):
    monkeypatch.setattr(_streamlit, "_STALE_SECONDS", 0.0)
    stale = object()
    known = KnownTab(is_connected=True, drawn_at=DELETED_AT + 1, stale_widgets={"a": (stale, 0.0)})
    callbacks = known.session_state._new_widget_state.widget_metadata
    callbacks["a"] = stale

    def begin(*_):
        forget(known)
        assert "a" in callbacks
        return Mock()

    tab = bounded(begin)
    known._pages_manager = tab.runner._pages_manager
    tab.runner._run_script(pressed("a"))
    forget(known)

    assert "a" not in callbacks


def test_run_that_follows_waits_until_another_is_asked_for(bounded):
    happened, begin = [], Mock()
    begin.return_value.go_on = lambda is_gone: happened.append(is_gone())

    def follow():
        yield "one"
        tab.runner._requests.request_rerun(replace(pressed("b"), fragment_id="list"))
        yield "two"
        tab.runner._requests.request_rerun(pressed("c"))
        yield "three"

    tab = bounded(begin, lambda: happened.extend(_streamlit.follow_in_turn(follow())))
    tab.runner._run_script(pressed("a"))

    assert happened == [False, "one", False, "two", False, "three", True]


def test_requests_while_a_run_waits_are_joined_to_it(bounded):
    def begin(*_):
        for widget in ("b", "c"):
            tab.runner.request_stop()
            tab.session._create_scriptrunner(pressed(widget))
        return Mock()

    tab = bounded(begin)

    tab.runner._run_script(pressed("a"))

    assert [sorted(widgets) for widgets in tab.ran] == [["a", "b", "c"]]
    assert tab.made == []
    assert tab.session._scriptrunner is tab.runner


def test_run_that_was_stopped_while_it_waited_leaves_its_values(bounded):
    def begin(*_):
        if not tab.ran and not stopped:
            tab.runner.request_stop()
            stopped.append(True)
        return Mock()

    stopped = []
    tab = bounded(begin)

    tab.runner._run_script(pressed("a"))
    assert tab.ran == []
    assert tab.runner._requests.on_scriptrunner_ready().type is ScriptRequestType.STOP
    tab.other._run_script(pressed("b"))

    assert [sorted(widgets) for widgets in tab.ran] == [["a", "b"]]
    tab.session._create_scriptrunner(pressed("c"))
    assert len(tab.made) == 1
