-- Steps: unfinished actions in a browser, such as a sign-in that waits for a code (services/store/steps.py),
-- which last ten minutes, and the throttles that count their tries.
--
-- All data of a step, even its user and its session, is sealed under a secret of the browser and the root key.
-- The row shows only a time and a number of tries. So the steps of a deleted account cannot be found, and
-- stay until they expire.

create table private.steps (
  key text primary key check (key ~ '^[0-9a-f]{64}$'),             -- the app's hash of the browser's secret and the step's id
  -- a tag that all steps of one kind in one browser share
  kind_tag text not null check (kind_tag ~ '^[0-9a-f]{64}$'),
  sealed public.sealed not null,
  tries integer not null default 0 check (tries >= 0),
  expires_at timestamptz not null default clock_timestamp() + interval '10 minutes'
);

create index on private.steps (kind_tag);
create index on private.steps (expires_at);

-- Count an attempt in *throttles*, as `throttle` does.
create function private.count_throttles(throttles public.free_text, nonce uuid) returns jsonb language plpgsql as $$
begin
  perform private.spend_nonce(nonce);
  return private.throttle(throttles);
end $$;

-- Count a question in *throttles*, as `throttle` does. Return the address of the open invitation with *code* (null: for anyone
-- who has the code) and that of its maker; nothing if there is no such invitation.
create function private.open_invitation(throttles public.free_text, code public.free_text, nonce uuid) returns jsonb
language plpgsql as $$
begin
  perform private.spend_nonce(nonce);
  return private.throttle(throttles) || jsonb_build_object('invitation', (
    select jsonb_build_object('email', invitation.email, 'invited_by', maker.email)
    from private.invitations invitation join auth.users maker on maker.id = made_by
    where code_hash = private.sha(code) and private.state_of(invitation) = 'open'
  ));
end $$;

-- Store a step, or replace the step with the same key. Delete the browser's other steps of this kind except
-- the three newest.
create function private.begin_step(new_key text, new_kind_tag text, new_sealed public.sealed, nonce uuid) returns jsonb
language plpgsql as $$
begin
  perform private.spend_nonce(nonce);
  -- this lock makes concurrent calls keep the limit of three other steps
  perform pg_advisory_xact_lock(hashtext('daybook: steps'), hashtext(new_kind_tag));
  delete from private.steps where key in (
    select key from private.steps where kind_tag = new_kind_tag and key <> new_key order by expires_at desc offset 3
  );
  insert into private.steps (key, kind_tag, sealed) values (new_key, new_kind_tag, new_sealed)
  on conflict (key) do update
  set kind_tag = excluded.kind_tag, sealed = excluded.sealed, tries = 0, expires_at = excluded.expires_at;
  return '{"ok": true}';
end $$;

-- Count a try of a step before the try's result is known, so that parallel guesses count as well, and return
-- the step's sealed text. The sixth try ends the step.
create function private.try_step(step_key text, nonce uuid) returns jsonb language plpgsql as $$
declare
  tried private.steps;
begin
  perform private.spend_nonce(nonce);
  update private.steps set tries = tries + 1 where key = step_key and expires_at > clock_timestamp() returning * into tried;
  if tried.tries > 5 then
    delete from private.steps where key = step_key;
    return private.answer(false);
  end if;
  return private.answer(tried.key is not null) || jsonb_build_object('sealed', tried.sealed);
end $$;

-- End a step, and return its sealed text: only one of several concurrent calls gets it. (So the call needs no nonce.)
create function private.end_step(step_key text) returns jsonb language plpgsql as $$
declare
  ended private.steps;
begin
  delete from private.steps where key = step_key and expires_at > clock_timestamp() returning * into ended;
  return private.answer(ended.key is not null) || jsonb_build_object('sealed', ended.sealed);
end $$;
