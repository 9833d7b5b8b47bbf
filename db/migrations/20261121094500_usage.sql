-- Usage: the ledger added up by user, day, model and purpose, and its readers.
--
-- A trigger of the ledger keeps the sums, so no reader adds up the ledger and none can differ from it. Each turn changes a
-- row of its own user alone, whose budget is locked: one row that users share would be waited for in every turn.

create table private.usage_by_day (         -- outlives the person, as the ledger does
  user_id uuid not null,
  day date not null,                        -- UTC
  model text not null,
  purpose text not null,
  turns integer not null default 0,
  failed integer not null default 0,
  interrupted integer not null default 0,   -- lapsed, and not finished late
  tokens_in bigint not null default 0,
  tokens_cached bigint not null default 0,  -- of tokens_in
  tokens_out bigint not null default 0,
  cost_micro bigint not null default 0,
  first_tokens integer[] not null,          -- finished turns by `bucket_of` the time to the first token
  primary key (user_id, day, model, purpose)
) with (fillfactor = 50);

create index on private.usage_by_day (day);

-- The bucket of a time to the first token. Each is 1.1 times as long as the one before, so the middle of a bucket,
-- 1.1 ^ (bucket - 0.5) ms, is within 5 % of every time in it.
create function private.bucket_of(ms integer) returns integer language sql immutable
return case when ms is null then 0 else 1 + floor(ln(greatest(ms, 1)) / ln(1.1))::integer end;

create function private.add_up() returns trigger language plpgsql as $$
declare
  bucket integer := private.bucket_of(new.first_token_ms);
  is_first integer := (new.kind <> 'adjust')::integer;
  is_timed integer := (new.kind <> 'lapsed')::integer;   -- one that is finished late is timed then
begin
  insert into private.usage_by_day as known
  values (new.user_id, new.day, new.model, new.purpose, is_first, (new.outcome = 'failed')::integer,
    case new.kind when 'lapsed' then 1 when 'adjust' then -1 else 0 end,
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
  if new.day < (clock_timestamp() at time zone 'utc')::date - 1 then
    perform pg_advisory_xact_lock_shared(hashtext('daybook: usage of all'));
    delete from private.usage_of_all where day = new.day;
  end if;
  return null;
end $$;

create trigger the_ledger_is_added_up after insert on private.ledger
  for each row execute function private.add_up();

-- The sums of everybody for days that are over: a reader of 90 days would add up half a million rows. The sweep makes them,
-- three days late, when every call that settles in such a day knows that it is late; it unmakes them, under the same lock.
create table private.usage_of_all (
  day date not null,
  model text not null,
  purpose text not null,
  turns bigint not null,
  failed bigint not null,
  interrupted bigint not null,
  tokens_in numeric not null,
  tokens_cached numeric not null,
  tokens_out numeric not null,
  cost_micro numeric not null,
  first_tokens jsonb not null,              -- by bucket
  primary key (day, model, purpose)
);

-- Make the sums of one day; the sweep calls it again and again.
create function private.add_up_day() returns void language plpgsql as $$
declare
  newest date := (clock_timestamp() at time zone 'utc')::date - 3;
  due date;
begin
  if not pg_try_advisory_xact_lock(hashtext('daybook: usage of all')) then
    return;
  end if;
  select each into due from generate_series(newest, newest - 366, -interval '1 day') each
  where exists (select from private.usage_by_day where day = each::date)
    and not exists (select from private.usage_of_all where day = each::date)
  limit 1;
  insert into private.usage_of_all
  select due, model, purpose, sum(turns), sum(failed), sum(interrupted), sum(tokens_in), sum(tokens_cached),
    sum(tokens_out), sum(cost_micro), (
      select coalesce(jsonb_object_agg(bucket, counted), '{}')
      from (
        select bucket, sum(timed.first_tokens[bucket]) as counted
        from private.usage_by_day timed cross join lateral generate_subscripts(timed.first_tokens, 1) bucket
        where timed.day = due and timed.model = used.model and timed.purpose = used.purpose
          and timed.first_tokens[bucket] > 0
        group by bucket
      ) counts)
  from private.usage_by_day used
  where day = due
  group by model, purpose;
end $$;

-- functions: a user's own usage -------------------------------------------------------------------------

-- Raise unless the days are at most a year.
create function private.check_days(first_day date, last_day date) returns void language plpgsql immutable as $$
begin
  if (last_day - first_day between 0 and 366) is not true then
    raise exception 'days out of range' using errcode = 'PT400';
  end if;
end $$;

-- A user's own usage from *first_day* to *last_day*, added up by day and model, by purpose, and by conversation: one answer,
-- which no "max rows" cuts. Turns are messages, but by purpose, where they are calls. No proof: it returns only the
-- caller's figures.
--   conversations   the 500 with the highest costs, then with the most tokens; null: deleted, or a temporary chat
create function private.my_usage(first_day date, last_day date) returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  perform private.check_days(first_day, last_day);
  return jsonb_build_object('days', (
    select coalesce(jsonb_agg(to_jsonb(sums) order by day, model), '[]')
    from (
      select day, model, coalesce(sum(turns) filter (where purpose = 'reply'), 0) as turns, sum(tokens_in) as tokens_in,
        sum(tokens_cached) as tokens_cached, sum(tokens_out) as tokens_out, sum(cost_micro) as cost_micro
      from private.usage_by_day
      where user_id = person and day between first_day and last_day
      group by day, model
    ) sums
  ), 'purposes', (
    select coalesce(jsonb_agg(to_jsonb(sums) order by cost_micro desc, turns desc), '[]')
    from (
      select purpose, sum(turns) as turns, sum(tokens_in) as tokens_in, sum(tokens_cached) as tokens_cached,
        sum(tokens_out) as tokens_out, sum(cost_micro) as cost_micro
      from private.usage_by_day
      where user_id = person and day between first_day and last_day
      group by purpose
    ) sums
  ), 'conversations', (
    select coalesce(jsonb_agg(to_jsonb(sums)), '[]')
    from (
      select conversation_id, count(*) filter (where entry.purpose = 'reply' and kind <> 'adjust') as turns,
        sum(entry.tokens_in) as tokens_in, sum(entry.tokens_cached) as tokens_cached,
        sum(entry.tokens_out) as tokens_out, sum(micro) as cost_micro
      from private.ledger entry left join public.turns on turns.id = turn_id
      where entry.user_id = person and day between first_day and last_day
      group by conversation_id
      order by cost_micro desc, tokens_in desc, conversation_id
      limit 500
    ) sums
  ));
end $$;

-- The entries of a user's own ledger, 500 at a time, whose ids come *after* one. No proof, as above.
create function private.my_ledger(first_day date, last_day date, after bigint) returns table (
  id bigint, at timestamptz, day date, kind text, outcome text, purpose text, model text, tokens_in integer,
  tokens_cached integer, tokens_out integer, cost_micro bigint
) language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  perform private.check_days(first_day, last_day);
  return query
    select entry.id, entry.at, entry.day, entry.kind, entry.outcome, entry.purpose, entry.model, entry.tokens_in,
      entry.tokens_cached, entry.tokens_out, entry.micro
    from private.ledger entry
    where entry.user_id = person and entry.day between first_day and last_day and entry.id > after
    order by entry.id
    limit 500;
end $$;
