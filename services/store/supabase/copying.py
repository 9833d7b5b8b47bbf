"""The rows of another store, copied with their ids: one COPY for each table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from services.domain import UserId
from services.errors import BadInput
from services.store.backend import StoredCredentials
from services.store.operator import CopiedRows

_ADD_USER = """
insert into auth.users (id, aud, role, email, encrypted_password, email_confirmed_at, created_at, updated_at,
  raw_app_meta_data, raw_user_meta_data)
values (%s, 'authenticated', 'authenticated', %s, %s, now(), now(), now(),
  '{"provider": "email", "providers": ["email"]}', '{}')
"""
_COMPLETE_USERS = """
do $$ begin
  if exists (select from pg_attribute where attrelid = 'auth.users'::regclass and attname = 'instance_id') then
    update auth.users set instance_id = '00000000-0000-0000-0000-000000000000',  -- hosted Auth reads no null there
      confirmation_token = '', recovery_token = '', email_change = '', email_change_token_new = '' where true;
  end if;
end $$
"""
_TABLES = {  # by the table names of services/store/tables, in the order of their foreign keys
    "accounts": "private.roles",
    "credentials": "private.credentials",
    "keys": "public.user_keys",
    "budgets": "private.budgets",
    "conversations": "public.conversations",
    "messages": "public.messages",
    "turns": "public.turns",
    "ledger": "private.ledger",
    "audit": "private.audit",
}
_COLUMNS = """
select attname from pg_attribute
where attrelid = %s::regclass and attnum > 0 and attgenerated = '' and attidentity = ''
"""
_OPEN_WINDOWS = "select private.lock_budget(user_id) from private.budgets"
_LEND = """
with lent as (update private.budgets set loan = month_spent + reserved where true returning loan)
update private.deployment set month = date_trunc('month', now() at time zone 'utc'), monthly_cap_micro = %s,
  lent = (select sum(loan) from lent) where id
"""


def load(
    connection: psycopg.Connection,
    make: Callable[[datetime], CopiedRows],
    auth_hash: Callable[[StoredCredentials], str],
) -> None:
    """Store the rows that *make* returns for the database's time. Raise BadInput if there are accounts.

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
    rows = {name: [_columns(*owned) for owned in found] for name, found in made.items()}
    for account in rows["accounts"]:
        account["user_id"] = user_id = account["id"]
        connection.execute(_ADD_USER, [user_id, account["email"], hashes[user_id]])
    connection.execute(_COMPLETE_USERS)
    rows["keys"] = [
        {"user_id": account["id"], "mode": "server"} | _columns(account["id"], key)
        for account in rows["accounts"]
        for key in account["keys"]
    ]
    for name, table in _TABLES.items():
        if rows[name]:
            _copy(connection, table, rows[name])
    connection.execute(_OPEN_WINDOWS)
    connection.execute(_LEND, [one["monthly_cap_micro"] for one in rows["deployment"]])


def _columns(user_id: UserId | None, row: Any) -> dict[str, Any]:
    """Return the fields of *row* by column name."""
    columns = {each.name: getattr(row, each.name) for each in fields(row)}
    # a copied turn has an empty request hash, which no request has: reuse of its client turn id is refused
    return {"user_id": user_id, "request_hash": b""} | columns


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Store those fields of *rows* that the table has columns for."""
    known = [name for (name,) in connection.execute(_COLUMNS, [table]) if name in rows[0]]
    columns = sql.SQL(", ").join(map(sql.Identifier, known))
    copying = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(*table.split(".")), columns)
    with connection.cursor().copy(copying) as copy:
        for row in rows:
            values = [row[name] for name in known]
            copy.write_row([Jsonb(one) if isinstance(one, dict) else one for one in values])
