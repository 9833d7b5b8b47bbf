"""Seed data, written through the services like a second process of the same app."""

import os
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
from click.testing import CliRunner

from services import settings
from services.chat.live_turn import LiveTurns
from services.chat.search import Search
from services.chat.service import Chat
from services.chat.setup import Choices
from services.chat.task_registry import BackgroundTasks
from services.crypto import RootKeys
from services.domain import Purpose, Window
from services.domain.mails import NoticeKind
from services.domain.models import ModelInfo
from services.domain.policies import WINDOW_MESSAGES
from services.embedded.folders import choose_folders
from services.embedded.plan import read_secrets, running_endpoints
from services.embedded.postgres import Postgres
from services.llm import Models, Offer
from services.memory.tokens import RegexCounter
from services.operate.__main__ import operate as commands
from services.rules.accounts import PROOF_LIFE, StoredNotice
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.tables.access import settings_of
from services.store.tables.backend import TablesBackend
from services.store.tables.schema import (
    ACCOUNTS,
    BUDGETS,
    DAYS,
    MESSAGES,
    NOTICES,
    SESSIONS,
    SETTINGS,
    TABLES,
    TURNS,
)
from services.stores import open_operator
from tests.store.conformance.talk import begun_with
from tests.stores import WholeAccounts, backend_at, store_of
from tests.sure import sure
from tests.test_privacy import files
from tests.test_privacy import tables as postgres_tables

_INFO = ModelInfo(
    name="gpt-5-mini",
    context_tokens=100_000,
    reply_tokens=1000,
    input_micro=250_000,
    output_micro=2_000_000,
    cached_input_micro=25_000,
)
_SECONDS = 20.0
PLACES = {"sqlite": SqlitePlace, "json": FilesPlace}
BY_AN_OPERATOR = "An admin changed how you sign in"  # the notice after a command that changes it


def operate(app, *arguments):
    """Return the output of a command of the operator beside *app*: in this process, because another takes a second to start."""
    unset = dict.fromkeys(os.environ)
    places = {"DAYBOOK_DATA_DIR": str(app.data), "DAYBOOK_KEY_DIR": str(app.keys)}
    if app.database:
        places["DATABASE_URL"] = app.database
    ran = CliRunner().invoke(commands, sure(arguments), env=unset | places | app.environment)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def operator_of(app):
    """Return the operator's port of the store of *app*: in this process."""
    places = {"data_dir": app.data, "key_dir": app.keys}
    store = app.environment.get("DAYBOOK_STORE")
    return open_operator(settings.read(store=store, database_url=app.database, **places))


@contextmanager
def second_process(app):
    """Yield the accounts of the running *app*, as a second process opens them; over JSON files the app must have ended."""
    root_keys = root_keys_of(app)
    with _backend(app, root_keys) as backend:
        yield WholeAccounts(backend, root_keys, idle_seconds=3600, lifetime_seconds=86400)


def root_keys_of(app):
    text = app.environment.get("DAYBOOK_ROOT_KEYS") or (app.keys / "root.key").read_text()
    return RootKeys.parse(text)


@contextmanager
def _backend(app, root_keys):
    if store := app.environment.get("DAYBOOK_STORE"):
        with _tables(store) as tables:
            yield TablesBackend(tables)
        return
    if app.database:
        at = app.environment["SUPABASE_URL"], app.environment["SUPABASE_KEY"]
    else:
        endpoints = running_endpoints(app.data)
        at = endpoints.supabase_url, endpoints.publishable_key
    backend = backend_at(*at, root_keys)
    with backend.gateway.http:
        yield backend


def _tables(store):
    """Return the tables at the place that a DAYBOOK_STORE names, to be closed."""
    kind, _, path = store.partition(":")
    return closing(PLACES[kind](Path(path)).open(is_app=False))


@dataclass(slots=True)
class _Echo:
    """A model that answers at once with a given reply."""

    reply: str = ""
    merges_instructions = False

    def start(self, messages, *, max_tokens):
        return self

    def __iter__(self):
        yield self.reply

    def cancel(self):
        pass


def converse(session, turns, policy=None, *, is_edited=False):
    """Store a conversation with these prompts and replies, marked as read, with a window or with *policy*; return its id.

    *is_edited*: the user wrote the replies, which may then be longer than a model's.
    """
    model, store, policy = _Echo(), store_of(session), policy or Window()
    choices = Choices(
        store=store,
        models=Models(Offer(_INFO, model)),
        counter=RegexCounter(),
        instructions="",
        first_policy=policy,
        window_messages=policy.messages or WINDOW_MESSAGES,
    )
    chat = Chat(
        choices,
        sweep=lambda: None,
        live_turns=LiveTurns(),
        background=BackgroundTasks(),
        search=Search(),
    )
    conversation_id = None
    for prompt, reply in turns:
        model.reply = "reply" if is_edited else reply
        turn = chat.begin(conversation_id, prompt)
        assert turn.wait(_SECONDS)
        conversation_id = turn.conversation_id
        thread = chat.open(conversation_id)
        if is_edited:
            chat.edit_reply(conversation_id, thread.tip.id, reply)
            chat.open(conversation_id)
    assert conversation_id
    store.conversations.mark_read(chat.open(conversation_id))
    return conversation_id


def hold(session, titles):
    """Store conversations with these titles, each with one prompt."""
    return [begun_with(store_of(session), title).conversation.id for title in titles]


def let_talk_fast(app):
    """Lift the limit of turns a minute for all users who have an account."""
    if store := app.environment.get("DAYBOOK_STORE"):
        with _tables(store) as tables:
            lift_bounds(tables)
        return
    with database(app) as connection:
        connection.execute("update private.budgets set max_per_minute = 1000000")


def let_talk_no_more(app, email):
    """Allow a user no turn a minute."""
    if store := app.environment.get("DAYBOOK_STORE"):

        def bound(block):
            block.put(BUDGETS, replace(block.get(BUDGETS, "budget"), max_per_minute=0))

        with _tables(store) as tables:
            tables.of(_user_id(tables, email)).run(bound)
        return
    with database(app) as connection:
        connection.execute(
            f"update private.budgets set max_per_minute = 0 where user_id = {_OF_EMAIL}", [email]
        )


def swap_messages(app, email, of, into):
    """Give the messages of the conversation *into* the sealed text of one of the conversation *of*."""
    if store := app.environment.get("DAYBOOK_STORE"):

        def swap(block):
            [body, *_] = [row.body for row in block.select(MESSAGES, {"conversation_id": of})]
            for row in block.select(MESSAGES, {"conversation_id": into}):
                block.put(MESSAGES, replace(row, body=body))

        with _tables(store) as tables:
            tables.of(_user_id(tables, email)).run(swap)
        return
    with database(app) as connection:
        connection.execute(
            "update public.messages set body = (select body from public.messages"
            " where conversation_id = %s limit 1) where conversation_id = %s",
            [of, into],
        )


def tell(app, email, *kinds):
    """Store a notice of each of *kinds* for a user."""
    if store := app.environment.get("DAYBOOK_STORE"):

        def put(block):
            for kind in kinds:
                notice = StoredNotice(id=uuid4(), kind=NoticeKind(kind), at=datetime.now(UTC))
                block.put(NOTICES, notice)

        with _tables(store) as tables:
            tables.of(_user_id(tables, email)).run(put)
        return
    with database(app) as connection:
        connection.execute(
            "select private.put_notice(user_id, gen_random_uuid(), kind, null, null)"
            f" from private.roles, unnest(%s::text[]) kind where user_id = {_OF_EMAIL}",
            [list(kinds), email],
        )


def end_sessions(app, email):
    """End the sessions of a user, of which the process of *app* learns later."""
    if store := app.environment.get("DAYBOOK_STORE"):
        with _tables(store) as tables:
            user_id = _user_id(tables, email)

            def end(block):
                for session in block.select(SESSIONS, {"user_id": user_id}):
                    block.delete(SESSIONS, session.cookie_hash)

            tables.of(None).run(end)
        return
    with database(app) as connection:
        connection.execute(f"delete from private.app_sessions where user_id = {_OF_EMAIL}", [email])


def tables_of(app, email):
    """Return the names of our tables that have a row of a user."""
    if store := app.environment.get("DAYBOOK_STORE"):
        with _tables(store) as tables:
            user_id = _user_id(tables, email)
            return {
                name
                for name, table in TABLES.items()
                if not table.is_shared and user_id in set(tables.owners(table))
            }
    with database(app) as connection:
        [(user_id,)] = connection.execute("select id from auth.users where email = %s", [email])
        return {
            table.partition(".")[2].replace("usage_by_day", DAYS.name)
            for (schema, table), text in postgres_tables(connection).items()
            if schema in ("public", "private") and " " not in table and str(user_id) in text
        }


def everything_stored(app):
    """Return the contents of all files of *app*, and of the tables of its database, by name."""
    held = {}
    if "DAYBOOK_STORE" not in app.environment:
        with database(app) as connection:
            held = {str(name): text.encode() for name, text in postgres_tables(connection).items()}
            connection.execute("checkpoint")  # writes all data in memory to the files of the tables
    return held | {str(path): data for path, data in files(app.base)}


_OF_EMAIL = "(select id from auth.users where email = %s)"


def _user_id(tables, email):
    rows = tables.of(None).run(lambda block: block.select(ACCOUNTS))
    [user_id] = [row.id for row in rows if row.email == email]
    return user_id


def lift_bounds(tables):
    """Lift the limit of turns a minute for every user of *tables*."""
    for user_id in tables.owners(BUDGETS):

        def lift(block):
            block.put(BUDGETS, replace(block.get(BUDGETS, "budget"), max_per_minute=1_000_000))

        tables.of(user_id).run(lift)


def age_proofs(app):
    """Make the proof of each session too old for a change of an account."""
    if store := app.environment.get("DAYBOOK_STORE"):

        def age(block):
            for one in block.select(SESSIONS):
                block.put(SESSIONS, replace(one, proved_at=datetime.now(UTC) - PROOF_LIFE))

        with _tables(store) as tables:
            tables.of(None).run(age)
        return
    with database(app) as connection:
        connection.execute(
            "update private.app_sessions set proved_at = now() - interval '10 minutes'"
        )


@contextmanager
def required_factor(app):
    """Require a second factor of all during the block."""
    _require_factor(app, is_required=True)
    try:
        yield
    finally:
        _require_factor(app, is_required=False)


def _require_factor(app, *, is_required):
    if store := app.environment.get("DAYBOOK_STORE"):

        def require(block):
            block.put(SETTINGS, replace(settings_of(block), requires_factor=is_required))

        with _tables(store) as tables:
            tables.of(None).run(require)
        return
    with database(app) as connection:
        connection.execute(
            "update private.settings set requires_factor = %s where id", [is_required]
        )


def addresses(app):
    """Return the addresses of all users who are stored."""
    if store := app.environment.get("DAYBOOK_STORE"):
        with _tables(store) as tables:
            rows = tables.of(None).run(lambda block: block.select(ACCOUNTS))
        return {row.email for row in rows}
    with database(app) as connection:
        return {email for (email,) in connection.execute("select email from auth.users")}


def reply_states(app):
    """Return the states of the turns whose purpose is a reply."""
    if store := app.environment.get("DAYBOOK_STORE"):
        with _tables(store) as tables:
            turns = [
                one
                for user_id in tables.owners(TURNS)
                for one in tables.of(user_id).run(lambda block: block.select(TURNS))
            ]
        return [one.state for one in turns if one.purpose == Purpose.REPLY]
    with database(app) as connection:
        replies = "select state from public.turns where purpose = 'reply'"
        return [state for (state,) in connection.execute(replies)]


@contextmanager
def database(app):
    """Yield a connection to the database of the running *app*: as superuser, or as owner of a schema that is elsewhere."""
    if app.database:
        with psycopg.connect(app.database, autocommit=True) as connection:
            yield connection
        return
    places = choose_folders(app.data, app.keys)
    with Postgres(places, read_secrets(places)).connect() as connection:
        yield connection
