"""The order of a start, services shared in a process, the rate of database calls, and user data kept in memory."""

import gc
import json
import math
import os
import pwd
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections import Counter
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from datetime import UTC
from io import BytesIO
from itertools import islice
from threading import Event
from types import SimpleNamespace
from unittest.mock import Mock
from uuid import uuid4
from zipfile import ZipFile

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services import app as services_app
from services import bootstrap, deployment, events
from services.app import App
from services.caches import CachedRead
from services.chat.temporary import ChatIsOver
from services.crypto import RootKeys, new_key
from services.domain import AccountRole, ConversationId, MessageId, Purpose, SessionId, UserId
from services.domain.accounts import SessionEnd, SignUps
from services.domain.addresses import checked_address
from services.domain.mails import Invited
from services.domain.memories import NotedFact
from services.domain.models import ModelSettings
from services.domain.turns import StopCause, TurnState
from services.embedded.plan import Endpoints
from services.embedded.reports import IS_HTTP, NO_HOSTED_ADMIN, SHARED_ADDRESS, Failed, Running
from services.errors import (
    AdminsOnly,
    Misconfigured,
    ProxyUnusable,
    StoreUnavailable,
    TooManyAttempts,
)
from services.identity.mailer import open_mailer
from services.llm import Models, Offer
from services.llm.failure_details import FailureLog
from services.operate.__main__ import operate
from services.settings import Settings
from services.store.accounts import AppSession, Cookie
from services.store.backend import SignUpState
from services.store.device_names import NewDevice
from services.store.sealed import throwaway_keys
from services.store.sign_in_policy import SignInPolicy
from services.store.supabase import backend as supabase_backend
from services.store.supabase import database_health
from services.store.supabase import upkeep as supabase_upkeep
from services.store.supabase.api import Gateway, ServerCalls, UserCalls
from services.store.supabase.backend import SupabaseUser
from services.store.tables.access import settings_of
from services.store.tables.schema import CONVERSATIONS, DOCUMENTS, MESSAGES
from services.stores import open_backend
from services.users import Shared, session_cache
from services.users.sign_in_details import sign_in_details
from services.web import upkeep
from tests.chats import said
from tests.fakes import INFO, MAYA, choose
from tests.identity.mails import DIGITS, a_mail
from tests.identity.mails import MAYA as MAYA_ADDRESS
from tests.stack.apps import ROOT, SECONDS, until
from tests.store.conformance.talk import a_fact, first_turn
from tests.stores import InMemoryDatabase
from tests.unit.test_live_turn import a_turn
from tests.unit.test_live_turn import end as end_turn
from tests.unit.test_sign_in_policy import CONFIRMED, NOBODY, WITH_PASSWORD
from tests.unit.test_temporary import CANARY, held_by

_IMPORT = """
import gc, signal, sys
from services import deployment

class Stack:
    def __init__(self, *_):
        slow = {"openai", "supabase", "numpy", "services.bootstrap"} & sys.modules.keys()
        print("before the backend:", sorted(slow))

    def run(self):
        pass

    def stop(self):
        print("the backend is stopped", flush=True)

class Interrupt:
    def find_spec(self, name, *_):
        if name == "services.bootstrap":
            signal.raise_signal(signal.SIGINT)

deployment.Stack = Stack
if "interrupt" in sys.argv:
    sys.meta_path.insert(0, Interrupt())
import streamlit_app

late = {"openai", "genai_prices", "numpy", "pandas", "altair", "smtplib", "pyotp", "segno", "authlib", "joserfc"}
late |= {"webauthn", "cbor2"}
late &= sys.modules.keys()
print("before the server:", sorted(late), gc.isenabled())
"""


ROOT_KEY = urlsafe_b64encode(new_key()).decode()


class Enough(BaseException):
    """Ends a thread of the app in a test."""


def session_of(user_id):
    """Return an app session over a database that does not answer."""
    transport = httpx.MockTransport(lambda _: httpx.Response(503))
    client = Gateway.to("http://database.test", SecretStr("key"), transport).client()
    server = ServerCalls(client, None)
    backend = SupabaseUser(UserCalls(client, None, user_id), server, None)
    return AppSession(SessionId(uuid4()), user_id, "maya@daybook.test", False, None, backend)


@pytest.fixture
def sessions():
    return SimpleNamespace(
        backend=SimpleNamespace(sweep=None, is_alive=lambda _: False),
        ended=lambda held: {one.id: SessionEnd.ENDED for one in held},
    )


NO_MODELS = SimpleNamespace(failures=FailureLog())


@pytest.fixture
def shared(sessions, closed):
    return Shared(sessions, Settings(), lambda: NO_MODELS, CachedRead(ModelSettings), closed.append)


@pytest.fixture
def closed():
    """The sessions whose tabs were closed."""
    return []


def end(shared, session):
    shared.session_cache.doubt(session.id)
    assert shared.session_cache.by_id(session.id) is None


def test_services_leave_memory_with_their_session(shared, closed):
    session = session_of(UserId(uuid4()))
    shared.session_cache.add(Cookie.new(), session)
    assert shared.find(session.id).user_id == session.user_id

    end(shared, session)

    assert shared.find(session.id) is None
    assert closed == [session.id]


def test_change_that_ended_sessions_outlives_an_outage_after_it(shared, sessions):
    """The error of a stored change would hide its recovery codes, and no notice of it would be mailed."""
    caller, phone = session_of(MAYA), session_of(MAYA)
    for session in (caller, phone):
        shared.session_cache.add(Cookie.new(), session)
    sessions.backend.is_alive = lambda _: True

    def no_answer(_):
        raise StoreUnavailable

    with shared.ending(caller.id, StopCause.USER, lambda session: session is phone, 0.0):
        sessions.ended = no_answer

    assert shared.find(phone.id)  # until the upkeep thread asks again


def test_settings_of_models_are_read_ahead_with_a_session(sessions):
    """Otherwise, the first page after a start would read its conversation and then wait for the settings."""
    is_read = Event()
    settings = CachedRead(lambda: is_read.set() or ModelSettings())
    shared = Shared(sessions, Settings(), lambda: NO_MODELS, settings)

    shared.session_cache.add(Cookie.new(), session_of(UserId(uuid4())))

    assert is_read.wait(SECONDS)


def test_noted_facts_leave_memory_with_the_last_session(shared):
    maya, omar = UserId(uuid4()), UserId(uuid4())
    sessions = [session_of(user_id) for user_id in (maya, maya, omar)]
    noted = NotedFact(a_fact())
    rooms = {user_id: ConversationId(uuid4()) for user_id in (maya, omar)}
    for session in sessions:
        shared.session_cache.add(Cookie.new(), session)
    for user_id, room in rooms.items():
        prompt_id = MessageId(uuid4())
        assert shared.background.claim(Purpose.FACTS, user_id, room, prompt_id)
        shared.background.end(Purpose.FACTS, room, prompt_id, noted=(noted,))

    end(shared, sessions[0])
    assert shared.background.noted(rooms[maya]) == (noted,)  # kept for the other device

    end(shared, sessions[1])
    assert shared.background.noted(rooms[maya]) == ()
    assert shared.background.noted(rooms[omar]) == (noted,)


@pytest.fixture
def opened(sessions, model):
    """Return a database in memory, and the services of its user's session."""
    keys, device, email = throwaway_keys(MAYA), NewDevice.unnamed(), "maya@daybook.test"
    database = InMemoryDatabase(MAYA, keys=lambda _: keys)
    backend = database.sign_in(email, AccountRole.USER, device)
    models, settings = Models(Offer(INFO, model)), CachedRead(ModelSettings)
    sessions.backend.sweep = database.sweep
    shared = Shared(sessions, Settings(), lambda: models, settings)
    session = AppSession(device.session_id, MAYA, email, False, keys, backend)
    shared.session_cache.add(Cookie.new(), session)
    return database, lambda: shared.find(session.id)


def test_temporary_chat_keeps_no_saved_text_in_cleared_memory(opened):
    database, find = opened
    garden = database.hold(f"A {CANARY}", f"When does the {CANARY} come?", "In March.")
    database.conversations.forget(garden)  # the test's own cache
    user = find()
    user.facts.keep(a_fact(f"The {CANARY} nests here"))
    user.conversations.recent()
    user.chat.open(garden)
    temporary = user.begin_temporary(reads_facts=True, is_there=lambda: True)
    assert any(CANARY in text for text in held_by(temporary))

    user.drop_caches()

    del user
    gc.collect()
    assert [text for text in held_by(temporary) if CANARY in text] == []
    [fact] = temporary.facts.facts()
    assert temporary.store.facts.facts() == find().facts.facts() == (fact,)


def test_learnt_limits_of_a_process_are_not_for_users_to_forget(opened):
    _, find = opened

    with pytest.raises(AdminsOnly):
        find().model_server.forget_refusals(INFO.name)


def test_export_notices_what_is_older_than_the_pages_have_seen(opened):
    database, find = opened
    user, garden = find(), database.hold("Garden", "One", "Two")
    gone, fact = a_fact("Gone."), a_fact("Earlier.")

    def write(text, seen):
        user.conversations.set_instructions(garden, text)
        choose(user.profile, instructions=text)
        user.facts.keep(replace(fact, text=text), replaces=seen)

    user.facts.keep(gone)
    write("Earlier.", None)
    rows = {table: database.tables.all(table) for table in (CONVERSATIONS, DOCUMENTS, MESSAGES)}
    write("Later.", fact)
    user.facts.forget(gone.id)
    database.go_on(garden, "Three", "Four")
    user.chat.open(garden)
    user.conversations.forget(garden)  # as the cache drops what was not used for long

    for key in database.tables.all(MESSAGES).keys() - rows[MESSAGES].keys():
        database.tables.run(lambda block, key=key: block.delete(MESSAGES, key))
    for table, earlier in rows.items():
        database.tables.store(table, *earlier.values())

    with ZipFile(BytesIO(b"".join(user.begin_export(UTC).parts()))) as archive:
        [chat] = (name for name in archive.namelist() if name.endswith("Garden.json"))
        conversation = json.loads(archive.read(chat))["conversation"]
        memories, preferences = (
            json.loads(archive.read(f"{name}.json")) for name in ("memories", "preferences")
        )
    assert (conversation["is_whole"], conversation["are_instructions_verified"]) == (False, False)
    assert memories["facts"] == []
    assert not preferences["preferences"]["is_verified"]


@pytest.mark.slow
def test_temporary_turn_without_a_thread_ends_with_its_lease(opened):
    temporary = opened[1]().begin_temporary(reads_facts=False, is_there=lambda: True)
    turn, turns = first_turn("Shade?", lease_seconds=1), temporary.store.turns
    begun, garden = turns.begin(turn), turn.thread.conversation.id
    turns.checkpoint(begun.turn_id, garden, "Ferns", 1)

    left = temporary.chat.view(garden).turn
    assert list(islice(left.follow(), 12))

    assert left.is_done
    assert said(temporary.chat.open(garden)) == ["Shade?", "Ferns"]


@pytest.fixture
def stored(sessions):
    """The versions of the credentials of a user, of which the last one is read."""
    every = [NOBODY]
    sessions.policy = SignInPolicy()
    sessions.current = lambda _: SimpleNamespace(credentials=every[-1])
    return every


@pytest.fixture
def user(shared, stored):
    """The services of a session of the user, who has read the sign-in details."""
    session = session_of(UserId(uuid4()))
    shared.session_cache.add(Cookie.new(), session)
    services = shared.find(session.id)
    assert services.sign_in_details == sign_in_details(NOBODY, SignInPolicy())
    return services


def test_pages_read_the_sign_in_details_again_once_they_have_changed(shared, stored, user):
    stored.append(WITH_PASSWORD)
    shared.outdate_sign_in_details(UserId(uuid4()))
    assert not user.sign_in_details.has_password
    shared.outdate_sign_in_details(user.user_id)

    assert user.sign_in_details.has_password


def test_new_address_is_known_at_once(shared, stored, user):
    new = checked_address("omar@daybook.test")

    stored.append(replace(CONFIRMED, address=new))
    shared.set_address(user.user_id, new)

    assert (user.email, user.sign_in_details.is_confirmed) == (new, True)
    assert shared.session_cache.by_id(user.session.id).email == new


def test_address_that_another_process_changed_reaches_the_session(shared, stored, user):
    new = checked_address("omar@daybook.test")
    stored.append(replace(CONFIRMED, address=new))
    user.outdate_sign_in_details()

    assert user.sign_in_details.is_confirmed

    assert user.email == shared.session_cache.by_id(user.session.id).email == new


def test_cleared_memory_outdates_what_was_drawn_before(shared, user):
    drawn_at = time.monotonic()

    user.drop_caches()

    assert shared.deleted_text.latest(user.user_id) >= drawn_at


def test_deletions_are_forgotten_with_the_last_session(shared, user):
    shared.deleted_text.add(user.user_id, 0)

    end(shared, user.session)

    assert shared.deleted_text.latest(user.user_id) == -math.inf


def test_stopping_the_process_stops_temporary_chats(shared, maya):
    maya.model.gate.clear()
    chat = maya.begin_temporary()
    shared.temporary.add(chat)
    turn = chat.chat.begin(None, "Hello")

    shared.stop_turns()

    assert turn.is_done
    assert maya.database.turn_states() == [TurnState.INTERRUPTED]


@pytest.fixture
def turn(shared, user):
    """A live turn of the user's session, which ends once it is stopped."""
    turn, is_stopped = a_turn(), Event()
    turn.user_id, turn.owner = user.user_id, user.session.id
    turn.when_stopped(is_stopped.set)

    def produce(turn):
        is_stopped.wait(SECONDS)
        turn.close(None)

    shared.live_turns.run(turn, lambda _: None, produce)
    yield turn
    is_stopped.set()


def test_end_of_the_process_is_the_cause_of_its_stops(shared, turn):
    shared.stop_turns()

    assert (turn.is_done, turn.stopped_by) == (True, StopCause.SERVER)


def test_sign_out_is_a_stop_by_the_user(shared, sessions, user, turn):
    cookie, sessions.end = Cookie.new(), lambda _: None
    shared.session_cache.add(cookie, user.session)

    shared.session_cache.leave(cookie)

    assert turn.stopped_by is StopCause.USER


@pytest.mark.parametrize(
    ("service", "cause"), [("devices", StopCause.USER), ("factor_rule", StopCause.ADMIN)]
)
def test_devices_are_ended_by_the_user_and_others_by_an_admin(sessions, user, turn, service, cause):
    sessions.backend.is_alive = lambda _: True

    with getattr(user, service).ending(lambda _: True, SECONDS):
        assert turn.stopped_by is cause


def test_access_is_ended_by_an_admin(user, turn):
    user.access.stop_turns(user.user_id)

    assert turn.stopped_by is StopCause.ADMIN


def test_process_that_stops_begins_no_turn(shared, maya):
    chat, turn = maya.begin_temporary(), a_turn()
    shared.temporary.add(chat)

    shared.stop_turns()

    with pytest.raises(ChatIsOver):
        chat.chat.begin(None, "Hello")
    with pytest.raises(StoreUnavailable):
        shared.live_turns.run(turn, lambda _: None, end_turn)
    assert not turn.is_done


def built(monkeypatch, **options):
    """Return the shared state of a process, and its maintenance threads by name, as `started` does."""
    app, threads = started(monkeypatch, **options)
    return app.shared(), threads


def started(
    monkeypatch, *, is_hosted=False, health=None, broken=None, error=None, forget_text=bool
):
    """Return a process, and its maintenance threads by name; none of them is started, one may be *broken* by *error*."""
    threads, url = {}, "https://database.test"

    def not_begun(name, run):
        threads[name] = run
        future = Future()
        if name == broken:
            future.set_exception(error or ImportError("openai"))
        else:
            future.set_result(NO_MODELS if name == "models" else None)
        return future

    begun = deployment.Deployment(
        settings=Settings(SUPABASE_URL=url, SUPABASE_KEY="key") if is_hosted else Settings(),
        root_keys=SimpleNamespace(proof_key=new_key),
        endpoints=Endpoints() if is_hosted else Endpoints(supabase_url=url, publishable_key="key"),
        health=health,
        check=None,
        stack=None,
    )
    for module in (services_app, supabase_backend):
        monkeypatch.setattr(module, "in_thread", not_begun)
    backend = open_backend(begun.settings, begun.endpoints, begun.root_keys)
    app = App(begun, lambda _: None, forget_text)
    app.start(backend)
    return app, threads


@pytest.fixture
def mailing(monkeypatch):
    """Return a process that sends mail, with the mails that it has sent."""
    begun = SimpleNamespace(settings=Settings(), root_keys=RootKeys({1: new_key()}, 1), health=None)
    app, sent = App(begun, lambda _: None, lambda _: None), []
    app.mailer = SimpleNamespace(send=lambda mail: sent.append(mail) or True)
    shared = SimpleNamespace(backend=InMemoryDatabase(MAYA).backend)
    monkeypatch.setattr(app, "shared", lambda: shared)
    return app, sent


def test_address_gets_one_invitation_an_hour(mailing):
    app, sent = mailing
    invited = Invited(code="code", host="chat.example.org", by=MAYA_ADDRESS)

    assert [app.mail_invitation(MAYA_ADDRESS, invited, MAYA) for _ in range(2)] == [True, False]

    assert [(mail.address, mail.content) for mail in sent] == [(MAYA_ADDRESS, invited)]


def test_invitation_is_not_mailed_while_the_database_is_away(mailing, monkeypatch):
    app, sent = mailing
    monkeypatch.setattr(app, "shared", Mock(side_effect=StoreUnavailable))
    invited = Invited(code="code", host="chat.example.org", by=MAYA_ADDRESS)

    assert not app.mail_invitation(MAYA_ADDRESS, invited, MAYA)

    assert sent == []


def test_admin_mails_twenty_invitations_a_day(mailing):
    app, sent = mailing
    invited = Invited(code="code", host="chat.example.org", by=MAYA_ADDRESS)
    addresses = [checked_address(f"omar{number}@daybook.test") for number in range(21)]

    assert [app.mail_invitation(one, invited, MAYA) for one in addresses] == [True] * 20 + [False]

    assert len(sent) == 20


@pytest.mark.parametrize("error", [TooManyAttempts(9), StoreUnavailable()])
def test_refused_question_for_an_invitation_says_why(mailing, monkeypatch, error):
    app, asked = mailing[0], []

    def refuse(code, throttles):
        asked.append((code, throttles))
        raise error

    shared = SimpleNamespace(backend=SimpleNamespace(open_invitation=refuse))
    monkeypatch.setattr(app, "shared", lambda: shared)

    with pytest.raises(type(error)):
        app.open_invitation("code", "192.0.2.7")

    assert asked == [("code", app.attempts.step("192.0.2.7"))]


def test_openai_and_numpy_are_imported_after_the_first_check(monkeypatch):
    order = []
    event = SimpleNamespace(
        wait=lambda: order.append("waited"), set=lambda: order.append("checked")
    )

    def check(*_):
        order.append("checking")
        raise StoreUnavailable

    monkeypatch.setattr(services_app, "Event", lambda: event)
    monkeypatch.setattr(services_app, "failed_check", check)
    monkeypatch.setattr(services_app, "import_module", order.append)
    app, threads = started(monkeypatch)

    with pytest.raises(StoreUnavailable):
        app._failed_check(None)
    threads["recall-imports"]()

    assert order == ["checking", "checked", "waited", "services.memory.recall"]


@pytest.mark.parametrize(
    ("is_hosted", "has_admin", "said"), [(True, False, 1), (True, True, 0), (False, False, 0)]
)
def test_hosted_start_without_an_admin_prints_the_command(monkeypatch, is_hosted, has_admin, said):
    recorded = []
    health = SimpleNamespace(record=recorded.append)
    monkeypatch.setattr(services_app, "failed_check", lambda *_: None)
    app, _ = started(monkeypatch, is_hosted=is_hosted, health=health)
    away = Mock(side_effect=StoreUnavailable)
    state = SignUpState(
        mode=SignUps.OPEN, is_first_admin=False, confirms_by_code=False, has_admin=has_admin
    )

    for answer in (away, lambda: state, lambda: state):
        app._failed_check(SimpleNamespace(sign_up_state=answer))

    assert recorded == [NO_HOSTED_ADMIN] * said
    assert "grant-admin EMAIL` with DATABASE_URL" in NO_HOSTED_ADMIN.sentence


def test_start_does_not_wait_for_the_models(monkeypatch):
    shared, threads = built(monkeypatch)

    assert shared.session_cache.count == 0
    assert "models" in threads


def test_app_ends_if_its_models_cannot_be_opened(monkeypatch):
    reports = []
    health = SimpleNamespace(record=reports.append)

    built(monkeypatch, health=health)
    assert reports == []
    built(monkeypatch, health=health, broken="models")
    assert reports == [Failed("The models cannot be opened: see the error in the log.")]


def test_app_that_cannot_use_its_proxy_says_so(monkeypatch):
    reports, error = [], ProxyUnusable()

    health = SimpleNamespace(record=reports.append)
    built(monkeypatch, health=health, broken="models", error=error)

    assert reports == [Failed(error.public)]


def test_idle_session_leaves_memory_though_no_request_comes(monkeypatch):
    naps = iter([None])
    shared, threads = built(monkeypatch)
    shared.session_cache.add(Cookie.new(), session_of(UserId(uuid4())))
    monkeypatch.setattr(session_cache, "_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(sleep=lambda _: next(naps)))

    with pytest.raises(StopIteration):
        threads["forgetting"]()

    assert shared.session_cache.count == 0


def test_text_is_dropped_while_the_look_up_of_ended_sessions_hangs(monkeypatch):
    calls = []
    monkeypatch.setattr(
        session_cache.SessionCache, "forget_ended", lambda _: calls.append("look-up")
    )
    _, threads = built(monkeypatch, forget_text=lambda _: calls.append("drop"))

    def look(name):
        naps = iter([None])
        monkeypatch.setattr(upkeep, "time", SimpleNamespace(sleep=lambda _: next(naps)))
        with pytest.raises(StopIteration):
            threads[name]()

    look("forgetting")
    assert calls == ["drop"]
    look("session-ends")
    assert calls == ["drop", "look-up"]


def test_stopping_a_users_turns_leaves_temporary_chats(shared, maya):
    session = session_of(maya.database.user_id)
    shared.session_cache.add(Cookie.new(), session)
    maya.model.gate.clear()
    chat = maya.begin_temporary(owner=session.id)
    shared.temporary.add(chat)
    turn = chat.chat.begin(None, "Hello")

    shared.stop_turns_of(StopCause.ADMIN, session.user_id)

    assert (turn.is_done, chat.is_over) == (True, False)
    end(shared, session)
    assert chat.is_over


@pytest.mark.parametrize(
    ("host", "environment", "is_public"),
    [
        ("localhost", {}, False),
        ("127.0.0.1", {}, False),
        ("localhost", {"DAYBOOK_URL": "https://chat.example.org"}, True),
        ("localhost", {"DAYBOOK_TRUSTED_PROXIES": "1"}, True),
        ("[::1]", {}, False),
        ("[::]", {}, True),
        ("0.0.0.0", {}, True),  # noqa: S104
        ("192.168.178.20", {}, True),
    ],
)
def test_embedded_stack_with_an_address_for_others_is_public(
    monkeypatch, host, environment, is_public
):
    planned = []

    def prepare(_, **choices):
        planned.append(choices["is_public"])
        raise Enough

    monkeypatch.setattr(deployment, "prepare", prepare)
    for name in ("DAYBOOK_URL", "DAYBOOK_TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Enough):
        deployment.read_deployment(f"http://{host}:8501")

    assert planned == [is_public]


@pytest.fixture
def of_file(monkeypatch, tmp_path):
    """Return a function that sets the settings of a deployment over a store in files."""

    def of_file(store="sqlite", **environment):
        settings = {
            "DAYBOOK_STORE": f"{store}:{tmp_path}/daybook.db",
            "DAYBOOK_KEY_DIR": str(tmp_path / "keys"),
            "DAYBOOK_DATA_DIR": str(tmp_path / "data"),
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
            "DAYBOOK_MODEL": "none",
        }
        for name, value in (settings | environment).items():
            monkeypatch.setenv(name, value)

    return of_file


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1/v1"])
def test_local_model_is_planned_where_no_endpoint_is_set(of_file, url):
    of_file(OPENAI_BASE_URL=url, DAYBOOK_MODEL=url and "none")

    begun = deployment.read_deployment("http://127.0.0.1:8501")

    begun.tables.close()
    assert (begun.endpoints.model_url is None) is bool(url)
    assert begun.settings.asks_titles is bool(url)


@pytest.mark.parametrize("store", ["sqlite", "json"])
def test_start_says_that_it_made_a_store(of_file, tmp_path, capsys, store):
    of_file(store)
    for is_made in (True, False):
        deployment.read_deployment("http://127.0.0.1:8501").tables.close()

        said = f"Daybook has made a new store: {tmp_path}/daybook.db\n"
        assert (said in capsys.readouterr().out) is is_made


@pytest.mark.parametrize(
    ("environment", "made"),
    [({"DAYBOOK_ROOT_KEYS": ROOT_KEY}, {"volume"}), ({}, {"volume", "keys"})],
)
def test_new_store_makes_only_folders_that_it_uses(
    of_file, monkeypatch, tmp_path, environment, made
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "volume").mkdir()
    store = f"sqlite:{tmp_path}/volume/daybook.db"
    of_file(DAYBOOK_STORE=store, DAYBOOK_SIGN_IN="local", **environment)

    deployment.read_deployment("http://127.0.0.1:8501").tables.close()

    assert {one.name for one in tmp_path.iterdir()} == made


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DAYBOOK_KEY_DIR": "{long}"}, "root.key cannot be read: File name too long"),
        ({"DAYBOOK_KEY_DIR": "{long}", "DAYBOOK_ROOT_KEYS": ROOT_KEY}, "cannot be written: File"),
        ({"DAYBOOK_STORE": "json:{long}/folder"}, "cannot be used: File name too long"),
        ({"DAYBOOK_STORE": "sqlite:{long}/daybook.db"}, "cannot be used: File name too long"),
        ({"DAYBOOK_STORE": "sqlite:~nobody-here/daybook.db"}, "The home folder is unknown"),
        ({"DAYBOOK_DATA_DIR": "~nobody-here/data"}, "The home folder is unknown"),
    ],
)
def test_place_that_cannot_be_used_is_refused_in_a_sentence(
    of_file, tmp_path, environment, sentence
):
    long = tmp_path / ("d" * 300)  # a path that even root cannot read
    of_file(**{name: value.format(long=long) for name, value in environment.items()})

    with pytest.raises(Misconfigured, match=sentence):
        deployment.read_deployment("http://127.0.0.1:8501")


def test_process_without_a_home_is_refused_in_a_sentence(of_file, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # a uid that no user has
    of_file()

    with pytest.raises(Misconfigured, match="The home folder is unknown: set HOME"):
        deployment.read_deployment("http://127.0.0.1:8501")


def test_secret_address_of_each_port_is_in_a_file_of_its_own(of_file, tmp_path):
    of_file()

    for port in (8501, 8502):
        begun = deployment.read_deployment(f"http://localhost:{port}")
        begun.tables.close()
        written = (tmp_path / "keys" / f"open-{port}.txt").read_text()
        assert written == f"http://localhost:{port}/open/{begun.secret}\n"
        assert f"in the file open-{port}.txt" in begun.opening
        assert str(tmp_path) not in begun.opening


def test_secret_address_is_printed_on_a_terminal(of_file, capsys, monkeypatch, tmp_path):
    of_file()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    begun = deployment.read_deployment("http://localhost:8501")

    begun.tables.close()
    begun.health.record(Running())
    assert f"http://localhost:8501/open/{begun.secret}" in capsys.readouterr().out.splitlines()[-1]
    assert len(begun.secret) == 43  # 256 bits in base64
    assert "terminal" in begun.opening
    assert not list(tmp_path.rglob("open-*"))


@pytest.mark.parametrize(("methods", "is_said"), [("passkey", True), ("passkey,password", False)])
def test_start_says_that_passkeys_alone_make_no_account(of_file, capsys, methods, is_said):
    of_file(DAYBOOK_SIGN_IN="local", DAYBOOK_SIGN_IN_METHODS=methods)

    begun = deployment.read_deployment("http://127.0.0.1:8501")

    begun.tables.close()
    assert ("no new account can be created" in capsys.readouterr().out) is is_said


@pytest.mark.parametrize(
    ("environment", "url", "is_let"),
    [
        ({}, "http://127.0.0.1:8501", True),
        ({"DAYBOOK_URL": "https://chat.example.org"}, "http://127.0.0.1:8501", False),
        ({"DAYBOOK_TRUSTED_PROXIES": "1"}, "http://127.0.0.1:8501", False),
        ({}, "http://192.168.0.7:8501", False),
    ],
)
def test_first_account_of_a_file_is_admin_on_this_machine_alone(
    of_file, capsys, environment, url, is_let
):
    of_file(DAYBOOK_SIGN_IN="local", **environment)

    begun = deployment.read_deployment(url)

    with closing(begun.tables):
        assert begun.tables.of(None).run(settings_of).first_account_is_admin is is_let
    out = capsys.readouterr().out
    assert ("There is no admin" in out) is not is_let
    assert ("grant-admin EMAIL` with the app's settings" in out) is not is_let
    assert begun.secret is None


@pytest.mark.parametrize(
    ("environment", "url", "is_printed"),
    [
        ({"DAYBOOK_SIGN_IN": "local"}, "http://localhost:8501", True),
        ({}, "http://localhost:8501", False),  # without sign-in, no mail is sent
        ({"DAYBOOK_SIGN_IN": "local"}, "http://0.0.0.0:8501", None),
    ],
)
def test_codes_are_printed_on_this_machine_alone(of_file, capsys, environment, url, is_printed):
    of_file(DAYBOOK_MAIL="console", **environment)

    if is_printed is None:
        with pytest.raises(Misconfigured, match="DAYBOOK_MAIL=console is for this machine alone"):
            deployment.read_deployment(url)
        return
    begun = deployment.read_deployment(url)

    begun.tables.close()
    assert ("DAYBOOK_MAIL=console: mails are printed here" in capsys.readouterr().out) is is_printed
    mailer = App(begun, None, None).mailer
    assert (mailer is not None) is is_printed
    if mailer:
        printed = []
        mailer.send(a_mail())
        until(lambda: printed.append(capsys.readouterr().out) or DIGITS in "".join(printed))
        mailer.close()
        assert f"Mail to {MAYA_ADDRESS}: " in "".join(printed)


@pytest.mark.parametrize(
    ("public", "url", "is_told"),
    [
        (None, "http://localhost:8501", False),
        (None, "http://0.0.0.0:8501", True),
        ("http://chat.lan", "http://localhost:8501", True),
        ("http://daybook.localhost:8501", "http://localhost:8501", False),
        ("https://chat.example.org", "http://0.0.0.0:8501", False),
    ],
)
def test_start_warns_of_http_at_another_address(of_file, capsys, public, url, is_told):
    of_file(DAYBOOK_SIGN_IN="local", **({"DAYBOOK_URL": public} if public else {}))

    deployment.read_deployment(url).tables.close()

    assert (IS_HTTP.sentence in capsys.readouterr().out) is is_told


@pytest.mark.parametrize(
    ("public", "proxies", "is_told"),
    [
        ("https://chat.example.org", None, True),
        ("https://chat.example.org", "1", False),
        ("https://chat.example.org", "0", False),  # the operator has decided
        ("http://chat.lan", None, False),
    ],
)
def test_start_warns_of_one_address_behind_a_proxy(of_file, capsys, public, proxies, is_told):
    count = {"DAYBOOK_TRUSTED_PROXIES": proxies} if proxies else {}
    of_file(DAYBOOK_SIGN_IN="local", DAYBOOK_URL=public, **count)

    deployment.read_deployment("http://localhost:8501").tables.close()

    assert (SHARED_ADDRESS.sentence in capsys.readouterr().out) is is_told


@pytest.mark.parametrize(
    ("public", "told"),
    [
        (None, []),
        ("http://chat.lan", [IS_HTTP.sentence]),
        ("https://chat.example.org", [SHARED_ADDRESS.sentence]),
    ],
)
def test_check_warns_of_the_address_as_the_start_does(of_file, public, told):
    of_file(DAYBOOK_SIGN_IN="local", **({"DAYBOOK_URL": public} if public else {}))
    deployment.read_deployment("http://localhost:8501").tables.close()

    lines = [
        line.split(maxsplit=2)
        for line in CliRunner().invoke(operate, ["check"]).output.splitlines()
    ]

    assert [text for mark, name, text in lines if (mark, name) == ("note", "address")] == told


def imported(folder, *arguments):
    """Return the process that imported the app, with a backend that prints when it begins and ends."""
    folders = {"DAYBOOK_DATA_DIR": str(folder / "data"), "DAYBOOK_KEY_DIR": str(folder / "keys")}
    mail = {"DAYBOOK_SMTP_HOST": "127.0.0.1", "DAYBOOK_SMTP_FROM": "no-reply@corp.example"}
    command = [sys.executable, "-c", _IMPORT, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | folders | mail, capture_output=True, text=True
    )


@pytest.mark.slow
def test_start_on_a_damaged_store_is_refused_in_a_sentence(of_file, tmp_path):
    of_file("json")
    deployment.read_deployment("http://127.0.0.1:8501").tables.close()
    (tmp_path / "daybook.db" / "shared" / "root_key.jsonl").write_text("damaged")

    process = imported(tmp_path)

    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        "Daybook cannot start: daybook.db is damaged: stop Daybook and put a backup back."
    ]


@pytest.mark.slow
def test_backend_and_server_start_before_the_slow_imports(tmp_path):
    process = imported(tmp_path)

    assert process.stdout.splitlines() == [
        "before the backend: []",
        "before the server: [] True",
    ], process.stderr


@pytest.mark.slow
def test_ctrl_c_during_the_imports_stops_the_backend(tmp_path):
    process = imported(tmp_path, "interrupt")

    assert process.stdout.splitlines()[1:] == ["the backend is stopped"], process.stderr
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("has_accounts", "is_first", "is_admin"),
    [(False, True, True), (False, False, False), (True, True, False)],
)
def test_next_account_is_the_admins_as_the_first_alone(
    monkeypatch, has_accounts, is_first, is_admin
):
    state = SimpleNamespace(is_first_admin=is_first)
    backend = SimpleNamespace(sign_up_state=lambda: state)
    app = App(SimpleNamespace(health=None, settings=Settings()), None, None)
    monkeypatch.setattr(app, "has_accounts", lambda: has_accounts)
    monkeypatch.setattr(app, "shared", lambda: SimpleNamespace(backend=backend))

    assert app.next_is_admin() is is_admin


@pytest.fixture
def not_started():
    """The app of a process whose backend has not started yet."""
    root_keys = RootKeys({1: new_key()}, current=1)
    return App(
        SimpleNamespace(settings=Settings(), root_keys=root_keys, health=None, secret=None),
        None,
        None,
    )


def test_pages_are_answered_before_the_backend_starts(not_started):
    assert not_started.has_accounts()
    assert not not_started.next_is_admin()
    assert not_started.sign_ups() is SignUps.OPEN
    assert not_started.open_sessions() == 0
    assert not_started.user(None) is not_started.user("ended") is None
    with pytest.raises(StoreUnavailable):
        not_started.user(str(uuid4()))


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/session", "/?reason=unavailable"),
        ("POST", "/account", "/?code=sign_up&reason=unavailable"),
        ("POST", "/account/password", "/account?reason=unavailable"),
        ("POST", "/account/end", "/account?reason=unavailable"),
        ("POST", "/session/end", "/account?reason=still-signed-in"),
        ("GET", "/export/usage.csv", "/usage"),
        ("GET", "/poll", 503),
    ],
)
def test_requests_are_answered_before_the_backend_starts(
    monkeypatch, not_started, method, path, answer
):
    monkeypatch.setattr(events, "_listeners", [])
    headers = {"origin": "http://localhost", "cookie": f"__Host-sid={Cookie.new()}"}
    app = Starlette(routes=bootstrap.routes(not_started))
    client = TestClient(app, "http://localhost", headers=headers, follow_redirects=False)
    form = {"email": "maya@example.org", "password": "a long password", "next": "/"}

    found = client.request(method, path, data=form if method == "POST" else None)

    assert found.headers.get("location", found.status_code) == answer


def test_codes_have_routes_where_mail_is_set_alone(monkeypatch, not_started):
    def paths():
        return {route.path for route in bootstrap.routes(not_started)}

    monkeypatch.setattr(events, "_listeners", [])
    without = paths()
    not_started.mailer = SimpleNamespace(send=lambda _: True)

    assert paths() - without == {"/code", "/code/redeem"}


def test_limits_of_codes_and_mails_are_those_of_the_settings(not_started):
    chosen = Settings(
        DAYBOOK_SIGN_UPS_AN_HOUR=2,
        DAYBOOK_CODES_AN_HOUR=3,
        DAYBOOK_MAILS_AN_HOUR=50,
        DAYBOOK_SMTP_HOST="127.0.0.1",
        DAYBOOK_SMTP_FROM="no-reply@corp.example",
    )
    not_started.deployment.settings = chosen

    attempts = not_started.attempts

    assert (attempts.sign_ups_an_hour, attempts.codes_an_hour) == (2, 3)
    assert open_mailer(chosen, print).health().at_most == 50


@pytest.mark.parametrize(("is_hosted", "asked", "swept"), [(True, 0, 10), (False, 133, 67)])
def test_idle_app_calls_its_database_rarely(monkeypatch, is_hosted, asked, swept):
    """The number of calls in ten minutes, plus one, because the first sweep leaves due rows."""
    calls, clock = Counter[str](), [0.0]

    def answer(_, request):
        calls[request.url.path.removeprefix("/rest/v1/rpc/")] += 1
        is_first = calls.total() == 1
        return httpx.Response(200, json={"ok": True, "more": is_first})

    class Pause(Event):
        def wait(self, timeout=None):
            clock[0] += timeout or 0.0
            if clock[0] >= 600:
                raise Enough
            return False

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(database_health, "Event", Pause)
    monkeypatch.setattr(supabase_upkeep.time, "monotonic", lambda: clock[0])
    _, threads = built(monkeypatch, is_hosted=is_hosted)

    with pytest.raises(Enough):
        threads["database-probe"]()

    imports = {"models", "recall-imports"}
    assert (
        set(threads) == {"database-probe", "log-erasures", "forgetting", "session-ends"} | imports
    )
    assert calls == Counter(open_session=asked, sweep_turns=swept + 1)
