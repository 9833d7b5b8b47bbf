"""Copying a deployment's rows into or out of a Supabase project's database; users' rows keep their ids."""

import re
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from services.domain import ConversationId, UserId
from services.errors import BadInput
from services.rules.accounts import columns_of
from services.rules.budget import NO_CAP
from services.store.backend import StoredCredentials
from services.store.copies import CopiedTable, Row
from services.store.operator import CopiedRows
from services.store.supabase import migrations
from services.store.supabase.copied_rows import ROWS

_ADD_USER = """
insert into auth.users (id, aud, role, email, encrypted_password, email_confirmed_at, created_at, updated_at,
  raw_app_meta_data, raw_user_meta_data)
values (%(id)s, 'authenticated', 'authenticated', %(email)s, %(hash)s, now(), now(), now(),
  '{"provider": "email", "providers": ["email"]}', '{}')
"""
_COMPLETE_USERS = """
do $$ begin
  if exists (select from pg_attribute where attrelid = 'auth.users'::regclass and attname = 'instance_id') then
    update auth.users set instance_id = '00000000-0000-0000-0000-000000000000',  -- hosted Auth reads no null there
      confirmation_token = '', recovery_token = '', email_change = '', email_change_token_new = ''
    where instance_id is null;
  end if;
end $$
"""
# the result is null if the database has no table auth.identities
_HAS_IDENTITIES = "select has_table_privilege(to_regclass('auth.identities'), 'insert')"
_ADD_IDENTITY = """
insert into auth.identities (id, provider, provider_id, user_id, identity_data, created_at, updated_at)
values (gen_random_uuid(), 'email', %(id)s::text, %(id)s::uuid,
  jsonb_build_object('sub', %(id)s::text, 'email', %(email)s::text, 'email_verified', true), now(), now())
"""
_TABLES = {  # this database's tables, keyed by the names in services/store/tables; referenced tables first
    "accounts": "private.roles",
    "credentials": "private.credentials",
    "lookups": "private.lookups",
    "keys": "public.user_keys",
    "notices": "private.notices",
    "budgets": "private.budgets",
    "conversations": "public.conversations",
    "messages": "public.messages",
    "pieces": "public.pieces",
    "search_texts": "public.search_texts",
    "turns": "public.turns",
    "documents": "public.documents",
    "ledger": "private.ledger",
    "invitations": "private.invitations",
    "audit": "private.audit",
}
_RENAMED = {"is_stop_requested": "stop_requested", "piece_body": "body"}
_COLUMNS = """
select attname, attidentity <> '' from pg_attribute where attrelid = %s::regclass and attnum > 0 and attgenerated = ''
"""
_GO_ON = "select setval(pg_get_serial_sequence({}, 'id'), max(id)) from {}"
_NUMBER = re.compile("[0-9]{20}")  # matches the id of a ledger or audit entry from a Supabase store
# statements that store the rows which `_copy` cannot insert as they are, keyed by the names in services/store/tables
_STATEMENTS = {
    "thoughts": "update public.messages set thoughts = %(thoughts)s where id = %(id)s",
    "discards": "update public.messages set destroy_at = %(destroy_at)s where id = any (%(ids)s)",
    "receipts": """
insert into public.receipts (turn_id, conversation_id, user_id, body)
select id, conversation_id, user_id, %(body)s from public.turns where id = %(turn_id)s""",
    "settings": """
update private.settings set sign_ups = %(sign_ups)s, confirms_by_code = %(confirms_by_code)s,
  requires_factor = %(requires_factor)s,
  daily_cap_micro = %(daily_cap_micro)s, monthly_cap_micro = %(monthly_cap_micro)s, daily_cap_tokens = %(daily_cap_tokens)s,
  max_open = %(max_open)s, max_per_minute = %(max_per_minute)s, retention_days = %(retention_days)s,
  retention_from = %(retention_from)s where id""",
    "models": "update private.settings set refuses_unknown_prices = %(refuses_unknown_prices)s where id",
    "deployment": """
with lent as (update private.budgets set loan = month_spent + reserved where true returning month, loan)
update private.deployment set monthly_cap_micro = %(monthly_cap_micro)s, month = %(month)s,
  lent = greatest(%(spent)s, (select coalesce(sum(loan), 0) from lent where month = %(month)s)) where id""",
}
_SET_SPACE = "update public.conversations set space_id = %(space_id)s where id = %(id)s"
_ADD_MODEL = """
insert into private.model_settings (model, input_micro, cached_input_micro, output_micro, is_offered)
values (%(model)s, %(input_micro)s, %(cached_input_micro)s, %(output_micro)s, %(is_offered)s)
on conflict (model) do update set input_micro = excluded.input_micro, output_micro = excluded.output_micro,
  cached_input_micro = excluded.cached_input_micro, is_offered = excluded.is_offered
"""
_SIGN_UP_LIFE = timedelta(days=8)
_UNKNOWN = datetime(2000, 1, 1, tzinfo=UTC)  # stands for a time that the other store did not record
# the tables with rows of one user, in the order in which they are written: referenced tables first
_ORDER = (
    *("accounts", "credentials", "budgets", "conversations", "messages", "pieces", "thoughts"),
    *("search_texts", "discards", "turns", "receipts", "documents", "ledger", "notices"),
)


def load(
    connection: psycopg.Connection,
    make: Callable[[datetime], CopiedRows],
    auth_hash: Callable[[StoredCredentials], str],
) -> None:
    """Store the rows that *make* returns for the database's current time. Raise BadInput if there are accounts already.

    *auth_hash* returns the hash of the managed password in credentials, for Supabase Auth.
    """
    connection.execute("select pg_advisory_xact_lock(hashtext('daybook: first account'))")
    [(has_accounts, now)] = connection.execute("select exists (select from auth.users), now()")
    if has_accounts:
        raise BadInput("There are accounts already: the demo is for a fresh deployment.")
    made = make(now)
    hashes = {
        stored.user_id: auth_hash(stored)
        for _, stored in made["credentials"]
        if isinstance(stored, StoredCredentials)
    }
    rows = {
        name: [_columns(user_id, *_kept(name, [row])) for user_id, row in found]
        for name, found in made.items()
    }
    rows["keys"] = [
        key
        for account in rows["accounts"]
        for key in _add_user(connection, account, hashes[account["id"]])
    ]
    for name, table in _TABLES.items():
        if rows.get(name):
            _copy(connection, table, rows[name])
    _run(connection, _STATEMENTS["deployment"], rows["deployment"])


@dataclass(frozen=True, slots=True)
class SupabaseCopy:
    """Implements `CopySource` and `CopyTarget` for a Supabase project's database."""

    connection: psycopg.Connection
    proof_keys: Mapping[int, bytes] = field(default_factory=dict[int, bytes], repr=False)
    # a function that returns the hash of a user's managed password, for Supabase Auth
    auth_hash: Callable[[UserId], str | None] = lambda _: None
    # keyed by the table: the sorted ids that numbers replace, and the number of the first
    _replaced: dict[str, tuple[list[str], int]] = field(
        default_factory=dict[str, tuple[list[str], int]]
    )
    # the user's conversations in spaces: their space ids are set once the spaces are stored
    _in_spaces: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])

    def has_open_turns(self) -> bool:
        query = "select exists (select from public.turns where finished_at is null)"
        return self.connection.execute(query).fetchone() == (True,)

    def user_ids(self) -> list[UserId]:
        query = (
            "select user_id from private.roles union select user_id from private.ledger order by 1"
        )
        return [user_id for (user_id,) in self.connection.execute(query)]

    def rows(
        self,
        table: CopiedTable[Row],
        user_id: UserId | None,
        conversation_id: ConversationId | None = None,
    ) -> list[Row]:
        adapter = TypeAdapter[Row](table.kind)
        named = {"user": user_id, "conversation": conversation_id}
        with self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(ROWS[table.name].encode(), named)
            return [adapter.validate_python(row) for row in cursor]

    @property
    def numbered(self) -> Sequence[str]:
        return "ledger", "audit"

    def number(self, table: str, ids: Sequence[str]) -> None:
        last = max((one for one in ids if _NUMBER.fullmatch(one)), default="0")
        others = sorted(one for one in ids if not _NUMBER.fullmatch(one))
        self._replaced[table] = others, int(last) + 1

    def _number_of(self, table: str, one: str) -> str:
        others, first = self._replaced[table]
        return one if _NUMBER.fullmatch(one) else f"{first + bisect_left(others, one):020}"

    def order(self, *, is_ended: bool) -> Sequence[str]:
        return ("ledger",) if is_ended else _ORDER

    def kept(self, table: CopiedTable[Row], rows: list[Row]) -> list[Row]:
        if table.name in self.numbered:
            ids = [self._number_of(table.name, str(table.key(row))) for row in rows]
            return [replace(cast(Any, row), id=one) for row, one in zip(rows, ids, strict=True)]
        # only the cap is copied: this database adds up the spending of all users itself
        if table.name == "deployment":
            caps = [cast(Any, row).monthly_cap_micro for row in rows]
            cap = None if caps in ([], [NO_CAP]) else caps[0]
            return [
                replace(cast(Any, row), monthly_cap_micro=cap) for row in self.rows(table, None)
            ]
        # `first_account_is_admin` is not copied: a hosted app never turns it off at its start, so it would stay true
        if table.name == "settings":
            [stored] = cast(Any, self.rows(table, None))
            is_first = {"first_account_is_admin": stored.first_account_is_admin}
            return [replace(cast(Any, row), **is_first) for row in rows]
        return cast(list[Row], _kept(table.name, rows))

    @contextmanager
    def at_once(self) -> Generator[None]:
        with self.connection.transaction():
            lock = "select pg_advisory_xact_lock(hashtext('daybook: first account'))"
            self.connection.execute(lock)
            migrations.install_server_keys(self.connection, self.proof_keys)
            yield

    def put(self, table: CopiedTable[Row], user_id: UserId | None, rows: Sequence[Row]) -> None:
        connection, name, keys = self.connection, table.name, list[dict[str, Any]]()
        columns = [_columns(user_id, row) for row in rows]
        if name == "accounts":
            for account in columns:
                keys += _add_user(connection, account, self.auth_hash(account["id"]))
        elif name == "conversations":
            self._in_spaces[:] = [one for one in columns if one["space_id"]]
            columns = [one | {"space_id": None} for one in columns]
        elif name in self.numbered:
            columns = [one | {"id": int(one["id"])} for one in columns]
        elif name == "discards":
            columns = [one | {"ids": [*one["message_ids"]]} for one in columns]
        elif name == "models":
            _run(connection, _ADD_MODEL, _models(rows))
        if name in _STATEMENTS:
            _run(connection, _STATEMENTS[name], columns)
        else:
            _copy(connection, _TABLES[name], columns)
        if name in self.numbered:
            names = sql.Literal(_TABLES[name]), sql.Identifier(*_TABLES[name].split("."))
            connection.execute(sql.SQL(_GO_ON).format(*names))
        if keys:
            _copy(connection, _TABLES["keys"], keys)
        if name == "documents":  # spaces are documents, so conversations get their spaces now
            _run(connection, _SET_SPACE, self._in_spaces)


def _kept(name: str, rows: Iterable[Any]) -> list[Any]:
    """Return *rows* as this database will return them once they are stored."""
    match name:
        case "accounts":
            return [_kept_account(row) for row in rows]
        case "credentials":
            return [_kept_credentials(row) for row in rows]
        case "invitations":
            return [replace(row, used_at=row.used_at or (row.used_by and _UNKNOWN)) for row in rows]
        case "budgets":
            return [replace(row, counting=0) for row in rows]
        case "documents":
            return [replace(row, epoch=0) for row in rows]
        case "discards":
            due = attrgetter("conversation_id", "destroy_at")
            return [_merged([*group]) for _, group in groupby(sorted(rows, key=due), due)]
        case _:
            return [*rows]


def _kept_account(row: Any) -> Any:
    keys = tuple(sorted(row.keys, key=attrgetter("version")))
    return replace(row, keys=keys, granted_at=row.granted_at or _UNKNOWN)


def _kept_credentials(row: Any) -> Any:
    ends = row.expires_at or _UNKNOWN
    signed_up_at = row.signed_up_at or ends - _SIGN_UP_LIFE
    expires_at = None if row.user_id else signed_up_at + _SIGN_UP_LIFE
    return replace(row, signed_up_at=signed_up_at, expires_at=expires_at)


def _merged(discards: Sequence[Any]) -> Any:
    """Merge *discards* of one conversation that are due at the same time into one discard of all their messages."""
    ids = tuple(sorted({one for discard in discards for one in discard.message_ids}))
    return replace(discards[0], id=ids[0], message_ids=ids)


def _models(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"model": name} | columns_of(setting)
        for row in rows
        for name, setting in row.by_name.items()
    ]


def _add_user(
    connection: psycopg.Connection, account: dict[str, Any], auth_hash: str | None
) -> list[dict[str, Any]]:
    """Add the user of *account* to Supabase Auth; return the account's keys, each as a dict of columns."""
    user_id = account["user_id"] = account["id"]
    email = account["email"] or f"{user_id}@deleted.invalid"
    named = {"id": user_id, "email": email, "hash": auth_hash}
    connection.execute(_ADD_USER, named)
    connection.execute(_COMPLETE_USERS)
    if auth_hash and connection.execute(_HAS_IDENTITIES).fetchone() == (True,):
        connection.execute(_ADD_IDENTITY, named)
    return [
        {"mode": "server", **_columns(user_id, key), "created_at": key.created_at or _UNKNOWN}
        for key in account["keys"]
    ]


def _columns(user_id: UserId | None, row: Any) -> dict[str, Any]:
    """Return the values of *row* by column name, and the owner's id."""
    columns = {_RENAMED.get(each.name, each.name): getattr(row, each.name) for each in fields(row)}
    # a hash made by the other store matches no request here, so reuse of a copied turn's client turn id is refused
    request_hash = bytes.fromhex(columns.get("request", ""))
    return {"user_id": user_id, "request_hash": request_hash} | columns


def _run(
    connection: psycopg.Connection, statement: str, columns: Sequence[Mapping[str, Any]]
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(statement.encode(), columns)


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert *rows* into *table*; omit fields for which *table* has no column."""
    known = [
        name
        for name, is_numbered in connection.execute(_COLUMNS, [table])
        if name in rows[0] and not (is_numbered and isinstance(rows[0][name], str))
    ]
    columns = sql.SQL(", ").join(map(sql.Identifier, known))
    copying = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(*table.split(".")), columns)
    with connection.cursor().copy(copying) as copy:
        for row in rows:
            values = [row[name] for name in known]
            copy.write_row([Jsonb(one) if isinstance(one, dict) else one for one in values])
