"""The `Backend` over tables: accounts, app sessions, and throttles."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.crypto import token_version
from services.daemon_threads import in_thread
from services.domain import SessionId, UserId
from services.domain.accounts import Account, Expiring, SessionEnd
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.errors import SignedOut, StoreUnavailable
from services.rules import Refusal, part_of
from services.rules import accounts as rules
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
from services.store.tables import schema
from services.store.tables.access import (
    Caller,
    SessionTables,
    deployment_of,
    models_of,
    note,
    settings_of,
)
from services.store.tables.administration import TablesAdministration, has_accounts
from services.store.tables.blocks import accepted, atomic, found
from services.store.tables.protocol import AllTables, Block, Range, Tables
from services.store.tables.rows import TablesRows
from services.store.tables.schema import AccountRow, Nonce
from services.store.tables.upkeep import keep_sweeping, sweep


@dataclass(frozen=True, slots=True)
class Recognised:
    """The `Identity` of a user whom a `SignIn` over tables has authenticated."""

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

    @atomic
    def account(self, block: Block) -> Account:
        now, account = self.caller.now(), self.caller.account(block)
        settings = settings_of(block)
        stored = block.get(schema.BUDGETS, "budget") or part_of(Budget, settings)
        budget = stored.opened(now, 0)
        return part_of(
            Account,
            *(settings, budget, account, self),
            user_id=account.id,
            spent_today_micro=budget.day_spent,
            spent_this_month_micro=budget.month_spent,
            tokens_today=budget.day_tokens,
            expiring=self._expiring(block, settings),
            deployment_share=deployment_of(block).opened(now).share,
        )

    def _expiring(self, block: Block, settings: rules.Settings) -> Expiring | None:
        last_use = settings.unused_since(self.caller.now() + rules.WARNING)
        if last_use is None:
            return None
        rows = block.select(
            schema.CONVERSATIONS, {"destroy_at": None}, Range("updated_at", up_to=last_use)
        )
        ends = [end for row in rows if (end := settings.expires_at(row.updated_at))]
        return Expiring(conversations=len(ends), from_time=min(ends)) if ends else None

    def rows(self, most_bytes: int | None = None) -> TablesRows:
        return TablesRows(self.caller.user_id, self.tables, self.caller.now, most_bytes)

    @atomic
    def put_user_key(
        self, block: Block, key: WrappedKey, replaces: str | None
    ) -> tuple[WrappedKey, ...] | Refusal:
        account = self.caller.account(block)
        by_version = {one.version: one for one in account.keys}
        stored = by_version.get(key.version)
        if replaces is None:
            if not account.keys and block.select(schema.CONVERSATIONS, limit=1):
                return Refusal(reason="key_missing")
            is_seen = stored is None
        else:  # exactly the key that the app has seen
            is_seen = stored is not None and stored.wrapped == replaces
        if not is_seen:
            return account.keys
        keys = tuple(one for _, one in sorted((by_version | {key.version: key}).items()))
        block.put(schema.ACCOUNTS, replace(account, keys=keys))
        about = {"version": key.version, "mode": "server"}
        note(block, self.caller.now(), account.id, "key.put", account.id, **about)
        return keys


@dataclass(frozen=True)
class TablesBackend:
    """The `Backend` over tables. Any thread may call any member."""

    all_tables: AllTables
    sign_in: SignIn  # its identities are `Recognised`
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def tables(self) -> Tables:
        return self.all_tables.of(None)

    # --- sessions

    def start_session(
        self, identity: Identity, new: NewSession, sealer: SessionSealer
    ) -> OpenedSession:
        if not isinstance(identity, Recognised):
            raise TypeError("an identity of another store")
        user_id, now = identity.user_id, self.now()
        expires_at = now + timedelta(seconds=new.lifetime_seconds)
        session = rules.StoredSession(
            cookie_hash=new.cookie_hash,
            id=SessionId(uuid4()),
            user_id=user_id,
            sealed=sealer.seal(identity.email, user_id),
            idle_seconds=new.idle_seconds,
            expires_at=expires_at,
            ends_at=expires_at,
        ).used(now)

        def start(block: Block) -> AccountRow | Refusal:
            account = block.get(schema.ACCOUNTS, user_id)
            returned = found(block, schema.THROTTLES, new.returned)
            if account is None:
                begun = _begin_account(block, identity, new.invitation_hash, now)
                if isinstance(begun, Refusal):
                    return begun
                account = begun
            if account.suspended_at:
                return Refusal(reason="signed_out")
            block.put(schema.SESSIONS, session)
            for counter in returned:
                if counter.attempts:
                    block.put(schema.THROTTLES, replace(counter, attempts=counter.attempts - 1))
            return account

        account = accepted("start_session", self.all_tables.of(user_id).run(start))
        return self._opened(session, account, identity.email)

    def open_session(self, cookie_hash: str, sealer: SessionSealer) -> OpenedSession:
        session, account = self.tables.run(lambda block: self._use(block, cookie_hash))
        if session is None or account is None:
            raise SignedOut
        email = sealer.open(session.sealed, session.user_id)
        anew = sealer.seal(email, session.user_id)
        if token_version(anew) != token_version(session.sealed):  # the root key was rotated
            self.tables.run(lambda block: _seal_anew(block, cookie_hash, anew))
        return self._opened(session, account, email)

    def _opened(
        self, session: rules.StoredSession, account: AccountRow, email: str
    ) -> OpenedSession:
        caller = Caller(session.cookie_hash, session.user_id, self.now)
        user = TablesUser(self.all_tables, caller, email)
        return OpenedSession(
            id=session.id, user_id=session.user_id, keys=account.keys, user=user, role=account.role
        )

    def _use(
        self, block: Block, cookie_hash: str
    ) -> tuple[rules.StoredSession | None, AccountRow | None]:
        """Return a session with its account and count the session as used; return None for both if it has ended."""
        session = block.get(schema.SESSIONS, cookie_hash)
        account = block.get(schema.ACCOUNTS, session.user_id) if session else None
        if session is None or not session.is_alive(account, self.now()):
            return None, None
        block.put(schema.SESSIONS, session.used(self.now()))
        return session, account

    @atomic
    def is_alive(self, block: Block, cookie_hash: str) -> bool:
        return self._use(block, cookie_hash)[0] is not None

    @atomic
    def ended(
        self, block: Block, sessions: Iterable[tuple[SessionId, UserId]]
    ) -> dict[SessionId, SessionEnd]:
        ends = dict[SessionId, SessionEnd]()
        for session_id, user_id in sessions:
            account = block.get(schema.ACCOUNTS, user_id)
            stored = block.select(schema.SESSIONS, {"id": session_id}, limit=1)
            session = stored[0] if stored else None
            if end := rules.StoredSession.end(session, account, self.now()):
                ends[session_id] = end
        return ends

    @atomic
    def end_session(self, block: Block, cookie_hash: str) -> None:
        block.delete(schema.SESSIONS, cookie_hash)

    # --- sign-ups, throttles

    @atomic
    def sign_up_state(
        self, block: Block, invitation_hash: str | None = None, email: EmailAddress | None = None
    ) -> SignUpState:
        is_first = _is_first(block)
        return SignUpState(
            mode=rules.mode_of(settings_of(block), is_first=is_first),
            is_first_admin=is_first,
            is_invited=_invitation(block, invitation_hash, email, self.now()) is not None,
        )

    @atomic
    def throttle(self, block: Block, throttles: Sequence[Throttle], nonce: UUID) -> int | None:
        if block.get(schema.NONCES, nonce):  # an intercepted call must not be repeated
            raise StoreUnavailable
        now = self.now()
        known = [block.get(schema.THROTTLES, one.bucket) for one in throttles]
        block.put(schema.NONCES, Nonce(nonce, now))
        for one, before in zip(throttles, known, strict=True):
            counter = rules.counted(before, one.bucket, one.seconds, now)
            block.put(schema.THROTTLES, counter)
            if wait := counter.wait(one.at_most, now):
                return wait
        return None

    # --- calls that the app makes without a user

    @atomic
    def model_settings(self, block: Block) -> ModelSettings:
        return models_of(block)

    @atomic
    def root_key_versions(self, block: Block) -> list[int]:
        alive = Range("ends_at", above=self.now())
        sealed = [one.sealed for one in block.select(schema.SESSIONS, {}, alive)]
        wrapped = [key.wrapped for row in block.select(schema.ACCOUNTS) for key in row.keys]
        return sorted({token_version(text) or 0 for text in (*sealed, *wrapped)})

    def sweep(self) -> bool:
        return sweep(self.all_tables, self.now)

    @atomic
    def check(self, block: Block) -> None:
        pass

    def start_upkeep(self, report: Callable[[bool], None]) -> None:
        in_thread("sweep", lambda: keep_sweeping(self.sweep, report))


def _begin_account(
    block: Block, identity: Recognised, invitation_hash: str | None, now: datetime
) -> AccountRow | Refusal:
    """Begin the account of a user who has none. It reads, so it must come before the block's writes."""
    settings = settings_of(block)
    invitation = _invitation(block, invitation_hash, identity.email, now)
    begun = rules.begin_account(
        identity.user_id,
        identity.email,
        settings,
        is_first=_is_first(block),
        invitation=invitation,
    )
    if isinstance(begun, Refusal):
        return begun
    account = part_of(AccountRow, begun)
    block.put(schema.ACCOUNTS, account)
    block.put(schema.BUDGETS, part_of(Budget, settings))
    about: dict[str, object] = {"role": account.role}
    if invitation:
        block.put(schema.INVITATIONS, replace(invitation, used_by=account.id))
        about["invitation"] = str(invitation.id)
    note(block, now, account.id, "account.begin", account.id, **about)
    return account


def _seal_anew(block: Block, cookie_hash: str, sealed: str) -> None:
    """Replace the sealed text of a session unless the session has ended."""
    if session := block.get(schema.SESSIONS, cookie_hash):
        block.put(schema.SESSIONS, replace(session, sealed=sealed))


def _is_first(block: Block) -> bool:
    """Return True if the next account is the first, which becomes admin."""
    return settings_of(block).first_account_is_admin and not has_accounts(block)


def _invitation(
    block: Block, code_hash: str | None, address: str | None, now: datetime
) -> rules.StoredInvitation | None:
    """Return the invitation with that code if it is valid for *address*."""
    if code_hash is None:
        return None
    for row in block.select(schema.INVITATIONS, {"code_hash": code_hash}, limit=1):
        if row.is_good(block.get(schema.ACCOUNTS, row.made_by), address, now):
            return row
    return None
