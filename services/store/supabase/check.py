"""The findings of `operate check` about the Supabase API and the database behind it."""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime

import httpx
import psycopg
from pydantic import SecretStr, TypeAdapter, ValidationError

from services.crypto import ServerProof
from services.domain import UserId
from services.domain.addresses import EmailAddress
from services.errors import (
    AddressNotAllowed,
    AppError,
    MailUnsent,
    Misconfigured,
    ServerRefused,
    StoreUnavailable,
    TooManyAttempts,
)
from services.store.backend import StoredCredentials
from services.store.operator import (
    Finding,
    LookupFault,
    Mark,
    PresentKeys,
    few_names,
    judge_lookups,
    judge_root_keys,
    judge_ways_in,
    unchecked,
)
from services.store.supabase import auth, migrations
from services.store.supabase.api import LEAST, PAGE, Gateway, ServerCalls
from services.store.supabase.auth import AuthSettings
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.schema import FOLDER, read

# PostgREST refuses a token whose time of issue is later than its own clock by more than this
_MAX_SKEW_SECONDS = 30.0
_MIN_TOKEN_SECONDS = 20 * 60
_MAX_ERASURE_SECONDS = 3600.0
_SIGN_IN = "Authentication, Sign In / Providers"
_SMTP = "Authentication, Emails, SMTP Settings"
AUTH_MAIL = "Auth's mail"
_AUDIT_LOGS = "Authentication, Audit Logs"
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
  (select token_seconds from private.app_sessions order by created_at desc limit 1),
  array(select coalesce(email, id::text) from auth.users where not exists (
    select from private.roles where user_id = users.id)
    and created_at < (select made_at from private.settings) order by 1),
  private.can_erase_log_entries(),
  (select count(*) from private.log_erasures),
  (select coalesce(extract(epoch from clock_timestamp() - min(since)), 0)::float8 from private.log_erasures)
"""
_ROOT_KEY_USERS = """
select version, array_agg(coalesce(email, person::text) order by email) from private.root_key_uses()
left join auth.users on users.id = person group by version order by version
"""
_STORED = TypeAdapter(StoredCredentials)
# the credentials of all users, including deleted users that a row of private.lookups refers to
_CREDENTIALS = """
select user_id, coalesce(email, user_id::text), roles.deleted_at is null, private.credentials_of(credentials),
  coalesce(beside.lookups, '{}')
from private.roles left join auth.users on users.id = user_id left join private.credentials using (user_id) left join (
  select user_id, array_agg(lookup) lookups from private.lookups
  where (expires_at > clock_timestamp()) is not false group by user_id
) beside using (user_id)
where roles.deleted_at is null or beside.lookups is not null order by user_id
"""
# HTTP statuses with which the API refuses its key
_REFUSED_KEY = 401, 403
REFUSED_PROOF = (
    Mark.FAIL,
    "the API takes no proof of these root keys: the data was encrypted with others, or `migrate` has not run with these",
)
_OTHER_PROJECT = (
    Mark.FAIL,
    "the API takes no proof of these root keys, which are those of the database: SUPABASE_URL is of another project, "
    "or the clocks differ",
)
_ACCEPTED = "select exists (select from private.server_keys where id = %s and retired_at is null)"


# all findings, keyed by name and marked as not checked, in the order of the printed table
UNCHECKED = unchecked(
    "SUPABASE_URL and SUPABASE_KEY", "API key", "sign-up", "root keys", "max rows"
) | unchecked(
    "DATABASE_URL",
    "clocks",
    "safeupdate",
    "schema",
    "access tokens",
    "credentials",
    "ways in",
    "look-ups",
    "users",
    "auth log",
)


def check_api(
    url: str,
    key: SecretStr,
    keys: PresentKeys | str,
    mail_to: EmailAddress | None = None,
    *,
    sends_mail: bool,
) -> dict[str, Finding]:
    """Return the findings about the API at *url*; *keys*, *mail_to* and *sends_mail* as in `Operator.check`."""
    # only the embedded API is called over plain http, and needs this transport
    transport = LiteTransport() if url.startswith("http:") else None
    gateway = Gateway.to(url, key, transport)
    is_publishable = key.get_secret_value().startswith("sb_publishable_")
    kind = "publishable" if is_publishable else "anon, of the old kind"
    with gateway.http:
        settings, clocks = _auth_settings(gateway)
        if settings in _REFUSED_KEY:
            refused = Mark.FAIL, "the API refuses SUPABASE_KEY: copy it again"
            names = "sign-up", "root keys", "max rows", *([AUTH_MAIL] if mail_to else [])
            return {"API key": refused} | clocks | unchecked("a key that the API takes", *names)
        taken = {"API key": (Mark.OK, kind)} if settings else unchecked("the API", "API key")
        sign_up = {"sign-up": judge_sign_up(settings, sends_mail=sends_mail)}
        mail = _check_mail(gateway, settings, mail_to)
        return taken | sign_up | clocks | _check_root_keys(gateway, keys) | mail


def _check_mail(
    gateway: Gateway, settings: AuthSettings | int, mail_to: EmailAddress | None
) -> dict[str, Finding]:
    """Return the finding about Supabase Auth's mails, if they confirm addresses here, or if *mail_to* asks for one.

    *mail_to* as in `Operator.check`.
    """
    if not isinstance(settings, AuthSettings):
        return unchecked("Supabase Auth", AUTH_MAIL) if mail_to else {}
    if settings.mailer_autoconfirm:
        unused = Mark.NOTE, "not checked: Supabase Auth sends none, because Confirm email is off"
        return {AUTH_MAIL: unused} if mail_to else {}
    if mail_to is None:
        return unchecked("a mail (--mail-to ADDRESS, of an account)", AUTH_MAIL)
    try:
        auth.send_recovery(gateway.client(), mail_to)
        return {AUTH_MAIL: (Mark.OK, f"accepted for {mail_to}: see whether it arrives")}
    except AppError as error:
        return {AUTH_MAIL: judge_unsent(error)}


def _auth_settings(gateway: Gateway) -> tuple[AuthSettings | int, dict[str, Finding]]:
    """Return Supabase Auth's settings, or an HTTP status (0: no response), and the finding about the clocks, if any."""
    settings: AuthSettings | int = 0
    clocks: dict[str, Finding] = {}
    with suppress(httpx.HTTPError, ValidationError):
        reply = auth.get_settings(gateway)
        is_success, content = reply.is_success, reply.content
        settings = AuthSettings.model_validate_json(content) if is_success else reply.status_code
        if date := reply.headers.get("Date"):
            clocks = {"clocks": judge_clocks(parsedate_to_datetime(date).timestamp() - time.time())}
    return settings, clocks


def _check_root_keys(gateway: Gateway, keys: PresentKeys | str) -> dict[str, Finding]:
    not_checked = unchecked("the root keys", "max rows")
    if isinstance(keys, str):
        return {"root keys": (Mark.UNKNOWN, f"not checked: {keys}")} | not_checked
    server = ServerCalls(gateway.client(), ServerProof(keys.proof_key))
    try:
        return {
            "root keys": judge_root_keys(
                server.stored_versions().versions, keys.proof_keys, keys.current
            ),
            "max rows": judge_max_rows(server.row_bound()),
        }
    except ServerRefused:
        return {"root keys": REFUSED_PROOF} | not_checked
    except StoreUnavailable:
        advice = "not checked, because the API fails: check SUPABASE_URL and SUPABASE_KEY, and whether the project is paused"
        return {"root keys": (Mark.FAIL, advice)} | unchecked("the API", "max rows")


def check_database(connection: psycopg.Connection, keys: PresentKeys | str) -> dict[str, Finding]:
    """Return the findings about the database; change nothing. *keys*: root keys, or why they are missing."""
    asked_at = time.time()
    [(now, has_safeupdate)] = connection.execute(_SERVER)
    loaded = f"{'' if has_safeupdate else 'not '}loaded for the API's connections"
    text = f"{loaded}; Daybook runs with it and without"
    found = {"clocks": judge_clocks(now - asked_at), "safeupdate": (Mark.OK, text)}
    try:
        missing = migrations.missing(connection, read(FOLDER))
        problem = ", ".join(migration.version for migration in missing)
        problem = problem and f"lacks {problem}: run `migrate`"
    except Misconfigured as error:
        problem = error.public
    if problem:
        names = ("access tokens", "credentials", "ways in", "look-ups", "users", "auth log")
        not_checked = unchecked("the schema", *names)
        return found | {"schema": (Mark.FAIL, problem)} | not_checked
    [(token_seconds, foreign_users, *log)] = connection.execute(_SCHEMA)
    return found | {
        "schema": (Mark.OK, "Daybook's, and up to date"),
        "access tokens": judge_access_tokens(token_seconds),
        **_check_sealed(connection, keys),
        "users": judge_users(foreign_users, None if isinstance(keys, str) else keys.most_named),
        "auth log": judge_auth_log(*log),
    }


def with_both(api: Mapping[str, Finding], database: Mapping[str, Finding]) -> dict[str, Finding]:
    """Return the findings about the API and the database; that about the root keys names the cause."""
    found = {**api, **database}
    if api["root keys"] == REFUSED_PROOF and found["root keys"][0] is Mark.OK:
        found["root keys"] = _OTHER_PROJECT
    return found


def root_key_users(connection: psycopg.Connection) -> dict[int, list[str]]:
    """Return the addresses of the users whose rows are sealed under a root key, keyed by its version."""
    return dict(connection.execute(_ROOT_KEY_USERS).fetchall())


def _check_sealed(connection: psycopg.Connection, keys: PresentKeys | str) -> dict[str, Finding]:
    """Return the findings about the root keys and what they open."""
    not_checked = unchecked("the root keys", "credentials", "ways in", "look-ups")
    if isinstance(keys, str):
        return {"root keys": (Mark.UNKNOWN, f"not checked: {keys}")} | not_checked
    root_keys = _judge_root_keys(connection, keys)
    if root_keys[0] is Mark.FAIL:
        return {"root keys": root_keys} | not_checked
    return {"root keys": root_keys} | _check_credentials(connection, keys)


def _judge_root_keys(connection: psycopg.Connection, keys: PresentKeys) -> Finding:
    if wrong := migrations.wrong_server_keys(connection, keys.proof_keys):
        text = f"root key {wrong[0]} is not the one that this data was encrypted with"
        return Mark.FAIL, f"{text}: put the right one back"
    finding = judge_root_keys(root_key_users(connection), keys.proof_keys, keys.current)
    [(is_accepted,)] = connection.execute(_ACCEPTED, [keys.current])
    if finding[0] is Mark.OK and not is_accepted:
        text = f"the database does not know root key {keys.current}"
        return Mark.FAIL, f"{text}: run `migrate` with these root keys"
    return finding


def _check_credentials(connection: psycopg.Connection, keys: PresentKeys) -> dict[str, Finding]:
    unopened, faults = list[UserId](), dict[str, Collection[LookupFault]]()
    left_out, with_refused_passkey = list[str](), list[str]()
    for user_id, name, is_account, row, lookups in connection.execute(_CREDENTIALS):
        stored = row and _STORED.validate_python(row)
        if is_account and not (stored and keys.opens(stored)):
            unopened.append(user_id)
        if is_account and stored and not keys.has_way_in(stored):
            left_out.append(name)
        if is_account and stored and keys.holds_refused_passkey(stored):
            with_refused_passkey.append(name)
        faults[str(user_id)] = keys.lookup_faults(stored, lookups)
    return {
        "credentials": judge_credentials(unopened, keys.most_named),
        "ways in": judge_ways_in(left_out, with_refused_passkey, keys.most_named),
        "look-ups": judge_lookups(faults, keys.most_named),
    }


def judge_sign_up(settings: AuthSettings | int, *, sends_mail: bool = False) -> Finding:
    """Return a finding about sign-ups; *settings*: Supabase Auth's, or an HTTP status (0: no response)."""
    match settings:
        case 0:
            return Mark.FAIL, "Supabase Auth does not answer: check SUPABASE_URL"
        case int(status):
            return Mark.FAIL, f"the API answers {status}: is the project paused?"
        case AuthSettings(has_email=False):
            return Mark.FAIL, f"switch on Email under {_SIGN_IN}"
        case AuthSettings(disable_signup=True):
            return Mark.NOTE, f"closed to new accounts, unless you allow them under {_SIGN_IN}"
        case AuthSettings(mailer_autoconfirm=False) if sends_mail:
            text = "Supabase Auth confirms addresses, so Daybook's own codes cannot"
            return Mark.NOTE, f"{text}: switch off Confirm email under {_SIGN_IN}"
        case AuthSettings(mailer_autoconfirm=False):
            text = "Supabase Auth confirms addresses, and its own mail server sends to the project's team only"
            return Mark.NOTE, f"{text}: enter yours under {_SMTP}"
        case _:
            return Mark.OK, "open, without confirmation of addresses"


def judge_unsent(error: AppError) -> Finding:
    """Return the finding about Supabase Auth's mails, after *error*, for which it sent none."""
    match error:
        case MailUnsent():
            text = "Supabase Auth's mail server refuses, or does not answer"
            return Mark.FAIL, f"{text}: check {_SMTP}; the project's Auth logs have its answer"
        case AddressNotAllowed():
            text = "Supabase's own mail server sends to the project's team only"
            return Mark.FAIL, f"{text}: enter yours under {_SMTP}"
        case TooManyAttempts():
            return Mark.NOTE, f"not checked, because of Supabase Auth's limits. {error.public}"
        case _:
            return Mark.FAIL, "Supabase Auth does not answer, or fails: its logs say more"


def judge_max_rows(bound: int) -> Finding:
    if bound < LEAST:
        advice = "set Max rows to 1000 under Project Settings, Data API"
        return Mark.FAIL, f"{bound} are too few: {advice}"
    return Mark.OK, f"{bound}" if bound <= PAGE else f"more than {PAGE}"


def judge_clocks(ahead_seconds: float) -> Finding:
    skew = f"{abs(ahead_seconds):.0f} s apart"
    if abs(ahead_seconds) > _MAX_SKEW_SECONDS:
        return Mark.FAIL, f"{skew}: set this machine's (NTP)"
    return Mark.OK, skew


def judge_access_tokens(seconds: int | None) -> Finding:
    """Return a finding about the lifetime of the newest session's access token (None: there is no session yet)."""
    if seconds is None:
        return Mark.UNKNOWN, "unknown until the first sign-in"
    if seconds <= _MIN_TOKEN_SECONDS:
        advice = "set their expiry to 3600 s under Project Settings, JWT Keys"
        return Mark.FAIL, f"good for {seconds} s: {advice}"
    return Mark.OK, f"good for {seconds} s"


def judge_credentials(unopened: Sequence[UserId], most_named: int | None) -> Finding:
    """Return a finding about the users whose credentials are missing or cannot be decrypted."""
    if not unopened:
        return Mark.OK, "all users' open"
    named = few_names([str(user_id) for user_id in unopened], most_named)
    text = f"those of {len(unopened)} are missing or do not open ({named})"
    return Mark.FAIL, f"{text}: put their rows of private.credentials back from a backup"


def judge_users(foreign: Sequence[str], most_named: int | None) -> Finding:
    """Return a finding about *foreign*, Supabase Auth's users that are older than Daybook and have no account."""
    if foreign:
        named = few_names(foreign, most_named)
        text = f"{len(foreign)} of Supabase Auth are not Daybook's, and cannot use it ({named})"
        return Mark.NOTE, f"{text}: give it a project of its own"
    return Mark.OK, "all are Daybook's"


def judge_auth_log(can_erase: bool | None, accounts: int, oldest_seconds: float) -> Finding:
    """Return a finding about deleted accounts that are still in Supabase Auth's log; *accounts*: their number.

    *can_erase*: Daybook may delete entries of the log; None: the database has no log. *oldest_seconds*: the time since the
    first of these accounts was deleted.
    """
    if can_erase is None:
        return Mark.OK, "none is kept in the database"
    advice = f"stop writing it to the database under {_AUDIT_LOGS}, and empty the table"
    if not can_erase:
        text = "may not be deleted: the addresses of deleted accounts stay"
        mark = Mark.FAIL if accounts else Mark.NOTE
        return mark, f"entries of auth.audit_log_entries {text}; {advice}"
    if oldest_seconds > _MAX_ERASURE_SECONDS:
        text = f"deleted accounts are in auth.audit_log_entries after {oldest_seconds / 3600:.0f} h"
        return Mark.FAIL, f"{accounts} {text}: start the app, or, if the log is too large, {advice}"
    under_way = f", {accounts} under way" if accounts else ""
    return Mark.OK, f"deleted accounts are removed from it{under_way}"
