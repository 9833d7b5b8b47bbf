-- The API: every function that can be called over it, and by whom. Each is a thin one in `public` (security invoker)
-- that passes its arguments on to the one of its name in `private`; nothing else in there can be reached.
--   authenticated   user functions: the user's access token, and a server proof for every write
--   anon            server functions: a server proof no older than a minute

do $$
declare
  api constant jsonb := '{
    "authenticated": [
      "delete_account", "put_user_key", "change_preferences", "my_account", "set_role", "suspend",
      "set_caps", "set_deployment_cap", "usage_by_person", "start_session", "my_sessions",
      "revoke_sessions", "keep_space", "forget_space", "create_conversation",
      "rename_conversation", "title_conversation", "mark_conversation", "set_memory_policy",
      "set_conversation_model", "set_conversation_instructions", "move_conversation",
      "read_conversation", "discard_conversation", "restore_conversation", "delete_conversation",
      "begin_turn", "checkpoint_turn", "stop_turn", "finish_turn", "keep_memory", "forget_memory",
      "forget_memories", "summarise_conversation"
    ],
    "anon": [
      "row_bound", "root_key_versions", "open_session", "lease_refresh", "store_tokens",
      "end_session", "throttle", "return_attempt", "sweep_turns"
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
    execute format('create function public.%I(%s) returns %s language sql %s set search_path = '''' %s',
      exposed.proname, pg_get_function_arguments(exposed.oid), pg_get_function_result(exposed.oid),
      case exposed.provolatile when 's' then 'stable' else 'volatile' end,
      case when exposed.proretset then format('begin atomic select * from %s; end', call) else 'return ' || call end);
    execute format('grant execute on function public.%1$I, private.%1$I to %2$I', exposed.proname, exposed.caller);
  end loop;
end $$;
