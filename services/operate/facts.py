"""What `operate check` judges, asked of the Supabase API and of the database behind it."""

import time
from email.utils import parsedate_to_datetime

import httpx
import psycopg
from psycopg.rows import class_row
from pydantic import SecretStr, ValidationError

from services.crypto import RootKeys, ServerProof
from services.embedded.folders import MIGRATIONS
from services.errors import Misconfigured, StoreUnavailable
from services.operate.check import ApiFacts, AuthSettings, DatabaseFacts, ProvenFacts, SchemaFacts
from services.store.supabase import migrations
from services.store.supabase.api import Gateway, ServerCalls
from services.store.supabase.lite_transport import LiteTransport

_SERVER = """
select extract(epoch from clock_timestamp())::float8, exists (
  select from pg_catalog.pg_db_role_setting chosen
  left join pg_catalog.pg_roles on pg_roles.oid = setrole
  left join pg_catalog.pg_database on pg_database.oid = setdatabase
  where coalesce(rolname, 'authenticator') = 'authenticator'
    and coalesce(datname, current_database()) = current_database()
    and array_to_string(setconfig, ' ') ~ 'session_preload_libraries=[^ ]*safeupdate'
)
"""
_SCHEMA = """
select
  (select token_seconds from private.app_sessions order by created_at desc limit 1) as token_seconds,
  (select count(*) from auth.users where not exists (
    select from public.profiles where user_id = users.id)) as strangers
"""


def of_the_api(url: str, key: SecretStr, ring: RootKeys | None) -> ApiFacts:
    """Ask the API at *url*; without *ring* nothing that wants a server proof."""
    # the embedded API is the only one that is spoken to in plain http
    transport = LiteTransport(trust_env=False) if url.startswith("http:") else None
    gateway = Gateway.to(url, key, transport)
    with gateway.http:
        auth, ahead = _auth(gateway)
        return ApiFacts(
            is_publishable=key.get_secret_value().startswith("sb_publishable_"),
            auth=auth,
            ahead_seconds=ahead,
            proven=_proven(gateway, ring) if ring else None,
        )


def of_the_database(connection: psycopg.Connection) -> DatabaseFacts:
    """Ask the database; nothing in it is changed."""
    asked_at = time.time()
    [(now, has_safeupdate)] = connection.execute(_SERVER)
    return DatabaseFacts(
        ahead_seconds=now - asked_at, has_safeupdate=has_safeupdate, schema=_schema(connection)
    )


def _auth(gateway: Gateway) -> tuple[AuthSettings | int, float | None]:
    """The settings of Supabase Auth, or the status in their place, and how far its clock is ahead."""
    try:
        answer = gateway.http.get(
            f"{gateway.url}/auth/v1/settings", headers={"apikey": gateway.key.get_secret_value()}
        )
        settings = AuthSettings.model_validate_json(answer.content) if answer.is_success else None
    except (httpx.HTTPError, ValidationError):
        return 0, None
    date = answer.headers.get("Date")
    ahead = parsedate_to_datetime(date).timestamp() - time.time() if date else None
    return settings or answer.status_code, ahead


def _proven(gateway: Gateway, ring: RootKeys) -> ProvenFacts | None:
    server = ServerCalls(gateway.client(), ServerProof(ring.proof_key()))
    try:
        return ProvenFacts(
            root_key_versions=server.root_key_versions(), row_bound=server.row_bound()
        )
    except StoreUnavailable:
        return None


def _schema(connection: psycopg.Connection) -> SchemaFacts | list[str] | str:
    try:
        missing = migrations.missing(connection, migrations.read(MIGRATIONS))
    except Misconfigured as error:
        return error.public
    if missing:
        return [migration.version for migration in missing]
    with connection.cursor(row_factory=class_row(SchemaFacts)) as cursor:
        [facts] = cursor.execute(_SCHEMA)
    return facts
