-- A user's own data in figures.

-- The caller's rows: counts, and bytes as the account's limit counts them. One answer, which no "max rows" cuts. No proof:
-- it returns only the caller's figures.
--   deleted         conversations that are still to be destroyed; they and their messages are in no other count
create function private.my_data() returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return (
    with threads as materialized (
      select id, state, destroy_at from public.conversations where user_id = person
    ), said as (
      select count(*) as messages from threads join public.messages on conversation_id = threads.id
      where coalesce(threads.destroy_at, messages.destroy_at) is null
    ), kept as (
      select count(*) filter (where kind = 'space') as spaces, count(*) filter (where kind = 'fact') as facts
      from public.documents where user_id = person
    ), entries as (
      select count(*) as entries, min(day) as since from private.ledger where user_id = person
    )
    select jsonb_build_object('conversations', count(*) filter (where destroy_at is null),
      'archived', count(*) filter (where destroy_at is null and state = 'archived'),
      'deleted', count(*) filter (where destroy_at is not null), 'destroyed_at', max(destroy_at),
      'messages', (select messages from said), 'spaces', (select spaces from kept), 'facts', (select facts from kept),
      'sealed_bytes', private.bytes_of(person),
      'ledger_entries', (select entries from entries), 'ledger_since', (select since from entries))
    from threads
  );
end $$;
