"""A canary in all that a person enters, says or is told, and the places where it must not turn up.

The scene runs in this process over the embedded stack, with every logger at DEBUG; then it is looked
for in the files, the tables, the logs, the errors and the reprs of what took part.
"""

import base64
import gc
import logging
import secrets
import traceback
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

import httpx
import pytest
from postgrest.exceptions import APIError
from pydantic import BaseModel
from streamlit.testing.v1 import AppTest

from services import errors
from services.caches import CachedRead
from services.chat.live_turn import LiveTurn
from services.domain import Full, Message, Outcome, Purpose, Retrieval
from services.domain.context import ContextBudget, History
from services.domain.models import ModelInfo, ModelSettings
from services.llm import Models, Offer
from services.llm.openai_model import OpenAIModel, connect
from services.memory.planner import plan_context
from services.memory.receipt import Receipt
from services.memory.tokens import RegexCounter
from services.settings import Settings
from services.store.accounts import Cookie
from services.store.supabase.api import store_errors
from services.users import Shared, UserServices
from services.users.message_search import Asked
from tests.fakes import choose
from tests.model_server import ModelServer
from tests.stack.apps import SECONDS, until
from tests.store.conftest import PASSWORD, make_sessions
from tests.stores import store_of
from tests.web.test_sign_in_routes import browser, form

SAID = f"kestrel{secrets.randbelow(10**9):09}"  # in prompts, titles, replies and errors
NAME = f"osprey{secrets.randbelow(10**9):09}"  # in email addresses
MODEL = f"plover{secrets.randbelow(10**9):09}"  # no secret: what is looked for can be found
REFUSALS = """AddressTaken BadInput Busy ModelUnavailable PromptTooLong Stale StoreUnavailable
    WrongCredentials"""
INFO = ModelInfo(MODEL, 4096, 400, 1_000_000, 4_000_000, 100_000)


def test_canary_is_found_in_all_its_forms():
    for alike in (SAID, SAID.upper()):
        for text in (alike, f"a{alike}", f"ab{alike}c", f"abc{alike}de"):
            for written in (
                text.encode(),
                text.encode("utf-16"),
                text.encode("utf-32-be"),
                text.encode().hex().encode(),
                base64.b64encode(text.encode()),
                base64.urlsafe_b64encode(text.encode("utf-16-le")),
            ):
                assert found(SAID, b"\xff\xfe" + written + b"?"), written


@cache
def forms(word):
    """*word* as text, hex and base64, which has three beginnings, of its usual encodings."""
    made = set[bytes]()
    for spelt in (word, word.upper()):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            raw = spelt.encode(encoding)
            made |= {raw, raw.hex().encode(), raw.hex().upper().encode()}
            for before in range(3):
                whole = (before + len(raw)) * 8 // 6  # letters that hold nothing of what follows
                first = (0, 2, 3)[before]
                for encode in (base64.b64encode, base64.urlsafe_b64encode):
                    made.add(encode(bytes(before) + raw)[first:whole])
    return made


def found(word, data):
    return any(each in data for each in forms(word))


@dataclass
class Scene:
    """The logs, the errors, and the reprs of all objects of the app that live while it plays."""

    email: str
    log: list[str] = field(default_factory=list, repr=False)
    errors: list[BaseException] = field(default_factory=list, repr=False)
    reprs: dict[str, type] = field(default_factory=dict, repr=False)

    def refused(self, call):
        with pytest.raises(errors.AppError) as caught:
            call()
        self.errors.append(caught.value)

    def look(self, *_alive):
        """Take the reprs of all objects of the app, those of the arguments included."""
        for each in gc.get_objects():
            if str(type(each).__module__).startswith("services."):
                self.reprs[repr(each)] = type(each)


class _Listener(logging.Handler):
    """Keeps what is logged, as text and as the arguments that other handlers would be given."""

    def __init__(self, lines):
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record):
        self._lines.append(f"{record.name}: {self.format(record)} {record.args!r}")


@contextmanager
def _everything_logged(lines):
    root, listener = logging.getLogger(), _Listener(lines)
    known = [log for log in root.manager.loggerDict.values() if isinstance(log, logging.Logger)]
    levels = [(log, log.level) for log in (root, *known)]
    for log, _ in levels:
        log.setLevel(logging.DEBUG)
    root.addHandler(listener)
    try:
        yield
    finally:
        root.removeHandler(listener)
        for log, level in levels:
            log.setLevel(level)


@pytest.fixture(scope="module")
def scene(stack):
    happened = Scene(f"{NAME}@daybook.test")
    sessions = make_sessions(stack)
    with sessions.backend.gateway.http, ModelServer() as server, closing(_model(server)) as model:
        with _everything_logged(happened.log):
            session = _play(happened, sessions, model, server)
        _write_past_the_app(session)
    with stack.connect() as database:
        database.execute("checkpoint")  # what is still in memory goes to the tables' files
    return happened


def _model(server):
    client = connect(server.url, "-")
    return OpenAIModel(client, MODEL, first_token_seconds=20, between_tokens_seconds=4)


def _play(scene, sessions, model, server):
    settings = Settings(
        OPENAI_BASE_URL=server.url, DAYBOOK_MODEL=MODEL, DAYBOOK_INSTRUCTIONS=f"You know {SAID}."
    )
    shared = Shared(
        sessions, settings, lambda: Models(Offer(INFO, model)), CachedRead(ModelSettings)
    )
    session_cache = shared.session_cache
    cookie = _enter(scene, session_cache)
    session = session_cache.find(cookie)
    person = shared.find(session.id)
    chat, conversations = person.chat, person.store.conversations

    def ask(prompt, conversation=None, **script):
        server.script(**script)
        turn = chat.begin(conversation.id if conversation else None, prompt)
        assert turn.wait(SECONDS)
        thread = chat.open(turn.conversation_id)
        scene.look()
        if turn.failure:
            scene.errors.append(turn.failure)
        return thread

    thread = ask(f"Prompt of {SAID} [[title={SAID}]]", reply=f"Reply of {SAID}.")
    until(lambda: not chat.coming(Purpose.TITLE))
    conversation = chat.open(thread.conversation.id).conversation
    assert conversation.title == SAID  # by the model
    conversations.rename(conversation.id, f"Title of {SAID}")
    until(lambda: person.search(Asked(words=SAID)).count)
    _note_facts(scene, person, lambda prompt: ask(prompt, conversation))
    _say_what_nobody_keeps(scene, person, server)
    for script in (
        {"status": 500},
        {"status": 429, "retry_after": "60"},
        {"fault": "html"},
        {"tokens": 9, "fault": "malformed", "after": 3},
        {"reply": f"Half of {SAID} and", "fault": "drop", "after": 3},
        {"reply": f"More of {SAID} and", "fault": "hang", "after": 3},
        {"reply": "Part", "fault": "error-event", "after": 1},
    ):
        ask(f"Say it again, {SAID}", conversation, **script)

    server.script(reply=f"Slowly {SAID} " * 99, rate=30)
    turn = chat.begin(conversation.id, f"Be slow, {SAID}")
    next(text for text in turn.follow() if SAID in text)
    chat.tasks.calls.checkpoint(turn, turn.said())
    scene.refused(lambda: chat.begin(conversation.id, f"Busy {SAID}"))
    scene.look(chat.view(conversation.id), person.store.turns.read(conversation.id))
    turn.stop()
    assert turn.wait(SECONDS)
    chat.open(conversation.id)

    elsewhere = store_of(session).conversations
    elsewhere.thread(conversation.id)
    thread = ask(f"One more of {SAID}", conversation)
    assert thread.messages[-1].outcome is Outcome.COMPLETE
    scene.refused(lambda: chat.begin(conversation.id, f"Stale {SAID}", seen_rev=1))
    scene.refused(lambda: chat.begin(conversation.id, f"{SAID} \ud83d"))
    scene.refused(lambda: chat.begin(conversation.id, SAID * 10_000))
    scene.refused(lambda: conversations.rename(conversation.id, SAID * 20))
    conversations.set_instructions(conversation.id, f"Here you know {SAID}.")
    choose(person.store.profile, instructions=f"You always know {SAID}.")
    thread = ask(f"Told of {SAID}", conversation)
    assert server.requests[-1].body["messages"][0]["content"] == f"Here you know {SAID}."
    scene.look(
        person.choices.setup(thread), person.choices.setup(None), person.store.profile.preferences()
    )
    for instruct in (
        lambda text: conversations.set_instructions(conversation.id, text),
        lambda text: choose(person.store.profile, instructions=text),
    ):
        scene.refused(lambda instruct=instruct: instruct(SAID * 501))
        scene.refused(lambda instruct=instruct: instruct(f"{SAID} \ud83d"))
        scene.refused(lambda instruct=instruct: _away(lambda: instruct(f"Away {SAID}")))
    conversations.set_policy(conversation.id, Retrieval())
    choose(person.store.profile, recalls_elsewhere=True)
    thread = ask(f"What of {SAID}?", conversation)
    found = chat.tasks.planning.search.ranked(thread, thread.branch(), SAID, is_elsewhere=True)
    assert found
    scene.look(chat.view(conversation.id).receipt(thread.messages[-1]))
    conversations.set_policy(conversation.id, Full())
    chat.open(conversation.id)
    scene.refused(lambda: chat.begin(conversation.id, f"{SAID} word " * 4000))
    scene.refused(lambda: _away(lambda: chat.begin(None, f"Away {SAID}")))

    history = History(instructions=SAID, past=thread.branch(), prompt=SAID)
    plan = plan_context(Full(), history, ContextBudget(4096, 400), RegexCounter())
    assert plan.messages
    scene.look(conversations.titled(SAID), conversations.recent(), person.account)
    return session


def _note_facts(scene, person, ask):
    """Have the model note one, and fail to change it."""
    chat, memories = person.chat, person.store.facts
    choose(person.store.profile, keeps_facts=True)
    thread = ask(f"I am {SAID} [[facts=Is_{SAID}.]]")
    chat.tasks.note_facts(thread.conversation.id)
    until(lambda: not chat.coming(Purpose.FACTS))
    noted, (fact,) = chat.tasks.noted(thread.conversation.id), memories.facts()
    assert (fact.text, len(noted)) == (f"Is {SAID}.", 1)
    scene.refused(lambda: memories.keep(replace(fact, text=SAID * 50)))
    scene.refused(lambda: memories.keep(fact, replaces=replace(fact, text=f"Was {SAID}.")))
    scene.refused(lambda: _away(lambda: memories.keep(replace(fact, text=f"Away {SAID}"))))
    scene.look()
    choose(person.store.profile, keeps_facts=False)


def _say_what_nobody_keeps(scene, person, server):
    held = person.begin_temporary(reads_facts=True, is_there=lambda: True)
    server.script(reply=f"Reply of {SAID}.")
    turn = held.chat.begin(None, f"Nobody keeps {SAID}")
    assert turn.wait(SECONDS)
    thread = held.chat.open(held.id)
    assert thread.messages[-1].body == f"Reply of {SAID}."
    scene.refused(lambda: held.chat.begin(held.id, f"Stale {SAID}", seen_rev=0))
    scene.refused(lambda: _away(lambda: held.chat.begin(held.id, f"Away {SAID}")))
    scene.look()


def _enter(scene, session_cache):
    """Sign up, and fail to in all the ways there are."""
    client = browser(session_cache, tries_of_an_account=1)
    made = client.post("/account", data=form(scene.email))
    for path, entered in (
        ("/account", form(scene.email)),
        ("/account", form(f"{NAME}.2@daybook.test", "short")),
        ("/account", form(f"{NAME} is no address")),
        ("/session", form(scene.email, PASSWORD + "!")),
        ("/session", form(f"{NAME}.3@daybook.test")),
        ("/session", form(scene.email)),  # too many by now
    ):
        answer = client.post(path, data=entered)
        assert "reason=" in answer.headers["location"]
        assert NAME not in str(answer.headers)
    scene.refused(lambda: session_cache.accounts.sign_up_with(scene.email, PASSWORD))
    scene.refused(lambda: session_cache.accounts.sign_in_with(scene.email, PASSWORD + "!"))
    scene.refused(lambda: _away(lambda: session_cache.accounts.sign_in_with(scene.email, PASSWORD)))
    return Cookie.parse(made.headers["set-cookie"].split(";")[0].split("=", 1)[1])


def _away(call):
    """*call* while nobody answers where the database was."""

    def lost(_, request, **__):
        raise httpx.ConnectError("refused", request=request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", lost)
        call()


def _write_past_the_app(session):
    """Try API calls with a user's own token; neither the API nor Postgres may repeat their text."""
    api = session.backend.calls.client
    for attempt in (
        api.table("messages").insert({"body": SAID}),
        api.table("messages").select("*").eq("id", SAID),
        api.table("conversations").update({"title": SAID}).eq("title", SAID),
        api.table(SAID).select("*"),
        api.rpc("change_conversation", {"conversation": SAID, "changes": SAID, "proof": SAID}),
        api.rpc(SAID, {}),
    ):
        with pytest.raises(APIError):
            attempt.execute()


def test_scene_was_logged_stored_and_refused(scene, stack):
    """Or all that follows would look for nothing."""
    log = "\n".join(scene.log)
    heard = {line.partition(":")[0].partition(".")[0] for line in scene.log}

    assert {"daybook", "httpx", "httpcore", "httpx2", "httpcore2", "openai"} <= heard
    assert "turn.finished" in log
    assert {type(error).__name__ for error in scene.errors} >= set(REFUSALS.split())
    assert any(found(MODEL, data) for _, data in files(stack.data))


def test_no_data_file_contains_what_was_said(scene, stack):
    assert [str(path) for path, data in files(stack.data) if found(SAID, data)] == []


def test_no_log_file_contains_an_address(scene, stack):
    logs = list(files(stack.data / "logs"))

    assert logs
    assert [str(path) for path, data in logs if found(NAME, data)] == []


def test_no_table_contains_text_and_only_auth_addresses(scene, stack):
    with stack.connect() as database:
        held = tables(database)
    # Supabase's own tables need the address, to send to it
    with_name = {schema for (schema, _), text in held.items() if found(NAME, text.encode())}

    assert [table for (_, table), text in held.items() if found(SAID, text.encode())] == []
    assert with_name == {"auth"}


def test_no_log_contains_text_or_addresses(scene):
    for word in (SAID, NAME, PASSWORD):
        assert [line[:300] for line in scene.log if found(word, line.encode())] == []


def test_no_error_contains_text_or_addresses(scene):
    for error in scene.errors:
        text = "".join(traceback.format_exception(error))
        for word in (SAID, NAME, PASSWORD):
            assert not found(word, f"{text}{error}{error!r}{error.args}{error.public}".encode())


def test_only_plain_strings_show_text_in_tracebacks(scene):
    """A traceback drawn with locals shows text in plain strings alone, which few frames hold."""
    shown = {
        (frame.f_code.co_name, name)
        for error in scene.errors
        for frame in _frames(error)
        if "/services/" in frame.f_code.co_filename
        for name, value in frame.f_locals.items()
        if not isinstance(value, str)
        and any(found(word, repr(value).encode()) for word in (SAID, NAME, PASSWORD))
    }

    assert shown == set()


def _frames(error):
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            yield frame
        error = error.__cause__ or error.__context__


def test_no_repr_contains_text_or_addresses(scene):
    assert {Message, LiveTurn, Receipt, UserServices} <= {*scene.reprs.values()}
    for text, kind in scene.reprs.items():
        assert not any(found(word, text.encode()) for word in (SAID, NAME, PASSWORD)), kind


def test_malformed_row_is_not_quoted():
    """Pydantic would print the whole row."""

    class Row(BaseModel):
        email: str
        missing: int

    with pytest.raises(errors.StoreUnavailable) as caught, store_errors():
        Row.model_validate({"email": NAME})

    assert not found(NAME, "".join(traceback.format_exception(caught.value)).encode())


def test_broken_page_shows_nothing_of_its_data():
    def page(said):
        import streamlit as st

        st.write("before")
        raise ValueError(said)

    ran = AppTest.from_function(page, args=[SAID], default_timeout=120).run()

    assert [each.value for each in ran.markdown] == ["before"]
    assert len(ran.exception) == 1
    assert not found(SAID, str(ran._tree).encode() + ran.exception[0].proto.SerializeToString())


def tables(database):
    """All that is in every table, and Postgres' samples of it, by schema and name."""
    database.execute("analyze")  # its samples are copies too: autovacuum would take them some time
    names = database.execute(
        "select table_schema, format('%I.%I', table_schema, table_name)"
        " from information_schema.tables where table_type = 'BASE TABLE'"
        " and table_name != 'pg_statistic'"
    ).fetchall()
    held = {
        (schema, table): str(database.execute(f"select t::text from {table} t").fetchall())
        for schema, table in names
    }
    # pg_statistic's rows, each by the schema that it was sampled from
    return held | {
        (schema, f"samples of {table}.{column}"): values
        for schema, table, column, values in database.execute(
            "select schemaname, tablename, attname, pg_stats::text from pg_stats"
        )
    }


def files(folder):
    for path in folder.rglob("*"):
        if path.is_file():  # not a socket
            yield path, path.read_bytes()
