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
  signed_up_at timestamptz not null default clock_timestamp(),   -- of a pending sign-up: the last one of its address
  check (user_id is null or user_id = id)
);

create index on private.credentials (signed_up_at) where user_id is null;

-- functions: reads --------------------------------------------------------------------------------------

create function private.credentials_of(stored private.credentials) returns jsonb language sql immutable
return case when stored.id is not null then jsonb_build_object('id', stored.id, 'user_id', stored.user_id,
  'lookup', stored.lookup, 'sealed', stored.sealed, 'generation', stored.generation) end;

-- Return the credentials of an address, whose *lookups* are its HMACs under each root key. While root keys change, two
-- sign-ups of one address may be pending, until one of them is replaced or completed.
create function private.find_credentials(lookups text[]) returns private.credentials language sql stable begin atomic
  select * from private.credentials where lookup = any (lookups)
  order by user_id is null, array_position(lookups, lookup) limit 1;
end;

-- Return the credentials of an address, or null, for an operator: only the owner of the migrations calls it.
create function private.credentials_of_lookups(lookups text[]) returns jsonb language sql stable
return private.credentials_of(private.find_credentials(lookups));

-- functions: sign-in and sign-up ------------------------------------------------------------------------

-- Return the credentials of an address and the state of sign-ups, and count an attempt before its result is known, in the
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

-- Delete the user of Supabase Auth with *address*, whose sign-up was cut short. One with an account, or from before Daybook,
-- is never deleted: "address_taken".
create function private.end_stranger(address public.free_text, nonce uuid) returns jsonb language plpgsql as $$
declare
  stranger record;
begin
  perform private.spend_nonce(nonce);
  for stranger in select id, created_at from auth.users where email = address for update loop
    if exists (select from private.roles where user_id = stranger.id)
      or stranger.created_at <= (select min(applied_at) from private.migrations)
      or not private.delete_user(stranger.id)
    then
      return private.answer(false, 'address_taken');
    end if;
  end loop;
  return '{"ok": true}';
end $$;

-- functions: changes ------------------------------------------------------------------------------------

-- Replace the credentials of *person* where *seen_generation* still holds, for the user or an operator (*actor* null). Each
-- *action* but 'reseal' has the next generation, and is audited; *ends_others*: it ends all sessions but that of *kept_cookie*.
create function private.replace_credentials(
  actor uuid, person uuid, seen_generation integer, new_generation integer, action text, new_lookup text,
  new_sealed public.sealed, ends_others boolean, kept_cookie text
) returns jsonb language plpgsql as $$
begin
  if (case action
    when 'reseal' then new_generation = seen_generation and not ends_others
    when 'password.set' then new_generation = seen_generation + 1 and ends_others
    when 'address.confirm' then new_generation = seen_generation + 1 and not ends_others
  end) is not true then
    raise exception 'not a change of credentials' using errcode = 'PT400';
  end if;
  perform from auth.users where id = person for key share;   -- locked first, as wherever an account's row is deleted
  update private.credentials set generation = new_generation, lookup = new_lookup, sealed = new_sealed
  where user_id = person and generation = seen_generation
    and not exists (select from private.credentials other where other.lookup = new_lookup and other.id <> person);
  if not found then
    return private.answer(false, 'stale');
  end if;
  if ends_others then
    perform private.end_sessions_of(person, kept_cookie);
  end if;
  if action <> 'reseal' then
    perform private.note(actor, action, person);
  end if;
  return '{"ok": true}';
end $$;

-- By the user alone: what stands in a copy of the database (the server key) is not enough to overwrite an account secret.
create function private.change_credentials(
  me uuid, seen_generation integer, new_generation integer, action text, new_lookup text, new_sealed public.sealed,
  ends_others boolean, kept_cookie text, nonce uuid
) returns jsonb language plpgsql as $$
begin
  perform private.spend_nonce(nonce);
  return private.replace_credentials(
    me, me, seen_generation, new_generation, action, new_lookup, new_sealed, ends_others, kept_cookie);
end $$;
