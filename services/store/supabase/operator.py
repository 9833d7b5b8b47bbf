"""The `Operator` for Supabase. It uses the API, and connects to the database as the role that owns the schema."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import bcrypt
import psycopg
from psycopg.types.json import Jsonb
from pydantic import SecretStr, TypeAdapter

from services.crypto import refuse_missing
from services.domain import UserId
from services.domain.accounts import CredentialsAction
from services.domain.addresses import EmailAddress
from services.errors import BadInput, Misconfigured
from services.rules import Refusal
from services.store.backend import StoredCredentials
from services.store.notices import operator_notice
from services.store.operator import CopiedRows, Finding, PresentKeys, UserCaps, unchecked
from services.store.refusals import error_of
from services.store.supabase import migrations
from services.store.supabase.check import (
    AUTH_MAIL,
    UNCHECKED,
    check_api,
    check_database,
    root_key_users,
    with_both,
)
from services.store.supabase.connection import connector, refusal_of
from services.store.supabase.copying import SupabaseCopy, load
from services.store.supabase.schema import FOLDER, read

_CREDENTIALS = TypeAdapter[StoredCredentials | None](StoredCredentials | None)
_STORED = TypeAdapter(StoredCredentials)
_BCRYPT_ROUNDS = 10  # the bcrypt cost that Supabase Auth uses
_UNKNOWN_ACCOUNT = "There is no account with this address: sign up, and sign in once."
_GRANT_ADMIN = "select private.change_role(null, private.find_account(%s), 'admin')"
_FIND = "select private.credentials_of_lookups(%s), private.find_account(%s) is not null"
_CHANGE = """
select private.replace_credentials(actor => null, person => %(id)s, seen_generation => %(seen)s,
  new_generation => %(generation)s, new_uses => %(uses)s, new_wants_factor => %(wants_factor)s, action => %(action)s,
  new_lookup => %(lookup)s, new_sealed => %(sealed)s, ends_others => true, ways_in => %(ways_in)s) ->> 'reason'
"""
_SET_ADDRESS = """
select private.set_address(person => %(id)s, seen_generation => %(seen)s, new_generation => %(generation)s, new_uses => %(uses)s,
  new_wants_factor => %(wants_factor)s, address => %(email)s, claiming => %(claims)s, new_lookup => %(lookup)s,
  new_sealed => %(sealed)s) ->> 'reason'
"""
_ALL = """
select private.credentials_of(credentials) from private.credentials join private.roles using (user_id)
where deleted_at is null order by id
"""
_TELL = "select private.put_notice(%s, %s, %s, null, null)"
# prevents deadlocks: locks the user's row before other rows, as deletions of accounts do
_LOCK = "select from auth.users where id = %s for update"
_SET_AUTH_USER = "select private.set_auth_user(%s, %s)"
_REPAIR = "select private.repair_sign_in(%s, %s, %s)"
_SET_CAPS = """
select daily_cap_micro, monthly_cap_micro, daily_cap_tokens
from private.change_caps(null, private.find_account(%s), %s)
"""
_SET_DEFAULT_CAPS = """
select daily_cap_micro, monthly_cap_micro, daily_cap_tokens from private.change_settings(null, %s)
"""


@dataclass(frozen=True, slots=True)
class SupabaseOperator:
    """Implements `Operator` for one deployment. Each call opens a new connection."""

    # None: the database's URL is unknown
    open_database: Callable[[], psycopg.Connection] | None = field(repr=False)
    api: tuple[str, SecretStr] | None  # the URL and the key of the API

    def migrate(self, proof_keys: Mapping[int, bytes]) -> Sequence[str]:
        with self._database() as connection:
            applied = migrations.apply(connection, FOLDER)
            refuse_missing(root_key_users(connection), proof_keys)
            migrations.install_server_keys(connection, proof_keys)
            # PostgREST caches the schema, and reloads it when notified
            connection.execute("notify pgrst, 'reload schema'")
            return applied

    def check(
        self,
        keys: PresentKeys | str,
        mail_to: EmailAddress | None = None,
        *,
        sends_mail: bool = False,
    ) -> dict[str, Finding]:
        found = dict(UNCHECKED)
        if mail_to:
            with self._database() as connection:
                [(user_id,)] = connection.execute("select private.find_account(%s)", [mail_to])
            if user_id is None:
                raise BadInput(_UNKNOWN_ACCOUNT)
            found |= unchecked("SUPABASE_URL and SUPABASE_KEY", AUTH_MAIL)
        if self.api:
            found |= check_api(*self.api, keys, mail_to, sends_mail=sends_mail)
        if self.open_database:
            with self._database() as connection:
                found = with_both(found, check_database(connection, keys))
        return found

    def root_key_users(self) -> Mapping[int, Collection[str]]:
        with self._database() as connection:
            return root_key_users(connection)

    def grant_admin(self, email: EmailAddress) -> None:
        with self._database() as connection:
            if connection.execute(_GRANT_ADMIN, [email]).fetchone() != (True,):
                raise BadInput(_UNKNOWN_ACCOUNT)

    def is_last_admin(self, user_id: UserId) -> bool:
        with self._database() as connection:
            [(is_last,)] = connection.execute("select private.is_last_admin(%s)", [user_id])
        return is_last

    def find_credentials(
        self, email: EmailAddress, lookups: Collection[str]
    ) -> StoredCredentials | None:
        with self._database() as connection:
            [(row, is_account)] = connection.execute(_FIND, [[*lookups], email])
        stored = _CREDENTIALS.validate_python(row)
        if stored and stored.user_id:
            return stored
        if not is_account:
            raise BadInput(_UNKNOWN_ACCOUNT)
        return None

    def change_credentials(
        self,
        new: StoredCredentials,
        seen_generation: int,
        email: EmailAddress | None = None,
        action: CredentialsAction = CredentialsAction.PASSWORD_SET,
        claims: Collection[str] = (),
        ways_in: Sequence[str] | None = None,
    ) -> bool:
        listed = {"claims": [*claims], "ways_in": None if ways_in is None else [*ways_in]}
        named = asdict(new) | listed | {"seen": seen_generation, "action": action, "email": email}
        with self._database() as connection, connection.transaction() as changing:
            if not claims:
                connection.execute(_LOCK, [new.id])
            [(reason,)] = connection.execute(_SET_ADDRESS if claims else _CHANGE, named)
            if reason is not None:
                raise psycopg.Rollback(changing)
            notice = operator_notice()
            connection.execute(_TELL, [new.id, notice.id, notice.kind])
            if email and not claims:
                connection.execute(_SET_AUTH_USER, [new.id, email])
        if reason in (None, "stale", "factor_used"):
            return reason is None
        raise error_of("change_credentials", Refusal(reason=reason))

    def credentials(self) -> list[StoredCredentials]:
        with self._database() as connection:
            return [_STORED.validate_python(row) for (row,) in connection.execute(_ALL)]

    def repair_sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> None:
        with self._database() as connection:
            [(is_set,)] = connection.execute(_REPAIR, [user_id, email, _hashed(password)])
        if not is_set:
            raise BadInput(_UNKNOWN_ACCOUNT)

    def set_caps(self, email: EmailAddress | None, changes: Mapping[str, int | None]) -> UserCaps:
        with self._database() as connection:
            if email is None:
                found = connection.execute(_SET_DEFAULT_CAPS, [Jsonb(changes)])
            else:
                found = connection.execute(_SET_CAPS, [email, Jsonb(changes)])
            [caps] = found
        if None in caps[:2]:
            raise BadInput(_UNKNOWN_ACCOUNT)
        return UserCaps(*caps)

    def backup(self, target: Path) -> None:
        raise BadInput(
            "Back up a Supabase database with pg_dump, or in its dashboard: docs/deploy.md says how."
        )

    def load(
        self,
        proof_keys: Mapping[int, bytes],
        make: Callable[[datetime], CopiedRows],
        managed_password: Callable[[StoredCredentials], str],
    ) -> None:
        with self._database() as connection, connection.transaction():
            migrations.install_server_keys(connection, proof_keys)
            load(connection, make, lambda stored: _hashed(managed_password(stored)))

    @contextmanager
    def copy_source(self) -> Generator[SupabaseCopy]:
        """Return a context manager that yields a snapshot of the database, to copy from."""
        with self._migrated() as connection, connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            yield SupabaseCopy(connection)

    @contextmanager
    def copy_target(
        self,
        proof_keys: Mapping[int, bytes],
        managed_password: Callable[[UserId], str | None],
        *,
        is_dry: bool,
    ) -> Generator[SupabaseCopy]:
        """Return a context manager that yields the database, to copy into; *is_dry*: roll the copy back at the end."""

        def auth_hash(user_id: UserId) -> str | None:
            password = managed_password(user_id)
            return _hashed(password) if password else None

        with self._migrated() as connection, ExitStack() as stack:
            if is_dry:
                stack.enter_context(connection.transaction(force_rollback=True))
            yield SupabaseCopy(connection, proof_keys, auth_hash)

    @contextmanager
    def _migrated(self) -> Generator[psycopg.Connection]:
        with self._database() as connection:
            if migrations.missing(connection, read(FOLDER)):
                raise Misconfigured("The database is not up to date: run `operate migrate` first.")
            yield connection

    @contextmanager
    def _database(self) -> Generator[psycopg.Connection]:
        if self.open_database is None:
            raise Misconfigured("This needs the database's address: set DATABASE_URL.")
        try:
            with self.open_database() as connection:
                yield connection
        except psycopg.Error as error:
            # not chained, because the cause's text may contain the database's URL
            raise Misconfigured(_sentence(error)) from None


def operator_at(database_url: str | None, api: tuple[str, SecretStr] | None) -> SupabaseOperator:
    """Return the operator of a project; calls and checks that need a missing URL (None) are unavailable."""
    return SupabaseOperator(connector(database_url) if database_url else None, api)


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()


def _sentence(error: psycopg.Error) -> str:
    if reason := error.diag.message_primary or refusal_of(error):
        return f"The database refused: {reason}."
    if isinstance(error, psycopg.OperationalError):
        return "The database does not answer, or refuses the password or TLS: check DATABASE_URL."
    return "DATABASE_URL cannot be read: it looks like postgresql://user:password@host/database."
