-- What is remembered: spaces, which are named folders of conversations; facts, each of one scope; and the running
-- summary of a conversation. All of it is replaced only by who has seen what it replaces.

create table public.spaces (
  id uuid primary key,
  user_id uuid not null references public.profiles (user_id) on delete cascade,
  key_version integer not null default 1 check (key_version > 0),
  body public.sealed not null,              -- its name, instructions and memory policy
  state text not null default 'active' check (state in ('active', 'archived')),
  created_at timestamptz not null default now(),
  unique (id, user_id)
);
create index on public.spaces (user_id);

alter table public.spaces enable row level security;
create policy "owners read their spaces" on public.spaces
  for select to authenticated using (user_id = (select private.me()));
grant select on public.spaces to authenticated;
create trigger spaces_are_never_truncated before truncate on public.spaces
  for each statement execute function private.no_truncate();

alter table public.conversations                     -- one whose space is gone stays, in none
  add foreign key (space_id, user_id) references public.spaces (id, user_id) on delete set null (space_id);
create index on public.conversations (space_id, user_id);

-- A summary is read with its conversation's row, which is read before each turn anyway; so a memory is a fact. It holds
-- for a conversation, a space, or else for all that its person says.
alter table public.conversations add column summary public.sealed;
alter table public.memories
  drop column kind,
  drop column up_to_seq,
  add column space_id uuid,
  add column changed_at timestamptz not null default now(),
  add foreign key (space_id, user_id) references public.spaces (id, user_id) on delete cascade,
  add check (num_nonnulls(conversation_id, space_id) <= 1);
create index on public.memories (space_id, user_id);

-- functions ---------------------------------------------------------------------------------------------

-- A new space, or in place of exactly the one the app has seen.
create function private.keep_space(
  space uuid, new_body public.sealed, body_key_version integer, archived boolean, replaces public.sealed, proof text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
  now_kept public.spaces;
begin
  perform private.require_proof(proof, 'keep_space', person::text, space::text, private.sha(new_body),
    body_key_version::text, archived::text, private.sha(replaces));
  select * into now_kept from public.spaces where id = space and user_id = person for update;
  if not found then
    if replaces is not null or exists (select from public.spaces where id = space) then
      return private.answer(false);
    end if;
    if (select count(*) from public.spaces where user_id = person) >= 500 then
      return '{"ok": false, "reason": "too_many"}';
    end if;
    insert into public.spaces (id, user_id, key_version, body, state)
    values (space, person, body_key_version, new_body, case when archived then 'archived' else 'active' end);
  elsif now_kept.body is distinct from replaces and now_kept.body <> new_body then
    return '{"ok": false, "reason": "stale"}';
  else
    update public.spaces set body = new_body, key_version = body_key_version,
      state = case when archived then 'archived' else 'active' end
    where id = space;
  end if;
  return '{"ok": true}';
end $$;

-- Its conversations stay, in no space; what was kept for it goes.
create function private.forget_space(space uuid, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'forget_space', person::text, space::text);
  delete from public.spaces where id = space and user_id = person;
  return private.answer(found);
end $$;

-- Into a space, or out of any.
create function private.move_conversation(conversation uuid, new_space uuid, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'move_conversation', person::text, conversation::text, new_space::text);
  if new_space is not null and not exists (select from public.spaces where id = new_space and user_id = person) then
    return private.answer(false);
  end if;
  update public.conversations set space_id = new_space where id = conversation and user_id = person;
  return private.answer(found);
end $$;

drop function public.keep_memory(uuid, uuid, text, integer, public.sealed, integer, text);
drop function private.keep_memory(uuid, uuid, text, integer, public.sealed, integer, text);

-- A new memory, or in place of exactly the one the app has seen. Asking again changes nothing.
create function private.keep_memory(
  memory uuid, conversation uuid, space uuid, new_body public.sealed, body_key_version integer,
  replaces public.sealed, proof text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'keep_memory', person::text, memory::text, conversation::text, space::text,
    private.sha(new_body), body_key_version::text, private.sha(replaces));
  if conversation is not null
      and not exists (select from public.conversations where id = conversation and user_id = person)
    or space is not null and not exists (select from public.spaces where id = space and user_id = person)
  then
    return private.answer(false);           -- deleted while this was being noted
  end if;
  if replaces is null then
    if (select count(*) from public.memories where user_id = person) >= 5000 then
      return '{"ok": false, "reason": "too_many"}';
    end if;
    insert into public.memories (id, user_id, conversation_id, space_id, key_version, body)
    values (memory, person, conversation, space, body_key_version, new_body)
    on conflict do nothing;
  else
    update public.memories set body = new_body, key_version = body_key_version, changed_at = now()
    where id = memory and user_id = person and body = replaces
      and conversation_id is not distinct from conversation and space_id is not distinct from space;
  end if;
  if not found and not exists (select from public.memories where id = memory and user_id = person and body = new_body) then
    return '{"ok": false, "reason": "stale"}';
  end if;
  return '{"ok": true}';
end $$;

-- Every one, of every scope.
create function private.forget_memories(proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
begin
  perform private.require_proof(proof, 'forget_memories', person::text);
  delete from public.memories where user_id = person;
  return '{"ok": true}';
end $$;

-- In place of exactly the one the app has seen; null: none. It is no news for a reader, and no change of the thread.
create function private.summarise_conversation(
  conversation uuid, new_summary public.sealed, replaces public.sealed, proof text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
  now_kept public.sealed;
begin
  perform private.require_proof(proof, 'summarise_conversation', person::text, conversation::text,
    private.sha(new_summary), private.sha(replaces));
  select summary into now_kept from public.conversations
  where id = conversation and user_id = person for no key update;
  if not found then
    return private.answer(false);
  end if;
  if now_kept is distinct from replaces and now_kept is distinct from new_summary then
    return '{"ok": false, "reason": "stale"}';
  end if;
  update public.conversations set summary = new_summary where id = conversation;
  return '{"ok": true}';
end $$;

-- what the API exposes ----------------------------------------------------------------------------------

create function public.keep_space(
  space uuid, new_body public.sealed, body_key_version integer, archived boolean, replaces public.sealed, proof text
) returns jsonb language sql set search_path = ''
return private.keep_space(space, new_body, body_key_version, archived, replaces, proof);

create function public.forget_space(space uuid, proof text)
returns jsonb language sql set search_path = ''
return private.forget_space(space, proof);

create function public.move_conversation(conversation uuid, new_space uuid, proof text)
returns jsonb language sql set search_path = ''
return private.move_conversation(conversation, new_space, proof);

create function public.keep_memory(
  memory uuid, conversation uuid, space uuid, new_body public.sealed, body_key_version integer,
  replaces public.sealed, proof text
) returns jsonb language sql set search_path = ''
return private.keep_memory(memory, conversation, space, new_body, body_key_version, replaces, proof);

create function public.forget_memories(proof text)
returns jsonb language sql set search_path = ''
return private.forget_memories(proof);

create function public.summarise_conversation(
  conversation uuid, new_summary public.sealed, replaces public.sealed, proof text
) returns jsonb language sql set search_path = ''
return private.summarise_conversation(conversation, new_summary, replaces, proof);

grant execute on function
  public.keep_space, private.keep_space,
  public.forget_space, private.forget_space,
  public.move_conversation, private.move_conversation,
  public.keep_memory, private.keep_memory,
  public.forget_memories, private.forget_memories,
  public.summarise_conversation, private.summarise_conversation
to authenticated;
