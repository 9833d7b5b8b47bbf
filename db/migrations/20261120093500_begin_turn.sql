-- No turn begins in a conversation that is discarded: its prompt would go with it. One that is open may end there, for
-- it may be brought back. And the bounds on haste are for what people ask, not for what the app asks by itself.

-- Store the prompt and reserve what its reply may cost, both or neither.
--   expected_rev    the conversation's revision that the plan and the new head were made from
--   prompt_body     null: reply once more to the message `prompt`
--   new_start_seq   where the planned view begins; null: unchanged. It never goes back: only a new policy does that
--   conversation    null: a temporary chat, which leaves nothing but the ledger
--   prompt_micro + reply_micro is reserved if the caps allow it; else the reply is cut down to what they do allow
--   (`reserved` says so), and refused when not even prompt_micro + least_reply_micro is there.
-- What the app does by itself (titles, summaries) is held by the caps alone, not by the bounds on haste.
-- "stale" also says that the context was started anew after the plan was made.
-- Refusals are returned: a raise would undo the windows opened and the lapsed turns settled on the way.
create or replace function private.begin_turn(
  client_turn uuid, conversation uuid, expected_rev bigint,
  prompt uuid, parent uuid, prompt_body public.sealed, body_key_version integer, new_head public.sealed_head,
  new_start_seq integer, receipt_body public.sealed, new_purpose text, model_name text,
  prompt_micro bigint, reply_micro bigint, least_reply_micro bigint, lease_seconds integer, proof text
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  person uuid := private.require_me();
  request bytea;
  is_reply boolean := new_purpose = 'reply' and conversation is not null;
  budget private.budgets;
  thread public.conversations;
  turn public.turns;
  room_today bigint;
  room_this_month bigint;
  room_of_deployment bigint;
  granted bigint;
  refusal text;
begin
  request := sha256(convert_to(private.require_proof(proof, 'begin_turn', person::text, client_turn::text,
    conversation::text, expected_rev::text, prompt::text, parent::text, private.sha(prompt_body),
    body_key_version::text, private.sha(new_head), new_start_seq::text, private.sha(receipt_body), new_purpose,
    private.sha(model_name), prompt_micro::text, reply_micro::text, least_reply_micro::text, lease_seconds::text), 'UTF8'));
  if (prompt_micro between 0 and 1e12 and reply_micro between 0 and 1e12 and least_reply_micro between 0 and reply_micro
      and lease_seconds between 1 and 3600) is not true then
    raise exception 'amounts out of range' using errcode = 'PT400';
  end if;

  budget := private.lock_budget(person);

  select * into turn from public.turns where user_id = person and client_turn_id = client_turn;
  if found then
    if turn.request_hash <> request then
      return '{"ok": false, "reason": "different_request"}';
    end if;
    return jsonb_build_object('ok', true, 'replay', true, 'turn', turn.id, 'state', turn.state,
      'reserved', turn.reserved_micro);
  end if;

  budget := private.borrow(budget, prompt_micro + reply_micro);

  if conversation is not null then
    select * into thread from public.conversations
    where id = conversation and user_id = person and destroy_at is null for no key update;
    if not found then
      return '{"ok": false, "reason": "not_found"}';
    end if;
  end if;

  for turn in
    select * from public.turns
    where user_id = person and state in ('reserved', 'streaming') and lease_until < clock_timestamp()
    order by id for update
  loop
    perform private.lapse_turn(turn);
  end loop;
  if found then
    select * into budget from private.budgets where user_id = person;
  end if;

  room_today := budget.daily_cap_micro - budget.day_spent - budget.reserved;
  room_this_month := budget.monthly_cap_micro - budget.month_spent - budget.reserved;
  room_of_deployment := budget.loan - budget.month_spent - budget.reserved;
  granted := least(prompt_micro + reply_micro, room_today, room_this_month, room_of_deployment);

  refusal := case
    when is_reply and exists (
      select from public.turns
      where conversation_id = conversation and purpose = 'reply' and state in ('reserved', 'streaming')
    ) then 'busy'
    when is_reply and thread.rev is distinct from expected_rev then 'stale'
    when is_reply and new_start_seq not between thread.reset_seq and thread.last_seq then 'stale'
    when is_reply and prompt_body is null and not exists (
      select from public.messages where id = prompt and conversation_id = conversation and role = 'user'
    ) then 'not_found'
    when new_purpose = 'reply' and (
      select count(*) from public.turns
      where user_id = person and purpose = 'reply' and state in ('reserved', 'streaming')
    ) >= budget.max_open then 'too_many_open'
    when new_purpose = 'reply' and budget.minute_turns >= budget.max_per_minute then 'too_fast'
    when granted >= prompt_micro + least_reply_micro then null
    when granted = room_of_deployment then 'deployment_cap'
    when granted = room_this_month then 'monthly_cap'
    else 'daily_cap'
  end;
  if refusal is not null then
    return jsonb_build_object('ok', false, 'reason', refusal, 'rev', thread.rev,
      'room', greatest(0, least(room_today, room_this_month)));
  end if;

  update private.budgets
  set reserved = reserved + granted, minute_turns = minute_turns + (new_purpose = 'reply')::integer,
    last_active_at = clock_timestamp()
  where user_id = person;
  insert into public.turns
    (user_id, conversation_id, client_turn_id, request_hash, purpose, model, reserved_micro, prompt_id, lease_until)
  values (person, conversation, client_turn, request, new_purpose, model_name, granted, prompt,
    clock_timestamp() + make_interval(secs => lease_seconds))
  returning * into turn;

  if is_reply and prompt_body is not null then
    insert into public.messages (id, conversation_id, user_id, turn_id, seq, parent_id, role, key_version, body)
    values (prompt, conversation, person, turn.id, thread.last_seq + 1, parent, 'user', body_key_version, prompt_body);
    update public.conversations
    set rev = rev + 1, last_seq = last_seq + 1, message_count = message_count + 1, head = new_head,
      start_seq = greatest(start_seq, new_start_seq), updated_at = clock_timestamp()
    where id = conversation
    returning * into thread;
  elsif is_reply and new_start_seq > thread.start_seq then
    update public.conversations set start_seq = new_start_seq where id = conversation;
  end if;
  if conversation is not null and receipt_body is not null then
    insert into public.receipts (turn_id, conversation_id, user_id, body)
    values (turn.id, conversation, person, receipt_body);
  end if;
  return jsonb_build_object('ok', true, 'replay', false, 'turn', turn.id, 'state', turn.state,
    'reserved', granted, 'rev', thread.rev, 'seq', thread.last_seq);
end $$;
