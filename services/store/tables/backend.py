"""The `Backend` over tables: accounts, app sessions, and throttles."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.crypto import token_version
from services.domain import SessionId, UserId
from services.domain.accounts import Account, Expiring, SessionEnd
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.errors import SignedOut, StoreUnavailable
from services.rules import Refusal
from services.rules.accounts import (
    WARNING,
    Settings,
    StoredInvitation,
    StoredSession,
    begin_account,
    counted,
    limits_of,
    mode_of,
)
from services.rules.budget import Budget
from services.store.backend import (
    Identity,
    NewSession,
    OpenedSession,
    SessionSealer,
    SignIn,
    SignUpState,
    Throttle,
    WrappedKey,
)
from services.store.refusals import error_of
from services.store.tables.access import (
    Caller,
    SessionTables,
    deployment_of,
    models_of,
    note,
    settings_of,
)
from services.store.tables.administration import TablesAdministration, has_accounts
from services.store.tables.protocol import AllTables, Block, Range
from services.store.tables.rows import TablesRows
from services.store.tables.schema import (
    ACCOUNTS,
    BUDGETS,
    CONVERSATIONS,
    INVITATIONS,
    NONCES,
    SESSIONS,
    THROTTLES,
    AccountRow,
    Nonce,
)
from services.store.tables.upkeep import keep_sweeping, sweep
from services.threads import in_thread


@dataclass(frozen=True, slots=True)
class Recognised:
    """The `Identity` of a user whom a `SignIn` over tables has recognised."""

    user_id: UserId
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TablesUser:
    """The `UserBackend` of one app session."""

    all_tables: AllTables
    caller: Caller
    email: str = field(repr=False)

    @property
    def tables(self) -> SessionTables:
        return SessionTables(self.all_tables.of(self.caller.user_id), self.caller)

    @property
    def administration(self) -> TablesAdministration:
        return TablesAdministration(self.all_tables, self.caller)

    def account(self) -> Account:
        return self.tables.run(self._account)

    def _account(self, block: Block) -> Account:
        now, account = self.caller.now(), self.caller.account(block)
        settings = settings_of(block)
        budget = (block.get(BUDGETS, "budget") or Budget(**asdict(limits_of(settings)))).opened(
            now, 0
        )
        return Account(
            user_id=account.id,
            email=self.email,
            role=account.role,
            daily_cap_micro=budget.daily_cap_micro,
            monthly_cap_micro=budget.monthly_cap_micro,
            spent_today_micro=budget.day_spent,
            spent_this_month_micro=budget.month_spent,
            daily_cap_tokens=budget.daily_cap_tokens,
            tokens_today=budget.day_tokens,
            expiring=self._expiring(block, settings),
            deployment_share=deployment_of(block).opened(now).share,
            retention_days=settings.retention_days,
        )

    def _expiring(self, block: Block, settings: Settings) -> Expiring | None:
        last_use = settings.unused_since(self.caller.now() + WARNING)
        if last_use is None:
            return None
        rows = block.select(
            CONVERSATIONS, {"destroy_at": None}, Range("updated_at", up_to=last_use)
        )
        ends = [end for row in rows if (end := settings.expires_at(row.updated_at))]
        return Expiring(conversations=len(ends), from_time=min(ends)) if ends else None

    def rows(self, most_bytes: int | None = None) -> TablesRows:
        limits, now = limits_of(Settings()), self.caller.now
        return TablesRows(self.caller.user_id, self.tables, limits, now, most_bytes)

    def put_user_key(self, key: WrappedKey, replaces: str | None) -> tuple[WrappedKey, ...]:
        def put(block: Block) -> tuple[WrappedKey, ...] | Refusal:
            account = self.caller.account(block)
            by_version = {one.version: one for one in account.keys}
            stored = by_version.get(key.version)
            if replaces is None:
                if not account.keys and block.select(CONVERSATIONS, limit=1):
                    return Refusal(reason="key_missing")
                is_seen = stored is None
            else:  # exactly the one that the app has seen
                is_seen = stored is not None and stored.wrapped == replaces
            if not is_seen:
                return account.keys
            keys = tuple(one for _, one in sorted((by_version | {key.version: key}).items()))
            block.put(ACCOUNTS, replace(account, keys=keys))
            about = {"version": key.version, "mode": "server"}
            note(block, self.caller.now(), account.id, "key.put", account.id, **about)
            return keys

        answer = self.tables.run(put)
        if isinstance(answer, Refusal):
            raise error_of("put_user_key", answer)
        return answer


@dataclass(frozen=True)
class TablesBackend:
    """The `Backend` over tables. Any thread may call any member."""

    tables: AllTables
    sign_in: SignIn  # its identities are `Recognised`
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    # --- sessions

    def start_session(
        self, identity: Identity, new: NewSession, sealer: SessionSealer
    ) -> OpenedSession:
        if not isinstance(identity, Recognised):
            raise TypeError("an identity of another store")
        user_id, now = identity.user_id, self.now()
        expires_at = now + timedelta(seconds=new.lifetime_seconds)
        session = StoredSession(
            cookie_hash=new.cookie_hash,
            id=SessionId(uuid4()),
            user_id=user_id,
            sealed=sealer.seal(identity.email, user_id),
            idle_seconds=new.idle_seconds,
            expires_at=expires_at,
            ends_at=expires_at,
        ).used(now)

        def start(block: Block) -> AccountRow | Refusal:
            account, begin = block.get(ACCOUNTS, user_id), None
            if account is None:
                begin = _Beginning(block, identity, new.invitation_hash, now)
                if isinstance(begin.account, Refusal):
                    return begin.account
                account = begin.account
            if account.suspended_at:
                return Refusal(reason="signed_out")
            returned = [block.get(THROTTLES, bucket) for bucket in new.returned]
            if begin:
                begin.put()
            block.put(SESSIONS, session)
            for counter in returned:
                if counter and counter.attempts:
                    block.put(THROTTLES, replace(counter, attempts=counter.attempts - 1))
            return account

        answer = self.tables.of(user_id).run(start)
        if isinstance(answer, Refusal):
            raise error_of("start_session", answer)
        return self._opened(session, answer, identity.email)

    def open_session(self, cookie_hash: str, sealer: SessionSealer) -> OpenedSession:
        session, account = self.tables.of(None).run(lambda block: self._use(block, cookie_hash))
        if session is None or account is None:
            raise SignedOut
        email = sealer.open(session.sealed, session.user_id)
        anew = sealer.seal(email, session.user_id)
        if token_version(anew) != token_version(session.sealed):  # the root key was rotated
            self.tables.of(None).run(lambda block: _seal_anew(block, cookie_hash, anew))
        return self._opened(session, account, email)

    def _opened(self, session: StoredSession, account: AccountRow, email: str) -> OpenedSession:
        caller = Caller(session.cookie_hash, session.user_id, self.now)
        user = TablesUser(self.tables, caller, email)
        return OpenedSession(
            id=session.id, user_id=session.user_id, keys=account.keys, user=user, role=account.role
        )

    def _use(
        self, block: Block, cookie_hash: str
    ) -> tuple[StoredSession | None, AccountRow | None]:
        """Return a session with its account, and keep it from becoming idle; nothing if it has ended."""
        session = block.get(SESSIONS, cookie_hash)
        account = block.get(ACCOUNTS, session.user_id) if session else None
        if session is None or not session.is_alive(account, self.now()):
            return None, None
        block.put(SESSIONS, session.used(self.now()))
        return session, account

    def is_alive(self, cookie_hash: str) -> bool:
        return self.tables.of(None).run(lambda block: self._use(block, cookie_hash))[0] is not None

    def ended(self, sessions: Iterable[tuple[SessionId, UserId]]) -> dict[SessionId, SessionEnd]:
        def find(block: Block) -> dict[SessionId, SessionEnd]:
            ends = dict[SessionId, SessionEnd]()
            for session_id, user_id in asked:
                account = block.get(ACCOUNTS, user_id)
                found = block.select(SESSIONS, {"id": session_id}, limit=1)
                end = StoredSession.end(found[0] if found else None, account, self.now())
                if end:
                    ends[session_id] = end
            return ends

        asked = list(sessions)
        return self.tables.of(None).run(find)

    def end_session(self, cookie_hash: str) -> None:
        self.tables.of(None).run(lambda block: block.delete(SESSIONS, cookie_hash))

    # --- sign-ups, throttles

    def sign_up_state(
        self, invitation_hash: str | None = None, email: EmailAddress | None = None
    ) -> SignUpState:
        def read(block: Block) -> SignUpState:
            is_first = _is_first(block)
            return SignUpState(
                mode=mode_of(settings_of(block), is_first=is_first),
                is_first_admin=is_first,
                is_invited=_invitation(block, invitation_hash, email, self.now()) is not None,
            )

        return self.tables.of(None).run(read)

    def throttle(self, throttles: Sequence[Throttle], nonce: UUID) -> int | None:
        def count(block: Block) -> int | None:
            if block.get(NONCES, nonce):  # a call that was overheard must not be repeated
                raise StoreUnavailable
            now = self.now()
            known = [block.get(THROTTLES, one.bucket) for one in throttles]
            block.put(NONCES, Nonce(nonce, now))
            for one, before in zip(throttles, known, strict=True):
                counter = counted(before, one.bucket, one.seconds, now)
                block.put(THROTTLES, counter)
                if wait := counter.wait(one.at_most, now):
                    return wait
            return None

        return self.tables.of(None).run(count)

    # --- what a process asks for itself

    def model_settings(self) -> ModelSettings:
        return self.tables.of(None).run(models_of)

    def root_key_versions(self) -> list[int]:
        def read(block: Block) -> list[int]:
            alive = Range("ends_at", above=self.now())
            sealed = [one.sealed for one in block.select(SESSIONS, {}, alive)]
            wrapped = [key.wrapped for row in block.select(ACCOUNTS) for key in row.keys]
            return sorted({token_version(text) or 0 for text in (*sealed, *wrapped)})

        return self.tables.of(None).run(read)

    def sweep(self) -> bool:
        return sweep(self.tables, self.now)

    def check(self) -> None:
        self.tables.of(None).run(lambda _: None)

    def start_upkeep(self, report: Callable[[bool], None]) -> None:
        in_thread("sweep", lambda: keep_sweeping(self.sweep, report))


class _Beginning:
    """The account of a user who has none: read and decided first, then stored."""

    def __init__(
        self, block: Block, identity: Recognised, invitation_hash: str | None, now: datetime
    ) -> None:
        self._block, self._now, email = block, now, identity.email
        self._settings = settings_of(block)
        self._invitation = _invitation(block, invitation_hash, email, now)
        begun = begin_account(
            identity.user_id,
            email,
            self._settings,
            is_first=_is_first(block),
            invitation=self._invitation,
        )
        self.account = begun if isinstance(begun, Refusal) else AccountRow(**asdict(begun))

    def put(self) -> None:
        if isinstance(self.account, Refusal):
            raise TypeError("a refused account is not stored")
        block, account, invitation = self._block, self.account, self._invitation
        block.put(ACCOUNTS, account)
        block.put(BUDGETS, Budget(**asdict(limits_of(self._settings))))
        about: dict[str, object] = {"role": account.role}
        if invitation:
            block.put(INVITATIONS, replace(invitation, used_by=account.id))
            about["invitation"] = str(invitation.id)
        note(block, self._now, account.id, "account.begin", account.id, **about)


def _seal_anew(block: Block, cookie_hash: str, sealed: str) -> None:
    """Replace the sealed text of a session that goes on."""
    if session := block.get(SESSIONS, cookie_hash):
        block.put(SESSIONS, replace(session, sealed=sealed))


def _is_first(block: Block) -> bool:
    """Return True if the next account is the first, which becomes admin."""
    return settings_of(block).first_account_is_admin and not has_accounts(block)


def _invitation(
    block: Block, code_hash: str | None, address: str | None, now: datetime
) -> StoredInvitation | None:
    """Return the invitation with that code if it is good for *address*."""
    if code_hash is None:
        return None
    for row in block.select(INVITATIONS, {"code_hash": code_hash}, limit=1):
        if row.is_good(block.get(ACCOUNTS, row.made_by), address, now):
            return row
    return None
