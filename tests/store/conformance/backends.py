"""The stores under the conformance suite; no other module of the suite knows their classes.

The tests use the upper port alone: plain text in, domain values out. The actions of an operator, a fault or an attacker on a
store are methods of `Backend`.

To add a backend:

1. Write a subclass of `Backend`. `user` returns a `User` who has just signed up; each other method is documented below.
   A *verb* is a method of the lower port, `Rows`: "begin_turn", "put_document".
2. Add it to `BACKENDS`. Its value gets pytest's `getfixturevalue`, for the fixtures that start what the store needs.
   A store over tables has its class already: `TablesBackend` takes the function that makes the tables of a deployment.
3. Run `pytest -n0 tests/store/conformance -k NAME`.
"""

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal, NamedTuple, Protocol
from uuid import UUID, uuid4

import httpx
import jwt

from services.crypto import PlainKeys, UserKey, new_key
from services.domain import UserId
from services.errors import StoreUnavailable
from services.store.files import FilesPlace
from services.store.port import Store
from services.store.rows import Rows
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sqlite import SqlitePlace
from services.store.supabase.lite_transport import LiteTransport
from services.store.tables import schema
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import (
    CONVERSATIONS,
    DISCARDS,
    DOCUMENTS,
    MESSAGES,
    PIECES,
    SEARCH_TEXTS,
    Discard,
)
from services.store.tables.temporary import TemporaryRows
from services.store.tables.upkeep import sweep as sweep_tables
from tests.firestore import Wire, everything_in, new_place
from tests.store.conformance.bytes_store import BytesStore
from tests.store.conftest import PASSWORD, make_sessions, new_email
from tests.stores import InMemoryDatabase, made_in, sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A signed-in user in one process, with the parts of the port."""

    user_id: UserId
    store: Store
    rows: Rows = field(repr=False)
    # returns the user in another process, where nothing is cached
    elsewhere: Callable[[], "User"] = field(repr=False)

    def __getattr__(self, name):
        return getattr(self.store, "profile" if name == "preferences" else name)

    def temporary(self):
        """Return the user with a store for one temporary chat."""
        store = sealed_store(TemporaryRows(self.rows), throwaway_keys(self.user_id))
        return replace(self, store=store)


class Text(NamedTuple):
    """The place of a stored text.

    The fields of each kind: conversation (id) title, instructions, summary; message (id) body, thoughts; turn (id)
    partial, partial_thoughts; receipt (turn id), fact (id), space (id) and preferences (user id) body. For a message,
    `attachments` is its list of attachments, or None.
    """

    kind: Literal[
        "conversation",
        "message",
        "turn",
        "receipt",
        "fact",
        "space",
        "preferences",
    ]
    id: UUID
    field: str = "body"


class Backend(Protocol):
    """A store, and the actions on it from outside of the app."""

    elapsed = 0.0  # seconds that have passed for the tests
    threads, steps = 8, 1_000  # for runs with many threads; over an API, a step takes some 9 ms
    lost = StoreUnavailable()  # the error that replaces a lost answer

    def monotonic(self, clock=time.monotonic):
        """Return the monotonic time of every process."""
        return clock() + self.elapsed

    def close(self):
        """Free the resources of the backend."""

    def user(self):
        """Return a `User` who has just signed up."""

    # --- operator and time

    def set_caps(self, user, **caps):
        """Set limits of *user*: `daily_micro`, `monthly_micro`, `open_turns`, `turns_a_minute`."""

    def bound(self, user, most_bytes):
        """Limit the bytes that the account of *user* may store, in every process."""

    def begin_days_later(self, user, days):
        """Make the spending of *user* that many days, or a month of 31 days, older."""

    def let_pass(self, seconds):
        """Let time pass for leases, undo periods, the minutes of limits, and caches, without a sweep."""

    def sweep(self):
        """Settle every turn whose lease ran out, and destroy all due rows."""

    # --- faults: each is a context manager

    def after(self, user, verb, act):
        """Run *act* once, when the next *verb* of *user* is done but its answer has not arrived.

        Fail at the end if there was no such call.
        """

    def lose_answer(self, user, verb):
        """Lose the answer of the next *verb* of *user*, which is executed."""

        def lose():
            raise self.lost

        return self.after(user, verb, lose)

    def unavailable(self, user):
        """Make every call of *user* fail."""

    # --- attacks on what is stored

    def stored_text(self):
        """Return all stored data as one string."""

    def copy(self, source, target):
        """Put the stored `Text` *source* also in the place *target*."""

    def copy_piece(self, source, target):
        """Put the stored piece *source*, an id of an attachment and a number, also in the place *target*."""

    def delete_pieces(self, attachment_id):
        """Remove all stored pieces of an attachment."""

    def change_search_text(self, conversation_id, number, /, **columns):
        """Change `last_seq` or `body` of a stored search text."""

    def delete_message(self, conversation_id, seq):
        """Remove a stored message."""

    def change_message(self, conversation_id, seq, /, **columns):
        """Change `seq`, `role` or `is_deleted` of a stored message."""

    def change_conversation(self, conversation_id, **columns):
        """Change `rev` or `last_seq` of a stored conversation."""

    def forge_head(self, conversation_id):
        """Replace the data that authenticate the messages by similar data."""
        self.change_conversation(conversation_id, head="h1." + "A" * 118)

    def move_fact(self, fact_id, *, conversation_id=None, space_id=None):
        """Change the scope of a stored fact."""

    def set_back(self, conversation_id):
        """Context manager: restore an earlier state of the conversation and its messages."""

    def set_back_text(self, *texts):
        """Context manager: restore an earlier state of each `Text`, or of a number beside one."""


class _FaultyTransport(LiteTransport):
    """The transport to the API, with faults by user and verb."""

    def __init__(self):
        super().__init__()
        self.away = set()  # users whose calls fail
        self.acts = {}  # acts by user and path

    def handle_request(self, request):
        user_id = _sender(request)
        if user_id in self.away:
            raise httpx.ConnectError("away", request=request)
        response = super().handle_request(request)
        if act := self.acts.pop((user_id, request.url.path.removeprefix("/rest/v1/")), None):
            response.read()
            act()
        return response


_READS = {  # tables that are read without an RPC
    "conversation": "conversations",
    "documents": "documents",
    "pieces": "pieces",
    "discarded_messages": "messages",
}
_CAPS = {
    "daily_micro": "daily_cap_micro",
    "monthly_micro": "monthly_cap_micro",
    "daily_tokens": "daily_cap_tokens",
    "open_turns": "max_open",
    "turns_a_minute": "max_per_minute",
}
_TABLES = {  # tables and key columns by kind of text
    "conversation": ("conversations", "id"),
    "message": ("messages", "id"),
    "turn": ("turns", "id"),
    "receipt": ("receipts", "turn_id"),
    **dict.fromkeys(("fact", "space", "preferences"), ("documents", "id")),
}


def _earlier(column):
    return f"{column} = {column} - make_interval(secs => %s)"


class SupabaseBackend(Backend):
    """The store over supabase-py, against the API and database of *stack*."""

    lost = httpx.ReadTimeout("lost")

    def __init__(self, stack):
        self._stack, self._transport = stack, _FaultyTransport()
        self._sessions = make_sessions(stack, self._transport)
        self._rows = []  # the rows of all processes

    def close(self):
        self._sessions.backend.gateway.http.close()

    def user(self):
        cookie, session = self._sessions.sign_up_with(new_email(), PASSWORD)

        def elsewhere():
            return self._user(self._sessions.open(cookie), elsewhere)

        return self._user(session, elsewhere)

    def _user(self, session, elsewhere):
        rows = session.backend.rows()
        self._rows.append(rows)
        store = sealed_store(rows, session.user_keys)
        return User(user_id=session.user_id, store=store, rows=rows, elsewhere=elsewhere)

    def set_caps(self, user, **caps):
        for name, value in caps.items():
            statement = f"update private.budgets set {_CAPS[name]} = %s where user_id = %s"
            self._change(statement, value, user.user_id)

    def bound(self, user, most_bytes):
        for rows in self._rows:
            if rows.user_id == user.user_id:
                rows.most_bytes = most_bytes

    def begin_days_later(self, user, days):
        month = "case when %s > 30 then (month - interval '1 month')::date else month end"
        statement = f"update private.budgets set day = day - %s::integer, month = {month}"
        self._execute(f"{statement} where user_id = %s", days, days, user.user_id)

    def let_pass(self, seconds):
        self.elapsed += seconds
        changes = [f"update private.budgets set {_earlier('minute')} where true"]
        for times in (
            "turns.lease_until",
            "turns.begun_at",
            "messages.destroy_at",
            "conversations.destroy_at",
            "conversations.undo_until",
        ):
            table, column = times.split(".")
            change = f"update public.{table} set {_earlier(column)} where {column} is not null"
            changes.append(change)
        with self._stack.connect() as database:
            for change in changes:
                database.execute(change, [seconds])

    def sweep(self):
        sweep(self._sessions.backend)

    @contextmanager
    def after(self, user, verb, act):
        call = user.user_id, _READS.get(verb, f"rpc/{verb}")
        self._transport.acts[call] = act
        yield
        assert self._transport.acts.pop(call, None) is None, f"{verb} was not called"

    @contextmanager
    def unavailable(self, user):
        self._transport.away.add(user.user_id)
        yield
        self._transport.away.remove(user.user_id)

    def stored_text(self):
        with self._stack.connect() as database:
            return everything(database)

    def copy(self, source, target):
        (table, key), (table_to, key_to) = _TABLES[source.kind], _TABLES[target.kind]
        text = f"(select {source.field} from public.{table} where {key} = %s)"
        statement = f"update public.{table_to} set {target.field} = {text} where {key_to} = %s"
        self._change(statement, source.id, target.id)

    def copy_piece(self, source, target):
        where = "where attachment_id = %s and number = %s"
        text = f"(select body from public.pieces {where})"
        self._change(f"update public.pieces set body = {text} {where}", *source, *target)

    def delete_pieces(self, attachment_id):
        statement = "delete from public.pieces where attachment_id = %s"
        assert self._execute(statement, attachment_id)

    def change_search_text(self, conversation_id, number, /, **columns):
        for column, value in columns.items():
            statement = f"update public.search_texts set {column} = %s"
            row = " where conversation_id = %s and number = %s"
            self._change(statement + row, value, conversation_id, number)

    def delete_message(self, conversation_id, seq):
        statement = "delete from public.messages where conversation_id = %s and seq = %s"
        self._change(statement, conversation_id, seq)

    def change_message(self, conversation_id, seq, /, **columns):
        if "is_deleted" in columns:
            columns["destroy_at"] = "now" if columns.pop("is_deleted") else None
        for column, value in columns.items():
            statement = f"update public.messages set {column} = %s"
            row = " where conversation_id = %s and seq = %s"
            self._change(statement + row, value, conversation_id, seq)

    def change_conversation(self, conversation_id, **columns):
        for column, value in columns.items():
            statement = f"update public.conversations set {column} = %s where id = %s"
            self._change(statement, value, conversation_id)

    def move_fact(self, fact_id, *, conversation_id=None, space_id=None):
        statement = "update public.documents set conversation_id = %s, space_id = %s where id = %s"
        self._change(statement, conversation_id, space_id, fact_id)

    @contextmanager
    def set_back(self, conversation_id):
        columns = "rev", "last_seq", "head"
        before = self._read("conversations", "id", conversation_id, *columns)
        yield
        newer = "delete from public.messages where conversation_id = %s and seq > %s"
        self._execute(newer, conversation_id, before[1])
        self.change_conversation(conversation_id, **dict(zip(columns, before, strict=True)))

    @contextmanager
    def set_back_text(self, *texts):
        before = [self._read(*_TABLES[text.kind], text.id, text.field)[0] for text in texts]
        yield
        for text, value in zip(texts, before, strict=True):
            table, key = _TABLES[text.kind]
            statement = f"update public.{table} set {text.field} = %s where {key} = %s"
            self._change(statement, value, text.id)

    def _read(self, table, key, value, *columns):
        """Return columns of one row."""
        query = f"select {', '.join(columns)} from public.{table} where {key} = %s"
        with self._stack.connect() as database:
            return database.execute(query, [value]).fetchone()

    def _change(self, statement, *values):
        """Change one row."""
        assert self._execute(statement, *values) == 1

    def _execute(self, statement, *values):
        with self._stack.connect() as database:
            return database.execute(statement, values).rowcount


def everything(database):
    """Return all rows of a Postgres database, as one string."""
    tables = database.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables"
        " where schemaname in ('public', 'private', 'auth')"
    ).fetchall()
    return "".join(
        str(database.execute(f"select t::text from {table} t").fetchall()) for (table,) in tables
    )


def _sender(request):
    """Return the user whose access token *request* carries."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token.count(".") != 2:
        return None
    return UserId(UUID(jwt.decode(token, options={"verify_signature": False})["sub"]))


class TablesBackend(Backend):
    """The store over tables, which *make_store* makes for each user, with *keys* for each."""

    steps = 2_000

    def __init__(self, make_store, keys=throwaway_keys):
        self._make_store, self._keys, self._databases = make_store, keys, {}  # databases by user

    @property
    def _newest(self):
        """Return the databases, those of the newest users first."""
        return reversed(self._databases.values())

    def close(self):
        for database in self._databases.values():
            database.deployment.close()

    def user(self):
        user_id = UserId(uuid4())
        database = InMemoryDatabase(user_id, self._now, self._make_store, self._keys)
        self._databases[user_id] = database

        def process():
            store, rows = database.store(), database.rows
            return User(user_id=user_id, store=store, rows=rows, elsewhere=process)

        return process()

    def set_caps(self, user, **caps):
        for name, value in caps.items():
            setattr(self._databases[user.user_id].ledger, name, value)

    def bound(self, user, most_bytes):
        self._databases[user.user_id].bounded_rows.most_bytes = most_bytes

    def begin_days_later(self, user, days):
        self._databases[user.user_id].ledger.begin_days_later(days)

    def let_pass(self, seconds):
        self.elapsed += seconds

    def sweep(self):
        for database in self._databases.values():
            database.sweep()

    @contextmanager
    def after(self, user, verb, act):
        acts = self._databases[user.user_id].rows.after
        acts[verb] = act
        yield
        assert acts.pop(verb, None) is None, f"{verb} was not called"

    @contextmanager
    def unavailable(self, user):
        rows = self._databases[user.user_id].rows
        rows.failure = StoreUnavailable()
        yield
        rows.failure = None

    def stored_text(self):
        return "".join(_everything(one.tables) for one in self._databases.values())

    def copy(self, source, target):
        text = next(one.get(*source) for one in self._newest if one.has(*source))
        next(one for one in self._newest if one.has(*target)).put(*target, text)

    def copy_piece(self, source, target):
        (_, piece), (tables, other) = self._piece(*source), self._piece(*target)
        tables.store(PIECES, replace(other, piece_body=piece.piece_body))

    def delete_pieces(self, attachment_id):
        tables, _ = self._piece(attachment_id, 1)
        for key, row in tables.all(PIECES).items():
            if row.attachment_id == attachment_id:
                tables.run(lambda block, key=key: block.delete(PIECES, key))

    def change_search_text(self, conversation_id, number, /, **columns):
        tables = self._tables(CONVERSATIONS, conversation_id)
        for row in tables.all(SEARCH_TEXTS).values():
            if (row.conversation_id, row.number) == (conversation_id, number):
                tables.store(SEARCH_TEXTS, replace(row, **columns))

    def delete_message(self, conversation_id, seq):
        tables, row = self._message(conversation_id, seq)
        tables.run(lambda block: block.delete(MESSAGES, row.id))

    def change_message(self, conversation_id, seq, /, **columns):
        tables, row = self._message(conversation_id, seq)
        if columns.pop("is_deleted", False):
            ids, key = (row.id,), row.conversation_id
            discard = Discard(
                id=uuid4(), conversation_id=key, message_ids=ids, destroy_at=self._now()
            )
            tables.store(DISCARDS, discard)
        elif not columns:
            for discard in tables.all(DISCARDS).values():
                kept = tuple(one for one in discard.message_ids if one != row.id)
                tables.store(DISCARDS, replace(discard, message_ids=kept))
        tables.store(MESSAGES, replace(row, **columns))

    def change_conversation(self, conversation_id, **columns):
        tables = self._tables(CONVERSATIONS, conversation_id)
        tables.store(CONVERSATIONS, replace(tables.all(CONVERSATIONS)[conversation_id], **columns))

    def move_fact(self, fact_id, *, conversation_id=None, space_id=None):
        tables = self._tables(DOCUMENTS, fact_id)
        row = tables.all(DOCUMENTS)[fact_id]
        tables.store(DOCUMENTS, replace(row, conversation_id=conversation_id, space_id=space_id))

    @contextmanager
    def set_back(self, conversation_id):
        tables = self._tables(CONVERSATIONS, conversation_id)
        before, messages = tables.all(CONVERSATIONS)[conversation_id], tables.all(MESSAGES)
        yield
        tables.store(CONVERSATIONS, before)
        for key in tables.all(MESSAGES).keys() - messages.keys():
            tables.run(lambda block, key=key: block.delete(MESSAGES, key))
        tables.store(MESSAGES, *messages.values())

    @contextmanager
    def set_back_text(self, *texts):
        owner = next(one for one in self._newest if one.has(*texts[0]))
        before = [owner.get(*text) for text in texts]
        yield
        for text, value in zip(texts, before, strict=True):
            owner.put(*text, value)

    def _tables(self, table, key):
        """Return the tables of the user with that row."""
        every = (database.tables for database in self._newest)
        return next(tables for tables in every if key in tables.all(table))

    def _piece(self, attachment_id, number):
        for tables in (database.tables for database in self._newest):
            for row in tables.all(PIECES).values():
                if (row.attachment_id, row.number) == (attachment_id, number):
                    return tables, row
        raise LookupError(attachment_id, number)

    def _message(self, conversation_id, seq):
        tables = self._tables(CONVERSATIONS, conversation_id)
        rows = tables.all(MESSAGES).values()
        found = (row for row in rows if (row.conversation_id, row.seq) == (conversation_id, seq))
        return tables, next(found)

    def _now(self):
        return datetime.now(UTC) + timedelta(seconds=self.elapsed)


class FirestoreBackend(TablesBackend):
    """The store in one Firestore database for all users."""

    # few, because at the emulator transactions wait for each other for seconds
    threads, steps = 2, 40

    def __init__(self, host):
        self._all = new_place(host, Wire()).open(is_app=False)
        super().__init__(lambda: self._all)

    def close(self):
        self._all.close()

    def sweep(self):
        while sweep_tables(self._all, self._now):
            pass

    def stored_text(self):
        return everything_in(self._all)


def _everything(tables):
    """Return all fields of all rows, including hidden ones."""
    return str(
        [asdict(row) for table in schema.TABLES.values() for row in tables.all(table).values()]
    )


def _plain_keys(user_id):
    return PlainKeys([UserKey(new_key(), user_id)])


BACKENDS = {
    "in-memory": lambda fixture: TablesBackend(InMemoryStore),
    "bytes": lambda fixture: TablesBackend(BytesStore),
    "sqlite": lambda fixture: TablesBackend(made_in(fixture("files_place"), SqlitePlace)),
    "json": lambda fixture: TablesBackend(made_in(fixture("files_place"), FilesPlace)),
    "json-plain": lambda fixture: TablesBackend(
        made_in(fixture("files_place"), partial(FilesPlace, is_plain=True)), _plain_keys
    ),
    "firestore": lambda fixture: FirestoreBackend(fixture("firestore")),
    "embedded": lambda fixture: SupabaseBackend(fixture("embedded_stack")),
    "hosted": lambda fixture: SupabaseBackend(fixture("hosted")),
}
