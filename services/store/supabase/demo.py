"""Demo data as turns would have left it: one COPY for each table, and the sums of the ledger."""

from collections.abc import Callable
from datetime import datetime

import psycopg

from services.errors import BadInput
from services.store.operator import Demo

_ADD_USER = """
insert into auth.users (id, aud, role, email, encrypted_password, email_confirmed_at, created_at, updated_at,
  raw_app_meta_data, raw_user_meta_data)
values (%s, 'authenticated', 'authenticated', %s, %s, %s, %s, %s, '{"provider": "email", "providers": ["email"]}', '{}')
"""
_COMPLETE_USERS = """
do $$ begin
  if exists (select from pg_attribute where attrelid = 'auth.users'::regclass and attname = 'instance_id') then
    update auth.users set instance_id = '00000000-0000-0000-0000-000000000000',  -- hosted Auth reads no null there
      confirmation_token = '', recovery_token = '', email_change = '', email_change_token_new = '' where true;
  end if;
end $$
"""
_COPIES = {
    "public.user_keys": "user_id, version, mode, wrapped",
    "public.conversations": "id, title, wrapped_key, key_version, user_key_version, head, policy, policy_size, model,"
    " instructions, space_id, user_id, rev, last_seq, read_seq, titled_by, created_at, updated_at",
    "public.messages": "id, conversation_id, user_id, turn_id, seq, parent_id, role, outcome, body, created_at",
    "made_up": "id, user_id, conversation_id, at, model, purpose, outcome, prompt_id, reply_id, tokens_in, tokens_out,"
    " tokens_cached, micro, first_ms",
}
_TURNS = """
create temp table made_up (id uuid, user_id uuid, conversation_id uuid, at timestamptz, model text, purpose text,
  outcome text, prompt_id uuid, reply_id uuid, tokens_in int, tokens_out int, tokens_cached int, micro bigint, first_ms int)
on commit drop
"""
_SETTLE = """
insert into public.turns (id, user_id, conversation_id, client_turn_id, request_hash, purpose, state, model,
  reserved_micro, reserved_tokens, charged_micro, charged_tokens, tokens_in, tokens_out, tokens_cached, prompt_id, reply_id,
  begun_at, lease_until, finished_at)
select id, user_id, conversation_id, id, '', purpose, outcome, model, micro, tokens_in + tokens_out, micro,
  tokens_in + tokens_out, tokens_in, tokens_out, tokens_cached, prompt_id, reply_id, at, at, at
from made_up;

insert into private.ledger (at, user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_out,
  tokens_cached, first_token_ms, micro)
select at, user_id, id, at at time zone 'utc', case outcome when 'lapsed' then 'lapsed' else 'charge' end, outcome,
  purpose, model, tokens_in, tokens_out, tokens_cached, first_ms, micro
from made_up order by at;

update public.conversations set bytes = stored
from (select conversation_id, sum(octet_length(body)) as stored from public.messages group by conversation_id) said
where conversation_id = id;

with used as (
  select user_id, max(at) as last_at, sum(cost_micro) filter (where day >= date_trunc('month', today)) as this_month,
    sum(cost_micro) filter (where day = today) as this_day,
    sum(tokens_in + tokens_out) filter (where day = today) as tokens
  from (select (now() at time zone 'utc')::date as today) clock, private.usage_by_day
  join (select user_id, max(at) as at from made_up group by user_id) latest using (user_id)
  group by user_id
)
update private.budgets set day = now() at time zone 'utc', month = date_trunc('month', now() at time zone 'utc'),
  day_spent = coalesce(this_day, 0), day_tokens = coalesce(tokens, 0), month_spent = coalesce(this_month, 0),
  loan = coalesce(this_month, 0), last_active_at = last_at
from used where used.user_id = budgets.user_id;

update private.deployment set month = date_trunc('month', now() at time zone 'utc'), monthly_cap_micro = 20000000,
  lent = (select sum(month_spent) from private.budgets) where id
"""
_SUSPEND = "select private.suspend(%s, %s, true)"
_LOWER_CAP = """
select private.change_caps(%s, user_id, jsonb_build_object('monthly_cap_micro', greatest(50000, month_spent * 21 / 20)))
from private.budgets where user_id = %s
"""


def load(
    connection: psycopg.Connection, make: Callable[[datetime], Demo], hash_of: Callable[[str], str]
) -> None:
    """Store the rows that *make* returns for the database's time. Raise BadInput if there are accounts."""
    connection.execute("select pg_advisory_xact_lock(hashtext('daybook: first account'))")
    [(has_accounts, now)] = connection.execute("select exists (select from auth.users), now()")
    if has_accounts:
        raise BadInput("There are accounts already: the demo is for a fresh deployment.")
    demo = make(now)
    for number, (user_id, address, role) in enumerate(demo.people):
        hashed = "" if number else hash_of(demo.password)
        connection.execute(_ADD_USER, [user_id, address, hashed, *[demo.since] * 3])
        connection.execute("select private.make_account(%s, %s)", [user_id, role])
    connection.execute(_COMPLETE_USERS)
    connection.execute(_TURNS)
    for table, columns in _COPIES.items():
        with connection.cursor().copy(f"copy {table} ({columns}) from stdin".encode()) as copy:
            for row in demo.rows[table]:
                copy.write_row(row)
    connection.execute(_SETTLE)
    admin = demo.people[0][0]
    for user_id in demo.suspended:
        connection.execute(_SUSPEND, [admin, user_id])
    connection.execute(_LOWER_CAP, [admin, demo.short_of_budget])
