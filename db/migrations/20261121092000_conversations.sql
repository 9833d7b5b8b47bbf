-- Conversations, messages, the pieces of attachments, and search texts. The app seals all content before it is stored; the database
-- sees ids, order, sizes and times.
--
-- Row level security limits reads to a user's own rows. Only functions write. There is no policy for insert, update or
-- delete anywhere in this schema, so a direct write changes nothing even if the API's role has the grant.

-- A newer version of the app may use new names in some columns (policy, role, outcome; a turn's purpose and state). So the
-- database only checks that these columns have the form of a name, and an older process can read rows with names that it does
-- not know.

-- tables ------------------------------------------------------------------------------------------------

create table public.conversations (
  id uuid primary key,
  user_id uuid not null references private.roles (user_id) on delete cascade,
  title public.sealed not null,
  -- the title's source: 'words' are the first words of the prompt; 'person' is the user
  titled_by text not null default 'words' check (titled_by in ('words', 'model', 'person')),
  wrapped_key public.sealed not null,
  key_version integer not null check (key_version > 0),
  user_key_version integer not null check (user_key_version > 0),
  head public.sealed_head not null,         -- authenticates (rev, count, last_seq, all messages); made by the app
  rev bigint not null default 0 check (rev >= 0),
  last_seq integer not null default 0 check (last_seq >= 0),
  read_seq integer not null default 0 check (read_seq >= 0),       -- the seq of the last message that was read, on any device
  -- the seq of the last prompt from which facts were noted
  facts_seq integer not null default 0 check (facts_seq >= 0),
  bytes bigint not null default 0 check (bytes >= 0),              -- stored bytes of the conversation's messages, pieces, search texts and receipts
  policy text not null default 'window' check (policy ~ '^[a-z_]{1,30}$'),
  policy_size integer check (policy_size between 1 and 1000),
  reset_seq integer not null default 0 check (reset_seq >= 0),     -- the seq after which the user started a new context
  start_seq integer not null default 0,     -- the model gets the messages after this seq
  -- the last begun turn with the purpose "reply"; turns are not compared by time, because a clock may be set back
  newest_turn_id uuid,
  -- the summary of the oldest messages; read with this row before each turn
  summary public.sealed,
  summary_rev bigint not null default 0 check (summary_rev >= 0),  -- the revision that the sealed text is bound to
  -- The conversation's own settings; null: the space's settings, else the user's. The model's name is readable, as in turns;
  -- the app ignores a model that is no longer offered.
  model public.model_name,
  instructions public.sealed,
  instructions_rev bigint not null default 0 check (instructions_rev >= 0),
  space_id uuid,                            -- the foreign key is added by the migration of documents
  state text not null default 'active' check (state in ('active', 'archived')),
  pinned_at timestamptz,
  destroy_at timestamptz,                   -- a deleted conversation can be restored to its `state` until this time
  -- deleted messages can be restored until this time; null once they are destroyed
  undo_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (id, user_id),
  check (start_seq between reset_seq and last_seq)
);

create table public.messages (
  id uuid primary key,
  conversation_id uuid not null,
  user_id uuid not null,
  turn_id uuid,                             -- no foreign key: a message outlives its turn
  seq integer not null check (seq > 0),
  parent_id uuid check (parent_id <> id),   -- a tree: a second reply to a prompt is a sibling; a continuation is a child
  role text not null check (role ~ '^[a-z_]{1,30}$'),
  outcome text not null default 'complete' check (outcome ~ '^[a-z_]{1,30}$'),   -- "edited": the user wrote the message
  body public.sealed not null,
  attachments public.sealed,                -- the list of attachments; null: there are none
  -- the model's thoughts before a reply; read separately from messages
  thoughts public.sealed,
  has_thoughts boolean not null generated always as (thoughts is not null) stored,
  created_at timestamptz not null default now(),
  -- set if the message is deleted: it is hidden, not in the head, and can be restored until this time
  destroy_at timestamptz,
  unique (conversation_id, seq),
  unique (conversation_id, id),
  -- the key includes user_id, so that no message can be in another user's conversation
  foreign key (conversation_id, user_id) references public.conversations (id, user_id) on delete cascade,
  foreign key (conversation_id, parent_id) references public.messages (conversation_id, id) on delete cascade
);

create table public.pieces (                -- the pieces of attachments
  conversation_id uuid not null,
  user_id uuid not null,
  message_id uuid not null,                 -- no foreign key: the pieces are stored before their message
  attachment_id uuid not null,
  number integer not null check (number between 1 and 1000),
  body public.sealed_octets not null,
  primary key (conversation_id, message_id, attachment_id, number),
  foreign key (conversation_id, user_id) references public.conversations (id, user_id) on delete cascade
);
alter table public.pieces alter column body set storage external;   -- sealed text cannot be compressed

create table public.search_texts (          -- sealed copies of the messages of a range of seqs
  conversation_id uuid not null,
  user_id uuid not null,
  kind text not null check (kind in ('text')),
  number bigint not null check (number > 0),   -- the first seq of the range
  last_seq bigint not null check (last_seq >= number),
  body public.sealed not null,
  primary key (conversation_id, kind, number),
  foreign key (conversation_id, user_id) references public.conversations (id, user_id) on delete cascade
);
alter table public.search_texts alter column body set storage external;

-- every foreign key has an index; without one, the deletion of a conversation would scan whole tables
create index on public.conversations (user_id, state, pinned_at desc nulls last, updated_at desc);   -- the order of the list
create index on public.conversations (space_id, user_id);
create index on public.conversations (destroy_at) where destroy_at is not null;
create index on public.conversations (updated_at);   -- for retention, which deletes the longest unused conversations first
-- parent_id comes first: with conversation_id first, Postgres chose this index for a message by its id while the table had no
-- statistics, and read all messages of the conversation
create index on public.messages (parent_id, conversation_id);
create index on public.messages (conversation_id) where destroy_at is not null;

-- functions: conversations ------------------------------------------------------------------------------

-- Store a new conversation, or return a refusal. *created* is JSON: title, wrapped_key, key_version,
-- user_key_version, head, policy, policy_size, model, instructions, space_id.
create function private.store_conversation(person uuid, conversation uuid, created jsonb) returns text
language plpgsql as $$
begin
  if (select count(*) from public.conversations where user_id = person) >= 20000 then
    return 'too_many';
  elsif created ->> 'space_id' is not null and not private.has_space(person, (created ->> 'space_id')::uuid) then
    return 'no_space';
  end if;
  insert into public.conversations
    (id, user_id, title, wrapped_key, key_version, user_key_version, head, policy, policy_size, model, instructions,
      space_id)
  select conversation, person, title, wrapped_key, key_version, user_key_version, head, policy, policy_size, model,
    instructions, space_id
  from jsonb_populate_record(null::public.conversations, created)
  on conflict (id) do nothing;
  return case when not found then 'taken' end;
end $$;

-- Store the next message of a locked conversation, with the next head. The user's own message counts as read.
create function private.append_message(
  thread public.conversations, message uuid, turn uuid, parent uuid, role text, outcome text, body public.sealed,
  attachments public.sealed, thoughts public.sealed, new_head public.sealed_head
) returns public.conversations language plpgsql as $$
begin
  insert into public.messages
    (id, conversation_id, user_id, turn_id, seq, parent_id, role, outcome, body, attachments, thoughts)
  values (message, thread.id, thread.user_id, turn, thread.last_seq + 1, parent, role, outcome, body, attachments, thoughts);
  update public.conversations
  set rev = rev + 1, last_seq = last_seq + 1, head = new_head, updated_at = clock_timestamp(),
    bytes = bytes + octet_length(body) + coalesce(octet_length(attachments), 0) + coalesce(octet_length(thoughts), 0),
    read_seq = case when role = 'user' or outcome = 'edited' then last_seq + 1 else read_seq end
  where id = thread.id
  returning * into thread;
  return thread;
end $$;

-- Change a conversation in ways that need no new revision. *changes* is JSON; an absent key changes nothing:
--   title, titled_by    a title by "model" replaces only a title made of the prompt's first words. In the answer,
--                       `changed` is false if the user has set a title. This includes a concurrent rename: this call waits for
--                       the row's lock
--   pinned, state
--   policy, policy_size, reset_seq    start_seq returns to reset_seq: the old start was valid only for the old policy
--   model, space_id     null: none
--   read_seq            never goes back, nor beyond the last message (`begin_turn` moves it, too)
--   facts_seq           never goes back, nor beyond the last message
create function private.change_conversation(me uuid, conversation uuid, changes public.free_text) returns jsonb
language plpgsql as $$
declare
  new jsonb := changes;
begin
  if least((new ->> 'read_seq')::integer, (new ->> 'facts_seq')::integer) <= 0 then
    raise exception 'seq out of range' using errcode = 'PT400';
  elsif new ->> 'space_id' is not null
    and exists (select from public.conversations where id = conversation and user_id = me)
    and not private.has_space(me, (new ->> 'space_id')::uuid)
  then
    return private.answer(false, 'no_space');
  end if;
  update public.conversations set
    title = coalesce(new ->> 'title', title),
    titled_by = coalesce(new ->> 'titled_by', titled_by),
    pinned_at = case when not new ? 'pinned' then pinned_at when (new -> 'pinned')::boolean then coalesce(pinned_at, now()) end,
    state = coalesce(new ->> 'state', state),
    policy = coalesce(new ->> 'policy', policy),
    policy_size = case when new ? 'policy' then (new ->> 'policy_size')::integer else policy_size end,
    reset_seq = coalesce((new ->> 'reset_seq')::integer, reset_seq),
    start_seq = case when new ?| '{policy,reset_seq}' then coalesce((new ->> 'reset_seq')::integer, reset_seq) else start_seq end,
    model = case when new ? 'model' then new ->> 'model' else model end,
    space_id = case when new ? 'space_id' then (new ->> 'space_id')::uuid else space_id end,
    read_seq = greatest(read_seq, least(coalesce((new ->> 'read_seq')::integer, read_seq), last_seq)),
    facts_seq = greatest(facts_seq, least(coalesce((new ->> 'facts_seq')::integer, facts_seq), last_seq))
  where id = conversation and user_id = me and (titled_by = 'words' or new ->> 'titled_by' is distinct from 'model');
  return jsonb_build_object('changed', found)
    || private.answer(found or exists (select from public.conversations where id = conversation and user_id = me));
end $$;

-- Hide a conversation from all readers, and ask the processes of its open turns to stop. The first `tidy` after
-- *for_seconds* destroys the conversation's row and key, even if the process that offered Undo has ended. A repeated call does
-- not postpone this.
create function private.discard_conversation(me uuid, conversation uuid, for_seconds integer) returns jsonb
language plpgsql as $$
begin
  if (for_seconds between 1 and 3600) is not true then
    raise exception 'seconds out of range' using errcode = 'PT400';
  end if;
  update public.conversations
  set destroy_at = coalesce(destroy_at, clock_timestamp() + make_interval(secs => for_seconds))
  where id = conversation and user_id = me;
  if not found then
    return private.answer(false);
  end if;
  update public.turns set stop_requested = true where id in (   -- locked in the order in which `begin_turn` locks them
    select id from public.turns where conversation_id = conversation and finished_at is null order by id for update
  );
  return '{"ok": true}';
end $$;

-- Undo `discard_conversation` before its *for_seconds* are over; after that, messages may have been destroyed. A
-- repeated call changes nothing.
create function private.restore_conversation(me uuid, conversation uuid) returns jsonb language plpgsql as $$
begin
  update public.conversations set destroy_at = null
  where id = conversation and user_id = me and (destroy_at > clock_timestamp()) is not false;
  return private.answer(found);
end $$;

-- Return the time at which retention deletes a conversation last used at *used_at*; null: never.
create function private.expires_at(settings private.settings, used_at timestamptz) returns timestamptz
language sql immutable
return case when settings.retention_days is not null
  then greatest(used_at + make_interval(days => settings.retention_days), settings.retention_from) end;
