-- Sign-ups: the right to begin an account, invitations, and the deletion of Supabase Auth's users who never began an
-- account.
--
-- The publishable key is enough to become a user of Supabase Auth. Such a user has no account: `start_session` creates the
-- account's role and budget, and enforces the mode of sign-ups.

create table private.invitations (          -- each invitation allows one sign-up
  id uuid primary key default gen_random_uuid(),
  code_hash text not null unique check (code_hash ~ '^[0-9a-f]{64}$'),   -- the sha256 of a code of 128 random bits
  -- null: valid for anyone who has the code
  email text check (email is null or private.is_address(email)),
  role text not null check (role in ('user', 'admin')),
  made_by uuid not null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null default clock_timestamp() + interval '7 days',
  used_by uuid,
  used_at timestamptz,
  revoked_at timestamptz
);

-- functions: beginning an account -----------------------------------------------------------------------

create function private.make_account(person uuid, its_role text default 'user', invitation uuid default null) returns void
language plpgsql as $$
begin
  insert into private.roles (user_id, role) values (person, its_role);
  insert into private.budgets (user_id, daily_cap_micro, monthly_cap_micro, daily_cap_tokens, max_open, max_per_minute)
  select person, daily_cap_micro, monthly_cap_micro, daily_cap_tokens, max_open, max_per_minute from private.settings;
  perform private.note(person, 'account.begin', person,
    jsonb_build_object('role', its_role) || jsonb_strip_nulls(jsonb_build_object('invitation', invitation)));
end $$;

-- Return the mode of sign-ups. It is "first" if the next account becomes admin without an invitation.
create function private.sign_up_mode() returns text language sql stable begin atomic
  select case when first_account_is_admin and not exists (select from private.roles where deleted_at is null)
    then 'first' else sign_ups end
  from private.settings;
end;

-- Return the state of an invitation. An invitation is valid only while its maker is an admin; otherwise, a removed admin could
-- use one to become admin again.
create function private.state_of(invitation private.invitations) returns text language sql stable
return case
  when invitation.used_at is not null then 'used'
  when invitation.revoked_at is not null or not private.is_admin(invitation.made_by) then 'revoked'
  when invitation.expires_at <= clock_timestamp() then 'expired'
  else 'open'
end;

-- Return the id of the open invitation with *code* for *address*. The function takes the code and hashes it, so that a hash
-- from a copy of the database cannot be used as a code.
create function private.find_invitation(code text, address text) returns setof uuid language sql stable begin atomic
  select id from private.invitations
  where code_hash = private.sha(code) and private.state_of(invitations) = 'open' and (email is null or email = address);
end;

-- Return the mode of sign-ups, and four booleans: `is_first` (the next account becomes admin),
-- `confirms_by_code` (if mail is configured, new users confirm their addresses by codes),
-- `requires_factor` (each user needs a second factor) and `has_admin`.
create function private.sign_ups() returns jsonb language sql stable
return jsonb_build_object('ok', true, 'mode', replace(private.sign_up_mode(), 'first', 'open'),
  'is_first', private.sign_up_mode() = 'first', 'confirms_by_code', (select confirms_by_code from private.settings),
  'requires_factor', private.requires_factor(), 'has_admin', cardinality(private.active_admins()) > 0);

-- Begin the account of a user who has none, from the *pending* sign-up: with an invitation if the mode of
-- sign-ups requires one, with a second factor (*new_wants_factor*) if the deployment requires one, and with
-- *ways_in*, the look-up values of the account's identities. Return the reason for a refusal, or null. The
-- user's metadata is not read, so that it can never give a role.
create function private.begin_account(
  person uuid, pending uuid, seen_generation integer, new_lookup text, new_sealed public.sealed, new_wrapped public.sealed,
  ways_in text[], invitation text, has_factor boolean, new_wants_factor boolean
) returns text language plpgsql as $$
declare
  address text;
  mode text;
  used private.invitations;
begin
  if (has_factor or not coalesce(new_wants_factor, false)) is not true then
    raise exception 'a second factor that was not confirmed' using errcode = 'PT400';
  end if;
  -- locks the user's row, because two devices may begin the same account
  select email into address from auth.users where id = person for no key update;
  perform from private.credentials
  where id = pending and user_id is null and generation = seen_generation for update;
  if not found or exists (select from private.roles where user_id = person)
    or exists (select from private.credentials where lookup = new_lookup and user_id is not null)
  then
    return 'stale';
  end if;
  if (select first_account_is_admin from private.settings) then
    perform pg_advisory_xact_lock(hashtext('daybook: first account'));
  end if;
  if not private.is_address(address) then   -- Supabase Auth admits other addresses, and users without one
    return 'bad_address';
  end if;
  mode := private.sign_up_mode();
  if mode = 'closed' then
    return 'sign_ups_closed';
  end if;
  if has_factor is not true and private.requires_factor() then
    return 'factor_needed';
  end if;
  if private.are_taken(person, ways_in) then
    return 'way_in_taken';
  end if;
  update private.invitations set used_by = person, used_at = clock_timestamp()
  where id in (select private.find_invitation(invitation, address)) and used_at is null and revoked_at is null
  returning * into used;
  if mode = 'invited' and used.id is null then
    return 'no_invitation';
  end if;
  perform private.make_account(person, case mode when 'first' then 'admin' else coalesce(used.role, 'user') end, used.id);
  delete from private.credentials where id = pending or lookup = new_lookup;
  insert into private.credentials (id, user_id, lookup, sealed, generation, wants_factor)
  values (person, person, new_lookup, new_sealed, seen_generation, coalesce(new_wants_factor, false));
  perform private.put_ways_in(person, ways_in);
  insert into public.user_keys (user_id, version, mode, wrapped) values (person, 1, 'server', new_wrapped);
  perform private.note_key(person, 1);
  return null;
end $$;

-- functions: administration -----------------------------------------------------------------------------

-- Create an invitation that is valid for seven days, for *address* or (null) for anyone who has the code.
create function private.invite(me uuid, new_code_hash text, address public.free_text, new_role text) returns jsonb
language plpgsql as $$
declare
  made uuid;
begin
  perform private.require_admin(me);
  if (select count(*) from private.invitations where private.state_of(invitations) = 'open') >= 500 then
    return private.answer(false, 'too_many');
  end if;
  insert into private.invitations (code_hash, email, role, made_by) values (new_code_hash, address, new_role, me)
  returning id into made;
  perform private.note(me, 'invitation.make', null, jsonb_build_object('invitation', made, 'role', new_role));
  return '{"ok": true}';
end $$;

create function private.revoke_invitation(me uuid, invitation uuid) returns jsonb language plpgsql as $$
begin
  perform from private.invitations where id = invitation for no key update;
  perform private.require_admin(me);
  update private.invitations set revoked_at = clock_timestamp()
  where id = invitation and used_at is null and revoked_at is null;
  if found then
    perform private.note(me, 'invitation.revoke', null, jsonb_build_object('invitation', invitation));
  end if;
  return private.answer(found);
end $$;

-- Return at most 500 invitations, the open ones first, then the newest, as one JSON value, because the
-- API's "max rows" limit would truncate a list of rows.
create function private.list_invitations(me uuid) returns jsonb language plpgsql stable as $$
begin
  perform private.require_admin(me);
  return (
    select coalesce(jsonb_agg(to_jsonb(listed)), '[]')
    from (
      select id, email, role, created_at, expires_at, state
      from private.invitations cross join lateral private.state_of(invitations) state
      order by state = 'open' desc, created_at desc
      limit 500
    ) listed
  );
end $$;

-- functions: expiry of users -----------------------------------------------------------------------------

-- Delete users of Supabase Auth who never got an account here: a day after they confirmed their address, or a week after
-- sign-up if they did not confirm it. A call deletes at most 50 users, and never users who were created before the first
-- migration. Return true if any user was deleted. While there is no admin, no user is deleted, because one of these users may
-- become the first admin. (A user whose account is being created is not deleted: the user's row is locked until the account
-- exists.)
create function private.end_strangers() returns boolean language plpgsql as $$
declare
  stranger uuid;
  are_gone boolean := false;
begin
  for stranger in
    select id from auth.users
    where created_at > (select made_at from private.settings)
      and coalesce(email_confirmed_at + interval '1 day', created_at + interval '7 days') < now()
      and not exists (select from private.roles where user_id = users.id)
      and exists (select from private.roles where roles.role = 'admin')
    order by random()                       -- random order: otherwise 50 users who cannot be deleted would block all others
    limit 50 for update skip locked
  loop
    continue when exists (select from private.roles where user_id = stranger);
    are_gone := private.delete_user(stranger) or are_gone;
  end loop;
  return are_gone;
end $$;
