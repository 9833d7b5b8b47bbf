"""The deployments under the suite of accounts, and all that it knows of their classes.

The tests speak to `Deployment` and its `User` alone: the services that pages have, and the calls of a process for itself.
What an operator, a fault or an attacker does to a deployment is a verb of `Deployment`; one that a store has no use for
skips its test.

To add a kind:

1. Write a subclass of `Deployment`, with the verbs documented below.
2. Add a `Kind` to `KINDS`. It gets pytest's `getfixturevalue`, for the fixtures that start what the store needs.
   A store over tables has both already: `OverTables` takes what makes the tables of a deployment.
3. Run `pytest -n0 tests/store/conformance/accounts -k NAME`.
"""

import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Protocol
from unittest.mock import patch
from uuid import uuid4

import httpx
import psycopg
import pytest

from services.caches import CachedRead
from services.crypto import RootKeys, ServerProof, new_key
from services.domain import AccountRole
from services.embedded.folders import Folders, free_port
from services.embedded.plan import prepare
from services.embedded.postgres import Postgres
from services.embedded.supabase_api import SupabaseApi
from services.errors import AppError, StoreUnavailable, TooManyAttempts
from services.rules import part_of
from services.rules.accounts import Lookup
from services.store.accounts import Cookie
from services.store.administration import ModelAdministration, SignUpAdministration, UserAccess
from services.store.backend import Attempt, StoredCredentials, Throttle, Throttles
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.supabase import auth, migrations
from services.store.supabase.api import UserCalls
from services.store.supabase.backend import SupabaseBackend
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.operator import SupabaseOperator
from services.store.supabase.schema import FOLDER
from services.store.tables.access import settings_of
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.operator import TablesOperator
from services.store.tables.schema import (
    ACCOUNTS,
    CREDENTIALS,
    LOOKUPS,
    SESSIONS,
    SETTINGS,
    CredentialsRow,
)
from services.store.tables.upkeep import keep_sweeping
from tests.firestore import stores_at
from tests.stack.apps import until
from tests.stack.starts import await_child, tried_twice
from tests.store.conformance.backends import everything
from tests.store.conformance.bytes_store import BytesStore
from tests.store.conftest import PASSWORD, Wire, make_sessions, new_email
from tests.stores import NOT_COUNTED, OpenStore, accounts_in_memory, made_in, store_of, sweep

DAY = 86400  # seconds


def at_once(*acts):
    """Call all *acts* at the same moment; return the result of each, or its error."""
    start = threading.Barrier(len(acts))

    def once(act):
        start.wait()
        try:
            return act()
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            return error

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(once, acts))


def error_of(act, *arguments):
    """Return the class of the expected error that *act* raises; None if it raises none."""
    try:
        act(*arguments)
    except AppError as error:
        return type(error)
    return None


@dataclass(frozen=True, kw_only=True)
class User:
    """A signed-in user on one device, by the services that pages have."""

    deployment: "Deployment" = field(repr=False)
    email: str
    cookie: object = field(repr=False)
    session: object = field(repr=False)

    @property
    def id(self):
        return self.session.user_id

    @cached_property
    def store(self):
        """What the user has stored, with nothing cached."""
        return self.deployment.store(self.session)

    @cached_property
    def administration(self):
        return self.deployment.administration(self.session)

    @cached_property
    def models(self):
        return self.deployment.models(self.session)

    @cached_property
    def sign_ups(self):
        return self.deployment.sign_ups(self.session)

    @cached_property
    def usage(self):
        return self.deployment.usage(self.session)

    def account(self):
        return self.deployment.account(self.session)

    def sign_in(self, **options):
        """The user on one more device."""
        cookie, session = self.deployment.accounts.sign_in_with(self.email, PASSWORD, **options)
        return replace(self, cookie=cookie, session=session)


class Deployment(Protocol):
    """One deployment, and what happens to it."""

    # the accounts as one process has them: sign_up_with, sign_in_with, change_with, delete_with, open, ended, end, backend
    accounts: object
    # the calls of a process for itself: sweep, erase_log_entries, throttle, probe, root_key_versions, model_settings,
    # sign_ups, next_is_admin
    server: object
    elapsed = 0.0  # seconds that have passed for tests
    not_counted = NOT_COUNTED  # the throttles of an attempt that is not counted
    brings_first_page = False  # with a sign-in, because each read would be a further call
    has_log = True  # of sign-ins, beside the tables of the app
    # the root keys in use once a session is opened under key 2: the session's own stays until its token is renewed
    versions_after_opening = (1, 2)

    def close(self):
        """Free what the deployment holds."""

    def sign_up(self, email=None, **options):
        """Return a `User` who has just signed up."""
        email = email or new_email()
        cookie, session = self.accounts.sign_up_with(email, PASSWORD, **options)
        return User(deployment=self, email=email, cookie=cookie, session=session)

    def sign_up_admin(self):
        """Return an admin who has just signed up."""
        admin = self.sign_up()
        self.make_admin(admin)
        return admin

    # --- services of a session

    def store(self, session): ...
    def administration(self, session, stop_turns=lambda _: None): ...
    def models(self, session): ...
    def sign_ups(self, session): ...
    def usage(self, session): ...
    def account(self, session): ...

    def devices(self, session):
        """Return the sessions of a user by id: True for the one that asks."""
        return {one.session: one.is_this_one for one in session.backend.devices()}

    def put_device(self, user, sealed):
        """Have the stored session of *user* have another sealed name of its device."""

    # --- processes, the operator, time

    def process(self, *, idle_seconds=3600, lifetime_seconds=DAY):
        """Return the accounts as another process has them, with nothing cached."""

    def serves_several_processes(self):
        """Skip the test of a store that one process of the app uses alone."""
        pytest.skip("one process of the app uses this store")

    def process_with_new_root_key(self):
        """Return the accounts as a process has them whose root keys have a new version 2 beside the old one."""

    def process_with_short_tokens(self):
        """Return the accounts as a process has them in which what a sign-in gives must be renewed at once."""

    @property
    def operator(self):
        """The port of the operator's commands."""

    def make_admin(self, user):
        """Give a user the role of an admin, as an operator does."""
        self.give_role(user, AccountRole.ADMIN)

    def give_role(self, user, role):
        """Store a role of a user, perhaps one that only a newer version knows."""

    def let_first_be_admin(self):
        """Have the first account become the admin's."""

    def put_factor_rule(self, *, is_on):
        """Store that the deployment requires a second factor, and end no session: the process was killed then."""

    def let_pass(self, seconds):
        """Let time pass for accounts of this test. Nothing is swept."""

    def let_pass_swept(self, days):
        """Let days pass, with a sweep each half day."""
        for _ in range(int(2 * days)):
            self.let_pass(DAY // 2)
            self.sweep()

    def monotonic(self, clock=time.monotonic):
        """Return the monotonic time of every process."""
        return clock() + self.elapsed

    def sweep(self):
        """Sweep until nothing more is due."""

    def stored_text(self):
        """Return all that is stored, as one string."""

    def stored_keys(self, user):
        """Return the wrapped keys of *user*."""

    def identities(self, user):
        """Return the number of times that *user* is signed in where passwords are checked."""
        pytest.skip("nothing is stored of a password that was checked")

    @contextmanager
    def upkeep(self, report):
        """Have a process look after the store; *report* gets each outage as a sentence, and "" at its end."""
        self.accounts.backend.start_upkeep(report)
        yield

    # --- faults and attacks

    @contextmanager
    def away(self):
        """Have every call fail."""
        yield

    def lose_answer(self):
        """Have the next proof be noted, and its answer be lost."""

    @contextmanager
    def lost_key(self, user):
        """Take the wrapped key of a user away meanwhile."""
        yield

    def seal_under(self, version, user, *, is_session):
        """Have the key of a user, or their session, look as if it were sealed under another root key."""

    def credentials(self):
        """Return all stored credentials by id."""

    def put_credentials(self, *rows, gone=()):
        """Store *rows* of credentials in place of those with their ids, and of those with the ids *gone*."""

    def lookups(self, user):
        """Return the stored look-ups beside the credentials of *user*: of former addresses and ways in."""

    def put_lookup(self, lookup, user, *, is_way_in=False):
        """Have a look-up of a former address, or of a way in, name *user*, as who writes to the store could."""

    def outsider(self, email, password=PASSWORD):
        """Make a user of Supabase Auth who has no account, past the app."""
        pytest.skip("users are made by the app alone")

    def change_auth(self, user, **columns):
        """Change columns of a user of Supabase Auth, as the owner of the database can."""
        pytest.skip("users have no rows beside those of the app")

    def give_session(self, victim, thief):
        """Have the stored session of *thief* name the user *victim*, as who writes to the database could."""

    def give_cookie(self, victim, thief):
        """Have the stored session of *victim* be that of the cookie of *thief*."""

    def forged(self, user, victim):
        """Return *user* with a session whose calls name another user."""

    def without_proof(self, user):
        """Return *user* as one who has the access token and not the keys of the app."""
        pytest.skip("nothing but the app reaches this store")

    def server_without_proof(self):
        """Return the calls of a process that has not the keys of the app."""
        pytest.skip("nothing but the app reaches this store")


class _Line(Wire):
    """The sockets to the API, which can be cut."""

    is_cut = False
    is_over = False  # for the threads that use them
    loses = None  # the name of a function whose next answer gets lost

    def handle_request(self, request):
        if self.is_over:
            raise SystemExit
        if self.is_cut:
            raise httpx.ConnectError("away", request=request)
        answer = super().handle_request(request)
        if self.loses and request.url.path.endswith(self.loses):
            self.loses = None
            raise httpx.ReadError("lost", request=request)
        return answer


@dataclass(frozen=True)
class _Server:
    """The calls of a process for itself."""

    backend: SupabaseBackend

    def __getattr__(self, name):
        return getattr(self.backend.server, name)  # sweep, erase_log_entries

    def root_key_versions(self):
        return self.backend.root_key_versions()

    def throttle(self, *buckets, nonce=None):
        """Count an attempt in *buckets*: name, most, seconds. Return the seconds to wait; None: it is let in."""
        attempt = Attempt(
            lookups=("0" * 64,),
            throttles=Throttles(tuple(Throttle(*one) for one in buckets)),
            invitation=None,
            invited=None,
            nonce=nonce or uuid4(),
        )
        try:
            self.backend.count_attempt(attempt)
        except TooManyAttempts as refused:
            return refused.retry_after
        return None

    def probe(self):
        """Ask for nothing. Raise StoreUnavailable."""
        self.backend.is_alive(Cookie.new().hash)

    def model_settings(self):
        return self.backend.model_settings()

    def sign_ups(self):
        return self.backend.sign_up_state().mode

    def next_is_admin(self):
        return self.backend.sign_up_state().is_first_admin


class _Administration:
    """The verbs of an admin, with the ends of sessions as the app has them."""

    def __init__(self, administration, stop_turns):
        self._port, access = administration, UserAccess(administration, stop_turns)
        self.suspend, self.sign_out, self.delete = access.suspend, access.sign_out, access.delete

    def __getattr__(self, name):
        return getattr(self._port, name)


# times by which something ends; those of a user only if the account began in this test
_ENDS = (
    *("app_sessions.created_at", "app_sessions.seen_at", "app_sessions.expires_at"),
    "app_sessions.proved_at",
    "budgets.minute",
    *("conversations.updated_at", "conversations.destroy_at", "conversations.undo_until"),
    *("messages.destroy_at", "turns.lease_until", "invitations.expires_at"),
    *("throttles.window_ends", "steps.expires_at", "seen_nonces.seen_at", "notices.at"),
    "settings.retention_from",
    *("log_erasures.since", "credentials.signed_up_at", "lookups.expires_at"),
)
_OWNERS = {"invitations": "made_by"} | dict.fromkeys(
    ("throttles", "steps", "seen_nonces", "settings", "log_erasures", "credentials")
)
_PUBLIC = ("conversations", "messages", "turns")
_CREDENTIALS = tuple(StoredCredentials.__dataclass_fields__)


class SupabaseDeployment(Deployment):
    """A deployment over supabase-py, against the API and database of *stack*."""

    brings_first_page = True

    def __init__(self, stack):
        self._stack, self._line, self._others = stack, _Line(), []
        self.accounts = make_sessions(stack, self._line)
        self.server = _Server(self.accounts.backend)
        self._model_settings = CachedRead(self.server.model_settings)
        self._sign_ups = CachedRead(self.server.backend.sign_up_state)
        log = "to_regclass('auth.audit_log_entries') is not null"
        [(self._since, self.has_log)] = self._execute(f"select clock_timestamp(), {log}")

    def close(self):
        for accounts in (self.accounts, *self._others):
            accounts.backend.gateway.http.close()

    def store(self, session):
        return store_of(session)

    def administration(self, session, stop_turns=lambda _: None):
        return _Administration(session.backend.administration, stop_turns)

    def models(self, session):
        return ModelAdministration(session.backend.administration, self._model_settings)

    def sign_ups(self, session):
        confirms = self.accounts.backend.sign_in.confirms_addresses
        return SignUpAdministration(session.backend.administration, self._sign_ups, confirms)

    def usage(self, session):
        return session.backend.rows().usage

    def account(self, session):
        return session.backend.account()

    def process(self, *, wire=None, **settings):
        # a wire, because a thread that reads ahead may call after the end of its test
        self._others.append(make_sessions(self._stack, wire or Wire(), **settings))
        return self._others[-1]

    def serves_several_processes(self):
        pass

    def process_with_new_root_key(self):
        accounts = self.accounts
        keys = {1: urlsafe_b64decode(self._stack.root_keys), 2: new_key()}
        ring = RootKeys(keys, 2)
        with self._stack.connect() as database:
            migrations.install_server_keys(database, ring.proof_keys())
        backend = replace(accounts.backend, proof=ServerProof(ring.proof_key()))
        self._others.append(replace(accounts, root_keys=ring, backend=backend))
        return self._others[-1]

    def process_with_short_tokens(self):
        return self.process(wire=Wire(lifetime=0))

    @property
    def operator(self):
        return SupabaseOperator(self._stack.connect, None)

    def give_role(self, user, role):
        self._execute("update private.roles set role = %s where user_id = %s", str(role), user.id)

    def let_first_be_admin(self):
        self._execute("update private.settings set first_account_is_admin = true where id")

    def put_factor_rule(self, *, is_on):
        self._execute("update private.settings set requires_factor = %s where id", is_on)

    def let_pass(self, seconds):
        self.elapsed += seconds
        mine = "select user_id from private.roles where granted_at >= %s"
        with self._stack.connect() as database:
            for end in _ENDS:
                table, column = end.split(".")
                owner = _OWNERS.get(table, "user_id")
                where = f"{owner} in ({mine})" if owner else "%s::timestamptz is not null"
                schema = "public" if table in _PUBLIC else "private"
                earlier = f"{column} = {column} - make_interval(secs => %s)"
                statement = f"update {schema}.{table} set {earlier} where {column} is not null"
                database.execute(f"{statement} and {where}", [seconds, self._since])

    def sweep(self):
        sweep(self.accounts.backend)

    def stored_text(self):
        with self._stack.connect() as database:
            return everything(database)

    def stored_keys(self, user):
        keys = "select wrapped from public.user_keys where user_id = %s"
        return [key for (key,) in self._execute(keys, user.id)]

    def identities(self, user):
        query = "select count(*) from auth.sessions where user_id::text = %s"
        [(count,)] = self._execute(query, str(user.id))
        return count

    @contextmanager
    def upkeep(self, report):
        replace(self.accounts.backend, database=DatabaseHealth(0.05)).start_upkeep(report)
        yield
        self._line.is_over = True
        until(lambda: all(one.name != "database-probe" for one in threading.enumerate()))

    @contextmanager
    def away(self):
        self._line.is_cut = True
        yield
        self._line.is_cut = False

    def lose_answer(self):
        self._line.loses = "/prove_session"

    @contextmanager
    def lost_key(self, user):
        keys = "public.user_keys where user_id = %s"
        [key] = self._execute(f"select * from {keys}", user.id)
        self._execute(f"delete from {keys}", user.id)
        yield
        self._execute("insert into public.user_keys values (%s, %s, %s, %s, %s, %s)", *key)

    def seal_under(self, version, user, *, is_session):
        table, column = (
            ("private.app_sessions", "tokens") if is_session else ("public.user_keys", "wrapped")
        )
        text = f"regexp_replace({column}, '^p1\\.\\d+\\.', %s)"
        statement = f"update {table} set {column} = {text} where user_id = %s"
        self._execute(statement, f"p1.{version}.", user.id)

    def credentials(self):
        rows = self._execute(f"select {', '.join(_CREDENTIALS)} from private.credentials")
        return {
            row[0]: StoredCredentials(**dict(zip(_CREDENTIALS, row, strict=True))) for row in rows
        }

    def put_credentials(self, *rows, gone=()):
        ids = [*gone, *(row.id for row in rows)]
        self._execute("delete from private.credentials where id = any(%s)", ids)
        marks = ", ".join(["%s"] * len(_CREDENTIALS))
        for row in rows:
            values = [getattr(row, name) for name in _CREDENTIALS]
            insertion = f"insert into private.credentials ({', '.join(_CREDENTIALS)})"
            self._execute(f"{insertion} values ({marks})", *values)

    def lookups(self, user):
        query = "select lookup from private.lookups where user_id = %s"
        return [lookup for (lookup,) in self._execute(query, user.id)]

    def put_lookup(self, lookup, user, *, is_way_in=False):
        self._execute("delete from private.lookups where lookup = %s", lookup)
        ends = "null" if is_way_in else "now() + interval '72 hours'"
        insertion = (
            f"insert into private.lookups (lookup, user_id, expires_at) values (%s, %s, {ends})"
        )
        self._execute(insertion, lookup, user.id)

    def change_auth(self, user, **columns):
        self._execute("insert into private.password_permits (user_id) values (%s)", user.id)
        changes = ", ".join(f"{name} = %s" for name in columns)
        self._execute(f"update auth.users set {changes} where id = %s", *columns.values(), user.id)
        [(has_identities,)] = self._execute("select to_regclass('auth.identities') is not null")
        if has_identities and "email" in columns:  # by which Supabase Auth finds users, too
            self._execute("delete from auth.identities where user_id::text = %s", str(user.id))

    def outsider(self, email, password=PASSWORD):
        auth.sign_up(self.accounts.backend.gateway.client(), email, password)

    def give_session(self, victim, thief):
        theft = "update private.app_sessions set user_id = %s where id = %s"
        self._execute(theft, victim.id, thief.session.id)

    def put_device(self, user, sealed):
        change = "update private.app_sessions set device = %s where id = %s"
        self._execute(change, sealed, user.session.id)

    def give_cookie(self, victim, thief):
        change = "update private.app_sessions set cookie_hash = %s where id = %s"
        self._execute(change, Cookie.new().hash, thief.session.id)
        self._execute(change, thief.cookie.hash, victim.session.id)

    def forged(self, user, victim):
        return self._with_calls(user, user.session.backend.calls.proof, victim.id)

    def without_proof(self, user):
        return self._with_calls(user, ServerProof(new_key()), user.id)

    def server_without_proof(self):
        backend = replace(self.accounts.backend, proof=ServerProof(new_key()))
        self._others.append(replace(self.accounts, backend=backend))
        return _Server(backend)

    def _with_calls(self, user, proof, user_id):
        """Return *user* with a session whose calls name *user_id* and have proofs by *proof*."""
        calls = UserCalls(user.session.backend.calls.client, proof, user_id)
        backend = replace(user.session.backend, calls=calls)
        return replace(user, session=replace(user.session, user_id=user_id, backend=backend))

    def _execute(self, statement, *values):
        with self._stack.connect() as database:
            answer = database.execute(statement, values)
            return answer.fetchall() if answer.description else []


class _ServerOfTables(_Server):
    """The calls of a process for itself, without a log of sign-ins."""

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def sweep(self):
        return SimpleNamespace(more=self.backend.sweep(), log_erasures=False)

    def erase_log_entries(self):
        self.backend.check()
        return False


class TablesDeployment(Deployment):
    """A deployment over *tables*."""

    versions_after_opening = (2,)  # the session is sealed anew when it is opened
    has_log = False

    def __init__(self, tables):
        self._store, self._root_key = OpenStore(tables), new_key()
        self.accounts = accounts_in_memory(self._store, RootKeys({1: self._root_key}, 1))
        self.server = _ServerOfTables(self.accounts.backend)
        self._model_settings = CachedRead(self.server.model_settings)
        self._sign_ups = CachedRead(self.server.backend.sign_up_state)

    def close(self):
        self._store.close()

    def store(self, session):
        return store_of(session)

    def administration(self, session, stop_turns=lambda _: None):
        return _Administration(session.backend.administration, stop_turns)

    def models(self, session):
        return ModelAdministration(session.backend.administration, self._model_settings)

    def sign_ups(self, session):
        confirms = self.accounts.backend.sign_in.confirms_addresses
        return SignUpAdministration(session.backend.administration, self._sign_ups, confirms)

    def usage(self, session):
        return session.backend.rows().usage

    def account(self, session):
        return session.backend.account()

    @contextmanager
    def upkeep(self, report):
        is_over = threading.Event()

        def wait(_):
            if is_over.wait(0.1):
                raise StoreUnavailable  # ends the thread

        keep = partial(keep_sweeping, wait=wait)
        with patch("services.store.tables.backend.keep_sweeping", keep), super().upkeep(report):
            yield
        is_over.set()

    def process(self, **settings):
        return replace(self.accounts, **settings)

    def process_with_new_root_key(self):
        ring = RootKeys({1: self._root_key, 2: new_key()}, 2)
        return replace(self.accounts, root_keys=ring)

    def process_with_short_tokens(self):
        return self.process()

    @property
    def operator(self):
        opened = SimpleNamespace(of=self._store.of, close=lambda: None)
        return TablesOperator(SimpleNamespace(check=dict), lambda: opened)

    def give_role(self, user, role):
        self._store.change(ACCOUNTS, user.id, role=role)

    def let_first_be_admin(self):
        self._put_settings(first_account_is_admin=True)

    def put_factor_rule(self, *, is_on):
        self._put_settings(requires_factor=is_on)

    def _put_settings(self, **changes):
        settings = self._store.of(None).run(settings_of)
        self._store.of(None).run(lambda block: block.put(SETTINGS, replace(settings, **changes)))

    def let_pass(self, seconds):
        self.elapsed += seconds
        self._store.let_pass(seconds)

    def sweep(self):
        sweep(self.accounts.backend)

    def stored_text(self):
        return str([asdict(row) for *_, row in self._store.rows()])

    def stored_keys(self, user):
        return [key.wrapped for key in self._account(user).keys]

    def _account(self, user):
        return self._store.of(None).run(lambda block: block.get(ACCOUNTS, user.id))

    @contextmanager
    def away(self):
        self._store.is_away = True
        yield
        self._store.is_away = False

    def lose_answer(self):
        self._store.loses_answer = True

    @contextmanager
    def lost_key(self, user):
        keys = self._account(user).keys
        self._store.change(ACCOUNTS, user.id, keys=())
        yield
        self._store.change(ACCOUNTS, user.id, keys=keys)

    def seal_under(self, version, user, *, is_session):
        def changed(text):
            return f"p1.{version}.{text.split('.', 2)[2]}"

        if is_session:
            sealed = changed(self._session(user).sealed)
            self._store.change(SESSIONS, user.cookie.hash, sealed=sealed)
        else:
            keys = tuple(
                replace(key, wrapped=changed(key.wrapped)) for key in self._account(user).keys
            )
            self._store.change(ACCOUNTS, user.id, keys=keys)

    def _session(self, user):
        return self._store.of(None).run(lambda block: block.get(SESSIONS, user.cookie.hash))

    def credentials(self):
        rows = self._store.of(None).run(lambda block: block.select(CREDENTIALS))
        return {row.id: row for row in rows}

    def put_credentials(self, *rows, gone=()):
        def put(block):
            for row_id in gone:
                block.delete(CREDENTIALS, row_id)
            for row in rows:
                block.put(CREDENTIALS, part_of(CredentialsRow, row))

        self._store.of(None).run(put)

    def lookups(self, user):
        where = {"user_id": user.id}
        rows = self._store.of(None).run(lambda block: block.select(LOOKUPS, where))
        return [row.lookup for row in rows]

    def put_lookup(self, lookup, user, *, is_way_in=False):
        expires_at = None if is_way_in else datetime.now(UTC) + timedelta(days=1)
        row = Lookup(lookup=lookup, user_id=user.id, expires_at=expires_at)
        self._store.of(None).run(lambda block: block.put(LOOKUPS, row))

    def give_session(self, victim, thief):
        self._store.change(SESSIONS, thief.cookie.hash, user_id=victim.id)

    def put_device(self, user, sealed):
        self._store.change(SESSIONS, user.cookie.hash, device=sealed)

    def give_cookie(self, victim, thief):
        self._store.change(SESSIONS, victim.cookie.hash, cookie_hash=thief.cookie.hash)

    def forged(self, user, victim):
        caller = replace(user.session.backend.caller, user_id=victim.id)
        backend = replace(user.session.backend, caller=caller)
        return replace(user, session=replace(user.session, user_id=victim.id, backend=backend))


class Kind(Protocol):
    """A store, and the deployments of tests on it."""

    def __init__(self, fixture):
        """*fixture*: pytest's `getfixturevalue`."""

    def close(self):
        """End what was started for deployments of their own."""

    def shared(self):
        """Return a deployment that other tests use as well."""

    def alone(self):
        """Context manager: a deployment of its own, without an account."""


class OverTables(Kind):
    """A store over tables, which *make_tables* makes for each deployment."""

    def __init__(self, make_tables):
        self._make_tables = make_tables

    def shared(self):
        return TablesDeployment(self._make_tables())

    @contextmanager
    def alone(self):
        yield self.shared()


class Embedded(Kind):
    """The embedded stack; for deployments of their own a second one, which each begins with the rows of a new one."""

    def __init__(self, fixture):
        self._fixture = fixture

    def shared(self):
        return SupabaseDeployment(self._fixture("embedded_stack"))

    @contextmanager
    def alone(self):
        with self._fixture("second_postgres").stack() as stack:
            yield SupabaseDeployment(stack)


class SecondPostgres:
    """A Postgres with an API for deployments of their own, started at the first of them: each begins with the rows of a new one."""

    def __init__(self, base, cache):
        self._base, self._cache, self._started = base, cache, ExitStack()

    def close(self):
        self._started.close()

    @contextmanager
    def stack(self):
        """Yield a stack without an account."""
        stack, rows = self._server
        with stack.connect() as database:
            put_back(database, rows)
        yield stack

    @cached_property
    def _server(self):
        base, root_keys = self._base, urlsafe_b64encode(new_key()).decode()
        places = Folders(data=base / "data", keys=base / "keys", cache=self._cache)
        plan = prepare(places, root_keys=root_keys, with_database=True, with_model=False)
        self._started.callback(plan.database.lock.close)
        postgres = Postgres(places, plan.database.secrets, plan.database.lock)
        postgres.prepare()
        self._started.enter_context(_postgres_running(postgres))
        postgres.create_roles()
        SupabaseApi(places, 0, postgres).prepare()
        with postgres.connect(as_owner=True) as owner:
            migrations.apply(owner, FOLDER)
            migrations.install_server_keys(owner, plan.root_keys.proof_keys())
        with postgres.connect() as server:
            for promise in ("fsync", "synchronous_commit", "full_page_writes"):
                server.execute(f"alter system set {promise} = off")
            server.execute("select pg_reload_conf()")
        url = self._started.enter_context(_api_running(places, postgres))
        with postgres.connect() as server:
            rows = stored_rows(server)
        stack = SimpleNamespace(
            url=url,
            publishable_key=postgres.secrets.publishable_key,
            root_keys=root_keys,
            connect=postgres.connect,
        )
        return stack, rows


_TABLES = """select oid::regclass::text from pg_class where relkind = 'r'
    and relnamespace::regnamespace::text not in ('pg_catalog', 'pg_toast', 'information_schema')"""


def stored_rows(database):
    """Return the rows of each table, as COPY writes them."""
    rows = {}
    for (table,) in database.execute(_TABLES).fetchall():
        with database.cursor().copy(f"copy {table} to stdout") as copy:
            rows[table] = b"".join(copy)
    return rows


def put_back(database, rows):
    """Replace the rows of all tables by *rows*, and have each sequence begin anew."""
    with database.transaction():
        database.execute("set local session_replication_role = replica")  # no trigger
        for table, lines in rows.items():
            database.execute(f"delete from {table}")
            if lines:
                with database.cursor().copy(f"copy {table} from stdin") as copy:
                    copy.write(lines)
        database.execute("select setval(seqrelid, seqstart, false) from pg_sequence")


@tried_twice("the API of deployments of their own")
@contextmanager
def _api_running(places, postgres):
    """Yield the URL of an API."""
    port = free_port()  # another one at the second try: a server may have taken the first
    api = SupabaseApi(places, port, postgres)
    api.prepare()
    with _running(api):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(part):
    child = part.start()
    try:
        await_child(child, part.log, part.answers)
        yield
    finally:
        part.stop()


_postgres_running = tried_twice("the Postgres of deployments of their own")(_running)


class Hosted(Kind):
    """The parts of hosted Supabase; for deployments of their own a second rig, which each begins with the rows of a new one."""

    def __init__(self, fixture):
        self._fixture = fixture

    def shared(self):
        return SupabaseDeployment(self._fixture("hosted"))

    @contextmanager
    def alone(self):
        rig, rows = self._fixture("second_rig")
        with psycopg.connect(rig.superuser, autocommit=True) as admin:
            put_back(admin, rows)
        yield SupabaseDeployment(rig)


@contextmanager
def second_rig(server):
    """Yield a rig over a new database of *server*, and the rows of that database."""
    address = server.make_database("daybook_alone")
    with server.rig(address) as rig:
        with psycopg.connect(address, autocommit=True) as admin:
            rows = stored_rows(admin)
        yield rig, rows


KINDS = {
    "in-memory": lambda fixture: OverTables(InMemoryStore),
    "bytes": lambda fixture: OverTables(BytesStore),
    "sqlite": lambda fixture: OverTables(made_in(fixture("files_place"), SqlitePlace)),
    "json": lambda fixture: OverTables(made_in(fixture("files_place"), FilesPlace)),
    "firestore": lambda fixture: OverTables(stores_at(fixture("firestore"))),
    "embedded": Embedded,
    "hosted": Hosted,
}
