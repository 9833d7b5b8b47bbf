-- Accounts and sessions: wrapped user keys, signed-in devices, throttles, and administration.
--
-- The browser's cookie holds a random secret; `app_sessions` holds its hash, and Supabase's tokens sealed under a key derived
-- from that secret, so read access to the table is not enough to open a session. The session functions are called before there
-- is an access token, so most are *server* functions: the role anon calls them, with a server proof no older than a minute.
--
-- An admin sees counts and money, never content: no policy shows them another user's rows.

-- tables ------------------------------------------------------------------------------------------------

create table public.user_keys (             -- a user's key, wrapped by the root key (or a passphrase)
  user_id uuid not null references private.roles (user_id) on delete cascade,
  version integer not null check (version > 0),
  mode text not null check (mode in ('server', 'passphrase', 'recovery')),
  wrapped public.sealed not null,
  -- for a passphrase: Argon2id's salt and cost; the app checks their ranges
  derivation jsonb check (octet_length(derivation::text) <= 500),
  created_at timestamptz not null default now(),
  primary key (user_id, version, mode)
);

create table private.app_sessions (
  id uuid primary key,
  user_id uuid not null references private.roles (user_id) on delete cascade,
  auth_session_id uuid not null unique,     -- the session at Supabase Auth; its tokens are invalid once it is deleted
  cookie_hash text not null unique check (cookie_hash ~ '^[0-9a-f]{64}$'),
  tokens public.sealed not null,            -- Supabase's access token, its expiry and the refresh token
  generation integer not null default 0 check (generation >= 0),   -- the number of times that the tokens were replaced
  -- until this time, only the process that took the lease may exchange the refresh token: two concurrent exchanges
  -- would end the session
  refreshing_until timestamptz,
  device public.sealed,                     -- the browser's name, sealed under the user's key
  follows uuid,                             -- the user's session before this one in the same browser
  -- the lifetime of the session's first access token, which `operate check` reads
  token_seconds integer,
  idle_seconds integer not null check (idle_seconds between 60 and 31536000),
  created_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  proved_at timestamptz not null default now(),   -- when the user last proved who they are; initially, when they signed in
  -- the changes that the proof at proved_at allows: all, some ('part'), or none (after a sign-in through a provider,
  -- which may not have asked the user to sign in again)
  proof_scope text not null default 'full' check (proof_scope in ('full', 'part', 'none')),
  -- true: a second factor was given at the sign-in or in a later proof, and the user has not turned it off since
  has_factor boolean not null,
  expires_at timestamptz not null
);

create table private.notices (              -- notices about sign-in methods, shown to the user on each page until dismissed
  id uuid primary key,
  user_id uuid not null references private.roles (user_id) on delete cascade,
  kind text not null check (kind ~ '^[a-z_]{1,30}$'),
  at timestamptz not null default clock_timestamp(),
  browser public.sealed,                    -- the browser's name, sealed under the user's key; null: unknown, or an operator's command
  -- the app session that caused the notice; it neither shows nor dismisses the notice
  session uuid
);

create table private.throttles (
  bucket text primary key check (bucket ~ '^[0-9a-f]{64}$'),       -- the app's HMAC of the name of the throttle
  window_ends timestamptz not null,
  attempts integer not null check (attempts >= 0)
);

create table private.password_permits (     -- each row allows one change of a user's password or address within a minute
  user_id uuid primary key references private.roles (user_id) on delete cascade,
  made_at timestamptz not null default clock_timestamp()
);

create table private.log_erasures (         -- deleted accounts that Supabase Auth's log still names
  user_id uuid primary key,
  since timestamptz not null default clock_timestamp(),
  scanned_to uuid                           -- the last scanned entry; null: the scan has not begun
);

create index on private.app_sessions (user_id);
create index on private.notices (user_id, kind);
create index on private.throttles (window_ends);

-- Add an audit entry about what *person* did to their own account, with the calling session and the sealed name of
-- its browser.
create function private.note_own(person uuid, action text, detail jsonb default '{}') returns void
language sql begin atomic
  insert into private.audit (actor, action, target, detail, session, device)
  select person, note_own.action, person, note_own.detail, mine.id, mine.device
  from (select) called left join private.app_sessions mine
    on mine.auth_session_id = private.my_auth_session() and mine.user_id = person;
end;

-- functions: proofs -------------------------------------------------------------------------------------

-- Return the number of a lease, as `lease_refresh` returns it: the lease's end in Unix microseconds; null: there
-- is no lease.
create function private.lease_of(refreshing_until timestamptz) returns bigint language sql stable
return (extract(epoch from refreshing_until) * 1000000)::bigint;

-- Return true if the user has proved who they are in *session* in the last ten minutes; *is_part*: a partial
-- proof is enough. If the account has a second factor, the proof counts only in a session in which the factor
-- was given.
create function private.is_proven(session private.app_sessions, is_part boolean default false) returns boolean language sql stable
-- proved_at may be in the future, because the clock may have been ahead
return greatest(now() - session.proved_at, session.proved_at - now()) < interval '10 minutes'
  and (session.proof_scope = 'full' or is_part and session.proof_scope = 'part')
  and (session.has_factor or not exists (
    select from private.credentials where credentials.user_id = session.user_id and wants_factor
  ));

-- Return true if *session* lacks the second factor that the deployment requires. A factor that the user gave
-- at a provider is enough, even if the account has none.
create function private.lacks_factor(session private.app_sessions) returns boolean language sql stable
return private.requires_factor() and not session.has_factor;

-- Raise unless the caller has proved who they are in the last ten minutes. Changing a password or an address, ending other
-- sessions and deleting the account need such a proof, because a cookie or an access token may be stolen, or a device left
-- signed in. A partial proof (*is_part*) is enough to delete the account, or to add a sign-in method and change nothing else.
create function private.require_recent(is_part boolean default false) returns void language plpgsql stable as $$
begin
  if not exists (
    select from private.app_sessions mine
    where mine.auth_session_id = private.my_auth_session() and private.is_proven(mine, is_part)
  ) then
    raise exception 'prove again' using errcode = 'PT403';
  end if;
end $$;

-- Subtract an attempt that succeeded from each of the throttle buckets *returned* (a JSON array, in the same order as
-- for `throttle`).
create function private.return_attempts(returned public.free_text) returns void language plpgsql as $$
declare
  counted text;
begin
  for counted in select jsonb_array_elements_text(returned::jsonb) loop
    update private.throttles set attempts = attempts - 1 where bucket = counted and attempts > 0;
  end loop;
end $$;

-- Record that the caller has proved who they are. The proof is refused if the credentials have changed since
-- it was checked. `check_factor` checks the account's own second factor; a factor that the deployment requires
-- must have been given earlier in this session. An attempt that succeeds is not counted: it is subtracted from
-- each throttle in the list *returned*. A partial proof (*new_scope*) does not replace a full proof that is
-- younger than ten minutes. The session's *cookie* is replaced by a new cookie, and the tokens are stored sealed for
-- the new cookie. The caller must have the *lease* of the refresh token, so that no other process exchanges
-- the token at the same time. The lease ends even if the proof is refused.
create function private.prove_session(
  me uuid, seen_generation integer, returned public.free_text, has_factor boolean, factor_action text,
  new_generation integer, new_uses integer, new_wants_factor boolean, new_lookup text, new_sealed public.sealed,
  cookie text, lease bigint, new_cookie_hash text, new_tokens public.sealed, new_scope text, nonce uuid
) returns jsonb language plpgsql as $$
#variable_conflict use_variable
declare
  mine constant uuid := (
    select id from private.app_sessions
    where auth_session_id = private.my_auth_session() and user_id = me and cookie_hash = cookie
  );
  refused text;
  stays boolean;                            -- true: an earlier full proof stays valid
begin
  perform private.spend_nonce(nonce);
  if (new_scope in ('full', 'part')) is not true then
    raise exception 'not a proof' using errcode = 'PT400';
  elsif mine is null then
    return private.answer(false);
  end if;
  refused := private.check_factor(me, seen_generation, has_factor, false, factor_action, new_generation, new_uses,
    new_wants_factor, new_lookup, new_sealed);
  if refused is not null then
    update private.app_sessions set refreshing_until = null
    where id = mine and private.lease_of(refreshing_until) = lease;
    return private.answer(false, refused);
  end if;
  select new_scope = 'part' and private.is_proven(session) into stays from private.app_sessions session where id = mine;
  update private.app_sessions session
  set proved_at = case when stays then session.proved_at else now() end,
    proof_scope = case when stays then session.proof_scope else new_scope end,
    has_factor = session.has_factor or has_factor, cookie_hash = new_cookie_hash, tokens = new_tokens,
    generation = session.generation + 1, refreshing_until = null
  where id = mine and private.lease_of(refreshing_until) = lease;
  if not found then                         -- another process took the lease meanwhile; the error undoes the call
    raise exception 'another lease' using errcode = 'PT401';
  end if;
  perform private.return_attempts(returned);
  perform private.note_own(me, 'session.prove');
  return '{"ok": true}';
end $$;

-- functions: notices ------------------------------------------------------------------------------------

-- Store a notice to *person*, if the account exists, and keep only the newest three notices of each kind. The limit is per
-- kind, so that notices which a stranger can cause repeatedly do not displace notices of other kinds.
create function private.put_notice(person uuid, new_id uuid, new_kind text, new_browser public.sealed, made_in uuid) returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('daybook: notices'), hashtext(person::text));   -- this lock makes concurrent calls keep the limit of three
  delete from private.notices where id in (
    select id from private.notices where user_id = person and kind = new_kind order by at desc, id offset 2
  );
  insert into private.notices (id, user_id, kind, browser, session)
  select new_id, user_id, new_kind, new_browser, made_in from private.roles where user_id = person and deleted_at is null;
end $$;

-- Store a notice, and count it in *throttles* (JSON as for `throttle`). If a throttle refuses, the app sends
-- no mail about the notice.
create function private.add_notice(
  person uuid, new_id uuid, new_kind text, new_browser public.sealed, made_in uuid, throttles public.free_text
) returns jsonb language plpgsql as $$
begin
  perform private.spend_nonce(new_id);      -- otherwise, repeating a recorded call could restore a dismissed notice
  perform private.put_notice(person, new_id, new_kind, new_browser, made_in);
  return private.throttle(throttles);
end $$;

-- Return true if *notice* is shown in the calling session: every session shows a notice, except the session that caused it
-- and, for ten minutes, the session that follows that one in its browser. Afterwards that session shows it, because a
-- stranger may have made the change in an open browser.
create function private.is_shown(notice private.notices) returns boolean language sql stable
return not exists (
  select from private.app_sessions mine
  where mine.auth_session_id = private.my_auth_session() and (mine.id = notice.session
    -- `at` may be in the future, because the clock may have been ahead
    or mine.follows = notice.session and greatest(now() - notice.at, notice.at - now()) < interval '10 minutes')
);

-- Dismiss the caller's *notices* (a JSON array of ids), if they are shown in the calling session.
create function private.dismiss_notices(me uuid, notices public.free_text) returns jsonb language plpgsql as $$
begin
  delete from private.notices notice
  where user_id = me and id::text in (select jsonb_array_elements_text(notices::jsonb)) and private.is_shown(notice);
  return private.answer(found);
end $$;

-- functions: accounts -----------------------------------------------------------------------------------

-- End all sessions of *person* except the Supabase session *kept*. Their tokens are invalid from the next statement on.
create function private.end_sessions_of(person uuid, kept uuid default null) returns void language sql begin atomic
  delete from private.app_sessions where user_id = person and auth_session_id is distinct from kept;
  delete from auth.sessions where user_id = person and id is distinct from kept;
end;

-- Record for all sessions of *person* that no second factor was given, because the account has none any more.
create function private.forget_factor(person uuid) returns void language sql begin atomic
  update private.app_sessions set has_factor = false where user_id = person and has_factor;
end;

-- Delete a user of Supabase Auth. If a table that the operator added refers to the user, return false instead
-- of raising, so that a sweep continues.
create function private.delete_user(person uuid) returns boolean language plpgsql as $$
begin
  delete from auth.users where id = person;
  return found;
exception when integrity_constraint_violation then
  return false;
end $$;

-- Return the tombstone, which replaces a deleted account's address. `private.is_address` refuses it.
create function private.tombstone(person uuid) returns text language sql immutable
return person || '@deleted.invalid';

-- Refuse a change of a password or an address without a permit, and delete the permit that is used. Neither an access token
-- (`PUT /user` of Supabase Auth) nor Supabase's secret key is enough: otherwise, the holder of either could change the password
-- at Supabase Auth, which the app knows only from the user's credentials, and so lock the user out. Without a permit, only a
-- deleted account's address may change, to a tombstone.
create function private.spend_password_permit() returns trigger language plpgsql as $$
begin
  if new.email = private.tombstone(new.id) and new.encrypted_password is null
    and exists (select from private.roles where user_id = new.id and deleted_at is not null)
  then
    return new;
  end if;
  delete from private.password_permits where user_id = new.id and made_at > clock_timestamp() - interval '1 minute';
  if not found then
    raise exception 'a password or address is not changed without a permit' using errcode = '42501';
  end if;
  return new;
end $$;

create trigger password_changes_need_a_permit before update on auth.users
  for each row
  when (old.encrypted_password is distinct from new.encrypted_password or old.email is distinct from new.email)
  execute function private.spend_password_permit();

-- Every access token contains the user's metadata, which the token's holder may set. Large metadata would
-- make requests exceed the gateways' limits for headers, and so lock the user out. (Supabase Auth itself
-- writes to it when an address is confirmed.)
create trigger user_data_is_small before insert or update on auth.users
  for each row when (octet_length(new.raw_user_meta_data::text) > 2000) execute function private.refuse_statement();

-- Set a user's address at Supabase Auth, and the password's hash unless *new_hash* is null. The function makes
-- the permit that this change needs, and the trigger `password_changes_need_a_permit` uses it.
create function private.set_auth_user(person uuid, address text, new_hash text default null) returns void
language plpgsql as $$
begin
  insert into private.password_permits as known (user_id) select id from auth.users where id = person
    and (email is distinct from address or new_hash is not null and encrypted_password is distinct from new_hash)
  on conflict (user_id) do update set made_at = excluded.made_at;
  update auth.users set email = address, encrypted_password = coalesce(new_hash, encrypted_password),
    email_confirmed_at = coalesce(email_confirmed_at, now())
  where id = person;
  if has_table_privilege(to_regclass('auth.identities'), 'update') then   -- the result is null if there is no such table
    -- the table's column `email` is generated from this JSON
    update auth.identities set identity_data = jsonb_set(identity_data, '{email}', to_jsonb(address))
    where user_id = person and provider = 'email'
      and jsonb_typeof(identity_data) = 'object';   -- the embedded API stores the object as a JSON string, and does not read it
  end if;
end $$;

-- Reset the address and the password's hash of *person* at Supabase Auth to those in the account's
-- credentials, and end the account's sessions. Only the role that owns the migrations calls this. Return false if there
-- is no such account.
create function private.repair_sign_in(person uuid, address text, new_hash text) returns boolean language plpgsql as $$
begin
  -- these rows are locked before all others, as in deletions of accounts, to avoid deadlocks
  perform from auth.users where id = person or email = address order by id for update;
  if not exists (select from private.roles where user_id = person and deleted_at is null) then
    return false;
  end if;
  -- other users with the address: users without an account are deleted; users with an account get a tombstone as their
  -- address until they, too, are repaired
  perform private.delete_user(id) from auth.users where email = address and id <> person
    and created_at > (select made_at from private.settings)
    and not exists (select from private.roles where user_id = users.id);
  insert into private.password_permits as known (user_id)
  select user_id from private.roles join auth.users on id = user_id where email = address and id <> person
  on conflict (user_id) do update set made_at = excluded.made_at;
  update auth.users set email = private.tombstone(id) where email = address and id <> person;
  perform private.set_auth_user(person, address, new_hash);
  perform private.end_sessions_of(person);
  perform private.note(null, 'sign_in.repair', person);
  return true;
end $$;

-- Replace the address of a deleted account with a tombstone: from then on, sign-in does not find the address and sign-up accepts it.
create function private.bury(person uuid) returns void language plpgsql as $$
begin
  -- with the publishable key, an attacker may have registered a user with the tombstone's address at Supabase Auth
  delete from auth.users where email = private.tombstone(person) and id <> person;
  update auth.users set email = private.tombstone(person), encrypted_password = null, email_change = '',
    raw_user_meta_data = '{}'               -- Supabase Auth copies the address into these columns
  where id = person;
  if has_table_privilege(to_regclass('auth.identities'), 'delete') then   -- the result is null if there is no such table
    delete from auth.identities where user_id = person;
  end if;
  insert into private.log_erasures (user_id)
  select person where to_regclass('auth.audit_log_entries') is not null
  on conflict do nothing;
end $$;

-- Return true if the entries of Supabase Auth's log can be read and deleted by the owner of the migrations; null if the log
-- does not exist.
create function private.can_erase_log_entries() returns boolean language sql stable
return has_table_privilege(to_regclass('auth.audit_log_entries'), 'select')
  and has_table_privilege(to_regclass('auth.audit_log_entries'), 'delete');

-- Return true if `erase_log_entries` is due: a minute after a deletion, when the log entries written meanwhile are committed.
create function private.has_log_erasures() returns boolean language sql stable
return private.can_erase_log_entries()
  and exists (select from private.log_erasures where since < now() - interval '1 minute');

-- Delete the entries of Supabase Auth's log (auth.audit_log_entries) that name deleted accounts or their addresses: one
-- slice of at most 20,000 entries, or a third of a second. The log is indexed by id only, so a pass scans all entries by
-- id, for all accounts that are waiting when it begins. Return true if more must be scanned. (This is a separate call,
-- because a large log would delay the sweep.)
create function private.erase_log_entries() returns jsonb language plpgsql as $$
declare
  deadline constant timestamptz := clock_timestamp() + interval '0.3 seconds';
  accounts text[];
  seen uuid;
  are_left boolean;
begin
  if not private.has_log_erasures() or not pg_try_advisory_xact_lock(hashtext('daybook: log')) then
    return '{"ok": true, "more": false}';
  end if;
  if not exists (select from private.log_erasures where scanned_to is not null) then
    update private.log_erasures set scanned_to = '00000000-0000-0000-0000-000000000000'
    where since < now() - interval '1 minute';
  end if;
  select array_agg(user_id::text), min(scanned_to::text) into accounts, seen
  from private.log_erasures where scanned_to is not null;
  for page in 1..40 loop
    with looked_at as materialized (
      select id, payload from auth.audit_log_entries where id > seen order by id limit 500
    ), erased as (
      delete from auth.audit_log_entries where id in (
        select id from looked_at
        -- searches the whole text, because the embedded API stores the object as a JSON string
        where exists (select from unnest(accounts) account where strpos(payload::text, account) > 0)
      )
    )
    select max(id::text collate "C"), count(*) = 500 into seen, are_left from looked_at;
    exit when not are_left or clock_timestamp() > deadline;
  end loop;
  if are_left then
    update private.log_erasures set scanned_to = seen where scanned_to is not null;
  else
    delete from private.log_erasures where scanned_to is not null;
  end if;
  return jsonb_build_object('ok', true, 'more', private.has_log_erasures());
end $$;

-- Delete an account: this call deletes its keys, credentials and address; sweeps delete its rows in slices and, last, the
-- account itself. Users may delete their own account, admins any account.
create function private.delete_account(me uuid, person uuid) returns jsonb language plpgsql as $$
declare
  last_one boolean;
begin
  if person is not distinct from me then
    perform private.require_recent(true);   -- checked before the wait for the lock: a session that is valid now may end during the wait
  end if;
  -- this row is locked before all others, as in each deletion of an account, to avoid deadlocks
  perform from auth.users where id = person for update;
  last_one := private.is_last_admin(person);
  if person is distinct from me then
    perform private.require_admin(me);
  end if;
  if last_one and exists (select from private.roles where user_id <> person and deleted_at is null) then
    return private.answer(false, 'last_admin');
  end if;
  update private.roles set suspended_at = clock_timestamp(), deleted_at = clock_timestamp()
  where user_id = person and deleted_at is null;
  if not found then
    return private.answer(false);
  end if;
  delete from public.user_keys where user_id = person;
  delete from private.credentials where user_id = person;
  delete from private.lookups where user_id = person;
  perform private.end_sessions_of(person);
  perform private.bury(person);
  perform private.note(me, 'account.delete', person);
  return '{"ok": true}';
end $$;

create function private.note_key(person uuid, version integer) returns void language sql begin atomic
  select private.note_own(person, 'key.put', jsonb_build_object('version', version, 'mode', 'server'));
end;

-- Return the keys of *person* that are wrapped by the root key, oldest first.
create function private.wrapped_keys(person uuid) returns jsonb language sql stable begin atomic
  select coalesce(jsonb_agg(jsonb_build_object('version', version, 'wrapped', wrapped) order by version), '[]')
  from public.user_keys where user_id = person and mode = 'server';
end;

-- Store a user key wrapped by a new root key, if the stored wrapped key has not changed since the app read it. (The
-- first user key is stored with the account. A missing key is never replaced by a new one, which would hide
-- that the conversations cannot be decrypted.)
create function private.put_user_key(
  me uuid, new_version integer, new_wrapped public.sealed, replaces public.sealed
) returns jsonb language plpgsql as $$
begin
  update public.user_keys set wrapped = new_wrapped
  where user_id = me and version = new_version and mode = 'server' and wrapped = replaces;
  if found then
    perform private.note_key(me, new_version);
  end if;
  return private.answer(found, 'stale');
end $$;

-- Return the caller's account: role, caps, the amounts used, and notices, the newest first. A day or month in the future,
-- which a clock that was ahead has stored, counts as the current one, as in lock_budget. The call needs no proof,
-- because it returns only the caller's data.
--   expiring   the number of conversations that retention deletes within 14 days, and the time of the first; null: none.
create function private.my_account() returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
  today date := now() at time zone 'utc';
  expiring jsonb;
begin
  if exists (select from private.settings where retention_days is not null) then
    select jsonb_build_object('conversations', count(*), 'from_time', min(expires_at)) into expiring
    from private.settings cross join public.conversations
    cross join lateral private.expires_at(settings, updated_at) expires_at
    where user_id = person and destroy_at is null and expires_at < now() + interval '14 days'
    having count(*) > 0;
  end if;
  return (
    select jsonb_build_object('user_id', person, 'role', account.role, 'daily_cap_micro', budget.daily_cap_micro,
      'monthly_cap_micro', budget.monthly_cap_micro,
      'spent_today_micro', case when budget.day >= today then budget.day_spent else 0 end,
      'daily_cap_tokens', budget.daily_cap_tokens, 'expiring', expiring,
      'tokens_today', case when budget.day >= today then budget.day_tokens else 0 end,
      'spent_this_month_micro', case when budget.month >= date_trunc('month', today)::date then budget.month_spent else 0 end,
      'deployment_share', private.deployment_share(), 'retention_days', settings.retention_days, 'notices', (
        select coalesce(jsonb_agg(jsonb_build_object('id', id, 'kind', kind, 'at', at, 'browser', browser) order by at desc, id), '[]')
        from private.notices notice where user_id = person and private.is_shown(notice)
      ))
    from private.roles account join private.budgets budget using (user_id) cross join private.settings
    where account.user_id = person
  );
end $$;

-- functions: administration -----------------------------------------------------------------------------

create function private.active_admins() returns uuid[] language sql stable
return array(select user_id from private.roles where role = 'admin' and suspended_at is null);

-- Return true if *person* is the only active admin. Lock the admins' rows, so that two admins cannot remove each other.
create function private.is_last_admin(person uuid) returns boolean language plpgsql as $$
begin
  perform from private.roles where role = 'admin' order by user_id for no key update;
  return array[person] = private.active_admins();
end $$;

-- Change the role of *person* for an admin, or an operator (*actor* null), and audit the change. Return false
-- if there is no such account.
create function private.change_role(actor uuid, person uuid, new_role text) returns boolean language plpgsql as $$
declare
  before text := (select role from private.roles where user_id = person and deleted_at is null for no key update);
begin
  if (new_role in ('user', 'admin')) is not true then
    raise exception 'role out of range' using errcode = 'PT400';
  elsif before is null then
    return false;
  end if;
  update private.roles set role = new_role, granted_at = clock_timestamp() where user_id = person and role is distinct from new_role;
  perform private.note_changes(actor, 'role.set', person,
    jsonb_build_object('role', before), jsonb_build_object('role', new_role));
  return true;
end $$;

create function private.set_role(me uuid, person uuid, new_role text) returns jsonb language plpgsql as $$
declare
  -- called first, because it takes locks, and the reads below must come after the locks
  last_one boolean := private.is_last_admin(person);
begin
  perform private.require_admin(me);
  if last_one and new_role is distinct from 'admin' then
    return private.answer(false, 'last_admin');
  end if;
  return private.answer(private.change_role(me, person, new_role));
end $$;

create function private.suspend(me uuid, person uuid, suspended boolean) returns jsonb language plpgsql as $$
declare
  last_one boolean;
  was_suspended boolean;
begin
  -- this row is locked before all others, as in deletions of accounts, to avoid deadlocks
  perform from auth.users where id = person for key share;
  last_one := private.is_last_admin(person);
  perform private.require_admin(me);
  if last_one and suspended then
    return private.answer(false, 'last_admin');
  end if;
  select suspended_at is not null into was_suspended
  from private.roles where user_id = person and deleted_at is null for no key update;
  if not found then
    return private.answer(false);
  end if;
  update private.roles set suspended_at = case when suspended then clock_timestamp() end
  where user_id = person and suspended <> was_suspended;
  if suspended then
    perform private.end_sessions_of(person);
  end if;
  perform private.note_changes(me, 'account.suspend', person,
    jsonb_build_object('suspended', was_suspended), jsonb_build_object('suspended', suspended));
  return '{"ok": true}';
end $$;

-- functions: sessions -----------------------------------------------------------------------------------

-- Return the data that the app's first page reads, so that a sign-in needs no further call: the account; the preferences,
-- spaces and facts; and the first 31 conversations (LISTED in services/domain/revisions.py) in the order of the list.
create function private.first_page(person uuid) returns jsonb language plpgsql stable as $$
begin
  return jsonb_build_object('account', private.my_account(),
    'documents', (
      select coalesce(jsonb_agg(to_jsonb(kept) order by id), '[]') from public.documents kept
      where user_id = person and kind in ('preferences', 'space', 'fact')
    ),
    'conversations', (
      select coalesce(jsonb_agg(
        -- the row without its long columns
        to_jsonb(listed) - '{instructions, instructions_rev, summary, summary_rev}'::text[]
        order by pinned_at desc nulls last, updated_at desc), '[]')
      from (
        select * from public.conversations where user_id = person and destroy_at is null and state = 'active'
        order by pinned_at desc nulls last, updated_at desc limit 31
      ) listed
    ));
end $$;

-- Begin an app session for the user who has just signed in, and for the Supabase session of the calling token. The credentials
-- must still be of the generation whose password was checked. `check_factor` checks the second factor, and stores the
-- credentials after its use or enrolment. The successful attempt is subtracted from the throttle buckets *returned* (a JSON
-- array, in the order of `throttle`), once only, because a token starts one session. A user's first session begins the account
-- from the *pending* sign-up, which may need the code of an *invitation*, and stores the account's credentials and user key,
-- which the app has sealed for the user's id, and *ways_in*, the look-up values of its identities. The app chooses the
-- session's id, because the device's name is sealed for this id. The session follows the user's session with the cookie
-- *cookie_before*, which the browser still has; without one, the session *new_follows*.
create function private.start_session(
  new_id uuid, new_cookie_hash text, new_tokens public.sealed, new_device public.sealed, cookie_before text,
  new_follows uuid, idle integer, lifetime integer,
  returned public.free_text, seen_generation integer, pending uuid, new_lookup text, new_sealed public.sealed,
  new_wrapped public.sealed, ways_in public.free_text, invitation public.free_text, has_factor boolean, factor_action text,
  new_generation integer, new_uses integer, new_wants_factor boolean, new_scope text, proof text
) returns jsonb language plpgsql as $$
declare
  claims jsonb := current_setting('request.jwt.claims');
  person uuid := claims ->> 'sub';
  refused text;
begin
  perform private.check_proof(proof, 'start_session', person::text, new_id::text, new_cookie_hash, private.sha(new_tokens),
    private.sha(new_device), cookie_before, new_follows::text, idle::text, lifetime::text, private.sha(returned), seen_generation::text, pending::text,
    new_lookup, private.sha(new_sealed), private.sha(new_wrapped), private.sha(ways_in), private.sha(invitation), has_factor::text,
    factor_action, new_generation::text, new_uses::text, new_wants_factor::text, new_scope);
  if not exists (select from private.roles where user_id = person) then
    refused := private.begin_account(person, pending, seen_generation, new_lookup, new_sealed, new_wrapped,
      private.listed(ways_in), invitation, has_factor, new_wants_factor);
  elsif pending is not null then            -- a pending sign-up never belongs to a user who has an account
    refused := 'stale';
  end if;
  if refused is not null then
    return private.answer(false, refused);
  end if;
  -- this row is locked before all others, as in deletions of accounts and changes of credentials, to avoid deadlocks
  perform from auth.users where id = person and factor_action is not null for key share;
  -- this row is locked before the credentials, as in a deletion, to avoid deadlocks; the share lock waits for a concurrent
  -- suspension
  perform from private.roles where user_id = person for share;
  if not found then                         -- deleted while this call waited
    return private.answer(false, 'stale');
  end if;
  -- before `check_factor`, whose audit entry names the session
  insert into private.app_sessions
    (id, user_id, auth_session_id, cookie_hash, tokens, device, follows, token_seconds, idle_seconds, expires_at, has_factor,
      proof_scope)
  values (new_id, person, (claims ->> 'session_id')::uuid, new_cookie_hash, new_tokens, new_device,
    coalesce((select id from private.app_sessions where cookie_hash = cookie_before and user_id = person), new_follows),
    (claims ->> 'exp')::bigint - (claims ->> 'iat')::bigint, idle, now() + make_interval(secs => lifetime),
    coalesce(has_factor, false), new_scope);
  if pending is null then
    refused := private.check_factor(person, seen_generation, has_factor, private.requires_factor(), factor_action,
      new_generation, new_uses, new_wants_factor, new_lookup, new_sealed);
    if refused is not null then
      delete from private.app_sessions where id = new_id;
      return private.answer(false, refused);
    end if;
  end if;
  perform private.require_me();             -- called after the insert, because before it the caller has no app session and would be refused
  perform private.return_attempts(returned);
  return jsonb_build_object('ok', true, 'session', new_id, 'keys', private.wrapped_keys(person),
    'credentials', (select private.credentials_of(credentials) from private.credentials where user_id = person),
    'role', (select role from private.roles where user_id = person),
    'first', private.first_page(person));
end $$;

-- The versions of the root key that rows of each user are sealed under.
create function private.root_key_uses() returns table (person uuid, version integer) language sql stable
begin atomic
  select user_id, split_part(left(wrapped, 12), '.', 2)::integer from public.user_keys
  union
  select user_id, split_part(left(sealed, 12), '.', 2)::integer from private.credentials where user_id is not null
  union
  select user_id, split_part(left(tokens, 12), '.', 2)::integer from private.app_sessions
  where expires_at > now() and seen_at + make_interval(secs => idle_seconds) > now();
end;

-- Return the versions of the root key that rows are sealed under, the newest migration, and one hash over all migrations. The
-- app refuses to start if it lacks one of the keys, or if the migrations are not its own.
create function private.root_key_versions() returns jsonb language plpgsql stable as $$
begin
  return jsonb_build_object('ok', true, 'schema', (
    select jsonb_build_object('newest', coalesce(max(version), ''),
      'sha256', private.sha(coalesce(string_agg(format(E'%s %s\n', version, sha256), '' order by version), '')))
    from private.migrations
  ), 'versions', (
    select coalesce(jsonb_agg(distinct version), '[]') from private.root_key_uses()
  ));
end $$;

-- Open a session for the server: record its use, and return it with its sealed tokens, and the user's wrapped
-- keys and credentials. *cookie* is the hash of the session's cookie. The refusal is "not_found" if there is
-- no such session.
create function private.open_session(cookie text, nonce uuid) returns jsonb language plpgsql as $$
declare
  session private.app_sessions;
begin
  update private.app_sessions set seen_at = now()
  where cookie_hash = cookie and expires_at > now() and seen_at + make_interval(secs => idle_seconds) > now()
    and exists (
      select from private.roles
      where roles.user_id = app_sessions.user_id and suspended_at is null and role in ('user', 'admin')
    )
    and exists (select from auth.sessions where sessions.id = auth_session_id)
    and not private.lacks_factor(app_sessions)
  returning * into session;
  if not found then
    -- the nonce is not stored: the app probes the database by calling this with a cookie that no session has
    return private.answer(false);
  end if;
  perform private.spend_nonce(nonce);
  return jsonb_build_object('ok', true, 'session', session.id, 'user', session.user_id,
    'tokens', session.tokens, 'generation', session.generation, 'keys', private.wrapped_keys(session.user_id),
    'credentials', (select private.credentials_of(credentials) from private.credentials where user_id = session.user_id),
    'role', (select role from private.roles where user_id = session.user_id));
end $$;

-- Return the *sessions* (a JSON array of {session, user}) that have ended, each with the reason "suspended", "deleted" or
-- "ended". A process calls it for its cached sessions; the call does not count as use of a session.
create function private.ended_sessions(sessions public.free_text) returns jsonb language plpgsql stable as $$
begin
  return jsonb_build_object('ok', true, 'ended', (
    select coalesce(jsonb_object_agg(held.session, case
      when account.user_id is null or account.deleted_at is not null then 'deleted'
      when account.suspended_at is not null then 'suspended' else 'ended' end), '{}')
    from jsonb_to_recordset(sessions::jsonb) held (session uuid, "user" uuid)
    left join private.roles account on account.user_id = held."user"
    where account.user_id is null or account.suspended_at is not null or not exists (
      select from private.app_sessions app
      where app.id = held.session and app.expires_at > now()
        and app.seen_at + make_interval(secs => app.idle_seconds) > now()
        and exists (select from auth.sessions where sessions.id = app.auth_session_id)
        and not private.lacks_factor(app)
    )
  ));
end $$;

-- Take the lease to exchange the refresh token, or to give the session a new cookie; return the lease's number. If
-- another process has the lease ("held") or has replaced the tokens ("moved"), the caller waits and opens the session
-- again.
create function private.lease_refresh(cookie text, seen_generation integer, lease_seconds integer) returns jsonb
language plpgsql as $$
declare
  session private.app_sessions;
begin
  select * into session from private.app_sessions where cookie_hash = cookie for no key update;
  if not found then
    return private.answer(false);
  elsif session.generation <> seen_generation then
    return jsonb_build_object('ok', false, 'reason', 'moved', 'generation', session.generation);
  elsif session.refreshing_until > clock_timestamp() then
    return private.answer(false, 'held');
  end if;
  update private.app_sessions
  set refreshing_until = clock_timestamp() + make_interval(secs => least(greatest(lease_seconds, 1), 60))
  where id = session.id
  returning refreshing_until into session.refreshing_until;
  return jsonb_build_object('ok', true, 'lease', private.lease_of(session.refreshing_until));
end $$;

create function private.store_tokens(cookie text, seen_generation integer, new_tokens public.sealed) returns jsonb
language plpgsql as $$
begin
  update private.app_sessions
  set tokens = new_tokens, generation = generation + 1, refreshing_until = null
  where cookie_hash = cookie and generation = seen_generation;
  return private.answer(found, 'moved');
end $$;

-- Sign out. The Supabase session is deleted too, so its tokens are invalid from the next statement on.
--   waits   true: while replies that the session began are still streaming, only ask their processes to stop, and return the
--           number of these replies, because an ended session can neither store nor settle them; the app waits, and calls again
create function private.end_session(cookie text, waits boolean) returns jsonb language plpgsql as $$
declare
  ended private.app_sessions;
  streaming integer;
begin
  if waits then
    update public.turns set stop_requested = true
    from private.app_sessions app
    where app.cookie_hash = cookie and turns.user_id = app.user_id and turns.auth_session_id = app.auth_session_id
      and finished_at is null and lease_until > clock_timestamp();
    get diagnostics streaming = row_count;
    if streaming > 0 then
      return jsonb_build_object('ok', true, 'streaming', streaming);
    end if;
  end if;
  delete from private.app_sessions where cookie_hash = cookie returning * into ended;
  delete from auth.sessions where id = ended.auth_session_id and user_id = ended.user_id;
  return '{"ok": true}';
end $$;

-- Return the caller's devices, at most 300, the most recently used first, as one JSON value, because the API's
-- "max rows" limit would truncate a list of rows. The call needs no proof, because it returns only the caller's rows.
create function private.my_sessions() returns jsonb language plpgsql stable as $$
declare
  person uuid := private.require_me();
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(listed) order by seen_at desc, session), '[]')
    from (
      select mine.id as session, mine.device, mine.created_at, mine.seen_at, mine.expires_at,
        mine.auth_session_id = private.my_auth_session() as is_this_one, private.is_proven(mine) as is_proven,
        private.is_proven(mine, true) as is_proven_in_part
      from private.app_sessions mine
      where mine.user_id = person and mine.expires_at > now()
        and mine.seen_at + make_interval(secs => mine.idle_seconds) > now()
      order by mine.seen_at desc, mine.id limit 300
    ) listed
  );
end $$;

-- Ask all processes to stop the replies that are still streaming and were begun by the caller's session
-- *one_session* (null: by any session except the calling one). Return the number of these replies: the app waits
-- until they are stored and settled, and then calls `revoke_sessions`.
create function private.stop_turns(me uuid, one_session uuid) returns jsonb language plpgsql as $$
declare
  meant uuid := (select auth_session_id from private.app_sessions where id = one_session and user_id = me);
  streaming integer;
begin
  perform private.require_recent();
  update public.turns set stop_requested = true
  where user_id = me and finished_at is null and lease_until > clock_timestamp()
    and case when one_session is null then auth_session_id <> private.my_auth_session() else auth_session_id = meant end;
  get diagnostics streaming = row_count;
  return jsonb_build_object('ok', true, 'streaming', streaming);
end $$;

-- End one session of the caller, or (*one_session* null) all sessions except the calling one.
create function private.revoke_sessions(me uuid, one_session uuid) returns jsonb language plpgsql as $$
declare
  this_one uuid := private.my_auth_session();
  ended integer;
begin
  perform private.require_recent();
  with gone as (
    delete from private.app_sessions
    where user_id = me
      and case when one_session is null then auth_session_id <> this_one else id = one_session end
    returning auth_session_id
  ), signed_out as (
    delete from auth.sessions
    where user_id = me
      and (id in (select auth_session_id from gone) or one_session is null and id <> this_one)
  )
  select count(*) into ended from gone;
  perform private.note_own(me, 'session.revoke', jsonb_build_object('ended', ended));
  return jsonb_build_object('ok', true, 'ended', ended);
end $$;

-- Count an attempt in each of *buckets*, a JSON array of {bucket, at_most, seconds}, before its result is known, so that
-- parallel guesses count as well. At the first full bucket the attempt is refused, and later buckets do not count it.
-- Buckets are locked in the order given.
create function private.throttle(buckets public.free_text) returns jsonb language plpgsql as $$
declare
  counted jsonb;
  length interval;
  counter private.throttles;
begin
  for counted in select jsonb_array_elements(buckets::jsonb) loop
    length := make_interval(secs => (counted ->> 'seconds')::integer);
    -- also deletes a window that ends later than a new window would, because it was begun while the clock was ahead
    delete from private.throttles where bucket = counted ->> 'bucket'
      and (window_ends <= clock_timestamp() or window_ends > clock_timestamp() + length);
    insert into private.throttles as known (bucket, window_ends, attempts)
    values (counted ->> 'bucket', clock_timestamp() + length, 1)
    on conflict (bucket) do update set attempts = known.attempts + 1 returning * into counter;
    if counter.attempts > (counted ->> 'at_most')::integer then
      return jsonb_build_object('ok', false, 'reason', 'too_many_attempts',
        'retry_after', greatest(1, ceil(extract(epoch from counter.window_ends - clock_timestamp()))::integer));
    end if;
  end loop;
  return '{"ok": true}';
end $$;
