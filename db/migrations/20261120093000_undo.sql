-- Deleting with Undo: a discarded conversation is gone for every reader at once, can be brought back for a while,
-- and is then destroyed, row and key, by the next tidying, whether or not the app that promised it still lives.

-- Beside `state` and `expires_at`, not in them: bringing it back leaves it as it was, archived or expiring.
alter table public.conversations add column destroy_at timestamptz;

create index on public.conversations (destroy_at) where destroy_at is not null;

-- The list in its order: what is pinned, then what is newest. It also serves what the older index was for.
create index on public.conversations (user_id, state, pinned_at desc nulls last, updated_at desc);
drop index public.conversations_user_id_updated_at_idx;

-- functions ---------------------------------------------------------------------------------------------

-- Also a second time, which prolongs nothing.
create function private.discard_conversation(conversation uuid, for_seconds integer, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'discard_conversation', person::text, conversation::text, for_seconds::text);
  if (for_seconds between 1 and 3600) is not true then
    raise exception 'seconds out of range' using errcode = 'PT400';
  end if;
  update public.conversations
  set destroy_at = coalesce(destroy_at, clock_timestamp() + make_interval(secs => for_seconds))
  where id = conversation and user_id = person;
  return private.answer(found);
end $$;

-- As long as it is there.
create function private.restore_conversation(conversation uuid, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'restore_conversation', person::text, conversation::text);
  update public.conversations set destroy_at = null
  where id = conversation and user_id = person and destroy_at is not null;
  return private.answer(found);
end $$;

-- What time alone removes, one caller at a time. A sweep calls it with budgets and turns in hand, so it waits for no
-- conversation, and takes none with an open turn: somebody may hold that and wait for us.
create or replace function private.tidy() returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if not pg_try_advisory_xact_lock(hashtext('daybook: tidy')) then
    return;
  end if;
  delete from private.seen_proofs where seen_at < now() - interval '3 minutes';
  delete from private.throttles where window_ends < now();
  delete from private.app_sessions where expires_at < now() or seen_at + make_interval(secs => idle_seconds) < now();
  delete from public.conversations where id in (
    select id from public.conversations old
    where (expires_at < now() or destroy_at < now()) and not exists (
      select from public.turns where conversation_id = old.id and turns.state in ('reserved', 'streaming')
    )
    for update skip locked
  );
end $$;

-- what the API exposes ----------------------------------------------------------------------------------

create function public.discard_conversation(conversation uuid, for_seconds integer, proof text)
returns jsonb language sql set search_path = ''
return private.discard_conversation(conversation, for_seconds, proof);

create function public.restore_conversation(conversation uuid, proof text)
returns jsonb language sql set search_path = ''
return private.restore_conversation(conversation, proof);

grant execute on function
  public.discard_conversation, private.discard_conversation,
  public.restore_conversation, private.restore_conversation
to authenticated;
