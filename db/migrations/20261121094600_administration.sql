-- Administration: the usage of one user or all users, accounts, the deployment's settings, and the audit. The results
-- contain only counts, costs, times and addresses: no function here reads a sealed column. (`list_credentials` does, elsewhere.)

-- functions: usage --------------------------------------------------------------------------------------

-- Return the usage of *person*, or of all users (null), as `usage_of` does.
create function private.usage_report(me uuid, person uuid, first_day date, last_day date) returns jsonb
language plpgsql stable as $$
begin
  perform private.require_admin(me);
  return private.usage_of(person, first_day, last_day);
end $$;

-- Return the users whose addresses contain *words*, with their usage of today and this month but no content:
-- *at_most* users (limit 500), after skipping *skip*. The result is one JSON value, because the API's
-- "max rows" limit would truncate a list of rows.
--   sorted_by   'email', or, the highest first, 'active' (last activity), or this month's 'cost', 'replies'
--               or 'tokens'
--   total       the number of all matching users
create function private.list_users(
  me uuid, words public.free_text, sorted_by text, skip integer, at_most integer
) returns jsonb language plpgsql stable as $$
declare
  today date := now() at time zone 'utc';
begin
  perform private.require_admin(me);
  return (
    with used as materialized (
      select user_id, sum(turns) filter (where purpose = 'reply') as replies_this_month,
        sum(turns) filter (where purpose = 'reply' and day = today) as replies_today,
        sum(tokens_in) as tokens_in_this_month, sum(tokens_out) as tokens_out_this_month,
        sum(cost_micro) as cost_this_month_micro, sum(cost_micro) filter (where day = today) as cost_today_micro
      from private.usage_by_day where day >= date_trunc('month', today)::date group by user_id
    ), found as materialized (
      select budget.*, account.role, account.suspended_at is not null as is_suspended, someone.email,
        coalesce(replies_today, 0) as replies_today, coalesce(cost_today_micro, 0) as cost_today_micro,
        case when budget.day >= today then day_tokens else 0 end as tokens_today,
        coalesce(replies_this_month, 0) as replies_this_month, coalesce(tokens_in_this_month, 0) as tokens_in_this_month,
        coalesce(tokens_out_this_month, 0) as tokens_out_this_month,
        coalesce(cost_this_month_micro, 0) as cost_this_month_micro,
        coalesce(case sorted_by
          when 'active' then extract(epoch from last_active_at) when 'cost' then cost_this_month_micro
          when 'replies' then replies_this_month when 'tokens' then tokens_in_this_month + tokens_out_this_month end, 0) as key
      from private.roles account
      join auth.users someone on someone.id = account.user_id
      join private.budgets budget on budget.user_id = account.user_id
      left join used on used.user_id = account.user_id
      where account.deleted_at is null and strpos(lower(someone.email), lower(words)) > 0
    ), listed as (                          -- stored bytes are summed only for the listed users
      select * from found
      order by key desc, email
      offset skip limit least(at_most, 500)
    )
    select jsonb_build_object('total', (select count(*) from found), 'users', coalesce(jsonb_agg(to_jsonb(listed) || (
      select jsonb_build_object('conversations', count(*) filter (where destroy_at is null),
        'bytes', coalesce(sum(bytes), 0))
      from public.conversations where user_id = listed.user_id
    )), '[]'))
    from listed
  );
end $$;

-- functions: accounts -----------------------------------------------------------------------------------

-- Change a user's limits for an admin, or an operator (*actor* null), and audit the change. *changes* maps
-- columns to new values (null: no cap). Return all limits of the user; all null if there is no such
-- account.
create function private.change_caps(actor uuid, person uuid, changes jsonb) returns private.budgets language plpgsql as $$
declare
  before private.budgets;
  after private.budgets;
begin
  select * into before from private.budgets where user_id = person for no key update;
  after := jsonb_populate_record(before, changes);
  update private.budgets set daily_cap_micro = after.daily_cap_micro, monthly_cap_micro = after.monthly_cap_micro,
    daily_cap_tokens = after.daily_cap_tokens, max_open = after.max_open, max_per_minute = after.max_per_minute
  where user_id = person returning * into after;
  perform private.note_changes(actor, 'caps.set', person, to_jsonb(before), to_jsonb(after));
  return after;
end $$;

create function private.set_caps(me uuid, person uuid, changes public.free_text) returns jsonb language plpgsql as $$
begin
  perform from private.budgets where user_id = person for no key update;
  perform private.require_admin(me);
  return private.answer((private.change_caps(me, person, changes::jsonb)).user_id is not null);
end $$;

-- Check that the caller may end the sessions of *person* or, if *is_shut* is true, suspend or delete the account;
-- return the refusal, if any. The app calls this before it stops the user's replies.
create function private.check_end(me uuid, person uuid, is_shut boolean) returns jsonb language plpgsql stable as $$
begin
  if person is distinct from me then
    perform private.require_admin(me);
  elsif is_shut then
    perform private.require_recent(true);
  end if;
  if is_shut and array[person] = private.active_admins()
      and exists (select from private.roles where user_id <> person and deleted_at is null) then
    return private.answer(false, 'last_admin');
  end if;
  return private.answer(exists (select from private.roles where user_id = person and deleted_at is null));
end $$;

-- Sign a user out on all devices.
create function private.sign_out_everywhere(me uuid, person uuid) returns jsonb language plpgsql as $$
begin
  perform from private.app_sessions where user_id = person for update;
  perform private.require_admin(me);
  if not exists (select from private.roles where user_id = person) then
    return private.answer(false);
  end if;
  perform private.end_sessions_of(person);
  perform private.note(me, 'session.end_all', person);
  return '{"ok": true}';
end $$;

-- functions: the deployment -----------------------------------------------------------------------------

-- Return the deployment's settings and monthly cap, and the amounts that all users together have spent today
-- and this month.
create function private.deployment_settings(me uuid) returns jsonb language plpgsql stable as $$
declare
  today date := now() at time zone 'utc';
begin
  perform private.require_admin(me);
  return (
    select to_jsonb(settings) || jsonb_build_object('defaults', to_jsonb(settings),
      'monthly_cap_micro', deployment.monthly_cap_micro,
      'spent_today_micro', coalesce(sum(cost_micro) filter (where day = today), 0),
      'spent_this_month_micro', coalesce(sum(cost_micro), 0))
    from private.settings cross join private.deployment
    left join private.usage_by_day on day >= date_trunc('month', today)::date and user_id <> private.all_users()
    group by settings.id, deployment.id
  );
end $$;

-- Change settings for an admin, or an operator (*actor* null), and audit the change. *changes* maps
-- columns to new values: the limits of new users, the mode of sign-ups, the codes that confirm addresses, the rule
-- for unknown prices, and the days after which unused conversations are deleted (null: never). A shorter
-- retention deletes nothing for the first 14 days, in which owners are warned.
create function private.change_settings(actor uuid, changes jsonb) returns private.settings language plpgsql as $$
declare
  before private.settings;
  after private.settings;
begin
  select * into before from private.settings for no key update;
  after := jsonb_populate_record(before, changes);
  update private.settings set daily_cap_micro = after.daily_cap_micro, monthly_cap_micro = after.monthly_cap_micro,
    daily_cap_tokens = after.daily_cap_tokens, max_open = after.max_open, max_per_minute = after.max_per_minute,
    sign_ups = after.sign_ups, confirms_by_code = after.confirms_by_code,
    refuses_unknown_prices = after.refuses_unknown_prices, retention_days = after.retention_days, retention_from = case
      when after.retention_days >= before.retention_days then retention_from else now() + interval '14 days' end
  where id returning * into after;
  perform private.note_changes(actor, 'settings.set', null, to_jsonb(before), to_jsonb(after) - 'retention_from');
  return after;
end $$;

create function private.set_settings(me uuid, changes public.free_text) returns jsonb language plpgsql as $$
begin
  perform from private.settings for no key update;
  perform private.require_admin(me);
  perform private.change_settings(me, changes::jsonb);
  return '{"ok": true}';
end $$;

-- Turn on or off the rule that all users need a second factor, for an admin with a recent proof. To turn the rule
-- on, the admin must have a second factor, and must have given it with the proof. Turning it on ends all sessions in
-- which no second factor was given.
create function private.require_factor(me uuid, is_on boolean) returns jsonb language plpgsql as $$
declare
  was_on boolean;
begin
  select requires_factor into was_on from private.settings for no key update;
  perform private.require_admin(me);
  perform private.require_recent();
  if is_on and not exists (select from private.credentials where user_id = me and wants_factor) then
    return private.answer(false, 'factor_needed');
  end if;
  update private.settings set requires_factor = is_on where id;
  perform private.note_changes(me, 'settings.set', null, jsonb_build_object('requires_factor', was_on),
    jsonb_build_object('requires_factor', is_on));
  if is_on then
    with gone as (
      delete from private.app_sessions where not has_factor returning auth_session_id
    )
    delete from auth.sessions where id in (select auth_session_id from gone);
  end if;
  return '{"ok": true}';
end $$;

-- Set the deployment's cap; null: no cap.
create function private.set_deployment_cap(me uuid, new_monthly_cap_micro bigint) returns jsonb language plpgsql as $$
declare
  before private.deployment;
begin
  -- locks every budget first, because `recall_loans` would skip a budget in use, and so not take back its unused loan
  perform from private.budgets order by user_id for no key update;
  before := private.lock_deployment();
  perform private.require_admin(me);
  update private.deployment set monthly_cap_micro = new_monthly_cap_micro where id;
  -- a lower cap also applies to existing loans: each is reduced to what is already spent or reserved
  perform private.recall_loans(null);
  perform private.note_changes(me, 'caps.deployment', null, to_jsonb(before),
    jsonb_build_object('monthly_cap_micro', new_monthly_cap_micro));
  return '{"ok": true}';
end $$;

-- Return the database's clock and versions, and the milliseconds since this transaction began.
create function private.database_state(me uuid) returns jsonb language plpgsql volatile as $$
begin
  perform private.require_admin(me);
  return jsonb_build_object('at', clock_timestamp(), 'database_version', current_setting('server_version'),
    'schema_version', (select max(version) from private.migrations),
    'database_ms', ceil(1000 * extract(epoch from clock_timestamp() - now())));
end $$;

-- Return the number and the bytes of the conversations that a retention of *days* would delete within 14
-- days, and the number of their users.
create function private.preview_retention(me uuid, days integer) returns jsonb language plpgsql stable as $$
begin
  perform private.require_admin(me);
  return (
    select jsonb_build_object('conversations', count(*), 'users', count(distinct user_id), 'bytes', coalesce(sum(bytes), 0))
    from public.conversations
    where destroy_at is null and updated_at < now() + interval '14 days' - make_interval(days => preview_retention.days)
      and user_id not in (select roles.user_id from private.roles where deleted_at is not null)
  );
end $$;

-- functions: the audit ----------------------------------------------------------------------------------

-- Return at most 500 entries of the audit with ids below *before*, the newest first. Users are named by their
-- addresses, deleted users by their ids; a null actor is an operator, or the database.
create function private.list_audit(me uuid, before bigint, at_most integer) returns table (
  id text, at timestamptz, action text, actor text, target text, detail jsonb
) language plpgsql stable as $$
begin
  perform private.require_admin(me);
  return query
    select entry.id::text, entry.at, entry.action, coalesce(actor.email::text, entry.actor::text),
      coalesce(target.email::text, entry.target::text), entry.detail
    from private.audit entry
    left join auth.users actor on actor.id = entry.actor and actor.email <> private.tombstone(entry.actor)
    left join auth.users target on target.id = entry.target and target.email <> private.tombstone(entry.target)
    where entry.id < before
    order by entry.id desc
    limit least(at_most, 500);
end $$;

-- Return the newest 100 failures and the newest 500 other entries of the audit about the caller: so failures, which
-- strangers can cause, do not hide the others. No other user is named; a session and the sealed name of its browser are the
-- caller's own. The result is one JSON value, because the API's
-- "max rows" limit would truncate a list of rows. The call needs no proof, because it returns only the caller's entries.
create function private.my_audit() returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', entry.id::text, 'at', entry.at, 'action', entry.action,
      'actor', case when entry.actor = person then 'You' when entry.actor is not null then 'Admin' end,
      'target', null, 'detail', entry.detail, 'session', entry.session, 'device', entry.device) order by entry.id desc), '[]')
    from unnest('{true, false}'::boolean[]) is_failure, lateral (
      select * from private.audit
      where audit.target = person and (audit.action like '%.fail') = is_failure
      order by audit.id desc limit case when is_failure then 100 else 500 end
    ) entry
  );
end $$;
