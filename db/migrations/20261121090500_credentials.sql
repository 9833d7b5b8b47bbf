-- Credentials: what opens an account, sealed under the root key (services/crypto/credentials.py). The app compares a password with
-- the hash inside of the seal. Supabase Auth has another password of each user, which is sealed beside it: who can
-- write to the tables of Supabase Auth signs in to no account.
--
-- The app signs up, counts attempts and opens sessions before there is an access token: by *server* functions. Only the user
-- changes credentials that are set, by a *user* function. Each has a nonce, so no call is repeated; of an access token
-- `start_session` starts one session.

-- tables ------------------------------------------------------------------------------------------------

create table private.credentials (
  id uuid primary key,                      -- the user's id; an id of its own while the sign-up is pending
  user_id uuid unique references private.roles (user_id) on delete cascade,   -- null: the sign-up is pending
  lookup text not null unique check (lookup ~ '^[0-9a-f]{64}$'),   -- the app's HMAC of the address
  sealed public.sealed not null,
  generation integer not null check (generation > 0),   -- grows with each change of a way in; also inside of the seal
  uses integer not null default 0 check (uses >= 0),    -- grows with each use of the second factor; also inside of the seal
  wants_factor boolean not null default false,          -- no session begins without the factor, which is inside of the seal
  signed_up_at timestamptz not null default clock_timestamp(),   -- of a pending sign-up: the last one of its address
  check (user_id is null or user_id = id)
);

-- Look-ups of what lies in the credentials of a user: an address that may be taken back, an identity, a passkey. They say nothing
-- more: the app looks into the seal.
create table private.lookups (
  lookup text primary key check (lookup ~ '^[0-9a-f]{64}$'),       -- the app's HMAC of it, with its kind
  user_id uuid not null references private.roles (user_id) on delete cascade,
  expires_at timestamptz default clock_timestamp() + interval '72 hours'   -- of a former address; null: of a way in
);

create index on private.credentials (signed_up_at) where user_id is null;
create index on private.lookups (user_id);
create index on private.lookups (expires_at);

-- functions: reads --------------------------------------------------------------------------------------

create function private.credentials_of(stored private.credentials) returns jsonb language sql immutable
return case when stored.id is not null then jsonb_build_object('id', stored.id, 'user_id', stored.user_id,
  'lookup', stored.lookup, 'sealed', stored.sealed, 'generation', stored.generation, 'uses', stored.uses,
  'wants_factor', stored.wants_factor) end;

-- Return all credentials of an address, whose *lookups* are its HMACs under each root key; also of the user who may take it
-- back, where its HMACs as a former address are among them. Those of an identity or a passkey return the credentials of its user.
create function private.claiming_credentials(lookups text[]) returns setof private.credentials language sql stable begin atomic
  select * from private.credentials
  where lookup = any (lookups) or user_id in (
    select user_id from private.lookups beside
    where beside.lookup = any (lookups) and (expires_at > clock_timestamp()) is not false
  );
end;

-- Return the credentials of an address. While root keys change, two sign-ups of one address may be pending, until one of them
-- is replaced or completed.
create function private.find_credentials(lookups text[]) returns private.credentials language sql stable begin atomic
  select * from private.claiming_credentials(lookups)
  order by user_id is null, array_position(lookups, lookup) limit 1;
end;

-- Return the credentials of an address, or null, for an operator: only the owner of the migrations calls it.
create function private.credentials_of_lookups(lookups text[]) returns jsonb language sql stable
return private.credentials_of(private.find_credentials(lookups));

-- Return the sealed credentials of 500 accounts at most, those after *after* by their ids (null: the first): the app counts those
-- that nothing lets in any more. The page of the admin gets the number alone.
create function private.list_credentials(me uuid, after uuid, at_most integer) returns jsonb language plpgsql stable as $$
begin
  perform private.require_admin(me);
  return (
    select coalesce(jsonb_agg(private.credentials_of(listed) order by id), '[]') from (
      select credentials.* from private.credentials join private.roles using (user_id)
      where deleted_at is null and (after is null or id > after) order by id limit least(at_most, 500)
    ) listed
  );
end $$;

-- functions: sign-in and sign-up ------------------------------------------------------------------------

-- Return the credentials of an address, the wrapped keys of its user (by which a sign-in seals the name of its device) and
-- the state of sign-ups, and count an attempt before its result is known, in the
-- *throttles* of strangers; or in *device_throttles*, if *device_user*, who has signed in on the calling device, is the
-- credentials' user: guesses from elsewhere do not lock users out of their own devices.
create function private.count_attempt(
  lookups public.free_text, throttles public.free_text, device_user uuid, device_throttles public.free_text,
  invitation public.free_text, address public.free_text, nonce uuid
) returns jsonb language plpgsql as $$
declare
  stored private.credentials;
  is_known boolean;
  counted jsonb;
begin
  perform private.spend_nonce(nonce);
  stored := private.find_credentials(array(select jsonb_array_elements_text(lookups::jsonb)));
  is_known := coalesce(stored.user_id = device_user, false);
  counted := private.throttle(case when is_known then device_throttles else throttles end);
  if counted ->> 'reason' is null then
    counted := private.sign_ups() || jsonb_build_object('credentials', private.credentials_of(stored),
      'keys', private.wrapped_keys(stored.user_id),
      'is_suspended', exists (select from private.roles where user_id = stored.user_id and suspended_at is not null),
      'is_invited', exists (select from private.find_invitation(invitation, address)));
  end if;
  return counted || jsonb_build_object('is_known', is_known);
end $$;

-- Store a pending sign-up: a new row (*seen_generation* null), unless its address has one; or in place of the address's row
-- that the app has seen, never of one that belongs to a user.
create function private.put_sign_up(
  row_id uuid, lookups public.free_text, new_lookup text, new_sealed public.sealed, seen_generation integer,
  nonce uuid
) returns jsonb language plpgsql as $$
declare
  seen uuid := (private.find_credentials(array(select jsonb_array_elements_text(lookups::jsonb)))).id;
begin
  perform private.spend_nonce(nonce);
  if seen_generation is null then
    insert into private.credentials (id, lookup, sealed, generation)
    select row_id, new_lookup, new_sealed, 1 where seen is null
    on conflict do nothing;
  else
    delete from private.credentials
    where lookup in (select jsonb_array_elements_text(lookups::jsonb)) and id <> row_id and row_id = seen and user_id is null;
    update private.credentials
    set sealed = new_sealed, lookup = new_lookup, generation = generation + 1, signed_up_at = clock_timestamp()
    where id = row_id and id = seen and user_id is null and generation = seen_generation;
  end if;
  return private.answer(found, 'stale');
end $$;

-- Delete the user of Supabase Auth with *address* who has no account, unless it is *person*. Return false if there is one
-- with an account, or from before Daybook, who is never deleted.
create function private.free_auth_address(address text, person uuid default null) returns boolean language plpgsql as $$
declare
  stranger record;
begin
  for stranger in
    select id, created_at from auth.users where email = address and id is distinct from person for update
  loop
    if exists (select from private.roles where user_id = stranger.id)
      or stranger.created_at <= (select min(applied_at) from private.migrations)
      or not private.delete_user(stranger.id)
    then
      return false;
    end if;
  end loop;
  return true;
end $$;

-- Delete the user of Supabase Auth with *address*, whose sign-up was cut short; or answer "address_taken".
create function private.end_stranger(address public.free_text, nonce uuid) returns jsonb language plpgsql as $$
begin
  perform private.spend_nonce(nonce);
  return private.answer(private.free_auth_address(address), 'address_taken');
end $$;

-- functions: changes ------------------------------------------------------------------------------------

-- Return true if another user than *person* has one of *ways_in*, look-ups of identities and passkeys. They are locked, in one order:
-- of two who add one, the second waits.
create function private.are_taken(person uuid, ways_in text[]) returns boolean language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('daybook: ways in'), number)
  from (select distinct hashtext(way_in) as number from unnest(ways_in) way_in order by 1) sorted;
  return exists (select from private.lookups where lookup = any (ways_in) and user_id <> person);
end $$;

-- Store *ways_in*, the look-ups of all identities and passkeys of *person*; none is overwritten, and others of the user go.
create function private.put_ways_in(person uuid, ways_in text[]) returns void language sql begin atomic
  delete from private.lookups where user_id = person and expires_at is null and lookup <> all (ways_in);
  insert into private.lookups (lookup, user_id, expires_at) select unnest(ways_in), person, null on conflict do nothing;
end;

create function private.listed(texts text) returns text[] language sql immutable
return array(select jsonb_array_elements_text(texts::jsonb));

-- Return true if the deployment requires a second factor: no session begins without one, and none without one is open.
create function private.requires_factor() returns boolean language sql stable
return (select requires_factor from private.settings);

-- Replace the credentials of *person* where *seen_generation* and the number of uses still hold, for the user or an operator
-- (*actor* null). Each *action* but 'reseal' and the uses ('….use') has the next generation, and each but 'reseal' is audited;
-- *ends_others*: it ends all sessions but that of the calling token. *ways_in*: the look-ups of all identities and passkeys afterwards,
-- where they change; null: they stay. A factor that was used meanwhile is "factor_used".
create function private.replace_credentials(
  actor uuid, person uuid, seen_generation integer, new_generation integer, new_uses integer, new_wants_factor boolean,
  action text, new_lookup text, new_sealed public.sealed, ends_others boolean, ways_in text[] default null
) returns jsonb language plpgsql as $$
declare
  stored private.credentials;
begin
  if (case
    when action in ('reseal', 'factor.use', 'passkey.use', 'identity.use') then new_generation = seen_generation and not ends_others
    when action = 'password.set' then new_generation = seen_generation + 1 and ends_others
    when action in ('address.confirm', 'password.add') then new_generation = seen_generation + 1 and not ends_others
    when action in ('address.free', 'address.set', 'identity.move')
      then new_generation = seen_generation + 1 and ends_others and actor is null
    when action in ('factor.add', 'factor.remove', 'factor.replace', 'recovery.renew',
        'identity.add', 'identity.remove', 'passkey.add', 'passkey.remove', 'passkey_factor.add', 'passkey_factor.remove')
      then new_generation = seen_generation + 1 and ends_others is not null
  end) is not true then
    raise exception 'not a change of credentials' using errcode = 'PT400';
  elsif (ways_in is not null)
      <> (action in ('identity.add', 'identity.remove', 'identity.move', 'passkey.add', 'passkey.remove'))
    and action <> 'password.set'
  then
    raise exception 'not a change of ways in' using errcode = 'PT400';
  end if;
  perform from auth.users where id = person for key share;   -- locked first, as wherever an account's row is deleted
  select * into stored from private.credentials where user_id = person and generation = seen_generation for update;
  if not found or exists (select from private.credentials other where other.lookup = new_lookup and other.id <> person) then
    return private.answer(false, 'stale');
  elsif stored.uses is distinct from new_uses - (action in ('factor.use', 'passkey.use', 'identity.use'))::integer then
    return private.answer(false, 'factor_used');
  elsif (case
    -- beside the app, a passkey may be asked for, and the other way round
    when action in ('factor.add', 'passkey_factor.add') then new_wants_factor
    when action in ('factor.remove', 'passkey_factor.remove') then stored.wants_factor
    when action in ('factor.use', 'factor.replace', 'recovery.renew') then stored.wants_factor and new_wants_factor
    when action in ('password.set', 'passkey.remove') then stored.wants_factor or not new_wants_factor
    -- where the deployment requires a factor, a passkey is asked for from its first use on
    when action = 'passkey.use' then new_wants_factor or not stored.wants_factor
    else stored.wants_factor = new_wants_factor
  end) is not true then
    raise exception 'not a change of the second factor' using errcode = 'PT400';
  elsif actor is not null and stored.wants_factor and not new_wants_factor and private.requires_factor() then
    return private.answer(false, 'factor_required');
  elsif action in ('identity.add', 'identity.move', 'passkey.add') and private.are_taken(person, ways_in) then
    return private.answer(false, 'way_in_taken');
  end if;
  if ways_in is not null then
    perform private.put_ways_in(person, ways_in);
  end if;
  update private.credentials set generation = new_generation, uses = new_uses, wants_factor = new_wants_factor,
    lookup = new_lookup, sealed = new_sealed
  where user_id = person;
  if ends_others then
    perform private.end_sessions_of(person, private.my_auth_session());
  end if;
  if stored.wants_factor and not new_wants_factor then
    perform private.forget_factor(person);
  end if;
  if action <> 'reseal' then
    perform private.note(actor, action, person);
  end if;
  return '{"ok": true}';
end $$;

-- For a session or a proof that begins: check that the credentials of *person* are of *seen_generation*, and that the second
-- factor was given (*has_factor*) if they want one, or the deployment does (*is_required*). *factor_action* stores the credentials
-- after its use ('factor.use'), that of a passkey or an identity ('passkey.use', 'identity.use') or its enrolment ('factor.add') in the
-- same transaction; null: they stay. Of a passkey or an identity alone *has_factor* may be false. Return the reason of a refusal, or null.
create function private.check_factor(
  person uuid, seen_generation integer, has_factor boolean, is_required boolean, factor_action text, new_generation integer,
  new_uses integer, new_wants_factor boolean, new_lookup text, new_sealed public.sealed
) returns text language plpgsql as $$
declare
  stored private.credentials;
begin
  if factor_action is not null then
    if (case when factor_action in ('passkey.use', 'identity.use') then has_factor or not new_wants_factor
      else has_factor and factor_action in ('factor.use', 'factor.add') end) is not true
    then
      raise exception 'not a use of the second factor' using errcode = 'PT400';
    elsif has_factor is not true and is_required then
      return 'factor_needed';
    elsif factor_action = 'factor.add' and exists (
      select from private.credentials
      where user_id = person and generation = seen_generation and uses = new_uses and wants_factor
    ) then
      raise exception 'another second factor stands, and was not given' using errcode = 'PT400';
    end if;
    return private.replace_credentials(person, person, seen_generation, new_generation, new_uses, new_wants_factor,
      factor_action, new_lookup, new_sealed, false) ->> 'reason';
  end if;
  -- shared, so that a new password waits for this session, and ends it
  select * into stored from private.credentials where user_id = person and generation = seen_generation for share;
  return case
    when stored.id is null then 'stale'
    when (is_required or stored.wants_factor) and has_factor is not true then 'factor_needed'
  end;
end $$;

-- By the user alone: what stands in a copy of the database (the server key) is not enough to overwrite an account secret.
-- *renamed*: new look-ups of the user by those so far, under another root key; null: they stay.
create function private.change_credentials(
  me uuid, seen_generation integer, new_generation integer, new_uses integer, new_wants_factor boolean, action text,
  new_lookup text, new_sealed public.sealed, ends_others boolean, renamed public.free_text,
  ways_in public.free_text, nonce uuid
) returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform private.spend_nonce(nonce);
  if action not in ('reseal', 'address.confirm') then   -- a code in the session's browser confirms an address
    -- beside a passkey that is asked for, an app replaces recovery codes, which a proof in part is not enough for
    perform private.require_recent(ends_others is false and (action in ('passkey.add', 'password.add')
      or action = 'factor.add' and exists (select from private.credentials where user_id = me and not wants_factor)));
  end if;
  if renamed is not null and ways_in is not null then
    raise exception 'look-ups that change and are renamed' using errcode = 'PT400';
  end if;
  answer := private.replace_credentials(me, me, seen_generation, new_generation, new_uses, new_wants_factor, action,
    new_lookup, new_sealed, ends_others, case when ways_in is not null then private.listed(ways_in) end);
  if (answer -> 'ok')::boolean then
    insert into private.lookups (lookup, user_id, expires_at)
    select renamed::jsonb ->> lookup, me, expires_at from private.lookups where user_id = me and renamed::jsonb ? lookup
    on conflict do nothing;   -- a look-up is never overwritten
    delete from private.lookups where user_id = me and renamed::jsonb ? lookup;
    if action = 'factor.add' then            -- it was confirmed by a code in this session
      update private.app_sessions set has_factor = true where auth_session_id = private.my_auth_session() and user_id = me;
    end if;
  end if;
  return answer;
end $$;

-- Lock what changes with the address of *person*, who gets another one.
create function private.lock_address(person uuid, address text) returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('daybook: addresses'), hashtext(address));   -- of two who take it, one waits
  -- locked first, as wherever an account's row is deleted; in one order, for two who take each other's address
  perform from auth.users where id = person or email = address order by id for update;
end $$;

-- Return true if another account than that of *person* has *address*, or may take it back: *claiming* are the HMACs of both. A user
-- of Supabase Auth at the address who has no account goes.
create function private.is_address_taken(person uuid, address text, claiming text[]) returns boolean language plpgsql as $$
begin
  return exists (select from private.claiming_credentials(claiming) other where other.user_id <> person)
    or not private.free_auth_address(address, person);
end $$;

-- Give the account of *person* another address, as `change_address` does, for an operator: only the owner of the migrations calls it.
-- All sessions end, and no earlier address is taken back.
create function private.set_address(
  person uuid, seen_generation integer, new_generation integer, new_uses integer, new_wants_factor boolean, address text,
  claiming text[], new_lookup text, new_sealed public.sealed
) returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform private.lock_address(person, address);
  if private.is_address_taken(person, address, claiming) then
    return private.answer(false, 'address_taken');
  end if;
  delete from private.credentials where lookup = any (claiming) and user_id is null;
  answer := private.replace_credentials(null, person, seen_generation, new_generation, new_uses, new_wants_factor,
    'address.set', new_lookup, new_sealed, true);
  if (answer -> 'ok')::boolean then
    delete from private.lookups where user_id = person and expires_at is not null;
    perform private.set_auth_user(person, address);
  end if;
  return answer;
end $$;

-- Give the user another address, at Supabase Auth, too, and the credentials of the next generation, which name it: all or
-- nothing. *claims* are the HMACs of the address, by which another account has it, or may take it back: "address_taken". Of
-- *former*, the HMACs of addresses that the user may take back, those are stored that are not; others of the user go. A
-- former address that is taken back (*restored*) ends all sessions but the calling one, and may bring a second factor or
-- the lack of one, which ends the calling session, too, where one is required; and identities and passkeys, whose look-ups are *ways_in*;
-- null: they stay.
create function private.change_address(
  me uuid, seen_generation integer, new_uses integer, new_wants_factor boolean, address public.free_text,
  claims public.free_text, new_lookup text, new_sealed public.sealed, former public.free_text,
  ways_in public.free_text, restored boolean, nonce uuid
) returns jsonb language plpgsql as $$
declare
  wanted_factor boolean;
  claiming text[] := private.listed(claims);
  kept text[] := private.listed(former);
begin
  perform private.spend_nonce(nonce);
  perform private.require_recent();
  if not private.is_address(address) then
    return private.answer(false, 'bad_address');
  end if;
  perform private.lock_address(me, address);
  select wants_factor into wanted_factor from private.credentials
  where user_id = me and generation = seen_generation and uses = new_uses for update;
  if not found or exists (
    -- made in advance by who can write to the database
    select from private.lookups where lookup = any (kept) and user_id <> me and (expires_at > clock_timestamp()) is not false
  ) then
    return private.answer(false, 'stale');
  end if;
  if (restored and new_wants_factor is not null or wanted_factor = new_wants_factor) is not true then
    raise exception 'not a change of the second factor' using errcode = 'PT400';
  end if;
  if private.is_address_taken(me, address, claiming) then
    return private.answer(false, 'address_taken');
  elsif ways_in is not null and private.are_taken(me, private.listed(ways_in)) then
    return private.answer(false, 'way_in_taken');
  end if;
  if ways_in is not null then
    perform private.put_ways_in(me, private.listed(ways_in));
  end if;
  delete from private.credentials where lookup = any (claiming) and user_id is null;
  delete from private.lookups
  where user_id = me and expires_at is not null and lookup <> all (kept) or lookup = any (kept) and expires_at <= clock_timestamp();
  insert into private.lookups (lookup, user_id) select unnest(kept), me on conflict do nothing;
  perform private.set_auth_user(me, address);
  -- a sign-up of the address that is stored meanwhile has the look-up: then all of this is undone
  update private.credentials set generation = generation + 1, wants_factor = new_wants_factor, lookup = new_lookup,
    sealed = new_sealed
  where user_id = me;
  if restored then
    perform private.end_sessions_of(me, private.my_auth_session());
  end if;
  if restored and not new_wants_factor then   -- the session began with what stood so far
    perform private.forget_factor(me);
  end if;
  perform private.note(me, case when restored then 'address.restore' else 'address.change' end, me);
  return '{"ok": true}';
end $$;
