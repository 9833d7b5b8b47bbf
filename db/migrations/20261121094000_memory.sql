-- Memory: facts, and the running summary of a conversation. Both are replaced only by who has seen what they replace.

-- tables ------------------------------------------------------------------------------------------------

create table public.memories (              -- facts that a user agreed to keep
  id uuid primary key,
  user_id uuid not null references public.profiles (user_id) on delete cascade,
  conversation_id uuid,                     -- the scope: a conversation, a space, or (both null) all conversations
  space_id uuid,
  key_version integer not null default 1 check (key_version > 0),
  body public.sealed not null,
  created_at timestamptz not null default now(),
  foreign key (conversation_id, user_id) references public.conversations (id, user_id) on delete cascade,
  foreign key (space_id, user_id) references public.spaces (id, user_id) on delete cascade,
  check (num_nonnulls(conversation_id, space_id) <= 1)
);

create index on public.memories (user_id);
create index on public.memories (conversation_id, user_id);
create index on public.memories (space_id, user_id);

-- functions ---------------------------------------------------------------------------------------------

-- Store a new fact, or replace one if it is as the app has seen it. Calling it again changes nothing.
--   source, cuts    the conversation whose messages the model noted it from, and its `rev - last_seq` when they were
--                   read, which each deletion moves; null: it was not noted
create function private.keep_memory(
  memory uuid, conversation uuid, space uuid, new_body public.sealed, body_key_version integer,
  replaces public.sealed, source uuid, cuts bigint, proof text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_proof(proof, 'keep_memory', memory::text, conversation::text, space::text,
    private.sha(new_body), body_key_version::text, private.sha(replaces), source::text, cuts::text);
begin
  if conversation is not null
      and not exists (select from public.conversations where id = conversation and user_id = person)
    or space is not null and not exists (select from public.spaces where id = space and user_id = person)
    or source is not null and not exists (
      select from public.conversations where id = source and user_id = person and rev - last_seq = cuts for share
    )
  then
    return private.answer(false);           -- deleted while this was being noted
  end if;
  if replaces is null then
    if (select count(*) from public.memories where user_id = person) >= 5000 then
      return private.answer(false, 'too_many');
    end if;
    insert into public.memories (id, user_id, conversation_id, space_id, key_version, body)
    values (memory, person, conversation, space, body_key_version, new_body)
    on conflict do nothing;
  else
    update public.memories set body = new_body, key_version = body_key_version
    where id = memory and user_id = person and body = replaces
      and conversation_id is not distinct from conversation and space_id is not distinct from space;
  end if;
  return private.answer(
    found or exists (select from public.memories where id = memory and user_id = person and body = new_body), 'stale');
end $$;

create function private.forget_memory(memory uuid, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_proof(proof, 'forget_memory', memory::text);
begin
  delete from public.memories where id = memory and user_id = person;
  return private.answer(found);
end $$;

-- Delete all facts, of every scope.
create function private.forget_memories(proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_proof(proof, 'forget_memories');
begin
  delete from public.memories where user_id = person;
  return '{"ok": true}';
end $$;

-- Replace the summary if it is the one that the app has seen, and no message was deleted or restored since: `cuts` is
-- `rev - last_seq` then. Null: none. It is no change of the thread.
create function private.summarise_conversation(
  conversation uuid, new_summary public.sealed, replaces public.sealed, cuts bigint, proof text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_proof(proof, 'summarise_conversation', conversation::text, private.sha(new_summary),
    private.sha(replaces), cuts::text);
begin
  update public.conversations set summary = new_summary
  where id = conversation and user_id = person and rev - last_seq = cuts
    and (summary is not distinct from replaces or summary is not distinct from new_summary);
  return private.answer(found, case
    when exists (select from public.conversations where id = conversation and user_id = person) then 'stale'
    else 'not_found' end);
end $$;
