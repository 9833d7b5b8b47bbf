-- The API: what can be reached over it, and by whom.

-- tables that can be read -------------------------------------------------------------------------------

-- Signed-in users read their own rows, and do nothing else. Row level security does not stop TRUNCATE, which the
-- embedded API grants, nor bind the planner, whose estimates the API hands out (`Prefer: count=planned`): so there are
-- no statistics of ids.
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

grant execute on function private.me, private.require_me to authenticated;   -- reads run them as the reader

-- functions that can be called --------------------------------------------------------------------------

-- Each is a thin one in `public` (security invoker) that passes its arguments on to the one of its name in `private`;
-- nothing else in there can be reached. (In plpgsql, which keeps its plans: before Postgres 18, SQL is planned anew in
-- each call.)
--   authenticated   user functions: the user's access token, and a server proof for every write
--   anon            server functions: a server proof no older than a minute
do $$
declare
  api constant jsonb := '{
    "authenticated": [
      "delete_account", "put_user_key", "my_account", "set_role", "suspend",
      "set_caps", "set_deployment_cap", "usage_by_person", "start_session", "my_sessions",
      "revoke_sessions", "create_conversation", "read_conversation", "change_conversation", "discard_conversation", "restore_conversation",
      "delete_conversation", "begin_turn", "checkpoint_turn", "stop_turn", "finish_turn", "edit_reply", "discard_messages",
      "restore_messages", "put_document", "delete_document", "delete_facts"
    ],
    "anon": [
      "row_bound", "root_key_versions", "open_session", "lease_refresh", "store_tokens",
      "end_session", "throttle", "sweep_turns"
    ]
  }';
  exposed record;
  call text;
begin
  for exposed in
    select function.*, caller.key as caller
    from jsonb_each(api) caller
    cross join jsonb_array_elements_text(caller.value) listed
    left join pg_catalog.pg_proc function
      on function.proname = listed and function.pronamespace = 'private'::regnamespace
  loop
    call := format('private.%I(%s)', exposed.proname,
      (select string_agg('$' || place, ', ' order by place) from generate_series(1, exposed.pronargs) place));
    execute format('create function public.%I(%s) returns %s language plpgsql %s set search_path = '''''
      ' as ''begin return %s; end''',
      exposed.proname, pg_get_function_arguments(exposed.oid), pg_get_function_result(exposed.oid),
      case exposed.provolatile when 's' then 'stable' else 'volatile' end,
      case when exposed.proretset then 'query select * from ' || call else call end);
    execute format('grant execute on function public.%1$I, private.%1$I to %2$I', exposed.proname, exposed.caller);
  end loop;
end $$;
