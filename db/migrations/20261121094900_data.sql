-- Counts of the caller's data, and the state that an open tab polls.

-- Return counts and bytes of the caller's rows, counted in the same way as for the account's limit. The result is
-- one JSON value, because the API's "max rows" limit would truncate a list of rows. The call needs no proof, because it
-- returns only the caller's figures.
--   deleted         conversations that are deleted but not destroyed yet; the counts of conversations and messages do not
--                   include them, the bytes do
create function private.my_data() returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return (
    with threads as materialized (
      select id, state, destroy_at from public.conversations where user_id = person
    ), said as (
      -- messages are counted per conversation, because a join would read the messages of all users
      select coalesce(sum((
        select count(*) from public.messages where conversation_id = threads.id and messages.destroy_at is null
      )), 0)::bigint as messages from threads where destroy_at is null
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

-- Return the state that an open tab polls, in one call. The call needs no proof, because it returns only the caller's state.
--   chat          the revision of the open conversation; null: there is none
--   choices       the columns of the open conversation that its next turn depends on, besides its messages
--   list          a digest of the first conversations of the list (`list_digest` in services/domain/revisions.py)
--   running       the conversations in which a reply is streaming
--   preferences   the preferences' revision; 0: none are stored
--   settings      the revision of the admins' settings of models
create function private.poll(conversation uuid, space uuid, archived boolean) returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return (
    with opened as (
      select rev,
        concat_ws(' ', instructions_rev, summary_rev, reset_seq, policy, policy_size, model, space_id) as choices
      from public.conversations where id = conversation and user_id = person and destroy_at is null
    ), listed as (
      select id, title, pinned_at, updated_at, space_id, last_seq > read_seq and id is distinct from conversation as is_unread
      from public.conversations
      where user_id = person and state = case when archived then 'archived' else 'active' end and destroy_at is null
        and (space is null or space_id = space)
      order by pinned_at desc nulls last, updated_at desc limit 31
    )
    select jsonb_build_object(
      'chat', (select rev from opened),
      'choices', (select choices from opened),
      'list', (
        select private.sha(coalesce(string_agg(
          concat_ws(' ', id, private.sha(title), pinned_at is not null, space_id, is_unread), E'\n'
          order by pinned_at desc nulls last, updated_at desc), ''))
        from listed),
      'running', (
        select coalesce(jsonb_agg(conversation_id), '[]') from public.turns
        where user_id = person and finished_at is null and purpose = 'reply' and conversation_id is not null
          and lease_until > clock_timestamp()),
      'preferences', coalesce((select rev from public.documents where id = person and kind = 'preferences'), 0),
      'settings', private.model_settings() ->> 'revision',
      'is_admin', private.is_admin(person))
  );
end $$;
