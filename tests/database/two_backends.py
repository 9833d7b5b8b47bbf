"""The rules of accounts twice: as the SQL of db/migrations and as services/rules over tables, by one clock.

Both sides are a `Backend` of the same users. SQL's is that of the product over calls by psycopg: the caller's session is checked,
the proof is not.
"""

import json
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cache
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from pydantic import SecretStr, TypeAdapter
from pydantic_core import to_jsonable_python

from services.crypto import ServerProof, new_key
from services.domain import AccountRole, SessionId
from services.domain.accounts import Account, CredentialsAction, Limits, ProofScope
from services.errors import AdminsOnly, AppError, ProofNeeded, SignedOut, StoreUnavailable
from services.rules import Refusal
from services.rules.accounts import use_of
from services.store.backend import NewSession, StoredCredentials
from services.store.refusals import error_of
from services.store.supabase.administration import SupabaseAdministration
from services.store.supabase.api import RpcResult, StoredVersions
from services.store.supabase.backend import SupabaseBackend, SupabaseUser
from services.store.supabase.rows import SupabaseRows
from services.store.tables.access import models_of, note, settings_of
from services.store.tables.backend import TablesBackend, TablesSignInUser
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import (
    ACCOUNTS,
    AUDIT,
    BUDGETS,
    CONVERSATIONS,
    CREDENTIALS,
    INVITATIONS,
    LOOKUPS,
    NOTICES,
    SESSIONS,
    SETTINGS,
    STEPS,
    THROTTLES,
)
from tests.database.two_sides import (
    TICK,
    Clock,
    Refused,
    SqlCalls,
    given_as,
    literal,
    make_database,
)

IDLE, LIFE = 600, 3600  # seconds of a session
_LIMITS = tuple(Limits.__dataclass_fields__)
_SETTINGS = (
    *(*_LIMITS, "sign_ups", "confirms_by_code", "requires_factor"),
    *("retention_days", "first_account_is_admin"),
)
_FROM = "case when retention_days is not null then retention_from end"  # else it says nothing
_ERRORS = {"PT401": SignedOut, "PT403": ProofNeeded, "42501": AdminsOnly}
_WITHOUT_PROOFS = """
create or replace function private.check_proof(proof text, variadic fields text[]) returns void
language plpgsql stable as $$ begin end $$;

-- Call as the session of *claims*; return its user, or raise as the product's functions do.
create function test_clock.caller(claims text) returns uuid language plpgsql as $$
begin
  perform set_config('request.jwt.claims', claims, true);
  return private.require_me();
end $$;
"""
_SQL = {
    "accounts": "select user_id, role, suspended_at, deleted_at from private.roles",
    "budgets": f"select user_id, {', '.join(_LIMITS)} from private.budgets",
    "settings": f"select {', '.join(_SETTINGS)}, refuses_unknown_prices, {_FROM} from private.settings",
    "invitations": """
        select code_hash, email, role, made_by, created_at, expires_at, used_by, revoked_at
        from private.invitations
    """,
    "sessions": """
        select cookie_hash, user_id, least(expires_at, seen_at + make_interval(secs => idle_seconds)), id, device,
          follows, created_at, seen_at, proved_at, proof_scope, has_factor
        from private.app_sessions
    """,
    "throttles": "select bucket, window_ends, attempts from private.throttles",
    "steps": "select key, kind_tag, sealed, tries, expires_at from private.steps",
    "lookups": "select lookup, user_id, expires_at from private.lookups",
    "credentials": """
        select id, user_id, lookup, sealed, generation, uses, wants_factor,
          case when user_id is null then signed_up_at + interval '8 days' end
        from private.credentials
    """,
    "keys": "select user_id, version, wrapped from public.user_keys",
    "conversations": """
        select conversations.id, user_id, updated_at from public.conversations join private.roles using (user_id)
        where destroy_at is null and deleted_at is null
    """,
    "notices": """
        select id, user_id, kind, at, browser, session from private.notices join private.roles using (user_id)
        where deleted_at is null
    """,
    "audit": "select action, actor, target, detail, session, device from private.audit",
}


def make_accounts_database(server, name, folder, addresses):
    """Make the property's database, with users of Supabase Auth without an account; return its address and their ids."""
    address = make_database(server, name, folder)
    # from before Daybook, so that the sweep leaves them
    made = "insert into auth.users (email, created_at) values (%s, '1999-01-01') returning id"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("select set_config('test_clock.now', '2000-01-01', false)")
        admin.execute(_WITHOUT_PROOFS)
        return address, [admin.execute(made, [one]).fetchone()[0] for one in addresses]


@cache
def _adapter(kind):
    return TypeAdapter(kind)


@dataclass(slots=True, eq=False)
class SessionCalls(SqlCalls):
    """Calls of one app session, in the place of `UserCalls`; without claims those of a process, in that of `ServerCalls`."""

    claims: dict = field(default_factory=dict)

    def read(self, verb, kind, /, **arguments):
        has_caller = self.claims and verb not in ("my_account", "my_sessions")
        given = ["me => caller"] * bool(has_caller) + given_as(arguments)
        caller = f" from test_clock.caller({sql.quote(json.dumps(self.claims))}) caller"
        answer = self.run(
            f"select private.{verb}({', '.join(given)}){caller if self.claims else ''}"
        )
        if isinstance(answer, dict) and "code" in answer:
            raise (self.claims and _ERRORS.get(answer["code"])) or StoreUnavailable(answer["code"])
        return _adapter(kind).validate_python(answer)

    def call(self, verb, /, **arguments):
        return self.read(verb, RpcResult, **arguments)

    def select(self, verb, kind, /):
        return self.read(verb, kind)

    def stored_versions(self):
        stored = self.read("root_key_versions", StoredVersions)
        return replace(stored, versions=sorted(stored.versions))


@dataclass(frozen=True, slots=True)
class PlainSealer:
    """A `SessionSealer` that leaves a text as it is."""

    def seal(self, text, user_id):
        return f"p1.1.{text}"

    def open(self, sealed, user_id):
        return sealed.removeprefix("p1.1.")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a session, in the place of `Bearer`."""

    server: SessionCalls

    def change_cookie(self, new, store):
        seen = "select coalesce((select generation from private.app_sessions where cookie_hash = {}), 0)"
        lease = self.server.call(
            "lease_refresh",
            cookie=new.replaces,
            seen_generation=self.server.run(seen.format(literal(new.replaces))),
            lease_seconds=15,
        )
        if not lease.ok:
            raise SignedOut
        return store(lease.values["lease"], "p1.1." + "0" * 75)


@dataclass(slots=True, eq=False)
class TwoSessions:
    """One app session of a user on each side."""

    cookie_hash: str  # of the cookie that it has by now
    id: UUID
    calls: SessionCalls
    user: object  # `TablesUser`


class TwoBackends:
    """Some users in an SQL database and in tables, in one transaction of *connection*."""

    def __init__(self, connection, user_ids, addresses, make_store=InMemoryStore):
        self._opened = ExitStack()
        self._opened.enter_context(connection.transaction(force_rollback=True))
        self._connection = connection
        self.user_ids, self._addresses, self.clock = user_ids, addresses, Clock()
        self.store = self._opened.enter_context(closing(make_store()))
        self.rules = TablesBackend(self.store, self.clock.now)
        self._server = SessionCalls(connection, None, self.clock)
        self.sql = SupabaseBackend(
            "http://127.0.0.1", SecretStr("k"), ServerProof(new_key()), False
        )
        vars(self.sql)["server"] = self._server
        self.sessions = []
        self.invitation_ids = []  # by SQL, by the rules
        self._differ = False

    def close(self):
        self._opened.close()

    def begin(self, at, *, is_first_admin):
        """Set the clock and the rule of the first account."""
        self.clock.at = at
        self._run("select set_config('test_clock.now', %s, true)", at.isoformat())
        changed = (
            "update private.settings set first_account_is_admin = %s, retention_from = '2000-01-01'"
        )
        self._run(changed, is_first_admin)
        self._put_settings(first_account_is_admin=is_first_admin)

    def set_mode(self, mode):
        """Set the mode of sign-ups past the app."""
        self._run("update private.settings set sign_ups = %s", mode.value)
        self._put_settings(sign_ups=mode)

    def set_factor_rule(self, is_on):
        """Require a second factor past the app, or do not, so that no session ends."""
        self._run("update private.settings set requires_factor = %s", is_on)
        self._put_settings(requires_factor=is_on)

    def _put_settings(self, **changes):
        self._share(lambda block: block.put(SETTINGS, replace(settings_of(block), **changes)))

    def _run(self, query, *values):
        return self._connection.execute(query, values)

    def _share(self, work):
        return self.store.of(None).run(work)

    def same(self, by_sql, by_rules):
        """Call one verb on each side; return the outcome, which is the same."""
        self._differ = True
        answers = _outcome(by_sql), _outcome(by_rules)
        assert answers[0] == answers[1], f"{answers[0]} by SQL, {answers[1]} by the rules"
        self._differ = False
        self.clock.at += TICK
        return answers[0]

    # --- calls of a process

    def of_process(self, act):
        """Call *act* with the backend of each side."""
        return self.same(lambda: act(self.sql), lambda: act(self.rules))

    def grant_admin(self, user):
        """Let a user be an admin, as an operator does."""
        user_id = self.user_ids[user]

        def grant(block):
            account = block.get(ACCOUNTS, user_id)
            if account is None or account.deleted_at:
                return False
            if account.role is not AccountRole.ADMIN:
                block.put(ACCOUNTS, replace(account, role=AccountRole.ADMIN))
                changed = [account.role, AccountRole.ADMIN]
                note(block, self.clock.now(), None, "role.set", user_id, role=changed)
            return True

        query = f"select to_jsonb(private.change_role(null, {literal(user_id)}, 'admin'))"
        self.same(lambda: self._server.run(query), lambda: self._share(grant))

    def start_session(
        self,
        user,
        cookie_hash,
        generation,
        account=None,
        returned=(),
        has_factor=False,
        used=None,
        used_by=CredentialsAction.FACTOR_USED,
        scope=ProofScope.FULL,
        cookie_before=None,
        follows=None,
    ):
        """Sign a user in, which begins the *account* of one who has none."""
        user_id, address = self.user_ids[user], self._addresses[user]
        new = NewSession(
            id=SessionId(uuid4()),
            device="p1.1." + cookie_hash + "0" * 11,
            cookie_before=cookie_before,
            follows=follows,
            cookie_hash=cookie_hash,
            idle_seconds=IDLE,
            lifetime_seconds=LIFE,
            generation=generation,
            account=account,
            returned=returned,
            has_factor=has_factor,
            used=used,
            used_by=used_by,
            scope=scope,
        )
        stored = account.credentials if account else used
        made = "insert into auth.sessions (user_id) values (%s) returning id"
        [auth_session] = self._run(made, user_id).fetchone()
        claims = {"sub": str(user_id), "session_id": str(auth_session), "exp": 60, "iat": 0}
        calls = SessionCalls(self._connection, user_id, self.clock, claims=claims)
        opened = []

        def by_sql():
            self._run("select set_config('request.jwt.claims', %s, true)", json.dumps(claims))
            answer = self._server.call(
                "start_session",
                new_id=new.id,
                new_cookie_hash=cookie_hash,
                new_tokens="p1.1." + "0" * 75,
                new_device=new.device,
                cookie_before=cookie_before,
                new_follows=follows,
                idle=IDLE,
                lifetime=LIFE,
                returned=json.dumps(returned) if returned else None,
                seen_generation=generation,
                pending=account.sign_up if account else None,
                new_lookup=stored.lookup if stored else None,
                new_sealed=stored.sealed if stored else None,
                new_wrapped=account.key.wrapped if account else None,
                ways_in=json.dumps(account.ways_in) if account else None,
                invitation=account.invitation if account else None,
                has_factor=has_factor,
                factor_action=use_of(used, generation, used_by).value if used else None,
                new_generation=stored.generation if stored else None,
                new_uses=stored.uses if stored else None,
                new_wants_factor=stored.wants_factor if stored else None,
                new_scope=scope,
                proof="",
            )
            if not answer.ok:
                raise error_of("start_session", Refusal(reason=answer.reason))
            assert UUID(answer.values["session"]) == new.id
            found = _adapter(StoredCredentials).validate_python(answer.values["credentials"])
            return answer.values["role"], _values(found, _STORED), answer.values["keys"]

        def by_rules():
            recognised = TablesSignInUser(user_id, address)
            session = self.rules.start_session(recognised, new, PlainSealer())
            assert session.id == new.id
            opened.append(session.user)
            keys = [{"version": one.version, "wrapped": one.wrapped} for one in session.keys]
            return session.role, _values(session.credentials, _STORED), keys

        self.same(_signed_out(by_sql), by_rules)
        if opened:
            self.sessions.append(TwoSessions(cookie_hash, new.id, calls, *opened))

    def end_of(self, session):
        """Return the reason why a session is none any more."""
        user_id = session.calls.user_id
        ends = [
            backend.ended([(session.id, user_id)]).get(session.id)
            for backend in (self.sql, self.rules)
        ]
        assert ends[0] == ends[1], ends

    # --- calls of a session

    def administer(self, session, act):
        """Call *act* with the `Administration` of one session on each side."""
        return self.same(
            lambda: act(SupabaseAdministration(session.calls, self._server)),
            lambda: act(session.user.administration),
        )

    def account(self, session):
        self.same(lambda: session.calls.read("my_account", Account), session.user.account)

    def of_user(self, session, act):
        """Call *act* with the `UserBackend` of one session on each side."""
        return self.same(
            lambda: act(self._sql_user(session)),
            lambda: act(session.user),
        )

    def _sql_user(self, session):
        return SupabaseUser(session.calls, self._server, Tokens(self._server))

    def change_credentials(self, session, new, seen, **change):
        self.same(
            lambda: self._sql_user(session).change_credentials(new, seen, **change),
            lambda: session.user.change_credentials(new, seen, **change),
        )

    def change_address(self, session, new):
        return self.same(
            lambda: self._sql_user(session).change_address(new),
            lambda: session.user.change_address(new),
        )

    def invite(self, session, code_hash, email, role):
        outcome = self.administer(session, lambda admin: admin.invite(code_hash, email, role))
        if outcome is None:
            found = "select id from private.invitations where code_hash = %s"
            [by_sql] = self._run(found, code_hash).fetchone()
            where = {"code_hash": code_hash}
            [by_rules] = self._share(lambda block: block.select(INVITATIONS, where))
            self.invitation_ids.append((by_sql, by_rules.id))

    def revoke(self, session, ids):
        by_sql, by_rules = ids
        self.same(
            lambda: SupabaseAdministration(session.calls, self._server).revoke_invitation(by_sql),
            lambda: session.user.administration.revoke_invitation(by_rules),
        )

    def content(self, session, act):
        """Call *act* with the rows of the session's user on each side, and with the side's number."""
        return self.same(
            lambda: act(SupabaseRows(session.calls, None), 0),
            lambda: act(session.user.rows(), 1),
        )

    # --- upkeep, and what is stored

    def sweep(self):
        """Sweep until nothing is due, by no user."""
        self._run("select set_config('request.jwt.claims', '', true)")
        is_more = True
        while is_more:
            by_sql = self._server.run("select private.sweep_turns(10)")["more"]
            is_more = self.rules.sweep() or by_sql
            self.clock.at += TICK

    def compare(self):
        """Fail unless all rows are the same, or a verb has differed."""
        if self._differ:
            return
        by_sql = {table: self._run(query).fetchall() for table, query in _SQL.items()}
        by_rules = self._read_by_rules()
        for table, rows in by_rules.items():
            found = [_plain(one, self.invitation_ids, 0) for one in by_sql[table]]
            known = [_plain(one, self.invitation_ids, 1) for one in rows]
            differing = Counter(found), Counter(known)
            assert differing[0] == differing[1], (
                table,
                differing[0] - differing[1],
                differing[1] - differing[0],
            )
        models = [replace(side.model_settings(), revision="") for side in (self.sql, self.rules)]
        assert models[0] == models[1]

    def _read_by_rules(self):
        def read(block):
            settings, models = settings_of(block), models_of(block)
            accounts = [one for one in block.select(ACCOUNTS) if not one.is_ended]
            return {
                "accounts": [(a.id, a.role, a.suspended_at, a.deleted_at) for a in accounts],
                "settings": [
                    (
                        *_values(settings, _SETTINGS),
                        models.refuses_unknown_prices,
                        settings.retention_from if settings.retention_days else None,
                    )
                ],
                "invitations": [_values(one, _INVITATIONS) for one in block.select(INVITATIONS)],
                "sessions": [_values(one, _SESSIONS) for one in block.select(SESSIONS)],
                "throttles": [
                    (one.bucket, one.window_ends, one.attempts) for one in block.select(THROTTLES)
                ],
                "steps": [_values(one, _STEPS) for one in block.select(STEPS)],
                "lookups": [_values(one, _LOOKUPS) for one in block.select(LOOKUPS)],
                "credentials": [_values(one, _CREDENTIALS) for one in block.select(CREDENTIALS)],
                "keys": [(one.id, *_values(key, _KEYS)) for one in accounts for key in one.keys],
                "audit": [_values(one, _AUDIT) for one in block.select(AUDIT)],
            }

        found = self._share(read)
        budgets, conversations, notices = [], [], []
        # the sides delete the chats of a deleted account in another order
        deleted = {user_id for user_id, *_, deleted_at in found["accounts"] if deleted_at}
        for user_id in self.user_ids:
            tables = self.store.of(user_id)
            if budget := tables.run(lambda block: block.get(BUDGETS, "budget")):
                budgets.append((user_id, *_values(budget, _LIMITS)))
            if user_id in deleted:
                continue
            rows = tables.run(lambda block: block.select(CONVERSATIONS, {"destroy_at": None}))
            conversations += [(one.id, user_id, one.updated_at) for one in rows]
            rows = tables.run(lambda block: block.select(NOTICES))
            notices += [
                (one.id, user_id, one.kind, one.at, one.browser, one.session) for one in rows
            ]
        own = {"budgets": budgets, "conversations": conversations, "notices": notices}
        return found | own


_INVITATIONS = (
    *("code_hash", "email", "role", "made_by", "created_at", "expires_at"),
    *("used_by", "revoked_at"),
)
_STORED = ("id", "user_id", "lookup", "sealed", "generation", "uses", "wants_factor")
_CREDENTIALS = (*_STORED, "expires_at")
_LOOKUPS = ("lookup", "user_id", "expires_at")
_KEYS = ("version", "wrapped")
_SESSIONS = (
    *("cookie_hash", "user_id", "ends_at"),
    *("id", "device", "follows", "created_at", "seen_at", "proved_at", "scope", "has_factor"),
)
_AUDIT = ("action", "actor", "target", "detail", "session", "device")
_STEPS = ("key", "kind_tag", "sealed", "tries", "expires_at")


def _values(row, columns):
    return tuple(getattr(row, name) for name in columns)


def _plain(row, invitation_ids, side):
    """A row as text, with numbers for the ids of invitations."""
    text = json.dumps(to_jsonable_python(row), sort_keys=True)
    for number, ids in enumerate(invitation_ids):
        text = text.replace(str(ids[side]), f"invitation {number}")
    return text


def _signed_out(by_sql):
    """Have SQL's refusal of a session that is none be the error of the product."""

    def call():
        try:
            return by_sql()
        except StoreUnavailable as error:
            raise (SignedOut() if error.args == ("PT401",) else error) from None

    return call


def _outcome(act):
    try:
        return act()
    except (StoreUnavailable, ValueError):  # a misuse, which is an error of SQL's
        return Refused("StoreUnavailable")
    except AppError as error:
        return Refused(type(error).__name__, str(error))
