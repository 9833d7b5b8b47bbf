"""Queries that return rows in the form of the tables in services/store/tables, keyed by the names of these tables."""

# No index of messages and receipts begins with the user's id, so a user's rows are read conversation by conversation:
# `offset 0` prevents a join, which would read the rows of all users.
ROWS = {
    "accounts": """
select users.id, case when roles.deleted_at is null then users.email end as email, roles.role, roles.suspended_at,
  roles.deleted_at, roles.granted_at, (
    select coalesce(jsonb_agg(to_jsonb(keys) order by version), '[]') from public.user_keys keys
    where keys.user_id = users.id and mode = 'server'
  ) as keys, false as is_ended
from private.roles join auth.users on users.id = roles.user_id where users.id = %(user)s
union all
select %(user)s, null, 'user', '2000-01-01 00:00Z', '2000-01-01 00:00Z', null, '[]', true
where not exists (select from private.roles where user_id = %(user)s)
  and exists (select from private.ledger where user_id = %(user)s)""",
    "credentials": """
select *, case when user_id is null then signed_up_at + interval '8 days' end as expires_at
from private.credentials where user_id is not distinct from %(user)s""",
    "lookups": "select * from private.lookups",
    "notices": "select * from private.notices where user_id = %(user)s",
    "budgets": "select * from private.budgets where user_id = %(user)s",
    "counts": """
select count(*) as conversations, count(destroy_at) as discarded, coalesce(sum(bytes), 0) as content_bytes,
  private.bytes_of(%(user)s) as bytes,
  (select count(*) from public.documents where user_id = %(user)s and kind = 'fact') as facts,
  (select count(*) from public.documents where user_id = %(user)s and kind = 'space') as spaces
from public.conversations where user_id = %(user)s""",
    "conversations": """
select *, last_seq - (select count(*) from public.messages where conversation_id = chats.id) as destroyed
from public.conversations chats where user_id = %(user)s""",
    "messages": """
select said.* from public.conversations chats cross join lateral (
  select id, conversation_id, seq, parent_id, turn_id, role, outcome, body, attachments, has_thoughts, created_at,
    null as destroy_at from public.messages where conversation_id = chats.id offset 0
) said where chats.user_id = %(user)s""",
    "pieces": """
select *, body as piece_body from public.pieces
where user_id = %(user)s and conversation_id = %(conversation)s""",
    "search_texts": """
select kept.* from public.conversations chats cross join lateral (
  select conversation_id, kind, number, last_seq, body from public.search_texts where conversation_id = chats.id offset 0
) kept where chats.user_id = %(user)s""",
    "thoughts": """
select said.* from public.conversations chats cross join lateral (
  select id, thoughts from public.messages where conversation_id = chats.id and has_thoughts offset 0
) said where chats.user_id = %(user)s""",
    "discards": """
select min(id::text) as id, conversation_id, array_agg(id order by id) as message_ids, destroy_at
from public.messages where user_id = %(user)s and destroy_at is not null group by conversation_id, destroy_at""",
    "turns": """
select *, encode(request_hash, 'hex') as request, stop_requested as is_stop_requested
from public.turns where user_id = %(user)s""",
    "receipts": """
select kept.* from public.conversations chats cross join lateral (
  select turn_id, (select client_turn_id from public.turns where id = turn_id) as client_turn_id, body
  from public.receipts where conversation_id = chats.id offset 0
) kept where chats.user_id = %(user)s""",
    "documents": "select * from public.documents where user_id = %(user)s",
    "ledger": """
select *, lpad(id::text, 20, '0') as id from private.ledger where user_id = %(user)s""",
    "days": """
select day, jsonb_agg(to_jsonb(used) || jsonb_build_object('first_tokens', (
    select coalesce(jsonb_object_agg(bucket, first_tokens[bucket]), '{}') from generate_subscripts(first_tokens, 1) bucket
    where first_tokens[bucket] <> 0)) order by model, purpose) as sums,
  (select count(*) from private.ledger where user_id = %(user)s and ledger.day = used.day) as entries
from private.usage_by_day used where user_id = %(user)s group by day""",
    "erasures": "select null as id where false",
    "invitations": "select * from private.invitations",
    "audit": "select *, lpad(id::text, 20, '0') as id from private.audit",
    "settings": "select * from private.settings",
    "models": """
select * from jsonb_to_record(private.model_settings()) as one (by_name jsonb, refuses_unknown_prices boolean, revision text)""",
    "deployment": """
select deployment.monthly_cap_micro, newest.month, (
    select coalesce(sum(cost_micro), 0) from private.usage_by_day
    where day >= newest.month and day < newest.month + interval '1 month' and user_id <> private.all_users()
  ) as spent
from private.deployment, lateral (select coalesce(max(month), deployment.month) as month from private.budgets) newest""",
}
