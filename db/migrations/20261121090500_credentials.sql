-- Credentials: the document that a user signs in with, sealed under the root key
-- (services/crypto/credentials.py). The app compares a password with the hash in this document.
-- Supabase Auth has another password for each user, which is sealed in the same document; so write access to
-- the tables of Supabase Auth is not enough to sign in to an account.
--
-- The app signs up users, counts attempts and opens sessions before there is an access token, through
-- *server* functions. Credentials of an account are changed only by its user, through a *user* function. Each
-- call has a nonce, so it cannot be repeated; `start_session` starts only one session for an access token.

-- tables ------------------------------------------------------------------------------------------------

create table private.credentials (
  id uuid primary key,                      -- the user's id; while the sign-up is pending, an id that no user has
  user_id uuid unique references private.roles (user_id) on delete cascade,   -- null: the sign-up is pending
  lookup text not null unique check (lookup ~ '^[0-9a-f]{64}$'),   -- the app's HMAC of the email address
  sealed public.sealed not null,
  generation integer not null check (generation > 0),   -- grows with each change of a sign-in method; also in the sealed text
  -- grows with each use of the second factor, a passkey or an identity; also in the sealed text
  uses integer not null default 0 check (uses >= 0),
  wants_factor boolean not null default false,          -- true: the account has a second factor (in the sealed text), and no session begins without it
  signed_up_at timestamptz not null default clock_timestamp(),   -- while the sign-up is pending: when it was last begun
  check (user_id is null or user_id = id)
);

-- Look-up values of data in a user's credentials: a former address that the user may take back, an identity,
-- or a passkey. A row has only the value, its user and its expiry: the app reads everything else from the sealed text.
create table private.lookups (
  lookup text primary key check (lookup ~ '^[0-9a-f]{64}$'),       -- the app's HMAC of the kind (such as a passkey) and the address or id
  user_id uuid not null references private.roles (user_id) on delete cascade,
  expires_at timestamptz default clock_timestamp() + interval '72 hours'   -- when a former address expires; null: an identity or passkey
);

create index on private.credentials (signed_up_at) where user_id is null;
create index on private.lookups (user_id);
create index on private.lookups (expires_at);

-- functions: reads --------------------------------------------------------------------------------------

create function private.credentials_of(stored private.credentials) returns jsonb language sql immutable
return case when stored.id is not null then jsonb_build_object('id', stored.id, 'user_id', stored.user_id,
  'lookup', stored.lookup, 'sealed', stored.sealed, 'generation', stored.generation, 'uses', stored.uses,
  'wants_factor', stored.wants_factor) end;

-- Return all credentials that have one of the look-up values *lookups*. For an email address, *lookups* are its HMACs under
-- each root key; the HMACs of a former address find the credentials of the user who may take it back. The HMACs of an identity
-- or a passkey find its user's credentials.
create function private.claiming_credentials(lookups text[]) returns setof private.credentials language sql stable begin atomic
  -- a union, because each of its two parts uses an index; with `or`, each attempt would read all credentials
  select * from private.credentials where id in (
    select id from private.credentials known where known.lookup = any (lookups)
    union
    select user_id from private.lookups beside
    where beside.lookup = any (lookups) and (expires_at > clock_timestamp()) is not false
  );
end;

-- Return one row of credentials that has one of the look-up values *lookups*: the row of a user or, if there is none, the row
-- of a pending sign-up. While root keys change, two sign-ups of one address may be pending, until one of them is replaced or
-- completed.
create function private.find_credentials(lookups text[]) returns private.credentials language sql stable begin atomic
  select * from private.claiming_credentials(lookups)
  order by user_id is null, array_position(lookups, lookup) limit 1;
end;

-- Return the credentials found by *lookups*, the look-up values of one address, as JSON, or null. Only the role that
-- owns the migrations calls this, for an operator.
create function private.credentials_of_lookups(lookups text[]) returns jsonb language sql stable
return private.credentials_of(private.find_credentials(lookups));

-- Return the sealed credentials of at most 500 accounts, in the order of their ids, after the id *after*
-- (null: from the first). The app counts the accounts for which no sign-in method works any more; the admin's
-- page gets only this number.
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

-- Return a list with the sealed credentials of an account, and the time at which it began (null: unknown); an empty list if there
-- is no such account. The admin's page gets this time, and of the credentials only whether the address is confirmed and which
-- second factor there is.
create function private.read_sign_in(me uuid, person uuid) returns jsonb language plpgsql stable as $$
begin
  perform private.require_admin(me);
  return (
    select coalesce(jsonb_agg(jsonb_build_object('credentials', private.credentials_of(stored), 'begun_at', (
      select min(at) from private.audit where target = person and action = 'account.begin'
    ))), '[]')
    from private.credentials stored join private.roles using (user_id)
    where user_id = person and deleted_at is null
  );
end $$;

-- functions: sign-in and sign-up ------------------------------------------------------------------------

-- Count a sign-in attempt before its result is known; return the credentials of an address, the wrapped keys
-- of its user (with which a sign-in seals the name of the device) and the state of sign-ups. The attempt
-- counts in *device_throttles* if the credentials belong to *device_user*, who has signed in on the calling
-- device before; otherwise in *throttles*, which are for unknown devices. So guesses from elsewhere do not lock
-- users out of their own devices.
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
  stored := private.find_credentials(private.listed(lookups));
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

-- Store a pending sign-up. If *seen_generation* is null, add a row unless the address has one; otherwise replace the row of the
-- address, if that row has not changed since the app read it and belongs to no user.
create function private.put_sign_up(
  row_id uuid, lookups public.free_text, new_lookup text, new_sealed public.sealed, seen_generation integer,
  nonce uuid
) returns jsonb language plpgsql as $$
declare
  seen uuid := (private.find_credentials(private.listed(lookups))).id;
begin
  perform private.spend_nonce(nonce);
  if seen_generation is null then
    insert into private.credentials (id, lookup, sealed, generation)
    select row_id, new_lookup, new_sealed, 1 where seen is null
    on conflict do nothing;
  else
    delete from private.credentials
    where lookup = any (private.listed(lookups)) and id <> row_id and row_id = seen and user_id is null;
    update private.credentials
    set sealed = new_sealed, lookup = new_lookup, generation = generation + 1, signed_up_at = clock_timestamp()
    where id = row_id and id = seen and user_id is null and generation = seen_generation;
  end if;
  return private.answer(found, 'stale');
end $$;

-- Delete the user of Supabase Auth who has *address* but no account, unless that user is *person*. Return false if another user
-- with *address* stays, for example because that user has an account or was created before the first migration.
create function private.free_auth_address(address text, person uuid default null) returns boolean language plpgsql as $$
declare
  stranger record;
begin
  for stranger in
    select id, created_at from auth.users where email = address and id is distinct from person for update
  loop
    if exists (select from private.roles where user_id = stranger.id)
      or stranger.created_at <= (select made_at from private.settings)
      or not private.delete_user(stranger.id)
    then
      return false;
    end if;
  end loop;
  return true;
end $$;

-- Delete the user of Supabase Auth with *address* whose sign-up was interrupted; refuse with "address_taken"
-- if a user with *address* cannot be deleted.
create function private.end_stranger(address public.free_text, nonce uuid) returns jsonb language plpgsql as $$
begin
  perform private.spend_nonce(nonce);
  return private.answer(private.free_auth_address(address), 'address_taken');
end $$;

-- functions: changes ------------------------------------------------------------------------------------

-- Return true if a user other than *person* has one of *ways_in*, the look-up values of identities and
-- passkeys. Lock the values, so that if two users add the same value, the second waits. The locks are taken in
-- a fixed order, to avoid deadlocks.
create function private.are_taken(person uuid, ways_in text[]) returns boolean language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('daybook: ways in'), number)
  from (select distinct hashtext(way_in) as number from unnest(ways_in) way_in order by 1) sorted;
  return exists (select from private.lookups where lookup = any (ways_in) and user_id <> person);
end $$;

-- Store *ways_in*, the look-up values of all identities and passkeys of *person*. Overwrite no stored value, and delete
-- the look-up values of the user's other identities and passkeys.
create function private.put_ways_in(person uuid, ways_in text[]) returns void language sql begin atomic
  delete from private.lookups where user_id = person and expires_at is null and lookup <> all (ways_in);
  insert into private.lookups (lookup, user_id, expires_at) select unnest(ways_in), person, null on conflict do nothing;
end;

create function private.listed(texts text) returns text[] language sql immutable
return array(select jsonb_array_elements_text(texts::jsonb));

-- Return true if the deployment requires a second factor: no session begins or stays open without one.
create function private.requires_factor() returns boolean language sql stable
return (select requires_factor from private.settings);

-- Replace the credentials of *person* if *seen_generation* and the number of uses are still current. The caller is the user or,
-- if *actor* is null, an operator. Each *action* except 'reseal' and the uses ('….use') increments the generation; each except
-- 'reseal' is audited. *ends_others*: end all sessions except the session of the calling token. *ways_in*: the look-up values
-- of all identities and passkeys after the change; null: unchanged. If the factor was used since the app read the credentials,
-- the refusal is "factor_used".
create function private.replace_credentials(
  actor uuid, person uuid, seen_generation integer, new_generation integer, new_uses integer, new_wants_factor boolean,
  action text, new_lookup text, new_sealed public.sealed, ends_others boolean, ways_in text[] default null
) returns jsonb language plpgsql as $$
declare
  stored private.credentials;
begin
  if (case
    when action in ('reseal', 'factor.use', 'recovery.use', 'passkey.use', 'identity.use')
      then new_generation = seen_generation and not ends_others
    when action in ('password.set', 'password.reset') then new_generation = seen_generation + 1 and ends_others
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
    and action not in ('password.set', 'password.reset')
  then
    raise exception 'not a change of ways in' using errcode = 'PT400';
  end if;
  -- this row is locked before all others, as in deletions of accounts, to avoid deadlocks
  perform from auth.users where id = person for key share;
  select * into stored from private.credentials where user_id = person and generation = seen_generation for update;
  if not found or exists (select from private.credentials other where other.lookup = new_lookup and other.id <> person) then
    return private.answer(false, 'stale');
  elsif stored.uses is distinct from new_uses - (action in ('factor.use', 'recovery.use', 'passkey.use', 'identity.use'))::integer then
    return private.answer(false, 'factor_used');
  elsif (case
    -- the stored value may be true already: an account may have both an authenticator app and a passkey as its factor
    when action in ('factor.add', 'passkey_factor.add') then new_wants_factor
    -- an operator may remove a factor that the account lacks now, but would get back if the user took a former address back
    when action in ('factor.remove', 'passkey_factor.remove') then stored.wants_factor or (actor is null and not new_wants_factor)
    when action in ('factor.use', 'recovery.use', 'factor.replace', 'recovery.renew') then stored.wants_factor and new_wants_factor
    when action in ('password.set', 'password.reset', 'passkey.remove') then stored.wants_factor or not new_wants_factor
    -- if the deployment requires a second factor, the passkey becomes the account's factor with its first use
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
  if action <> 'reseal' and actor is null then
    perform private.note(null, action, person);
  elsif action <> 'reseal' then
    perform private.note_own(person, action);
  end if;
  return '{"ok": true}';
end $$;

-- Check the credentials of *person* when a session or a proof begins: they must be of *seen_generation*, and
-- the second factor must have been given (*has_factor*) if the credentials want it or the deployment
-- requires it (*is_required*). *factor_action* is the reason to store new credentials in this transaction: the factor was used
-- ('factor.use'; a recovery code: 'recovery.use') or enrolled ('factor.add'), or a passkey or an identity was used
-- ('passkey.use', 'identity.use'); null: the credentials stay unchanged. The use of a passkey or an identity needs no factor
-- if the credentials want none. Return the reason of a refusal, or null.
create function private.check_factor(
  person uuid, seen_generation integer, has_factor boolean, is_required boolean, factor_action text, new_generation integer,
  new_uses integer, new_wants_factor boolean, new_lookup text, new_sealed public.sealed
) returns text language plpgsql as $$
declare
  stored private.credentials;
begin
  if factor_action is not null then
    if (case when factor_action in ('passkey.use', 'identity.use') then has_factor or not new_wants_factor
      else has_factor and factor_action in ('factor.use', 'recovery.use', 'factor.add') end) is not true
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
  -- a share lock: a concurrent change of the password waits until this session has begun, and then ends this session, too
  select * into stored from private.credentials where user_id = person and generation = seen_generation for share;
  return case
    when stored.id is null then 'stale'
    when (is_required or stored.wants_factor) and has_factor is not true then 'factor_needed'
  end;
end $$;

-- Replace the caller's credentials. Only the user can do this: the key of server proofs, which a copy of the database
-- contains, is not enough to overwrite an account secret. *renamed*: JSON that maps the user's look-up values
-- to new ones, under another root key; null: unchanged.
create function private.change_credentials(
  me uuid, seen_generation integer, new_generation integer, new_uses integer, new_wants_factor boolean, action text,
  new_lookup text, new_sealed public.sealed, ends_others boolean, renamed public.free_text,
  ways_in public.free_text, nonce uuid
) returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform private.spend_nonce(nonce);
  if action not in ('reseal', 'address.confirm') then   -- an address is confirmed by a code in this browser, not by a proof
    -- A partial proof is enough to add a passkey, a password or the first factor. It is not enough to add an authenticator app
    -- if a passkey is a factor already, because new recovery codes would replace the old ones.
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
    on conflict do nothing;   -- a stored look-up value is never overwritten
    delete from private.lookups where user_id = me and renamed::jsonb ? lookup;
    if action = 'factor.add' then            -- the factor was confirmed by a one-time code in this session
      update private.app_sessions set has_factor = true where auth_session_id = private.my_auth_session() and user_id = me;
    end if;
  end if;
  return answer;
end $$;

-- Lock *address* and the users of Supabase Auth that change when *person* gets this address.
create function private.lock_address(person uuid, address text) returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('daybook: addresses'), hashtext(address));   -- if two users take the same address at the same time, the second waits
  -- these rows are locked before all others, as in deletions of accounts, to avoid deadlocks; and in the order of ids, in
  -- case two users swap their addresses
  perform from auth.users where id = person or email = address order by id for update;
end $$;

-- Return true if an account other than that of *person* has *address* or may take it back. *claiming*: the HMACs of
-- *address* as an account's address and as a former address. Also delete a user of Supabase Auth who has *address* but no
-- account.
create function private.is_address_taken(person uuid, address text, claiming text[]) returns boolean language plpgsql as $$
begin
  return exists (select from private.claiming_credentials(claiming) other where other.user_id <> person)
    or not private.free_auth_address(address, person);
end $$;

-- Give the account of *person* another address, as `change_address` does. Only the role that owns the migrations
-- calls this, for an operator. All sessions end, and no former address can be taken back.
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

-- Change the user's address, here and at Supabase Auth, and store the next generation of the credentials, which contain the
-- address, in one transaction.
--   claims     HMACs of the address; if another account has it, or may take it back, the refusal is
--              "address_taken"
--   former     HMACs of all former addresses that the user may take back afterwards; the HMACs of the user's
--              other former addresses are deleted
--   restored   true: the address is a former address. All sessions except the calling one end. The second factor
--              may change; if the account then lacks a factor that the deployment requires, the calling session
--              ends, too.
--   ways_in    look-up values of all identities and passkeys after the change
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
    -- another user has this value only if someone with write access to the database added it in advance
    select from private.lookups where lookup = any (kept) and user_id <> me and (expires_at > clock_timestamp()) is not false
  ) then
    return private.answer(false, 'stale');
  end if;
  if (restored and new_wants_factor is not null or wanted_factor = new_wants_factor) is not true then
    raise exception 'not a change of the second factor' using errcode = 'PT400';
  end if;
  if private.is_address_taken(me, address, claiming) then
    return private.answer(false, 'address_taken');
  elsif private.are_taken(me, private.listed(ways_in)) then
    return private.answer(false, 'way_in_taken');
  end if;
  perform private.put_ways_in(me, private.listed(ways_in));
  delete from private.credentials where lookup = any (claiming) and user_id is null;
  delete from private.lookups
  where user_id = me and expires_at is not null and lookup <> all (kept) or lookup = any (kept) and expires_at <= clock_timestamp();
  insert into private.lookups (lookup, user_id) select unnest(kept), me on conflict do nothing;
  perform private.set_auth_user(me, address);
  -- if a sign-up with the address was stored meanwhile, its row has the same look-up value: the unique constraint then raises
  -- an error, which undoes all changes
  update private.credentials set generation = generation + 1, wants_factor = new_wants_factor, lookup = new_lookup,
    sealed = new_sealed
  where user_id = me;
  if restored then
    perform private.end_sessions_of(me, private.my_auth_session());
  end if;
  if restored and not new_wants_factor then   -- the account has no second factor any more
    perform private.forget_factor(me);
  end if;
  perform private.note_own(me, case when restored then 'address.restore' else 'address.change' end);
  return '{"ok": true}';
end $$;
