-- The API: the functions that can be called, and by which role. db/api.txt lists the functions that this file makes.

-- tables that can be read -------------------------------------------------------------------------------

-- Signed-in users can read their own rows, and nothing else. Row level security neither stops TRUNCATE, which the embedded
-- API grants, nor restricts the planner's estimates, which the API returns (`Prefer: count=planned`). So triggers refuse
-- TRUNCATE, and no statistics on ids are collected.
do $$
declare
  exposed record;
begin
  for exposed in
    select attrelid::regclass as name, string_agg(format('alter %I set statistics 0', attname), ', ') as ids
    from pg_catalog.pg_attribute join pg_catalog.pg_class on pg_class.oid = attrelid
    where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and atttypid = 'uuid'::regtype
    group by attrelid
  loop
    execute format('alter table %s enable row level security, %s', exposed.name, exposed.ids);
    execute format('create policy "owners read their rows" on %s for select to authenticated'
      ' using (user_id = (select private.me()))', exposed.name);
    execute format('grant select on %s to authenticated', exposed.name);
    execute format('create trigger is_never_truncated before truncate on %s'
      ' for each statement execute function private.refuse_statement()', exposed.name);
  end loop;
end $$;

-- needed because the policies call these functions with the rights of the reading user
grant execute on function private.me, private.require_me to authenticated;

-- functions that can be called --------------------------------------------------------------------------

-- Each of these functions of `private` gets a thin wrapper with the same name in `public` (security invoker); nothing else can
-- be called. If a function needs a proof, its wrapper calls `private.checked_…`, which is made here, too, so that no argument
-- stays unchecked: a proof covers the verb and all arguments in order, sealed and free text by their sha256.
--   authenticated   user functions need the access token; those whose first parameter is `me` also need a server proof
--   anon            server functions need a server proof no older than a minute
-- (The wrappers are in plpgsql, which caches plans: before Postgres 18, functions in SQL are planned again in each call.)
do $$
declare
  api constant jsonb := '{
    "authenticated": [
      "delete_account", "put_user_key", "change_credentials", "change_address", "my_account", "set_role", "suspend", "set_caps",
      "set_deployment_cap", "set_settings", "require_factor", "check_end", "sign_out_everywhere", "deployment_settings", "usage_report",
      "list_users", "list_credentials", "read_sign_in", "list_audit", "preview_retention", "database_state", "set_model", "invite",
      "revoke_invitation", "list_invitations", "my_usage", "my_data", "poll",
      "my_ledger", "my_audit", "start_session", "my_sessions", "revoke_sessions", "prove_session", "dismiss_notices", "change_conversation",
      "discard_conversation", "restore_conversation", "begin_turn", "checkpoint_turn", "stop_turn", "stop_turns",
      "finish_turn", "put_piece", "put_search_text", "delete_search_texts", "edit_reply", "discard_messages",
      "restore_messages", "put_document", "delete_document", "delete_facts"
    ],
    "anon": [
      "row_bound", "root_key_versions", "open_session", "lease_refresh", "store_tokens", "end_session", "sweep_turns",
      "erase_log_entries", "model_settings", "sign_ups", "ended_sessions", "count_attempt", "put_sign_up",
      "end_stranger", "count_throttles", "open_invitation", "begin_step", "try_step", "end_step", "note_failure", "add_notice"
    ]
  }';
  exposed record;
  signature text;
  fields text;                              -- the fields that the proof covers, as SQL
  -- the arguments of the call, as SQL
  given text;
  guard text;
begin
  for exposed in
    select function.oid, proname, caller.key as caller, has_me, has_me or caller.key = 'anon' as is_proven,
      (proargtypes::oid[])[has_me::integer:] as types,
      format('returns %s language plpgsql %s set search_path = ''''', pg_get_function_result(function.oid),
        case provolatile when 's' then 'stable' else 'volatile' end) as traits,
      case when proretset then 'return query select * from' else 'return' end as answer
    from jsonb_each(api) caller
    cross join jsonb_array_elements_text(caller.value) listed
    left join pg_catalog.pg_proc function
      on function.proname = listed and function.pronamespace = 'private'::regnamespace
    cross join lateral coalesce(proargnames[1] = 'me', false) has_me
  loop
    signature := regexp_replace(pg_get_function_arguments(exposed.oid), '^me uuid(, )?', '');
    select concat_ws(', ', quote_literal(exposed.proname), string_agg(
        format(case typbasetype when 0 then '$%s::text' else 'private.sha($%s)' end, place), ', ' order by place)),
      string_agg('$' || place, ', ' order by place)
    into fields, given
    from unnest(exposed.types) with ordinality argument (type, place) join pg_catalog.pg_type on pg_type.oid = type;
    if exposed.is_proven then
      signature := concat_ws(', ', nullif(signature, ''), case when exposed.has_me then 'proof text'
        else 'made_at bigint, proof text' end);
      guard := case when exposed.has_me then format('me uuid := private.require_proof(proof, %s); begin', fields)
        else format('begin perform private.require_server_proof(proof, made_at, %s);', fields) end;
      execute format('create function private.checked_%I(%s) %s as ''declare %s %s private.%I(%s); end''',
        exposed.proname, signature, exposed.traits, replace(guard, '''', ''''''), exposed.answer, exposed.proname,
        concat_ws(', ', case when exposed.has_me then 'me' end, given));
      given := concat_ws(', ', given, case when exposed.has_me then 'proof' else 'made_at, proof' end);
    end if;
    execute format('create function public.%I(%s) %s as ''begin %s private.%I(%s); end''', exposed.proname, signature,
      exposed.traits, exposed.answer, case when exposed.is_proven then 'checked_' else '' end || exposed.proname, given);
    execute format('grant execute on function public.%I, private.%I to %I', exposed.proname,
      case when exposed.is_proven then 'checked_' else '' end || exposed.proname, exposed.caller);
  end loop;
end $$;

-- Return a conversation, or null if there is none. The result is one JSON value, because the API's "max rows" limit
-- would truncate a list of rows. Row level security applies, as in any read.
--   messages       at most 1,000 after *after_seq*, without deleted ones
--   newest_turn    the newest of the conversation's turns that answer a prompt (others make titles or summaries)
--   costs          the costs of these messages' turns
--   receipts       the receipt of the last of these turns, which the plan of the next turn needs
create function public.read_conversation(conversation uuid, after_seq integer) returns jsonb
language plpgsql stable set search_path = '' as $$
begin
  perform private.require_me();
  return (
    with said as materialized (
      select id, conversation_id, seq, parent_id, turn_id, role, outcome, body, attachments, has_thoughts, created_at,
        destroy_at
      from public.messages
      where conversation_id = conversation and seq > after_seq and destroy_at is null
      order by seq limit 1000
    ), settled as (
      select id, state, model, tokens_in, tokens_out, tokens_cached, charged_micro
      from public.turns where id in (select turn_id from said) and finished_at is not null
    ), newest_turn as (
      select id, state, prompt_id, partial, partial_thoughts, begun_at, lease_until
      from public.turns where id = (select newest_turn_id from public.conversations where id = conversation)
    ), kept as (
      select turn_id, client_turn_id, body
      from public.receipts join public.turns on turns.id = turn_id
      where turn_id = (select turn_id from said where turn_id is not null order by seq desc limit 1)
    )
    select jsonb_build_object(
      'conversation', to_jsonb(conversations),
      'messages', (select coalesce(jsonb_agg(to_jsonb(said) order by seq), '[]') from said),
      'newest_turn', (select to_jsonb(newest_turn) from newest_turn),
      'costs', (select coalesce(jsonb_agg(to_jsonb(settled)), '[]') from settled),
      'receipts', (select coalesce(jsonb_agg(to_jsonb(kept)), '[]') from kept)
    )
    from public.conversations where id = conversation
  );
end $$;
grant execute on function public.read_conversation to authenticated;

-- the rights of all private functions ------------------------------------------------------------------

do $$
declare
  function regprocedure;
begin
  for function in select oid from pg_catalog.pg_proc where pronamespace = 'private'::regnamespace loop
    execute format('alter function %s security definer set search_path = ''''', function);
  end loop;
end $$;
