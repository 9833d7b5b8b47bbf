-- Usage: the sums of the ledger by user, day, model and purpose, and the functions that read these sums.
--
-- A trigger on the ledger updates the sums in `usage_by_day`, so they cannot differ from the ledger. A turn changes only rows
-- of its user, whose budget it has locked: if all users shared a row, turns of different users would wait for each other.

create table private.usage_by_day (         -- rows outlive their users, as in the ledger
  -- the user; all_users() in a row of a past day's totals
  user_id uuid not null,
  day date not null,                        -- a UTC day
  model text not null,
  purpose text not null,
  turns integer not null default 0,
  failed integer not null default 0,
  -- turns that ended as interrupted, or lapsed and were never finished, not even late
  interrupted integer not null default 0,
  tokens_in bigint not null default 0,
  tokens_cached bigint not null default 0,  -- part of tokens_in
  tokens_out bigint not null default 0,
  cost_micro bigint not null default 0,
  first_tokens integer[] not null,          -- a histogram of the time to the first token: the number of finished turns in each `bucket_of`
  primary key (user_id, day, model, purpose)
) with (fillfactor = 50);

create index on private.usage_by_day (day);

-- Return the number of the histogram bucket for a time to the first token (0: none). Each bucket is 1.1 times
-- as wide as the one before, so the middle of a bucket, 1.1 ^ (bucket - 0.5) ms, is within 5 % of every time
-- in it.
create function private.bucket_of(ms integer) returns integer language sql immutable
return case when ms is null then 0 else 1 + floor(ln(greatest(ms, 1)) / ln(1.1))::integer end;

-- Return the user id under which `usage_by_day` has the totals of all users: without totals, a report of 90 days would add
-- up half a million rows. The sweep makes the totals of a day once it is three days old. After that, `add_to_usage` adds
-- late entries to the totals as well.
create function private.all_users() returns uuid language sql immutable
return '00000000-0000-0000-0000-000000000000'::uuid;

-- Return the last day that has totals. It changes only under the advisory lock "daybook: usage of all".
create function private.last_total_day() returns date language sql stable begin atomic
  select coalesce(max(day), '-infinity') from private.usage_by_day where user_id = private.all_users();
end;

-- Add a new entry of the ledger to the sums of its user, and to the totals of its day if these exist already.
create function private.add_to_usage() returns trigger language plpgsql as $$
declare
  users uuid[] := array[new.user_id];
  counted uuid;
  bucket integer := private.bucket_of(new.first_token_ms);
  is_first integer := (new.kind <> 'adjust')::integer;
  -- 0 for a lapsed turn, which counts in first_tokens only if it is finished late
  is_timed integer := (new.kind <> 'lapsed')::integer;
begin
  if new.day < (clock_timestamp() at time zone 'utc')::date - 1 then
    -- without the lock, `make_day_totals` would miss an entry that is not committed yet
    perform pg_advisory_xact_lock_shared(hashtext('daybook: usage of all'));
    if new.day <= private.last_total_day() then
      users := users || private.all_users();
    end if;
  end if;
  foreach counted in array users loop       -- a loop, because `unnest` would be slower in every turn
    insert into private.usage_by_day as known
    values (counted, new.day, new.model, new.purpose, is_first, (new.outcome = 'failed')::integer,
      -- a correction replaces the lapsed end, which was counted
      (new.outcome in ('lapsed', 'interrupted'))::integer - (new.kind = 'adjust')::integer,
      new.tokens_in, new.tokens_cached, new.tokens_out, new.micro, array_fill(is_timed, array[1], array[bucket]))
    on conflict (user_id, day, model, purpose) do update set
      turns = known.turns + excluded.turns,
      failed = known.failed + excluded.failed,
      interrupted = known.interrupted + excluded.interrupted,
      tokens_in = known.tokens_in + excluded.tokens_in,
      tokens_cached = known.tokens_cached + excluded.tokens_cached,
      tokens_out = known.tokens_out + excluded.tokens_out,
      cost_micro = known.cost_micro + excluded.cost_micro,
      first_tokens[bucket] = coalesce(known.first_tokens[bucket], 0) + is_timed;
  end loop;
  return null;
end $$;

create trigger ledger_is_added_to_usage after insert on private.ledger
  for each row execute function private.add_to_usage();

-- Make the totals of the earliest day that has no totals and is at least three days old. The sweep calls this function.
create function private.make_day_totals() returns void language plpgsql as $$
declare
  due date;
  timed record;
begin
  if not pg_try_advisory_xact_lock(hashtext('daybook: usage of all')) then
    return;
  end if;
  select min(day) into due from private.usage_by_day
  where day > private.last_total_day() and day < (clock_timestamp() at time zone 'utc')::date - 2;
  insert into private.usage_by_day
  select private.all_users(), due, model, purpose, sum(turns), sum(failed), sum(interrupted), sum(tokens_in),
    sum(tokens_cached), sum(tokens_out), sum(cost_micro), '{}'
  from private.usage_by_day where day = due group by model, purpose;
  for timed in
    select model, purpose, bucket, sum(first_tokens[bucket]) as turns
    from private.usage_by_day cross join lateral generate_subscripts(first_tokens, 1) bucket
    where day = due and first_tokens[bucket] > 0
    group by model, purpose, bucket
  loop
    update private.usage_by_day set first_tokens[timed.bucket] = timed.turns
    where user_id = private.all_users() and day = due and model = timed.model and purpose = timed.purpose;
  end loop;
end $$;

-- functions: usage in a range of days -------------------------------------------------------------------------

-- Return the usage of *person*, or of all users (*person* null), from *first_day* to *last_day*.
--   days           sums by day and model
--   purposes       sums by purpose
--   active_users   the number of users with a reply, even a failed one
--   failed, interrupted    the numbers of failed and of interrupted replies
--   first_token_ms, first_token_p95_ms    the median and the 95th percentile of the time to the first token
--           of replies, within 5 % (null: no reply was streamed)
-- force_custom_plan is set because the generic plan would read 90 days with the index that suits a single day.
create function private.usage_of(person uuid, first_day date, last_day date) returns jsonb
language plpgsql stable set plan_cache_mode = force_custom_plan as $$
declare
  last_total date := private.last_total_day();
begin
  return (
    with used as materialized (
      select * from private.usage_by_day
      where user_id = coalesce(person, private.all_users()) and day between first_day and last_day
      union all
      select * from private.usage_by_day
      where person is null and day between greatest(first_day, last_total + 1) and last_day
    ), sums as (                            -- sums by day and model, and by purpose
      select day, model, purpose, sum(turns) as turns,
        coalesce(sum(turns) filter (where purpose = 'reply'), 0) as replies, sum(failed) as failed,
        sum(interrupted) as interrupted, sum(tokens_in) as tokens_in, sum(tokens_cached) as tokens_cached,
        sum(tokens_out) as tokens_out, sum(cost_micro) as cost_micro
      from used group by grouping sets ((day, model), (purpose))
    ), ranked as (
      select round(1.1 ^ (bucket - 0.5)) as ms, sum(sum(first_tokens[bucket])) over (order by bucket) as up_to,
        sum(sum(first_tokens[bucket])) over () as total
      from used cross join lateral generate_subscripts(first_tokens, 1) bucket
      where purpose = 'reply' and bucket > 0
      group by bucket
      having sum(first_tokens[bucket]) > 0
    )
    select jsonb_build_object(
      'days', coalesce(jsonb_agg(to_jsonb(sums) order by day, model) filter (where purpose is null), '[]'),
      'purposes', coalesce(
        jsonb_agg(to_jsonb(sums) order by cost_micro desc, turns desc) filter (where day is null), '[]'),
      'active_users', (
        select count(distinct user_id) from private.usage_by_day   -- reads only the primary key's index
        where day between first_day and last_day and purpose = 'reply' and user_id <> private.all_users()
          and (person is null or user_id = person)
      ),
      'failed', coalesce(sum(failed) filter (where purpose = 'reply'), 0),
      'interrupted', coalesce(sum(interrupted) filter (where purpose = 'reply'), 0),
      'first_token_ms', (select min(ms) from ranked where up_to >= total * 0.5),
      'first_token_p95_ms', (select min(ms) from ranked where up_to >= total * 0.95)
    )
    from sums
  );
end $$;

-- functions: a user's own usage -------------------------------------------------------------------------

-- Return the caller's usage from *first_day* to *last_day*: the sums of `usage_of`, and sums by conversation.
-- The result is one JSON value, because the API's "max rows" limit would truncate a list of rows. The call
-- needs no proof, because it returns only the caller's figures.
--   conversations   the 499 conversations with the highest costs (among equal costs, the most tokens); null id:
--                   all deleted conversations and temporary chats; is_rest: all other conversations
create function private.my_usage(first_day date, last_day date) returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return private.usage_of(person, first_day, last_day) || jsonb_build_object('conversations', (
    with sums as (
      select conversation_id, count(*) filter (where entry.purpose = 'reply' and kind <> 'adjust') as replies,
        sum(entry.tokens_in) as tokens_in, sum(entry.tokens_cached) as tokens_cached,
        sum(entry.tokens_out) as tokens_out, sum(micro) as cost_micro,
        row_number() over (order by sum(micro) desc, sum(entry.tokens_in) desc, conversation_id) > 499 as is_rest
      from private.ledger entry left join public.turns on turns.id = turn_id
      where entry.user_id = person and day between first_day and last_day
      group by conversation_id
    ), listed as (
      select case when not is_rest then conversation_id end as conversation_id, is_rest, sum(replies) as replies,
        sum(tokens_in) as tokens_in, sum(tokens_cached) as tokens_cached, sum(tokens_out) as tokens_out,
        sum(cost_micro) as cost_micro
      from sums group by 1, is_rest
    )
    select coalesce(jsonb_agg(to_jsonb(listed) order by is_rest, cost_micro desc, tokens_in desc), '[]') from listed
  ));
end $$;

-- Return at most 500 entries of the caller's ledger, sorted by day and id: the entries of *first_day* with
-- ids above *after*, then all entries of later days. The call needs no proof, because it returns only the
-- caller's entries.
create function private.my_ledger(first_day date, last_day date, after bigint) returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(entry) || jsonb_build_object('id', id::text, 'cost_micro', micro) order by day, id), '[]')
    from (
      select * from private.ledger
      where user_id = person and (day, id) > (first_day, after) and day <= last_day order by day, id limit 500
    ) entry
  );
end $$;
