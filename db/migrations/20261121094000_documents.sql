-- Sealed documents: a user's preferences, spaces and facts, and the instructions and the summary of a conversation.
--
-- Each document has a revision, and its sealed text is bound to the revision: if an attacker restores an
-- earlier text, it cannot be decrypted. Only a caller who has seen the current revision may replace a document.
-- Instructions and summary are columns of the conversation's row, which is read before each turn.

-- tables ------------------------------------------------------------------------------------------------

create table public.documents (
  id uuid primary key,
  user_id uuid not null references private.roles (user_id) on delete cascade,
  kind text not null check (kind in ('preferences', 'space', 'fact')),
  -- the scope of a fact: one conversation, one space, or (if both columns are null) all conversations
  conversation_id uuid,
  space_id uuid,
  rev bigint not null check (rev > 0),
  body public.sealed not null,
  created_at timestamptz not null default now(),
  unique (id, user_id),
  foreign key (conversation_id, user_id) references public.conversations (id, user_id) on delete cascade,
  foreign key (space_id, user_id) references public.documents (id, user_id) on delete cascade,
  check (num_nonnulls(conversation_id, space_id) <= (kind = 'fact')::integer),
  check (kind <> 'preferences' or id = user_id)
);

alter table public.conversations
  add foreign key (space_id, user_id) references public.documents (id, user_id) on delete set null (space_id);

create index on public.documents (user_id, kind);
create index on public.documents (conversation_id, user_id);
create index on public.documents (space_id, user_id);

-- functions ---------------------------------------------------------------------------------------------

create function private.has_space(owner uuid, space uuid) returns boolean language plpgsql stable as $$
begin
  return exists (select from public.documents where id = space and user_id = owner and kind = 'space');
end $$;

-- Return the bytes of all sealed texts of an account, without keys and heads.
create function private.bytes_of(person uuid) returns bigint language sql stable
return (
  select coalesce(sum(bytes + octet_length(title) + coalesce(octet_length(summary), 0)
    + coalesce(octet_length(instructions), 0)), 0)
  from public.conversations where user_id = person
) + (
  select coalesce(sum(octet_length(body)), 0) from public.documents where user_id = person
);

-- Store a new document (`seen_rev` 0), or replace the revision `seen_rev` in the same scope. A repeated call changes
-- nothing.
--   new_kind        also 'instructions' and 'summary' of the conversation; a null body removes them
--   source          the conversation from which the model noted a fact; null: the user wrote the document
--   cuts            `rev - last_seq` of `source` (for a summary: of its conversation) when the messages were read. A
--                   deletion of messages changes this number, and the document is then refused
--   most_bytes      as in `begin_turn`, for new documents that the user writes: not for the model's facts and summaries,
--                   nor for preferences, which are one document of bounded size
create function private.put_document(
  me uuid, new_kind text, document uuid, conversation uuid, space uuid, seen_rev bigint, new_rev bigint,
  new_body public.sealed, source uuid, cuts bigint, most_bytes bigint
) returns jsonb language plpgsql as $$
declare
  budget private.budgets;
begin
  if (seen_rev between 0 and new_rev - 1) is not true then
    raise exception 'revision out of range' using errcode = 'PT400';
  end if;
  if seen_rev = 0 and most_bytes is not null and source is null
    and new_kind not in ('summary', 'preferences')
  then
    budget := private.lock_budget(me);      -- budgets are locked before conversations
  end if;
  if conversation is not null
      and not exists (select from public.conversations where id = conversation and user_id = me)
    or space is not null and not private.has_space(me, space)
    or source is not null and not exists (
      select from public.conversations
      where id = source and user_id = me and destroy_at is null and rev - last_seq = cuts for share
    )
  then
    return private.answer(false);           -- the scope or the source was deleted or changed meanwhile
  elsif budget.bytes >= most_bytes then
    return private.answer(false, 'account_full');
  end if;
  if new_kind = 'instructions' then
    update public.conversations set instructions = new_body, instructions_rev = new_rev
    where id = conversation and user_id = me
      and (instructions_rev = seen_rev or instructions_rev = new_rev and instructions is not distinct from new_body);
  elsif new_kind = 'summary' then
    update public.conversations set summary = new_body, summary_rev = new_rev
    where id = conversation and user_id = me and rev - last_seq = cuts
      and (summary_rev = seen_rev or summary_rev = new_rev and summary is not distinct from new_body);
  elsif seen_rev > 0 then
    update public.documents set body = new_body, rev = new_rev
    where id = document and user_id = me and kind = new_kind and rev = seen_rev
      and conversation_id is not distinct from conversation and space_id is not distinct from space;
  elsif (select count(*) from public.documents where user_id = me and kind = new_kind and id <> document)
    >= (case new_kind when 'fact' then 5000 else 500 end)
  then
    return private.answer(false, 'too_many');
  else
    insert into public.documents (id, user_id, kind, conversation_id, space_id, rev, body)
    values (document, me, new_kind, conversation, space, new_rev, new_body)
    on conflict do nothing;
  end if;
  return private.answer(found or exists (
    select from public.documents where id = document and user_id = me and rev = new_rev and body = new_body
  ), 'stale');
end $$;

-- Delete a fact, or a space with its facts; the space's conversations stay, outside all spaces.
create function private.delete_document(me uuid, document uuid) returns jsonb language plpgsql as $$
begin
  -- conversations are locked before documents, as in `put_document`; the deletion of a space changes its conversations
  perform from public.conversations where space_id = document and user_id = me order by id for no key update;
  delete from public.documents where id = document and user_id = me and kind in ('space', 'fact');
  return private.answer(found);
end $$;

-- Delete all facts of every scope.
create function private.delete_facts(me uuid) returns jsonb language plpgsql as $$
begin
  delete from public.documents where user_id = me and kind = 'fact';
  return '{"ok": true}';
end $$;
