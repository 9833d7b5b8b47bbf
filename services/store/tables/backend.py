"""An implementation of `Backend` over tables: accounts, credentials, app sessions, steps, and throttles."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from uuid import UUID, uuid4

from services.crypto import sha, token_version
from services.daemon_threads import in_thread
from services.domain import SessionId, UserId
from services.domain.accounts import (
    Account,
    CredentialsAction,
    Exemption,
    Expiring,
    Failure,
    NoticeRow,
    OpenInvitation,
    ProofScope,
    SessionEnd,
)
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.errors import SignedOut, StoreUnavailable
from services.rules import ADDRESS_TAKEN, STALE, Refusal, part_of
from services.rules import accounts as rules
from services.rules.budget import Budget
from services.store.backend import (
    Attempt,
    CountedAttempt,
    NewAccount,
    NewAddress,
    NewCookie,
    NewNotice,
    NewSession,
    NewStep,
    OpenedSession,
    PendingSignUp,
    SessionSealer,
    SignInUser,
    SignUpState,
    StoredCredentials,
    StoredDevice,
    Throttle,
    WrappedKey,
)
from services.store.rows import FirstPage
from services.store.tables import schema
from services.store.tables.access import (
    Caller,
    SessionTables,
    claiming,
    deployment_of,
    lacks_factor,
    models_of,
    note,
    note_failure,
    put_notice,
    put_ways_in,
    requires_factor,
    root_key_versions,
    settings_of,
)
from services.store.tables.administration import (
    ENDED_AT_ONCE,
    TablesAdministration,
    admins_of,
    has_accounts,
    sessions_of,
)
from services.store.tables.blocks import accepted, atomic, delete_all, found, run_until_answered
from services.store.tables.polls import NotedStore, PolledRows
from services.store.tables.protocol import AllTables, Block, Range, Tables
from services.store.tables.schema import AccountRow, CredentialsRow, Nonce
from services.store.tables.upkeep import keep_sweeping, sweep

_SIGN_UP_LIFE = timedelta(days=8)
_DEVICES = 300  # maximum number of devices that are listed
# maximum number of sessions that one block (transaction) reads
_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class TablesSignInUser:
    """Implements `SignInUser` for a store over tables."""

    user_id: UserId
    email: EmailAddress = field(repr=False)


@dataclass(frozen=True, slots=True)
class TablesSignIn:
    """Implements `SignIn` for a store without an auth server. It accepts every user, because the app has checked the password."""

    def confirms_addresses(self) -> bool:
        return False

    def sign_up(self, email: EmailAddress, password: str) -> TablesSignInUser:
        return TablesSignInUser(UserId(uuid4()), email)

    def resume(self, email: EmailAddress, password: str) -> TablesSignInUser:
        return self.sign_up(email, password)

    def sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> TablesSignInUser:
        return TablesSignInUser(user_id, email)

    def end(self, user: SignInUser) -> None: ...


@dataclass(frozen=True, slots=True)
class TablesUser:
    """Implements `UserBackend` for one app session."""

    all_tables: NotedStore
    caller: Caller

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
            settings,
            budget,
            account,
            user_id=account.id,
            spent_today_micro=budget.day_spent,
            spent_this_month_micro=budget.month_spent,
            tokens_today=budget.day_tokens,
            expiring=self._expiring(block, settings),
            deployment_share=deployment_of(block).opened(now).share,
            notices=self._notices(block),
        )

    def _notices(self, block: Block) -> tuple[NoticeRow, ...]:
        session, now = self.caller.session(block), self.caller.now()
        shown = [one for one in block.select(schema.NOTICES) if one.is_shown(session, now)]
        return tuple(part_of(NoticeRow, one) for one in rules.StoredNotice.newest_first(shown))

    @atomic
    def dismiss_notices(self, block: Block, notices: Collection[UUID]) -> None:
        self.caller.account(block)
        session, now = self.caller.session(block), self.caller.now()
        known = found(block, schema.NOTICES, notices)
        delete_all(block, schema.NOTICES, [one for one in known if one.is_shown(session, now)])

    def _expiring(self, block: Block, settings: rules.Settings) -> Expiring | None:
        last_use = settings.unused_since(self.caller.now() + rules.WARNING)
        if last_use is None:
            return None
        rows = block.select(
            schema.CONVERSATIONS, {"destroy_at": None}, Range("updated_at", up_to=last_use)
        )
        ends = [end for row in rows if (end := settings.expires_at(row.updated_at))]
        return Expiring(conversations=len(ends), from_time=min(ends)) if ends else None

    def rows(self, most_bytes: int | None = None, first: FirstPage | None = None) -> PolledRows:
        user_id, now = self.caller.user_id, self.caller.now
        return PolledRows(self.all_tables, user_id, self.tables, now, most_bytes)

    def first_page(self) -> None:
        return None

    def change_credentials(
        self,
        new: StoredCredentials,
        seen_generation: int,
        *,
        action: CredentialsAction,
        ends_others: bool,
        renamed: Mapping[str, str] | None = None,
        ways_in: Sequence[str] | None = None,
    ) -> bool:
        renamed, had_factor = renamed or {}, list[rules.StoredSession]()

        def change(block: Block) -> bool | Refusal | None:
            nonlocal had_factor
            user_id = self.caller.account(block).id
            stored = block.get(schema.CREDENTIALS, user_id)
            if action not in rules.WITHOUT_PROOF:
                is_part = rules.takes_proof_in_part(action, stored, ends_others=ends_others)
                self.caller.require_recent(block, is_part=is_part)
            rules.check_change(action, seen_generation, new.generation, ends_others=ends_others)
            rules.check_ways_in(action, has_lookups=ways_in is not None, renames=bool(renamed))
            session = self.caller.session(block)
            own = stored if new.id == user_id else None
            if refusal := rules.change_refusal(action, own, new, seen_generation):
                return refusal
            is_removed = own is not None and own.wants_factor and not new.wants_factor
            if is_removed and requires_factor(block, self.caller.wants_proofs):
                return rules.FACTOR_REQUIRED
            known = found(block, schema.LOOKUPS, [*renamed, *renamed.values()])
            ended = sessions_of(block, user_id, self.caller.session_id) if ends_others else []
            had_factor = self._with_factor(block, ends_others=ends_others) if is_removed else []
            named = found(block, schema.LOOKUPS, ways_in or ())
            if refusal := rules.ways_in_refusal(named, user_id, action):
                return refusal
            if len(ended) == ENDED_AT_ONCE:
                # more may be left, so the change waits for a later block
                delete_all(block, schema.SESSIONS, ended)
                return None
            if ways_in is not None:
                put_ways_in(block, user_id, ways_in, named)
            block.put(schema.CREDENTIALS, part_of(CredentialsRow, new))
            _rename_lookups(block, user_id, known, renamed)
            if action is CredentialsAction.FACTOR_ADDED and session:
                # the user gave the new factor in this session, by entering the code that confirmed it
                block.put(schema.SESSIONS, replace(session, has_factor=True))
            _forget_factor(block, had_factor)
            if action is not CredentialsAction.RESEAL:
                note(block, self.caller.now(), user_id, action, user_id, session)
            delete_all(block, schema.SESSIONS, ended)
            return True

        answer = run_until_answered(self.all_tables.of(self.caller.user_id), change)
        if answer in (STALE, rules.FACTOR_USED):
            return False
        is_changed = accepted("change_credentials", answer)
        if is_changed and len(had_factor) == ENDED_AT_ONCE:
            self._forget_factors()
        return is_changed

    def change_address(self, new: NewAddress) -> bool:
        user_id, credentials = self.caller.user_id, new.credentials

        def change(block: Block) -> bool | Refusal | None:
            now, account = self.caller.now(), self.caller.account(block)
            self.caller.require_recent(block)
            stored, session = block.get(schema.CREDENTIALS, user_id), self.caller.session(block)
            others = [one for one in claiming(block, new.claims, now) if one.id != user_id]
            known = block.select(schema.LOOKUPS, {"user_id": user_id})
            named = {one.lookup: one for one in found(block, schema.LOOKUPS, new.former)}
            ended = sessions_of(block, user_id, self.caller.session_id) if new.is_restored else []
            taken = found(block, schema.LOOKUPS, new.ways_in)
            seen = credentials.generation - 1, credentials.uses
            if credentials.id != user_id or stored is None:
                return False
            if (stored.generation, stored.uses) != seen:
                return False
            if any(one.is_good(now) and one.user_id != user_id for one in named.values()):
                # another user's look-up value, written by an attacker with access to the store
                return False
            if not new.is_restored:
                rules.check_flag(None, stored, credentials)
            if any(one.user_id for one in others):
                return ADDRESS_TAKEN
            if refusal := rules.ways_in_refusal(taken, user_id):
                return refusal
            if len(ended) == ENDED_AT_ONCE:
                # more may be left, so the change waits for a later block
                delete_all(block, schema.SESSIONS, ended)
                return None
            put_ways_in(block, user_id, new.ways_in, taken)
            delete_all(block, schema.CREDENTIALS, others)
            gone = [one for one in known if one.expires_at and one.lookup not in new.former]
            delete_all(block, schema.LOOKUPS, gone)
            for lookup in new.former:
                if lookup not in named or not named[lookup].is_good(now):
                    ends = now + rules.FORMER_LIFE
                    row = rules.Lookup(lookup=lookup, user_id=user_id, expires_at=ends)
                    block.put(schema.LOOKUPS, row)
            block.put(schema.CREDENTIALS, part_of(CredentialsRow, credentials))
            block.put(schema.ACCOUNTS, replace(account, email=new.address))
            if new.is_restored and session and not credentials.wants_factor:
                # the restored sign-in methods have no second factor, so a factor that was given before the restore no
                # longer counts
                _forget_factor(block, [session])
            delete_all(block, schema.SESSIONS, ended)
            action = "address.restore" if new.is_restored else "address.change"
            note(block, now, user_id, action, user_id, session)
            return True

        answer = run_until_answered(self.all_tables.of(user_id), change)
        return accepted("change_address", answer)

    def _with_factor(self, block: Block, *, ends_others: bool) -> list[rules.StoredSession]:
        """Return the user's sessions in which a second factor was given, at most as many as one block (transaction) may change.

        *ends_others*: return at most the caller's session, because all other sessions end.
        """
        where = {"id": self.caller.session_id} if ends_others else {"user_id": self.caller.user_id}
        return [one for one in block.select(schema.SESSIONS, where) if one.has_factor][
            :ENDED_AT_ONCE
        ]

    def _forget_factors(self) -> None:
        """Clear `has_factor` in all sessions of the user, in as many blocks as needed."""

        def forget(block: Block) -> bool:
            had_factor = self._with_factor(block, ends_others=False)
            _forget_factor(block, had_factor)
            return bool(had_factor)

        while self.all_tables.of(self.caller.user_id).run(forget):
            pass

    @atomic
    def put_user_key(self, block: Block, key: WrappedKey, replaces: str) -> None:
        account, session = self.caller.account(block), self.caller.session(block)
        # do not replace a key that another process has stored since the app read the keys
        if WrappedKey(key.version, replaces) not in account.keys:
            return
        keys = tuple(key if one.version == key.version else one for one in account.keys)
        block.put(schema.ACCOUNTS, replace(account, keys=keys))
        _note_key(block, self.caller.now(), account.id, key, session)

    @atomic
    def devices(self, block: Block) -> list[StoredDevice]:
        account, now = self.caller.account(block), self.caller.now()
        every = block.select(schema.SESSIONS, {"user_id": account.id})
        stored = block.get(schema.CREDENTIALS, account.id)
        sessions = [one for one in every if one.ends_at > now]
        sessions.sort(key=lambda one: (one.seen_at or one.ends_at, one.id), reverse=True)
        return [
            part_of(
                StoredDevice,
                one,
                session=one.id,
                is_this_one=one.id == self.caller.session_id,
                is_proven=one.is_proven(now, stored),
                is_proven_in_part=one.is_proven(now, stored, is_part=True),
            )
            for one in sessions[:_DEVICES]
        ]

    def prove(
        self,
        generation: int,
        returned: Sequence[str],
        cookie: NewCookie,
        *,
        has_factor: bool = False,
        used: StoredCredentials | None = None,
        used_by: CredentialsAction = CredentialsAction.FACTOR_USED,
        scope: ProofScope = ProofScope.FULL,
    ) -> bool:
        user_id = self.caller.user_id
        if used and used.id != user_id:
            raise ValueError("credentials of another user")
        sealed = cookie.sealer.seal("", user_id)

        def prove(block: Block) -> bool | Refusal:
            account, now = self.caller.account(block), self.caller.now()
            rules.check_proof(scope)
            stored, session = block.get(schema.CREDENTIALS, account.id), self.caller.session(block)
            if session is None or session.cookie_hash != cookie.replaces:
                raise SignedOut
            counters = found(block, schema.THROTTLES, returned)
            refusal = rules.factor_refusal(
                stored,
                generation,
                used,
                has_factor=has_factor,
                is_required=False,  # a required factor was given when the session began
                used_by=used_by,
            )
            if refusal:
                return refusal
            block.delete(schema.SESSIONS, session.cookie_hash)
            proven = session.proven(now, stored, scope, has_factor=has_factor)
            moved = replace(proven, cookie_hash=cookie.cookie_hash, sealed=sealed)
            block.put(schema.SESSIONS, moved)
            _put_used(block, now, generation, used, used_by, session)
            _return_attempts(block, counters)
            note(block, now, account.id, "session.prove", account.id, session)
            return True

        try:
            answer = self.tables.run(prove)
        except StoreUnavailable:  # the proof may be stored, with only the response lost
            if not self._has(cookie):
                raise
            return True
        return answer != STALE and accepted("prove", answer)

    @atomic
    def _has(self, block: Block, cookie: NewCookie) -> bool:
        session = self.caller.session(block)
        return session is not None and session.cookie_hash == cookie.cookie_hash

    @atomic
    def stop_turns(self, block: Block, session_id: SessionId | None) -> int:
        self.caller.account(block)
        self.caller.require_recent(block)
        return 0  # only one app process uses the store, and it stops its turns itself

    def end_device(self, session_id: SessionId) -> int:
        return self._end_sessions(lambda one: one.id == session_id)

    def end_other_devices(self) -> int:
        return self._end_sessions(lambda one: one.id != self.caller.session_id)

    def _end_sessions(self, is_meant: Callable[[rules.StoredSession], bool]) -> int:
        """End the user's sessions for which *is_meant* returns True, in as many blocks as needed; return their number."""

        def end(block: Block, *, is_first: bool) -> int:
            account, session = self.caller.account(block), self.caller.session(block)
            if is_first:
                self.caller.require_recent(block)
            every = block.select(schema.SESSIONS, {"user_id": account.id})
            meant = [one for one in every if is_meant(one)]
            if is_first:
                now, user_id = self.caller.now(), account.id
                # a session that ends itself is not named
                by = None if session in meant else session
                note(block, now, user_id, "session.revoke", user_id, by, ended=len(meant))
            delete_all(block, schema.SESSIONS, meant[:ENDED_AT_ONCE])
            return len(meant)

        tables = self.all_tables.of(self.caller.user_id)
        ended = left = tables.run(lambda block: end(block, is_first=True))
        while left > ENDED_AT_ONCE:
            left = tables.run(lambda block: end(block, is_first=False))
        return ended


@dataclass(frozen=True)
class TablesBackend:
    """Implements `Backend` over tables. Any thread may call any member."""

    all_tables: AllTables
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    wants_proofs: bool = True  # false: the deployment has no sign-in

    @cached_property
    def noted(self) -> NotedStore:
        return NotedStore(self.all_tables)

    @property
    def tables(self) -> Tables:
        return self.noted.of(None)

    @property
    def sign_in(self) -> TablesSignIn:
        return TablesSignIn()

    # --- sessions

    def start_session(
        self, user: SignInUser, new: NewSession, sealer: SessionSealer
    ) -> OpenedSession:
        if not isinstance(user, TablesSignInUser):
            raise TypeError("a user of another store")
        user_id, now = user.user_id, self.now()
        if new.used and new.used.id != user_id:
            raise ValueError("credentials of another user")
        expires_at = now + timedelta(seconds=new.lifetime_seconds)
        session = rules.StoredSession(
            cookie_hash=new.cookie_hash,
            id=new.id,
            user_id=user_id,
            sealed=sealer.seal("", user_id),
            idle_seconds=new.idle_seconds,
            expires_at=expires_at,
            ends_at=expires_at,
            device=new.device,
            created_at=now,
            proved_at=now,
            scope=new.scope,
            has_factor=new.has_factor,
        ).used(now)
        rules.check_given(
            new.account.credentials if new.account else new.used, has_factor=new.has_factor
        )

        def start(block: Block) -> tuple[AccountRow, StoredCredentials] | Refusal:
            account = block.get(schema.ACCOUNTS, user_id)
            credentials = block.get(schema.CREDENTIALS, user_id)
            before = block.get(schema.SESSIONS, new.cookie_before) if new.cookie_before else None
            returned = found(block, schema.THROTTLES, new.returned)
            is_required = requires_factor(block, self.wants_proofs)
            if account is None:
                lacks_factor = is_required and not new.has_factor
                begun = _begin_account(block, user, new, now, lacks_factor=lacks_factor)
                if isinstance(begun, Refusal):
                    return begun
                account, credentials = begun
            elif new.account or credentials is None:
                return STALE
            elif refusal := rules.factor_refusal(
                credentials,
                new.generation,
                new.used,
                has_factor=new.has_factor,
                is_required=is_required,
                used_by=new.used_by,
            ):
                return refusal
            if account.suspended_at:
                return Refusal(reason="signed_out")
            _put_used(block, now, new.generation, new.used, new.used_by, session)
            credentials = new.used or credentials
            follows = before.id if before and before.user_id == user_id else new.follows
            block.put(schema.SESSIONS, replace(session, follows=follows))
            _return_attempts(block, returned)
            return account, credentials

        started = accepted("start_session", self.noted.of(user_id).run(start))
        return self._opened(session, *started)

    def open_session(self, cookie_hash: str, sealer: SessionSealer) -> OpenedSession:
        session, account, credentials = self.tables.run(lambda block: self._use(block, cookie_hash))
        if session is None or account is None:
            raise SignedOut
        text = sealer.open(session.sealed, session.user_id)
        anew = sealer.seal(text, session.user_id)
        if token_version(anew) != token_version(session.sealed):  # the root key was rotated
            self.tables.run(lambda block: _seal_anew(block, cookie_hash, anew))
        return self._opened(session, account, credentials)

    def _opened(
        self,
        session: rules.StoredSession,
        account: AccountRow,
        credentials: StoredCredentials | None,
    ) -> OpenedSession:
        caller = Caller(session.id, session.user_id, self.now, self.wants_proofs)
        return OpenedSession(
            id=session.id,
            user_id=session.user_id,
            credentials=credentials,
            keys=account.keys,
            user=TablesUser(self.noted, caller),
            role=account.role,
        )

    def _use(
        self, block: Block, cookie_hash: str
    ) -> tuple[rules.StoredSession | None, AccountRow | None, StoredCredentials | None]:
        """Store the time at which a session is used; return the session, and its user's account and credentials.

        All three are None if the session has ended.
        """
        session = block.get(schema.SESSIONS, cookie_hash)
        account = block.get(schema.ACCOUNTS, session.user_id) if session else None
        credentials = block.get(schema.CREDENTIALS, session.user_id) if session else None
        if session is None:
            return None, None, None
        is_refused = lacks_factor(block, session, self.wants_proofs)
        if not session.is_alive(account, self.now(), is_refused=is_refused):
            return None, None, None
        block.put(schema.SESSIONS, session.used(self.now()))
        return session, account, credentials

    @atomic
    def is_alive(self, block: Block, cookie_hash: str) -> bool:
        return self._use(block, cookie_hash)[0] is not None

    def ended(self, sessions: Iterable[tuple[SessionId, UserId]]) -> dict[SessionId, SessionEnd]:
        rest, ends = list(sessions), dict[SessionId, SessionEnd]()
        while rest:
            some, rest = rest[:_SESSIONS], rest[_SESSIONS:]
            ends |= self._ended(some)
        return ends

    @atomic
    def _ended(
        self, block: Block, sessions: Sequence[tuple[SessionId, UserId]]
    ) -> dict[SessionId, SessionEnd]:
        ends, session_end = dict[SessionId, SessionEnd](), rules.StoredSession.end
        users = {user_id for _, user_id in sessions}
        accounts = {one.id: one for one in found(block, schema.ACCOUNTS, users)}
        for session_id, user_id in sessions:
            account = accounts.get(user_id)
            stored = block.select(schema.SESSIONS, {"id": session_id}, limit=1)
            session = stored[0] if stored else None
            is_refused = session is not None and lacks_factor(block, session, self.wants_proofs)
            if end := session_end(session, account, self.now(), is_refused=is_refused):
                ends[session_id] = end
        return ends

    @atomic
    def end_session(self, block: Block, cookie_hash: str) -> None:
        block.delete(schema.SESSIONS, cookie_hash)

    # --- attempts, sign-ups, credentials

    @atomic
    def sign_up_state(self, block: Block) -> SignUpState:
        has_admin = any(account.is_admin for account in admins_of(block))
        return replace(_sign_up_state(block, self.wants_proofs), has_admin=has_admin)

    @atomic
    def count_attempt(self, block: Block, attempt: Attempt) -> CountedAttempt | Refusal:
        # the call was repeated, perhaps by an attacker who intercepted it
        if block.get(schema.NONCES, attempt.nonce):
            raise StoreUnavailable
        now, throttles = self.now(), attempt.throttles
        stored = _credentials_of(block, attempt.lookups, now)
        account = block.get(schema.ACCOUNTS, stored.user_id) if stored and stored.user_id else None
        is_known = stored is not None and stored.user_id in {throttles.device_user} - {None}
        invitation = _invitation(block, attempt.invitation, attempt.invited, now)
        state = replace(_sign_up_state(block, self.wants_proofs), is_invited=invitation is not None)
        counting = throttles.device if is_known else throttles.strangers
        refusal = _count(block, counting, now)
        block.put(schema.NONCES, Nonce(attempt.nonce, now))
        return refusal or CountedAttempt(
            credentials=stored,
            keys=account.keys if account else (),
            is_known=is_known,
            is_suspended=account is not None and account.suspended_at is not None,
            sign_ups=state,
        )

    @atomic
    def put_sign_up(self, block: Block, new: PendingSignUp) -> bool:
        credentials, rows = new.credentials, claiming(block, new.lookups, self.now())
        stored = rows[0] if rows else None
        if credentials.generation == 1:
            is_seen = stored is None
        else:
            seen = credentials.id, None, credentials.generation - 1
            is_seen = stored is not None and (stored.id, stored.user_id, stored.generation) == seen
        if is_seen:
            ends = self.now() + _SIGN_UP_LIFE
            row = part_of(CredentialsRow, credentials, expires_at=ends)
            # delete the other rows: during a rotation of root keys, two sign-ups of one address may be pending
            delete_all(block, schema.CREDENTIALS, rows[1:])
            block.put(schema.CREDENTIALS, row)
        return is_seen

    # --- steps

    @atomic
    def count_throttles(self, block: Block, throttles: Sequence[Throttle]) -> Refusal | None:
        return _count(block, throttles, self.now())

    @atomic
    def open_invitation(
        self, block: Block, code: str, throttles: Sequence[Throttle]
    ) -> OpenInvitation | Refusal | None:
        now, opened = self.now(), None
        for row in block.select(schema.INVITATIONS, {"code_hash": sha(code)}, limit=1):
            maker = block.get(schema.ACCOUNTS, row.made_by)
            if maker and row.state(maker, now) == "open":
                opened = OpenInvitation(email=row.email, invited_by=maker.email or "")
        return _count(block, throttles, now) or opened

    @atomic
    def begin_step(self, block: Block, new: NewStep) -> None:
        of_kind = block.select(schema.STEPS, {"kind_tag": new.kind_tag})
        others = [one for one in of_kind if one.key != new.key]
        expires_at = self.now() + rules.STEP_LIFE
        delete_all(block, schema.STEPS, rules.StoredStep.surplus(others))
        block.put(schema.STEPS, part_of(rules.StoredStep, new, expires_at=expires_at))

    @atomic
    def try_step(self, block: Block, key: str) -> str | None:
        step = _open_step(block, key, self.now())
        if step is None:
            return None
        tried = step.tried()
        if tried is None:
            block.delete(schema.STEPS, key)
            return None
        block.put(schema.STEPS, tried)
        return tried.sealed

    @atomic
    def end_step(self, block: Block, key: str) -> str | None:
        step = _open_step(block, key, self.now())
        if step is None:
            return None
        block.delete(schema.STEPS, key)
        return step.sealed

    # --- calls without a signed-in user

    def add_notice(self, user_id: UserId, new: NewNotice, throttles: Sequence[Throttle]) -> None:
        def add(block: Block) -> Refusal | None:
            now, account = self.now(), block.get(schema.ACCOUNTS, user_id)
            of_kind = block.select(schema.NOTICES, {"kind": new.kind})
            refusal = _count(block, throttles, now)
            if account and not account.deleted_at:
                put_notice(block, now, new, of_kind)
            return refusal

        accepted("add_notice", self.noted.of(user_id).run(add))

    @atomic
    def note_failure(self, block: Block, user_id: UserId, failure: Failure | Exemption) -> None:
        account = block.get(schema.ACCOUNTS, user_id)
        if failure not in {*Failure, *Exemption}:
            raise ValueError("no failure")
        note_failure(block, self.now(), account, failure)

    @atomic
    def model_settings(self, block: Block) -> ModelSettings:
        return models_of(block)

    @atomic
    def root_key_versions(self, block: Block) -> list[int]:
        return root_key_versions(block, self.now())

    def sweep(self) -> bool:
        changes = self.noted.changes
        if changes.is_blocked:
            changes.is_blocked = False
            # A sweep that finds nothing to do only reads, and reads succeed on a full disk. This write fails until the
            # store can write again, so the outage is reported until then. The row is new, because SQLite does not write
            # an unchanged row.
            self.tables.run(lambda block: block.put(schema.NONCES, Nonce(uuid4(), self.now())))
        return sweep(self.noted, self.now)

    def check(self) -> list[int]:
        return self.root_key_versions()

    def start_upkeep(self, report: Callable[[str], None]) -> None:
        in_thread("sweep", lambda: keep_sweeping(self.sweep, report))


def _count(block: Block, throttles: Sequence[Throttle], now: datetime) -> Refusal | None:
    """Count an attempt in each of *throttles*; at the first that exceeds its limit, stop and return a refusal.

    Call this before the block's first write: a block may not read after it has written.
    """
    known = [block.get(schema.THROTTLES, one.bucket) for one in throttles]
    for one, before in zip(throttles, known, strict=True):
        counter = rules.counted(before, one.bucket, one.seconds, now)
        block.put(schema.THROTTLES, counter)
        if wait := counter.wait(one.at_most, now):
            return Refusal(reason="too_many_attempts", wait_seconds=wait)
    return None


def _return_attempts(block: Block, counters: Iterable[rules.Counter]) -> None:
    """Subtract one attempt from each of *counters*, because the attempt succeeded."""
    for counter in counters:
        if counter.attempts:
            block.put(schema.THROTTLES, replace(counter, attempts=counter.attempts - 1))


def _rename_lookups(
    block: Block, user_id: UserId, known: Iterable[rules.Lookup], renamed: Mapping[str, str]
) -> None:
    """Give the user's look-ups in *known* their new values from *renamed*; delete a look-up whose new value is taken."""
    taken = {one.lookup for one in known}
    for one in known:
        if one.user_id == user_id and (lookup := renamed.get(one.lookup)):
            if lookup not in taken:
                block.put(schema.LOOKUPS, replace(one, lookup=lookup))
                taken.add(lookup)
            block.delete(schema.LOOKUPS, one.lookup)


def _forget_factor(block: Block, sessions: Iterable[rules.StoredSession]) -> None:
    """Mark *sessions* as started without a second factor, because their account no longer has one."""
    for one in sessions:
        block.put(schema.SESSIONS, replace(one, has_factor=False))


def _open_step(block: Block, key: str, now: datetime) -> rules.StoredStep | None:
    step = block.get(schema.STEPS, key)
    return step if step and step.is_open(now) else None


def _begin_account(
    block: Block, user: TablesSignInUser, new: NewSession, now: datetime, *, lacks_factor: bool
) -> tuple[AccountRow, StoredCredentials] | Refusal:
    """Create the account of a new user. Call this before the block's first write: a block may not read after it has written."""
    pending = _pending(block, new.account, new.generation)
    if new.account is None or pending is None:
        return STALE
    same = block.select(schema.CREDENTIALS, {"lookup": new.account.credentials.lookup})
    if any(row.user_id for row in same):
        return STALE
    settings, is_first = settings_of(block), _is_first(block)
    invitation = _invitation(block, new.account.invitation, user.email, now)
    named = found(block, schema.LOOKUPS, new.account.ways_in)
    begun = rules.begin_account(
        user.user_id,
        user.email,
        settings,
        is_first=is_first,
        invitation=invitation,
        lacks_factor=lacks_factor,
        taken=rules.ways_in_refusal(named, user.user_id),
    )
    if isinstance(begun, Refusal):
        return begun
    put_ways_in(block, user.user_id, new.account.ways_in, named)
    key, credentials = new.account.key, part_of(CredentialsRow, new.account.credentials)
    account = part_of(AccountRow, begun, keys=(key,))
    delete_all(block, schema.CREDENTIALS, [*same, pending])
    block.put(schema.CREDENTIALS, credentials)
    block.put(schema.ACCOUNTS, account)
    block.put(schema.BUDGETS, part_of(Budget, settings))
    about: dict[str, object] = {"role": account.role}
    if invitation:
        block.put(schema.INVITATIONS, replace(invitation, used_by=account.id, used_at=now))
        about["invitation"] = str(invitation.id)
    note(block, now, account.id, "account.begin", account.id, **about)
    _note_key(block, now, account.id, key)
    return account, credentials


def _pending(block: Block, new: NewAccount | None, generation: int) -> CredentialsRow | None:
    """Return the pending sign-up that becomes a new account, if its generation is still *generation*."""
    stored = block.get(schema.CREDENTIALS, new.sign_up) if new else None
    is_seen = stored and stored.user_id is None and stored.generation == generation
    return stored if is_seen else None


def _credentials_of(
    block: Block, lookups: Iterable[str], now: datetime
) -> StoredCredentials | None:
    """Return the credentials found by any of the look-up values; a user's are preferred to a pending sign-up's."""
    rows = claiming(block, lookups, now)
    return part_of(StoredCredentials, rows[0]) if rows else None


def _note_key(
    block: Block,
    now: datetime,
    user_id: UserId,
    key: WrappedKey,
    session: rules.StoredSession | None = None,
) -> None:
    note(block, now, user_id, "key.put", user_id, session, version=key.version, mode="server")


def _put_used(
    block: Block,
    now: datetime,
    seen_generation: int,
    used: StoredCredentials | None,
    used_by: CredentialsAction,
    session: rules.StoredSession,
) -> None:
    """Store *used*, the credentials after a factor or passkey was used or a factor enrolled; None: do nothing."""
    if used:
        block.put(schema.CREDENTIALS, part_of(CredentialsRow, used))
        user_id = UserId(used.id)
        action = rules.use_of(used, seen_generation, used_by)
        note(block, now, user_id, action, user_id, session)


def _sign_up_state(block: Block, wants_proofs: bool) -> SignUpState:
    is_first, settings = _is_first(block), settings_of(block)
    return SignUpState(
        mode=rules.mode_of(settings, is_first=is_first),
        is_first_admin=is_first,
        confirms_by_code=settings.confirms_by_code,
        requires_factor=wants_proofs and settings.requires_factor,
    )


def _seal_anew(block: Block, cookie_hash: str, sealed: str) -> None:
    """Replace the sealed text of a session with *sealed*, unless the session has ended."""
    if session := block.get(schema.SESSIONS, cookie_hash):
        block.put(schema.SESSIONS, replace(session, sealed=sealed))


def _is_first(block: Block) -> bool:
    """Return True if the next account is the first, which becomes admin."""
    return settings_of(block).first_account_is_admin and not has_accounts(block)


def _invitation(
    block: Block, code: str | None, address: str | None, now: datetime
) -> rules.StoredInvitation | None:
    """Return the invitation with *code*; None if there is no such invitation, or if it is not valid for *address*."""
    if code is None:
        return None
    for row in block.select(schema.INVITATIONS, {"code_hash": sha(code)}, limit=1):
        if row.is_good(block.get(schema.ACCOUNTS, row.made_by), address, now):
            return row
    return None
