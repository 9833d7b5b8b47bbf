-- Whoever holds what others may be waiting for waits for nobody's budget. `skip locked` was not enough for that: two
-- deadlocks in 95,000 turns of a storm. So it already stands in 20261120091000_turns.sql, which has landed in two texts
-- (services/store/migrations.py): this brings a database that had the first of them to the same.

-- Lock a budget unless somebody is using it: for whoever holds already what its user may be waiting for. `skip
-- locked` alone is not enough: where the row was rewritten this very moment, Postgres waits for who locked it next
-- (heap_lock_updated_tuple).
create or replace function private.lock_if_free(person uuid) returns boolean
language plpgsql security definer set search_path = '' set lock_timeout = '20ms'
as $$
begin
  perform from private.budgets where user_id = person for no key update skip locked;
  return found;
exception when lock_not_available then
  return false;
end $$;

-- Give back what people hold and have no use for just now. The deployment is locked; a budget that somebody is
-- using is left alone rather than waited for.
create or replace function private.recall_loans(but_not_of uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  holder uuid;
  spare bigint;
begin
  for holder in
    select user_id from private.budgets
    where loan > month_spent + reserved and user_id is distinct from but_not_of
      and month = (select deployment.month from private.deployment)
  loop
    continue when not private.lock_if_free(holder);
    select loan - month_spent - reserved into spare from private.budgets where user_id = holder;
    update private.budgets set loan = loan - spare where user_id = holder;
    update private.deployment set lent = lent - spare;
  end loop;
end $$;

-- Settle the turns whose lease ran out. Any number of app processes may call it at any time.
create or replace function private.sweep_turns(at_most integer, made_at bigint, proof text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid;
  turn public.turns;
  swept integer := 0;
begin
  perform private.require_server_proof(proof, made_at, 'sweep_turns', at_most::text);
  if exists (
    select from public.turns where state in ('reserved', 'streaming') and lease_until < clock_timestamp()
  ) then                                   -- else, which is nearly always, no lock is taken
    for person in
      select distinct user_id from public.turns
      where state in ('reserved', 'streaming') and lease_until < clock_timestamp()
      order by user_id limit at_most
    loop
      -- It holds several budgets, so it waits for none: a person at work settles their own lapsed turns.
      continue when not private.lock_if_free(person);
      perform private.lock_budget(person);
      for turn in
        select * from public.turns
        where user_id = person and state in ('reserved', 'streaming') and lease_until < clock_timestamp()
        order by id for update skip locked -- locked: its finish or its heartbeat is on the way
      loop
        perform private.lapse_turn(turn);
        swept := swept + 1;
      end loop;
    end loop;
  end if;
  perform private.tidy();                  -- last: it locks conversations, which come after money
  return jsonb_build_object('ok', true, 'swept', swept);
end $$;
